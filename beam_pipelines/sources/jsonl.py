"""Source: JSON lines with the pictures in them, `{"key": "a", "image_bytes": {"b64": "/9j/4AA…"}}`.

TensorFlow Serving and Vertex AI read the same rows. `label` (a text) or `labels` (texts) may say what a picture shows.
Pictures stay where they are: an address `jsonl:OFFSET:LENGTH:PATH` is read when it is fetched.
"""

import re
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

import apache_beam as beam
from apache_beam import pvalue

from beam_pipelines import files
from beam_pipelines.artwork import Artwork
from beam_pipelines.errors import OptionError
from beam_pipelines.fetch.file_ranges import FileRange
from beam_pipelines.fetch.json_lines import SCHEME, max_line_bytes, parse_line
from beam_pipelines.rejects import Dropped, Reason, RejectedError
from beam_pipelines.rows import DroppedRow, drop, flat_map_rows
from beam_pipelines.sources import SourceOptions
from beam_pipelines.sources.csv_rows import matching_files
from beam_pipelines.sources.pictures_in_files import first_bytes, short_names
from beam_pipelines.sources.row_choice import check_attributes, make_row

_LABEL = "label"
_LOOKED_AT = 4096
_REQUEST = re.compile(rb'(?:\xef\xbb\xbf)?\s*\{\s*"(?:instances|inputs|signature_name)"\s*:')
_CHUNK_BYTES = 1 << 20


class Line(NamedTuple):
    """A line of a file.

    Attributes:
        number: from 1.
        offset: of its first byte.
        length: bytes, without its end.
        content: those bytes; None for a line that is longer than lines may be.
    """

    number: int
    offset: int
    length: int
    content: bytes | None


class ReadJsonLines(beam.PTransform):
    """Gives an Artwork for each line of the files; one that is no such row is dropped as `bad_row`."""

    def __init__(self, options: SourceOptions) -> None:
        super().__init__()
        self._options = options

    def check(self) -> None:
        """Raises OptionError if a file cannot be read, or is a request as it is sent to a model's server."""
        check_attributes(self._options, self.attribute_names())
        for path in matching_files(self._options.input):
            if _REQUEST.match(first_bytes(path, size=_LOOKED_AT)):
                raise OptionError(
                    f"{path} is a request to a model's server, not a row a line: make it with "
                    "`python -m serving.images_to_json --format jsonl`"
                )

    def attribute_names(self) -> list[str]:
        """Returns `label`, the only one."""
        return [_LABEL]

    def class_names(self) -> tuple[str, ...]:
        """Returns nothing: the lines have no order of their labels."""
        return ()

    def expand(self, pipeline: beam.Pipeline) -> pvalue.DoOutputsTuple:
        """Returns the outputs `artworks` and `dropped`."""
        names = short_names(matching_files(self._options.input))
        return (
            pipeline
            | beam.Create(list(names.items()))
            | "ReadLines" >> flat_map_rows(_read_file, options=self._options)
        )


def to_artwork(line: Line, path: str, *, name: str, options: SourceOptions) -> Artwork | DroppedRow:
    """Returns the picture of a line, or why it is left out.

    Args:
        line: of the file.
        path: of the file.
        name: of the file, for people and for keys that are not given.
        options: which rows are taken, and what is done with the labels.
    """
    where = f"{name}:{line.number}"
    address = FileRange(scheme=SCHEME, offset=line.offset, length=line.length, path=path).address
    if line.content is None:
        return drop(Dropped(key=where, uri=address, reason=Reason.TOO_LARGE, detail="the line is too long"))
    try:
        row = parse_line(line.content)
    except RejectedError as error:
        return drop(Dropped(key=where, uri=address, reason=error.reason, detail=error.detail))
    key = row.key or where
    return make_row(
        key=key,
        group=key,
        image_uri=address,
        values=list(row.labels),
        cell={_LABEL: options.split_values.join(row.labels)}.__getitem__,
        attributes={_LABEL: ", ".join(row.labels)} if options.all_attributes else {},
        options=options,
    )


def read_lines(file: BinaryIO, *, max_bytes: int) -> Iterator[Line]:
    """Yields the lines of a file that have more than white space in them.

    Args:
        file: it stands at its beginning.
        max_bytes: of a line; of a longer one, no more than these are held.
    """
    number = offset = size = 0
    pieces: list[bytes] = []
    while chunk := file.read(_CHUNK_BYTES):
        *ended, rest = chunk.split(b"\n")
        for piece in ended:
            number += 1
            size += len(piece)
            yield from _line(number, offset, size, [*pieces, piece], max_bytes)
            offset += size + 1
            pieces, size = [], 0
        size += len(rest)
        pieces = [*pieces, rest] if size <= max_bytes else []
    yield from _line(number + 1, offset, size, pieces, max_bytes)


def _line(number: int, offset: int, size: int, pieces: list[bytes], max_bytes: int) -> Iterator[Line]:
    if size > max_bytes:
        yield Line(number, offset, size, None)
    elif (content := b"".join(pieces)).strip():
        yield Line(number, offset, size, content)


def _read_file(named: tuple[str, str], *, options: SourceOptions) -> Iterator[Artwork | DroppedRow]:
    path, name = named
    with files.open_to_read(path) as file:
        for line in read_lines(file, max_bytes=max_line_bytes(options.reading.fetch.max_bytes)):
            yield to_artwork(line, path, name=name, options=options)
