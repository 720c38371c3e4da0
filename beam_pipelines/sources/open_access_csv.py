"""Source: the Met's Open Access catalogue, `MetObjects.csv`, in its forms of 2017 (43 columns) and 2023 (54 columns).

https://github.com/metmuseum/openaccess. The catalogue has no addresses of pictures: they come from a second CSV
(`object_id,image_uri`), or from the naming rule of the public mirror.
"""

import dataclasses
import os
from collections.abc import Iterator, Mapping
from typing import Any

import apache_beam as beam

from beam_pipelines.artwork import Artwork, clean_labels, clean_text
from beam_pipelines.errors import OptionError
from beam_pipelines.rejects import Dropped, Reason
from beam_pipelines.rows import ARTWORKS, DROPPED, DroppedRow, drop, flat_map_rows
from beam_pipelines.sources import SourceOptions, check_label_attribute
from beam_pipelines.sources.csv_rows import matching_files, read_header, read_rows, snake_case

_ATTRIBUTE_COLUMNS = {
    "title": "title",
    "artist": "artist_display_name",
    "date": "object_date",
    "credit_line": "credit_line",
    "rights": "rights_and_reproduction",
    "department": "department",
}
_OBJECTS = "objects"
_IMAGES = "images"

# An address and where it was read (file, line), which gives an object's pictures their order.
_Image = tuple[str, int, str]


class ReadOpenAccessCsv(beam.PTransform):
    """Gives an Artwork for each picture of each object in the public domain."""

    def __init__(self, options: SourceOptions) -> None:
        super().__init__()
        self._options = options

    def check(self) -> None:
        """Raises OptionError if a table cannot be read, or lacks a column that is needed."""
        for path in matching_files(self._options.input):
            _check_header(path, self._options)
        if self._options.images_input:
            for path in matching_files(self._options.images_input):
                _image_columns(path)
        elif "{object_id}" not in self._options.image_uri_template:
            raise OptionError(f"--image_uri_template {self._options.image_uri_template!r} lacks the text {{object_id}}")

    def expand(self, pipeline: beam.Pipeline) -> dict[str, beam.PCollection]:
        """Returns the outputs `artworks` and `dropped`."""
        objects = (
            pipeline
            | "CatalogueFiles" >> beam.Create(matching_files(self._options.input))
            | "ReadObjects" >> flat_map_rows(_read_objects, options=self._options)
        )
        if self._options.images_input:
            pictures = (objects[ARTWORKS], self._image_lists(pipeline)) | "JoinImages" >> _JoinImages()
        else:
            pictures = {ARTWORKS: objects[ARTWORKS] | "AddressByRule" >> beam.Map(self._by_rule)}
        dropped = [objects[DROPPED], *([pictures[DROPPED]] if DROPPED in pictures else [])]
        return {ARTWORKS: pictures[ARTWORKS], DROPPED: dropped | "AllDropped" >> beam.Flatten()}

    def _image_lists(self, pipeline: beam.Pipeline) -> beam.PCollection:
        paths = matching_files(self._options.images_input)
        return pipeline | "ImageLists" >> beam.Create(paths) | "ReadImages" >> beam.FlatMap(read_images)

    def _by_rule(self, artwork: Artwork) -> Artwork:
        uri = self._options.image_uri_template.replace("{object_id}", artwork.key)
        return dataclasses.replace(artwork, key=f"{artwork.key}/0", image_uri=uri)


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


def _read_objects(path: str, *, options: SourceOptions) -> Iterator[Artwork | DroppedRow]:
    rows = read_rows(path)
    _, header = next(rows)
    names = [snake_case(name) for name in header]
    place = {name: index for index, name in enumerate(names)}
    for line, row in rows:
        where = f"{os.path.basename(path)}:{line}"
        if len(row) != len(names):
            yield _dropped(where, Reason.BAD_ROW, f"{len(row)} columns instead of {len(names)}")
            continue
        object_id = row[place["object_id"]].strip()
        if not object_id.isdecimal():
            yield _dropped(where, Reason.BAD_ROW, f"object id {object_id[:40]!r} is no number")
        elif not options.include_restricted and row[place["is_public_domain"]].strip().lower() != "true":
            yield _dropped(object_id, Reason.NOT_PUBLIC_DOMAIN, "")
        else:
            yield Artwork(
                key=object_id,
                group=object_id,
                image_uri="",
                labels=clean_labels([row[place[options.attribute]]], separator=options.split_values),
                attributes=_carried(row, place),
                split=options.split,
            )


def _carried(row: list[str], place: Mapping[str, int]) -> dict[str, str]:
    texts = {name: clean_text(row[place[column]]) for name, column in _ATTRIBUTE_COLUMNS.items() if column in place}
    return {name: text for name, text in texts.items() if text}


def _check_header(path: str, options: SourceOptions) -> None:
    names = [snake_case(name) for name in read_header(path)]
    needed = ["object_id", *([] if options.include_restricted else ["is_public_domain"])]
    for name in needed:
        if name not in names:
            raise OptionError(f"{path} is not the Open Access catalogue: it has no column {name!r}")
    check_label_attribute(options, names)


def _image_columns(path: str) -> tuple[int, int]:
    names = [snake_case(name) for name in read_header(path)]
    if "object_id" not in names or "image_uri" not in names:
        raise OptionError(f"{path} lacks the header of an image list: object_id,image_uri")
    return names.index("object_id"), names.index("image_uri")


def _dropped(key: str, reason: Reason, detail: str, *, uri: str = "") -> DroppedRow:
    return drop(Dropped(key=key, uri=uri, reason=reason, detail=detail))
