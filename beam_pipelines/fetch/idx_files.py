"""Reads pictures from MNIST's files, `idx:PATH#NUMBER`: grey pictures of one size, one after the other.

The format, of which only unsigned bytes are read here: http://yann.lecun.com/exdb/mnist/. A packed file cannot be read
from its middle, so a file is unpacked once for each process, into a temporary file without a name. What its header says
bounds how much of it is read.
"""

import concurrent.futures
import contextlib
import dataclasses
import gzip
import io
import os
import re
import struct
import tempfile
import threading
import weakref
import zlib
from collections import OrderedDict
from collections.abc import Iterator
from typing import BinaryIO, cast

from PIL import Image

from beam_pipelines.fetch.addresses import scheme_of
from beam_pipelines.fetch.byte_streams import too_large
from beam_pipelines.fetch.cloud_storage import CloudStorage, parse_object
from beam_pipelines.fetch.local_files import failure_of_file, open_regular, parse_path
from beam_pipelines.rejects import Reason, RejectedError

# Bytes of an object in Cloud Storage, which comes in one piece; and of any file when it is unpacked.
MAX_OBJECT_BYTES = 1 << 30
MAX_FILE_BYTES = 8 << 30

_ADDRESS = re.compile(r"idx:(?P<path>.+)#(?P<number>[0-9]{1,10})", re.IGNORECASE | re.DOTALL)
# Unsigned bytes (08), and the number of dimensions.
_PICTURES = bytes.fromhex("00000803")
_LABELS = bytes.fromhex("00000801")
_GZIP = bytes.fromhex("1f8b")
# Longer sides cannot be written as JPEG.
_MAX_SIDE = 65_535
_CHUNK_BYTES = 1 << 20
_FILES_KEPT = 4
_COMPRESS_LEVEL = 1


@dataclasses.dataclass(frozen=True, slots=True)
class Shape:
    """How many pictures a file has, and the height and width of each in pixels of one byte."""

    count: int
    height: int
    width: int

    @property
    def picture_bytes(self) -> int:
        """Size of one picture."""
        return self.height * self.width


class IdxFiles:
    """Reads pictures out of idx files; shared by the threads of a process.

    Args:
        storage: reads objects of Cloud Storage, of at most `MAX_OBJECT_BYTES`.
        max_bytes: size of a picture, a byte a pixel.
    """

    def __init__(self, storage: CloudStorage, *, max_bytes: int) -> None:
        self._storage = storage
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._opened: OrderedDict[str, concurrent.futures.Future[_Unpacked | RejectedError]] = OrderedDict()

    def read(self, uri: str) -> bytes:
        """Returns the picture at `idx:PATH#NUMBER` as a grey PNG of 8 bits.

        Args:
            uri: PATH is a path, `file://` or `gs://bucket/object`, unquoted; NUMBER counts from 0.

        Raises:
            RejectedError: BAD_URI, NOT_FOUND, FORBIDDEN, TOO_LARGE, INCOMPLETE_BODY, or what hinders Cloud Storage. A
                file that cannot be read is not tried again.
        """
        match = _ADDRESS.fullmatch(uri)
        if match is None:
            raise RejectedError(Reason.BAD_URI, "give idx:PATH#NUMBER")
        unpacked = self._unpacked(match["path"])
        if unpacked.shape.picture_bytes > self._max_bytes:
            raise too_large(self._max_bytes)
        return _to_png(unpacked.picture(int(match["number"])), unpacked.shape)

    def close(self) -> None:
        """Lets go of files and idle connections; the next read opens them anew."""
        with self._lock:
            self._opened.clear()
        self._storage.close()

    def _unpacked(self, path: str) -> "_Unpacked":
        """Returns a file, unpacked by the first thread that asks for it; the others wait."""
        with self._lock:
            opened = self._opened.get(path)
            is_first = opened is None
            if opened is None:
                opened = self._opened[path] = concurrent.futures.Future()
            self._opened.move_to_end(path)
            while len(self._opened) > _FILES_KEPT:
                self._opened.popitem(last=False)
        if is_first:
            try:
                opened.set_result(self._open(path))
            except BaseException as error:
                opened.set_exception(error)
                raise
        result = opened.result()
        if isinstance(result, RejectedError):
            raise RejectedError(result.reason, result.detail)
        return result

    def _open(self, path: str) -> "_Unpacked | RejectedError":
        try:
            with self._stored(path) as file, unpacked(file) as content:
                return _Unpacked(content)
        except RejectedError as error:
            return error

    @contextlib.contextmanager
    def _stored(self, path: str) -> Iterator[BinaryIO]:
        if scheme_of(path) == "gs":
            yield io.BytesIO(self._storage.read(*parse_object(path)))
            return
        with open_regular(parse_path(path)) as file:
            yield cast(BinaryIO, file)


