"""A few rows for each reason why rows are not in a data set, so that people see what is behind a count."""

import heapq
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import apache_beam as beam
from apache_beam.transforms.window import GlobalWindow
from apache_beam.utils.windowed_value import WindowedValue

from beam_pipelines import files
from beam_pipelines.choice import key_rank
from beam_pipelines.rejects import Dropped, Reason

PER_REASON = 5

# As it is kept: the key's rank, key, address, detail. The rows of the smallest ranks are the examples.
_Ranked = tuple[int, str, str, str]


class WriteReasonExamples(beam.PTransform):
    """Writes a few of the dropped rows of each reason as JSON."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self._path = path

    def expand(self, dropped: beam.PCollection) -> beam.PCollection:
        return (
            dropped
            | "FewOfBundle" >> beam.ParDo(_FewOfEach())
            | "FewOfAll" >> beam.combiners.Top.SmallestPerKey(PER_REASON)
            | "GatherExamples" >> beam.combiners.ToList()
            | "WriteExamples" >> beam.Map(_write, path=self._path)
        )


@beam.typehints.with_output_types(tuple[str, _Ranked])
class _FewOfEach(beam.DoFn):
    """Lets few rows of each reason through a bundle, so that a hundred thousand alike cost next to nothing."""

    def start_bundle(self) -> None:
        self._largest_first: dict[str, list[tuple[int, _Ranked]]] = {}

    def process(self, row: Dropped) -> None:
        ranked = (key_rank(row.key), row.key, row.uri, row.detail)
        found = self._largest_first.setdefault(row.reason.value, [])
        if len(found) < PER_REASON:
            heapq.heappush(found, (-ranked[0], ranked))
        elif -ranked[0] > found[0][0]:
            heapq.heapreplace(found, (-ranked[0], ranked))

    def finish_bundle(self) -> Iterator[WindowedValue]:
        window = GlobalWindow()
        for reason, found in self._largest_first.items():
            for _, ranked in found:
                yield WindowedValue((reason, ranked), window.max_timestamp(), [window])


def _write(examples: Iterable[tuple[str, Sequence[_Ranked]]], *, path: str) -> None:
    files.write_json(path, {reason: [list(row[1:]) for row in rows] for reason, rows in sorted(examples)})


def merge_examples(
    kept: Iterable[Mapping[str, Sequence[Sequence[str]]]], dropped: Iterable[Dropped] = ()
) -> dict[str, list[list[str]]]:
    """Returns by reason the few rows (key, address, detail) of the smallest ranks.

    Args:
        kept: what was chosen from parts of the rows before.
        dropped: further rows.
    """
    rows: dict[str, list[_Ranked]] = {}

    def add(reason: str, key: str, uri: str, detail: str) -> None:
        rows.setdefault(reason, []).append((key_rank(key), key, uri, detail))
        if len(rows[reason]) > 10 * PER_REASON:
            rows[reason] = heapq.nsmallest(PER_REASON, rows[reason])

    for examples in kept:
        for reason, found in examples.items():
            for key, uri, detail in found:
                add(reason, key, uri, detail)
    for row in dropped:
        add(row.reason.value, row.key, row.uri, row.detail)
    return {
        reason: [list(row[1:]) for row in heapq.nsmallest(PER_REASON, found)] for reason, found in sorted(rows.items())
    }


def as_dropped(examples: Mapping[str, Sequence[Sequence[Any]]]) -> dict[str, list[Dropped]]:
    """Returns examples as they are kept as rows."""
    return {
        reason: [Dropped(key=key, uri=uri, reason=Reason(reason), detail=detail) for key, uri, detail in rows]
        for reason, rows in examples.items()
    }
