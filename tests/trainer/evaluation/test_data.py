import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from beam_pipelines.errors import OptionError
from beam_pipelines.tfrecords import encode_example, frame
from trainer.data_files import TrainingData, read_training_data
from trainer.evaluation.data import read_evaluation_data
from trainer.evaluation.options import EvaluateOptions
from trainer.options import resolve
from trainer.run_directory import begin_run
from trainer.saved_run import SavedRun, read_saved_run

LABELS = ("Japan", "Rome", "Peru")
BACKBONE = {"name": "resnet50", "width": 4, "weights_sha256": "abc"}


def write_data_set(
    directory: Path,
    *,
    sizes: Mapping[str, int] | None = None,
    labels: Sequence[str] = LABELS,
    backbone: Mapping[str, Any] | None = None,
    multi_label: bool = False,
) -> str:
    """Writes a finished data set of one shard a split, of so many examples."""
    directory.mkdir(parents=True, exist_ok=True)
    splits = {}
    for split, size in (sizes or {"train": 5, "validation": 4}).items():
        name = f"{split}-00000-of-00001.tfrecord"
        (directory / name).write_bytes(frame(b"an example") * size)
        shards = [{"name": name, "examples": size, "sha256": f"hash of {size}"}]
        splits[split] = {"examples": size, "labels": dict.fromkeys(labels, 1), "shards": shards}
    info = {"options": {"multi_label": multi_label}, "labels": dict.fromkeys(labels, 2), "splits": splits}
    (directory / "dataset_info.json").write_text(json.dumps({**info, **({"backbone": backbone} if backbone else {})}))
    (directory / "labels.txt").write_text("".join(f"{label}\n" for label in labels))
    (directory / "COMPLETED").write_text("x\n")
    return str(directory)


def begun(directory: Path, **given: Any) -> SavedRun:
    """Begins a run; returns it as it is read again."""
    options = resolve(given)
    begin_run(str(directory), options, read_training_data(options))
    return read_saved_run(str(directory))


def read(saved: SavedRun, **given: Any) -> TrainingData:
    return read_evaluation_data(EvaluateOptions(run=saved.directory.path, **given), saved)


def refused(saved: SavedRun, **given: Any) -> str:
    with pytest.raises(OptionError) as caught:
        read(saved, **given)
    return str(caught.value)


@pytest.fixture
def data_set(tmp_path: Path) -> str:
    return write_data_set(tmp_path / "data")


@pytest.fixture
def saved(tmp_path: Path, data_set: str) -> SavedRun:
    return begun(tmp_path / "run", dataset=data_set)


@pytest.fixture
def embeddings(tmp_path: Path) -> str:
    return write_data_set(tmp_path / "embeddings", backbone=BACKBONE)


@pytest.fixture
def on_embeddings(tmp_path: Path, embeddings: str) -> SavedRun:
    return begun(tmp_path / "run_on_embeddings", dataset=embeddings, model="head")


def test_by_default_what_the_run_was_trained_on(
    saved: SavedRun, data_set: str, caplog: pytest.LogCaptureFixture
) -> None:
    data = read(saved)
    assert data.validation.paths == (f"{data_set}/validation-00000-of-00001.tfrecord",)
    assert (data.train.total, data.validation.total, data.labels, data.place) == (0, 4, LABELS, data_set)
    data = read(saved, split="train")
    assert (data.train.total, data.validation.total) == (5, 0)
    assert caplog.messages == []


def test_the_other_split_need_not_be_there(saved: SavedRun, data_set: str) -> None:
    Path(data_set, "train-00000-of-00001.tfrecord").unlink()
    assert read(saved).validation.total == 4
    assert refused(saved, split="train").startswith(f"--dataset {data_set} lacks train-00000-of-00001.tfrecord")


def test_a_data_set_that_was_moved(saved: SavedRun, data_set: str, tmp_path: Path) -> None:
    Path(data_set).rename(tmp_path / "moved")
    run = saved.directory.path
    message = f"--run {run} was trained on {data_set}, which is not there: say by --dataset where it is"
    assert refused(saved) == message
    assert read(saved, dataset=str(tmp_path / "moved")).validation.total == 4


def test_a_data_set_that_was_made_anew(
    saved: SavedRun, data_set: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_data_set(Path(data_set), sizes={"train": 5, "validation": 6})
    assert read(saved).validation.total == 6
    run = saved.directory.path
    assert caplog.messages == [f"{data_set} was made anew since {run} was trained: it is not what that was trained on"]
    assert caplog.records[0].levelno == logging.WARNING


def test_another_data_set(saved: SavedRun, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    test_set = write_data_set(tmp_path / "test", sizes={"train": 0, "validation": 9})
    assert read(saved, dataset=test_set).validation.total == 9
    assert caplog.messages == []
    assert refused(saved, dataset=test_set, split="train") == (
        f"{test_set} has no examples of --split train: give another split or data set"
    )


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (("Japan", "Peru", "Rome"), "class 1 is 'Peru' in {} and 'Rome' in the run: give the same classes"),
        (("Japan", "Rome"), "{} has 2 classes and the run has 3: give the same classes"),
        ((*LABELS, "Siam"), "{} has 4 classes and the run has 3: give the same classes"),
    ],
)
def test_other_classes(saved: SavedRun, tmp_path: Path, labels: Sequence[str], message: str) -> None:
    other = write_data_set(tmp_path / "other", labels=labels)
    assert refused(saved, dataset=other) == message.format(other)


