import dataclasses
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from beam_pipelines import files
from beam_pipelines.errors import OptionError
from tests.beam_pipelines.builders import BUCKET, FakeTime, object_store
from trainer.data_files import IMAGES, OUR_IMAGES, SplitFiles, TrainingData
from trainer.options import TrainingOptions, resolve
from trainer.run_directory import (
    FinishedRun,
    MetricsLog,
    RunDirectory,
    begin_run,
    describe_finished,
    finish_run,
    read_finished,
)

DATA = TrainingData(
    kind=IMAGES,
    layout=OUR_IMAGES,
    train=SplitFiles(paths=("a",), examples=(3,)),
    validation=SplitFiles(paths=("b",), examples=(2,)),
    labels=("Japan", "Grèce"),
    fingerprint="f",
    directory="data",
)


def options(**given: Any) -> TrainingOptions:
    return resolve({"dataset": "data", **given})


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    with object_store():
        yield BUCKET


@pytest.fixture(params=["local", "remote"])
def output(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "local":
        return str(tmp_path / "runs" / "first")
    return f"{request.getfixturevalue('bucket')}{tmp_path}"


def refused(path: str, given: TrainingOptions, data: TrainingData = DATA) -> str:
    before = {name: files.read_bytes(files.join(path, name)) for name in files.list_files(path)}
    with pytest.raises(OptionError) as caught:
        begin_run(path, given, data)
    assert before == {name: files.read_bytes(files.join(path, name)) for name in files.list_files(path)}
    return str(caught.value)


def lines_of(run: RunDirectory) -> list[dict[str, Any]]:
    return [json.loads(line) for line in files.read_lines(run.metrics)]


def test_the_configuration_is_kept_with_the_run(output: str) -> None:
    run = begin_run(output, options(model="head", epochs=3), DATA)
    config = files.read_json(run.config)
    assert config["options"]["model"] == "head"
    assert config["options"]["hidden_units"] == [512]
    assert config["fingerprint"] == options(model="head", epochs=3).fingerprint()
    assert config["data"] == {
        "fingerprint": "f",
        "kind": "images",
        "multi_label": False,
        "width": 0,
        "train_examples": 3,
        "validation_examples": 2,
        "labels": ["Japan", "Grèce"],
    }
    assert set(config["versions"]) == {"museum-image-classifier", "keras", "tensorflow"}
    assert files.read_bytes(run.labels).decode() == "Japan\nGrèce\n"


def test_the_same_run_goes_on_wherever_its_data_lie(output: str) -> None:
    begin_run(output, options(), DATA)
    before = files.read_bytes(RunDirectory(output).config)
    begin_run(output, options(dataset="elsewhere"), dataclasses.replace(DATA, directory="elsewhere"))
    assert files.read_bytes(RunDirectory(output).config) == before


def test_labels_that_a_killed_run_did_not_write_are_written(output: str) -> None:
    run = begin_run(output, options(), DATA)
    files.remove(run.labels)
    begin_run(output, options(), DATA)
    assert files.exists(run.labels)


def test_machines_that_are_not_the_chief_only_look(output: str) -> None:
    begin_run(output, options(), DATA, is_chief=False)
    assert files.list_files(output) == []
    begin_run(output, options(), DATA)
    with pytest.raises(OptionError, match="has a run with --seed 0, not 1"):
        begin_run(output, options(seed=1), DATA, is_chief=False)


def test_the_first_option_that_differs_is_named(output: str) -> None:
    begin_run(output, options(), DATA)
    mend = "give that value to go on with it, or another --output to begin anew"
    assert (
        refused(output, options(seed=1, dropout=0.125)) == f"--output {output} has a run with --seed 0, not 1: {mend}"
    )
    message = refused(output, options(hidden_units=(3, 2)))
    assert message == f"--output {output} has a run with --hidden_units none, not 3,2: {mend}"


def test_never_and_an_epoch_differ(tmp_path: Path) -> None:
    begin_run(str(tmp_path), options(model="resnet50", epochs=1), DATA)
    message = refused(str(tmp_path), options(model="resnet50", epochs=1, unfreeze_at=0))
    assert "has a run with --unfreeze_at never, not 0: give" in message


def test_a_run_on_another_data_set(output: str) -> None:
    begin_run(output, options(), DATA)
    assert refused(output, options(dataset="other"), dataclasses.replace(DATA, fingerprint="g")) == (
        f"--output {output} has a run on another data set (--dataset data): give that one to go on with it, or another "
        "--output to begin anew"
    )
    assert refused(output, options(), dataclasses.replace(DATA, labels=("Japan", "Rome"))) == (
        f"--output {output} has a run with other labels, see its config.json: give another --output"
    )


@pytest.mark.parametrize("name", ["COMPLETED", "labels.txt", "metrics.jsonl", "checkpoints"])
def test_a_directory_in_which_something_else_lies(output: str, name: str) -> None:
    files.write_bytes(files.join(output, name, *(["x"] if name == "checkpoints" else [])), b"x")
    assert refused(output, options()) == (
        f"--output {output} holds something else, it has {name} and no config.json: give another --output"
    )


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}", b'{"options": {}}', b"\xff\xfe\xff"])
def test_a_configuration_that_is_none(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "config.json").write_bytes(content)
    assert refused(str(tmp_path), options()).startswith(f"{tmp_path}/config.json is not what training wrote")


