"""The page of similar works: what was asked about, and the nearest works with their pictures."""

import base64
import dataclasses
from collections.abc import Mapping, Sequence

from beam_pipelines.images import ImageLimits, shrink, thumbnail
from beam_pipelines.pages import render_page
from beam_pipelines.picture_lookup import Picture
from beam_pipelines.rejects import RejectedError
from beam_pipelines.report.texts import Address, address, clipped
from serving.collection import Collection
from serving.nearest import Work

_QUERY_SIDE = 256
_CAPTION = ("artist", "date", "credit_line", "rights")


@dataclasses.dataclass(frozen=True, kw_only=True)
class SmallPicture:
    """A picture as a page has it.

    Attributes:
        data: JPEG in base64.
        width: pixels.
        height: pixels.
    """

    data: str
    width: int
    height: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Query:
    """A picture that works were looked for.

    Attributes:
        key: its address as it was given.
        picture: itself, small; None if it cannot be shown.
    """

    key: str
    picture: SmallPicture | None

    @property
    def address(self) -> Address:
        """Where it is."""
        return address(self.key)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tile:
    """A work that was found.

    Attributes:
        rank: from 1.
        similarity: the cosine, as text.
        label: what it is labelled.
        title: its title, or its key if it has none that is known.
        is_key: whether `title` is its key.
        lines: attribute -> text, in the order of the caption.
        address: where its picture was fetched from.
        picture: that, small; None if it is not known.
    """

    rank: int
    similarity: str
    label: str
    title: str
    is_key: bool
    lines: Mapping[str, str]
    address: Address
    picture: SmallPicture | None


def small_query(data: bytes) -> SmallPicture | None:
    """Returns a picture from outside as the page shows it; None if it cannot be decoded."""
    try:
        jpeg = shrink(data, size=_QUERY_SIDE, limits=ImageLimits(min_side=1)).jpeg
    except RejectedError:
        return None
    small = thumbnail(jpeg, side=_QUERY_SIDE)
    return _small(small.jpeg, small.width, small.height)


def render_similar(
    queries: Sequence[Query],
    found: Sequence[Sequence[Work]],
    pictures: Mapping[str, Picture],
    *,
    collection: Collection,
    model: str,
) -> str:
    """Returns the page.

    Args:
        queries: at least one.
        found: for each of them, the nearest works, the nearest first.
        pictures: of works by their keys, as far as they are known.
        collection: where the works are from.
        model: its directory.
    """
    results = [
        (query, [tile(work, rank, pictures.get(work.key)) for rank, work in enumerate(works, start=1)])
        for query, works in zip(queries, found, strict=True)
    ]
    return render_page(
        "similar.html",
        package=__package__,
        results=results,
        collection=collection,
        model=model,
        has_pictures=any(tile.picture for _, tiles in results for tile in tiles),
    )


def tile(work: Work, rank: int, picture: Picture | None) -> Tile:
    """Returns a work as the page shows it."""
    known = picture.attributes if picture else {}
    title = known.get("title", "")
    return Tile(
        rank=rank,
        similarity=f"{work.similarity:.4f}",
        label=clipped(", ".join(work.labels)),
        title=clipped(title or work.key),
        is_key=not title,
        lines={name: known[name] for name in _CAPTION if known.get(name)},
        address=address(work.uri),
        picture=_small(picture.jpeg, picture.width, picture.height) if picture else None,
    )


def _small(jpeg: bytes, width: int, height: int) -> SmallPicture:
    return SmallPicture(data=base64.b64encode(jpeg).decode(), width=width, height=height)
