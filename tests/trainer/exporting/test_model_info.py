"""What an exported model says of itself."""

import json
from pathlib import Path
from typing import Any

import pytest

from trainer.data_files import IMAGES, OUR_IMAGES, SplitFiles, TrainingData
from trainer.exporting.model_info import EmbeddingInfo, known_metrics, model_info
from trainer.exporting.source import Source
from trainer.options import resolve
from trainer.run_directory import begin_run
from trainer.saved_run import SavedRun, read_saved_run


@pytest.fixture
def saved(tmp_path: Path) -> SavedRun:
    split = SplitFiles(paths=("a",), examples=(3,))
    data = TrainingData(kind=IMAGES, layout=OUR_IMAGES, train=split, validation=split, labels=("hat", "shirt"))
    begin_run(str(tmp_path), resolve({"dataset": "data", "model": "small_cnn"}), data)
    lines = [
        {"step": 5, "loss": 3.0},
        {"step": 5, "val_loss": 2.0, "val_accuracy": 0.5, "val_recall_at_5": 1.0},
        {"step": 9, "val_loss": 1.0, "val_accuracy": None},
    ]
    (tmp_path / "metrics.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines) + '{"step": 9, "val_')
    return read_saved_run(str(tmp_path))


def write_evaluation(run: Path, **given: Any) -> None:
    found = {"step": 5, "split": "validation", "examples": 3, "accuracy": 0.75, "macro_f1": None, "labels": [], **given}
    (run / "evaluation").mkdir()
    (run / "evaluation" / "evaluation.json").write_text(json.dumps(found))


def test_all_of_it(saved: SavedRun) -> None:
    embedding = EmbeddingInfo(backbone="vgg16", weights_sha256="ab", width=512)
    source = Source(path="data", fingerprint="f", pictures="pictures")
    info = model_info(saved, source, embedding, step=5, checkpoint="best", image_size=96, max_image_pixels=1_000)
    versions = info.pop("versions")
    assert set(versions) == {"museum-image-classifier", "keras", "tensorflow"}
    assert info == {
        "format": 1,
        "model": "small_cnn",
        "run": saved.directory.path,
        "step": 5,
        "checkpoint": "best",
        "labels": ["hat", "shirt"],
        "multi_label": False,
        "image_size": 96,
        "max_image_pixels": 1_000,
        "embedding": {"backbone": "vgg16", "weights_sha256": "ab", "width": 512},
        "data": {"path": "data", "fingerprint": "f", "pictures": "pictures"},
        "metrics": {"loss": 2.0, "accuracy": 0.5, "recall_at_5": 1.0},
    }


def test_metrics_are_those_of_the_step(saved: SavedRun) -> None:
    assert known_metrics(saved, 9) == {"loss": 1.0}
    assert known_metrics(saved, 7) == {}


def test_the_evaluation_of_the_step_knows_more(saved: SavedRun, tmp_path: Path) -> None:
    write_evaluation(tmp_path)
    assert known_metrics(saved, 5) == {"examples": 3, "accuracy": 0.75}
    assert known_metrics(saved, 9) == {"loss": 1.0}


@pytest.mark.parametrize("given", [{"split": "train"}, {"step": 6}])
def test_another_evaluation_says_nothing(saved: SavedRun, tmp_path: Path, given: dict[str, Any]) -> None:
    write_evaluation(tmp_path, **given)
    assert known_metrics(saved, 5)["loss"] == 2.0


@pytest.mark.parametrize("content", ["", "[]", "null"])
def test_a_damaged_evaluation_says_nothing(saved: SavedRun, tmp_path: Path, content: str) -> None:
    write_evaluation(tmp_path)
    (tmp_path / "evaluation" / "evaluation.json").write_text(content)
    assert known_metrics(saved, 5)["loss"] == 2.0


def test_a_run_that_noted_nothing(saved: SavedRun, tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").unlink()
    assert known_metrics(saved, 5) == {}
