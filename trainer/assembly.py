"""Puts the parts of a run together from its plan: the model and its optimizer, the batches, the loop."""

import functools
from collections.abc import Sequence

import keras
import tensorflow as tf

from beam_pipelines.dataset import VALIDATION
from trainer.checkpoints import Checkpoints, named_variables
from trainer.classifier import Classifier, ModelSpec, build_classifier
from trainer.input_pipeline import InputOptions, evaluation_batches, evaluation_steps, training_batches
from trainer.loop import Feed, Learner, LoopOptions, Trainer
from trainer.optimization import apply_gradients, build_optimizer, example_losses, make_learning_rate
from trainer.preparation import Plan
from trainer.summaries import Summaries
from trainer.training_progress import ProgressLine


def make_learner(plan: Plan, strategy: tf.distribute.Strategy) -> tuple[Classifier, Learner]:
    """Returns the model, with its first weights, and what the loop needs of it; the same on every worker."""
    keras.config.set_dtype_policy(plan.options.dtype_policy)
    with strategy.scope():
        spec = ModelSpec.of(plan.options, width=plan.data.width)
        classifier = build_classifier(spec, labels=len(plan.data.labels), seed=plan.options.seed)
        optimizer = build_optimizer(plan.options, plan.schedule, classifier)
    learner = Learner(
        strategy=strategy,
        model=classifier.model,
        forward=classifier.forward,
        trainable_variables=classifier.trainable_variables,
        optimizer=optimizer,
        learning_rate=make_learning_rate(plan.options, plan.schedule),
        apply_gradients=functools.partial(apply_gradients, optimizer),
        example_losses=functools.partial(
            example_losses, multi_label=plan.data.multi_label, label_smoothing=plan.options.label_smoothing
        ),
        multi_label=plan.data.multi_label,
    )
    return classifier, learner


def make_feed(plan: Plan, devices: Sequence[str]) -> Feed:
    """Returns where this worker's batches come from.

    Args:
        plan: of the run.
        devices: of this worker, each of which is one replica.
    """
    options, workers = plan.options, plan.cluster.workers
    inputs = InputOptions(
        data=plan.data,
        batch_size=options.batch_size // (workers * len(devices)),
        image_size=options.image_size,
        augmentation=options.augmentation,
        class_weight=options.class_weight,
        shuffle_buffer=options.shuffle_buffer,
        seed=options.seed,
        worker=plan.cluster.rank,
        workers=workers,
        replicas=len(devices),
    )
    steps = evaluation_steps(inputs, VALIDATION) if plan.data.validation.total else 0

    def training(step: int) -> tf.data.Dataset:
        return training_batches(inputs, first_example=plan.schedule.examples_at(step) // workers)

    return Feed(
        training=training,
        validation=lambda: evaluation_batches(inputs, VALIDATION, steps=steps),
        validation_steps=steps,
    )


def make_trainer(
    plan: Plan, learner: Learner, feed: Feed, *, checkpoints: Checkpoints, summaries: Summaries
) -> Trainer:
    """Returns the loop, which has not begun."""
    options, run = plan.options, plan.run
    return Trainer(
        learner,
        feed,
        plan.schedule,
        LoopOptions(
            monitor=options.monitor,
            early_stopping_patience=options.early_stopping_patience,
            steps_per_execution=run.steps_per_execution,
            log_every_steps=run.log_every_steps,
            checkpoint_every_steps=run.checkpoint_every_steps,
            checkpoint_every_minutes=run.checkpoint_every_minutes,
        ),
        checkpoints=checkpoints,
        variables=named_variables(model=learner.model.variables, optimizer=learner.optimizer.variables),
        summaries=summaries,
        progress=ProgressLine(shown=plan.cluster.is_chief),
        is_chief=plan.cluster.is_chief,
    )
