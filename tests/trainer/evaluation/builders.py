"""What several tests of evaluation build: scored batches, and the figures of them."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainer.evaluation.figures import Evaluation
from trainer.evaluation.metrics import ScoredBatch, Tally

Array = NDArray[Any]


def names(classes: int) -> tuple[str, ...]:
    return tuple(f"class {number}" for number in range(classes))


def batches(
    targets: Array,
    logits: Array,
    *,
    losses: Array | None = None,
    keys: Sequence[str] | None = None,
    features: Array | None = None,
    size: int = 3,
) -> list[ScoredBatch]:
    """Cuts examples into batches of `size`."""
    examples = len(targets)
    keys = [f"picture {number}" for number in range(examples)] if keys is None else keys
    losses = np.zeros(examples) if losses is None else losses
    starts = range(0, examples, size)
    return [
        ScoredBatch(
            place=start,
            keys=tuple(keys[start : start + size]),
            targets=targets[start : start + size],
            logits=logits[start : start + size].astype(np.float32),
            losses=losses[start : start + size].astype(np.float32),
            features=None if features is None else features[start : start + size].astype(np.float32),
        )
        for start in starts
    ]


def new_tally(labels: Sequence[str], *, multi_label: bool = False, examples: int = 1_000, **sizes: int) -> Tally:
    return Tally(
        labels, multi_label=multi_label, examples=examples, **{"mistakes": 5, "sample": 3, "vectors": 0, **sizes}
    )


def evaluation_of(tally: Tally) -> Evaluation:
    return tally.evaluation(run="run", model="head", checkpoint="best", step=7, data="data", split="validation")[0]


def evaluated(targets: Array, logits: Array, *, size: int = 3, losses: Array | None = None, **sizes: int) -> Evaluation:
    """Returns the figures of examples whose classes have the names of `names`."""
    labels = names(logits.shape[1])
    with new_tally(labels, multi_label=targets.ndim == 2, examples=len(targets), **sizes) as tally:
        for batch in batches(targets, logits, losses=losses, size=size):
            tally.add(batch)
        return evaluation_of(tally)
