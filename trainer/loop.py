"""The training loop, the same on one device, on all devices of a machine and on many machines.

Inside is a `tf.function` that takes several steps without coming back to Python. Outside is the host's loop, which
comes by at log lines, checkpoints and ends of epochs, and otherwise every `steps_per_execution` steps. Whatever the
host decides there, it decides from values that are alike on all workers: the steps done, the sums over all replicas,
and flags that every worker raises for itself (it was told to end, it is time for a checkpoint) and that are added up
with the sums.

Everything that a run needs to go on is in its checkpoint: variables, and `LoopState`. The place in the data follows
from the step.
"""

import dataclasses
import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from beam_pipelines.errors import RunError
from trainer import metrics
from trainer.checkpoints import Checkpoints, Variables, digest
from trainer.options import is_less_better
from trainer.preemption import SIGNALS, StopRequest
from trainer.schedule import Schedule
from trainer.summaries import Summaries
from trainer.training_progress import Pace, ProgressLine, epoch_of, training_line

_LOGGER = logging.getLogger(__name__)

Batch = Mapping[str, tf.Tensor]
Results = dict[str, float]

_LOGGED = ("loss", "accuracy")
_SUMS = (metrics.EXAMPLES, metrics.LOSS, metrics.CORRECT, metrics.TOP_FIVE)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Learner:
    """What is trained, and by what.

    Attributes:
        strategy: in whose scope the model and the optimizer were made.
        model: inputs to logits, float32 [batch, classes], as they are for evaluation.
        forward: the same while training; takes `training` and `fine_tuning`.
        trainable_variables: what is trained, by whether the backbone is fine-tuned; the optimizer knows all of it.
        optimizer: of Keras.
        learning_rate: of the step that follows so many steps.
        apply_gradients: adds up the gradients of all replicas, once, and takes a step; called in replica context.
        example_losses: of logits and targets, float32 [batch].
        multi_label: whether an example may have several labels.
    """

    strategy: tf.distribute.Strategy
    model: keras.Model
    forward: Callable[..., tf.Tensor]
    trainable_variables: Callable[[bool], Sequence[keras.Variable]]
    optimizer: keras.optimizers.Optimizer
    learning_rate: Callable[[int], tf.Tensor]
    apply_gradients: Callable[[Sequence[tf.Tensor], Sequence[keras.Variable]], None]
    example_losses: Callable[[tf.Tensor, tf.Tensor], tf.Tensor]
    multi_label: bool = False


@dataclasses.dataclass(frozen=True, kw_only=True)
class Feed:
    """Where batches come from; each data set yields the batches of this worker's replicas in turn.

    Attributes:
        training: endless batches of `inputs`, `targets` and `weights`, from those of a step on.
        validation: one pass of batches of `inputs`, `targets` and `mask`.
        validation_steps: batches of each replica in a pass; 0 if there is nothing to validate on.
    """

    training: Callable[[int], tf.data.Dataset]
    validation: Callable[[], tf.data.Dataset]
    validation_steps: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class LoopOptions:
    """When the host's loop does what; see `TrainingOptions` and `RunOptions`."""

    monitor: str = "accuracy"
    early_stopping_patience: int = 0
    steps_per_execution: int = 1
    log_every_steps: int = 20
    checkpoint_every_steps: int = 0
    checkpoint_every_minutes: float = 0.0


@dataclasses.dataclass(kw_only=True)
class LoopState:
    """What the host's loop knows, and a checkpoint keeps; alike on all workers.

    Attributes:
        step: steps done.
        evaluated_step: the step at which validation was last looked at.
        logged_step: the step of the last line of metrics.
        validation: the metrics of the last evaluation; empty before the first one.
        best: the best value of the monitored metric.
        best_step: the step of that value.
        evaluations_without_best: since then.
        window: sums over the examples since the last line of metrics.
    """

    step: int = 0
    evaluated_step: int = 0
    logged_step: int = 0
    validation: Results = dataclasses.field(default_factory=dict)
    best: float | None = None
    best_step: int | None = None
    evaluations_without_best: int = 0
    window: dict[str, float] = dataclasses.field(default_factory=dict)

    def note_evaluation(self, results: Results, *, monitor: str) -> bool:
        """Takes up the metrics of an evaluation; returns whether they are the best so far."""
        self.validation = results
        self.evaluated_step = self.step
        value = results[monitor]
        better = not math.isnan(value) and (
            self.best is None or (value < self.best if is_less_better(monitor) else value > self.best)
        )
        if better:
            self.best, self.best_step, self.evaluations_without_best = value, self.step, 0
        else:
            self.evaluations_without_best += 1
        return better


