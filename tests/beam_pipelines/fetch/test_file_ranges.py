import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beam_pipelines import files
from beam_pipelines.fetch.fetcher import Fetcher, FetchLimits
from beam_pipelines.fetch.file_ranges import FileRange
from beam_pipelines.rejects import Reason, RejectedError
from tests.beam_pipelines.builders import BUCKET, hostile_text, object_store
from tests.beam_pipelines.json_pictures import image_record, json_line

LINE, RECORD = json_line(b"a picture"), image_record(b"a picture")
MAX_BYTES = 1000


@pytest.fixture
def fetcher() -> Iterator[Fetcher]:
    with Fetcher(FetchLimits(max_retries=0, read_timeout=5, total_timeout=5, max_bytes=MAX_BYTES)) as fetcher:
        yield fetcher


def rejection(fetcher: Fetcher, uri: str) -> Reason:
    with pytest.raises(RejectedError) as caught:
        fetcher.fetch(uri)
    return caught.value.reason


@given(offset=st.integers(0, 10**14), length=st.integers(0, 10**11), path=hostile_text.filter(bool))
def test_a_place_comes_back_from_its_address(offset: int, length: int, path: str) -> None:
    place = FileRange(scheme="jsonl", offset=offset, length=length, path=path)
    assert FileRange.parse(place.address) == place


@given(text=hostile_text | hostile_text.map("tfrecord:".__add__))
def test_whatever_an_address_is_it_is_a_place_or_refused(text: str) -> None:
    with contextlib.suppress(RejectedError):
        assert FileRange.parse(text).address


@pytest.mark.parametrize(("scheme", "content"), [("jsonl", LINE), ("tfrecord", RECORD)])
@pytest.mark.parametrize("before", [0, 7, 3_000_000])
def test_a_picture_is_read_where_it_lies(
    fetcher: Fetcher, tmp_path: Path, scheme: str, content: bytes, before: int
) -> None:
    path = tmp_path / "all of: them"
    path.write_bytes(b"x" * before + content + b"more")
    assert fetcher.fetch(f"{scheme}:{before}:{len(content)}:{path}") == b"a picture"
    assert fetcher.fetch(f"{scheme}:{before}:{len(content)}:{path.as_uri()}") == b"a picture"


@pytest.mark.parametrize(("scheme", "content"), [("jsonl", LINE), ("tfrecord", RECORD)])
def test_a_picture_is_read_where_it_lies_in_cloud_storage(scheme: str, content: bytes) -> None:
    with object_store():
        files.write_bytes(f"{BUCKET}/pictures", b"x" * 9 + content + b"more")
        with Fetcher(FetchLimits(max_retries=0)) as fetcher:
            assert fetcher.fetch(f"{scheme}:9:{len(content)}:{BUCKET}/pictures") == b"a picture"
            assert rejection(fetcher, f"{scheme}:9:9:{BUCKET}/none") is Reason.NOT_FOUND


@pytest.mark.parametrize("scheme", ["jsonl", "tfrecord"])
def test_what_is_not_there_or_too_much_is_refused(fetcher: Fetcher, tmp_path: Path, scheme: str) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"0123456789")
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    assert rejection(fetcher, f"{scheme}:5:10:{path}") is Reason.INCOMPLETE_BODY
    assert rejection(fetcher, f"{scheme}:{10**14}:10:{path}") is Reason.INCOMPLETE_BODY
    assert rejection(fetcher, f"{scheme}:0:{10**11}:{path}") is Reason.TOO_LARGE
    assert rejection(fetcher, f"{scheme}:0:1:{path}s") is Reason.NOT_FOUND
    assert rejection(fetcher, f"{scheme}:0:1:{pipe}") is Reason.NOT_FOUND
    assert rejection(fetcher, f"{scheme}:{path}") is Reason.BAD_URI
    assert rejection(fetcher, f"{scheme}:0:{'9' * 5000}:{path}") is Reason.BAD_URI


def test_a_file_that_has_changed_is_told(fetcher: Fetcher, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"\0" * 100)
    assert rejection(fetcher, f"jsonl:0:100:{path}") is Reason.BAD_ROW
    assert rejection(fetcher, f"tfrecord:0:100:{path}") is Reason.CORRUPT_RECORD


def test_a_picture_beyond_the_bound_is_too_large(fetcher: Fetcher, tmp_path: Path) -> None:
    path = tmp_path / "file"
    for scheme, content in (
        ("jsonl", json_line(b"x" * (MAX_BYTES + 1))),
        ("tfrecord", image_record(b"x" * (MAX_BYTES + 1))),
    ):
        path.write_bytes(content)
        assert rejection(fetcher, f"{scheme}:0:{len(content)}:{path}") is Reason.TOO_LARGE


@pytest.mark.parametrize("scheme", ["jsonl", "tfrecord"])
def test_files_that_may_not_be_read_are_not(tmp_path: Path, scheme: str) -> None:
    (tmp_path / "file").write_bytes(LINE)
    with Fetcher(FetchLimits(allow_paths=False)) as fetcher:
        assert rejection(fetcher, f"{scheme}:0:{len(LINE)}:{tmp_path}/file") is Reason.REFUSED_ADDRESS
