"""What a run leaves of its figures: lines of `metrics.jsonl`, and the same for TensorBoard.

TensorBoard's HPARAMS tab shows a row for each session: a run of TensorBoard's that says what it was asked for. Here
that is `tensorboard/validation`, whose scalars are the metrics in its row, and none else; it knows a session by its
directory, so that a run that goes on stays one row.
https://github.com/tensorflow/tensorboard/blob/master/tensorboard/plugins/hparams/summary.py
"""

import contextlib
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any

import tensorflow as tf
from tensorboard.plugins.hparams import api_pb2
from tensorboard.plugins.hparams.summary import session_end_pb, session_start_pb

from beam_pipelines import files
from trainer.options import PLACES, TrainingOptions
from trainer.run_directory import MetricsLog, RunDirectory

TRAIN = "train"
VALIDATION = "validation"

_VALIDATION_PREFIX = "val_"
# An object store has no way to append: event files are copied whole, not more often than this.
_REMOTE_SECONDS = 30.0


def hyperparameters(options: TrainingOptions) -> dict[str, float | str]:
    """Returns the options as TensorBoard has them: each name a number in all runs, or a text in all."""
    values = {name: _hyperparameter(value) for name, value in vars(options).items() if name not in PLACES}
    # None in some runs and a number in others.
    values["unfreeze_at"] = "never" if options.unfreeze_at is None else f"{options.unfreeze_at}"
    return {"dataset": options.dataset or ",".join(options.train_data_paths), **values}


def _hyperparameter(value: Any) -> float | str:
    return ",".join(map(str, value)) or "none" if isinstance(value, tuple) else value


class Summaries:
    """Writes the figures of a step to both; of workers other than the first, nothing. Use it in a `with` block."""

    def __init__(
        self,
        run: RunDirectory,
        *,
        step: int = 0,
        written: bool = True,
        options: TrainingOptions | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Opens the files.

        Args:
            run: whose figures.
            step: the step from which the run goes on; lines of later ones are dropped.
            written: whether this worker writes.
            options: what the run is, for the HPARAMS tab; without them it has no row there.
            clock: seconds, for tests.
        """
        self._stack = contextlib.ExitStack()
        self._log: MetricsLog | None = None
        self._writers: dict[str, Any] = {}
        self._directory = self._local_directory = run.tensorboard
        self._step = step
        self._clock = clock
        self._copied = clock()
        if not written:
            return
        self._log = self._stack.enter_context(MetricsLog(run, step=step))
        if files.is_remote(run.tensorboard):
            self._local_directory = self._stack.enter_context(tempfile.TemporaryDirectory())
            self._stack.callback(self._copy)
        self._writers = {name: self._writer(name) for name in (TRAIN, VALIDATION)}
        if options:
            self._write_session(session_start_pb(hyperparameters(options)))

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
        self._step = step
        validated = {f"{_VALIDATION_PREFIX}{name}": value for name, value in validation.items()}
        self._log.append(step, {"epoch": epoch, **train, **validated})
        for name, values in ((TRAIN, train), (VALIDATION, validation)):
            with self._writers[name].as_default(step=step):
                for scalar, value in values.items():
                    tf.summary.scalar(scalar, value)
            self._writers[name].flush()
        if self._clock() - self._copied >= _REMOTE_SECONDS:
            self._copy()

    def end_session(self) -> None:
        """Says in the HPARAMS tab that the run has come to its end."""
        if self._log:
            self._write_session(session_end_pb(api_pb2.STATUS_SUCCESS))

    def _write_session(self, summary: tf.compat.v1.Summary) -> None:
        with self._writers[VALIDATION].as_default(step=self._step):
            tf.summary.experimental.write_raw_pb(summary.SerializeToString())
        self._writers[VALIDATION].flush()

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