@dataclasses.dataclass(frozen=True, kw_only=True)
class Ending:
    """Why the loop came back: `signal` is 0 if the run is finished, or what one of the workers was told to end by."""

    state: LoopState
    signal: int = 0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Chunk:
    """What came of several steps, added up over all replicas of all workers.

    Attributes:
        losses: of each training step, float64 [steps]; none of evaluation.
        sums: as `metrics.metric_sums` names them.
        flags: how many replicas raised each.
    """

    losses: np.ndarray[Any, np.dtype[np.float64]]
    sums: dict[str, float]
    flags: list[float]


class Steps:
    """The inner loops: several steps without coming back to Python, and what comes of them as numbers of the host."""

    def __init__(self, learner: Learner, *, batch_size: int) -> None:
        """Compiles nothing yet.

        Args:
            learner: what is trained.
            batch_size: of all replicas together, by which the sum of losses is divided, so that the gradients of all
                replicas add up to that of the mean loss.
        """
        self._learner = learner
        self._batch_size = batch_size
        self._train = tf.function(self._train_steps)
        self._evaluate = tf.function(self._evaluation_steps)

    @property
    def traces(self) -> int:
        """How often TensorFlow has compiled the training steps."""
        return int(self._train.experimental_get_tracing_count())

    def train(self, batches: Any, steps: int, flags: Sequence[float], *, fine_tuning: bool) -> Chunk:
        """Takes steps.

        Args:
            batches: an iterator over a distributed data set.
            steps: at least 1.
            flags: of this worker, 0 or 1.
            fine_tuning: whether the backbone trains too.
        """
        packed = self._train(batches, tf.constant(steps), tf.constant(flags, tf.float64), fine_tuning)
        return _unpacked(packed.numpy(), steps=steps)

    def evaluate(self, batches: Any, steps: int, flags: Sequence[float]) -> Chunk:
        """Looks at `steps` batches a replica."""
        packed = self._evaluate(batches, tf.constant(steps), tf.constant(flags, tf.float64))
        return _unpacked(packed.numpy(), steps=0)

    def _train_steps(self, batches: Any, steps: tf.Tensor, flags: tf.Tensor, fine_tuning: bool) -> tf.Tensor:
        strategy = self._learner.strategy
        totals = strategy.run(lambda: (tf.zeros([steps]), metrics.zero_sums()))
        for number in tf.range(steps):
            batch = next(batches)
            totals = strategy.run(self._train_step, args=(totals, number, batch, fine_tuning))
        return self._added_up(totals, flags)

    def _train_step(self, totals: Any, number: tf.Tensor, batch: Batch, fine_tuning: bool) -> Any:
        learner = self._learner
        variables = learner.trainable_variables(fine_tuning)
        with tf.GradientTape() as tape:
            logits = learner.forward(batch["inputs"], training=True, fine_tuning=fine_tuning)
            losses = learner.example_losses(logits, batch["targets"]) * batch["weights"]
            loss = tf.reduce_sum(losses) / self._batch_size
            scaled = learner.optimizer.scale_loss(loss)
        learner.apply_gradients(tape.gradient(scaled, variables), variables)
        of_steps, sums = totals
        of_batch = metrics.metric_sums(losses, logits, batch["targets"], multi_label=learner.multi_label)
        return tf.where(tf.range(tf.shape(of_steps)[0]) == number, loss, of_steps), metrics.add_sums(sums, of_batch)

    def _evaluation_steps(self, batches: Any, steps: tf.Tensor, flags: tf.Tensor) -> tf.Tensor:
        strategy = self._learner.strategy
        totals = strategy.run(lambda: (tf.zeros([0]), metrics.zero_sums()))
        for _ in tf.range(steps):
            batch = next(batches)
            totals = strategy.run(self._evaluation_step, args=(totals, batch))
        return self._added_up(totals, flags)

    def _evaluation_step(self, totals: Any, batch: Batch) -> Any:
        learner = self._learner
        logits = learner.model(batch["inputs"], training=False)
        losses = learner.example_losses(logits, batch["targets"])
        of_steps, sums = totals
        of_batch = metrics.metric_sums(
            losses, logits, batch["targets"], mask=batch["mask"], multi_label=learner.multi_label
        )
        return of_steps, metrics.add_sums(sums, of_batch)

    def _added_up(self, totals: Any, flags: tf.Tensor) -> tf.Tensor:
        """Returns all numbers in one vector, float64, added up over all replicas: one operation a chunk of steps."""
        strategy = self._learner.strategy
        packed = strategy.run(_packed, args=(totals, flags))
        return strategy.reduce(tf.distribute.ReduceOp.SUM, packed, axis=None)


