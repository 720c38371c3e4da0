"""What training minimises, and how: the loss of each example, the learning rate of each step, the optimizer."""

import math
from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from trainer.classifier import Classifier
from trainer.options import TrainingOptions
from trainer.schedule import Schedule


@keras.saving.register_keras_serializable(package="trainer")
class WarmupCosine(keras.optimizers.schedules.LearningRateSchedule):
    """A learning rate that rises linearly, then falls as half a cosine to 0 at the end of the run.

    Step t of the warm-up, from 0, has the share (t + 1) / warmup_steps. From `fine_tune_step` on the highest rate is
    `fine_tune_learning_rate`, and a new half cosine takes it from there to 0 at the end.
    """

    def __init__(
        self,
        *,
        learning_rate: float,
        steps: int,
        warmup_steps: int = 0,
        fine_tune_step: int | None = None,
        fine_tune_learning_rate: float = 0.0,
    ) -> None:
        self.learning_rate = learning_rate
        self.steps = steps
        self.warmup_steps = warmup_steps
        self.fine_tune_step = fine_tune_step
        self.fine_tune_learning_rate = fine_tune_learning_rate

    def __call__(self, step: Any) -> tf.Tensor:
        """Returns the rate, float32 scalar, of the step that is taken after `step` others."""
        step = tf.cast(step, tf.float32)
        rate = self.learning_rate * self._cosine(step, start=self.warmup_steps)
        if self.fine_tune_step is not None:
            start = max(self.fine_tune_step, self.warmup_steps)
            fine_tune_rate = self.fine_tune_learning_rate * self._cosine(step, start=start)
            rate = tf.where(step < self.fine_tune_step, rate, fine_tune_rate)
        return rate * tf.minimum((step + 1.0) / self.warmup_steps, 1.0) if self.warmup_steps else rate

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments of the constructor."""
        return dict(vars(self))

    def _cosine(self, step: tf.Tensor, *, start: int) -> tf.Tensor:
        """Returns 1 at `start` and before, 0 at the end and after, half a cosine between."""
        share = tf.clip_by_value((step - start) / max(self.steps - start, 1), 0.0, 1.0)
        return 0.5 * (1.0 + tf.cos(math.pi * share))


def make_learning_rate(options: TrainingOptions, schedule: Schedule) -> WarmupCosine:
    """Returns the learning rate of every step of a run."""
    return WarmupCosine(
        learning_rate=options.learning_rate,
        steps=schedule.steps,
        warmup_steps=schedule.warmup_steps,
        fine_tune_step=schedule.unfreeze_step,
        fine_tune_learning_rate=options.fine_tune_learning_rate,
    )


def build_optimizer(options: TrainingOptions, schedule: Schedule, classifier: Classifier) -> keras.optimizers.Optimizer:
    """Builds the optimizer inside the `tf.distribute` scope that the caller has opened.

    It has the slots of all that the run will ever train from the start, so that its checkpoints have one structure.
    Biases and the scales and offsets of normalisation, which are all variables of one dimension, do not decay. With
    `mixed_float16` it scales the loss and passes over steps whose gradients are not finite.

    Args:
        options: of training.
        schedule: of the run.
        classifier: whose variables it trains.
    """
    head = classifier.trainable_variables(False)
    unfreeze_step = schedule.unfreeze_step
    variables = head if unfreeze_step is None else classifier.trainable_variables(True)
    shared: dict[str, Any] = {
        "learning_rate": make_learning_rate(options, schedule),
        "weight_decay": options.weight_decay,
        "global_clipnorm": options.global_clipnorm or None,
        "name": options.optimizer,
    }
    optimizer: keras.optimizers.Optimizer
    if options.optimizer == "sgd":
        optimizer = _SGD(momentum=options.momentum, nesterov=options.momentum > 0, **shared)
    else:
        optimizer = _AdamW(**shared)
        optimizer.join_late(variables[: len(variables) - len(head)], step=unfreeze_step or 0)
    optimizer.exclude_from_weight_decay(var_list=[variable for variable in variables if len(variable.shape) < 2])
    if options.dtype_policy == "mixed_float16":
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer, name="loss_scale")
    optimizer.build(variables)
    return optimizer


def apply_gradients(
    optimizer: keras.optimizers.Optimizer, gradients: Sequence[tf.Tensor], variables: Sequence[keras.Variable]
) -> None:
    """Takes a step along the sum of all replicas' gradients; to be called in replica context.

    They are added up here, once, before they are clipped: Keras would clip those of each replica, and then add up.

    Args:
        optimizer: as `build_optimizer` gives it.
        gradients: of this replica's share of the loss, times the loss scale (`optimizer.scale_loss`).
        variables: some of those that the optimizer was built with.
    """
    context = tf.distribute.get_replica_context()
    optimizer.apply(context.all_reduce(tf.distribute.ReduceOp.SUM, list(gradients)), list(variables))


class _SummedBefore:
    """An optimizer whose gradients `apply_gradients` has added up over all replicas."""

    def _all_reduce_sum_gradients(self, grads_and_vars: Any) -> list[Any]:
        return list(grads_and_vars)


class _SGD(_SummedBefore, keras.optimizers.SGD):
    """Stochastic gradient descent with momentum."""


class _AdamW(_SummedBefore, keras.optimizers.AdamW):
    """AdamW that corrects the bias of its moments by the steps that each variable was trained for.

    Keras corrects by the steps of the run. Variables that join when the head has been trained for many would move up to
    6.5 times too far at first.
    """

    def join_late(self, variables: Sequence[keras.Variable], *, step: int) -> None:
        """Tells which variables are first trained when `step` steps were taken."""
        self._late = {self._var_key(variable) for variable in variables} if step else set()
        self._late_step = step

    def update_step(self, gradient: tf.Tensor, variable: tf.Variable, learning_rate: tf.Tensor) -> None:
        """Trains one variable."""
        if self._var_key(variable) in self._late:
            steps = tf.cast(self.iterations + 1, variable.dtype)
            own_steps = tf.maximum(steps - self._late_step, 1.0)
            learning_rate = learning_rate * self._correction(own_steps) / self._correction(steps)
        super().update_step(gradient, variable, learning_rate)

    def _correction(self, steps: tf.Tensor) -> tf.Tensor:
        return tf.sqrt(1.0 - tf.pow(self.beta_2, steps)) / (1.0 - tf.pow(self.beta_1, steps))


def example_losses(
    logits: tf.Tensor, targets: tf.Tensor, *, multi_label: bool = False, label_smoothing: float = 0.0
) -> tf.Tensor:
    """Returns the loss of each example, float32 [batch].

    Args:
        logits: float [batch, classes].
        targets: int [batch], for the cross-entropy of the softmax; or if `multi_label` 0 or 1 of any dtype
            [batch, classes], for the mean over the classes of the cross-entropies of their sigmoids.
        multi_label: whether an example may have several labels.
        label_smoothing: part of the target that is spread over all classes; over yes and no if `multi_label`.
    """
    logits = tf.cast(logits, tf.float32)
    if multi_label:
        smoothed = tf.cast(targets, tf.float32) * (1.0 - label_smoothing) + 0.5 * label_smoothing
        return tf.reduce_mean(tf.nn.sigmoid_cross_entropy_with_logits(smoothed, logits), axis=-1)
    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(targets, logits)
    if not label_smoothing:
        return losses
    # The cross-entropy with the uniform distribution is logsumexp - mean; with the target it is logsumexp - logit.
    spread = tf.reduce_logsumexp(logits, axis=-1) - tf.reduce_mean(logits, axis=-1)
    return (1.0 - label_smoothing) * losses + label_smoothing * spread
