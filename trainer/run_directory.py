"""The directory of a run: what it was asked for, how it went, and that it has ended. Imports no TensorFlow.

config.json       the resolved options, what they met, and the versions that began the run; written first
labels.txt        the classes, one a line, in the order of their ids
metrics.jsonl     one line for each logged step
checkpoints/      what a run that was stopped goes on from
tensorboard/      the same figures for TensorBoard
backbone.weights.h5
                  the backbone of the best checkpoint, if the run trained one; embed takes it
evaluation/       what `trainer.evaluate` found
COMPLETED         the last step and its metrics; written last
"""

import dataclasses
import importlib.metadata
import json
import math
import os
import time
from collections.abc import Callable, Mapping
from typing import Any, SupportsFloat, TextIO

from beam_pipelines import files
from beam_pipelines.errors import OptionError
from trainer.data_files import TrainingData
from trainer.options import FORMAT_VERSION, PLACES, TrainingOptions

CONFIG_FILE = "config.json"
LABELS_FILE = "labels.txt"
METRICS_FILE = "metrics.jsonl"
COMPLETED_FILE = "COMPLETED"
CHECKPOINTS_DIRECTORY = "checkpoints"
TENSORBOARD_DIRECTORY = "tensorboard"

_VERSIONS_OF = ("museum-image-classifier", "keras", "tensorflow")
# An object store has no way to append: the whole file is written anew, not more often than this.
_REMOTE_SECONDS = 30.0

# Also the scalars of numpy and TensorFlow; what is read back is Python's own.
MetricValue = SupportsFloat | str | None


@dataclasses.dataclass(frozen=True)
class RunDirectory:
    """Names of what lies in the directory of a run, local or gs://."""

    path: str

    @property
    def checkpoints(self) -> str:
        """The directory of the checkpoints."""
        return files.join(self.path, CHECKPOINTS_DIRECTORY)

    @property
    def tensorboard(self) -> str:
        """The directory of TensorBoard's event files."""
        return files.join(self.path, TENSORBOARD_DIRECTORY)

    @property
    def config(self) -> str:
        """What the run was asked for."""
        return files.join(self.path, CONFIG_FILE)

    @property
    def labels(self) -> str:
        """The classes."""
        return files.join(self.path, LABELS_FILE)

    @property
    def metrics(self) -> str:
        """How the run went."""
        return files.join(self.path, METRICS_FILE)

    @property
    def completed(self) -> str:
        """Whether it has ended."""
        return files.join(self.path, COMPLETED_FILE)


@dataclasses.dataclass(frozen=True, kw_only=True)
class FinishedRun:
    """How a run ended: the step it had reached and the metrics there."""

    step: int
    metrics: Mapping[str, MetricValue]


def run_config(options: TrainingOptions, data: TrainingData) -> dict[str, Any]:
    """Returns what `config.json` records of a run."""
    return {
        "format": FORMAT_VERSION,
        "fingerprint": options.fingerprint(),
        "options": options.to_json(),
        "data": {
            "fingerprint": data.fingerprint,
            "kind": data.kind,
            "multi_label": data.multi_label,
            "width": data.width,
            "train_examples": data.train.total,
            "validation_examples": data.validation.total,
            "labels": list(data.labels),
        },
        "versions": {name: importlib.metadata.version(name) for name in _VERSIONS_OF},
    }


def begin_run(output: str, options: TrainingOptions, data: TrainingData, *, is_chief: bool = True) -> RunDirectory:
    """Makes sure that `output` is the directory of this run, and writes its configuration if it has none.

    Args:
        output: local or gs://.
        options: of the run.
        data: what it trains on.
        is_chief: whether this machine writes; others only look.

    Raises:
        OptionError: the directory is that of another run or of something else; the first option that differs is named.
    """
    run = RunDirectory(output)
    config = run_config(options, data)
    begun = read_config(run)
    if begun is not None:
        _check_same(output, begun, config)
    elif is_chief:
        _check_nothing_else(run)
        files.write_json(run.config, config)
    if is_chief and not files.exists(run.labels):
        files.write_lines(run.labels, data.labels)
    return run


def read_config(run: RunDirectory, *, option: str = "output") -> dict[str, Any] | None:
    """Returns what `config.json` records, as `run_config` gives it; None if no run has begun there.

    Args:
        run: the directory.
        option: by which it was given, for messages.

    Raises:
        OptionError: the directory is a file, or the file is something else.
    """
    if not files.is_remote(run.path) and os.path.exists(run.path) and not os.path.isdir(run.path):
        raise OptionError(f"--{option} {run.path} is a file: give a directory")
    try:
        config = files.read_json(run.config)
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise OptionError(f"{run.config} is not what training wrote ({error}): give another --{option}") from error
    if not isinstance(config, dict) or not {"format", "options", "data"} <= config.keys():
        raise OptionError(f"{run.config} is not what training wrote: give another --{option}")
    return config


def read_finished(run: RunDirectory) -> FinishedRun | None:
    """Returns how the run ended, or None if it has not."""
    try:
        value = files.read_json(run.completed)
    except FileNotFoundError:
        return None
    return FinishedRun(step=value["step"], metrics=value["metrics"])


