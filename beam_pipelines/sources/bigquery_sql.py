"""The text of the queries on a museum's tables in BigQuery, in its standard SQL.

Names stand in back quotes and values in escaped literals; names of columns come from the tables' own schemas.
"""

# ruff: noqa: S608

import re
from collections.abc import Sequence
from dataclasses import dataclass

from beam_pipelines.artwork import MAX_LABEL_CHARACTERS
from beam_pipelines.errors import OptionError
from beam_pipelines.sources import FREQUENT, SourceOptions
from beam_pipelines.sources.row_choice import parse_filters

OBJECT_ID = "object_id"
PUBLIC_DOMAIN = "is_public_domain"
ADDRESS_COLUMNS = {"mirror": "gcs_url", "museum": "original_image_url"}

_OBJECTS = "objects"
_IMAGES = "images"
_NAME = re.compile(
    r"(?P<project>(?:[a-z0-9][a-z0-9.-]*:)?[a-z0-9][a-z0-9-]*)\.(?P<dataset>[A-Za-z0-9_]+)(?:\.(?P<table>[\w-]+))?"
)
_ESCAPES = {"\\": "\\\\", "'": "\\'", "\n": "\\n", "\r": "\\r"}


@dataclass(frozen=True)
class Table:
    """Where a table lies."""

    project: str
    dataset: str
    name: str

    def __str__(self) -> str:
        return f"{self.project}.{self.dataset}.{self.name}"


def find_tables(options: SourceOptions) -> tuple[Table, Table]:
    """Returns the tables of objects and of images that the options name; raises OptionError if they name none."""
    found = _NAME.fullmatch(options.input)
    if not found:
        raise OptionError(
            f"--input {options.input!r} is no BigQuery data set: give PROJECT.DATASET or PROJECT.DATASET.TABLE"
        )
    project, dataset = found["project"], found["dataset"]
    objects = Table(project, dataset, found["table"] or _OBJECTS)
    if not options.images_input:
        return objects, Table(project, dataset, _IMAGES)
    return objects, parse_table(options.images_input, option="images_input")


def parse_table(name: str, *, option: str) -> Table:
    """Returns the table that `PROJECT.DATASET.TABLE` names; raises OptionError, naming the option, if it names none."""
    found = _NAME.fullmatch(name)
    if not (found and found["table"]):
        raise OptionError(f"--{option} {name!r} is no BigQuery table: give PROJECT.DATASET.TABLE")
    return Table(found["project"], found["dataset"], found["table"])


def rows_query(objects: Table, images: Table, columns: Sequence[str], options: SourceOptions) -> str:
    """Returns the query for a row for each picture of each object taken, and one for each object without a picture.

    Its columns are `object_id`, `image_uri` and `number` (NULL without a picture), and `cell_0`, `cell_1` and so on,
    the text of the `columns`. An object's pictures are numbered from 0 by their distinct addresses, shorter ones first
    so that `…/10.jpg` follows `…/9.jpg`.
    """
    cells = "".join(f", CAST({quote(name)} AS STRING) AS cell_{place}" for place, name in enumerate(columns))
    taken = ", ".join(f"taken.cell_{place}" for place in range(len(columns)))
    return f"""
WITH taken AS (
  SELECT object_id{cells}
  FROM {quote(str(objects))}
  {_where(options)}
),
addresses AS (
  {_addresses(images, options)}
),
pictures AS (
  SELECT object_id, image_uri, ROW_NUMBER() OVER (PARTITION BY object_id ORDER BY LENGTH(image_uri), image_uri) - 1
    AS number
  FROM addresses
)
SELECT CAST(taken.object_id AS STRING) AS object_id, pictures.image_uri, pictures.number{", " if taken else ""}{taken}
FROM taken LEFT JOIN pictures ON pictures.object_id = taken.object_id
""".strip()


def counts_query(objects: Table, images: Table, columns: Sequence[str], options: SourceOptions) -> str:
    """Returns the query for how many pictures share the same text in `columns`.

    Its columns are `pictures` and `cells`: a line, a JSON list of texts, for each object that has these pictures and
    differs in its texts.
    """
    return f"""
WITH placed AS (
  {_placed(objects, images, columns, options)}
),
merged AS (
  SELECT image_uri, STRING_AGG(DISTINCT cells, '\\n' ORDER BY cells) AS cells
  FROM (SELECT image_uri, TO_JSON_STRING(cells) AS cells FROM placed)
  GROUP BY image_uri
)
SELECT cells, COUNT(*) AS pictures FROM merged GROUP BY cells
""".strip()


