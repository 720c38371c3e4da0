"""The pass of a classifier over a split, in its own order, every example once."""

from collections.abc import Callable, Iterator, Mapping

import numpy as np
import tensorflow as tf

from trainer.classifier import Classifier
from trainer.data_files import TrainingData
from trainer.evaluation.metrics import ScoredBatch
from trainer.input_pipeline import InputOptions, evaluation_batches, evaluation_steps
from trainer.optimization import example_losses
from trainer.options import HEAD, TrainingOptions

Scores = Mapping[str, tf.Tensor]


def scored_batches(
    classifier: Classifier, data: TrainingData, split: str, *, options: TrainingOptions, batch_size: int = 0
) -> Iterator[ScoredBatch]:
    """Yields all examples of a split with what the classifier gives them; the loss is that of training.

    Args:
        classifier: as `restore_classifier` gives it.
        data: what it is evaluated on.
        split: `train` or `validation`.
        options: of its training.
        batch_size: examples at a time; 0 for that of training.

    Raises:
        tf.errors.OpError: an example cannot be read.
    """
    inputs = InputOptions(data=data, batch_size=batch_size or options.batch_size, image_size=options.image_size)
    score = _scorer(classifier, multi_label=data.multi_label, label_smoothing=options.label_smoothing)
    place = 0
    for batch in evaluation_batches(inputs, split, steps=evaluation_steps(inputs, split)):
        scored = {name: value.numpy() for name, value in score(batch).items()}
        rows = batch["mask"].numpy() > 0
        keys = tuple(map(_text, batch["key"].numpy()[rows]))
        yield ScoredBatch(
            place=place,
            keys=keys,
            targets=batch["targets"].numpy()[rows],
            logits=scored["logits"][rows],
            losses=scored["losses"][rows],
            features=scored["features"][rows] if "features" in scored else None,
        )
        place += int(np.count_nonzero(rows))


def _text(key: bytes) -> str:
    try:
        return key.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:  # of other programs
        return key.decode("utf-8", "replace")


def _scorer(classifier: Classifier, *, multi_label: bool, label_smoothing: float) -> Callable[[Scores], Scores]:
    @tf.function
    def score(batch: Scores) -> Scores:
        features, logits = _features_and_logits(classifier, batch["inputs"])
        losses = example_losses(logits, batch["targets"], multi_label=multi_label, label_smoothing=label_smoothing)
        scored = {"logits": logits, "losses": losses}
        return scored if features is None else {**scored, "features": tf.cast(features, tf.float32)}

    compiled: Callable[[Scores], Scores] = score
    return compiled


def _features_and_logits(classifier: Classifier, inputs: tf.Tensor) -> tuple[tf.Tensor | None, tf.Tensor]:
    """Returns what the layers of the head get, if it is a vector, and what they make of it; as `classifier.model`."""
    if classifier.backbone is not None:
        features = classifier.backbone(inputs, training=False)
        return features, classifier.head(features, training=False)
    logits = classifier.model(inputs, training=False)
    return (inputs if classifier.spec.name == HEAD else None), logits
