"""Whole-or-nothing files: on the local disk by rename, in Cloud Storage, and on any file system that Beam knows.

A file appears under its final name with all its bytes or not at all: on the local disk it is written beside its place
and renamed; an object store shows an object only once its upload has ended, and it starts when all bytes are there.
Where a file system refuses, or cannot be reached, `StorageError` says so in one line.
Beam is imported where a path is one of its own alone.
"""

import bz2
import contextlib
import dataclasses
import glob
import gzip
import heapq
import io
import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, BinaryIO, cast

from beam_pipelines import cloud_files
from beam_pipelines.cloud_files import is_cloud_path

_UNFINISHED = ".unfinished-"
_LINES_IN_MEMORY = 100_000
_WILDCARDS: Mapping[str, str] = {"**": ".*", "*": "[^/]*", "?": "[^/]"}
# Python's own, which notice a file that was cut short; Beam's gives what there is.
_DECOMPRESSORS: Mapping[str, Callable[[BinaryIO], Any]] = {".gz": gzip.open, ".bz2": bz2.open}


def is_remote(path: str) -> bool:
    """Tells whether `path` is on a file system other than this machine's."""
    return "://" in path


def join(directory: str, *names: str) -> str:
    """Joins path components with the separator of the directory's file system."""
    if not is_remote(directory):
        return os.path.join(directory, *names)
    return "/".join((directory.rstrip("/"), *(name.strip("/") for name in names))) if names else directory


def exists(path: str) -> bool:
    """Tells whether a file (or, on the local disk, a directory) is there."""
    if is_cloud_path(path):
        return cloud_files.exists(path)
    return _beam_files().exists(path) if is_remote(path) else os.path.exists(path)


def size(path: str) -> int:
    """Returns a file's size in bytes; raises FileNotFoundError if there is none."""
    if not is_remote(path):
        return os.stat(path).st_size
    if is_cloud_path(path):
        return cloud_files.size(path)
    for found in _beam_files().matching(path):
        return int(found.size)
    raise FileNotFoundError(path)


def list_files(directory: str) -> list[str]:
    """Returns the paths, relative to `directory`, of all files below it, sorted; empty if it is not there."""
    root = directory.rstrip("/")
    if not is_remote(root):
        found = [os.path.join(folder, name) for folder, _, names in os.walk(root) for name in names]
        return sorted(os.path.relpath(path, root) for path in found)
    if is_cloud_path(root):
        return sorted(listed.path.removeprefix(f"{root}/") for listed in cloud_files.list_below(f"{root}/"))
    return sorted(listed.path.removeprefix(f"{root}/") for listed in _beam_files().matching(f"{root}/**"))


def matching(pattern: str) -> list[str]:
    """Returns the paths of the files that `pattern` names, sorted; `*` and `?` stay within a folder, `**` does not.

    A path whose file is there names that file, whatever characters it has.
    """
    if is_cloud_path(pattern):
        return _matching_objects(pattern)
    if is_remote(pattern):
        return sorted(listed.path for listed in _beam_files().matching(pattern))
    if os.path.isfile(pattern):
        return [pattern]
    return sorted(path for path in glob.glob(pattern, recursive=True) if os.path.isfile(path))


def _matching_objects(pattern: str) -> list[str]:
    parts = re.split(r"(\*\*|\*|\?)", pattern)
    expression = re.compile("".join(_WILDCARDS.get(part, re.escape(part)) for part in parts))
    before_wildcards = parts[0]
    paths = [listed.path for listed in cloud_files.list_below(before_wildcards)]
    return [pattern] if pattern in paths else [path for path in paths if expression.fullmatch(path)]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Entry:
    """A file below a directory: its whole path, its size in bytes, and when it was last written, in Unix seconds."""

    path: str
    size: int
    modified: float


def list_entries(directory: str) -> list[Entry]:
    """Returns all files below `directory`, in no order; files that vanish meanwhile are passed over."""
    if is_remote(directory):
        root = f"{directory.rstrip('/')}/"
        below = cloud_files.list_below(root) if is_cloud_path(root) else _beam_files().matching(f"{root}**")
        return [Entry(path=listed.path, size=listed.size, modified=listed.modified) for listed in below]
    entries = []
    for name in list_files(directory):
        path = os.path.join(directory, name)
        with contextlib.suppress(FileNotFoundError):
            status = os.stat(path)
            entries.append(Entry(path=path, size=status.st_size, modified=status.st_mtime))
    return entries


def list_directory(directory: str) -> list[str]:
    """Returns the names of the files and folders directly in `directory`, sorted; empty if it is not there."""
    if is_cloud_path(directory):
        return cloud_files.list_directory(directory)
    if is_remote(directory):
        return sorted({name.split("/")[0] for name in list_files(directory)})
    return sorted(os.listdir(directory)) if os.path.isdir(directory) else []


def is_unfinished(name: str) -> bool:
    """Tells whether a file is one that a killed process left half written."""
    return name.startswith(_UNFINISHED)


@contextlib.contextmanager
def open_to_read(path: str, *, decompress: bool = False) -> Iterator[BinaryIO]:
    """Opens a file to read its bytes; raises FileNotFoundError if there is none.

    Args:
        path: on any file system.
        decompress: read what is inside a file whose name ends in `.gz` or `.bz2`; one that is cut short or damaged
            raises EOFError, OSError or zlib.error when it is read.
    """
    if not is_remote(path) and not os.path.exists(path):
        raise FileNotFoundError(path)
    with _open(path) as file:
        inside = _DECOMPRESSORS.get(os.path.splitext(path)[1].lower()) if decompress else None
        yield cast(BinaryIO, inside(file) if inside else file)


