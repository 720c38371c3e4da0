import gzip
import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beam_pipelines import files
from tests.beam_pipelines.builders import BUCKET, object_store


def write_half(path: str) -> None:
    with files.open_to_write(path) as file:
        file.write(b"half")
        raise KeyboardInterrupt


def stage_half(path: str) -> None:
    with files.staged(path) as local:
        Path(local).write_bytes(b"half")
        raise KeyboardInterrupt


def remove_under_way(local: str, folder: str) -> None:
    """Writes what is under way, and clears up as if its process had been killed."""
    Path(local).write_bytes(b"half")
    files.remove_unfinished(folder)


def test_a_file_appears_whole_when_its_block_ends(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "a.bin"
    with files.open_to_write(str(path)) as file:
        file.write(b"half")
        file.flush()
        assert not path.exists()
        file.write(b" and half")
    assert path.read_bytes() == b"half and half"
    assert os.listdir(path.parent) == ["a.bin"]


def test_a_file_does_not_appear_if_its_block_raises(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")
    with pytest.raises(KeyboardInterrupt):
        write_half(str(path))
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["a.bin"]


def test_what_is_staged_appears_only_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    with files.staged(str(path)) as local:
        Path(local).write_bytes(b"whole")
        assert not path.exists()
    assert path.read_bytes() == b"whole"
    with pytest.raises(KeyboardInterrupt):
        stage_half(str(path))
    assert path.read_bytes() == b"whole"
    assert os.listdir(tmp_path) == ["a.bin"]


def test_staging_nothing_is_an_error_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), files.staged(str(tmp_path / "a.bin")):
        pass
    assert os.listdir(tmp_path) == []


def test_what_killed_processes_left_is_deleted_and_nothing_else(tmp_path: Path) -> None:
    for name in ("train-00000-of-00001.tfrecord", ".unfinished-12-ab", ".plan/accounts/.unfinished-12-cd", ".plan/x"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    with pytest.raises(FileNotFoundError), files.staged(str(tmp_path / "a.bin")) as local:
        remove_under_way(local, str(tmp_path))
    assert files.list_files(str(tmp_path)) == [".plan/x", "train-00000-of-00001.tfrecord"]
    files.remove_unfinished(str(tmp_path / "not there"))


def test_files_below_a_folder_are_listed_in_order(tmp_path: Path) -> None:
    for name in ("b/2", "b/1/x", "a", ".hidden", "b [1]/*"):
        files.write_bytes(str(tmp_path / name), b"")
    expected = [".hidden", "a", "b [1]/*", "b/1/x", "b/2"]
    assert files.list_files(str(tmp_path)) == expected
    assert files.list_files(f"{tmp_path}/") == expected
    assert files.list_files(str(tmp_path / "no")) == []


def test_a_pattern_names_files(tmp_path: Path) -> None:
    for name in ("a1.csv", "a2.csv", "b.csv", "a[1].csv", "sub/a3.csv", "a4.csv/x"):
        files.write_bytes(str(tmp_path / name), b"x")

    def found(pattern: str) -> list[str]:
        return [os.path.relpath(path, tmp_path) for path in files.matching(str(tmp_path / pattern))]

    assert found("a?.csv") == ["a1.csv", "a2.csv"]
    assert found("a[1].csv") == ["a[1].csv"]
    assert found("**/a*.csv") == ["a1.csv", "a2.csv", "a[1].csv", "sub/a3.csv"]
    assert found("sub") == found("nothing*") == []


def test_a_pattern_names_objects() -> None:
    with object_store():
        for name in ("a1.csv", "a2.csv", "b.csv", "sub/a3.csv"):
            files.write_bytes(f"{BUCKET}/d/{name}", b"x")
        assert files.matching(f"{BUCKET}/d/a*.csv") == [f"{BUCKET}/d/a1.csv", f"{BUCKET}/d/a2.csv"]
        assert files.matching(f"{BUCKET}/d/b.csv") == [f"{BUCKET}/d/b.csv"]
        assert files.matching(f"{BUCKET}/**/a3.csv") == [f"{BUCKET}/d/sub/a3.csv"]
        assert files.matching(f"{BUCKET}/d") == files.matching(BUCKET) == []


def test_files_that_are_not_there(tmp_path: Path) -> None:
    path = str(tmp_path / "no")
    assert not files.exists(path)
    for read in (files.read_bytes, files.read_json, files.size, lambda path: list(files.read_lines(path))):
        with pytest.raises(FileNotFoundError):
            read(path)
    files.remove(path)
    files.remove_tree(path)


def test_lines_come_back_as_they_were(tmp_path: Path) -> None:
    lines = ["Sèvres", "", "a\rb", "a\u2028b", "end"]
    files.write_lines(str(tmp_path / "a"), lines)
    assert list(files.read_lines(str(tmp_path / "a"))) == lines
    files.write_lines(str(tmp_path / "a"), [])
    assert list(files.read_lines(str(tmp_path / "a"))) == []


def test_json_comes_back_in_its_own_order(tmp_path: Path) -> None:
    value = {"b": [1, "Sèvres", "\udcff"], "a": None}
    files.write_json(str(tmp_path / "a"), value)
    found = files.read_json(str(tmp_path / "a"))
    assert json.dumps(found) == json.dumps(value)


def test_what_json_cannot_hold_leaves_the_old_file(tmp_path: Path) -> None:
    files.write_json(str(tmp_path / "a"), 1)
    with pytest.raises(TypeError):
        files.write_json(str(tmp_path / "a"), {"a": object()})
    assert files.read_json(str(tmp_path / "a")) == 1


def test_a_compressed_file_is_read_as_it_is_unless_asked(tmp_path: Path) -> None:
    files.write_bytes(str(tmp_path / "a.gz"), gzip.compress(b"text"))
    assert gzip.decompress(files.read_bytes(str(tmp_path / "a.gz"))) == b"text"
    with files.open_to_read(str(tmp_path / "a.gz"), decompress=True) as file:
        assert file.read() == b"text"


def test_a_tree_is_copied_and_removed(tmp_path: Path) -> None:
    files.write_bytes(str(tmp_path / "from/a/b"), b"x")
    files.copy_tree(str(tmp_path / "from"), str(tmp_path / "to"))
    assert files.read_bytes(str(tmp_path / "to/a/b")) == b"x"
    files.remove_tree(str(tmp_path / "from"))
    assert files.list_files(str(tmp_path)) == ["to/a/b"]
    files.remove(str(tmp_path / "to/a/b"))
    assert files.list_files(str(tmp_path)) == []


@given(st.lists(st.text("ab\r\u2028é", max_size=3), max_size=12), st.integers(1, 5))
def test_lines_are_sorted_in_memory_and_on_disk(lines: list[str], in_memory: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files, "_LINES_IN_MEMORY", in_memory)
        assert list(files.sorted_lines(iter(lines))) == sorted(lines)


def test_an_object_store_is_a_folder_like_any_other() -> None:
    folder = f"{BUCKET}/a/data set"
    with object_store():
        assert files.list_files(folder) == []
        assert not files.exists(f"{folder}/x")
        with pytest.raises(FileNotFoundError):
            files.read_bytes(f"{folder}/x")
        with pytest.raises(FileNotFoundError):
            files.size(f"{folder}/x")
        files.write_lines(files.join(folder, "b", "x"), ["Sèvres", "2"])
        with pytest.raises(KeyboardInterrupt):
            write_half(f"{folder}/half")
        files.write_json(f"{folder}/a", {"key": 1})
        assert files.list_files(folder) == ["a", "b/x"]
        assert list(files.read_lines(f"{folder}/b/x")) == ["Sèvres", "2"]
        assert files.read_json(f"{folder}/a") == {"key": 1}
        assert files.size(f"{folder}/b/x") == len("Sèvres\n2\n".encode())
        files.remove_unfinished(folder)
        files.remove(f"{folder}/a")
        assert files.list_files(folder) == ["b/x"]
        files.remove_tree(folder)
        assert files.list_files(folder) == []
