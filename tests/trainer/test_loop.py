import dataclasses
import functools
import itertools
import json
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from beam_pipelines.errors import RunError
from trainer.checkpoints import Checkpoints, named_variables
from trainer.loop import Ending, Feed, Learner, LoopOptions, LoopState, Trainer, check_finite
from trainer.optimization import apply_gradients, example_losses
from trainer.preemption import SIGNALS, StopRequest
from trainer.run_directory import RunDirectory
from trainer.schedule import Schedule
from trainer.summaries import Summaries
from trainer.training_progress import ProgressLine

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:Even though the `tf.config.experimental_run_functions_eagerly`"),
]

EXAMPLES = 30
BATCH = 6
SCHEDULE = Schedule(steps=12, examples_per_epoch=EXAMPLES, batch_size=BATCH)
_RANDOM = np.random.default_rng(3)
INPUTS = _RANDOM.normal(size=(EXAMPLES, 4)).astype(np.float32)
TARGETS = (INPUTS[:, 0] > 0).astype(np.int64)
WEIGHTS = np.ones(EXAMPLES, np.float32)


class _Summed(keras.optimizers.SGD):
    """As those of `build_optimizer`: the gradients are added up before they come here."""

    def _all_reduce_sum_gradients(self, grads_and_vars: Any) -> list[Any]:
        return list(grads_and_vars)


def make_learner(*, learning_rate: float = 0.1, dropout: float = 0.4) -> Learner:
    keras.utils.clear_session()  # or names would be numbered on
    strategy = tf.distribute.OneDeviceStrategy("CPU:0")
    with strategy.scope():
        glorot = functools.partial(keras.initializers.GlorotUniform, seed=1)
        layers = [
            keras.Input((4,)),
            keras.layers.Dense(5, activation="relu", kernel_initializer=glorot(), name="backbone"),
            keras.layers.Dropout(dropout, seed=2, name="dropout"),
            keras.layers.Dense(2, kernel_initializer=glorot(), name="head"),
        ]
        model = keras.Sequential(layers, name="toy")
        optimizer = _Summed(learning_rate, momentum=0.9, name="sgd")
        optimizer.build(model.trainable_variables)
    return Learner(
        strategy=strategy,
        model=model,
        forward=lambda inputs, *, training, fine_tuning: model(inputs, training=training),
        trainable_variables=lambda fine_tuning: (
            model.trainable_variables if fine_tuning else model.layers[-1].trainable_variables
        ),
        optimizer=optimizer,
        learning_rate=lambda step: tf.constant(learning_rate),
        apply_gradients=functools.partial(apply_gradients, optimizer),
        example_losses=example_losses,
    )


def training(step: int, *, weights: np.ndarray[Any, Any] = WEIGHTS) -> tf.data.Dataset:
    places = tf.data.Dataset.range(step * BATCH, 1_000_000).map(lambda place: place * 7 % EXAMPLES).batch(BATCH)
    return places.map(
        lambda place: {
            "inputs": tf.gather(INPUTS, place),
            "targets": tf.gather(TARGETS, place),
            "weights": tf.gather(weights, place),
        }
    )


def validation() -> tf.data.Dataset:
    """Three batches of four: ten examples, and two rows that fill up."""
    rows = tf.data.Dataset.range(12).map(
        lambda place: {
            "inputs": tf.gather(INPUTS, place),
            "targets": tf.gather(TARGETS, place),
            "mask": tf.cast(place < 10, tf.float32),
        }
    )
    return rows.batch(4)


FEED = Feed(training=training, validation=validation, validation_steps=3)
OPTIONS = LoopOptions(steps_per_execution=3, log_every_steps=4)


