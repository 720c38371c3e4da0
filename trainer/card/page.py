"""The page of a model, `model_card.html`: what it is, how to use it, what it was made of, how good it is; one file.

Everything that the page shows is computed here and in the modules beside it; `templates/model_card.html` only lays it
out. Imports no TensorFlow.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

from beam_pipelines.dataset import TRAIN, VALIDATION
from beam_pipelines.pages import render_page
from beam_pipelines.picture_lookup import Picture
from trainer.card.configuration import chosen_options, versions_table
from trainer.card.data_set import DataFacts
from trainer.card.evaluated import Evaluated
from trainer.card.limits import is_own_split, limits
from trainer.card.optional import optional
from trainer.data_files import EMBEDDINGS
from trainer.evaluation.confusion import most_confused, shown_matrix
from trainer.evaluation.figures import Evaluation, Judged
from trainer.evaluation.page import (
    SHADES,
    Rate,
    calibration_chart,
    class_rows,
    confidence,
    confusion_rows,
    grid,
    headline,
    option_text,
    outcome,
    pixels,
    tile,
)
from trainer.models import BACKBONES, IMAGENET
from trainer.saved_run import SavedRun

_MOST_CONFUSED = 10
_MOST_NAMED = 12
_SCROLLED_CLASSES = 24


@dataclasses.dataclass(frozen=True, kw_only=True)
class Card:
    """What is known of a model.

    Attributes:
        saved: the run that it comes from.
        step: of its checkpoint.
        info: what `assets/model.json` has, or a part of it.
        size: of its files, bytes.
        data: that it was trained on.
        evaluated: how good it is.
        metrics: of validation while training, by name, for where there is no evaluation.
        sample: pictures of the data of which the model says nothing, for where there is no evaluation.
        pictures: by key, those of all examples that could be had.
    """

    saved: SavedRun
    step: int
    info: Mapping[str, Any]
    size: int
    data: DataFacts
    evaluated: Evaluated = dataclasses.field(default_factory=Evaluated)
    metrics: Mapping[str, float] = dataclasses.field(default_factory=dict)
    sample: tuple[Judged, ...] = ()
    pictures: Mapping[str, Picture] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, kw_only=True)
class CardRow:
    """A class: its examples in each column, None for those not known, and its rates, none without an evaluation."""

    number: int
    label: str
    counts: list[int | None]
    rates: list[Rate]


def render_card(card: Card) -> str:
    """Returns the page; the same values give the same page."""
    saved, evaluation = card.saved, card.evaluated.evaluation
    matrix = shown_matrix(evaluation) if evaluation else None
    options = saved.options.to_json()
    chosen = optional("which options are not the default", lambda: chosen_options(saved.options)) or {}
    stages, versions = versions_table(_versions(card))
    rows = card_rows(saved.labels, card.data, evaluation)
    return render_page(
        "model_card.html",
        package="trainer",
        run_name=saved.directory.path.rstrip("/").rsplit("/", 1)[-1],
        model=saved.options.model,
        network=network(card),
        backbone=_backbone(card) if saved.kind == EMBEDDINGS else "",
        labels=saved.labels,
        multi_label=saved.multi_label,
        step=card.step,
        checkpoint=str(card.info.get("checkpoint", "")),
        monitor=saved.options.monitor,
        image_size=_whole(card.info.get("image_size")) or saved.options.image_size,
        embedding=_mapping(card.info.get("embedding")),
        size=file_size(card.size),
        data=card.data,
        evaluation=evaluation,
        is_own_split=evaluation is not None and is_own_split(card.data, evaluation),
        other_step=card.evaluated.other_step,
        metrics=card.metrics,
        limits=limits(card.data, evaluation, saved),
        headline=headline(evaluation) if evaluation else [],
        outcome=outcome(evaluation) if evaluation else [],
        matrix=matrix,
        grid=grid(matrix) if matrix and matrix.is_named else [],
        pixels=pixels(matrix) if matrix and not matrix.is_named else None,
        confusions=confusion_rows(most_confused(evaluation, _MOST_CONFUSED)) if evaluation else [],
        calibration=calibration_chart(evaluation.calibration) if evaluation else [],
        confidence=confidence(evaluation.calibration) if evaluation else None,
        shades=SHADES,
        columns=columns(card.data, evaluation),
        classes=rows,
        named=[row.label for row in rows[:_MOST_NAMED]],
        is_scrolled=len(saved.labels) > _SCROLLED_CLASSES,
        right=_tiles(card.evaluated.right, card.pictures),
        mistakes=_tiles(card.evaluated.mistakes, card.pictures),
        sample=_tiles(card.sample, card.pictures),
        chosen={name: option_text(value) for name, value in chosen.items()},
        options={name: option_text(value) for name, value in options.items() if name not in chosen},
        stages=stages,
        versions=versions,
    )


def network(card: Card) -> str:
    """Returns what the model is made of, in a few words."""
    options = card.saved.options
    if card.saved.kind == EMBEDDINGS:
        backbone = _backbone(card)
        return f"of dense layers, on {backbone} as it was" if backbone else "of dense layers, on embeddings"
    if options.model not in BACKBONES:
        return "a small convolutional network, trained from the beginning"
    begun = {IMAGENET: "ImageNet weights", "none": "random weights"}.get(options.weights, "weights of another training")
    frozen = ", which were left as they were" if options.unfreeze_at is None else ""
    return f"from {begun}{frozen}, with a head of dense layers"


def _backbone(card: Card) -> str:
    """Returns the backbone that made the embeddings; empty if it is not known."""
    recorded = _mapping(card.info.get("embedding")).get("backbone")
    return str(recorded or (card.data.embeddings.backbone if card.data.embeddings else ""))


def columns(data: DataFacts, evaluation: Evaluation | None) -> list[str]:
    """Returns what is counted of each class: first the examples of the evaluation, which the matrix is read with."""
    splits = [TRAIN, VALIDATION] if data.counts else []
    if evaluation is None:
        return splits
    tested = evaluation.split if is_own_split(data, evaluation) else "tested"
    return [tested, *(split for split in splits if split != tested)]


def card_rows(labels: Sequence[str], data: DataFacts, evaluation: Evaluation | None) -> list[CardRow]:
    """Returns the classes, the commonest of the first column first, those as common by id."""
    rated = {row.number: row for row in class_rows(evaluation)} if evaluation else {}
    names = columns(data, evaluation)
    rows = []
    for number, label in enumerate(labels):
        counts: list[int | None] = [data.counts[name].get(label, 0) if name in data.counts else None for name in names]
        if number in rated:
            counts[0] = rated[number].examples
        rows.append(CardRow(number=number, label=label, counts=counts, rates=rated[number].rates if rated else []))
    return sorted(rows, key=lambda row: -(row.counts[0] or 0) if row.counts else 0)


def file_size(count: int) -> str:
    """Returns a number of bytes for people: `3.7 MB`; empty for none."""
    if not count:
        return ""
    power = min(int(math.log10(count)) // 3, 4)
    unit = ("bytes", "kB", "MB", "GB", "TB")[power]
    value = count / 1000**power
    return f"{value:.0f} {unit}" if power == 0 or value >= 100 else f"{value:.1f} {unit}"


def _versions(card: Card) -> dict[str, Mapping[str, str]]:
    exported = {str(name): str(version) for name, version in _mapping(card.info.get("versions")).items()}
    made = "embeddings" if card.data.embeddings else "data set"
    return {made: card.data.versions, "training": card.saved.versions, "export": exported}


def _tiles(examples: Sequence[Judged], pictures: Mapping[str, Picture]) -> list[Any]:
    return [tile(judged, pictures) for judged in examples if judged.key in pictures]


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _whole(value: Any) -> int:
    return value if isinstance(value, int) else 0
