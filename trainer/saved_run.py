"""A run as its directory has it: its options, its classes and its checkpoints. Imports no TensorFlow to be read."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from beam_pipelines.errors import OptionError, RunError
from trainer.options import FORMAT_VERSION, TrainingOptions
from trainer.run_directory import RunDirectory, read_config

BEST = "best"
LATEST = "latest"


@dataclasses.dataclass(frozen=True, kw_only=True)
class SavedRun:
    """What `config.json` says of a run, whether it has ended or goes on.

    Attributes:
        directory: where it lies.
        options: as they were resolved; paths are as they were given.
        kind: of the data: `images` or `embeddings`.
        labels: the classes, in the order of their ids.
        multi_label: whether an example may have several labels.
        width: of the embeddings; 0 for images.
        data_fingerprint: of the examples and the labels, wherever they lie.
        versions: of the packages that began it, by name.
    """

    directory: RunDirectory
    options: TrainingOptions
    kind: str
    labels: tuple[str, ...]
    multi_label: bool
    width: int
    data_fingerprint: str
    versions: Mapping[str, str]


def read_saved_run(path: str) -> SavedRun:
    """Reads a run.

    Args:
        path: the run's directory, local or gs://.

    Raises:
        OptionError: no run has begun there, or one of another version of this program.
    """
    directory = RunDirectory(path)
    config = read_config(directory, option="run")
    if config is None:
        raise OptionError(f"--run {path} is no run, it has no file config.json: give the --output of trainer.task")
    if config["format"] != FORMAT_VERSION:
        raise OptionError(f"--run {path} is of another version of this program: train it anew, or use that version")
    data = config["data"]
    try:
        return SavedRun(
            directory=directory,
            options=_options(config["options"]),
            kind=str(data["kind"]),
            labels=tuple(data["labels"]),
            multi_label=bool(data["multi_label"]),
            width=int(data["width"]),
            data_fingerprint=str(data["fingerprint"]),
            versions=dict(config.get("versions", {})),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise OptionError(f"{directory.config} is not what training wrote ({error}): give another --run") from error


def check_checkpoint(which: str) -> None:
    """Raises OptionError for a `--checkpoint` that is neither `best` nor `latest` nor a step."""
    if which not in (BEST, LATEST) and not (which.isascii() and which.isdigit()):
        raise OptionError(f"--checkpoint {which!r} is no checkpoint: give {BEST}, {LATEST} or a step")


def choose_checkpoint(saved: SavedRun, which: str) -> int:
    """Returns the step of a checkpoint (imports TensorFlow).

    Args:
        saved: the run.
        which: `best`, as the newest checkpoint knows it; `latest`; or a step.

    Raises:
        OptionError: there is no such checkpoint.
        RunError: the newest one cannot say which is the best.
    """
    from trainer.checkpoints import Checkpoints, best_step

    checkpoints = Checkpoints(saved.directory.checkpoints)
    steps = checkpoints.steps()
    if not steps:
        raise OptionError(f"--run {saved.directory.path} has no checkpoint yet: wait for its first epoch to end")
    if which == LATEST:
        return steps[-1]
    there = ", ".join(map(str, steps))
    if which != BEST:
        if int(which) not in steps:
            raise OptionError(
                f"--checkpoint {which} is none of {saved.directory.path}: give {BEST}, {LATEST} or {there}"
            )
        return int(which)
    try:
        best = best_step(checkpoints)
    except Exception as error:
        raise RunError(
            f"{checkpoints.prefix(steps[-1])} is damaged and cannot tell which is the best: give --checkpoint one of "
            f"{there}"
        ) from error
    return steps[-1] if best is None else best


def _options(values: Mapping[str, Any]) -> TrainingOptions:
    given: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
    return TrainingOptions(**given)