@dataclasses.dataclass
class Run:
    """A run in a directory of its own, begun as often as `start` is called."""

    path: Path
    schedule: Schedule = SCHEDULE
    options: LoopOptions = OPTIONS
    feed: Feed = FEED
    learner: Callable[[], Learner] = make_learner
    keep: int = 100
    clock: Callable[[], float] = lambda: 0.0

    @property
    def checkpoints(self) -> Checkpoints:
        return Checkpoints(str(self.path / "checkpoints"), keep=self.keep)

    def start(self, request: StopRequest | None = None) -> tuple[Ending, Trainer]:
        """Trains from the newest checkpoint on."""
        learner = self.learner()
        step = max(self.checkpoints.steps(), default=0)
        with Summaries(RunDirectory(str(self.path)), step=step) as summaries:
            trainer = Trainer(
                learner,
                self.feed,
                self.schedule,
                self.options,
                checkpoints=self.checkpoints,
                variables=named_variables(model=learner.model.variables, optimizer=learner.optimizer.variables),
                summaries=summaries,
                progress=ProgressLine(shown=False),
                clock=self.clock,
            )
            if step:
                trainer.restore(step)
            if isinstance(request, StopAfter):
                request.trainer = trainer
            return trainer.run(request or StopRequest()), trainer

    def metrics(self) -> list[dict[str, Any]]:
        lines = [json.loads(line) for line in (self.path / "metrics.jsonl").read_text().splitlines()]
        return [{name: value for name, value in line.items() if name != "examples_per_second"} for line in lines]


class StopAfter(StopRequest):
    """A signal that comes while the chunk after so many steps runs, or the part of an evaluation after so many."""

    trainer: Trainer

    def __init__(self, steps: int, *, number: int = signal.SIGTERM, visits: int = 1) -> None:
        super().__init__()
        self._steps = steps
        self._number = number
        self._visits = visits

    def flags(self) -> list[float]:
        self._visits -= self.trainer.state.step == self._steps
        if self._visits == 0:
            self.note(self._number)
        return super().flags()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, Trainer]:
    run = Run(tmp_path_factory.mktemp("undisturbed"))
    ending, trainer = run.start()
    assert ending.signal == 0
    return run, trainer


@pytest.fixture
def eagerly() -> Iterator[None]:
    """Saves the time that TensorFlow takes to compile, where nothing is compared to the bit."""
    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)


def test_what_a_run_leaves(undisturbed: tuple[Run, Trainer]) -> None:
    run, trainer = undisturbed
    lines = run.metrics()
    assert [(line["step"], line["epoch"]) for line in lines] == [(4, 1), (5, 1), (8, 2), (10, 2), (12, 3)]
    assert [line["step"] for line in lines if "val_accuracy" in line] == [5, 10, 12]
    assert all(set(line) >= {"loss", "accuracy", "learning_rate"} for line in lines)
    assert run.checkpoints.steps() == [5, 10, 12]
    assert trainer.state.step == 12
    assert trainer.state.best_step in (5, 10, 12)


def test_validation_counts_each_example_once(undisturbed: tuple[Run, Trainer]) -> None:
    _, trainer = undisturbed
    model = trainer._learner.model
    logits = keras.ops.convert_to_numpy(model(INPUTS[:10], training=False))
    assert trainer.state.validation["accuracy"] == pytest.approx(np.mean(logits.argmax(-1) == TARGETS[:10]))
    assert trainer.state.validation["loss"] == pytest.approx(np.mean(example_losses(logits, TARGETS[:10])), rel=1e-5)


def test_a_step_is_one_along_the_gradient_of_the_mean_loss(tmp_path: Path) -> None:
    plain = functools.partial(make_learner, dropout=0.0)
    run = Run(tmp_path, schedule=dataclasses.replace(SCHEDULE, steps=1, unfreeze_step=0), learner=plain)
    _, trainer = run.start()
    expected = plain().model
    batch = next(iter(training(0)))
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(example_losses(expected(batch["inputs"]), batch["targets"]))
    for gradient, variable in zip(
        tape.gradient(loss, expected.trainable_variables), expected.trainable_variables, strict=True
    ):
        variable.assign_sub(0.1 * gradient)
    for one, other in zip(trainer._learner.model.get_weights(), expected.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-7)
    assert run.metrics()[0]["loss"] == pytest.approx(float(loss))


