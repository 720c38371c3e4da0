"""Rows of CSV files as museums publish them: byte order mark, newlines inside quotes, any file system."""

import csv
import io
import os
import re
import zlib
from collections.abc import Iterable, Iterator, Sequence
from typing import BinaryIO

import pyarrow as pa
import pyarrow.csv as csv_reader
from apache_beam.io.filesystem import BeamIOError
from apache_beam.io.filesystems import FileSystems

from beam_pipelines import files
from beam_pipelines.errors import OptionError, RunError

_MAX_FIELD_CHARACTERS = 1 << 20
_ARROW_BLOCK_BYTES = 1 << 20
_LFS_POINTER = "version https://git-lfs.github.com/spec/"


def matching_files(pattern: str) -> list[str]:
    """Returns the files that `pattern` names, sorted; raises OptionError if there are none."""
    if not files.is_remote(pattern) and os.path.isfile(pattern):
        return [pattern]
    try:
        found = sorted(metadata.path for metadata in FileSystems.match([pattern])[0].metadata_list)
    except (BeamIOError, ValueError) as error:
        raise OptionError(f"cannot read {pattern}: {error}") from error
    if not found or (not files.is_remote(pattern) and all(os.path.isdir(path) for path in found)):
        raise OptionError(f"cannot read {pattern}: there is no such file")
    return found


def read_rows(path: str) -> Iterator[tuple[int, list[str]]]:
    """Yields each row of a CSV file that has any text, with the number of its line (from 1).

    Raises:
        RunError: the file is no CSV, as a quoted field goes on for more than a million characters, or what is
            compressed was cut short or damaged.
    """
    csv.field_size_limit(_MAX_FIELD_CHARACTERS)
    with files.open_to_read(path, decompress=True) as file:
        text = io.TextIOWrapper(file, encoding="utf-8-sig", errors="replace", newline="")
        reader = csv.reader(text)
        try:
            for row in reader:
                if any(cell.strip() for cell in row):
                    yield reader.line_num, row
        except csv.Error as error:
            raise RunError(f"{path} is no CSV file near line {reader.line_num}: {error}") from error
        except (EOFError, zlib.error) as error:
            raise RunError(f"{path} is not whole, it ends near line {reader.line_num}: {error}") from error


def read_columns(path: str, columns: Sequence[int], *, width: int) -> Iterator[tuple[str, ...]]:
    """Yields some cells of each row below the header of a CSV file, in a fifth of the time that `read_rows` takes.

    Rows that have not `width` cells are passed over. If Arrow does not understand the file, `read_rows` reads it from
    its beginning, so that rows may come twice.

    Args:
        path: the file, on any file system.
        columns: places of the cells, from 0.
        width: how many columns there are.

    Raises:
        RunError: as `read_rows`.
    """
    try:
        with files.open_to_read(path, decompress=True) as file:
            for batch in _arrow_batches(file, columns, width=width):
                yield from zip(*(_texts(column) for column in batch.columns), strict=True)
    except (pa.ArrowInvalid, EOFError, zlib.error):
        rows = read_rows(path)
        next(rows, None)
        yield from (tuple(row[column] for column in columns) for _, row in rows if len(row) == width)


def _arrow_batches(file: BinaryIO, columns: Sequence[int], *, width: int) -> Iterable[pa.RecordBatch]:
    names = [str(column) for column in range(width)]
    wanted = [str(column) for column in columns]
    batches: Iterable[pa.RecordBatch] = csv_reader.open_csv(
        file,
        read_options=csv_reader.ReadOptions(
            use_threads=False, block_size=_ARROW_BLOCK_BYTES, column_names=names, skip_rows_after_names=1
        ),
        parse_options=csv_reader.ParseOptions(newlines_in_values=True, invalid_row_handler=lambda row: "skip"),
        convert_options=csv_reader.ConvertOptions(
            check_utf8=False, include_columns=wanted, column_types=dict.fromkeys(wanted, pa.string())
        ),
    )
    return batches


def _texts(column: pa.Array) -> list[str]:
    try:
        texts: list[str] = column.to_pylist()
    except UnicodeDecodeError:
        return [text.decode("utf-8", "replace") for text in column.cast(pa.binary()).to_pylist()]
    return texts


def read_header(path: str) -> list[str]:
    """Returns the first row of a CSV file; raises OptionError if it has none, or is a Git-LFS pointer."""
    try:
        header = next(read_rows(path), None)
    except (OSError, BeamIOError, RunError) as error:
        raise OptionError(f"cannot read {path}: {error}") from error
    if header is None:
        raise OptionError(f"{path} is empty")
    if header[1][0].startswith(_LFS_POINTER):
        raise OptionError(
            f"{path} is a Git-LFS pointer, not the table itself: run `git lfs pull` where it was cloned, "
            "or download the file from its web page"
        )
    return header[1]


def snake_case(name: str) -> str:
    """Returns a column's name as an attribute's: `Object ID` -> `object_id`, `AccessionYear` -> `accession_year`."""
    words = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name.strip())
    return re.sub(r"\W+", "_", words).strip("_").lower()
