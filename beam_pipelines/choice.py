"""Which pictures are taken, and where each goes: one row an address, labels, caps, split and shard, all by hash.

Everything here looks at metadata alone and comes out the same on every runner, with any parallelism.
"""

import dataclasses
import math
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Literal

import apache_beam as beam
from apache_beam import pvalue

from beam_pipelines.artwork import Artwork, stable_hash
from beam_pipelines.dataset import SPLITS, TRAIN, VALIDATION, Shard
from beam_pipelines.rejects import Dropped, Reason
from beam_pipelines.rows import ARTWORKS, DROPPED, DroppedRow, drop, flat_map_rows

HASHES = 1 << 63
_EXAMPLES_IN_SHARD = 500
_FEWEST_SHARDS = 8
_NAMED_LABELS = 5
_SHARED = "shared"


def check_labels(
    artwork: Artwork, *, allowed: Collection[str] = (), default_label: str = ""
) -> Iterator[Artwork | DroppedRow]:
    """Yields the row with those of its labels that are allowed, or the reason why it has none.

    Args:
        artwork: a row.
        allowed: the only labels to take, if any are given.
        default_label: for rows that nobody labelled.
    """
    if default_label and not artwork.labels:
        artwork = _with_labels(artwork, (default_label,))
    if not artwork.labels:
        yield drop(_dropped(artwork, Reason.NO_LABEL))
    elif allowed:
        yield from select_labels(artwork, allowed)
    else:
        yield artwork


class MergeRowsOfOneAddress(beam.PTransform):
    """Makes the rows of one address into one picture: outputs `artworks` and `dropped`."""

    def __init__(self, *, multi_label: bool) -> None:
        super().__init__()
        self._multi_label = multi_label

    def expand(self, artworks: beam.PCollection) -> pvalue.DoOutputsTuple:
        return (
            artworks
            | beam.WithKeys(lambda artwork: stable_hash(artwork.image_uri)).with_output_types(tuple[int, Artwork])
            | beam.GroupByKey()
            | beam.Values()
            | "MergeRows" >> flat_map_rows(merge_rows, multi_label=self._multi_label)
        )


def merge_rows(rows: Iterable[Artwork], *, multi_label: bool) -> Iterator[Artwork | DroppedRow]:
    """Yields one picture for the rows of one address, and each further row as a duplicate.

    Without `multi_label`, rows that do not agree on one label are all ambiguous. A picture in a given validation split
    stays there. The row of the smallest key gives the picture its identity.
    """
    first, *others = rows
    if others:
        first, *others = sorted((first, *others), key=_identity)
    labels = tuple(sorted({label for row in (first, *others) for label in row.labels}))
    if not multi_label and len(labels) > 1:
        for row in (first, *others):
            yield drop(_dropped(row, Reason.AMBIGUOUS_LABEL, _named(labels)))
        return
    if any(row.split == VALIDATION for row in others):
        first = dataclasses.replace(first, split=VALIDATION)
    yield _with_labels(first, labels)
    for row in others:
        yield drop(_dropped(row, Reason.DUPLICATE_URI))


class RejectDuplicateKeys(beam.PTransform):
    """Keeps one of several pictures that go by the same key: outputs `artworks` and `dropped`.

    Keys are unique in most sources. So only their hashes are counted; the few pictures that share one are compared.
    """

    def expand(self, artworks: beam.PCollection) -> dict[str, beam.PCollection]:
        shared = (
            artworks
            | "KeyHashes" >> beam.Map(_rank).with_output_types(int)
            | "CountKeyHashes" >> beam.combiners.Count.PerElement()
            | "MoreThanOnce" >> beam.Filter(lambda counted: counted[1] > 1)
        )
        parted = artworks | "PartShared" >> beam.FlatMap(_part_shared, pvalue.AsDict(shared)).with_output_types(
            Artwork, shared=Artwork
        ).with_outputs(_SHARED, main=ARTWORKS)
        first = (
            parted[_SHARED]
            | beam.WithKeys(lambda artwork: artwork.key).with_output_types(tuple[str, Artwork])
            | beam.GroupByKey()
            | beam.Values()
            | "FirstOfKey" >> flat_map_rows(first_of_key)
        )
        kept = (parted[ARTWORKS], first[ARTWORKS]) | "Kept" >> beam.Flatten()
        return {ARTWORKS: kept, DROPPED: first[DROPPED]}


def first_of_key(artworks: Iterable[Artwork]) -> Iterator[Artwork | DroppedRow]:
    """Yields the picture of the smallest address among those of one key, and the others as dropped."""
    first, *others = sorted(artworks, key=lambda artwork: artwork.image_uri)
    yield first
    for artwork in others:
        yield drop(_dropped(artwork, Reason.DUPLICATE_KEY, f"{first.image_uri} has it too"))


def select_labels(artwork: Artwork, labels: Collection[str]) -> Iterator[Artwork | DroppedRow]:
    """Yields the picture with its labels that are classes, or drops it if none is."""
    selected = tuple(label for label in artwork.labels if label in labels)
    if selected:
        yield _with_labels(artwork, selected)
    else:
        yield drop(_dropped(artwork, Reason.LABEL_NOT_SELECTED, _named(artwork.labels)))


