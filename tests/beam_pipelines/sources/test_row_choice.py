from collections.abc import Mapping, Sequence
from pathlib import Path

import apache_beam as beam
import pytest
from apache_beam.testing.util import assert_that, equal_to
from hypothesis import example, given
from hypothesis import strategies as st

from beam_pipelines.artwork import Artwork
from beam_pipelines.errors import OptionError
from beam_pipelines.rejects import Dropped, Reason
from beam_pipelines.rows import ARTWORKS, DROPPED
from beam_pipelines.runners import LocalRunner
from beam_pipelines.sources import SourceOptions
from beam_pipelines.sources.open_access_csv import ReadOpenAccessCsv
from beam_pipelines.sources.row_choice import bin_label, check_attributes, make_row, parse_filters
from tests.beam_pipelines.builders import artwork, hostile_text, outcome


def row(
    cells: Mapping[str, str] | None = None, *, values: Sequence[str] = ("Japan",), split: str = "", **options: object
) -> Artwork | Dropped:
    """Returns what becomes of a row of these cells."""
    made = make_row(
        key="1/0",
        group="1/0",
        image_uri="http://museum.example/1/0.jpg",
        values=values,
        cell=(cells or {}).__getitem__,
        attributes={},
        options=SourceOptions(input="list.csv", **options),  # type: ignore[arg-type]
        split=split,
    )
    kept, dropped = outcome([made])
    return kept[0] if kept else dropped[0]


def passes(cells: Mapping[str, str], *filters: str, split_values: str = "") -> bool:
    found = row(cells, filter=filters, split_values=split_values)
    if isinstance(found, Dropped):
        assert found.reason is Reason.NOT_MATCHING
    return isinstance(found, Artwork)


def label_of(value: str, size: int = 100) -> str:
    found = row(values=[value], bin=size)
    assert isinstance(found, Artwork)
    (label,) = found.labels
    return label


def test_a_row_without_filters_and_bins_is_as_its_source_says() -> None:
    assert row(values=[" Japan", "China", "", "Japan"]) == artwork(labels=["China", "Japan"])


def test_the_split_of_the_options_wins_over_that_of_the_row() -> None:
    assert row(split="train") == artwork(split="train")
    made = make_row(
        key="1/0",
        group="1/0",
        image_uri="http://museum.example/1/0.jpg",
        values=["Japan"],
        cell=str,
        attributes={},
        options=SourceOptions(input="list.csv", split="validation"),
        split="train",
    )
    assert made == artwork(split="validation")


def test_the_same_name_again_means_any_of_the_values() -> None:
    assert parse_filters(("a=X", "b=y", " a = z ", "c=d=e")) == (
        ("a", frozenset({"x", "z"})),
        ("b", frozenset({"y"})),
        ("c", frozenset({"d=e"})),
    )
    assert passes({"culture": "Iran"}, "culture=Iran", "culture=Japan")
    assert passes({"culture": "Japan"}, "culture=Iran", "culture=Japan")
    assert not passes({"culture": "China"}, "culture=Iran", "culture=Japan")


def test_another_name_means_that_too() -> None:
    filters = "culture=Iran", "medium=Silk"
    assert passes({"culture": "Iran", "medium": "Silk"}, *filters)
    assert not passes({"culture": "Iran", "medium": "Wood"}, *filters)
    assert not passes({"culture": "China", "medium": "Silk"}, *filters)


@pytest.mark.parametrize("value", ["French, Paris", " french,  PARIS ", "French,\nParis", "FRENCH, PARIS"])
def test_values_are_compared_clean_and_whatever_their_case(value: str) -> None:
    assert passes({"culture": value}, "culture=French, Paris")
    assert passes({"culture": "French, Paris"}, f"culture={value}")
    assert not passes({"culture": value}, "culture=French")


def test_case_is_that_of_every_alphabet() -> None:
    assert passes({"place": "GROSSE STRASSE ΔΕΛΦΟΊ"}, "place=große Straße Δελφοί")


def test_any_value_of_several_matches_once_they_are_cut() -> None:
    assert passes({"place": "France| Italy"}, "place=italy", split_values="|")
    assert not passes({"place": "France|Italy"}, "place=italy")
    assert passes({"place": "France|Italy"}, "place=France|Italy")


def test_an_empty_filter_takes_rows_without_a_value() -> None:
    for separator in ("", "|"):
        assert passes({"place": " \n"}, "place=", split_values=separator)
        assert not passes({"place": "France"}, "place=", split_values=separator)
        assert passes({"place": ""}, "place=Italy", "place=", split_values=separator)
    assert not passes({"place": "France||Italy"}, "place=", split_values="|")
    assert passes({"place": "|"}, "place=", split_values="|")


def test_a_row_that_does_not_match_says_which_filter() -> None:
    assert row({"a": "x", "b": "y"}, filter=("a=x", "b=z")) == Dropped(
        key="1/0", uri="http://museum.example/1/0.jpg", reason=Reason.NOT_MATCHING, detail="b"
    )


