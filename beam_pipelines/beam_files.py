"""Files on file systems that only Apache Beam knows; paths begin with its schemes, such as `hdfs://`."""

import shutil
from collections.abc import Iterator, Sequence
from typing import BinaryIO, NamedTuple, cast

from apache_beam.io.filesystem import BeamIOError, CompressionTypes
from apache_beam.io.filesystems import FileSystems


class Listed(NamedTuple):
    """A file: its whole path, its size in bytes, and when it was last written, in Unix seconds (0: not known)."""

    path: str
    size: int
    modified: float


def exists(path: str) -> bool:
    """Tells whether a file is there."""
    return cast(bool, FileSystems.exists(path))


def matching(pattern: str) -> Iterator[Listed]:
    """Yields the files that a pattern names; none if the place cannot be listed."""
    try:
        found = FileSystems.match([pattern])[0].metadata_list
    except BeamIOError:
        return
    for file in found:
        yield Listed(file.path, int(file.size_in_bytes), float(file.last_updated_in_seconds or 0))


def delete(paths: Sequence[str]) -> None:
    """Deletes files that are there."""
    if paths:
        FileSystems.delete(list(paths))


def open_to_read(path: str) -> BinaryIO:
    """Opens a file to read its bytes as they are; raises FileNotFoundError if there is none."""
    try:
        return cast(BinaryIO, FileSystems.open(path, compression_type=CompressionTypes.UNCOMPRESSED))
    except Exception as error:  # every file system has errors of its own
        if exists(path):
            raise
        raise FileNotFoundError(path) from error


def upload(local_path: str, path: str) -> None:
    """Copies a local file to `path`."""
    with (
        open(local_path, "rb") as source,
        FileSystems.create(path, compression_type=CompressionTypes.UNCOMPRESSED) as target,
    ):
        shutil.copyfileobj(source, target)