def test_data_of_another_kind(saved: SavedRun, on_embeddings: SavedRun, data_set: str, embeddings: str) -> None:
    assert refused(saved, dataset=embeddings) == (
        f"{embeddings} has embeddings, and the run was trained on images: give those"
    )
    assert refused(on_embeddings, dataset=data_set) == (
        f"{data_set} has images, and the run was trained on embeddings: give those"
    )


def test_embeddings_of_another_width(on_embeddings: SavedRun, tmp_path: Path) -> None:
    other = write_data_set(tmp_path / "other", backbone={**BACKBONE, "width": 5})
    assert refused(on_embeddings, dataset=other) == (
        f"embeddings of {other} have 5 numbers, and those of the run 4: make them with the same --backbone"
    )


def test_embeddings_of_other_weights(on_embeddings: SavedRun, embeddings: str, tmp_path: Path) -> None:
    other = write_data_set(
        tmp_path / "other", sizes={"train": 0, "validation": 2}, backbone={**BACKBONE, "weights_sha256": "x"}
    )
    assert refused(on_embeddings, dataset=other).startswith(
        f"embeddings of {other} were made with other weights than those of {embeddings}, which the run was trained on"
    )


def test_embeddings_are_normalised_as_in_training(on_embeddings: SavedRun, embeddings: str, tmp_path: Path) -> None:
    assert read(on_embeddings).transform == f"{embeddings}/transform_fn"
    test_set = write_data_set(tmp_path / "test", sizes={"train": 0, "validation": 2}, backbone=BACKBONE)
    assert read(on_embeddings, dataset=test_set).transform == f"{embeddings}/transform_fn"
    Path(embeddings).rename(tmp_path / "moved")
    assert refused(on_embeddings, dataset=test_set) == (
        f"the run was trained on embeddings normalised by the graph in {embeddings}, which is not there: put that data "
        "set there again"
    )
    moved = str(tmp_path / "moved")
    assert read(on_embeddings, dataset=moved).transform == f"{moved}/transform_fn"


def test_a_run_of_several_labels_takes_examples_of_one(tmp_path: Path, data_set: str, saved: SavedRun) -> None:
    several = write_data_set(tmp_path / "several", multi_label=True)
    of_several = begun(tmp_path / "run_of_several", dataset=several)
    assert read(of_several).multi_label
    assert read(of_several, dataset=data_set).multi_label
    assert refused(saved, dataset=several) == (
        f"examples of {several} may have several labels, and those of the run have one"
    )


def write_foreign(path: Path, examples: int, *, width: int = 4) -> str:
    path.write_bytes(frame(encode_example({"embedding": [0.5] * width, "label": 2, "image_uri": b"u"})) * examples)
    return str(path)


@pytest.fixture
def on_foreign(tmp_path: Path) -> SavedRun:
    (tmp_path / "labels").write_text("Japan\nRome\nPeru\n")
    return begun(
        tmp_path / "run_on_foreign",
        model="head",
        train_data_paths=(write_foreign(tmp_path / "train.rec", 5),),
        eval_data_paths=(write_foreign(tmp_path / "eval.rec", 3),),
        labels_file=str(tmp_path / "labels"),
    )


def test_by_default_the_foreign_records_of_the_run(on_foreign: SavedRun, tmp_path: Path) -> None:
    (tmp_path / "labels").unlink()
    (tmp_path / "train.rec").unlink()
    data = read(on_foreign)
    assert (data.validation.paths, data.validation.total, data.labels) == ((f"{tmp_path}/eval.rec",), 3, LABELS)
    assert (data.train.total, data.transform, data.width, data.kind) == (0, "", 4, "embeddings")
    assert data.place == f"{tmp_path}/eval.rec"
    assert refused(on_foreign, split="train") == f"--train_data_paths {tmp_path}/train.rec: there is no such file"


def test_foreign_records_for_any_run(on_embeddings: SavedRun, embeddings: str, tmp_path: Path) -> None:
    path = write_foreign(tmp_path / "others.rec", 6)
    data = read(on_embeddings, eval_data_paths=(path,))
    assert (data.validation.total, data.labels) == (6, LABELS)
    assert data.transform == f"{embeddings}/transform_fn"
    assert read(on_embeddings, split="train", train_data_paths=(path,)).train.total == 6
    (tmp_path / "labels").write_text("Japan\nSiam\nPeru\n")
    assert refused(on_embeddings, eval_data_paths=(path,), labels_file=str(tmp_path / "labels")) == (
        f"class 1 is 'Siam' in {path} and 'Rome' in the run: give the same classes"
    )
    (tmp_path / "empty.rec").touch()
    message = refused(on_embeddings, eval_data_paths=(str(tmp_path / "empty.rec"),))
    assert message == f"--eval_data_paths {tmp_path}/empty.rec has no examples: give other files"


def test_a_run_without_records_to_validate_on(tmp_path: Path) -> None:
    (tmp_path / "labels").write_text("Japan\nRome\nPeru\n")
    saved = begun(
        tmp_path / "run",
        model="head",
        train_data_paths=(write_foreign(tmp_path / "train.rec", 5),),
        labels_file=str(tmp_path / "labels"),
    )
    run = saved.directory.path
    assert refused(saved) == (f"--run {run} was trained without --eval_data_paths: give --eval_data_paths or --dataset")
    assert read(saved, split="train").train.total == 5
