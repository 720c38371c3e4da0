"""Rows that the user leaves out: a file of keys, groups and addresses, one a line, or a `rejected.jsonl`."""

import contextlib
import io
import json
from collections.abc import Iterator

import apache_beam as beam
from apache_beam import pvalue
from apache_beam.io.filesystem import BeamIOError
from apache_beam.utils.shared import Shared

from beam_pipelines import files
from beam_pipelines.artwork import Artwork
from beam_pipelines.errors import OptionError
from beam_pipelines.rejects import Dropped, Reason
from beam_pipelines.rows import ARTWORKS, DROPPED, DroppedRow, drop


class Exclude(beam.PTransform):
    """Drops the rows that a file names as `excluded`: outputs `artworks` and `dropped`.

    The file is read once by each process that does the work.

    Args:
        path: the file, on any file system.
    """

    def __init__(self, path: str) -> None:
        super().__init__()
        self._path = path

    def expand(self, artworks: beam.PCollection) -> pvalue.DoOutputsTuple:
        excluded = beam.ParDo(_Exclude(self._path)).with_output_types(Artwork, dropped=Dropped)
        return artworks | "DropExcluded" >> excluded.with_outputs(DROPPED, main=ARTWORKS)


class _Exclude(beam.DoFn):
    """Keeps the names that are excluded, the same for all threads of a process."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._shared = Shared()

    def setup(self) -> None:
        self._names: frozenset[str] = self._shared.acquire(lambda: read_names(self._path))

    def process(self, artwork: Artwork) -> Iterator[Artwork | DroppedRow]:
        yield exclude(artwork, self._names)


def check_exclude_file(path: str) -> None:
    """Raises OptionError if the file cannot be read."""
    with _open_exclude_file(path):
        pass


def read_names(path: str) -> frozenset[str]:
    """Returns the keys, groups and addresses in a file; of a line of `rejected.jsonl`, its key.

    Raises:
        OptionError: the file cannot be read.
    """
    with _open_exclude_file(path) as lines:
        return frozenset(name for line in lines if (name := _name_in(line.strip())))


def exclude(artwork: Artwork, names: frozenset[str]) -> Artwork | DroppedRow:
    """Returns the row, or why it is left out if `names` has its key, its group or its address."""
    for what, name in (("key", artwork.key), ("group", artwork.group), ("address", artwork.image_uri)):
        if name in names:
            return drop(
                Dropped(key=artwork.key, uri=artwork.image_uri, reason=Reason.EXCLUDED, detail=f"by its {what}")
            )
    return artwork


@contextlib.contextmanager
def _open_exclude_file(path: str) -> Iterator[io.TextIOWrapper]:
    try:
        # Names of files that are no UTF-8 come out as Python names such files.
        with (
            files.open_to_read(path) as file,
            io.TextIOWrapper(file, encoding="utf-8-sig", errors="surrogateescape") as lines,
        ):
            yield lines
    except (OSError, BeamIOError) as error:
        reason = getattr(error, "strerror", None) or "there is no such file"
        raise OptionError(f"cannot read --exclude_file {path}: {reason}") from error


def _name_in(line: str) -> str:
    """Returns what a line names: the key of a JSON object that has one, else the line itself."""
    if line.startswith("{"):
        with contextlib.suppress(ValueError, RecursionError):
            key = json.loads(line).get("key", line)
            return key if isinstance(key, str) else line
    return line
