"""What a run leaves of its figures: lines of `metrics.jsonl`, and the same for TensorBoard."""

import contextlib
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any

import tensorflow as tf

from beam_pipelines import files
from trainer.run_directory import MetricsLog, RunDirectory

TRAIN = "train"
VALIDATION = "validation"

_VALIDATION_PREFIX = "val_"
# An object store has no way to append: event files are copied whole, not more often than this.
_REMOTE_SECONDS = 30.0


class Summaries:
    """Writes the figures of a step to both; of workers other than the first, nothing. Use it in a `with` block."""

    def __init__(
        self,
        run: RunDirectory,
        *,
        step: int = 0,
        written: bool = True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Opens the files.

        Args:
            run: whose figures.
            step: the step from which the run goes on; lines of later ones are dropped.
            written: whether this worker writes.
            clock: seconds, for tests.
        """
        self._stack = contextlib.ExitStack()
        self._log: MetricsLog | None = None
        self._writers: dict[str, Any] = {}
        self._directory = self._local_directory = run.tensorboard
        self._clock = clock
        self._copied = clock()
        if not written:
            return
        self._log = self._stack.enter_context(MetricsLog(run, step=step))
        if files.is_remote(run.tensorboard):
            self._local_directory = self._stack.enter_context(tempfile.TemporaryDirectory())
            self._stack.callback(self._copy)
        self._writers = {name: self._writer(name) for name in (TRAIN, VALIDATION)}

    def __enter__(self) -> "Summaries":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def write(self, step: int, *, epoch: int, train: Mapping[str, float], validation: Mapping[str, float]) -> None:
        """Writes the figures that belong to a step.

        Args:
            step: how many are done.
            epoch: that the step belongs to, from 1.
            train: of the examples since the last line.
            validation: of the whole split; empty if it was not evaluated.
        """
        if not self._log:
            return
        validated = {f"{_VALIDATION_PREFIX}{name}": value for name, value in validation.items()}
        self._log.append(step, {"epoch": epoch, **train, **validated})
        for name, values in ((TRAIN, train), (VALIDATION, validation)):
            with self._writers[name].as_default(step=step):
                for scalar, value in values.items():
                    tf.summary.scalar(scalar, value)
            self._writers[name].flush()
        if self._clock() - self._copied >= _REMOTE_SECONDS:
            self._copy()

    def _writer(self, name: str) -> Any:
        writer = tf.summary.create_file_writer(os.path.join(self._local_directory, name))
        self._stack.callback(writer.close)
        return writer

    def _copy(self) -> None:
        """Copies the event files to where they belong, if they are written elsewhere first."""
        self._copied = self._clock()
        if self._local_directory == self._directory:
            return
        for name in files.list_files(self._local_directory):
            source_path = os.path.join(self._local_directory, name)
            with open(source_path, "rb") as source, files.open_to_write(files.join(self._directory, name)) as target:
                shutil.copyfileobj(source, target)
