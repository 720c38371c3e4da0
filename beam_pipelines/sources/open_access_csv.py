"""Source: the Met's Open Access catalogue, `MetObjects.csv`, in its forms of 2017 (43 columns) and 2023 (54 columns).

https://github.com/metmuseum/openaccess. The catalogue has no addresses of pictures: they come from a second CSV
(`object_id,image_uri`), from the naming rule of the public mirror, or from the collection API.
"""

import dataclasses
import functools
import itertools
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import apache_beam as beam

from beam_pipelines.artwork import Artwork, clean_text
from beam_pipelines.errors import OptionError
from beam_pipelines.rejects import Dropped, Reason
from beam_pipelines.rows import ARTWORKS, DROPPED, DroppedRow, drop, flat_map_rows
from beam_pipelines.sources import SourceOptions
from beam_pipelines.sources.csv_rows import matching_files, read_columns, read_header, read_rows, snake_case
from beam_pipelines.sources.met_api import AskApi, check_api
from beam_pipelines.sources.met_objects import CARRIED_COLUMNS, MetObject
from beam_pipelines.sources.row_choice import check_attributes, make_row, parse_filters

_NEEDED = ("object_id", "is_public_domain")
_OBJECTS = "objects"
_IMAGES = "images"

# An address and where it was read (file, line), which gives an object's pictures their order.
_Image = tuple[str, int, str]


class ReadOpenAccessCsv(beam.PTransform):
    """Gives an Artwork for each picture of each object in the public domain.

    The collection API is only asked for rows from which pictures are to be fetched. Where they are only counted (they
    carry every attribute, or none), an object stands for its pictures: the whole catalogue takes the API a day.
    """

    def __init__(self, options: SourceOptions) -> None:
        super().__init__()
        self._options = options

    def check(self) -> None:
        """Raises OptionError if a table cannot be read or lacks a needed column, or pictures can have no address."""
        for path in matching_files(self._options.input):
            _check_header(path, self._options)
        if self._options.images_from == "api":
            check_api(self._options, asks=self._asks_api)
        else:
            _check_addresses(self._options)

    def attribute_names(self) -> list[str]:
        """Returns the catalogue's columns."""
        return [snake_case(name) for name in read_header(matching_files(self._options.input)[0])]

    def class_names(self) -> tuple[str, ...]:
        """Returns nothing: the catalogue has no order of labels."""
        return ()

    def expand(self, pipeline: beam.Pipeline) -> dict[str, beam.PCollection]:
        """Returns the outputs `artworks` and `dropped`."""
        objects = (
            pipeline
            | "CatalogueFiles" >> beam.Create(matching_files(self._options.input))
            | "ReadObjects" >> flat_map_rows(_read_objects, options=self._options, rule=self._address_rule)
        )
        if self._asks_api:
            asked = objects[ARTWORKS] | AskApi(self._options, describe=_as_catalogued)
            pictures = {ARTWORKS: asked[ARTWORKS], DROPPED: asked[DROPPED]}
        elif self._options.images_input:
            pictures = (objects[ARTWORKS], self._image_lists(pipeline)) | "JoinImages" >> _JoinImages()
        else:
            pictures = {ARTWORKS: objects[ARTWORKS]}
        dropped = [objects[DROPPED], *([pictures[DROPPED]] if DROPPED in pictures else [])]
        return {ARTWORKS: pictures[ARTWORKS], DROPPED: dropped | "AllDropped" >> beam.Flatten()}

    @property
    def _asks_api(self) -> bool:
        fetches = self._options.carry_attributes and not self._options.all_attributes
        return self._options.images_from == "api" and fetches

    def _image_lists(self, pipeline: beam.Pipeline) -> beam.PCollection:
        paths = matching_files(self._options.images_input)
        return pipeline | "ImageLists" >> beam.Create(paths) | "ReadImages" >> beam.FlatMap(read_images)

    @property
    def _address_rule(self) -> str:
        """The address of an object's only picture, with `{object_id}` in it; empty where pictures are found later."""
        if self._options.images_from == "api":
            return "" if self._asks_api else self._options.api_address
        return "" if self._options.images_input else self._options.image_uri_template


class _JoinImages(beam.PTransform):
    """Gives each object its pictures from the image lists."""

    def expand(self, inputs: tuple[beam.PCollection, beam.PCollection]) -> dict[str, beam.PCollection]:
        objects, images = inputs
        keyed = objects | beam.WithKeys(lambda artwork: artwork.key).with_output_types(tuple[str, Artwork])
        joined = (
            {_OBJECTS: keyed, _IMAGES: images}
            | beam.CoGroupByKey()
            | "Join" >> flat_map_rows(lambda found: join_pictures(*found))
        )
        return {ARTWORKS: joined[ARTWORKS], DROPPED: joined[DROPPED]}


