import bz2
import gzip
import random
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beam_pipelines.errors import OptionError, RunError
from beam_pipelines.sources.csv_rows import matching_files, read_columns, read_header, read_rows, snake_case


def written(path: Path, content: bytes) -> str:
    path.write_bytes(content)
    return str(path)


def test_rows_as_museums_publish_them(tmp_path: Path) -> None:
    path = written(
        tmp_path / "list.csv", '\ufeffuri,label\r\n\r\n"a ""b"", c","two\r\nlines"\r\n , \r\nd,Sèvres'.encode()
    )
    assert list(read_rows(path)) == [
        (1, ["uri", "label"]),
        (4, ['a "b", c', "two\r\nlines"]),
        (6, ["d", "Sèvres"]),
    ]


def test_bytes_that_are_no_utf8_are_replaced_and_never_end_a_run(tmp_path: Path) -> None:
    path = written(tmp_path / "list.csv", b"a\xff,b\x00c\n")
    assert list(read_rows(path)) == [(1, ["a\ufffd", "b\x00c"])]


@pytest.mark.parametrize(("name", "compress"), [("list.csv.gz", gzip.compress), ("list.csv.bz2", bz2.compress)])
def test_compressed_lists_are_read_and_missed_if_they_are_cut(name: str, compress: object, tmp_path: Path) -> None:
    assert callable(compress)
    content = compress("\n".join(f"{number}.jpg,{number * 7919 % 1000}" for number in range(5000)).encode())
    whole = written(tmp_path / name, content)
    assert sum(1 for _ in read_rows(whole)) == 5000
    cut = written(tmp_path / f"cut-{name}", content[: len(content) // 2])
    with pytest.raises(RunError, match=r"cut-list\.csv\.\w+ is not whole"):
        list(read_rows(cut))


def test_a_name_that_promises_compression_in_vain(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=r"cannot read .*list\.csv\.gz: Not a gzipped file"):
        read_header(written(tmp_path / "list.csv.gz", b"uri,label\n"))


def test_an_open_quote_does_not_read_a_whole_table_as_one_value(tmp_path: Path) -> None:
    path = written(tmp_path / "list.csv", b'uri,label\n"' + b"x\n" * (1 << 20))
    with pytest.raises(RunError, match="is no CSV file near line"):
        list(read_rows(path))


def test_header_of_an_empty_file(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="is empty"):
        read_header(written(tmp_path / "list.csv", b"\n\n"))


def test_a_git_lfs_pointer_is_named_as_one(tmp_path: Path) -> None:
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:0123\nsize 317650992\n"
    with pytest.raises(OptionError, match=r"MetObjects\.csv is a Git-LFS pointer.*git lfs pull"):
        read_header(written(tmp_path / "MetObjects.csv", pointer))


def test_patterns_and_names_that_look_like_patterns(tmp_path: Path) -> None:
    paths = [written(tmp_path / name, b"x") for name in ("a.csv", "b.csv", "list[1].csv")]
    assert matching_files(str(tmp_path / "?.csv")) == paths[:2]
    assert matching_files(paths[2]) == paths[2:]


def test_nothing_to_read(tmp_path: Path) -> None:
    for missing in ("no.csv", "*.csv", ""):
        with pytest.raises(OptionError, match="cannot read"):
            matching_files(str(tmp_path / missing))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Object ID", "object_id"),
        ("AccessionYear", "accession_year"),
        ("Artist ULAN URL", "artist_ulan_url"),
        ("Is Public Domain", "is_public_domain"),
        (" object_id ", "object_id"),
        ("Titel (de)", "titel_de"),
        ("", ""),
    ],
)
def test_snake_case(name: str, expected: str) -> None:
    assert snake_case(name) == expected


_table_text = st.lists(st.sampled_from(['"', ",", "\n", "\r\n", "a", "b", " ", "é", "\ufeff", "\0", "|"]), max_size=60)


@given(text=_table_text.map("".join), start=st.sampled_from(["", "\ufeff"]))
def test_columns_are_those_of_the_rows(text: str, start: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "table.csv")
        path.write_text(f"{start}a,b,c\n{text}", encoding="utf-8", newline="")
        rows = [row for _, row in read_rows(str(path))][1:]
        expected = [(row[2], row[0]) for row in rows if len(row) == 3]
        found = [cells for cells in read_columns(str(path), [2, 0], width=3) if any(map(str.strip, cells))]
        assert found == [cells for cells in expected if any(map(str.strip, cells))]


def test_columns_that_are_no_utf8_are_read_as_rows_are(tmp_path: Path) -> None:
    path = written(tmp_path / "table.csv", b"a,b\n1,caf\xe9\n2,3,4\n5,x\n")
    assert list(read_columns(path, [1], width=2)) == [("caf\ufffd",), ("x",)]


def test_columns_of_rows_too_long_for_arrow_are_read_all_the_same(tmp_path: Path) -> None:
    cells = [letter * 1_000_000 for letter in "xyzuvw"]
    path = written(tmp_path / "table.csv", f"a,b,c,d,e,f\n1,2,3,4,5,6\n{','.join(cells)}\n6,5,4,3,2,1\n".encode())
    assert set(read_columns(path, [1], width=6)) == {("2",), (cells[1],), ("5",)}


def test_columns_of_a_file_that_was_cut_short_end_the_run(tmp_path: Path) -> None:
    whole = gzip.compress(random.Random(0).randbytes(50_000).hex().encode())
    path = written(tmp_path / "table.csv.gz", whole[: len(whole) // 2])
    with pytest.raises(RunError, match="is not whole"):
        list(read_columns(path, [0], width=1))
