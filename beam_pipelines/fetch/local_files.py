"""Reads pictures from the local file system: `file://` addresses and paths."""

import contextlib
import errno
import io
import os
import stat
from collections.abc import Iterator
from urllib.parse import unquote, urlsplit

from beam_pipelines.fetch.addresses import has_control_character, scheme_of
from beam_pipelines.fetch.byte_streams import at_most
from beam_pipelines.rejects import Reason, RejectedError

_CHUNK_BYTES = 64 * 1024
# Names too long, links in a circle, sockets: nothing that waiting could mend, unlike a failing disk.
_NO_FILE_ERRORS = frozenset({errno.ENAMETOOLONG, errno.ELOOP, errno.ENXIO})


def parse_path(uri: str) -> str:
    """Returns the local path that a `file:` address or a path stands for.

    Raises:
        RejectedError: BAD_URI.
    """
    path = uri
    if scheme_of(uri) == "file":
        try:
            parts = urlsplit(uri)
        except ValueError as error:
            raise RejectedError(Reason.BAD_URI, "the address cannot be read") from error
        if parts.netloc not in ("", "localhost"):
            raise RejectedError(Reason.BAD_URI, "a file address of another machine")
        path = unquote(parts.path)
    if not path:
        raise RejectedError(Reason.BAD_URI, "the address is empty")
    if has_control_character(path):
        raise RejectedError(Reason.BAD_URI, "control character in the path")
    return path


def read_file(path: str, *, max_bytes: int) -> bytes:
    """Returns the bytes of a regular file, never those of a pipe or a device.

    Raises:
        RejectedError: TOO_LARGE, or as `open_regular`.
    """
    with open_regular(path) as file:
        pieces = iter(lambda: file.read(_CHUNK_BYTES), b"")
        return b"".join(at_most(pieces, max_bytes))


@contextlib.contextmanager
def open_regular(path: str) -> Iterator[io.FileIO]:
    """Opens a regular file, never a pipe or a device; what goes wrong while it is read is a reason, too.

    Raises:
        RejectedError: NOT_FOUND, FORBIDDEN, BAD_URI, or CONNECTION_FAILED if the disk fails.
    """
    try:
        # Without O_NONBLOCK, opening a pipe would wait for somebody to write to it.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
        with open(descriptor, "rb", buffering=0) as file:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise RejectedError(Reason.NOT_FOUND, "not a regular file")
            yield file
    except ValueError as error:
        raise RejectedError(Reason.BAD_URI, "no such path can exist") from error
    except OSError as error:
        raise failure_of_file(error) from error


def failure_of_file(error: OSError) -> RejectedError:
    """Returns what an error of the file system means."""
    match error:
        case FileNotFoundError() | NotADirectoryError():
            return RejectedError(Reason.NOT_FOUND, "no such file")
        case IsADirectoryError():
            return RejectedError(Reason.NOT_FOUND, "not a regular file")
        case PermissionError():
            return RejectedError(Reason.FORBIDDEN, "the file may not be read")
    reason = Reason.NOT_FOUND if error.errno in _NO_FILE_ERRORS else Reason.CONNECTION_FAILED
    return RejectedError(reason, os.strerror(error.errno or 0))
