"""Source: a museum's tables of objects and images in BigQuery, such as the Met's `bigquery-public-data.the_met`.

Objects and images are joined, and rows are left out, where they lie: only the columns needed of the objects taken
travel, through Beam's `ReadFromBigQuery`. Counting is one aggregate query. With `BIGQUERY_EMULATOR_HOST` set, Google's
client asks there instead, without credentials.
"""

import collections
import contextlib
import json
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import apache_beam as beam
from apache_beam import pvalue
from apache_beam.options.pipeline_options import GoogleCloudOptions

from beam_pipelines.artwork import Artwork, clean_text
from beam_pipelines.errors import OptionError, RunError, UserError
from beam_pipelines.fetch.cloud_storage import has_google_credentials
from beam_pipelines.rejects import Dropped, Reason
from beam_pipelines.rows import DroppedRow, drop, flat_map_rows
from beam_pipelines.sources import AttributeSummary, ReadOptions, SourceOptions
from beam_pipelines.sources.bigquery_sql import (
    ADDRESS_COLUMNS,
    OBJECT_ID,
    PUBLIC_DOMAIN,
    Table,
    counts_query,
    find_tables,
    rows_query,
    summary_query,
)
from beam_pipelines.sources.met_objects import CARRIED_COLUMNS
from beam_pipelines.sources.row_choice import check_attributes, make_row, parse_filters

_LOGGER = logging.getLogger(__name__)

# What has a text; https://cloud.google.com/bigquery/docs/reference/rest/v2/tables#TableFieldSchema
_TEXT_TYPES = frozenset(
    {"STRING", "BOOL", "BOOLEAN", "INTEGER", "INT64", "FLOAT", "FLOAT64", "NUMERIC", "BIGNUMERIC"}
    | {"DATE", "DATETIME", "TIME", "TIMESTAMP"}
)
CONNECT_SECONDS = 60.0


class ReadBigQuery(beam.PTransform):
    """Gives an Artwork for each picture of each object taken; objects without one are dropped as `no_image`.

    Objects that the options leave out, by a filter or because they are not in the public domain, are not read at all.
    Pictures of one object are numbered by their distinct addresses.

    Beam cannot pass BigQuery a bound on what may be billed, so `max_bytes_billed` is held against the figure of a dry
    run just before; the aggregate queries pass it on as well.
    """

    def __init__(self, options: SourceOptions) -> None:
        super().__init__()
        self._options = options
        self._names: list[str] = []

    def check(self) -> None:
        """Raises OptionError if the tables cannot be read, or lack a column that is needed."""
        objects, images = find_tables(self._options)
        if self._options.images_from not in ADDRESS_COLUMNS:
            raise OptionError(
                f"--images_from {self._options.images_from} is not for bigquery: choose one of "
                f"{', '.join(ADDRESS_COLUMNS)}, or use --source open_access_csv or object_list"
            )
        with asking(OptionError), contextlib.closing(open_client(self._options.reading.project)) as client:
            names = _column_names(client, objects)
            image_names = _column_names(client, images)
        needed = [OBJECT_ID, *([] if self._options.include_restricted else [PUBLIC_DOMAIN])]
        for table, column, present in (
            *((objects, column, names) for column in needed),
            (images, OBJECT_ID, image_names),
            (images, ADDRESS_COLUMNS[self._options.images_from], image_names),
        ):
            if column not in present:
                raise OptionError(f"the table {table} has no column {column!r}")
        check_attributes(self._options, names)
        self._names = names

    def attribute_names(self) -> list[str]:
        """Returns the columns of the objects' table that hold a text, a number, a time or a truth."""
        if not self._names:
            self.check()
        return self._names

    def class_names(self) -> tuple[str, ...]:
        """Returns nothing: a table has no order of its values."""
        return ()

    def expand(self, begin: pvalue.PBegin) -> pvalue.DoOutputsTuple:
        """Returns the outputs `artworks` and `dropped`, having logged how many bytes the query will scan.

        Raises:
            OptionError: it would scan more than it may, or there is nowhere to export to.
        """
        from apache_beam.io.gcp.bigquery import BigQueryQueryPriority, ReadFromBigQuery

        options, reading = self._options, self._options.reading
        method = getattr(ReadFromBigQuery.Method, reading.bigquery_method.upper())
        if method == ReadFromBigQuery.Method.EXPORT:
            _check_temp_location(begin.pipeline)
        columns = _columns_read(self.attribute_names(), options)
        query = rows_query(*find_tables(options), columns, options)
        with asking(OptionError), contextlib.closing(open_client(reading.project)) as client:
            _check_scan(client, query, reading)
        return (
            begin
            | "Query"
            >> ReadFromBigQuery(
                method=method,
                query=query,
                use_standard_sql=True,
                project=reading.project,
                query_priority=BigQueryQueryPriority.INTERACTIVE,
            )
            | "MakeRows" >> flat_map_rows(lambda row: [to_artwork(row, columns=columns, options=options)])
        )

    def count_values(self) -> dict[str, int]:
        """Returns the distinct pictures of each label, in the order of the labels; one aggregate query.

        Raises:
            OptionError: it would scan more than it may.
            RunError: it failed.
        """
        columns = _judged_columns(self._options)
        query = counts_query(*find_tables(self._options), columns, self._options)
        counts: collections.Counter[str] = collections.Counter()
        for row in _results(query, self._options.reading):
            for label in labels_of(row["cells"], columns, self._options):
                counts[label] += row["pictures"]
        return dict(sorted(counts.items()))

    def summarize_attributes(self) -> list[AttributeSummary]:
        """Returns what each attribute offers, in the order of the columns; one aggregate query.

        Raises:
            UserError: as `count_values`.
        """
        names = self.attribute_names()
        query = summary_query(*find_tables(self._options), names, self._options)
        found = {row["place"]: row for row in _results(query, self._options.reading)}
        nothing = {"filled": 0, "distinct_values": 0, "frequent": 0}
        return [
            AttributeSummary(
                name=name,
                filled=found.get(place, nothing)["filled"],
                distinct=found.get(place, nothing)["distinct_values"],
                frequent=found.get(place, nothing)["frequent"],
            )
            for place, name in enumerate(names)
        ]


