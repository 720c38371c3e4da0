import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beam_pipelines.artwork import MAX_ATTRIBUTE_CHARACTERS
from beam_pipelines.rejects import Reason, RejectedError
from beam_pipelines.sources import API_IMAGES
from beam_pipelines.sources.met_objects import (
    ATTRIBUTE_NAMES,
    NO_OBJECT,
    BlockedError,
    attribute_text,
    attributes_of,
    is_public_domain,
    picture_addresses,
    read_answer,
)
from tests.beam_pipelines.builders import hostile_text
from tests.met_api_server import met_object

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | hostile_text,
    lambda values: st.lists(values, max_size=4) | st.dictionaries(st.just("term") | hostile_text, values, max_size=4),
    max_leaves=8,
)


def answer(**changes: Any) -> bytes:
    return json.dumps(met_object(45434, **changes)).encode()


def test_an_answer_about_the_object() -> None:
    assert read_answer(b"\xef\xbb\xbf\n" + answer(), "45434") == met_object(45434)


@pytest.mark.parametrize(
    "body", [NO_OBJECT, b'{"message": "Not a valid object"}', b'{"objectID": 0}', b'{"objectID": 0, "title": ""}']
)
def test_there_is_no_such_object(body: bytes) -> None:
    assert read_answer(body, "45434") is None


@pytest.mark.parametrize(
    "body", [b"", b" \r\n", b"<html>", b"\xef\xbb\xbf<!DOCTYPE html>", b"Too many requests", b"\xff"]
)
def test_pages_in_place_of_an_answer(body: bytes) -> None:
    with pytest.raises(BlockedError):
        read_answer(body, "45434")


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        (answer()[:-1], "the answer is broken JSON"),
        (b"[" * 100_000, "the answer is broken JSON"),
        (b'{"objectID": ' + b"9" * 5000 + b"}", "the answer is broken JSON"),
        (b"[]", "the answer is no JSON object"),
        (b"null", "the answer is no JSON object"),
        (b"{}", "the answer is not about this object"),
        (b'{"objectID": false, "message": ""}', "the answer is not about this object"),
        (answer(objectID=45435), "the answer is not about this object"),
        (answer(objectID=[45434]), "the answer is not about this object"),
    ],
)
def test_answers_that_make_no_sense(body: bytes, detail: str) -> None:
    with pytest.raises(RejectedError) as caught:
        read_answer(body, "45434")
    assert (caught.value.reason, caught.value.detail) == (Reason.API_FAILED, detail)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("object_id", "45434"),
        ("culture", "Japan"),
        ("is_highlight", "False"),
        ("is_public_domain", "True"),
        ("object_begin_date", "1825"),
        ("tags", "Waves|Boats"),
        ("artist_wikidata_url", "https://www.wikidata.org/wiki/Q5586"),
        ("object_url", "https://www.metmuseum.org/art/collection/search/45434"),
        ("gallery_number", ""),
        ("river", ""),
    ],
)
def test_an_attribute_as_text(name: str, text: str) -> None:
    assert attribute_text(met_object(45434), name) == text


def test_attributes_that_rows_carry() -> None:
    found = met_object(1, title="  Under\r\nthe Wave ", department=None)
    assert attributes_of(found, every=False) == {
        "title": "Under the Wave",
        "artist": "Katsushika Hokusai",
        "date": "ca. 1830–32",
        "credit_line": "H. O. Havemeyer Collection",
    }
    every = attributes_of(found, every=True)
    assert (every["medium"], every["artist_display_name"]) == (
        "Woodblock print; ink and color on paper",
        "Katsushika Hokusai",
    )
    assert set(every) < set(ATTRIBUTE_NAMES)
    assert len(ATTRIBUTE_NAMES) == len(set(ATTRIBUTE_NAMES)) == 52


@pytest.mark.parametrize(
    ("which", "changes", "addresses"),
    [
        ("small", {}, ["http://m/small a.jpg"]),
        ("small", {"primaryImageSmall": ""}, ["http://m/a.jpg"]),
        ("small", {"primaryImageSmall": "a.jpg"}, ["http://m/a.jpg"]),
        ("primary", {}, ["http://m/a.jpg"]),
        ("primary", {"primaryImage": ""}, []),
        ("all", {}, ["http://m/a.jpg", "HTTPS://m/b.jpg", "http://m/c.jpg"]),
        ("all", {"primaryImage": None}, ["HTTPS://m/b.jpg", "http://m/c.jpg", "http://m/a.jpg"]),
        ("all", {"additionalImages": "http://m/b.jpg"}, ["http://m/a.jpg"]),
        ("all", {"additionalImages": None}, ["http://m/a.jpg"]),
        (
            "all",
            {"additionalImages": [7, None, ["http://m"], "file:///etc/passwd", "gs://b/o", f"http://m/{'x' * 2000}"]},
            ["http://m/a.jpg"],
        ),
    ],
)
def test_addresses_of_pictures(which: str, changes: dict[str, Any], addresses: list[str]) -> None:
    found = {
        "primaryImage": "http://m/a.jpg",
        "primaryImageSmall": " http://m/small a.jpg",
        "additionalImages": ["HTTPS://m/b.jpg", "http://m/c.jpg", "http://m/b.jpg"[:0], "http://m/a.jpg"],
        **changes,
    }
    assert picture_addresses(found, which) == addresses


@pytest.mark.parametrize(
    ("value", "is_free"), [(True, True), (False, False), ("true", False), (1, False), (None, False)]
)
def test_only_what_is_said_to_be_in_the_public_domain_is(value: object, is_free: bool) -> None:
    assert is_public_domain({"isPublicDomain": value}) is is_free


@given(st.binary(max_size=40) | json_values.map(lambda value: json.dumps(value).encode()))
def test_any_bytes_are_an_answer_or_a_reason(body: bytes) -> None:
    try:
        found = read_answer(body, "1")
    except (BlockedError, RejectedError):
        return
    assert found is None or str(found["objectID"]) == "1"


@given(st.dictionaries(st.sampled_from(sorted(met_object(1))), json_values, max_size=6), st.sampled_from(API_IMAGES))
def test_any_values_are_borne(values: dict[str, Any], which: str) -> None:
    found = met_object(1, **values)
    for text in attributes_of(found, every=True).values():
        assert text.isprintable()
        assert 0 < len(text) <= MAX_ATTRIBUTE_CHARACTERS
    for address in picture_addresses(found, which):
        assert address.lower().startswith("http")
    is_public_domain(found)
