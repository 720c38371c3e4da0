"""What to measure the trainer against: the same model on the same data, with the same options.

  fit       Keras' own `model.fit` on a `tf.data` pipeline, as Keras' guides write both
  repeated  the trainer's loop on one batch that is given again and again
  input     the trainer's batches, thrown away

Options that are not its own are the trainer's. The moments at which steps were done are left in --marks.
"""

import dataclasses
import os
import pathlib
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from beam_pipelines.commands import native_messages_held_back
from benchmarks.command import make_parser
from benchmarks.train_marks import Mark, write_marks

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
with native_messages_held_back():
    import keras
    import tensorflow as tf

    from trainer import assembly, strategy

from trainer.arguments import parse_arguments
from trainer.checkpoints import Checkpoints
from trainer.classifier import ModelSpec, build_classifier
from trainer.cluster import resolve_cluster
from trainer.data_files import IMAGES, TrainingData
from trainer.options import TrainingOptions
from trainer.pixels import decode_and_resize
from trainer.preemption import noted_signals
from trainer.preparation import Plan, make_plan
from trainer.run_directory import begin_run
from trainer.summaries import Summaries


class Marks:
    """Notes moments."""

    def __init__(self) -> None:
        self.noted: list[Mark] = []

    def note(self, step: int) -> None:
        """Notes that so many steps are done."""
        self.noted.append(Mark(step=step, wall=time.perf_counter(), cpu=time.process_time()))


def fit(plan: Plan, marks: Marks) -> None:
    """Trains with Keras; a backbone is frozen."""
    options = plan.options
    spec = ModelSpec.of(options, width=plan.data.width)
    classifier = build_classifier(spec, labels=len(plan.data.labels), seed=options.seed)
    if classifier.backbone:
        classifier.backbone.trainable = False
    model = classifier.model
    model.compile(
        optimizer=keras.optimizers.AdamW(options.learning_rate, weight_decay=options.weight_decay),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=[
            keras.metrics.SparseCategoricalAccuracy(name="accuracy"),
            keras.metrics.SparseTopKCategoricalAccuracy(k=5, name="recall_at_5"),
        ],
        steps_per_execution=plan.run.steps_per_execution,
    )
    noting = keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: marks.note(batch + 1))
    model.fit(keras_batches(plan.data, options), steps_per_epoch=options.steps, verbose=2, callbacks=[noting])


def keras_batches(data: TrainingData, options: TrainingOptions) -> tf.data.Dataset:
    """Returns endless batches of inputs and targets, as https://keras.io and tensorflow.org/guide/data read TFRecords.

    The pixels are made as the trainer makes them.
    """
    records = (
        tf.data.Dataset.from_tensor_slices(list(data.train.paths))
        .shuffle(len(data.train.paths))
        .interleave(tf.data.TFRecordDataset, num_parallel_calls=tf.data.AUTOTUNE, deterministic=False)
        .shuffle(options.shuffle_buffer)
        .repeat()
    )
    is_images = data.kind == IMAGES
    features = {
        data.layout.inputs: tf.io.FixedLenFeature(
            [] if is_images else [data.width], tf.string if is_images else tf.float32
        ),
        data.layout.label: tf.io.FixedLenFeature([], tf.int64),
    }

    def read_picture(record: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        example = tf.io.parse_single_example(record, features)
        return decode_and_resize(example[data.layout.inputs], options.image_size), example[data.layout.label]

    def read_embeddings(batch: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        examples = tf.io.parse_example(batch, features)
        return examples[data.layout.inputs], examples[data.layout.label]

    if is_images:
        batches = records.map(read_picture, tf.data.AUTOTUNE).batch(options.batch_size, drop_remainder=True)
    else:
        batches = records.batch(options.batch_size, drop_remainder=True).map(read_embeddings, tf.data.AUTOTUNE)
    return batches.prefetch(tf.data.AUTOTUNE)


def repeated(plan: Plan, marks: Marks) -> None:
    """Trains as the trainer does, on its first batch alone."""
    devices = _devices(plan)
    distribution = strategy.make_strategy(plan.cluster, devices, strategy=plan.run.strategy)
    _, learner = assembly.make_learner(plan, distribution)
    feed = assembly.make_feed(plan, devices)
    batch = next(iter(feed.training(0)))
    feed = dataclasses.replace(feed, training=lambda step: tf.data.Dataset.from_tensors(batch).repeat())
    run = begin_run(plan.run.output, plan.options, plan.data)
    checkpoints = Checkpoints(run.checkpoints, keep=1)
    with noted_signals() as request, _MarkedSummaries(marks, run) as summaries:
        assembly.make_trainer(plan, learner, feed, checkpoints=checkpoints, summaries=summaries).run(request)


def take_input(plan: Plan, marks: Marks) -> None:
    """Takes the batches of all steps."""
    batches = assembly.make_feed(plan, _devices(plan)).training(0)
    for number, _ in enumerate(batches.take(plan.schedule.steps), start=1):
        marks.note(number)


LOOPS: dict[str, Callable[[Plan, Marks], None]] = {"fit": fit, "repeated": repeated, "input": take_input}


class _MarkedSummaries(Summaries):
    """Notes the moments at which figures are written, besides writing them."""

    def __init__(self, marks: Marks, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._marks = marks

    def write(self, step: int, *, epoch: int, train: Mapping[str, float], validation: Mapping[str, float]) -> None:
        super().write(step, epoch=epoch, train=train, validation=validation)
        self._marks.note(step)


def _devices(plan: Plan) -> list[str]:
    return strategy.prepare_devices(plan.run.device, strategy=plan.run.strategy)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one loop; returns 0."""
    parser = make_parser("benchmarks.train_loops", __doc__)
    parser.add_argument("loop", choices=list(LOOPS))
    parser.add_argument("--marks", type=pathlib.Path, required=True, help="file to leave moments in")
    own, of_trainer = parser.parse_known_args(arguments)
    options, run = parse_arguments(of_trainer)
    marks = Marks()
    LOOPS[own.loop](make_plan(options, run, resolve_cluster({}, strategy=run.strategy)), marks)
    write_marks(own.marks, marks.noted)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
