import json
import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beam_pipelines import files
from beam_pipelines.errors import OptionError
from beam_pipelines.exclusion import Exclude, check_exclude_file, exclude, read_names
from beam_pipelines.plan_files import rejected_line
from beam_pipelines.rejects import Dropped, Kind, Reason
from tests.beam_pipelines.builders import BUCKET, artwork, hostile_text, object_store, outcome, run_rows

ROW = artwork("45434/0", group="45434", uri="http://museum.example/a b.jpg")


def names_in(folder: Path, content: bytes) -> frozenset[str]:
    (folder / "exclude.txt").write_bytes(content)
    return read_names(str(folder / "exclude.txt"))


@pytest.mark.parametrize(
    ("name", "detail"),
    [("45434/0", "by its key"), ("45434", "by its group"), ("http://museum.example/a b.jpg", "by its address")],
)
def test_a_row_is_left_out_by_its_key_group_or_address(name: str, detail: str) -> None:
    kept, (dropped,) = outcome([exclude(ROW, frozenset({name, "else"}))])
    assert not kept
    assert dropped == Dropped(key=ROW.key, uri=ROW.image_uri, reason=Reason.EXCLUDED, detail=detail)
    assert Reason.EXCLUDED.kind is Kind.FILTERED


@pytest.mark.parametrize("name", ["4543", "45434/", "45434/1", "Japan", "", "http://museum.example/a%20b.jpg"])
def test_other_rows_stay(name: str) -> None:
    assert exclude(ROW, frozenset({name})) is ROW


def test_lines_as_editors_leave_them(tmp_path: Path) -> None:
    content = (
        "\ufeff45434/0\r\n\r\n  two words \t\n\n雪.jpg\n\u2028x\x85y".encode() + b"\nJapan/\xff.jpg\n# not a comment"
    )
    assert names_in(tmp_path, content) == {
        "45434/0",
        "two words",
        "雪.jpg",
        "x\x85y",
        "Japan/\udcff.jpg",
        "# not a comment",
    }
    assert names_in(tmp_path, b"") == frozenset()


def test_lines_of_rejected_rows_mean_their_keys(tmp_path: Path) -> None:
    lines = [
        '{"key": "1/0", "uri": "http://museum.example/1.jpg"}',
        "2/0",
        '{"key": 3}',
        '{"uri": "u"}',
        "{",
        "{}",
        "[]",
    ]
    assert names_in(tmp_path, "\n".join(lines).encode()) == {"1/0", *lines[1:]}
    assert len(names_in(tmp_path, b'{"a":' * 100_000)) == 1


@given(st.lists(hostile_text.filter(bool)))
def test_a_list_of_rejected_rows_can_be_fed_back(keys: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "rejected.jsonl")
        rows = (Dropped(key=key, uri="u", reason=Reason.NOT_FOUND) for key in keys)
        files.write_lines(path, map(rejected_line, rows))
        assert read_names(path) == set(keys)


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=r"cannot read --exclude_file .*/no\.txt: there is no such file"):
        check_exclude_file(str(tmp_path / "no.txt"))
    with pytest.raises(OptionError, match=r"cannot read --exclude_file .*: Is a directory"):
        check_exclude_file(str(tmp_path))
    with object_store(), pytest.raises(OptionError, match=r"cannot read --exclude_file gs://a-bucket/no\.txt"):
        check_exclude_file(f"{BUCKET}/no.txt")


def test_rows_of_a_pipeline_are_parted(tmp_path: Path) -> None:
    rows = [artwork(f"{number}/0", group=f"{number}") for number in range(4)]
    (tmp_path / "exclude.txt").write_text(f"1\n{json.dumps({'key': '2/0'})}\n9\n")
    check_exclude_file(str(tmp_path / "exclude.txt"))
    kept, dropped = run_rows(Exclude(str(tmp_path / "exclude.txt")), tmp_path / "run", rows=rows)
    assert kept == [rows[0], rows[3]]
    assert [(row.key, row.reason, row.detail) for row in dropped] == [
        ("1/0", Reason.EXCLUDED, "by its group"),
        ("2/0", Reason.EXCLUDED, "by its key"),
    ]


def test_the_file_may_lie_in_an_object_store(tmp_path: Path) -> None:
    with object_store():
        files.write_bytes(f"{BUCKET}/exclude.txt", b"a\n")
        kept, dropped = run_rows(Exclude(f"{BUCKET}/exclude.txt"), tmp_path, rows=[artwork("a"), artwork("b")])
    assert ([row.key for row in kept], [row.key for row in dropped]) == (["b"], ["a"])