@pytest.mark.usefixtures("eagerly")
def test_a_line_of_metrics_is_of_the_steps_since_the_last_one(tmp_path: Path) -> None:
    run = Run(tmp_path, learner=functools.partial(make_learner, learning_rate=0.0, dropout=0.0))
    _, trainer = run.start()
    logits = keras.ops.convert_to_numpy(trainer._learner.model(INPUTS, training=False))
    losses = keras.ops.convert_to_numpy(example_losses(logits, TARGETS))
    order = np.arange(12 * BATCH) * 7 % EXAMPLES
    for before, line in zip([0, 4, 5, 8, 10], run.metrics(), strict=True):
        examples = order[before * BATCH : line["step"] * BATCH]
        assert line["loss"] == pytest.approx(losses[examples].mean(), rel=1e-5)
        assert line["accuracy"] == pytest.approx(np.mean(logits[examples].argmax(-1) == TARGETS[examples]))


@pytest.mark.parametrize("steps_per_execution", [1, 100])
def test_how_often_the_host_comes_by_changes_nothing(
    undisturbed: tuple[Run, Trainer], tmp_path: Path, steps_per_execution: int
) -> None:
    options = dataclasses.replace(OPTIONS, steps_per_execution=steps_per_execution, checkpoint_every_steps=7)
    run = Run(tmp_path, options=options)
    _, trainer = run.start()
    assert trainer.digest() == undisturbed[1].digest()
    assert run.metrics() == undisturbed[0].metrics()
    assert run.checkpoints.steps() == [5, 7, 10, 12]
    assert trainer._steps.traces == 1


@pytest.mark.parametrize(("step", "number"), [(0, signal.SIGINT), (8, signal.SIGTERM)])
def test_a_run_that_was_told_to_end_goes_on_to_the_same_weights(
    undisturbed: tuple[Run, Trainer], tmp_path: Path, step: int, number: int
) -> None:
    run = Run(tmp_path)
    ending, stopped = run.start(StopAfter(step, number=number))
    assert ending.signal == number
    assert run.checkpoints.steps()[-1] == stopped.state.step < 12
    ending, trainer = run.start()
    assert ending.signal == 0
    assert trainer.digest() == undisturbed[1].digest()
    assert trainer.state == undisturbed[1].state
    assert run.metrics() == undisturbed[0].metrics()


def test_an_evaluation_that_was_cut_short_is_made_when_the_run_goes_on(
    undisturbed: tuple[Run, Trainer], tmp_path: Path
) -> None:
    run = Run(tmp_path, options=dataclasses.replace(OPTIONS, steps_per_execution=1))
    ending, _ = run.start(StopAfter(5, visits=2))
    assert (ending.signal, ending.state.step, ending.state.validation) == (signal.SIGTERM, 5, {})
    assert run.checkpoints.steps() == [5]
    assert [line["step"] for line in run.metrics()] == [4]
    _, trainer = run.start()
    assert trainer.digest() == undisturbed[1].digest()
    assert run.metrics() == undisturbed[0].metrics()


def test_a_killed_run_goes_on_from_its_checkpoint(undisturbed: tuple[Run, Trainer], tmp_path: Path) -> None:
    class KilledError(Exception):
        pass

    class Kill(StopAfter):
        def note(self, number: int) -> None:
            raise KilledError

    run = Run(tmp_path)
    with pytest.raises(KilledError):
        run.start(Kill(8))
    assert (run.checkpoints.steps(), [line["step"] for line in run.metrics()]) == ([5], [4, 5, 8])
    _, trainer = run.start()
    assert trainer.digest() == undisturbed[1].digest()
    assert run.metrics() == undisturbed[0].metrics()


def test_a_finished_run_does_nothing_more(undisturbed: tuple[Run, Trainer]) -> None:
    run, trainer = undisturbed
    ending, again = run.start(StopAfter(12))
    assert (ending.signal, ending.state) == (0, trainer.state)
    assert again.digest() == trainer.digest()


@pytest.mark.usefixtures("eagerly")
def test_checkpoints_by_time(tmp_path: Path) -> None:
    times = itertools.count(0.0, 60.0)
    options = LoopOptions(steps_per_execution=1, log_every_steps=100, checkpoint_every_minutes=3.0)
    run = Run(tmp_path, options=options, clock=lambda: next(times), schedule=dataclasses.replace(SCHEDULE, steps=11))
    run.feed = dataclasses.replace(FEED, validation_steps=0)
    run.start()
    assert set(run.checkpoints.steps()) > {5, 10, 11}


