"""Where a model comes from, and what is said when that is gone."""

import json
from pathlib import Path
from typing import Any

import pytest

from beam_pipelines.errors import OptionError
from trainer.data_files import EMBEDDINGS, IMAGES, TrainingData, read_data_set
from trainer.exporting.source import find_source
from trainer.options import resolve
from trainer.run_directory import begin_run
from trainer.saved_run import SavedRun, read_saved_run

LABELS = ("hat", "shirt")


def write_data_set(directory: Path, *, backbone: dict[str, Any] | None = None, content: str = "a") -> TrainingData:
    """Writes a data set without examples; with what made its embeddings, if it has some."""
    directory.mkdir()
    shards = [{"name": "train-00000-of-00001.tfrecord", "examples": 0, "sha256": content}]
    splits = {split: {"examples": 0, "labels": {}, "shards": shards} for split in ("train", "validation")}
    info: dict[str, Any] = {"labels": dict.fromkeys(LABELS, 1), "splits": splits, "fingerprint": content}
    if backbone:
        info |= {"backbone": backbone, "dataset": {"path": str(directory.parent / "pictures"), "fingerprint": "p"}}
        (directory / "backbone.weights.h5").write_bytes(b"")
        (directory / "transform_fn").mkdir()
        (directory / "transform_fn" / "saved_model.pb").write_bytes(b"")
    (directory / "dataset_info.json").write_text(json.dumps(info))
    (directory / "labels.txt").write_text("".join(f"{label}\n" for label in LABELS))
    (directory / "COMPLETED").write_text("")
    return read_data_set(str(directory), [])


BACKBONE = {"name": "mobilenet_v3_small", "width": 576, "weights_sha256": "12ab"}


def begun(directory: Path, data: TrainingData, **given: Any) -> SavedRun:
    options = resolve({"dataset": data.directory, "model": "head" if data.kind == EMBEDDINGS else "small_cnn", **given})
    begin_run(str(directory), options, data)
    return read_saved_run(str(directory))


@pytest.fixture
def head(tmp_path: Path) -> SavedRun:
    write_data_set(tmp_path / "pictures", content="p")
    return begun(tmp_path / "run", write_data_set(tmp_path / "data", backbone=BACKBONE))


def test_pictures(tmp_path: Path) -> None:
    data = write_data_set(tmp_path / "data")
    assert data.kind == IMAGES
    source = find_source(begun(tmp_path / "run", data))
    assert source.to_json() == {
        "path": str(tmp_path / "data"),
        "fingerprint": data.fingerprint,
        "pictures": str(tmp_path / "data"),
    }
    assert source.embeddings is None


def test_pictures_are_not_needed(tmp_path: Path) -> None:
    saved = begun(tmp_path / "run", write_data_set(tmp_path / "data"))
    (tmp_path / "data").rename(tmp_path / "moved")
    assert find_source(saved).to_json() == {
        "path": str(tmp_path / "data"),
        "fingerprint": saved.data_fingerprint,
        "pictures": "",
    }
    assert find_source(saved, dataset=str(tmp_path / "moved")).pictures == str(tmp_path / "moved")


def test_embeddings(head: SavedRun, tmp_path: Path) -> None:
    source = find_source(head)
    assert source.pictures == str(tmp_path / "pictures")
    assert source.embeddings
    assert source.embeddings.backbone == "mobilenet_v3_small"
    assert source.embeddings.weights == str(tmp_path / "data" / "backbone.weights.h5")
    assert source.embeddings.weights_sha256 == "12ab"
    assert source.embeddings.transform == str(tmp_path / "data" / "transform_fn")


def test_embeddings_that_were_moved(head: SavedRun, tmp_path: Path) -> None:
    (tmp_path / "data").rename(tmp_path / "moved")
    with pytest.raises(OptionError, match=f"was trained on {tmp_path}/data, which is not there: say by --dataset"):
        find_source(head)
    assert find_source(head, dataset=str(tmp_path / "moved")).path == str(tmp_path / "moved")
    with pytest.raises(OptionError, match="elsewhere is no data set"):
        find_source(head, dataset=str(tmp_path / "elsewhere"))


def test_embeddings_that_were_made_anew(head: SavedRun, tmp_path: Path) -> None:
    write_data_set(tmp_path / "other", backbone=BACKBONE, content="b")
    with pytest.raises(OptionError, match=r"--dataset .*other is not what --run .*run was trained on"):
        find_source(head, dataset=str(tmp_path / "other"))
    (tmp_path / "data").rename(tmp_path / "old")
    (tmp_path / "other").rename(tmp_path / "data")
    with pytest.raises(OptionError, match=r"data was made anew since --run .*run was trained on it"):
        find_source(head)


@pytest.mark.parametrize("missing", ["backbone.weights.h5", "transform_fn/saved_model.pb"])
def test_embeddings_without_what_made_them(head: SavedRun, tmp_path: Path, missing: str) -> None:
    (tmp_path / "data" / missing).unlink()
    with pytest.raises(OptionError, match=f"{missing} is not there, which made the embeddings: copy the whole"):
        find_source(head)


def test_embeddings_of_other_programs(tmp_path: Path, head: SavedRun) -> None:
    data = read_data_set(str(tmp_path / "data"), [])
    foreign = begun(tmp_path / "foreign", data, dataset="", train_data_paths=("a",), labels_file="labels.txt")
    with pytest.raises(OptionError, match="embeddings of other programs"):
        find_source(foreign)
