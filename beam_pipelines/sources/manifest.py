"""Source: a CSV list of pictures and their labels, `uri,label[,label…]`, with or without a header.

With a header the columns may stand in any order, and more of them are understood: `key` and `group` (identity and what
must stay on one side of the split) and the attributes that examples and report carry.
"""

import dataclasses
import functools
import os
import re
from collections.abc import Iterator

import apache_beam as beam
from apache_beam import pvalue

from beam_pipelines import files
from beam_pipelines.artwork import CARRIED_ATTRIBUTES, Artwork, clean_labels, clean_text
from beam_pipelines.rejects import Dropped, Reason
from beam_pipelines.rows import DroppedRow, drop, flat_map_rows
from beam_pipelines.sources import SourceOptions, check_label_attribute
from beam_pipelines.sources.csv_rows import matching_files, read_header, read_rows, snake_case

_URI_COLUMNS = ("uri", "image_uri", "url", "image_url", "gs_uri", "image", "path", "file", "filename")
_LABEL = "label"
_ADDRESS = re.compile(r"/|\.\w{2,5}$")


@dataclasses.dataclass(frozen=True)
class Columns:
    """Where in a row things stand; a list without a header has the address first and labels after it."""

    uri: int = 0
    label: int = 1
    key: int | None = None
    group: int | None = None
    attributes: tuple[tuple[str, int], ...] = ()
    more_labels_from: int | None = 2
    has_header: bool = False


class ReadManifest(beam.PTransform):
    """Gives an Artwork for each line of the lists; a line without an address is dropped as `bad_row`."""

    def __init__(self, options: SourceOptions) -> None:
        super().__init__()
        self._options = options

    def check(self) -> None:
        """Raises OptionError if a list cannot be read, or lacks the attribute."""
        for path in matching_files(self._options.input):
            find_columns(read_header(path), self._options)

    def expand(self, pipeline: beam.Pipeline) -> pvalue.DoOutputsTuple:
        """Returns the outputs `artworks` and `dropped`."""
        return (
            pipeline
            | beam.Create(matching_files(self._options.input))
            | "ReadLines" >> flat_map_rows(_read_list, options=self._options)
        )


def find_columns(first_row: list[str], options: SourceOptions) -> Columns:
    """Returns where things stand, from the first row; raises OptionError if the attribute is not there."""
    names = [snake_case(cell) for cell in first_row]
    uri = next((name for name in _URI_COLUMNS if name in names), None)
    if uri is None or any(_ADDRESS.search(cell.strip()) for cell in (first_row[0], first_row[names.index(uri)])):
        check_label_attribute(options, [_LABEL])
        return Columns()
    others = [name for name in names if name not in {uri, "key", "group", ""}]
    check_label_attribute(options, others)
    label = names.index(options.attribute)

    def place(name: str) -> int | None:
        return names.index(name) if name in names else None

    return Columns(
        uri=names.index(uri),
        label=label,
        key=place("key"),
        group=place("group"),
        attributes=tuple((name, names.index(name)) for name in CARRIED_ATTRIBUTES if name in names),
        more_labels_from=len(names) if label == len(names) - 1 else None,
        has_header=True,
    )


def to_artwork(row: list[str], columns: Columns, *, folder: str, options: SourceOptions) -> Artwork | None:
    """Returns the picture that a row lists, or None if it has no address; relative paths are relative to `folder`."""

    def cell(index: int | None) -> str:
        return row[index].strip() if index is not None and index < len(row) else ""

    uri = cell(columns.uri)
    if not uri:
        return None
    more = row[columns.more_labels_from :] if columns.more_labels_from is not None else []
    if folder and "://" not in uri and not os.path.isabs(uri):
        uri = files.join(folder, uri)
    key = cell(columns.key) or uri
    return Artwork(
        key=key,
        group=cell(columns.group) or key,
        image_uri=uri,
        labels=clean_labels([cell(columns.label), *more], separator=options.split_values),
        attributes={name: text for name, index in columns.attributes if (text := clean_text(cell(index)))},
        split=options.split,
    )


def _read_list(path: str, *, options: SourceOptions) -> Iterator[Artwork | DroppedRow]:
    folder = os.path.dirname(path)
    parse = functools.partial(to_artwork, folder=folder, options=options)
    columns: Columns | None = None
    for line, row in read_rows(path):
        if columns is None:
            columns = find_columns(row, options)
            if columns.has_header:
                continue
        artwork = parse(row, columns)
        if artwork is not None:
            yield artwork
        else:
            place = f"{os.path.basename(path)}:{line}"
            yield drop(Dropped(key=place, uri="", reason=Reason.BAD_ROW, detail="the line has no address"))