@pytest.mark.parametrize(
    ("value", "size", "label"),
    [
        ("1894", 100, "1800 to 1899"),
        ("1800", 100, "1800 to 1899"),
        ("1899", 100, "1800 to 1899"),
        ("0", 100, "0 to 99"),
        ("-0", 100, "0 to 99"),
        ("-1", 100, "-100 to -1"),
        ("-100", 100, "-100 to -1"),
        ("-101", 100, "-200 to -101"),
        ("0012", 10, "10 to 19"),
        (" 7\n", 1, "7"),
        ("-7", 1, "-7"),
        ("9" * 18, 10, f"{10**18 - 10} to {10**18 - 1}"),
    ],
)
def test_a_whole_number_becomes_its_range(value: str, size: int, label: str) -> None:
    assert label_of(value, size) == label


@pytest.mark.parametrize(
    "value",
    [
        "1894.0",
        "c. 1900",
        "1_000",
        "+5",
        "١٨٩٤",
        "１８９４",
        "- 5",
        "--5",
        "-",
        "1e3",
        "0x10",
        "\u22125",
        "1 894",
        "9" * 19,
    ],
)
def test_what_is_no_whole_number_is_rejected(value: str) -> None:
    found = row(values=[value], bin=100, attribute="year")
    assert found == Dropped(
        key="1/0",
        uri="http://museum.example/1/0.jpg",
        reason=Reason.NOT_A_NUMBER,
        detail=f"year {value!r} is no whole number",
    )
    assert Reason.NOT_A_NUMBER.kind == "rejected"
    with pytest.raises(ValueError, match="is no whole number"):
        bin_label(value, 1)


def test_an_empty_value_has_no_bin_and_no_label() -> None:
    assert row(values=["", "  "], bin=100) == artwork(labels=[])


def test_of_several_values_each_goes_to_its_bin_and_each_must_be_a_number() -> None:
    assert row(values=["1894|1801| 1700"], bin=100, split_values="|") == artwork(
        labels=["1700 to 1799", "1800 to 1899"]
    )
    found = row(values=["1894|c. 1900"], bin=100, split_values="|")
    assert isinstance(found, Dropped)
    assert found.detail == "label 'c. 1900' is no whole number"


def test_filters_come_before_bins() -> None:
    found = row({"place": "France"}, values=["c. 1900"], bin=100, filter=("place=Italy",))
    assert isinstance(found, Dropped)
    assert found.reason is Reason.NOT_MATCHING


@given(st.integers(-(10**18) + 1, 10**18 - 1), st.integers(1, 10**6))
def test_a_number_lies_in_its_range(number: int, size: int) -> None:
    label = bin_label(str(number), size)
    low, _, high = label.partition(" to ")
    assert int(low) <= number <= int(high or low)
    assert int(high or low) - int(low) == size - 1
    assert int(low) % size == 0


@given(hostile_text, hostile_text, hostile_text)
@example("1894", "1894", "|")
def test_any_text_gives_a_row_or_a_reason(value: str, wanted: str, separator: str) -> None:
    found = row({"a": value}, values=[value], bin=10, filter=(f"a={wanted}",), split_values=separator)
    if isinstance(found, Dropped):
        assert found.reason in (Reason.NOT_MATCHING, Reason.NOT_A_NUMBER)
        assert found.detail.isprintable()
    else:
        assert all(" to " in label for label in found.labels)


def test_attributes_of_labels_and_filters_must_be_there() -> None:
    def check(**options: object) -> None:
        check_attributes(SourceOptions(input="list.csv", **options), ["culture", "medium"])  # type: ignore[arg-type]

    check(attribute="medium", filter=("culture=x", "medium=y"))
    with pytest.raises(OptionError, match=r"unknown attribute 'label' in list\.csv: choose one of culture, medium"):
        check()
    with pytest.raises(OptionError, match=r"unknown attribute 'colour' in list\.csv"):
        check(attribute="medium", filter=("colour=red",))


def test_without_a_label_its_attribute_need_not_be_there_but_those_of_filters_must() -> None:
    check_attributes(SourceOptions(input="list.csv", all_attributes=True), ["culture"])
    with pytest.raises(OptionError, match="unknown attribute 'colour'"):
        check_attributes(SourceOptions(input="list.csv", all_attributes=True, filter=("colour=red",)), ["culture"])


def test_the_catalogue_gives_every_column_if_asked(tmp_path: Path) -> None:
    path = tmp_path / "MetObjects.csv"
    path.write_text(
        "Object ID,Is Public Domain,Title,Culture,Artist Display Name\n1,True,The  Wave,Japan,\n2,True,Bowl,Iran,\n"
    )
    source = ReadOpenAccessCsv(SourceOptions(input=str(path), all_attributes=True, filter=("culture=japan",)))
    source.check()
    with beam.Pipeline(runner=LocalRunner()) as pipeline:
        outputs = pipeline | source
        carried = outputs[ARTWORKS] | beam.Map(lambda row: (row.key, row.labels, dict(row.attributes)))
        dropped = outputs[DROPPED] | beam.Map(lambda row: row.reason)
        columns = {"object_id": "1", "is_public_domain": "True", "title": "The Wave", "culture": "Japan"}
        assert_that(carried, equal_to([("1/0", (), columns)]), "Carried")
        assert_that(dropped, equal_to([Reason.NOT_MATCHING]), "Dropped")


def test_the_attribute_that_was_meant_is_named() -> None:
    with pytest.raises(
        OptionError, match=r"unknown attribute 'cultur' in list\.csv: did you mean 'culture'\? choose one"
    ):
        check_attributes(SourceOptions(input="list.csv", attribute="cultur"), ["title", "culture"])
