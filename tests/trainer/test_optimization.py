import json
import math
import subprocess
import sys
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import pytest
import tensorflow as tf

from tests.trainer.replica_training import CASES, STEPS, tiny_classifier, train
from trainer.classifier import Classifier
from trainer.optimization import WarmupCosine, apply_gradients, build_optimizer, example_losses, make_learning_rate
from trainer.options import TrainingOptions, resolve
from trainer.schedule import Schedule

Doubles = npt.NDArray[np.float64]


def rates(schedule: WarmupCosine, *steps: int) -> list[float]:
    return [float(schedule(tf.constant(step, tf.int64))) for step in steps]


def half_cosine(step: int, *, start: int, end: int) -> float:
    return 0.5 * (1 + math.cos(math.pi * (step - start) / (end - start)))


def test_the_rate_rises_linearly_and_falls_as_a_cosine_to_nothing() -> None:
    schedule = WarmupCosine(learning_rate=0.2, steps=110, warmup_steps=10)
    assert rates(schedule, 0, 4, 9, 10) == pytest.approx([0.02, 0.1, 0.2, 0.2])
    expected = [0.2 * half_cosine(step, start=10, end=110) for step in (30, 60, 109)]
    assert rates(schedule, 30, 60, 109) == pytest.approx(expected, rel=1e-4)
    assert rates(schedule, 60) == pytest.approx([0.1])
    assert rates(schedule, 110, 500) == pytest.approx([0, 0], abs=1e-9)


def test_without_a_warm_up_it_begins_at_its_highest() -> None:
    assert rates(WarmupCosine(learning_rate=0.2, steps=100), 0, 50) == pytest.approx([0.2, 0.1])


def test_fine_tuning_begins_at_a_rate_of_its_own_and_falls_from_there() -> None:
    schedule = WarmupCosine(
        learning_rate=0.2, steps=100, warmup_steps=10, fine_tune_step=40, fine_tune_learning_rate=0.03
    )
    assert rates(schedule, 4) == pytest.approx([0.1])
    assert rates(schedule, 39) == pytest.approx([0.2 * half_cosine(39, start=10, end=100)], rel=1e-5)
    assert rates(schedule, 40, 70, 100) == pytest.approx([0.03, 0.015, 0], abs=1e-8)


def test_fine_tuning_from_the_first_step_has_the_warm_up() -> None:
    schedule = WarmupCosine(
        learning_rate=0.2, steps=110, warmup_steps=10, fine_tune_step=0, fine_tune_learning_rate=0.03
    )
    assert rates(schedule, 0, 4, 10, 60) == pytest.approx([0.003, 0.015, 0.03, 0.015])


def test_a_run_of_one_step_has_a_rate() -> None:
    assert rates(WarmupCosine(learning_rate=0.2, steps=1), 0) == pytest.approx([0.2])


def test_the_schedule_survives_serialisation() -> None:
    schedule = WarmupCosine(learning_rate=0.2, steps=9, warmup_steps=2, fine_tune_step=4, fine_tune_learning_rate=0.1)
    config = json.loads(json.dumps(keras.saving.serialize_keras_object(schedule)))
    copy = keras.saving.deserialize_keras_object(config)
    assert copy.get_config() == schedule.get_config()
    assert rates(copy, *range(10)) == rates(schedule, *range(10))


def options_of(**given: Any) -> TrainingOptions:
    return resolve({"dataset": "dataset", "model": "mobilenet", "weights": "imagenet", "unfreeze_at": 1, **given})


def schedule_of(*, unfreeze_step: int | None = 2) -> Schedule:
    return Schedule(steps=100, examples_per_epoch=64, batch_size=8, warmup_steps=5, unfreeze_step=unfreeze_step)


def test_the_rate_is_that_of_options_and_schedule() -> None:
    schedule = make_learning_rate(options_of(learning_rate=0.5, fine_tune_learning_rate=0.125), schedule_of())
    assert schedule.get_config() == {
        "learning_rate": 0.5,
        "steps": 100,
        "warmup_steps": 5,
        "fine_tune_step": 2,
        "fine_tune_learning_rate": 0.125,
    }


def values(variables: list[keras.Variable]) -> list[Doubles]:
    return [variable.numpy().astype(np.float64) for variable in variables]