def open_client(project: str) -> Any:
    """Returns Google's client for BigQuery; raises OptionError if no project pays or there are no credentials.

    Looking for credentials where there are none would wait for a metadata server that is not there.
    """
    if not project:
        raise OptionError("queries need a Google Cloud project that pays for them: give --project")
    from google.auth.credentials import AnonymousCredentials
    from google.cloud import bigquery

    if "BIGQUERY_EMULATOR_HOST" in os.environ:
        anonymous = AnonymousCredentials()  # type: ignore[no-untyped-call]
        return bigquery.Client(project=project, credentials=anonymous)
    if not has_google_credentials():
        raise OptionError(
            "BigQuery needs Google credentials: log in with `gcloud auth application-default login`, "
            "or name a key file in GOOGLE_APPLICATION_CREDENTIALS"
        )
    return bigquery.Client(project=project)


def check_bytes(scanned: int, *, allowed: int) -> None:
    """Raises OptionError if a query would scan more bytes than allowed; 0 allows any number."""
    if allowed and scanned > allowed:
        raise OptionError(
            f"the query would scan {scanned} bytes, more than --max_bytes_billed {allowed}: allow more, or filter less"
        )


def readable_size(count: int) -> str:
    """Returns a number of bytes for people: `41.2 MB`."""
    size = float(count)
    for unit in ("bytes", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"


def to_artwork(row: Mapping[str, Any], *, columns: Sequence[str], options: SourceOptions) -> Artwork | DroppedRow:
    """Returns the picture of a row of `rows_query`, or why it is left out.

    Args:
        row: values by name.
        columns: what its cells are.
        options: which rows are taken, and what is done with the values.
    """
    object_id, uri = row["object_id"], row["image_uri"]
    if not object_id:
        return drop(Dropped(key="", uri="", reason=Reason.BAD_ROW, detail="the object has no id"))
    if not uri:
        return drop(Dropped(key=object_id, uri="", reason=Reason.NO_IMAGE, detail="no image has its id and an address"))
    cells = {name: row[f"cell_{place}"] or "" for place, name in enumerate(columns)}
    carried = {name: name for name in columns} if options.all_attributes else CARRIED_COLUMNS
    return make_row(
        key=f"{object_id}/{row['number']}",
        group=object_id,
        image_uri=uri,
        values=[cells.get(options.attribute, "")],
        cell=cells.__getitem__,
        attributes={name: text for name, column in carried.items() if (text := clean_text(cells.get(column, "")))},
        options=options,
    )


def labels_of(cells: str, columns: Sequence[str], options: SourceOptions) -> set[str]:
    """Returns the labels of a picture from its line of `counts_query` for each object that has it.

    Args:
        cells: JSON lists, one a line.
        columns: what is in the lists.
        options: which rows are taken, and what is done with the values.
    """
    labels: set[str] = set()
    for line in cells.split("\n"):
        texts = dict(zip(columns, json.loads(line), strict=True))
        row = make_row(
            key="",
            group="",
            image_uri="",
            values=[texts[options.attribute]],
            cell=texts.__getitem__,
            attributes={},
            options=options,
        )
        if isinstance(row, Artwork):
            labels.update(row.labels)
    return labels


def _columns_read(names: Sequence[str], options: SourceOptions) -> list[str]:
    if options.all_attributes:
        return list(names)
    needed = {*_judged_columns(options), *CARRIED_COLUMNS.values()}
    return [name for name in names if name in needed]


def _judged_columns(options: SourceOptions) -> list[str]:
    """Returns the columns that say what a row's labels are, and whether it is taken."""
    return sorted({*filter(None, [options.attribute]), *(name for name, _ in parse_filters(options.filter))})


def _column_names(client: Any, table: Table) -> list[str]:
    from google.api_core.exceptions import NotFound
    from google.cloud import bigquery

    reference = bigquery.DatasetReference(table.project, table.dataset).table(table.name)
    try:
        schema = client.get_table(reference, retry=retry(), timeout=CONNECT_SECONDS).schema
    except NotFound as error:
        raise OptionError(f"BigQuery has no table {table}") from error
    return [field.name for field in schema if field.field_type in _TEXT_TYPES and field.mode != "REPEATED"]


def _check_temp_location(pipeline: beam.Pipeline) -> None:
    location = pipeline.options.view_as(GoogleCloudOptions).temp_location or ""
    if not location.startswith("gs://"):
        raise OptionError(
            f"--bigquery_method export goes through files in --temp_location {location!r}: give gs://BUCKET/FOLDER, "
            "or use direct_read"
        )


def _check_scan(client: Any, query: str, reading: ReadOptions) -> None:
    """Logs how many bytes a query will scan, by a dry run, which costs nothing; raises OptionError if too many."""
    from google.cloud import bigquery

    config = bigquery.QueryJobConfig(dry_run=True, use_query_cache=False)
    scanned = client.query(query, job_config=config, retry=retry(), timeout=CONNECT_SECONDS).total_bytes_processed
    _LOGGER.info("the query will scan %s", readable_size(scanned or 0))
    check_bytes(scanned or 0, allowed=reading.max_bytes_billed)


def _results(query: str, reading: ReadOptions) -> list[Any]:
    """Returns the rows of an aggregate query, having logged how many bytes it will scan."""
    from google.cloud import bigquery

    with asking(OptionError), contextlib.closing(open_client(reading.project)) as client:
        _check_scan(client, query, reading)
        config = bigquery.QueryJobConfig(maximum_bytes_billed=reading.max_bytes_billed or None)
        with asking(RunError):
            return list(client.query(query, job_config=config).result())


def retry() -> Any:
    """Returns how Google's client tries a question again."""
    from google.cloud.bigquery import DEFAULT_RETRY

    return DEFAULT_RETRY.with_timeout(CONNECT_SECONDS)


@contextlib.contextmanager
def asking(failure: type[UserError]) -> Iterator[None]:
    """Turns the errors of Google's libraries into one of ours, in a line."""
    from google.api_core.exceptions import GoogleAPICallError, RetryError
    from google.auth.exceptions import GoogleAuthError
    from requests.exceptions import RequestException

    try:
        yield
    except GoogleAPICallError as error:
        said = [details["message"] for details in error.errors if "message" in details]
        raise failure(f"BigQuery refuses: {clean_text(said[0] if said else str(error.message))}") from error
    except GoogleAuthError as error:
        raise failure(f"Google credentials cannot be used: {clean_text(str(error))}") from error
    except (RetryError, RequestException, OSError) as error:
        raise failure(f"no connection to BigQuery: {clean_text(str(error))}") from error
