"""What people look at of a data set of embeddings: `report.html` with a projection, and TensorBoard's files.

Everything that the page shows is computed here; `templates/embeddings.html` only lays it out.
"""

import base64
import collections
import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from beam_pipelines import files
from beam_pipelines.dataset import REPORT_FILE, Shard
from beam_pipelines.embedding import normalization
from beam_pipelines.embedding.options import Z_SCORE
from beam_pipelines.embedding.projection import Projection, project
from beam_pipelines.embedding.samples import Sample, read_samples
from beam_pipelines.plan_files import PlanFiles, read_account
from beam_pipelines.projector import write_projector
from beam_pipelines.reason_examples import as_dropped, merge_examples
from beam_pipelines.rejects import Dropped
from beam_pipelines.report.page import shared_values
from beam_pipelines.report.texts import clipped
from beam_pipelines.sprite import Sprite, Tile, draw_sprite

# Of the projection's chart, width to height; the same in embeddings.css.
ASPECT = 4 / 3
COLOURS = 8

_PROJECTOR_DIRECTORY = "projector"
_MARGIN = 1.06
_MAX_SPRITE_BYTES = 3_600_000
_MAX_SHOWN_CHARACTERS = 80
_OTHER = "other"


def publish_projection(plan: PlanFiles, shards: Sequence[Shard], info: dict[str, Any], *, output: str) -> None:
    """Writes `projector/` and `report.html`.

    Args:
        plan: of the data set, with the accounts of its shards and their samples, as far as there are any.
        shards: all of the data set.
        info: what `dataset_info.json` has.
        output: the data set directory, on any file system, with its transform graph.
    """
    samples, vectors = read_samples(plan, shards, width=info["backbone"]["width"])
    if samples and info["normalize"] == Z_SCORE:
        vectors = normalization.load(output)(vectors)
    finite = np.flatnonzero(np.isfinite(vectors).all(axis=1))
    samples, vectors = [samples[place] for place in finite], vectors[finite]
    sprite = draw_sprite([sample.thumbnail for sample in samples]) if samples else None
    directory = files.join(output, _PROJECTOR_DIRECTORY)
    files.remove_tree(directory)
    if sprite:
        write_projector(_metadata(samples), vectors, sprite, directory=directory)
    page = render_report(info, examples=_examples(plan, shards), samples=samples, vectors=vectors, sprite=sprite)
    files.write_bytes(files.join(output, REPORT_FILE), page.encode())


def render_report(
    info: Mapping[str, Any],
    *,
    examples: Mapping[str, Sequence[Dropped]],
    samples: Sequence[Sample],
    vectors: normalization.Vectors,
    sprite: Sprite | None,
) -> str:
    """Returns the page; the same values give the same page.

    Args:
        info: what `dataset_info.json` has.
        examples: a few pictures of each reason, in the order in which they are shown.
        samples: pictures of the projection.
        vectors: of the samples, normalised and finite, float32 [samples, width].
        sprite: of the samples' small pictures; None where there is no sample.
    """
    from beam_pipelines.pages import render_page

    return render_page(
        "embeddings.html",
        **shared_values(info, examples),
        scatter=scatter(samples, project(vectors), sprite.tiles) if sprite else None,
        sprite=base64.b64encode(sprite.as_jpeg(max_bytes=_MAX_SPRITE_BYTES)).decode() if sprite else "",
        projector=_PROJECTOR_DIRECTORY,
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Point:
    """A picture in the chart.

    Attributes:
        x: percent of the chart's width, from the left.
        y: percent of its height, from the top.
        colour: a name of the style sheet's.
        classes: the ranks of its classes.
        label: its classes, to read.
        tile: where its small picture lies in the sprite.
    """

    x: float
    y: float
    colour: str
    classes: list[int]
    key: str
    label: str
    split: str
    tile: Tile


@dataclasses.dataclass(frozen=True, kw_only=True)
class ShownClass:
    """A class of the sample: its place among them, the commonest first from 0, and its pictures there."""

    rank: int
    label: str
    count: int
    colour: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scatter:
    """The chart of a projection; a unit of either axis is as long as one of the other.

    Attributes:
        points: those of coloured classes last, so that they lie on top.
        classes: all of the sample.
        coloured: the commonest of them.
        others: pictures of none of those.
        origin: where both components are 0, in percent as in `Point`.
        explained: the share of the variance along the lying and the upright axis.
    """

    points: list[Point]
    classes: list[ShownClass]
    coloured: list[ShownClass]
    others: int
    origin: tuple[float, float]
    explained: tuple[float, float]


def scatter(samples: Sequence[Sample], projection: Projection, tiles: Sequence[Tile]) -> Scatter:
    """Returns the chart of samples, the projection of their vectors, and the tiles of their small pictures."""
    classes = shown_classes(samples)
    by_label = {shown.label: shown for shown in classes}
    places, origin = _places(projection.points)
    points = [
        _point(sample, sorted((by_label[label] for label in sample.labels), key=lambda shown: shown.rank), place, tile)
        for sample, place, tile in zip(samples, places, tiles, strict=True)
    ]
    points.sort(key=lambda point: point.colour != _OTHER)
    return Scatter(
        points=points,
        classes=classes,
        coloured=classes[:COLOURS],
        others=sum(point.colour == _OTHER for point in points),
        origin=origin,
        explained=projection.explained,
    )


def shown_classes(samples: Sequence[Sample]) -> list[ShownClass]:
    """Returns the classes of samples, the commonest first, those as common as each other by name."""
    counts = collections.Counter(label for sample in samples for label in sample.labels)
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return [
        ShownClass(rank=rank, label=label, count=count, colour=f"c{rank}" if rank < COLOURS else _OTHER)
        for rank, (label, count) in enumerate(ranked)
    ]


def _point(sample: Sample, classes: Sequence[ShownClass], place: tuple[float, float], tile: Tile) -> Point:
    """Returns the point of a picture, in the colour of its commonest class."""
    return Point(
        x=place[0],
        y=place[1],
        colour=classes[0].colour if classes else _OTHER,
        classes=[shown.rank for shown in classes],
        key=clipped(sample.key, _MAX_SHOWN_CHARACTERS),
        label=clipped(", ".join(sample.labels), _MAX_SHOWN_CHARACTERS),
        split=sample.split,
        tile=tile,
    )


def _places(points: np.ndarray[Any, Any]) -> tuple[list[tuple[float, float]], tuple[float, float]]:
    """Returns the places of points [number, 2] in the chart, in percent, and that of 0."""
    low, high = points.min(axis=0), points.max(axis=0)
    unit = max(high[0] - low[0], (high[1] - low[1]) * ASPECT) * _MARGIN
    scale = np.array([100, -100 * ASPECT]) / unit if unit else np.zeros(2)
    *places, origin = [
        (round(x, 2), round(y, 2)) for x, y in (50 + (np.vstack([points, [0, 0]]) - (low + high) / 2) * scale).tolist()
    ]
    return places, origin


def _examples(plan: PlanFiles, shards: Sequence[Shard]) -> dict[str, list[Dropped]]:
    examples: dict[str, list[list[str]]] = {}
    for shard in shards:
        account = read_account(plan.account(shard))
        if account:
            examples = merge_examples([examples], (picture.dropped for picture in account.dropped))
    return as_dropped(examples)


def _metadata(samples: Sequence[Sample]) -> dict[str, list[str]]:
    return {
        "label": [", ".join(sample.labels) for sample in samples],
        "key": [sample.key for sample in samples],
        "split": [sample.split for sample in samples],
    }