def step_of_ones(optimizer: keras.optimizers.Optimizer, variables: list[keras.Variable]) -> list[Doubles]:
    """Takes a step along gradients of 1 and returns how far each variable moved."""
    before = values(variables)
    apply_gradients(optimizer, [tf.ones(variable.shape) for variable in variables], variables)
    return [after - value for after, value in zip(values(variables), before, strict=True)]


@pytest.fixture
def classifier() -> Classifier:
    return tiny_classifier()


@pytest.mark.parametrize("optimizer_name", ["adamw", "sgd"])
def test_the_head_is_trained_alone_by_an_optimizer_that_knows_all(classifier: Classifier, optimizer_name: str) -> None:
    optimizer = build_optimizer(options_of(optimizer=optimizer_name), schedule_of(), classifier)
    paths = [variable.path for variable in optimizer.variables]
    head = classifier.trainable_variables(False)
    rest = [variable for variable in classifier.model.variables if all(variable is not other for other in head)]
    before = values(rest)
    slots = [slot for slot in optimizer.variables if "/conv_" in slot.path]
    assert slots
    moved = tf.function(lambda: apply_gradients(optimizer, [tf.ones(v.shape) for v in head], head))
    head_before = values(head)
    moved()
    assert all((a != b).all() for a, b in zip(values(head), head_before, strict=True))
    assert all((a == b).all() for a, b in zip(values(rest), before, strict=True))
    assert not any(slot.any() for slot in values(slots))
    step_of_ones(optimizer, classifier.trainable_variables(True))
    assert all(slot.all() for slot in values(slots))
    assert [variable.path for variable in optimizer.variables] == paths
    assert int(optimizer.iterations.numpy()) == 2


def test_a_run_that_never_fine_tunes_has_no_slots_for_the_backbone(classifier: Classifier) -> None:
    optimizer = build_optimizer(options_of(), schedule_of(unfreeze_step=None), classifier)
    assert not [slot.path for slot in optimizer.variables if "conv_" in slot.path]


def test_biases_and_normalisation_do_not_decay() -> None:
    classifier = tiny_classifier(weights="none")
    variables = classifier.trainable_variables(True)
    for variable in variables:
        variable.assign(tf.ones(variable.shape))
    options = options_of(optimizer="sgd", weight_decay=0.5, learning_rate=0.25, warmup_epochs=0.0)
    schedule = Schedule(steps=10, examples_per_epoch=8, batch_size=8, unfreeze_step=5)
    optimizer = build_optimizer(options, schedule, classifier)
    before = values(variables)
    apply_gradients(optimizer, [tf.zeros(variable.shape) for variable in variables], variables)
    decayed = {
        variable.path: float((after - value).flat[0])
        for variable, after, value in zip(variables, values(variables), before, strict=True)
    }
    kernels = {path for path in decayed if path.endswith("kernel")}
    assert len(kernels) == 3
    assert decayed == {path: -0.125 if path in kernels else 0.0 for path in decayed}


def test_late_variables_of_adamw_take_first_steps_of_the_rate_and_not_more(classifier: Classifier) -> None:
    joined = 60
    options = options_of(optimizer="adamw", weight_decay=0.0, learning_rate=0.5, fine_tune_learning_rate=0.125)
    optimizer = build_optimizer(options, schedule_of(unfreeze_step=joined), classifier)
    head = classifier.trainable_variables(False)
    for _ in range(joined):
        step_of_ones(optimizer, head)
    late = classifier.trainable_variables(True)
    for step in range(joined, joined + 3):
        rate = float(make_learning_rate(options, schedule_of(unfreeze_step=joined))(step))
        for moved in step_of_ones(optimizer, late):
            assert moved == pytest.approx(-rate, rel=1e-3)


def test_gradients_are_clipped_by_their_length_together(classifier: Classifier) -> None:
    options = options_of(optimizer="sgd", momentum=0.0, weight_decay=0.0, global_clipnorm=0.5, learning_rate=1.0)
    schedule = Schedule(steps=10, examples_per_epoch=8, batch_size=8)
    optimizer = build_optimizer(options, schedule, classifier)
    moved = step_of_ones(optimizer, classifier.trainable_variables(False))
    assert math.sqrt(sum(float((step**2).sum()) for step in moved)) == pytest.approx(0.5)


