"""Source: TFRecord files of image examples: the shards of a data set, or those of another program.

Of an example `image/key`, `image/class/text` and `image/encoded` are read. Pictures stay where they are: an address
`tfrecord:OFFSET:LENGTH:PATH` is read when it is fetched. Shards named `train-…` or `validation-…` keep their split.
"""

import io
import os
import re
from collections.abc import Iterator
from typing import Any

import apache_beam as beam
from apache_beam import pvalue

from beam_pipelines import files
from beam_pipelines.artwork import Artwork
from beam_pipelines.dataset import COMPLETED_FILE, EMBEDDING, PLAN_DIRECTORY, Feature, Shard
from beam_pipelines.errors import OptionError
from beam_pipelines.fetch.file_ranges import FileRange
from beam_pipelines.fetch.record_files import SCHEME, max_record_bytes, parse_record
from beam_pipelines.rejects import Dropped, Reason, RejectedError
from beam_pipelines.rows import DroppedRow, drop, flat_map_rows
from beam_pipelines.sources import SourceOptions
from beam_pipelines.sources.csv_rows import matching_files
from beam_pipelines.sources.pictures_in_files import first_bytes, short_names
from beam_pipelines.sources.row_choice import check_attributes, make_row
from beam_pipelines.tfrecords import CorruptRecordError, LongRecordError, decode_example, scan_records

_LABEL = "label"
_ENDING = ".tfrecord"
_PATTERN = re.compile(r"[*?\[]")
# Enough for the first example of most files; a larger one is not looked at.
_LOOKED_AT = 1 << 20


class ReadTfRecords(beam.PTransform):
    """Gives an Artwork for each record of the files; one that is no image example is dropped as `corrupt_record`."""

    def __init__(self, options: SourceOptions) -> None:
        super().__init__()
        self._options = options

    def check(self) -> None:
        """Raises OptionError if a file cannot be read, or has embeddings instead of pictures."""
        check_attributes(self._options, self.attribute_names())
        for path in find_files(self._options.input):
            if EMBEDDING in _first_example(path):
                raise OptionError(f"{path} has embeddings: give the data set of pictures that they were made from")

    def attribute_names(self) -> list[str]:
        """Returns `label`, the only one."""
        return [_LABEL]

    def class_names(self) -> tuple[str, ...]:
        """Returns nothing: examples have their labels as texts, in no order."""
        return ()

    def expand(self, pipeline: beam.Pipeline) -> pvalue.DoOutputsTuple:
        """Returns the outputs `artworks` and `dropped`."""
        names = short_names(find_files(self._options.input))
        return (
            pipeline
            | beam.Create(list(names.items()))
            | "ReadRecords" >> flat_map_rows(_read_file, options=self._options)
        )


def find_files(path: str) -> list[str]:
    """Returns the files that a path names, sorted: a pattern's, a file, or those ending in `.tfrecord` in a folder.

    Raises:
        OptionError: there is none, or the folder is a data set that is not finished.
    """
    if not (os.path.isdir(path) or (files.is_remote(path) and not _PATTERN.search(path) and not files.exists(path))):
        return matching_files(path)
    names = files.list_directory(path)
    if PLAN_DIRECTORY in names and COMPLETED_FILE not in names:
        raise OptionError(f"{path} is no finished data set: give the command that makes it, again if it was stopped")
    found = [files.join(path, name) for name in names if name.endswith(_ENDING)]
    if not found:
        raise OptionError(f"cannot read {path}: there is no file *{_ENDING} in it")
    return found


def to_artwork(
    record: bytes | CorruptRecordError, place: FileRange, *, key: str, split: str, options: SourceOptions
) -> Artwork | DroppedRow:
    """Returns the picture of a record, or why it is left out.

    Args:
        record: or what is wrong with it.
        place: where it is framed.
        key: of an example that has none.
        split: of its file.
        options: which rows are taken, and what is done with the labels.
    """
    try:
        if isinstance(record, CorruptRecordError):
            reason = Reason.TOO_LARGE if isinstance(record, LongRecordError) else Reason.CORRUPT_RECORD
            raise RejectedError(reason, str(record))
        example = parse_record(record)
    except RejectedError as error:
        return drop(Dropped(key=key, uri=place.address, reason=error.reason, detail=error.detail))
    labels = _texts(example, Feature.TEXT)
    key = next(iter(_texts(example, Feature.KEY)), "") or key
    return make_row(
        key=key,
        group=key,
        image_uri=place.address,
        values=labels,
        cell={_LABEL: options.split_values.join(labels)}.__getitem__,
        attributes={_LABEL: ", ".join(labels)} if options.all_attributes else {},
        options=options,
        split=split,
    )


def _read_file(named: tuple[str, str], *, options: SourceOptions) -> Iterator[Artwork | DroppedRow]:
    path, name = named
    max_bytes, split = max_record_bytes(options.reading.fetch.max_bytes), _split_of(path)
    with files.open_to_read(path) as file:
        for number, (offset, length, record) in enumerate(scan_records(file, max_bytes=max_bytes)):
            place = FileRange(scheme=SCHEME, offset=offset, length=length, path=path)
            yield to_artwork(record, place, key=f"{name}#{number}", split=split, options=options)


def _split_of(path: str) -> str:
    try:
        return Shard.parse(os.path.basename(path)).split
    except ValueError:
        return ""


def _first_example(path: str) -> dict[str, list[Any]]:
    """Returns the features of a file's first example; nothing where it is too large to look at, or damaged."""
    first = next(scan_records(io.BytesIO(first_bytes(path, size=_LOOKED_AT)), max_bytes=_LOOKED_AT), None)
    if first is None or isinstance(first[2], CorruptRecordError):
        return {}
    try:
        return decode_example(first[2])
    except CorruptRecordError:
        return {}


def _texts(example: dict[str, list[Any]], feature: Feature) -> list[str]:
    """Returns a feature's texts; bytes that are no text become question marks."""
    return [_text(value) for value in example.get(feature, []) if isinstance(value, bytes)]


def _text(value: bytes) -> str:
    try:
        return value.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        return value.decode("utf-8", "replace")