def summary_query(objects: Table, images: Table, columns: Sequence[str], options: SourceOptions) -> str:
    """Returns the query for what each of `columns` offers as a label, in one pass over the tables.

    Its columns are `place` (of the column, from 0), `filled` (pictures with a text), `distinct_values`, and `frequent`
    (those that `FREQUENT` pictures or more have). Columns without any text are not in its result.
    """
    parts = f"UNNEST(SPLIT(cell, {literal(options.split_values)}))" if options.split_values else "UNNEST([cell])"
    return f"""
WITH placed AS (
  {_placed(objects, images, columns, options)}
),
texts AS (
  SELECT DISTINCT image_uri, position AS place, {_clean("part")} AS text
  FROM placed CROSS JOIN UNNEST(cells) AS cell WITH OFFSET AS position CROSS JOIN {parts} AS part
),
labels AS (
  SELECT place, text, COUNT(*) AS pictures FROM texts WHERE text != '' GROUP BY place, text
),
filled AS (
  SELECT place, COUNT(DISTINCT image_uri) AS pictures FROM texts WHERE text != '' GROUP BY place
)
SELECT labels.place AS place, MAX(filled.pictures) AS filled, COUNT(*) AS distinct_values,
  COUNTIF(labels.pictures >= {FREQUENT}) AS frequent
FROM labels JOIN filled ON filled.place = labels.place
GROUP BY labels.place
""".strip()


def quote(name: str) -> str:
    """Returns a name as SQL; raises OptionError if none can be called that."""
    if not name or re.search(r"[`\\\x00-\x1f\x7f]", name):
        raise OptionError(f"{name!r} is no name in BigQuery")
    return f"`{name}`"


def literal(text: str) -> str:
    r"""Returns text as an SQL literal.

    https://cloud.google.com/bigquery/docs/reference/standard-sql/lexical#string_and_bytes_literals: of what may stand
    in a quoted literal, only the quote, the backslash and the ends of lines need an escape.

    Raises:
        OptionError: the text is not one that a query can hold.
    """
    if "\0" in text or re.search("[\ud800-\udfff]", text):
        raise OptionError(f"{text!r} cannot stand in a query")
    return "'" + "".join(_ESCAPES.get(character, character) for character in text) + "'"


def _placed(objects: Table, images: Table, columns: Sequence[str], options: SourceOptions) -> str:
    """Returns the query for the addresses of pictures taken, each with the texts of its object as an array `cells`."""
    cells = ", ".join(f"IFNULL(CAST({quote(name)} AS STRING), '')" for name in columns)
    return (
        f"SELECT addresses.image_uri AS image_uri, taken.cells AS cells\n"
        f"  FROM (SELECT object_id, [{cells}] AS cells FROM {quote(str(objects))} {_where(options)}) AS taken\n"
        f"  JOIN ({_addresses(images, options)}) AS addresses ON addresses.object_id = taken.object_id"
    )


def _addresses(images: Table, options: SourceOptions) -> str:
    column = quote(ADDRESS_COLUMNS[options.images_from])
    return (
        f"SELECT DISTINCT object_id, TRIM({column}) AS image_uri FROM {quote(str(images))} WHERE TRIM({column}) != ''"
    )


def _where(options: SourceOptions) -> str:
    conditions = [] if options.include_restricted else [PUBLIC_DOMAIN]
    for name, wanted in parse_filters(options.filter):
        if all(len(value) < MAX_LABEL_CHARACTERS - 1 for value in wanted):
            conditions.append(_filter(f"IFNULL(CAST({quote(name)} AS STRING), '')", sorted(wanted), options))
    return "WHERE " + " AND ".join(conditions) if conditions else ""


def _filter(text: str, wanted: Sequence[str], options: SourceOptions) -> str:
    """Returns a condition that holds for every row that passes the filter, and hardly for any other.

    Text is compared as rows are, but also without regard to how accents are encoded.
    """
    values = ", ".join(f"NORMALIZE_AND_CASEFOLD({literal(value)})" for value in wanted)
    if not options.split_values:
        return f"NORMALIZE_AND_CASEFOLD({_clean(text)}) IN ({values})"
    parts = f"UNNEST(SPLIT({text}, {literal(options.split_values)})) AS part"
    return f"EXISTS (SELECT 1 FROM {parts} WHERE NORMALIZE_AND_CASEFOLD({_clean('part')}) IN ({values}))"


def _clean(text: str) -> str:
    return rf"TRIM(REGEXP_REPLACE({text}, r'[\pZ\pC]+', ' '))"