def test_float16_scales_the_loss_and_passes_over_steps_that_overflow(classifier: Classifier) -> None:
    options = options_of(dtype_policy="mixed_float16")
    optimizer = build_optimizer(options, schedule_of(), classifier)
    head = classifier.trainable_variables(False)
    assert float(optimizer.scale_loss(2.0)) == 2.0**16
    before = values(head)
    apply_gradients(optimizer, [tf.fill(variable.shape, math.inf) for variable in head], head)
    assert all((a == b).all() for a, b in zip(values(head), before, strict=True))
    assert float(optimizer.scale_loss(2.0)) == 2.0**15
    apply_gradients(optimizer, [tf.ones(variable.shape) for variable in head], head)
    assert not any((a == b).any() for a, b in zip(values(head), before, strict=True))


def softmax_loss(logits: Doubles, target: int, *, smoothing: float) -> float:
    log_p = logits - logits.max() - math.log(np.exp(logits - logits.max()).sum())
    wanted = np.full(len(logits), smoothing / len(logits))
    wanted[target] += 1 - smoothing
    return float(-(wanted * log_p).sum())


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_loss_of_one_label_is_the_cross_entropy_of_the_softmax(smoothing: float) -> None:
    logits = np.random.default_rng(1).normal(0, 4, (6, 11))
    targets = [0, 10, 3, 3, 7, 1]
    losses = example_losses(tf.constant(logits, tf.float32), tf.constant(targets, tf.int64), label_smoothing=smoothing)
    assert losses.dtype == tf.float32
    expected = [softmax_loss(row, target, smoothing=smoothing) for row, target in zip(logits, targets, strict=True)]
    assert losses.numpy() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_loss_of_several_labels_is_the_mean_over_the_classes(smoothing: float) -> None:
    generator = np.random.default_rng(2)
    logits, targets = generator.normal(0, 4, (6, 5)), generator.integers(0, 2, (6, 5))
    losses = example_losses(
        tf.constant(logits, tf.float32), tf.constant(targets), multi_label=True, label_smoothing=smoothing
    )
    p, wanted = 1 / (1 + np.exp(-logits)), targets * (1 - smoothing) + smoothing / 2
    expected = -(wanted * np.log(p) + (1 - wanted) * np.log1p(-p)).mean(axis=1)
    assert losses.dtype == tf.float32
    assert losses.numpy() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_losses_of_far_logits_are_finite_and_so_are_their_gradients(smoothing: float) -> None:
    logits = tf.constant([[3e4, -3e4, 0.0], [-3e4, 3e4, 0.0]], tf.float16)
    with tf.GradientTape() as tape:
        tape.watch(logits)
        one = example_losses(logits, tf.constant([0, 0]), label_smoothing=smoothing)
        several = example_losses(logits, tf.constant([[1, 0, 0]] * 2), multi_label=True, label_smoothing=smoothing)
        losses = tf.concat([one, several], axis=0)
    assert np.isfinite(losses.numpy()).all()
    assert np.isfinite(tape.gradient(losses, logits).numpy()).all()


def test_a_training_run_moves_what_it_should() -> None:
    trained = train(tf.distribute.OneDeviceStrategy("CPU:0"), {"optimizer": "sgd"})
    start = {variable.path: variable.numpy() for variable in tiny_classifier().model.variables}
    still = {path for path, value in start.items() if (np.array(trained[path][0]) == value).all()}
    assert still == {path for path in start if path.startswith("normalisation/")}
    assert trained["sgd/iteration"] == [STEPS]


@pytest.mark.slow
def test_two_replicas_of_half_the_batch_give_the_weights_of_one() -> None:
    command = [sys.executable, "-m", "tests.trainer.replica_training"]
    runs = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    assert runs.keys() == CASES.keys()
    for case, run in runs.items():
        assert run["one"].keys() == run["two"].keys()
        tolerance = 2e-3 if CASES[case].get("dtype_policy") == "mixed_float16" else 1e-6
        for path, (expected,) in run["one"].items():
            first, second = run["two"][path]
            assert np.array_equal(first, second), (case, path)
            assert np.allclose(first, expected, rtol=0, atol=tolerance), (case, path)