def describe_finished(run: RunDirectory, finished: FinishedRun) -> str:
    """Returns in one line how a run ended: `RUN is complete: 240 steps, loss 1.21, accuracy 0.64`."""
    told = [f"{finished.step:,} steps"]
    told += [
        f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}"
        for name, value in finished.metrics.items()
    ]
    return f"{run.path} is complete: {', '.join(told)}"


def finish_run(run: RunDirectory, finished: FinishedRun) -> None:
    """Says that the run has ended; nothing is written after this."""
    value = {"step": finished.step, "metrics": _plain(finished.metrics)}
    files.write_bytes(run.completed, f"{json.dumps(value)}\n".encode())


class MetricsLog:
    """`metrics.jsonl`: one line for each logged step, also of a run that was stopped and goes on.

    A local file is appended to, a line at a time; one on an object store is written anew every half minute and by
    `flush`. Use it in a `with` block.

    Args:
        run: whose metrics.
        step: the step from which the run goes on; lines of later steps, and a line that was cut short, are dropped.
        clock: seconds, for tests.
    """

    def __init__(self, run: RunDirectory, *, step: int = 0, clock: Callable[[], float] = time.monotonic) -> None:
        self._path = run.metrics
        self._clock = clock
        self._lines = _lines_until(self._path, step)
        self._written = clock()
        self._unwritten = 0
        self._file: TextIO | None = None
        files.write_lines(self._path, self._lines)
        if not files.is_remote(self._path):
            self._lines = []
            self._file = open(self._path, "a", encoding="utf-8")  # noqa: SIM115  (closed by `close`)

    def __enter__(self) -> "MetricsLog":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def append(self, step: int, values: Mapping[str, MetricValue]) -> None:
        """Adds a line; numbers that are not finite become null, which JSON has no other word for."""
        line = json.dumps({"step": step, **_plain(values)})
        if self._file:
            self._file.write(f"{line}\n")
            self._file.flush()
            return
        self._lines.append(line)
        self._unwritten += 1
        if self._clock() - self._written >= _REMOTE_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Makes sure that all lines can be read by others."""
        if self._unwritten:
            files.write_lines(self._path, self._lines)
            self._unwritten = 0
            self._written = self._clock()

    def close(self) -> None:
        """Flushes; no line can be added after this."""
        self.flush()
        if self._file:
            self._file.close()


def _lines_until(path: str, step: int) -> list[str]:
    """Returns the whole lines of a metrics file that are of `step` or before."""
    try:
        lines = files.read_bytes(path).decode("utf-8", "replace").splitlines()
    except FileNotFoundError:
        return []
    return [line for line in lines if _step_of(line) <= step]


def _step_of(line: str) -> float:
    try:
        value = json.loads(line)["step"]
    except (ValueError, KeyError, TypeError):
        return math.inf
    return value if type(value) is int else math.inf


def _plain(values: Mapping[str, MetricValue]) -> dict[str, MetricValue]:
    return {name: _plain_value(value) for name, value in values.items()}


def _plain_value(value: MetricValue) -> MetricValue:
    """Returns Python's own number, or None for one that is not finite."""
    if value is None or isinstance(value, str | int):
        return value
    number = float(value)
    return number if math.isfinite(number) else None


def _check_nothing_else(run: RunDirectory) -> None:
    """Raises OptionError for a directory in which something else lies that a run would overwrite."""
    for name in files.list_directory(run.path):
        if name in (COMPLETED_FILE, LABELS_FILE, METRICS_FILE, CHECKPOINTS_DIRECTORY):
            raise OptionError(
                f"--output {run.path} holds something else, it has {name} and no {CONFIG_FILE}: give another --output"
            )


def _check_same(output: str, begun: Mapping[str, Any], config: Mapping[str, Any]) -> None:
    mend = "give that value to go on with it, or another --output to begin anew"
    for name, value in config["options"].items():
        before = begun["options"].get(name)
        if name not in PLACES and before != value:
            raise OptionError(
                f"--output {output} has a run with --{name} {shown_option(before)}, not {shown_option(value)}: {mend}"
            )
    if begun["data"].get("labels") != config["data"]["labels"]:
        raise OptionError(
            f"--output {output} has a run with other labels, see its {CONFIG_FILE}: give another --output"
        )
    if begun["data"].get("fingerprint") != config["data"]["fingerprint"]:
        raise OptionError(
            f"--output {output} has a run on another data set ({_places(begun)}): give that one to go on with it, or "
            "another --output to begin anew"
        )
    if begun["format"] != config["format"]:
        raise OptionError(f"--output {output} has a run of another version of this program: give another --output")


def _places(config: Mapping[str, Any]) -> str:
    return ", ".join(
        f"--{name} {shown_option(config['options'][name])}" for name in PLACES if config["options"].get(name)
    )


def shown_option(value: Any) -> str:
    """Returns the value of an option, as `config.json` has it, as people give it."""
    if isinstance(value, list):
        return ",".join(map(str, value)) or "none"
    return "never" if value is None else f"{value}"
