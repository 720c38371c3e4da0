"""Counting is what a plain loop over the rows would count."""

import collections
import dataclasses
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import apache_beam as beam
import pytest
from apache_beam.testing.test_pipeline import TestPipeline

from beam_pipelines import files, value_counts
from beam_pipelines.artwork import Artwork
from beam_pipelines.counts import WriteCounts
from beam_pipelines.runners import LocalRunner
from beam_pipelines.sources import AttributeSummary
from beam_pipelines.value_counts import CountPictures, SummarizeAttributes
from tests.beam_pipelines.builders import artwork

_LABELS = ("Japan", "China", "Greek, Attic", "日本", "a|b", "$x$", "Iran")


def drawn_rows(*, seed: int, count: int) -> list[Artwork]:
    """Draws rows of which some have no label, several labels, or the address of another."""
    draw = random.Random(seed)
    return [
        artwork(str(number), uri=f"http://museum.example/{draw.randrange(count // 2)}.jpg", labels=labels)
        for number, labels in enumerate(draw.sample(_LABELS, draw.randrange(4)) for _ in range(count))
    ]


def counted(rows: Sequence[Artwork], folder: Path) -> dict[str, int]:
    path = str(folder / "counts.json")
    with TestPipeline(runner=LocalRunner()) as pipeline:
        pipeline | beam.Create(list(rows)) | CountPictures() | WriteCounts(path)
    counts: dict[str, int] = files.read_json(path)
    return counts


def summarized(rows: Sequence[Artwork], folder: Path, *, split_values: str = "") -> dict[str, AttributeSummary]:
    path = str(folder / "summaries.json")

    def write(found: list[Any]) -> None:
        files.write_json(path, found)

    with TestPipeline(runner=LocalRunner()) as pipeline:
        summaries = (
            pipeline | beam.Create(list(rows)).with_output_types(Any) | SummarizeAttributes(split_values=split_values)
        )
        summaries | beam.Map(dataclasses.asdict) | beam.combiners.ToList() | beam.Map(write)
    return {found["name"]: AttributeSummary(**found) for found in files.read_json(path)}


@pytest.mark.parametrize("most_held", [value_counts._MOST_HELD, 7])
def test_counts_are_of_distinct_addresses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most_held: int) -> None:
    monkeypatch.setattr(value_counts, "_MOST_HELD", most_held)
    rows = drawn_rows(seed=most_held, count=600)
    expected: dict[str, set[str]] = collections.defaultdict(set)
    for row in rows:
        for label in row.labels:
            expected[label].add(row.image_uri)
    assert counted(rows, tmp_path) == {label: len(addresses) for label, addresses in expected.items()}
    assert sum(map(len, expected.values())) < sum(len(row.labels) for row in rows)


def test_nothing_has_no_counts(tmp_path: Path) -> None:
    assert counted([artwork(labels=())], tmp_path) == {}


@pytest.mark.parametrize("most_held", [value_counts._MOST_HELD, 1])
def test_attributes_are_summed_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most_held: int) -> None:
    monkeypatch.setattr(value_counts, "_MOST_HELD", most_held)
    monkeypatch.setattr(value_counts, "_ROWS_BETWEEN_LOOKS", 3)
    draw = random.Random(most_held)
    columns = {"culture": 5, "medium": 60, "title": 100_000}
    rows = [
        artwork(str(number), attributes={name: str(draw.randrange(size)) for name, size in columns.items()})
        for number in range(300)
    ]
    rows += [artwork(str(number), attributes={"culture": "rare"}) for number in range(300, 309)]
    expected = {}
    for name in columns:
        values = collections.Counter(row.attributes[name] for row in rows if name in row.attributes)
        expected[name] = AttributeSummary(
            name=name,
            filled=values.total(),
            distinct=len(values),
            frequent=sum(count >= 10 for count in values.values()),
        )
    assert summarized(rows, tmp_path) == expected
    assert expected["culture"].distinct == expected["culture"].frequent + 1


def test_values_are_cut_where_asked(tmp_path: Path) -> None:
    rows = [artwork(str(number), attributes={"tags": "Cats| Dogs|Cats"}) for number in range(9)]
    rows += [artwork("9", attributes={"tags": "Cats"}), artwork("10", attributes={"tags": " | "})]
    whole = AttributeSummary(name="tags", filled=11, distinct=3, frequent=0)
    cut = AttributeSummary(name="tags", filled=10, distinct=2, frequent=1)
    assert summarized(rows, tmp_path) == {"tags": whole}
    assert summarized(rows, tmp_path, split_values="|") == {"tags": cut}