class Trainer:
    """The host's loop."""

    def __init__(
        self,
        learner: Learner,
        feed: Feed,
        schedule: Schedule,
        options: LoopOptions,
        *,
        checkpoints: Checkpoints,
        variables: Variables,
        summaries: Summaries,
        progress: ProgressLine,
        is_chief: bool = True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Begins nothing yet.

        Args:
            learner: what is trained.
            feed: where batches come from.
            schedule: how long the run is.
            options: when the loop does what.
            checkpoints: where they lie.
            variables: what a checkpoint keeps, besides the state of this loop.
            summaries: where figures go.
            progress: where the line of progress goes.
            is_chief: whether this worker writes checkpoints.
            clock: seconds, for tests.
        """
        self.state = LoopState()
        self._learner = learner
        self._feed = feed
        self._schedule = schedule
        self._options = options
        self._checkpoints = checkpoints
        self._variables = variables
        self._summaries = summaries
        self._progress = progress
        self._is_chief = is_chief
        self._clock = clock
        self._steps = Steps(learner, batch_size=schedule.batch_size)
        self._validation: Any = None
        self._pace = Pace()
        self._saved_step = 0
        self._saved_at = clock()
        self._save_is_due = False
        self._stop = 0

    def restore(self, step: int) -> None:
        """Goes on from a checkpoint; raises RunError if it cannot be restored."""
        self.state = LoopState(**self._checkpoints.restore(step, self._variables))
        self._saved_step = step

    def run(self, request: StopRequest) -> Ending:
        """Trains to the end, or until one of the workers is told to end: then a checkpoint is saved first.

        Raises:
            RunError: a loss is not finite.
            tf.errors.OpError: the input cannot be read, or another worker is gone.
        """
        batches = iter(self._distributed(lambda: self._feed.training(self.state.step)))
        self._saved_at = self._clock()
        while True:
            self._evaluate_if_due(request)
            if not self._stop:
                self._log_if_due()
            self._save_if_due()
            if self._stop or self._is_finished():
                self._progress.clear()
                return Ending(state=self.state, signal=self._stop)
            self._advance(batches, request)

    def digest(self) -> str:
        """Returns a hash of all that a checkpoint keeps of the weights; it is the same on all workers."""
        return digest(self._variables)

    @property
    def saved_step(self) -> int:
        """The step of the last checkpoint; 0 before the first one."""
        return self._saved_step

    def _is_finished(self) -> bool:
        patience = self._options.early_stopping_patience
        if self.state.step < self._schedule.steps:
            return 0 < patience <= self.state.evaluations_without_best
        return True

    def _advance(self, batches: Any, request: StopRequest) -> None:
        """Takes the steps up to the host's next visit."""
        state = self.state
        unfreeze_step = self._schedule.unfreeze_step
        fine_tuning = unfreeze_step is not None and state.step >= unfreeze_step
        steps, traces, began = self._next_visit() - state.step, self._steps.traces, time.monotonic()
        chunk = self._steps.train(batches, steps, self._flags(request), fine_tuning=fine_tuning)
        self._pace.add(steps, time.monotonic() - began, warm=self._steps.traces == traces)
        check_finite(chunk.losses, first_step=state.step + 1)
        state.step += steps
        state.window = _added(state.window, chunk.sums)
        self._heed(chunk.flags)
        self._progress.show(self._line)

    def _next_visit(self) -> int:
        """Returns the step at which the host must come by next."""
        step, schedule = self.state.step, self._schedule
        visits = [step + self._options.steps_per_execution, schedule.next_evaluation(step)]
        visits += [
            step - step % every + every
            for every in (self._options.log_every_steps, self._options.checkpoint_every_steps)
            if every
        ]
        if schedule.unfreeze_step is not None and step < schedule.unfreeze_step:
            visits.append(schedule.unfreeze_step)
        return min(visits)

    def _evaluate_if_due(self, request: StopRequest) -> None:
        """Looks at the validation split at the end of an epoch; if a signal cuts that short, when the run goes on."""
        state = self.state
        due = self._schedule.is_evaluation(state.step) and state.evaluated_step < state.step
        if not due or not self._feed.validation_steps:
            return
        sums = self._validation_sums(request)
        if self._stop:
            return
        results = metrics.results(sums)
        better = state.note_evaluation(results, monitor=self._options.monitor)
        told = ", ".join(f"{name} {value:.4g}" for name, value in results.items())
        best = ", the best so far" if better else f", best at step {state.best_step:,}"
        self._progress.say(
            f"epoch {epoch_of(self._schedule, state.step)}, step {state.step:,}: validation {told}{best}"
        )

    def _validation_sums(self, request: StopRequest) -> dict[str, float]:
        if self._validation is None:
            self._validation = self._distributed(self._feed.validation)
        batches = iter(self._validation)
        sums: dict[str, float] = {}
        done = 0
        while done < self._feed.validation_steps and not self._stop:
            steps = min(self._options.steps_per_execution, self._feed.validation_steps - done)
            chunk = self._steps.evaluate(batches, steps, self._flags(request))
            sums = _added(sums, chunk.sums)
            done += steps
            self._heed(chunk.flags)
        return sums

    def _log_if_due(self) -> None:
        state = self.state
        evaluated = state.evaluated_step == state.step
        due = state.step % self._options.log_every_steps == 0 or self._schedule.is_evaluation(state.step)
        if not due or state.logged_step >= state.step:
            return
        results = metrics.results(state.window)
        train: Results = {name: results[name] for name in _LOGGED}
        train["learning_rate"] = float(self._learner.learning_rate(state.step - 1))
        train["examples_per_second"] = self._pace.lap() * self._schedule.batch_size
        self._summaries.write(
            state.step,
            epoch=epoch_of(self._schedule, state.step),
            train=train,
            validation=state.validation if evaluated else {},
        )
        state.logged_step = state.step
        state.window = {}

    def _save_if_due(self) -> None:
        """Saves at ends of epochs, after so many steps, after so many minutes, and before the end."""
        state, every = self.state, self._options.checkpoint_every_steps
        due = bool(self._stop or self._save_is_due or (every and state.step % every == 0))
        if state.step == self._saved_step or not (due or self._schedule.is_evaluation(state.step)):
            return
        if self._is_chief:
            self._checkpoints.save(state.step, self._variables, dataclasses.asdict(state), best=state.best_step)
        self._saved_step = state.step
        self._saved_at = self._clock()
        self._save_is_due = False

    def _flags(self, request: StopRequest) -> list[float]:
        """Returns what this worker has to tell the others: signals, and whether it is time for a checkpoint."""
        minutes = self._options.checkpoint_every_minutes
        is_time = self._is_chief and minutes > 0 and self._clock() - self._saved_at >= 60 * minutes
        return [*request.flags(), float(is_time)]

    def _heed(self, flags: Sequence[float]) -> None:
        *signals, is_time = flags
        self._stop = next((number for number, told in zip(SIGNALS, signals, strict=True) if told), 0)
        self._save_is_due |= bool(is_time)

    def _distributed(self, batches: Callable[[], tf.data.Dataset]) -> Any:
        return self._learner.strategy.distribute_datasets_from_function(lambda context: batches())

    def _line(self) -> str:
        results = metrics.results(self.state.window) if self.state.window else {}
        return training_line(self._schedule, self.state.step, results, steps_per_second=self._pace.steps_per_second)


def check_finite(losses: np.ndarray[Any, np.dtype[np.float64]], *, first_step: int) -> None:
    """Raises RunError if a loss is not finite.

    Args:
        losses: of steps one after another, float64 [steps].
        first_step: the number of the first of them.
    """
    wrong = np.flatnonzero(~np.isfinite(losses))
    if wrong.size:
        raise RunError(
            f"the loss is {losses[wrong[0]]} at step {first_step + int(wrong[0]):,}: lower --learning_rate, give a "
            "--global_clipnorm, or look at the examples"
        )


def _packed(totals: Any, flags: tf.Tensor) -> tf.Tensor:
    losses, sums = totals
    values = [tf.cast(sums[name], tf.float64) for name in _SUMS]
    return tf.concat([tf.cast(losses, tf.float64), tf.stack(values), flags], axis=0)


def _unpacked(packed: np.ndarray[Any, np.dtype[np.float64]], *, steps: int) -> Chunk:
    losses, sums, flags = np.split(packed, [steps, steps + len(_SUMS)])
    return Chunk(losses=losses, sums=dict(zip(_SUMS, sums.tolist(), strict=True)), flags=flags.tolist())


def _added(first: Mapping[str, float], second: Mapping[str, float]) -> dict[str, float]:
    return {name: first.get(name, 0.0) + value for name, value in second.items()}