@pytest.mark.usefixtures("eagerly")
def test_the_backbone_is_trained_from_its_step_on(tmp_path: Path) -> None:
    schedule = dataclasses.replace(SCHEDULE, steps=10, unfreeze_step=7)
    first = make_learner().model.layers[0].get_weights()
    run = Run(tmp_path, schedule=schedule, options=dataclasses.replace(OPTIONS, checkpoint_every_steps=7))
    run.start()
    for step, same in ((7, True), (10, False)):
        reader = tf.train.load_checkpoint(run.checkpoints.prefix(step))
        names = reader.get_variable_to_shape_map()
        (kernel,) = (name for name in names if "model" in name and "backbone" in name and "kernel" in name)
        assert np.array_equal(reader.get_tensor(kernel), first[0]) == same


@pytest.mark.usefixtures("eagerly")
def test_training_ends_early_where_nothing_gets_better(tmp_path: Path) -> None:
    options = dataclasses.replace(OPTIONS, early_stopping_patience=2)
    frozen = functools.partial(make_learner, learning_rate=0.0)
    run = Run(tmp_path, options=options, learner=frozen, keep=1, schedule=dataclasses.replace(SCHEDULE, steps=100))
    ending, _ = run.start()
    assert (ending.signal, ending.state.step, ending.state.best_step) == (0, 15, 5)
    assert run.checkpoints.steps() == [5, 15], "the newest and the best are kept"
    ending, _ = run.start()
    assert ending.state.step == 15


@pytest.mark.usefixtures("eagerly")
def test_a_run_without_validation(tmp_path: Path) -> None:
    run = Run(tmp_path, feed=dataclasses.replace(FEED, validation_steps=0), options=LoopOptions(steps_per_execution=50))
    ending, _ = run.start()
    assert (ending.state.step, ending.state.best, ending.state.validation) == (12, None, {})
    assert [set(line) & {"loss", "val_loss"} for line in run.metrics()] == [{"loss"}] * 3


@pytest.mark.usefixtures("eagerly")
def test_a_loss_that_is_not_finite_ends_the_run_naming_its_step(tmp_path: Path) -> None:
    broken = np.where(np.arange(EXAMPLES) == 21 * 7 % EXAMPLES, np.nan, WEIGHTS)
    run = Run(tmp_path, feed=dataclasses.replace(FEED, training=functools.partial(training, weights=broken)))
    with pytest.raises(RunError, match="the loss is nan at step 4: lower --learning_rate"):
        run.start()
    assert run.checkpoints.steps() == []


def test_the_first_loss_that_is_not_finite_is_named() -> None:
    check_finite(np.array([1.0, 2.0]), first_step=1)
    with pytest.raises(RunError, match="the loss is inf at step 1,002"):
        check_finite(np.array([1.0, np.inf, np.nan]), first_step=1_001)


@pytest.mark.parametrize(
    ("monitor", "values", "best"),
    [
        ("accuracy", [0.1, 0.5, 0.5, 0.4], (0.5, 1, 2)),
        ("loss", [3.0, 1.0, 2.0], (1.0, 1, 1)),
        ("recall_at_5", [float("nan"), 0.2, float("nan")], (0.2, 1, 1)),
        ("loss", [float("nan")], (None, None, 1)),
    ],
)
def test_the_best_evaluation(monitor: str, values: list[float], best: tuple[Any, ...]) -> None:
    state = LoopState()
    for step, value in enumerate(values):
        state.step = step
        state.note_evaluation({monitor: value}, monitor=monitor)
    assert (state.best, state.best_step, state.evaluations_without_best) == best


def test_signals_have_their_place_among_the_flags() -> None:
    request = StopRequest()
    assert request.flags() == [0.0, 0.0]
    request.note(signal.SIGINT)
    request.note(signal.SIGTERM)
    assert dict(zip(SIGNALS, request.flags(), strict=True)) == {signal.SIGTERM: 0.0, signal.SIGINT: 1.0}
