"""Trains a tiny model on one replica or on two of half the batch each: `python -m tests.trainer.replica_training`.

Prints, as JSON, every variable of the model and of the optimizer after each run. Two replicas need two logical devices,
which can only be made before TensorFlow makes its first tensor.
"""

import itertools
import json
import sys
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from trainer.classifier import Classifier, ModelSpec, put_head_on
from trainer.optimization import apply_gradients, build_optimizer, example_losses
from trainer.options import resolve
from trainer.schedule import Schedule

CLASSES = 3
BATCH_SIZE = 8
STEPS = 6
UNFREEZE_STEP = 2

CASES: dict[str, dict[str, Any]] = {
    "adamw": {"optimizer": "adamw"},
    "sgd": {"optimizer": "sgd"},
    "clipped": {"optimizer": "sgd", "global_clipnorm": 0.05},
    "scaled": {"optimizer": "sgd", "dtype_policy": "mixed_float16"},
    "from_scratch": {"optimizer": "sgd", "weights": "none"},
}


def tiny_classifier(*, unfreeze_layers: int = 0, weights: str = "imagenet", dropout: float = 0.0) -> Classifier:
    """Builds a classifier on pictures of 4 pixels, with a backbone of two convolutions and a normalisation between."""
    pixels = keras.Input((4, 4, 3), name="pixels")
    outputs = keras.layers.Rescaling(1 / 255, name="rescaling")(pixels)
    for number in (1, 2):
        initializer = keras.initializers.GlorotUniform(seed=number)
        outputs = keras.layers.Conv2D(5, 3, kernel_initializer=initializer, padding="same", name=f"conv_{number}")(
            outputs
        )
        if number == 1:
            outputs = keras.layers.BatchNormalization(name="normalisation", momentum=0.99)(outputs)
    vector = keras.layers.GlobalAveragePooling2D(name="pooling")(outputs)
    backbone = keras.Model(pixels, vector, name="tiny")
    spec = ModelSpec(name="tiny", weights=weights, image_size=4, dropout=dropout, unfreeze_layers=unfreeze_layers)
    return put_head_on(backbone, spec, labels=CLASSES, seed=7)


def train(strategy: tf.distribute.Strategy, given: dict[str, Any]) -> dict[str, Any]:
    """Trains a few steps, the head first, and returns the values of all variables by path."""
    options = resolve(
        {"dataset": "dataset", "model": "mobilenet", "weights": "imagenet", "unfreeze_at": 1, "weight_decay": 0.1}
        | {"learning_rate": 0.01, "fine_tune_learning_rate": 0.005}
        | given
    )
    schedule = Schedule(
        steps=STEPS, examples_per_epoch=16, batch_size=BATCH_SIZE, warmup_steps=1, unfreeze_step=UNFREEZE_STEP
    )
    with strategy.scope():
        classifier = tiny_classifier(weights=given.get("weights", "imagenet"))
        optimizer = build_optimizer(options, schedule, classifier)

    def replica_step(images: tf.Tensor, targets: tf.Tensor, fine_tuning: bool) -> None:
        variables = classifier.trainable_variables(fine_tuning)
        with tf.GradientTape() as tape:
            logits = classifier.forward(images, training=True, fine_tuning=fine_tuning)
            loss = tf.reduce_sum(example_losses(logits, targets)) / BATCH_SIZE
            scaled = optimizer.scale_loss(loss)
        apply_gradients(optimizer, tape.gradient(scaled, variables), variables)

    @tf.function
    def step(images: Any, targets: Any, fine_tuning: bool) -> None:
        strategy.run(replica_step, args=(images, targets, fine_tuning))

    generator = np.random.default_rng(5)
    for number in range(STEPS):
        images = generator.uniform(0, 255, (BATCH_SIZE, 4, 4, 3)).astype(np.float32)
        targets = generator.integers(0, CLASSES, BATCH_SIZE)
        step(_parted(strategy, images), _parted(strategy, targets), number >= UNFREEZE_STEP)
    variables = [*classifier.model.variables, *optimizer.variables]
    return {variable.path: _values(strategy, variable) for variable in variables}


def _parted(strategy: tf.distribute.Strategy, batch: Any) -> Any:
    share = len(batch) // strategy.num_replicas_in_sync

    def part(context: Any) -> tf.Tensor:
        start = context.replica_id_in_sync_group * share
        return tf.constant(batch[start : start + share])

    return strategy.experimental_distribute_values_from_function(part)


def _values(strategy: tf.distribute.Strategy, variable: keras.Variable) -> list[Any]:
    """Returns the variable's value on each replica."""
    return [value.numpy().tolist() for value in strategy.experimental_local_results(variable.value)]


def main() -> None:
    """Trains every case on one device and on two."""
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    strategies = {
        "one": tf.distribute.OneDeviceStrategy("CPU:0"),
        "two": tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]),
    }
    runs: dict[str, Any] = {}
    for (case, given), (name, strategy) in itertools.product(CASES.items(), strategies.items()):
        keras.config.set_dtype_policy(given.get("dtype_policy", "float32"))
        runs.setdefault(case, {})[name] = train(strategy, given)
    json.dump(runs, sys.stdout)


if __name__ == "__main__":
    main()
