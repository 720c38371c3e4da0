import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import tensorflow as tf

from beam_pipelines import files
from beam_pipelines.errors import OptionError, RunError
from tests.beam_pipelines.builders import BUCKET, object_store
from trainer.checkpoints import Checkpoints
from trainer.data_files import EMBEDDINGS, OUR_EMBEDDINGS, SplitFiles, TrainingData
from trainer.options import TrainingOptions, resolve
from trainer.run_directory import begin_run
from trainer.saved_run import SavedRun, choose_checkpoint, read_saved_run

DATA = TrainingData(
    kind=EMBEDDINGS,
    layout=OUR_EMBEDDINGS,
    train=SplitFiles(paths=("a",), examples=(3,)),
    validation=SplitFiles(paths=("b",), examples=(2,)),
    labels=("Japan", "Grèce"),
    multi_label=True,
    width=8,
    fingerprint="f",
    directory="data",
)


def options(**given: Any) -> TrainingOptions:
    return resolve({"dataset": "data", "model": "head", **given})


def begun(path: str, **given: Any) -> SavedRun:
    begin_run(path, options(**given), DATA)
    return read_saved_run(path)


def refused(path: object) -> str:
    with pytest.raises(OptionError) as caught:
        read_saved_run(str(path))
    return str(caught.value)


def test_a_run_is_as_it_was_begun(tmp_path: Path) -> None:
    saved = begun(str(tmp_path), hidden_units=(3, 2), early_stopping_patience=4)
    assert saved.options == options(hidden_units=(3, 2), early_stopping_patience=4)
    assert (saved.kind, saved.labels, saved.multi_label, saved.width) == ("embeddings", ("Japan", "Grèce"), True, 8)
    assert (saved.data_fingerprint, saved.directory.path) == ("f", str(tmp_path))
    assert saved.versions.keys() == {"museum-image-classifier", "keras", "tensorflow"}


def test_a_run_on_foreign_records(tmp_path: Path) -> None:
    given = resolve({"model": "head", "train_data_paths": ("a", "b"), "labels_file": "c"})
    begin_run(str(tmp_path), given, DATA)
    assert read_saved_run(str(tmp_path)).options == given


def test_in_an_object_store() -> None:
    with object_store():
        saved = begun(f"{BUCKET}/run")
        save(saved, 3)
        assert choose_checkpoint(saved, "best") == 3


def test_a_directory_without_a_run(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "nothing"):
        assert refused(path) == (
            f"--run {path} is no run, it has no file config.json: give the --output of trainer.task"
        )
    (tmp_path / "file").touch()
    assert refused(tmp_path / "file") == f"--run {tmp_path}/file is a file: give a directory"


@pytest.mark.parametrize(
    "change",
    [
        lambda config: config["data"].pop("labels"),
        lambda config: config["options"].update(another=3),
        lambda config: config["options"].pop("model"),
        lambda config: config.update(data=None),
        lambda config: config.pop("data"),
    ],
)
def test_a_configuration_that_is_something_else(tmp_path: Path, change: Any) -> None:
    saved = begun(str(tmp_path))
    config = files.read_json(saved.directory.config)
    change(config)
    (tmp_path / "config.json").write_text(json.dumps(config))
    message = refused(tmp_path)
    assert message.startswith(f"{tmp_path}/config.json is not what training wrote")
    assert message.endswith(": give another --run")


def test_a_run_of_another_version(tmp_path: Path) -> None:
    saved = begun(str(tmp_path))
    config = files.read_json(saved.directory.config)
    (tmp_path / "config.json").write_text(json.dumps({**config, "format": 99}))
    assert refused(tmp_path).startswith(f"--run {tmp_path} is of another version of this program")


def save(saved: SavedRun, *steps: int, best: int | None = None) -> None:
    checkpoints = Checkpoints(saved.directory.checkpoints)
    for step in steps:
        checkpoints.save(step, {"model/a": tf.Variable(0.0)}, {"best_step": best}, best=best)


def test_checkpoints_by_name_and_by_step(tmp_path: Path) -> None:
    saved = begun(str(tmp_path))
    save(saved, 5, 10, 15, 20, best=5)
    assert [choose_checkpoint(saved, which) for which in ("best", "latest", "15", "5")] == [5, 20, 15, 5]
    with pytest.raises(OptionError) as caught:
        choose_checkpoint(saved, "7")
    assert str(caught.value) == f"--checkpoint 7 is none of {tmp_path}: give best, latest or 5, 10, 15, 20"


def test_a_run_that_knows_no_best_gives_its_newest(tmp_path: Path) -> None:
    saved = begun(str(tmp_path))
    save(saved, 5, 10)
    assert choose_checkpoint(saved, "best") == 10


def test_a_run_without_checkpoints(tmp_path: Path) -> None:
    with pytest.raises(OptionError) as caught:
        choose_checkpoint(begun(str(tmp_path)), "latest")
    assert str(caught.value) == f"--run {tmp_path} has no checkpoint yet: wait for its first epoch to end"


def test_a_newest_checkpoint_that_is_damaged(tmp_path: Path) -> None:
    saved = begun(str(tmp_path))
    save(saved, 5, 10, best=5)
    (tmp_path / "checkpoints" / "ckpt-10.index").write_bytes(b"")
    with pytest.raises(RunError) as caught:
        choose_checkpoint(saved, "best")
    assert str(caught.value) == (
        f"{tmp_path}/checkpoints/ckpt-10 is damaged and cannot tell which is the best: give --checkpoint one of 5, 10"
    )
    assert choose_checkpoint(saved, "5") == 5


def test_runs_are_read_without_tensorflow() -> None:
    code = "import sys, trainer.saved_run; sys.exit('tensorflow' in sys.modules or 'keras' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
