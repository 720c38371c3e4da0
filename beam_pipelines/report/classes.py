"""The classes of a data set in figures: how large they are, how unequal, and how they lie in the splits."""

import collections
import dataclasses
import itertools
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from beam_pipelines.charts import Part, RankChart, ranked, stacked
from beam_pipelines.dataset import TRAIN, VALIDATION

_COVERING = (1, 2, 3, 5, 10, 20, 50, 100, 200, 500, 1000)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClassRow:
    """A class and its pictures.

    Attributes:
        number: the class id.
        splits: pictures by split.
        parts: the bar of its splits, against the largest class.
    """

    number: int
    label: str
    splits: Mapping[str, int]
    total: int
    parts: list[Part]


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClassFacts:
    """Classes in figures; sizes are of the classes that have pictures.

    Attributes:
        labelled: pictures, each as often as it has classes.
        imbalance: the largest class as a multiple of the smallest.
        missing: for each split, how many classes have pictures only in the other one.
    """

    number: int
    empty: int
    labelled: int
    largest: ClassRow | None
    smallest: ClassRow | None
    imbalance: float
    median: float
    missing: Mapping[str, int]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tail:
    """How unequal the classes are.

    Attributes:
        covered: number of largest classes -> the pictures in them.
        half: how many of the largest classes hold half of the pictures.
    """

    chart: RankChart
    covered: Mapping[int, int]
    half: int


def class_rows(info: Mapping[str, Any]) -> list[ClassRow]:
    """Returns the classes in the order of their ids."""
    largest = max(info["labels"].values(), default=0)
    rows = []
    for number, (label, total) in enumerate(info["labels"].items()):
        splits = {split: value["labels"].get(label, 0) for split, value in info["splits"].items()}
        parts = stacked(splits, whole=largest)
        rows.append(ClassRow(number=number, label=label, splits=splits, total=total, parts=parts))
    return rows


def split_legend(rows: Sequence[ClassRow]) -> list[Part]:
    """Returns how the labels of all classes lie in the splits."""
    counts: collections.Counter[str] = collections.Counter()
    for row in rows:
        counts.update(row.splits)
    return stacked(counts, whole=counts.total())


def class_facts(rows: Sequence[ClassRow]) -> ClassFacts:
    """Returns the classes in figures."""
    present = sorted((row for row in rows if row.total), key=lambda row: -row.total)
    largest, smallest = (present[0], present[-1]) if present else (None, None)
    return ClassFacts(
        number=len(rows),
        empty=len(rows) - len(present),
        labelled=sum(row.total for row in rows),
        largest=largest,
        smallest=smallest,
        imbalance=largest.total / smallest.total if largest and smallest else 1,
        median=statistics.median(row.total for row in present) if present else 0,
        missing={split: sum(not row.splits.get(split) for row in present) for split in (TRAIN, VALIDATION)},
    )


def long_tail(rows: Sequence[ClassRow]) -> Tail | None:
    """Returns how unequal the classes are; nothing where none has a picture."""
    sizes = sorted((row.total for row in rows), reverse=True)
    held = list(itertools.accumulate(sizes))
    if not held or not held[-1]:
        return None
    return Tail(
        chart=ranked(sizes),
        covered={number: held[number - 1] for number in _COVERING if number < len(held)},
        half=next(number for number, pictures in enumerate(held, 1) if 2 * pictures >= held[-1]),
    )


def split_rows(info: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Returns each split in figures."""
    return [
        {
            "name": name,
            "examples": split["examples"],
            "classes": sum(count > 0 for count in split["labels"].values()),
            "shards": split.get("shards", []),
        }
        for name, split in info["splits"].items()
    ]