class _Unpacked:
    """The pictures of a file on the local disk; the space is free again when nobody holds this any more."""

    def __init__(self, content: BinaryIO) -> None:
        self.shape = read_shape(content)
        with tempfile.TemporaryFile(buffering=0) as file:
            for chunk in pixel_chunks(content, self.shape):
                _write(file.fileno(), chunk)
            self._descriptor = os.dup(file.fileno())
        weakref.finalize(self, os.close, self._descriptor)

    def picture(self, number: int) -> bytes:
        """Returns the pixels of a picture, by rows."""
        if number >= self.shape.count:
            raise RejectedError(Reason.NOT_FOUND, f"the file has {self.shape.count} pictures")
        size = self.shape.picture_bytes
        try:
            return os.pread(self._descriptor, size, number * size)
        except OSError as error:
            raise failure_of_file(error) from error


@contextlib.contextmanager
def unpacked(file: BinaryIO) -> Iterator[BinaryIO]:
    """Gives what is inside a file that can seek, whatever its name: decompressed if it is gzip.

    Raises:
        RejectedError: INCOMPLETE_BODY if the block meets compressed data that is broken.
    """
    is_packed = file.read(len(_GZIP)) == _GZIP
    file.seek(0)
    if not is_packed:
        yield file
        return
    try:
        with gzip.open(file) as content:
            yield cast(BinaryIO, content)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise RejectedError(Reason.INCOMPLETE_BODY, "compressed data is broken") from error


def read_shape(content: BinaryIO) -> Shape:
    """Reads the header of a file of pictures.

    Raises:
        RejectedError: BAD_URI if it is none, INCOMPLETE_BODY, or TOO_LARGE beyond `MAX_FILE_BYTES`.
    """
    shape = Shape(*_read_dimensions(content, _PICTURES, "pictures"))
    if not (0 < shape.height <= _MAX_SIDE and 0 < shape.width <= _MAX_SIDE):
        raise RejectedError(Reason.BAD_URI, f"pictures of {shape.width} × {shape.height} pixels")
    if shape.count * shape.picture_bytes > MAX_FILE_BYTES:
        raise too_large(MAX_FILE_BYTES)
    return shape


def pixel_chunks(content: BinaryIO, shape: Shape) -> Iterator[bytes]:
    """Gives what comes after the header of a file of pictures, in pieces.

    Raises:
        RejectedError: INCOMPLETE_BODY if there is less than the header says, TOO_LARGE if there is more.
    """
    return _exactly(content, shape.count * shape.picture_bytes)


def read_labels(content: BinaryIO) -> bytes:
    """Returns the labels in a file of labels, one a byte.

    Raises:
        RejectedError: BAD_URI if it is none, INCOMPLETE_BODY if it has less than its header says, TOO_LARGE if more.
    """
    (count,) = _read_dimensions(content, _LABELS, "labels")
    return b"".join(_exactly(content, count))


def _read_dimensions(content: BinaryIO, magic: bytes, what: str) -> tuple[int, ...]:
    begins = content.read(len(magic))
    if begins != magic:
        raise RejectedError(
            Reason.BAD_URI, f"no idx file of {what}: it begins with {begins.hex() or 'nothing'}, not {magic.hex()}"
        )
    header = struct.Struct(f">{magic[3]}I")
    sizes = content.read(header.size)
    if len(sizes) < header.size:
        raise RejectedError(Reason.INCOMPLETE_BODY, "the file breaks off in its header")
    return header.unpack(sizes)


def _exactly(content: BinaryIO, size: int) -> Iterator[bytes]:
    """Gives `size` bytes in pieces; of those beyond it reads one, to know that there are more."""
    left = size
    while chunk := content.read(min(_CHUNK_BYTES, left + 1)):
        if len(chunk) > left:
            raise RejectedError(Reason.TOO_LARGE, f"more than the {size} bytes that its header says")
        left -= len(chunk)
        yield chunk
    if left:
        raise RejectedError(Reason.INCOMPLETE_BODY, f"fewer than the {size} bytes that its header says")


def _write(descriptor: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def _to_png(pixels: bytes, shape: Shape) -> bytes:
    buffer = io.BytesIO()
    image = Image.frombytes("L", (shape.width, shape.height), pixels)
    image.save(buffer, "PNG", compress_level=_COMPRESS_LEVEL)
    return buffer.getvalue()
