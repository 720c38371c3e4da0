"""Source: a folder of pictures sorted into folders by label, `LABEL/picture.jpg`."""

import os
from collections.abc import Iterator

import apache_beam as beam
from apache_beam import pvalue

from beam_pipelines import files
from beam_pipelines.artwork import Artwork
from beam_pipelines.errors import OptionError
from beam_pipelines.rows import DroppedRow, flat_map_rows
from beam_pipelines.sources import SourceOptions
from beam_pipelines.sources.row_choice import check_attributes, make_row

_LABEL = "label"


class ReadDirectory(beam.PTransform):
    """Gives an Artwork for each file below the folder; the first folder in its path is its label.

    Hidden files are passed over. A file directly in the folder has no label.
    """

    def __init__(self, options: SourceOptions) -> None:
        super().__init__()
        self._options = options

    def check(self) -> None:
        """Raises OptionError if the folder is not there."""
        check_attributes(self._options, self.attribute_names())
        folder = self._options.input
        if not files.is_remote(folder) and not os.path.isdir(folder):
            raise OptionError(f"cannot read {folder}: there is no such directory")
        if files.is_remote(folder) and not files.list_files(folder):
            raise OptionError(f"cannot read {folder}: there are no files below it")

    def attribute_names(self) -> list[str]:
        """Returns `label`, the only one."""
        return [_LABEL]

    def class_names(self) -> tuple[str, ...]:
        """Returns nothing: folders have no order."""
        return ()

    def expand(self, pipeline: beam.Pipeline) -> pvalue.DoOutputsTuple:
        """Returns the outputs `artworks` and `dropped`."""
        return (
            pipeline
            | beam.Create([self._options.input])
            | "ListPictures" >> flat_map_rows(list_artworks, options=self._options)
        )


def list_artworks(folder: str, *, options: SourceOptions) -> Iterator[Artwork | DroppedRow]:
    """Yields an Artwork for each file below `folder` that is not hidden.

    Keys of a given validation split begin with `validation/`, as both folders may hold `LABEL/picture.jpg`.
    """
    for name in files.list_files(folder):
        parts = name.replace(os.sep, "/").split("/")
        if any(part.startswith(".") for part in parts):
            continue
        label = parts[0] if len(parts) > 1 else ""
        key = "/".join([*(["validation"] if options.split == "validation" else []), *parts])
        yield make_row(
            key=key,
            group=key,
            image_uri=files.join(folder, name),
            values=[label],
            cell={_LABEL: label}.__getitem__,
            attributes={_LABEL: label} if options.all_attributes else {},
            options=options,
        )
