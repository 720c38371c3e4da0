import io
import json
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beam_pipelines import files
from beam_pipelines.errors import OptionError
from beam_pipelines.fetch.fetcher import Fetcher, FetchLimits
from beam_pipelines.rejects import Reason
from beam_pipelines.sources import ReadOptions, SourceOptions, make_source
from beam_pipelines.sources.jsonl import Line, read_lines, to_artwork
from tests.beam_pipelines.builders import BUCKET, object_store, outcome, run_rows
from tests.beam_pipelines.json_pictures import json_line, write_lines

HOSTILE = [
    b'{"key": "cut sh',
    b"\xff\xfe\xff",
    json_line(b"x", key="bad base64")[:-4] + b'?"}}',
    b"[]",
    b'{"key": "no picture"}',
    b"null",
]


def options(path: Path | str, *, attribute: str = "label") -> SourceOptions:
    reading = ReadOptions(fetch=FetchLimits(max_bytes=1000))
    return SourceOptions(input=str(path), reading=reading, attribute=attribute)


def check(path: Path, *, attribute: str = "label") -> None:
    make_source("jsonl", options(path, attribute=attribute)).check()


def test_every_line_is_a_row_or_is_told(tmp_path: Path) -> None:
    good = [json_line(b"a picture", key="a", label="hat"), json_line(b"another", labels=["b", "a"])]
    path = write_lines(tmp_path / "in.jsonl", [good[0], b"", *HOSTILE, b"  ", good[1]])
    source = make_source("jsonl", options(path))
    source.check()
    rows, dropped = run_rows(source, tmp_path / "run")
    assert [(row.key, row.labels) for row in rows] == [("a", ("hat",)), ("in.jsonl:10", ("a", "b"))]
    assert [(row.key, row.reason) for row in dropped] == [
        (f"in.jsonl:{number}", Reason.BAD_ROW) for number in range(3, 9)
    ]
    with Fetcher(FetchLimits()) as fetcher:
        assert [fetcher.fetch(row.image_uri) for row in rows] == [b"a picture", b"another"]


def test_several_files_may_be_named_by_a_pattern(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        write_lines(tmp_path / name / "in.jsonl", [json_line(name.encode())])
    rows, _ = run_rows(make_source("jsonl", options(tmp_path / "*" / "in.jsonl")), tmp_path / "run")
    assert [row.key for row in rows] == ["a/in.jsonl:1", "b/in.jsonl:1"]


def test_files_may_lie_in_cloud_storage(tmp_path: Path) -> None:
    with object_store():
        files.write_bytes(f"{BUCKET}/in.jsonl", json_line(b"a picture") + b"\n" + b"x\n" + json_line(b"another"))
        source = make_source("jsonl", options(f"{BUCKET}/in.jsonl"))
        source.check()
        rows, dropped = run_rows(source, tmp_path / "run")
        with Fetcher(FetchLimits()) as fetcher:
            assert sorted(fetcher.fetch(row.image_uri) for row in rows) == [b"a picture", b"another"]
    assert [row.key for row in dropped] == ["in.jsonl:2"]


@given(
    lines=st.lists(st.binary(max_size=30).map(lambda line: line.replace(b"\n", b"")), max_size=6), more=st.booleans()
)
def test_lines_are_where_they_are_told_to_be(lines: list[bytes], more: bool) -> None:
    content = b"\n".join(lines) + b"\n" * more
    found = list(read_lines(io.BytesIO(content), max_bytes=20))
    expected = [(number, line) for number, line in enumerate(lines, start=1) if line.strip() or len(line) > 20]
    assert [(line.number, content[line.offset : line.offset + line.length]) for line in found] == expected
    assert all(
        line.content == (text if len(text) <= 20 else None) for line, (_, text) in zip(found, expected, strict=True)
    )


class _Endless(io.RawIOBase):
    """A line of 100 MB, and a short one."""

    def __init__(self) -> None:
        self.left = 100_000_000

    def read(self, size: int = -1) -> bytes:
        taken, self.left = min(size, self.left), max(0, self.left - size)
        return b"x" * taken if taken == size else b"x" * taken + (b"\n{}" if taken else b"")


def test_a_line_of_100_mb_is_passed_over() -> None:
    endless = _Endless()
    tracemalloc.start()
    long, short = read_lines(endless, max_bytes=4_000_000)  # type: ignore[arg-type]
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (long, short.content) == (Line(1, 0, 100_000_000, None), b"{}")
    assert peak < 20_000_000
    _, (dropped,) = outcome([to_artwork(long, "/in.jsonl", name="in.jsonl", options=options("/in.jsonl"))])
    assert (dropped.key, dropped.reason) == ("in.jsonl:1", Reason.TOO_LARGE)


@pytest.mark.parametrize("request_body", [{"instances": []}, {"signature_name": "x", "instances": []}])
def test_a_request_is_no_list(tmp_path: Path, request_body: object) -> None:
    (tmp_path / "request.json").write_text(json.dumps(request_body, indent=1))
    with pytest.raises(OptionError, match="images_to_json --format jsonl"):
        check(tmp_path / "request.json")


def test_what_cannot_be_read_from_its_middle_is_told(tmp_path: Path) -> None:
    (tmp_path / "in.jsonl.gz").write_bytes(b"\x1f\x8b\x08")
    with pytest.raises(OptionError, match=r"in\.jsonl\.gz is packed"):
        check(tmp_path / "in.jsonl.gz")
    with pytest.raises(OptionError, match="there is no such file"):
        check(tmp_path / "none.jsonl")
    write_lines(tmp_path / "in.jsonl", [json_line(b"x")])
    with pytest.raises(OptionError, match="unknown attribute 'culture'"):
        check(tmp_path / "in.jsonl", attribute="culture")
