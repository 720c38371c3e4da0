"""The text of queries, without a BigQuery to ask."""

import re

import pytest
from hypothesis import given

from beam_pipelines.errors import OptionError
from beam_pipelines.sources import SourceOptions
from beam_pipelines.sources.bigquery_sql import Table, counts_query, find_tables, literal, quote, rows_query
from tests.beam_pipelines.builders import hostile_text

_MET = Table("bigquery-public-data", "the_met", "objects")
_IMAGES = Table("bigquery-public-data", "the_met", "images")


@pytest.mark.parametrize(
    ("input_", "images_input", "expected"),
    [
        ("bigquery-public-data.the_met", "", (_MET, _IMAGES)),
        ("bigquery-public-data.the_met.works", "", (Table("bigquery-public-data", "the_met", "works"), _IMAGES)),
        ("bigquery-public-data.the_met", "mine.of_me.views", (_MET, Table("mine", "of_me", "views"))),
        (
            "example.com:mine.of_me",
            "",
            tuple(Table("example.com:mine", "of_me", name) for name in ("objects", "images")),
        ),
    ],
)
def test_tables_are_found_by_their_names(input_: str, images_input: str, expected: tuple[Table, Table]) -> None:
    assert find_tables(SourceOptions(input=input_, images_input=images_input)) == expected


@pytest.mark.parametrize(
    "name", ["", "the_met", "a.b.c.d", "p.d`; DROP", "p.d.t`", "P.d", "p.d-e", "p..t", "p.d.", "p.d\n"]
)
def test_what_is_no_data_set_is_refused(name: str) -> None:
    with pytest.raises(OptionError, match=r"is no BigQuery data set: give PROJECT\.DATASET"):
        find_tables(SourceOptions(input=name))


@pytest.mark.parametrize("name", ["images", "p.d", "p.d.`i`"])
def test_what_is_no_table_of_images_is_refused(name: str) -> None:
    with pytest.raises(OptionError, match=r"--images_input .* is no BigQuery table"):
        find_tables(SourceOptions(input="p.d", images_input=name))


@given(hostile_text)
def test_a_literal_holds_the_text_and_ends_only_at_its_end(text: str) -> None:
    if "\0" in text or re.search("[\ud800-\udfff]", text):
        with pytest.raises(OptionError, match="cannot stand in a query"):
            literal(text)
        return
    sql = literal(text)
    inside = re.fullmatch(r"'((?:[^'\\\r\n]|\\[\\'rn])*)'", sql)
    assert inside
    unescaped = {r"\\": "\\", r"\'": "'", r"\r": "\r", r"\n": "\n"}
    assert re.sub(r"\\.", lambda escape: unescaped[escape[0]], inside[1]) == text


@pytest.mark.parametrize("name", ["", "a`b", "a\\b", "a\nb"])
def test_no_name_leaves_its_quotes(name: str) -> None:
    with pytest.raises(OptionError, match="is no name in BigQuery"):
        quote(name)


def test_only_the_columns_needed_are_read() -> None:
    query = rows_query(_MET, _IMAGES, ["culture"], SourceOptions(input="p.d", attribute="culture"))
    assert "*" not in query
    assert set(re.findall("`(.*?)`", query)) == {str(_MET), str(_IMAGES), "culture", "gcs_url"}


@pytest.mark.parametrize(("restricted", "filtered"), [(False, True), (True, False)])
def test_works_in_the_public_domain_are_taken_unless_told_otherwise(restricted: bool, filtered: bool) -> None:
    options = SourceOptions(input="p.d", attribute="culture", include_restricted=restricted)
    for make_query in (rows_query, counts_query):
        assert ("is_public_domain" in make_query(_MET, _IMAGES, ["culture"], options)) is filtered


def test_filters_are_escaped() -> None:
    options = SourceOptions(input="p.d", attribute="culture", filter=("culture=' OR 1=1 --", "title=a\\"))
    query = rows_query(_MET, _IMAGES, ["culture", "title"], options)
    assert r"NORMALIZE_AND_CASEFOLD('\' or 1=1 --')" in query
    assert r"NORMALIZE_AND_CASEFOLD('a\\')" in query


def test_a_filter_as_long_as_texts_that_are_cut_is_left_to_the_reader() -> None:
    options = SourceOptions(input="p.d", attribute="culture", filter=("culture=" + "x" * 300,))
    assert "NORMALIZE" not in rows_query(_MET, _IMAGES, ["culture"], options)
