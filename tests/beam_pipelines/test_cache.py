import os
from pathlib import Path

import pytest
from hypothesis import given

from beam_pipelines import files
from beam_pipelines.cache import NO_BOUND, CachedFetch, FileCache, make_room
from tests.beam_pipelines.builders import BUCKET, Museum, hostile_text, killed_at, object_store

ADDRESS = "http://museum.example/a b.jpg"
_OVERHEAD = 32


def kept_files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def test_what_is_kept_can_be_read(tmp_path: Path) -> None:
    cache = FileCache(str(tmp_path))
    assert cache.read(ADDRESS) is None
    assert cache.keep(ADDRESS, b"a picture")
    assert cache.read(ADDRESS) == b"a picture"
    assert FileCache(str(tmp_path)).read(ADDRESS) == b"a picture"
    assert cache.read(ADDRESS + "?") is None


def test_what_is_kept_begins_as_it_came(tmp_path: Path) -> None:
    """So that people can look at the pictures."""
    FileCache(str(tmp_path)).keep(ADDRESS, b"a picture")
    (path,) = kept_files(tmp_path)
    assert path.read_bytes()[:-_OVERHEAD] == b"a picture"


def test_on_cloud_storage(tmp_path: Path) -> None:
    with object_store():
        cache = FileCache(f"{BUCKET}/cache")
        assert cache.read(ADDRESS) is None
        assert cache.keep(ADDRESS, b"a picture")
        assert cache.read(ADDRESS) == b"a picture"
        assert make_room(f"{BUCKET}/cache", max_bytes=1) == 1
        assert cache.read(ADDRESS) is None


@pytest.mark.parametrize("damaged", [b"", b"a", b"a picturE" + bytes(32)])
def test_a_damaged_file_is_no_answer_and_is_kept_anew(tmp_path: Path, damaged: bytes) -> None:
    cache = FileCache(str(tmp_path))
    cache.keep(ADDRESS, b"a picture")
    kept_files(tmp_path)[0].write_bytes(damaged)
    assert cache.read(ADDRESS) is None
    assert cache.keep(ADDRESS, b"a picture")
    assert cache.read(ADDRESS) == b"a picture"


def test_killed_while_keeping(tmp_path: Path) -> None:
    cache = FileCache(str(tmp_path))
    with killed_at(1):
        cache.keep(ADDRESS, b"a picture")
    assert cache.read(ADDRESS) is None
    assert cache.keep(ADDRESS, b"a picture")
    assert cache.read(ADDRESS) == b"a picture"


def test_a_process_keeps_no_more_than_its_room(tmp_path: Path) -> None:
    cache = FileCache(str(tmp_path), room=2 * (10 + _OVERHEAD))
    assert [cache.keep(f"{ADDRESS}?{number}", bytes(10)) for number in range(3)] == [True, True, False]
    assert cache.keep(f"{ADDRESS}?1", bytes(10))
    assert sum(path.stat().st_size for path in kept_files(tmp_path)) == 2 * (10 + _OVERHEAD)


def test_the_oldest_go_first(tmp_path: Path) -> None:
    cache = FileCache(str(tmp_path))
    for age, name in enumerate(["new", "old", "oldest"]):
        before = set(kept_files(tmp_path))
        cache.keep(name, bytes(100))
        (path,) = set(kept_files(tmp_path)) - before
        os.utime(path, (1_000_000 - age, 1_000_000 - age))
    size = 100 + _OVERHEAD
    assert make_room(str(tmp_path), max_bytes=5 * size) == 2 * size
    assert make_room(str(tmp_path), max_bytes=2 * size + 1) == 1
    assert [cache.read(name) is None for name in ("new", "old", "oldest")] == [False, False, True]
    assert make_room(str(tmp_path / "nowhere"), max_bytes=7) == 7


@given(address=hostile_text, other=hostile_text)
def test_addresses_are_no_paths(tmp_path_factory: pytest.TempPathFactory, address: str, other: str) -> None:
    folder = tmp_path_factory.mktemp("cache", numbered=True)
    cache = FileCache(str(folder / "cache"))
    cache.keep(address, b"content")
    assert cache.read(address) == b"content"
    assert (cache.read(other) is None) == (other != address)
    assert [path.name for path in folder.iterdir()] == ["cache"]


def test_pictures_of_other_machines_are_fetched_once(tmp_path: Path) -> None:
    pictures = {
        uri: uri.encode() for uri in (ADDRESS, "https://h/1", "gs://b/1", "/a/file.jpg", "file:///1", "idx:/1#2")
    }
    museum = Museum(pictures)
    for _ in range(2):
        cached = CachedFetch(museum.fetch, FileCache(str(tmp_path)))
        for uri, data in pictures.items():
            assert cached.fetch(uri) == data
            cached.keep(uri, data)
    here = ["/a/file.jpg", "file:///1", "idx:/1#2"]
    assert museum.take_asked() == sorted([*pictures, *here])


def test_a_picture_that_was_not_found_good_is_fetched_again(tmp_path: Path) -> None:
    museum = Museum({ADDRESS: b"a page"})
    for _ in range(2):
        assert CachedFetch(museum.fetch, FileCache(str(tmp_path))).fetch(ADDRESS) == b"a page"
    assert museum.take_asked() == [ADDRESS, ADDRESS]
    assert files.list_files(str(tmp_path)) == []


def test_what_killed_runs_left_is_deleted_when_it_is_old(tmp_path: Path) -> None:
    cache = FileCache(str(tmp_path))
    cache.keep(ADDRESS, b"a picture")
    (folder,) = tmp_path.iterdir()
    old, young = folder / ".unfinished-1", folder / ".unfinished-2"
    for path in (old, young):
        path.touch()
    os.utime(old, (1_000_000, 1_000_000))
    assert make_room(str(tmp_path), max_bytes=0) == NO_BOUND
    assert (old.exists(), young.exists()) == (False, True)
    assert cache.read(ADDRESS) == b"a picture"


def test_a_bound_that_is_reached_takes_nothing_more(tmp_path: Path) -> None:
    FileCache(str(tmp_path)).keep(ADDRESS, b"a picture")
    room = make_room(str(tmp_path), max_bytes=9 + _OVERHEAD)
    assert room == 0
    assert not FileCache(str(tmp_path), room=room).keep("another", b"")
