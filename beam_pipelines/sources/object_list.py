"""Source: a list of the Met's objects, by id or by the address of their page, `…/art/collection/search/ID`.

Text or CSV, one object a line. The collection API gives their pictures and what is known of them, as attributes under
the names of https://metmuseum.github.io/ in `snake_case`.
"""

import functools
import os
import re
from collections.abc import Iterator

import apache_beam as beam

from beam_pipelines.artwork import Artwork, clean_text
from beam_pipelines.errors import OptionError
from beam_pipelines.rejects import Dropped, Reason
from beam_pipelines.rows import ARTWORKS, DROPPED, DroppedRow, drop, flat_map_rows
from beam_pipelines.sources import SourceOptions
from beam_pipelines.sources.csv_rows import matching_files, read_header, read_rows, snake_case
from beam_pipelines.sources.met_api import AskApi, check_api
from beam_pipelines.sources.met_objects import ATTRIBUTE_NAMES, MetObject, attribute_text, attributes_of
from beam_pipelines.sources.row_choice import check_attributes, make_row

_COLUMNS = ("object_id", "link_resource", "object_url", "url")
_OBJECT_ID = re.compile(r"[0-9]{1,18}")
_PAGE = re.compile(r"https?://(?:www\.)?metmuseum\.org/art/collection/search/([0-9]{1,18})/?(?:[?#].*)?", re.IGNORECASE)


class ReadObjectList(beam.PTransform):
    """Gives an Artwork for each picture of each object listed; a line without an object is dropped as `bad_row`."""

    def __init__(self, options: SourceOptions) -> None:
        super().__init__()
        self._options = options

    def check(self) -> None:
        """Raises OptionError if a list cannot be read, or the API not be asked as told."""
        options = self._options
        for path in matching_files(options.input):
            read_header(path)
        check_attributes(options, ATTRIBUTE_NAMES)
        if options.images_from == "museum":
            raise OptionError("--images_from museum: a list of objects has its pictures from the collection API: api")
        check_api(options)

    def attribute_names(self) -> list[str]:
        """Returns what the API tells of objects."""
        return list(ATTRIBUTE_NAMES)

    def class_names(self) -> tuple[str, ...]:
        """Returns nothing: there is no order of labels."""
        return ()

    def expand(self, pipeline: beam.Pipeline) -> dict[str, beam.PCollection]:
        """Returns the outputs `artworks` and `dropped`."""
        listed = (
            pipeline
            | "ListFiles" >> beam.Create(matching_files(self._options.input))
            | "ReadObjectIds" >> flat_map_rows(read_objects)
        )
        asked = listed[ARTWORKS] | AskApi(self._options, describe=functools.partial(describe, options=self._options))
        return {ARTWORKS: asked[ARTWORKS], DROPPED: (listed[DROPPED], asked[DROPPED]) | "AllDropped" >> beam.Flatten()}


def read_objects(path: str) -> Iterator[Artwork | DroppedRow]:
    """Yields a row for each line of a list, its key the object's id, and nothing else known of it yet."""
    column: int | None = None
    for line, row in read_rows(path):
        if column is None:
            names = [snake_case(cell) for cell in row]
            header = next((name for name in _COLUMNS if name in names), "")
            column = names.index(header) if header else 0
            if header:
                continue
        cell = row[column] if column < len(row) else ""
        object_id = parse_object_id(cell)
        if object_id:
            yield Artwork(key=object_id, group=object_id, image_uri="")
        else:
            detail = f"{clean_text(cell, max_characters=80)!r} is neither an object's id nor its page"
            where = f"{os.path.basename(path)}:{line}"
            yield drop(Dropped(key=where, uri="", reason=Reason.BAD_ROW, detail=detail))


def parse_object_id(text: str) -> str:
    """Returns the id in `45434` or `https://www.metmuseum.org/art/collection/search/45434`; empty if there is none."""
    text = text.strip()
    page = _PAGE.fullmatch(text)
    number = page[1] if page else text
    return str(int(number)) if _OBJECT_ID.fullmatch(number) else ""


def describe(row: Artwork, found: MetObject, *, options: SourceOptions) -> Artwork | DroppedRow:
    """Returns the row of an object with its labels and attributes, or why it is left out."""
    return make_row(
        key=row.key,
        group=row.group,
        image_uri="",
        values=[attribute_text(found, options.attribute)] if options.attribute in ATTRIBUTE_NAMES else [],
        cell=functools.partial(attribute_text, found),
        attributes=attributes_of(found, every=options.all_attributes) if options.carry_attributes else {},
        options=options,
    )