def test_an_output_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(OptionError, match=r"--output .*file is a file: give a directory"):
        begin_run(str(tmp_path / "file"), options(), DATA)


def test_a_finished_run_tells_how_it_ended(output: str) -> None:
    run = RunDirectory(output)
    assert read_finished(run) is None
    finish_run(run, FinishedRun(step=1240, metrics={"loss": np.float32(0.5), "accuracy": 0.64, "epoch": 12}))
    finished = read_finished(run)
    assert finished == FinishedRun(step=1240, metrics={"loss": 0.5, "accuracy": 0.64, "epoch": 12})
    assert describe_finished(run, finished) == f"{output} is complete: 1,240 steps, loss 0.5, accuracy 0.64, epoch 12"


def test_metrics_are_lines_in_order(output: str) -> None:
    run = RunDirectory(output)
    with MetricsLog(run) as log:
        log.append(10, {"loss": np.float32(0.5), "epoch": 1})
        log.append(20, {"loss": math.nan, "examples_per_second": math.inf, "kind": "train"})
    assert lines_of(run) == [
        {"step": 10, "loss": 0.5, "epoch": 1},
        {"step": 20, "loss": None, "examples_per_second": None, "kind": "train"},
    ]


def test_a_run_that_goes_on_drops_what_lies_beyond_its_step(output: str) -> None:
    run = RunDirectory(output)
    with MetricsLog(run) as log:
        for step in (10, 20, 20, 30):
            log.append(step, {"loss": step})
    with MetricsLog(run, step=20) as log:
        log.append(30, {"loss": -1})
    assert [(line["step"], line["loss"]) for line in lines_of(run)] == [(10, 10), (20, 20), (20, 20), (30, -1)]
    MetricsLog(run).close()
    assert lines_of(run) == []


@pytest.mark.parametrize("torn", [b'{"step": 20, "lo', b'{"step"', b"\x00\x00", b"\xc3", b"[]", b'{"step": "x"}', b"7"])
def test_a_line_that_a_killed_run_left_half_written_is_dropped(output: str, torn: bytes) -> None:
    run = RunDirectory(output)
    files.write_bytes(run.metrics, b'{"step": 10}\n' + torn)
    with MetricsLog(run, step=30) as log:
        log.append(40, {})
    assert lines_of(run) == [{"step": 10}, {"step": 40}]


def test_a_last_line_without_its_end_is_a_line(tmp_path: Path) -> None:
    run = RunDirectory(str(tmp_path))
    files.write_bytes(run.metrics, b'{"step": 10}')
    with MetricsLog(run, step=30) as log:
        log.append(40, {})
    assert lines_of(run) == [{"step": 10}, {"step": 40}]


def test_a_local_line_can_be_followed_at_once(tmp_path: Path) -> None:
    run = RunDirectory(str(tmp_path))
    with MetricsLog(run) as log, open(run.metrics) as follower:
        log.append(10, {})
        assert follower.read() == '{"step": 10}\n'
        log.append(20, {})
        assert follower.read() == '{"step": 20}\n'


def test_an_object_store_is_written_every_half_minute(bucket: str) -> None:
    clock = FakeTime()
    run = RunDirectory(f"{bucket}/every_half_minute")
    with MetricsLog(run, clock=clock.clock) as log:
        log.append(10, {})
        assert lines_of(run) == []
        clock.sleep(30)
        log.append(20, {})
        assert [line["step"] for line in lines_of(run)] == [10, 20]
        log.append(30, {})
        assert [line["step"] for line in lines_of(run)] == [10, 20]
        log.flush()
        assert [line["step"] for line in lines_of(run)] == [10, 20, 30]
        log.append(40, {})
    assert [line["step"] for line in lines_of(run)] == [10, 20, 30, 40]
