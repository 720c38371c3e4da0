"""The list of works read as a manifest gives the same pictures."""

import csv
import random
from collections.abc import Sequence
from pathlib import Path

import apache_beam as beam
import pytest
from apache_beam.testing.test_pipeline import TestPipeline
from hypothesis import given
from hypothesis import strategies as st

from beam_pipelines import files
from beam_pipelines.artwork import CARRIED_ATTRIBUTES, Artwork, clean_labels, clean_text
from beam_pipelines.runners import LocalRunner
from beam_pipelines.sources import SourceOptions
from beam_pipelines.sources.manifest import ReadManifest
from beam_pipelines.works import HEADER, WriteWorks, choose_separator, gather_works, work_line
from tests.beam_pipelines.builders import artwork, hostile_text, run_rows

_label_sets = st.lists(st.lists(hostile_text | st.sampled_from("|;¦‖ab")).map(clean_labels))


def listed(rows: Sequence[Artwork], folder: Path, *, split_values: str = "") -> tuple[Path, int, str]:
    """Writes the list of `rows` as they are; returns its path, how many it has and what separates labels."""
    files.write_lines(str(folder / "lines" / "part-0"), map(work_line, rows))
    path = folder / "works.csv"
    return path, *gather_works(str(folder / "lines"), str(path), split_values=split_values)


def hostile_works(*, seed: int, count: int) -> list[Artwork]:
    """Draws pictures with texts that break tables, but that a list may hold."""
    draw = random.Random(seed)
    characters = "ab|\"',;=\n\r\0\t +@-日\u2028\u0301"

    def text() -> str:
        return f"{''.join(draw.choices(characters, k=9))}x".strip()

    return [
        Artwork(
            key=f"{number}{text()}",
            group=f"{number % 7}{text()}",
            image_uri=f"http://museum.example/{number}{text()}",
            labels=clean_labels([text() for _ in range(draw.randrange(3))]),
            attributes={name: clean_text(text()) for name in draw.sample(CARRIED_ATTRIBUTES, 3)},
            split=draw.choice(["", "train", "validation"]),
        )
        for number in range(count)
    ]


@pytest.mark.parametrize("split_values", ["", "|", " or "])
def test_what_was_listed_is_read_again(tmp_path: Path, split_values: str) -> None:
    rows = hostile_works(seed=len(split_values), count=200)
    path, count, separator = listed(rows, tmp_path, split_values=split_values)
    assert count == len(rows)
    kept, dropped = run_rows(ReadManifest(SourceOptions(input=str(path), split_values=separator)), tmp_path / "read")
    assert kept == sorted(rows, key=lambda row: row.key)
    assert dropped == []


def test_lines_are_by_key_and_for_people(tmp_path: Path) -> None:
    carried = {"title": "The Harvesters", "department": "Paintings", "artist": "Bruegel"}
    rows = [artwork("b/0", group="b", labels=("x", "y"), attributes=carried), artwork("a/0"), artwork("a/1", labels=())]
    path, _, separator = listed(rows, tmp_path)
    with path.open(newline="") as file:
        table = list(csv.reader(file))
    assert separator == "|"
    assert table[0] == list(HEADER)
    assert [row[0] for row in table[1:]] == ["a/0", "a/1", "b/0"]
    assert [row[4] for row in table[1:]] == ["Japan", "", "x|y"]
    assert table[3][:4] == ["b/0", "b", "", "http://museum.example/b/0.jpg"]
    assert table[3][5:8] == ["Paintings", "The Harvesters", "Bruegel"]


def test_names_that_are_no_text_are_escaped(tmp_path: Path) -> None:
    path, _, _ = listed([artwork("a\udc80")], tmp_path)
    assert "a\\udc80" in path.read_text(encoding="utf-8")


def test_paths_are_listed_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path, _, _ = listed([artwork("a", uri="scans/a.png"), artwork("b", uri="gs://bucket/b.png")], tmp_path)
    assert f",{tmp_path}/scans/a.png," in path.read_text()
    assert ",gs://bucket/b.png," in path.read_text()


def test_rows_of_one_address_are_one_line(tmp_path: Path) -> None:
    same = "http://museum.example/same.jpg"
    rows = [
        artwork("2", uri=same, labels=("Japan",)),
        artwork("1", uri=same, labels=("China",), split="train"),
        artwork("3", labels=("Korea",)),
        artwork("3", uri="http://museum.example/a.jpg", labels=("Korea",)),
    ]
    lines = tmp_path / "lines"
    with TestPipeline(runner=LocalRunner()) as pipeline:
        pipeline | beam.Create(rows) | WriteWorks(str(lines))
    path = tmp_path / "works.csv"
    assert gather_works(str(lines), str(path), split_values="/") == (2, "/")
    with path.open(newline="") as file:
        assert [row[:5] for row in list(csv.reader(file))[1:]] == [
            ["1", "1", "train", same, "China/Japan"],
            ["3", "3", "", "http://museum.example/3.jpg", "Korea"],
        ]


@given(_label_sets, st.sampled_from(["", "|", ";", ", ", "ab"]))
def test_labels_can_be_told_apart_again(label_sets: list[tuple[str, ...]], preferred: str) -> None:
    separator = choose_separator(label_sets, preferred=preferred)
    assert bool(separator) == any(len(labels) > 1 for labels in label_sets)
    if separator:
        assert [clean_labels([separator.join(labels)], separator=separator) for labels in label_sets] == label_sets


@pytest.mark.parametrize(
    ("label_sets", "preferred", "separator"),
    [
        ([("a", "b")], "", "|"),
        ([("a", "b")], ", ", ", "),
        ([("a, x", "b")], ", ", "|"),
        ([("a|x", "b;"), ("¦",)], "", "‖"),
        ([("a|x",), ("b",)], "|", ""),
    ],
)
def test_separators(label_sets: list[tuple[str, ...]], preferred: str, separator: str) -> None:
    assert choose_separator(label_sets, preferred=preferred) == separator