class LimitImages(beam.PTransform):
    """Takes at most `limit` pictures, or at most so many of each label: those of the smallest hash of their key.

    A picture of several labels is taken if it is among the first of every one of them, so that no label has more than
    its limit. Outputs `artworks` and `dropped`.
    """

    def __init__(self, limit: int, *, per_label: bool) -> None:
        super().__init__()
        self._limit = limit
        self._per_label = per_label

    def expand(self, artworks: beam.PCollection) -> pvalue.DoOutputsTuple:
        last = (
            artworks
            | "Ranks" >> beam.FlatMap(_ranks, per_label=self._per_label).with_output_types(tuple[str, int])
            | "SmallestRanks" >> beam.combiners.Top.SmallestPerKey(self._limit)
            | "LastRank" >> beam.MapTuple(lambda name, ranks: (name, ranks[-1]))
        )
        return artworks | "WithinLimit" >> flat_map_rows(_within, pvalue.AsDict(last), per_label=self._per_label)


def assign_split(artwork: Artwork, *, validation_fraction: float) -> Artwork:
    """Returns the picture in its split: the given one, else drawn by hash of its group."""
    if artwork.split:
        return artwork
    drawn = stable_hash(artwork.group, salt="split") < validation_fraction * HASHES
    return dataclasses.replace(artwork, split=VALIDATION if drawn else TRAIN)


def count_shards(pictures: Mapping[str, int], num_shards: int) -> dict[str, int]:
    """Returns how many shards each split gets: `num_shards` of both together, in proportion to its pictures.

    Args:
        pictures: how many each split has.
        num_shards: 0 for about 500 pictures a shard, but at least 8 shards, so that every core has work.
    """
    total = sum(pictures.values())
    if not num_shards:
        num_shards = max(math.ceil(total / _EXAMPLES_IN_SHARD), min(_FEWEST_SHARDS, math.ceil(total / 16)), 2)
    if not pictures.get(VALIDATION):
        return {TRAIN: num_shards, VALIDATION: 0}
    if not pictures.get(TRAIN):
        return {TRAIN: 0, VALIDATION: num_shards}
    validation = min(max(round(num_shards * pictures[VALIDATION] / total), 1), num_shards - 1)
    return {TRAIN: num_shards - validation, VALIDATION: validation}


def assign_shard(artwork: Artwork, counts: Mapping[str, int]) -> str:
    """Returns the name of the picture's shard, given how many shards each split has."""
    count = counts[artwork.split]
    return Shard(artwork.split, stable_hash(artwork.key, salt="shard") % count, count).name


def order_in_shard(artworks: Iterable[Artwork]) -> list[Artwork]:
    """Returns a shard's pictures in their order, by hash of the key."""
    return sorted(artworks, key=lambda artwork: (_rank(artwork), artwork.key))


def cross_split_losers(pictures: Iterable[tuple[str, int, str]]) -> list[tuple[str, int]]:
    """Returns which of several pictures with the same bytes must go because they stand on both sides of the split.

    Args:
        pictures: of each its split, the hash of its key and the name of its shard.

    Returns:
        shard name and hash of the key of all but the picture with the smallest hash; none if one side has them all.
    """
    found = sorted({(rank, shard, split) for split, rank, shard in pictures})
    if len({split for _, _, split in found}) < len(SPLITS):
        return []
    return [(shard, rank) for rank, shard, _ in found[1:]]


def key_rank(key: str) -> int:
    """Returns the number by which pictures are ordered where some must be chosen."""
    return stable_hash(key, salt="rank")


def _dropped(artwork: Artwork, reason: Reason, detail: str = "") -> Dropped:
    return Dropped(key=artwork.key, uri=artwork.image_uri, reason=reason, detail=detail)


def _identity(artwork: Artwork) -> tuple[str, str, tuple[str, ...], str, str]:
    attributes = repr(sorted(artwork.attributes.items()))
    return artwork.key, artwork.group, artwork.labels, artwork.split, attributes


def _with_labels(artwork: Artwork, labels: tuple[str, ...]) -> Artwork:
    return artwork if labels == artwork.labels else dataclasses.replace(artwork, labels=labels)


def _rank(artwork: Artwork) -> int:
    return key_rank(artwork.key)


def _ranks(artwork: Artwork, *, per_label: bool) -> list[tuple[str, int]]:
    return [(name, _rank(artwork)) for name in (artwork.labels if per_label else ("",))]


def _part_shared(
    artwork: Artwork, shared: Mapping[int, int]
) -> Iterator[Artwork | pvalue.TaggedOutput[Literal["shared"], Artwork]]:
    yield pvalue.TaggedOutput(_SHARED, artwork) if _rank(artwork) in shared else artwork


def _within(artwork: Artwork, last: Mapping[str, int], *, per_label: bool) -> Iterator[Artwork | DroppedRow]:
    ranks = _ranks(artwork, per_label=per_label)
    if all(rank <= last[name] for name, rank in ranks):
        yield artwork
    else:
        yield drop(_dropped(artwork, Reason.OVER_MAX_IMAGES_PER_LABEL if per_label else Reason.OVER_MAX_IMAGES))


def _named(labels: Collection[str]) -> str:
    more = ", …" if len(labels) > _NAMED_LABELS else ""
    return ", ".join(sorted(labels)[:_NAMED_LABELS]) + more
