"""Where a picture lies within a larger file, `SCHEME:OFFSET:LENGTH:PATH`, and how the bytes there are read."""

import dataclasses
import os
import re

from beam_pipelines.fetch.addresses import scheme_of
from beam_pipelines.fetch.byte_streams import too_large
from beam_pipelines.fetch.cloud_storage import CloudStorage, parse_object
from beam_pipelines.fetch.local_files import open_regular, parse_path
from beam_pipelines.rejects import Reason, RejectedError

_ADDRESS = re.compile(r"(?P<scheme>[a-z]+):(?P<offset>[0-9]{1,15}):(?P<length>[0-9]{1,12}):(?P<path>.+)", re.DOTALL)
_CHUNK_BYTES = 1 << 20


@dataclasses.dataclass(frozen=True, kw_only=True)
class FileRange:
    """Some bytes of a file.

    Attributes:
        scheme: what lies there: `jsonl` or `tfrecord`.
        offset: of its first byte.
        length: bytes.
        path: a path, `file://` or `gs://bucket/object`, unquoted.
    """

    scheme: str
    offset: int
    length: int
    path: str

    @property
    def address(self) -> str:
        """Its address as a picture's."""
        return f"{self.scheme}:{self.offset}:{self.length}:{self.path}"

    @classmethod
    def parse(cls, address: str) -> "FileRange":
        """Returns the range that an address names; raises RejectedError, BAD_URI, if it names none."""
        match = _ADDRESS.fullmatch(address)
        if match is None:
            raise RejectedError(Reason.BAD_URI, "give SCHEME:OFFSET:LENGTH:PATH")
        return cls(scheme=match["scheme"], offset=int(match["offset"]), length=int(match["length"]), path=match["path"])


class FileRanges:
    """Reads ranges of files; shared by the threads of a process.

    Args:
        storage: reads objects of Cloud Storage.
    """

    def __init__(self, storage: CloudStorage) -> None:
        self._storage = storage

    def read(self, place: FileRange, *, max_bytes: int) -> bytes:
        """Returns the bytes of a range.

        Args:
            place: where they are.
            max_bytes: more are not read.

        Raises:
            RejectedError: TOO_LARGE, INCOMPLETE_BODY if the file ends before, or as for a file of its own.
        """
        if place.length > max_bytes:
            raise too_large(max_bytes)
        if scheme_of(place.path) == "gs":
            bucket, name = parse_object(place.path)
            data = self._storage.read_range(bucket, name, offset=place.offset, length=place.length)
        else:
            data = _read_local(place)
        if len(data) != place.length:
            raise RejectedError(Reason.INCOMPLETE_BODY, "the file ends before it")
        return data


def _read_local(place: FileRange) -> bytes:
    pieces: list[bytes] = []
    left = place.length
    with open_regular(parse_path(place.path)) as file:
        if place.offset > os.fstat(file.fileno()).st_size:
            return b""
        file.seek(place.offset)
        while left and (piece := file.read(min(left, _CHUNK_BYTES))):
            pieces.append(piece)
            left -= len(piece)
    return b"".join(pieces)
