import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beam_pipelines.dataset import Feature
from beam_pipelines.fetch.record_files import parse_record
from beam_pipelines.rejects import Reason, RejectedError
from beam_pipelines.tfrecords import encode_example


def refusal(record: bytes) -> str:
    with pytest.raises(RejectedError) as caught:
        parse_record(record)
    assert caught.value.reason is Reason.CORRUPT_RECORD
    return caught.value.detail


def test_an_image_example_is_taken_whatever_else_it_lacks() -> None:
    assert parse_record(encode_example({Feature.ENCODED: b"x"})) == {Feature.ENCODED: [b"x"]}


@given(record=st.binary(max_size=60))
def test_any_bytes_are_an_example_or_damaged(record: bytes) -> None:
    with contextlib.suppress(RejectedError):
        assert isinstance(parse_record(record)[Feature.ENCODED][0], bytes)


@pytest.mark.parametrize("features", [{}, {Feature.ENCODED: 5}, {Feature.ENCODED: [b"a", b"b"]}, {Feature.KEY: b"a"}])
def test_an_example_without_one_picture_is_told(features: dict[str, bytes]) -> None:
    assert refusal(encode_example(features)) == "the example lacks image/encoded"
