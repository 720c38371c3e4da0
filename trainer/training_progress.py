"""The line that says how training goes: kept up to date on a terminal, otherwise logged every quarter of a minute."""

import logging
import sys
import time
from collections.abc import Callable, Mapping
from typing import TextIO

from beam_pipelines.progress import clock as duration
from trainer.schedule import Schedule

_LOGGER = logging.getLogger(__name__)

_TERMINAL_SECONDS = 0.5
_LOG_SECONDS = 15.0


class ProgressLine:
    """Shows one line after another in the same place; of workers other than the first, nothing."""

    def __init__(
        self, *, shown: bool = True, stream: TextIO | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Shows nothing yet.

        Args:
            shown: whether this worker shows anything.
            stream: a terminal or not; by default stderr.
            clock: seconds, for tests.
        """
        self._shown = shown
        self._stream = stream or sys.stderr
        self._clock = clock
        self._is_terminal = self._stream.isatty()
        self._next = clock() + (0.0 if self._is_terminal else _LOG_SECONDS)

    def show(self, line: Callable[[], str]) -> None:
        """Shows what `line` returns, if it is time for another one."""
        now = self._clock()
        if not self._shown or now < self._next:
            return
        self._next = now + (_TERMINAL_SECONDS if self._is_terminal else _LOG_SECONDS)
        if self._is_terminal:
            self._stream.write(f"\r\x1b[K{line()}")
            self._stream.flush()
        else:
            _LOGGER.info(line())

    def say(self, line: str) -> None:
        """Leaves a line that stays, above the one that changes."""
        self.clear()
        if self._shown:
            _LOGGER.info(line)

    def clear(self) -> None:
        """Takes the line off a terminal."""
        if self._shown and self._is_terminal:
            self._stream.write("\r\x1b[K")
            self._stream.flush()


def training_line(schedule: Schedule, step: int, results: Mapping[str, float], *, steps_per_second: float) -> str:
    """Returns `epoch 3/12, step 1,200 of 4,800, loss 1.234, accuracy 0.52, 812 examples/s, 0:42 left`.

    Args:
        schedule: of the run.
        step: how many are done, at least 1.
        results: `loss` and `accuracy` of the examples since the last such line, as far as there are any.
        steps_per_second: 0 if it is not known yet.
    """
    told = [f"epoch {epoch_of(schedule, step)}/{schedule.epochs}", f"step {step:,} of {schedule.steps:,}"]
    told += [f"loss {results['loss']:.3f}"] if "loss" in results else []
    told += [f"accuracy {results['accuracy']:.2f}"] if "accuracy" in results else []
    if steps_per_second > 0:
        told += [
            f"{steps_per_second * schedule.batch_size:,.0f} examples/s",
            f"{duration((schedule.steps - step) / steps_per_second)} left",
        ]
    return ", ".join(told)


def epoch_of(schedule: Schedule, step: int) -> int:
    """Returns the epoch, from 1, that the last of `step` steps belongs to."""
    return min(schedule.epoch_of(max(step - 1, 0)) + 1, schedule.epochs)


class Pace:
    """How fast training goes; the time that TensorFlow takes to compile, and that between steps, is left out."""

    def __init__(self) -> None:
        self._steps = self._lap_steps = 0
        self._seconds = self._lap_seconds = 0.0

    def add(self, steps: int, seconds: float, *, warm: bool) -> None:
        """Counts steps and what they took; not `warm` are those for which TensorFlow compiled first."""
        if warm:
            self._steps += steps
            self._lap_steps += steps
            self._seconds += seconds
            self._lap_seconds += seconds

    @property
    def steps_per_second(self) -> float:
        """Since the start; 0 if it is not known yet."""
        return self._steps / self._seconds if self._seconds else 0.0

    def lap(self) -> float:
        """Returns the steps a second since the last lap, or since the start if there were none; begins another one."""
        pace = self._lap_steps / self._lap_seconds if self._lap_seconds else self.steps_per_second
        self._lap_steps, self._lap_seconds = 0, 0.0
        return pace
