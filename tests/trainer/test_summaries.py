import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tensorflow as tf

from beam_pipelines import files
from tests.beam_pipelines.builders import BUCKET, object_store
from trainer.run_directory import RunDirectory
from trainer.summaries import Summaries


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
