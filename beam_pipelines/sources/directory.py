"""Source: a folder of pictures sorted into folders by label, `LABEL/picture.jpg`."""

import os
from collections.abc import Iterator

import apache_beam as beam
from apache_beam import pvalue

from beam_pipelines import files
from beam_pipelines.artwork import Artwork, clean_labels
from beam_pipelines.errors import OptionError
from beam_pipelines.rows import flat_map_rows
from beam_pipelines.sources import SourceOptions, check_label_attribute


class ReadDirectory(beam.PTransform):
    """Gives an Artwork for each file below the folder; the first folder in its path is its label.

    Hidden files are passed over. A file directly in the folder has no label.
    """

    def __init__(self, options: SourceOptions) -> None:
        super().__init__()
        self._options = options

    def check(self) -> None:
        """Raises OptionError if the folder is not there."""
        check_label_attribute(self._options, ["label"])
        folder = self._options.input
        if not files.is_remote(folder) and not os.path.isdir(folder):
            raise OptionError(f"cannot read {folder}: there is no such directory")
        if files.is_remote(folder) and not files.list_files(folder):
            raise OptionError(f"cannot read {folder}: there are no files below it")

    def expand(self, pipeline: beam.Pipeline) -> pvalue.DoOutputsTuple:
        """Returns the outputs `artworks` and `dropped` (always empty)."""
        return (
            pipeline
            | beam.Create([self._options.input])
            | "ListPictures" >> flat_map_rows(list_artworks, split=self._options.split)
        )


def list_artworks(folder: str, *, split: str = "") -> Iterator[Artwork]:
    """Yields an Artwork for each file below `folder` that is not hidden.

    Keys of a given validation split begin with `validation/`, as both folders may hold `LABEL/picture.jpg`.
    """
    for name in files.list_files(folder):
        parts = name.replace(os.sep, "/").split("/")
        if any(part.startswith(".") for part in parts):
            continue
        key = "/".join([*(["validation"] if split == "validation" else []), *parts])
        yield Artwork(
            key=key,
            group=key,
            image_uri=files.join(folder, name),
            labels=clean_labels(parts[:1]) if len(parts) > 1 else (),
            split=split,
        )
