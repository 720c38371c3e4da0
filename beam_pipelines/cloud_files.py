"""Objects of Google Cloud Storage as files: one client a process, one request a question, refusals in one line.

Beam's own file system opens a connection for every call, asks three times to delete one object, and tells a missing
object from a refusal only by its text. What Beam itself reads and writes still goes through it.

An upload is checked by its checksum and is there whole or not at all. What may pass (429, 5xx, a broken connection) is
tried again for up to two minutes.
"""

import contextlib
import dataclasses
import mimetypes
from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO, cast

from google.api_core.exceptions import NotFound, from_http_response
from google.cloud.storage.fileio import BlobReader
from google.cloud.storage.retry import DEFAULT_RETRY

from beam_pipelines.errors import StorageError
from beam_pipelines.google_access import explain, open_client, split_path

_SCHEME = "gs://"
# Larger uploads go in pieces of this size, each held in memory; a multiple of 256 KiB.
_PIECE_BYTES = 16 << 20
_DELETED_AT_A_TIME = 100
_LISTED = "items(name,size,updated),nextPageToken"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Listed:
    """An object in a listing: its whole path, its size in bytes, and when it was last written, in Unix seconds."""

    path: str
    size: int
    modified: float


def is_cloud_path(path: str) -> bool:
    """Tells whether `path` is in Google Cloud Storage."""
    return path.startswith(_SCHEME)


def exists(path: str) -> bool:
    """Tells whether there is an object."""
    with _told(path):
        return bool(_blob(path).exists())


def size(path: str) -> int:
    """Returns an object's size in bytes; raises FileNotFoundError if there is none."""
    blob = _blob(path)
    with _told(path):
        blob.reload()
    return int(blob.size)


def list_below(prefix: str) -> Iterator[Listed]:
    """Yields all objects whose path begins with `prefix`, sorted by name; raises StorageError for a missing bucket.

    What Google's console makes for an empty folder, an object whose name ends in a slash, is no file.
    """
    bucket, name = split_path(prefix)
    with _told(prefix):
        for blob in open_client().list_blobs(bucket, prefix=name, fields=_LISTED):
            if not blob.name.endswith("/"):
                path = f"{_SCHEME}{bucket}/{blob.name}"
                yield Listed(path=path, size=int(blob.size or 0), modified=blob.updated.timestamp())


def list_directory(directory: str) -> list[str]:
    """Returns the names of objects and folders directly in `directory`, sorted, whatever may lie in the folders."""
    bucket, name = split_path(directory)
    prefix = f"{name.rstrip('/')}/".lstrip("/")
    fields = "items(name),prefixes,nextPageToken"
    with _told(directory):
        found = open_client().list_blobs(bucket, prefix=prefix, delimiter="/", fields=fields)
        names = [blob.name for blob in found] + list(found.prefixes)
    return sorted({path.removeprefix(prefix).rstrip("/") for path in names} - {""})


def open_to_read(path: str) -> BinaryIO:
    """Opens an object, as it was when it was opened; raises FileNotFoundError if there is none."""
    blob = _blob(path)
    with _told(path):
        blob.reload()
    return cast(BinaryIO, _Reader(blob, path))


def read_bytes(path: str) -> bytes:
    """Returns an object's bytes, checked against its checksum; raises FileNotFoundError if there is none."""
    with _told(path):
        return cast(bytes, _blob(path).download_as_bytes(raw_download=True))


def write_bytes(path: str, content: bytes) -> None:
    """Writes an object."""
    with _told(path):
        _blob(path, chunk_size=_PIECE_BYTES).upload_from_string(content, content_type=_content_type(path))


def upload(local_path: str, path: str) -> None:
    """Copies a file of this machine to an object; raises FileNotFoundError if there is no such file."""
    blob = _blob(path, chunk_size=_PIECE_BYTES)
    with open(local_path, "rb") as file, _told(path):
        file_size = file.seek(0, 2)
        blob.upload_from_file(file, rewind=True, size=file_size, content_type=_content_type(path))


def delete(paths: Sequence[str]) -> None:
    """Deletes objects of one bucket; those that are not there are passed over."""
    client = open_client()
    for start in range(0, len(paths), _DELETED_AT_A_TIME):
        some = paths[start : start + _DELETED_AT_A_TIME]
        with _told(some[0]):
            DEFAULT_RETRY(_delete_batch)(client, some)


class _Reader(BlobReader):
    """Reads an object in pieces, and tells refusals in one line."""

    def __init__(self, blob: Any, path: str) -> None:
        super().__init__(blob, chunk_size=_PIECE_BYTES, raw_download=True)
        self._path = path

    def read(self, size: int | None = -1) -> bytes:
        with _told(self._path):
            return cast(bytes, super().read(-1 if size is None else size))


def _delete_batch(client: Any, paths: Sequence[str]) -> None:
    if len(paths) == 1:
        with contextlib.suppress(NotFound):
            _blob(paths[0]).delete(retry=None)
        return
    batch = client.batch(raise_exception=False)
    with batch:
        for path in paths:
            _blob(path).delete(retry=None)
    for response in batch._responses:
        if response.status_code >= 400 and response.status_code != 404:
            raise from_http_response(response)  # type: ignore[no-untyped-call]


def _blob(path: str, **options: Any) -> Any:
    bucket, name = split_path(path)
    return open_client().bucket(bucket).blob(name, **options)


def _content_type(path: str) -> str:
    return mimetypes.guess_type(path)[0] or "application/octet-stream"


@contextlib.contextmanager
def _told(path: str) -> Iterator[None]:
    """Turns the errors of Google's libraries into FileNotFoundError and StorageError."""
    try:
        yield
    except Exception as error:  # they come from three libraries, and those below them
        told = explain(error, place=path)
        if isinstance(error, NotFound) and "no bucket" not in told:
            raise FileNotFoundError(path) from error
        if told:
            raise StorageError(told) from error
        raise
