"""Runs as their directories have them, finished or not: what was asked for, and how it went. Imports no TensorFlow."""

import collections
import dataclasses
import json
import math
import os
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from beam_pipelines import files
from beam_pipelines.dataset import INFO_FILE, VALIDATION
from beam_pipelines.errors import OptionError, StorageError
from trainer.data_files import EMBEDDINGS, IMAGES
from trainer.evaluation.options import EVALUATION_FILE, NAMES, PAGE_FILE
from trainer.options import is_less_better
from trainer.run_directory import CONFIG_FILE, FinishedRun, RunDirectory, read_config, read_finished

# A step and a value there.
Point = tuple[int, float]

# What is read of a configuration without asking whether it is there.
_OPTIONS = {"model", "batch_size", "monitor"}
_DATA = {"fingerprint", "kind", "train_examples", "validation_examples", "labels"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Best:
    """The figures of validation at the best checkpoint of a run; None for those that are not known.

    Attributes:
        step: of the checkpoint.
        epoch: that the step belongs to, from 1.
    """

    step: int
    epoch: int | None
    accuracy: float | None
    recall_at_5: float | None
    loss: float | None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Run:
    """A run.

    Attributes:
        path: its directory, local or gs://.
        name: by which it goes, unlike that of any other run that it is compared with.
        config: as `run_directory.run_config` gives it.
        lines: of `metrics.jsonl`.
        finished: how it ended; None if it has not.
        evaluation: what `trainer.evaluate` left; None if it has not been run.
        evaluation_page: its page; empty if there is none.
    """

    path: str
    name: str
    config: Mapping[str, Any]
    lines: Sequence[Mapping[str, Any]]
    finished: FinishedRun | None = None
    evaluation: Mapping[str, Any] | None = None
    evaluation_page: str = ""

    @property
    def options(self) -> Mapping[str, Any]:
        """What was asked for, by the names of `TrainingOptions`."""
        options: Mapping[str, Any] = self.config["options"]
        return options

    @property
    def data(self) -> Mapping[str, Any]:
        """What it trains and validates on."""
        data: Mapping[str, Any] = self.config["data"]
        return data

    @property
    def place(self) -> str:
        """Where its data were."""
        return self.options.get("dataset") or ",".join(self.options.get("train_data_paths", ()))

    @property
    def step(self) -> int:
        """The steps done, as far as they were logged."""
        if self.finished:
            return self.finished.step
        return int(self.lines[-1]["step"]) if self.lines else 0

    @property
    def state(self) -> str:
        """Whether it has ended; who trains it, and whether anybody does, its directory cannot tell."""
        return "complete" if self.finished else "unfinished"

    @property
    def speed(self) -> float | None:
        """Examples a second, the median of the logged lines; None if there are none."""
        values = [value for _, value in self.points("examples_per_second")]
        return statistics.median(values) if values else None

    @property
    def best(self) -> Best | None:
        """The figures of its best checkpoint by its own `--monitor`; None before the first evaluation."""
        monitor = self.options["monitor"]
        found = self.points(f"val_{monitor}")
        if not found:
            return None
        choose = min if is_less_better(monitor) else max
        step = choose(found, key=lambda point: point[1])[0]
        line = next(line for line in self.lines if line["step"] == step)
        epoch = line.get("epoch")
        return Best(
            step=step,
            epoch=epoch if isinstance(epoch, int) else None,
            accuracy=_number(line.get("val_accuracy")),
            recall_at_5=_number(line.get("val_recall_at_5")),
            loss=_number(line.get("val_loss")),
        )

    def points(self, name: str) -> list[Point]:
        """Returns the values of a figure in the order of their steps, without those that are not finite."""
        values = ((line["step"], _number(line.get(name))) for line in self.lines)
        return [(step, value) for step, value in values if value is not None]


def read_runs(paths: Sequence[str], *, labels: Mapping[str, str] | None = None) -> list[Run]:
    """Reads runs, each once.

    Args:
        paths: directories of runs, and directories that hold runs, local or gs://.
        labels: other names for some of them, by the names that they have without.

    Raises:
        OptionError: there is no run, a configuration is not what training wrote, or a label is of no run or the name
            of two.
    """
    found = list({_absolute(run): run for given in paths for run in _found(given)}.values())
    configs = [_read_config(path) for path in found]
    names = _relabelled(distinct_names(found), labels or {})
    return [_read_run(path, name, config) for path, name, config in zip(found, names, configs, strict=True)]


def distinct_names(paths: Sequence[str]) -> list[str]:
    """Returns the last parts of paths, of each as many as it takes to tell it from all others."""
    parts = [_absolute(path).replace(os.sep, "/").split("/") for path in paths]
    taken = [1] * len(parts)
    while True:
        names = ["/".join(of_path[-count:]) for of_path, count in zip(parts, taken, strict=True)]
        times = collections.Counter(names)
        longer = [
            min(count + (times[name] > 1), len(of_path))
            for name, count, of_path in zip(names, taken, parts, strict=True)
        ]
        if longer == taken:
            return names
        taken = longer


def data_groups(runs: Sequence[Run]) -> list[list[Run]]:
    """Returns the runs by what they train and validate on, in their own order.

    Runs on pictures and on embeddings of the same pictures are on the same data.
    """
    groups: list[list[Run]] = []
    origins = {run.path: "" for run in runs}
    if len({run.data["fingerprint"] for run in runs}) > 1:
        origins = {run.path: _origin(run) for run in runs}
    for run in runs:
        for group in groups:
            if all(_is_same_data(run, other, origins) for other in group):
                group.append(run)
                break
        else:
            groups.append([run])
    return groups


def _is_same_data(run: Run, other: Run, origins: Mapping[str, str]) -> bool:
    if run.data["fingerprint"] == other.data["fingerprint"]:
        return True
    if run.data["kind"] == other.data["kind"] == IMAGES:
        return False
    alike = all(run.data[name] == other.data[name] for name in ("labels", "train_examples", "validation_examples"))
    return alike and origins[run.path] != "" and origins[run.path] == origins[other.path]


def _origin(run: Run) -> str:
    """Returns the fingerprint of the data set of pictures that a run's data are or come from; empty if not known."""
    try:
        info = files.read_json(files.join(run.options["dataset"], INFO_FILE))
        return str(info["dataset"]["fingerprint"] if run.data["kind"] == EMBEDDINGS else info["fingerprint"])
    except (OSError, StorageError, ValueError, KeyError, TypeError):
        return ""


def _found(path: str) -> list[str]:
    """Returns the path of a run, or of all runs directly below it."""
    path = path.rstrip("/") or path
    if not files.is_remote(path) and os.path.isfile(path):
        raise OptionError(f"{path} is a file: give the directory of a run, the --output of trainer.task")
    if _is_run(path):
        return [path]
    runs = [run for name in files.list_directory(path) if _is_run(run := files.join(path, name))]
    if not runs:
        raise OptionError(
            f"{path} is no run, it has no file {CONFIG_FILE}, and no directory in it has one: give the --output of "
            "trainer.task, or a directory of such"
        )
    return runs


def _is_run(path: str) -> bool:
    return files.exists(files.join(path, CONFIG_FILE))


def _absolute(path: str) -> str:
    return path if files.is_remote(path) else os.path.abspath(path)


def _read_config(path: str) -> dict[str, Any]:
    config = read_config(RunDirectory(path), option="run")
    if (
        config is None
        or not isinstance(config["options"], dict)
        or not isinstance(config["data"], dict)
        or not (config["options"].keys() >= _OPTIONS and config["data"].keys() >= _DATA)
    ):
        raise OptionError(f"{files.join(path, CONFIG_FILE)} is not what training wrote: leave this run out")
    return config


def _relabelled(names: Sequence[str], labels: Mapping[str, str]) -> list[str]:
    for name in labels:
        if name not in names:
            raise OptionError(f"--labels {name}={labels[name]} names no run: the runs are {', '.join(names)}")
    relabelled = [labels.get(name, name) for name in names]
    for name, count in collections.Counter(relabelled).items():
        if count > 1:
            raise OptionError(f"--labels: {count} runs would be called {name}: give them different ones")
    return relabelled


def _read_run(path: str, name: str, config: Mapping[str, Any]) -> Run:
    directory = RunDirectory(path)
    page = files.join(path, NAMES[VALIDATION], PAGE_FILE)
    evaluation = _read_evaluation(files.join(path, NAMES[VALIDATION], EVALUATION_FILE))
    return Run(
        path=path,
        name=name,
        config=config,
        lines=_read_lines(directory.metrics),
        finished=read_finished(directory),
        evaluation=evaluation,
        evaluation_page=page if evaluation and files.exists(page) else "",
    )


def _read_lines(path: str) -> list[dict[str, Any]]:
    """Returns the lines of a metrics file in the order of their steps; one that is being written is left out."""
    try:
        texts = files.read_bytes(path).decode("utf-8", "replace").splitlines()
    except FileNotFoundError:
        return []
    lines = [line for line in map(_line, texts) if line]
    return sorted(lines, key=lambda line: int(line["step"]))


def _line(text: str) -> dict[str, Any] | None:
    try:
        line = json.loads(text)
    except ValueError:
        return None
    return line if isinstance(line, dict) and type(line.get("step")) is int else None


def _read_evaluation(path: str) -> dict[str, Any] | None:
    try:
        evaluation = files.read_json(path)
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise OptionError(f"{path} is not what trainer.evaluate wrote ({error}): evaluate the run anew") from error
    if not isinstance(evaluation, dict):
        raise OptionError(f"{path} is not what trainer.evaluate wrote: evaluate the run anew")
    return evaluation


def _number(value: Any) -> float | None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_number and math.isfinite(value) else None