def read_bytes(path: str) -> bytes:
    """Returns a file's bytes; raises FileNotFoundError if there is none."""
    if is_cloud_path(path):
        return cloud_files.read_bytes(path)
    with open_to_read(path) as file:
        return file.read()


def read_json(path: str) -> Any:
    """Returns what a JSON file holds; raises FileNotFoundError if there is none."""
    return json.loads(read_bytes(path))


def read_lines(path: str) -> Iterator[str]:
    """Yields a text file's lines without their ends."""
    with open_to_read(path) as file, io.TextIOWrapper(file, encoding="utf-8", newline="\n") as lines:
        for line in lines:
            yield line.removesuffix("\n")


def write_bytes(path: str, content: bytes) -> None:
    """Writes a file whole or not at all."""
    if is_cloud_path(path):
        cloud_files.write_bytes(path, content)
        return
    with open_to_write(path) as file:
        file.write(content)


def write_json(path: str, value: Any) -> None:
    """Writes `value` as JSON, in its own order."""
    write_bytes(path, (json.dumps(value, indent=1) + "\n").encode())


def write_lines(path: str, lines: Iterable[str]) -> None:
    """Writes a text file whole or not at all, one line an element."""
    with open_to_write(path) as file:
        for line in lines:
            file.write(f"{line}\n".encode())


@contextlib.contextmanager
def open_to_write(path: str) -> Iterator[BinaryIO]:
    """Opens a file that appears at `path` when the block ends, and never if the block raises."""
    with staged(path) as local_path, open(local_path, "wb") as file:
        yield file


@contextlib.contextmanager
def staged(path: str) -> Iterator[str]:
    """Gives a local path to write to; when the block ends, what was written there appears at `path`, whole."""
    remote = is_remote(path)
    folder = tempfile.gettempdir() if remote else os.path.dirname(os.path.abspath(path))
    os.makedirs(folder, exist_ok=True)
    local_path = os.path.join(folder, f"{_UNFINISHED}{os.getpid()}-{os.urandom(4).hex()}")
    try:
        yield local_path
        if remote:
            _upload(local_path, path)
        else:
            os.replace(local_path, path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.remove(local_path)


def remove_tree(directory: str) -> None:
    """Deletes a directory and all below it, if it is there."""
    if not is_remote(directory):
        shutil.rmtree(directory, ignore_errors=True)
        return
    paths = [join(directory, name) for name in list_files(directory)]
    if is_cloud_path(directory):
        cloud_files.delete(paths)
    else:
        _beam_files().delete(paths)


def remove(path: str) -> None:
    """Deletes a file, if it is there; another process may be at it too."""
    if not is_remote(path):
        with contextlib.suppress(FileNotFoundError):
            os.remove(path)
    elif is_cloud_path(path):
        cloud_files.delete([path])
    elif exists(path):
        _beam_files().delete([path])


def remove_unfinished(directory: str) -> None:
    """Deletes what killed processes left half written anywhere below a local `directory`, or directly in a remote one.

    Nothing is ever half written on other file systems; what may be left is the trial of whether they can be written.
    """
    if is_cloud_path(directory):
        prefix = f"{directory.rstrip('/')}/{_UNFINISHED}"
        cloud_files.delete([listed.path for listed in cloud_files.list_below(prefix)])
    if is_remote(directory):
        return
    for name in list_files(directory):
        if is_unfinished(os.path.basename(name)):
            with contextlib.suppress(FileNotFoundError):
                os.remove(os.path.join(directory, name))


def copy_tree(local_directory: str, directory: str) -> None:
    """Copies the files below a local directory to any file system, each whole or not at all."""
    for name in list_files(local_directory):
        with open(os.path.join(local_directory, name), "rb") as source, open_to_write(join(directory, name)) as file:
            shutil.copyfileobj(source, file)


def sorted_lines(lines: Iterable[str]) -> Iterator[str]:
    """Yields `lines` (without line ends in them) sorted; beyond 100,000 of them they are sorted on disk."""
    with contextlib.ExitStack() as stack:
        runs: list[Iterable[str]] = []
        run: list[str] = []
        for line in lines:
            run.append(line)
            if len(run) == _LINES_IN_MEMORY:
                runs.append(_spill(sorted(run), stack))
                run = []
        yield from heapq.merge(*runs, sorted(run))


def _spill(lines: list[str], stack: contextlib.ExitStack) -> Iterator[str]:
    file = tempfile.TemporaryFile("w+", encoding="utf-8", newline="\n")  # noqa: SIM115  (the stack closes it)
    stack.enter_context(file)
    file.writelines(f"{line}\n" for line in lines)
    file.seek(0)
    return (line.removesuffix("\n") for line in file)


def _open(path: str) -> BinaryIO:
    if is_cloud_path(path):
        return cloud_files.open_to_read(path)
    return _beam_files().open_to_read(path) if is_remote(path) else open(path, "rb")


def _upload(local_path: str, path: str) -> None:
    (cloud_files if is_cloud_path(path) else _beam_files()).upload(local_path, path)


def _beam_files() -> Any:
    from beam_pipelines import beam_files

    return beam_files
