import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tensorflow as tf

from beam_pipelines import files
from tests.beam_pipelines.builders import BUCKET, object_store
from tests.tensorboard_server import post_json, tensorboard
from trainer.options import resolve
from trainer.run_directory import RunDirectory
from trainer.summaries import Summaries, hyperparameters


def write(summaries: Summaries, *steps: int) -> None:
    for step in steps:
        summaries.write(step, epoch=1, train={"loss": step / 2}, validation={"accuracy": 0.5} if step == 2 else {})


def scalars(directory: Path) -> list[tuple[int, str, float]]:
    """Returns step, name and value of the scalars in the event files of a directory."""
    return [
        (event.step, value.tag, float(tf.make_ndarray(value.tensor)))
        for path in sorted(directory.glob("events.*"))
        for event in events(path)
        for value in event.summary.value
    ]


def events(path: Path) -> Iterator[Any]:
    for record in tf.data.TFRecordDataset(str(path)):
        event = tf.compat.v1.Event()
        event.ParseFromString(record.numpy())
        yield event


def session_groups(plugins: str) -> list[dict[str, Any]]:
    """Returns the rows of two runs in TensorBoard's HPARAMS tab, by name, when it has read all of them."""
    question = {"allowedStatuses": ["STATUS_UNKNOWN", "STATUS_SUCCESS"], "colParams": [], "sliceSize": 9}
    deadline = time.monotonic() + 60
    while True:
        answer = post_json(f"{plugins}/hparams/session_groups", question)
        groups = answer.get("sessionGroups", [])
        if sum("metricValues" in group for group in groups) == 2 and "STATUS_SUCCESS" in str(groups):
            return sorted(groups, key=lambda group: str(group["name"]))
        assert time.monotonic() < deadline, f"TensorBoard does not get there: {answer}"
        time.sleep(0.1)


def test_figures_go_to_the_log_and_to_tensorboard(tmp_path: Path) -> None:
    with Summaries(RunDirectory(str(tmp_path))) as summaries:
        write(summaries, 1, 2)
        lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
        assert lines == [
            {"step": 1, "epoch": 1, "loss": 0.5},
            {"step": 2, "epoch": 1, "loss": 1.0, "val_accuracy": 0.5},
        ]
        assert scalars(tmp_path / "tensorboard" / "train") == [(1, "loss", 0.5), (2, "loss", 1.0)]
        assert scalars(tmp_path / "tensorboard" / "validation") == [(2, "accuracy", 0.5)]


def test_other_workers_write_nothing(tmp_path: Path) -> None:
    with Summaries(RunDirectory(str(tmp_path)), written=False) as summaries:
        write(summaries, 1)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("seconds", [1.0, 20.0])
def test_event_files_are_copied_to_an_object_store(tmp_path: Path, seconds: float) -> None:
    times = iter([0.0, seconds, 2 * seconds, 2 * seconds, 3 * seconds])
    with object_store():
        run = RunDirectory(f"{BUCKET}/run")
        with Summaries(run, clock=lambda: next(times)) as summaries:
            write(summaries, 1, 2)
            assert len(files.list_files(run.tensorboard)) == (2 if seconds == 20.0 else 0)
        (tmp_path / "train").mkdir()
        (name,) = (name for name in files.list_files(run.tensorboard) if name.startswith("train/"))
        (tmp_path / name).write_bytes(files.read_bytes(files.join(run.tensorboard, name)))
        assert scalars(tmp_path / "train") == [(1, "loss", 0.5), (2, "loss", 1.0)]


def test_each_hyperparameter_is_of_one_type_in_all_runs() -> None:
    given: list[dict[str, Any]] = [
        {"dataset": "d"},
        {"dataset": "d", "model": "head", "hidden_units": ()},
        {"dataset": "d", "model": "inception_v3", "unfreeze_at": 5},
        {"train_data_paths": ("a", "b"), "labels_file": "l", "model": "head", "examples": 5},
    ]
    all_values = [hyperparameters(resolve(values)) for values in given]
    for name, value in all_values[0].items():
        kinds = {str if isinstance(values[name], str) else float for values in all_values}
        assert kinds == {str if isinstance(value, str) else float}, name
    assert [values["dataset"] for values in all_values] == ["d", "d", "d", "a,b"]
    assert [values["unfreeze_at"] for values in all_values] == ["never", "never", "5", "never"]
    assert [values["hidden_units"] for values in all_values] == ["none", "none", "none", "512"]


@pytest.mark.slow
def test_tensorboard_shows_a_row_for_each_run(tmp_path: Path) -> None:
    for name, rate in (("finished", 0.5), ("stopped", 0.25)):
        options = resolve({"dataset": "d", "learning_rate": rate})
        run = RunDirectory(str(tmp_path / "runs" / name))
        for step in (0, 2):
            with Summaries(run, step=step, options=options) as summaries:
                write(summaries, step + 2)
                if step and name == "finished":
                    summaries.end_session()
    with tensorboard(tmp_path / "runs") as plugins:
        groups = session_groups(plugins)
        experiment = post_json(f"{plugins}/hparams/experiment", {})
    finished, stopped = groups
    assert finished["name"] == "finished/tensorboard/validation"
    assert [len(group["sessions"]) for group in (finished, stopped)] == [1, 1], "going on makes no second one"
    assert finished["sessions"][0]["status"] == "STATUS_SUCCESS"
    assert stopped["sessions"][0]["status"] == "STATUS_UNKNOWN"
    assert finished["hparams"]["learning_rate"] == 0.5
    assert finished["hparams"]["model"] == "small_cnn"
    (accuracy,) = finished["metricValues"]
    assert accuracy["value"] == 0.5
    assert [metric["name"] for metric in experiment["metricInfos"]] == [{"group": "", "tag": "accuracy"}]
    assert [info["name"] for info in experiment["hparamInfos"] if info["differs"]] == [
        "fine_tune_learning_rate",
        "learning_rate",
    ]
