"""Counts what rows say of their pictures, of every label and of every attribute, without a shuffle of rows.

Rows are gathered where they are read, into packed arrays of hashes. Only those travel: 8 bytes for each picture of a
label, 16 bytes for each value of an attribute, however long the texts are.
"""

import array
import collections
import logging
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import apache_beam as beam
import numpy as np
import numpy.typing as npt
from apache_beam.transforms.window import GlobalWindows

from beam_pipelines.artwork import Artwork, clean_labels, stable_hash
from beam_pipelines.sources import FREQUENT, AttributeSummary

_LOGGER = logging.getLogger(__name__)

_MOST_HELD = 1 << 17
_ROWS_BETWEEN_LOOKS = 1024
_ROWS_BETWEEN_MESSAGES = 100_000
# In memory as in a shuffle: little-endian on every machine.
_HASH = np.dtype("<u8")
_TALLY = np.dtype([("value", "<u8"), ("rows", "<u8")])

# How many rows have a value, and packed tallies of the hashes of their values.
_Tallies = tuple[int, bytes]


class CountPictures(beam.PTransform):
    """Counts the distinct pictures (by address) of each label: gives pairs of a label and their number.

    A picture counts once for each of its labels. Rows without a label are passed over.
    """

    def expand(self, artworks: beam.PCollection) -> beam.PCollection:
        return (
            artworks
            | "GatherPictures" >> beam.ParDo(_GatherPictures()).with_output_types(tuple[str, bytes])
            | "GroupByLabel" >> beam.GroupByKey()
            | "CountDistinct" >> beam.MapTuple(_count_distinct).with_output_types(tuple[str, int])
        )


class SummarizeAttributes(beam.PTransform):
    """Tells what each attribute that rows carry offers as a label: gives an `AttributeSummary` for each.

    Rows are counted, each once for a value, also where several have one address.

    Args:
        split_values: cuts a value into several; empty to take it as it stands.
    """

    def __init__(self, *, split_values: str = "") -> None:
        super().__init__()
        self._split_values = split_values

    def expand(self, artworks: beam.PCollection) -> beam.PCollection:
        return (
            artworks
            | "GatherValues" >> beam.ParDo(_GatherValues(self._split_values)).with_output_types(tuple[str, _Tallies])
            | "MergeTallies" >> beam.CombinePerKey(_MergeTallies())
            | "Summarize" >> beam.MapTuple(_summarize).with_output_types(AttributeSummary)
        )


class _Rows:
    """Says from time to time how many rows there were."""

    def __init__(self) -> None:
        self.read = 0

    def add(self) -> None:
        self.read += 1
        if self.read % _ROWS_BETWEEN_MESSAGES == 0:
            _LOGGER.info("%s rows read", f"{self.read:,}")


class _GatherPictures(beam.DoFn):
    """Packs the hashes of each label's addresses."""

    def start_bundle(self) -> None:
        self._rows = _Rows()
        self._hashes: dict[str, array.array[int]] = {}
        self._held = 0

    def process(self, artwork: Artwork) -> Iterable[tuple[str, bytes]]:
        self._rows.add()
        if not artwork.labels:
            return ()
        address = stable_hash(artwork.image_uri)
        for label in artwork.labels:
            hashes = self._hashes.get(label)
            if hashes is None:
                hashes = self._hashes[label] = array.array("Q")
            hashes.append(address)
            self._held += 1
        return self._take() if self._held >= _MOST_HELD else ()

    def finish_bundle(self) -> Iterator[Any]:
        yield from map(GlobalWindows.windowed_value, self._take())

    def _take(self) -> list[tuple[str, bytes]]:
        packed = [(label, np.unique(np.asarray(held, _HASH)).tobytes()) for label, held in self._hashes.items()]
        self._hashes, self._held = {}, 0
        return packed


def _count_distinct(label: str, packed: Iterable[bytes]) -> tuple[str, int]:
    hashes = np.frombuffer(b"".join(packed), _HASH)
    return label, int(np.unique(hashes).size)


class _GatherValues(beam.DoFn):
    """Packs the hashes of each attribute's values, and how many rows have them."""

    def __init__(self, split_values: str) -> None:
        super().__init__()
        self._split_values = split_values

    def start_bundle(self) -> None:
        self._rows = _Rows()
        self._values: dict[str, collections.Counter[str]] = collections.defaultdict(collections.Counter)

    def process(self, artwork: Artwork) -> Iterable[tuple[str, _Tallies]]:
        self._rows.add()
        for name, value in artwork.attributes.items():
            self._values[name][value] += 1
        if self._rows.read % _ROWS_BETWEEN_LOOKS == 0 and sum(map(len, self._values.values())) >= _MOST_HELD:
            return self._take()
        return ()

    def finish_bundle(self) -> Iterator[Any]:
        yield from map(GlobalWindows.windowed_value, self._take())

    def _take(self) -> list[tuple[str, _Tallies]]:
        packed = [(name, self._pack(values)) for name, values in self._values.items()]
        self._values.clear()
        return packed

    def _pack(self, values: collections.Counter[str]) -> _Tallies:
        filled = 0
        found: list[tuple[int, int]] = []
        for value, rows in values.items():
            labels = clean_labels([value], separator=self._split_values)
            filled += rows if labels else 0
            found += ((stable_hash(label), rows) for label in labels)
        return filled, _added([np.array(found, _TALLY)]).tobytes()


class _MergeTallies(beam.CombineFn):
    """Adds up tallies of the same attribute, as soon as many have come together."""

    def create_accumulator(self) -> list[_Tallies]:
        return []

    def add_input(self, accumulator: list[_Tallies], tallies: _Tallies) -> list[_Tallies]:
        accumulator.append(tallies)
        return accumulator if len(accumulator) < 8 else self.compact(accumulator)

    def merge_accumulators(self, accumulators: Iterable[list[_Tallies]]) -> list[_Tallies]:
        return self.compact([tallies for accumulator in accumulators for tallies in accumulator])

    def compact(self, accumulator: list[_Tallies]) -> list[_Tallies]:
        tallies = _added([np.frombuffer(packed, _TALLY) for _, packed in accumulator])
        return [(sum(filled for filled, _ in accumulator), tallies.tobytes())]

    def extract_output(self, accumulator: list[_Tallies]) -> _Tallies:
        return self.compact(accumulator)[0]


def _added(tallies: Sequence[npt.NDArray[Any]]) -> npt.NDArray[Any]:
    """Returns the tallies with one for each value."""
    every = np.concatenate(tallies) if tallies else np.zeros(0, _TALLY)
    values, places = np.unique(every["value"], return_inverse=True)
    added = np.zeros(values.size, _TALLY)
    added["value"] = values
    np.add.at(added["rows"], places, every["rows"])
    return added


def _summarize(name: str, tallies: _Tallies) -> AttributeSummary:
    filled, packed = tallies
    rows = np.frombuffer(packed, _TALLY)["rows"]
    return AttributeSummary(
        name=name, filled=filled, distinct=int(rows.size), frequent=int(np.count_nonzero(rows >= FREQUENT))
    )
