"""Metrics as sums, which add up over batches, replicas and workers to the figures of the whole, exactly.

Every sum is a scalar of 64 bits: counts are exact beyond the 2^24 at which float32 stops counting.
"""

from collections.abc import Mapping

import tensorflow as tf

EXAMPLES = "examples"
LOSS = "loss"
CORRECT = "correct"
TOP_FIVE = "in_top_five"

# How many classes recall at 5 looks at.
_K = 5

Sums = dict[str, tf.Tensor]


def zero_sums() -> Sums:
    """Returns the sums of no example; their names, shapes and dtypes are those of all others."""
    return {
        EXAMPLES: tf.zeros([], tf.int64),
        LOSS: tf.zeros([], tf.float64),
        CORRECT: tf.zeros([], tf.int64),
        TOP_FIVE: tf.zeros([], tf.float64),
    }


def add_sums(first: Sums, second: Sums) -> Sums:
    """Returns the sums of the examples of both."""
    return {name: first[name] + second[name] for name in first}


def metric_sums(
    losses: tf.Tensor, logits: tf.Tensor, targets: tf.Tensor, *, mask: tf.Tensor | None = None, multi_label: bool
) -> Sums:
    """Returns the sums of a batch.

    A class ranks before another of the same logit if its id is smaller. Examples with a NaN among their logits are
    counted, and never right.

    Args:
        losses: float32 [batch], as `optimization.example_losses` gives them; counted as they are.
        logits: float [batch, classes], of any number of classes.
        targets: int [batch], or if `multi_label` 0 or 1 of any dtype [batch, classes].
        mask: bool or 0 and 1 [batch]; examples without it are not counted, whatever they hold. All count by default.
        multi_label: an example is right if the first class is one of its labels, and its part in recall at 5 is the
            share of its labels among the first five; without any label it is never right.

    Returns:
        Scalars: `examples` and `correct` int64, `loss` and `in_top_five` float64.
    """
    ranked = _ranked_classes(logits)
    hits = _multi_label_hits(ranked, targets) if multi_label else _hits(ranked, targets)
    sane = tf.logical_not(tf.reduce_any(tf.math.is_nan(logits), axis=-1))
    counted = tf.ones_like(sane) if mask is None else tf.cast(mask, tf.bool)
    first, share = (tf.where(counted & sane, hit, tf.zeros_like(hit)) for hit in hits)
    losses = tf.where(counted, tf.cast(losses, tf.float64), tf.zeros([], tf.float64))
    return {
        EXAMPLES: tf.reduce_sum(tf.cast(counted, tf.int64)),
        LOSS: tf.reduce_sum(losses),
        CORRECT: tf.reduce_sum(tf.cast(first, tf.int64)),
        TOP_FIVE: tf.reduce_sum(share),
    }


def results(sums: Mapping[str, tf.Tensor]) -> dict[str, float]:
    """Returns `loss`, `accuracy` and `recall_at_5`, each the mean of the examples; NaN if there are none."""
    examples = int(sums[EXAMPLES])
    names = {"loss": LOSS, "accuracy": CORRECT, "recall_at_5": TOP_FIVE}
    return {name: float(sums[key]) / examples if examples else float("nan") for name, key in names.items()}


def _ranked_classes(logits: tf.Tensor) -> tf.Tensor:
    """Returns the ids, int32 [batch, at most 5], of the classes of the highest logits, ties by id."""
    return tf.math.top_k(logits, k=min(_K, logits.shape[-1])).indices


def _hits(ranked: tf.Tensor, targets: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns whether the first class is the target, and whether any is: float64 [batch] each, 0 or 1."""
    hits = tf.cast(tf.equal(ranked, tf.cast(targets, ranked.dtype)[:, tf.newaxis]), tf.float64)
    return hits[:, 0], tf.reduce_sum(hits, axis=-1)


def _multi_label_hits(ranked: tf.Tensor, targets: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns whether the first class is a label, and the share of the labels that is there: float64 [batch] each."""
    targets = tf.cast(targets, tf.float64)
    hits = tf.gather(targets, ranked, axis=-1, batch_dims=1)
    return hits[:, 0], tf.math.divide_no_nan(tf.reduce_sum(hits, axis=-1), tf.reduce_sum(targets, axis=-1))
