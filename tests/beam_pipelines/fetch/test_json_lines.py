import base64
import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beam_pipelines.fetch.json_lines import JsonRow, max_line_bytes, parse_line
from beam_pipelines.rejects import Reason, RejectedError
from tests.beam_pipelines.builders import hostile_text
from tests.beam_pipelines.json_pictures import json_line

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | hostile_text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


def refusal(line: bytes) -> str:
    with pytest.raises(RejectedError) as caught:
        parse_line(line)
    assert caught.value.reason is Reason.BAD_ROW
    return caught.value.detail


@given(key=hostile_text, image=st.binary(max_size=50), labels=st.lists(hostile_text, max_size=2))
def test_a_line_gives_what_was_put_into_it(key: str, image: bytes, labels: list[str]) -> None:
    assert parse_line(json_line(image, key=key, labels=labels)) == JsonRow(key=key, labels=tuple(labels), image=image)


@pytest.mark.parametrize(
    ("more", "key", "labels"),
    [
        ({}, "", ()),
        ({"key": None, "label": None}, "", ()),
        ({"key": 7, "label": "hat"}, "7", ("hat",)),
        ({"label": "", "other": [1]}, "", ("",)),
    ],
)
def test_key_and_labels_may_be_left_out(more: dict[str, Any], key: str, labels: tuple[str, ...]) -> None:
    assert parse_line(json_line(b"x", **more)) == JsonRow(key=key, labels=labels, image=b"x")


def test_a_byte_order_mark_and_a_carriage_return_do_no_harm() -> None:
    assert parse_line(b"\xef\xbb\xbf" + json_line(b"x") + b"\r").image == b"x"


@given(line=st.binary(max_size=60))
def test_any_bytes_are_a_row_or_a_bad_one(line: bytes) -> None:
    refusal(line)


@given(cut=st.integers(0, 60))
def test_a_line_that_is_cut_short_is_bad(cut: int) -> None:
    line = json_line(b"a picture of some bytes", key="a")
    refusal(line[: min(cut, len(line) - 1)])


@given(picture=values, key=values, labels=values)
def test_any_values_are_a_row_or_a_bad_one(picture: Any, key: Any, labels: Any) -> None:
    for told in (picture, {"b64": picture}):
        line = json.dumps({"image_bytes": told, "key": key, "labels": labels}).encode()
        with contextlib.suppress(RejectedError):
            assert isinstance(parse_line(line), JsonRow)


@pytest.mark.parametrize(
    ("line", "detail"),
    [
        (b"[" * 100_000, "the line is no JSON"),
        (b"9" * 10_000, "the line is no JSON"),
        (json_line(b"x").decode().encode("utf-16"), "the line is no UTF-8"),
        (b"[]", "the line is no JSON object"),
        (b'{"image_bytes": "eA=="}', 'the line has no picture: give "image_bytes": {"b64": …}'),
        (b'{"image_bytes": {"b64": "eA?=="}}', "the picture is no base64"),
        (b'{"image_bytes": {"b64": "eA"}}', "the picture is no base64"),
        (b'{"image_bytes": {"b64": "\xc3\xa9"}}', "the picture is no base64"),
        (json_line(b"x", key=[]), "the key is neither a text nor a whole number"),
        (json_line(b"x", key=True), "the key is neither a text nor a whole number"),
        (json_line(b"x", labels=["a", 1]), "the labels are no texts: \"['a', 1]\""),
    ],
)
def test_what_is_wrong_is_told(line: bytes, detail: str) -> None:
    assert refusal(line) == detail


@given(size=st.integers(0, 5000))
def test_a_picture_within_bounds_has_a_line_within_bounds(size: int) -> None:
    assert len(base64.b64encode(bytes(size))) + 60_000 < max_line_bytes(size)
