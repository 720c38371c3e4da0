"""What the sources of larger files that have pictures in them share: which files, and what their rows are called."""

import os
from collections.abc import Sequence

from apache_beam.io.filesystem import BeamIOError

from beam_pipelines import files
from beam_pipelines.errors import OptionError

_PACKED = (bytes.fromhex("1f8b"), b"BZh", bytes.fromhex("28b52ffd"), b"PK\x03\x04")


def first_bytes(path: str, *, size: int) -> bytes:
    """Returns the first bytes of a file whose rows are read by their places in it.

    Args:
        path: of the file.
        size: bytes to return, fewer where the file ends before.

    Raises:
        OptionError: it cannot be read, or not from its middle.
    """
    if files.is_remote(path) and not path.startswith("gs://"):
        raise OptionError(f"pictures cannot be fetched from {path}: put it on a disk or into gs://")
    try:
        with files.open_to_read(path) as file:
            begins = file.read(size)
    except (OSError, BeamIOError) as error:
        raise OptionError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from error
    if begins.startswith(_PACKED):
        raise OptionError(f"{path} is packed, and its pictures are read from its middle: unpack it")
    return begins


def short_names(paths: Sequence[str]) -> dict[str, str]:
    """Returns for each path what is left of it without the folder that all of them share."""
    shared = os.path.commonprefix([path.replace(os.sep, "/") for path in paths])  # noqa: RUF071  (keeps `gs://`)
    folder = shared[: shared.rfind("/") + 1]
    return {path: path[len(folder) :] for path in paths}
