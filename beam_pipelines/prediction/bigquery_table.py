"""Loads finished predictions into a table of BigQuery, in place of what it has: one load job, which may be repeated."""

import contextlib
import io
import logging
import os
from collections.abc import Sequence
from typing import Any, BinaryIO, cast

from beam_pipelines import files
from beam_pipelines.cloud_files import is_cloud_path
from beam_pipelines.errors import OptionError, RunError
from beam_pipelines.sources.bigquery import CONNECT_SECONDS, asking, open_client, retry
from beam_pipelines.sources.bigquery_sql import Table

_LOGGER = logging.getLogger(__name__)

_TRIES = 6


def check_table(table: Table, *, project: str) -> None:
    """Raises OptionError if the table's data set is not there, or cannot be asked for.

    Args:
        table: which one; it need not be there.
        project: the Google Cloud project that pays; empty for the table's own.
    """
    from google.api_core.exceptions import NotFound
    from google.cloud import bigquery

    dataset = bigquery.DatasetReference(table.project, table.dataset)
    with asking(OptionError), contextlib.closing(open_client(project or table.project)) as client:
        try:
            client.get_dataset(dataset, retry=retry(), timeout=CONNECT_SECONDS)
        except NotFound as error:
            raise OptionError(
                f"BigQuery has no data set {table.project}.{table.dataset} for --bigquery_table: make it with "
                f"`bq mk --dataset {table.project}:{table.dataset}`, or name another"
            ) from error


def load_table(
    table: Table, paths: Sequence[str], *, rows: int, with_labels: bool, all_scores: bool, project: str
) -> None:
    """Loads JSON lines into a table and waits for the end of it.

    Args:
        table: what it has is replaced; it is made if it is not there.
        paths: of the files, all local or all on gs://.
        rows: that they have.
        with_labels: whether rows have `labels`.
        all_scores: whether rows have `scores`.
        project: the Google Cloud project that pays; empty for the table's own.

    Raises:
        OptionError: nobody pays, or there are no credentials.
        RunError: BigQuery refuses, or loaded another number of rows.
    """
    from google.cloud import bigquery

    dataset = bigquery.DatasetReference(table.project, table.dataset)
    place = dataset.table(table.name)
    config = bigquery.LoadJobConfig(
        source_format=bigquery.SourceFormat.NEWLINE_DELIMITED_JSON,
        write_disposition=bigquery.WriteDisposition.WRITE_TRUNCATE,
        schema=_schema(with_labels=with_labels, all_scores=all_scores),
    )
    _LOGGER.info("loading %d rows into %s", rows, table)
    with contextlib.closing(open_client(project or table.project)) as client, asking(RunError):
        location = client.get_dataset(dataset, retry=retry(), timeout=CONNECT_SECONDS).location
        if all(map(is_cloud_path, paths)):
            # One pattern, as a job takes no more than 10,000 addresses.
            job = client.load_table_from_uri(f"{_common_start(paths)}*", place, location=location, job_config=config)
        else:
            with FilesInTurn(paths) as stream:
                job = client.load_table_from_file(
                    cast(BinaryIO, stream), place, size=stream.size, num_retries=_TRIES, location=location,
                    job_config=config,
                )  # fmt: skip
        loaded = job.result().output_rows
    if loaded != rows:
        raise RunError(f"{table} has {loaded} rows instead of {rows}: give the same command again to load it anew")


class FilesInTurn(io.RawIOBase):
    """Several files, one after the other, as one that can be read and sought in.

    Args:
        paths: of the files, on any file system.

    Attributes:
        size: bytes of all.
    """

    def __init__(self, paths: Sequence[str]) -> None:
        self._paths = list(paths)
        self._sizes = [files.size(path) for path in self._paths]
        self.size = sum(self._sizes)
        self._position = 0
        self._opened = contextlib.ExitStack()
        self._open_path = ""
        self._file: BinaryIO | None = None

    def readable(self) -> bool:
        """It can be read."""
        return True

    def seekable(self) -> bool:
        """It can be sought in."""
        return True

    def tell(self) -> int:
        """Returns where it stands."""
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Goes to a place; returns it."""
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self.size}[whence]
        self._position = max(0, start + offset)
        return self._position

    def read(self, size: int | None = -1) -> bytes:
        """Returns the next bytes, as many as asked for unless all end before."""
        left = self.size - self._position if size is None or size < 0 else size
        pieces = []
        while left > 0 and (piece := self._read_some(left)):
            pieces.append(piece)
            left -= len(piece)
        return b"".join(pieces)

    def close(self) -> None:
        """Closes the file that is open."""
        self._opened.close()
        super().close()

    def _read_some(self, size: int) -> bytes:
        """Returns up to `size` bytes of the file that it stands in; nothing at the end of all."""
        start = 0
        for path, length in zip(self._paths, self._sizes, strict=True):
            if self._position < start + length:
                file = self._opened_file(path)
                file.seek(self._position - start)
                piece = file.read(min(size, start + length - self._position))
                self._position += len(piece)
                return piece
            start += length
        return b""

    def _opened_file(self, path: str) -> BinaryIO:
        if self._file is None or path != self._open_path:
            self._opened.close()
            self._file = self._opened.enter_context(files.open_to_read(path))
            self._open_path = path
        return self._file


def _common_start(paths: Sequence[str]) -> str:
    return os.path.commonprefix(list(paths))  # noqa: RUF071  (of names in one folder)


def _schema(*, with_labels: bool, all_scores: bool) -> list[Any]:
    from google.cloud.bigquery import SchemaField

    fields = [
        SchemaField("key", "STRING"),
        SchemaField("prediction", "INT64"),
        SchemaField("label", "STRING"),
        SchemaField("score", "FLOAT64"),
    ]
    more = [("labels", "STRING", with_labels), ("scores", "FLOAT64", all_scores)]
    return [*fields, *(SchemaField(name, kind, mode="REPEATED") for name, kind, asked in more if asked)]
