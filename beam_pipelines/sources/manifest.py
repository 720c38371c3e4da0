"""Source: a CSV list of pictures and their labels, `uri,label[,label…]`, with or without a header.

With a header the columns may stand in any order, and more of them are understood: `key` and `group` (identity and what
must stay on one side of the split), `split`, and the attributes that examples and report carry.
"""

import dataclasses
import os
import re
from collections.abc import Iterator, Mapping

import apache_beam as beam
from apache_beam import pvalue

from beam_pipelines import files
from beam_pipelines.artwork import CARRIED_ATTRIBUTES, Artwork, clean_text
from beam_pipelines.dataset import TRAIN, VALIDATION
from beam_pipelines.rejects import Dropped, Reason
from beam_pipelines.rows import DroppedRow, drop, flat_map_rows
from beam_pipelines.sources import SourceOptions
from beam_pipelines.sources.csv_rows import matching_files, read_header, read_rows, snake_case
from beam_pipelines.sources.row_choice import check_attributes, make_row

_URI_COLUMNS = ("uri", "image_uri", "url", "image_url", "gs_uri", "image", "path", "file", "filename")
_LABEL = "label"
_SPLIT_NAMES = {
    "": "",
    **dict.fromkeys(("train", "training"), TRAIN),
    **dict.fromkeys(("validation", "valid", "val", "eval", "dev", "test"), VALIDATION),
}
_IDENTITY = frozenset({"key", "group", "split"})
_ADDRESS = re.compile(r"/|\.\w{2,5}$")


@dataclasses.dataclass(frozen=True)
class Columns:
    """Where in a row things stand; a list without a header has the address first and labels after it.

    Attributes:
        uri, label, key, group, split: places; none where there is no such column.
        attributes: places of the columns that can be labels and filters, by name.
        carried: those that rows carry on.
        more_labels_from: where further labels begin, in columns without a name.
        has_header: whether the first row is names.
    """

    uri: int = 0
    label: int | None = 1
    key: int | None = None
    group: int | None = None
    split: int | None = None
    attributes: Mapping[str, int] = dataclasses.field(default_factory=lambda: {_LABEL: 1})
    carried: tuple[str, ...] = ()
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

    def attribute_names(self) -> list[str]:
        """Returns the named columns besides address and identity; of a list without a header, `label`."""
        first = matching_files(self._options.input)[0]
        return list(
            find_columns(read_header(first), dataclasses.replace(self._options, all_attributes=True)).attributes
        )

    def class_names(self) -> tuple[str, ...]:
        """Returns nothing: a list has no order of its labels."""
        return ()

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
        columns = Columns(carried=(_LABEL,) if options.all_attributes else ())
        check_attributes(options, columns.attributes)
        return columns
    attributes = {name: names.index(name) for name in names if name not in {uri, *_IDENTITY, ""}}
    check_attributes(options, attributes)
    label = attributes.get(options.attribute)

    def place(name: str) -> int | None:
        return names.index(name) if name in names else None

    return Columns(
        uri=names.index(uri),
        label=label,
        key=place("key"),
        group=place("group"),
        split=place("split"),
        attributes=attributes,
        carried=tuple(
            name
            for name in attributes
            if options.carry_attributes and (options.all_attributes or name in CARRIED_ATTRIBUTES)
        ),
        more_labels_from=len(names) if label == len(names) - 1 else None,
        has_header=True,
    )


def to_artwork(
    row: list[str], columns: Columns, *, folder: str, where: str, options: SourceOptions
) -> Artwork | DroppedRow:
    """Returns the picture that a row lists, or why it is left out; relative paths are relative to `folder`.

    Args:
        row: its cells.
        columns: where things stand in it.
        folder: the list's own.
        where: the place of the row, for people.
        options: which rows are taken, and what is done with the values.
    """

    def at(index: int | None) -> str:
        return row[index].strip() if index is not None and index < len(row) else ""

    def cell(name: str) -> str:
        return at(columns.attributes[name])

    uri, split = at(columns.uri), at(columns.split).lower()
    if not uri:
        return drop(Dropped(key=where, uri="", reason=Reason.BAD_ROW, detail="the line has no address"))
    if split not in _SPLIT_NAMES:
        detail = f"split {clean_text(split)!r} is none of {', '.join(filter(None, _SPLIT_NAMES))}"
        return drop(Dropped(key=where, uri=uri, reason=Reason.BAD_ROW, detail=detail))
    more = row[columns.more_labels_from :] if columns.more_labels_from is not None else []
    if folder and "://" not in uri and not os.path.isabs(uri):
        uri = files.join(folder, uri)
    key = at(columns.key) or uri
    return make_row(
        key=key,
        group=at(columns.group) or key,
        image_uri=uri,
        values=[at(columns.label), *more],
        cell=cell,
        attributes={name: text for name in columns.carried if (text := clean_text(cell(name)))},
        options=options,
        split=_SPLIT_NAMES[split],
    )


def _read_list(path: str, *, options: SourceOptions) -> Iterator[Artwork | DroppedRow]:
    folder = os.path.dirname(path)
    columns: Columns | None = None
    for line, row in read_rows(path):
        if columns is None:
            columns = find_columns(row, options)
            if columns.has_header:
                continue
        yield to_artwork(row, columns, folder=folder, where=f"{os.path.basename(path)}:{line}", options=options)
