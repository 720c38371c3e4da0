"""What the labels command writes and says, in this process."""

import csv
from pathlib import Path
from typing import Any

import pytest

from beam_pipelines import files, label_tables
from beam_pipelines.errors import OptionError
from beam_pipelines.label_tables import commonest_first, describe_attributes, describe_counts, run_labels, write_table
from beam_pipelines.labels_options import parse_arguments
from beam_pipelines.sources import AttributeSummary, SourceOptions
from beam_pipelines.sources.manifest import ReadManifest
from tests.beam_pipelines.builders import BUCKET, object_store

_SUMMARIES = [
    AttributeSummary(name="culture", filled=1200, distinct=40, frequent=7),
    AttributeSummary(name="reign", filled=0, distinct=0, frequent=0),
]


class CountingList(ReadManifest):
    """A list that counts as a database would."""

    def count_values(self) -> dict[str, int]:
        return {"Japan": 2, "China": 30, "Chad": 2}

    def summarize_attributes(self) -> list[AttributeSummary]:
        return _SUMMARIES


def run(*arguments: object) -> str:
    return run_labels(*parse_arguments(["--source", "manifest", *map(str, arguments)]))


def table_of(path: Path) -> list[list[str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.reader(file))


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    path = tmp_path / "list.csv"
    path.write_text("uri,year,label\na.jpg,1894,x,y\nb.jpg,1812,x\na.jpg,1894,x\nc.jpg,old,\n")
    return path


@pytest.fixture
def counting(monkeypatch: pytest.MonkeyPatch) -> None:
    def make_source(name: str, options: SourceOptions) -> Any:
        return CountingList(options)

    monkeypatch.setattr(label_tables, "make_source", make_source)


def test_equal_counts_are_ordered_by_name() -> None:
    counts = commonest_first({"b": 2, "a": 2, "c": 5, "B": 2})
    assert list(counts) == ["c", "B", "a", "b"]


def test_counts_in_words() -> None:
    counts = commonest_first({f"label {number}": 2 * number for number in range(1, 600)})
    lines = describe_counts(counts, attribute="culture", threshold=1000).splitlines()
    assert lines[0].split() == ["culture", "pictures"]
    assert lines[1].split() == ["label", "599", "1,198"]
    assert len(lines) == 13
    assert lines[-2].startswith("599 values of 359,400 pictures")
    assert lines[-1] == "100 values have 1,000 pictures or more, 109,900 pictures"
    assert describe_counts({}, attribute="culture", threshold=1) == "no picture has a value of culture"


def test_attributes_in_words() -> None:
    assert [line.split() for line in describe_attributes(_SUMMARIES).splitlines()] == [
        ["attribute", "pictures", "values", "values_of_ten"],
        ["culture", "1,200", "40", "7"],
        ["without", "any", "value:", "reign"],
    ]


def test_tables_hold_any_text(tmp_path: Path) -> None:
    rows = [['a "b"', "c,\r\nd"], ["日本\udc80", ""]]
    write_table(str(tmp_path / "table.csv"), ("x", "y"), rows)
    assert table_of(tmp_path / "table.csv") == [["x", "y"], rows[0], ["日本\\udc80", ""]]


def test_what_is_counted_and_listed(tmp_path: Path, pictures: Path) -> None:
    counts, works = tmp_path / "counts.csv", tmp_path / "works.csv"
    told = run("--input", pictures, "--output", counts, "--works_output", works, "--min_images_per_label", 2)
    assert table_of(counts) == [["value", "count"], ["x", "2"], ["y", "1"]]
    assert [row[4] for row in table_of(works)] == ["label", "x|y", "x", ""]
    assert "1 values have 2 pictures or more, 2 pictures" in told
    assert f"3 pictures listed; to ingest them: --source manifest --input {works} --split_values '|'" in told
    assert sorted(path.name for path in tmp_path.iterdir()) == ["counts.csv", "counts.png", "list.csv", "works.csv"]


def test_bins_filters_and_exclusion(tmp_path: Path, pictures: Path) -> None:
    counts, excluded = tmp_path / "counts.csv", tmp_path / "excluded.txt"
    arguments = ["--input", pictures, "--attribute", "year", "--bin", 100, "--output", counts, "--no_chart"]
    run(*arguments)
    assert table_of(counts)[1:] == [["1800 to 1899", "2"]]
    run(*arguments, "--filter", "year=1812")
    assert table_of(counts)[1:] == [["1800 to 1899", "1"]]
    excluded.write_text("a.jpg\n".replace("a", str(tmp_path / "a")))
    run(*arguments, "--exclude_file", excluded)
    assert table_of(counts)[1:] == [["1800 to 1899", "1"]]
    assert not (tmp_path / "counts.png").exists()


def test_attributes_are_listed_with_those_that_nobody_has(tmp_path: Path) -> None:
    pictures, output = tmp_path / "list.csv", tmp_path / "attributes.csv"
    pictures.write_text("uri,reign,label\n" + "".join(f"{number}.jpg,,x\n" for number in range(12)))
    told = run("--input", pictures, "--attribute", "nothing like it", "--list_attributes")
    assert [line.split() for line in told.splitlines()[1:-1]] == [["label", "12", "1", "1"]]
    assert told.splitlines()[-1] == "without any value: reign"
    run("--input", pictures, "--list_attributes", "--output", output)
    assert table_of(output)[1:] == [["reign", "0", "0", "0"], ["label", "12", "1", "1"]]


@pytest.mark.usefixtures("counting")
def test_a_source_that_can_count_is_asked(tmp_path: Path, pictures: Path) -> None:
    counts, attributes = tmp_path / "counts.csv", tmp_path / "attributes.csv"
    run("--input", pictures, "--output", counts, "--no_chart")
    assert table_of(counts)[1:] == [["China", "30"], ["Chad", "2"], ["Japan", "2"]]
    assert "culture" in run("--input", pictures, "--list_attributes", "--output", attributes)
    assert table_of(attributes)[1:] == [["culture", "1200", "40", "7"], ["reign", "0", "0", "0"]]


@pytest.mark.usefixtures("counting")
def test_rows_are_read_where_some_are_excluded(tmp_path: Path, pictures: Path) -> None:
    (tmp_path / "excluded.txt").write_text("nothing\n")
    run("--input", pictures, "--output", tmp_path / "counts.csv", "--exclude_file", tmp_path / "excluded.txt")
    assert table_of(tmp_path / "counts.csv")[1:] == [["x", "2"], ["y", "1"]]


def test_outputs_in_a_bucket(pictures: Path) -> None:
    with object_store():
        told = run("--input", pictures, "--output", f"{BUCKET}/counts.csv", "--works_output", f"{BUCKET}/works.csv")
        assert "3 pictures listed" in told
        assert files.list_files(BUCKET) == ["counts.csv", "counts.png", "works.csv"]
        assert files.read_bytes(f"{BUCKET}/counts.csv") == b"value,count\nx,2\ny,1\n"


@pytest.mark.parametrize(
    ("output", "message"), [(".", "it is a directory"), ("list.csv/counts.csv", "File exists|Not a directory")]
)
def test_what_cannot_be_written_is_said_before_any_work(
    tmp_path: Path, pictures: Path, output: str, message: str
) -> None:
    before = pictures.read_bytes()
    with pytest.raises(OptionError, match=f"cannot write {tmp_path}.*: ({message})"):
        run("--input", pictures, "--output", tmp_path / output, "--no_chart")
    assert [path.name for path in tmp_path.iterdir()] == ["list.csv"]
    assert pictures.read_bytes() == before


def test_workers_elsewhere_need_a_place_for_what_they_find(pictures: Path) -> None:
    with pytest.raises(OptionError, match="give --output"):
        run("--input", pictures, "--list_attributes", "--runner", "FlinkRunner")