def join_pictures(object_id: str, found: Mapping[str, Any]) -> Iterator[Artwork | DroppedRow]:
    """Yields the pictures of one object, numbered in the order of the image lists, and what finds no partner."""
    objects = sorted(found[_OBJECTS], key=repr)
    listed = sorted(found[_IMAGES])
    images = [image for image in listed if image[2]]
    for file, line, uri in listed:
        if not uri:
            yield _dropped(f"{file}:{line}", Reason.BAD_ROW, "the line has no address")
    for again in objects[1:]:
        yield _dropped(again.key, Reason.BAD_ROW, "the catalogue has this object more than once")
    if not objects:
        for _, _, uri in images:
            yield _dropped(object_id, Reason.NO_OBJECT, "its object is not among those taken", uri=uri)
        return
    if not images:
        yield _dropped(object_id, Reason.NO_IMAGE, "no image list names it")
    for number, (_, _, uri) in enumerate(images):
        yield dataclasses.replace(objects[0], key=f"{object_id}/{number}", image_uri=uri)


def read_images(path: str) -> Iterator[tuple[str, _Image]]:
    """Yields object id and address from each row of an image list."""
    id_column, uri_column = _image_columns(path)
    rows = read_rows(path)
    next(rows)
    for line, row in rows:
        cells = [*row, *[""] * (max(id_column, uri_column) + 1 - len(row))]
        yield cells[id_column].strip(), (os.path.basename(path), line, cells[uri_column].strip())


def _read_objects(path: str, *, options: SourceOptions, rule: str = "") -> Iterator[Artwork | DroppedRow]:
    names, rows = _columns_and_rows(path, options)
    place = {name: index for index, name in enumerate(names)}
    columns = {name: name for name in names} if options.all_attributes else CARRIED_COLUMNS
    carried = [(name, column) for name, column in columns.items() if column in place and options.carry_attributes]
    file = os.path.basename(path)
    for line, row in rows:
        if len(row) != len(names):
            yield _dropped(f"{file}:{line}", Reason.BAD_ROW, f"{len(row)} columns instead of {len(names)}")
            continue
        object_id = row[place["object_id"]].strip()
        if not object_id.isdecimal():
            yield _dropped(f"{file}:{line}", Reason.BAD_ROW, f"object id {object_id[:40]!r} is no number")
        elif not options.include_restricted and row[place["is_public_domain"]].strip().lower() != "true":
            yield _dropped(object_id, Reason.NOT_PUBLIC_DOMAIN, "")
        else:
            yield make_row(
                key=f"{object_id}/0" if rule else object_id,
                group=object_id,
                image_uri=rule.replace("{object_id}", object_id),
                values=[row[place[options.attribute]]] if options.attribute in place else [],
                cell=functools.partial(_cell, row, place),
                attributes={name: text for name, column in carried if (text := clean_text(row[place[column]]))},
                options=options,
            )


def _columns_and_rows(path: str, options: SourceOptions) -> tuple[list[str], Iterator[tuple[int, Sequence[str]]]]:
    """Returns the names of columns, and the rows with their lines; only what makes a row if no attribute is carried."""
    names = [snake_case(name) for name in read_header(path)]
    if options.carry_attributes:
        return names, itertools.islice(read_rows(path), 1, None)
    filters = (name for name, _ in parse_filters(options.filter))
    place = {name: index for index, name in enumerate(names)}
    needed = [name for name in dict.fromkeys((*_NEEDED, options.attribute, *filters)) if name in place]
    rows = read_columns(path, [place[name] for name in needed], width=len(names))
    return needed, ((0, row) for row in rows)


def _as_catalogued(artwork: Artwork, _: MetObject) -> Artwork:
    return artwork


def _cell(row: Sequence[str], place: Mapping[str, int], name: str) -> str:
    return row[place[name]]


def _check_addresses(options: SourceOptions) -> None:
    if options.images_from == "museum":
        raise OptionError(
            "--images_from museum: the catalogue has no addresses of the museum's host: "
            "give --images_from api, or the addresses as --images_input"
        )
    if options.images_input:
        for path in matching_files(options.images_input):
            _image_columns(path)
    elif "{object_id}" not in options.image_uri_template:
        raise OptionError(f"--image_uri_template {options.image_uri_template!r} lacks the text {{object_id}}")


def _check_header(path: str, options: SourceOptions) -> None:
    names = [snake_case(name) for name in read_header(path)]
    for name in _NEEDED[:1] if options.include_restricted else _NEEDED:
        if name not in names:
            raise OptionError(f"{path} is not the Open Access catalogue: it has no column {name!r}")
    check_attributes(options, names)


def _image_columns(path: str) -> tuple[int, int]:
    names = [snake_case(name) for name in read_header(path)]
    if "object_id" not in names or "image_uri" not in names:
        raise OptionError(f"{path} lacks the header of an image list: object_id,image_uri")
    return names.index("object_id"), names.index("image_uri")


def _dropped(key: str, reason: Reason, detail: str, *, uri: str = "") -> DroppedRow:
    return drop(Dropped(key=key, uri=uri, reason=reason, detail=detail))
