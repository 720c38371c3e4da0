r"""The list of works: one line a picture, which people can edit and ingest reads as a manifest.

Key, group and split stand in it, so that pictures keep identity, side of the split and shard. Characters that UTF-8
cannot hold, as in file names that are none, are written as `\udc80`; such a picture will not be found again.
"""

import csv
import io
import itertools
import json
import os
from collections.abc import Iterable, Iterator
from typing import Any

import apache_beam as beam

from beam_pipelines import files
from beam_pipelines.artwork import Artwork, clean_labels
from beam_pipelines.choice import MergeRowsOfOneAddress, RejectDuplicateKeys
from beam_pipelines.rows import ARTWORKS

_ATTRIBUTES = ("department", "title", "artist", "date", "credit_line", "rights")
HEADER = ("key", "group", "split", "uri", "label", *_ATTRIBUTES)

_USUAL_SEPARATOR = "|"
# Sorts before every character of an escaped key.
_AFTER_KEY = "\t"
_PART = "part"
_LABELS = HEADER.index("label")


class WriteWorks(beam.PTransform):
    """Writes the pictures of rows, one an address and one a key as ingest takes them, to be gathered by `gather_works`.

    Args:
        directory: for files of this list alone.
    """

    def __init__(self, directory: str) -> None:
        super().__init__()
        self._directory = directory

    def expand(self, artworks: beam.PCollection) -> beam.PCollection:
        merged = artworks | MergeRowsOfOneAddress(multi_label=True)
        pictures = merged[ARTWORKS] | RejectDuplicateKeys()
        return (
            pictures[ARTWORKS]
            | "WorkLines" >> beam.Map(work_line).with_output_types(str)
            | "WriteWorkLines" >> beam.io.WriteToText(files.join(self._directory, _PART))
        )


def work_line(artwork: Artwork) -> str:
    """Returns a picture as one line that sorts by its key and that any encoding holds."""
    attributes = [artwork.attributes.get(name, "") for name in _ATTRIBUTES]
    uri = _absolute(artwork.image_uri)
    cells = [artwork.key, artwork.group, artwork.split, uri, artwork.labels, *attributes]
    line = f"{json.dumps(artwork.key, ensure_ascii=False)[1:-1]}{_AFTER_KEY}{json.dumps(cells, ensure_ascii=False)}"
    return line.encode("utf-8", "backslashreplace").decode()  # a surrogate becomes its escape in JSON


def gather_works(directory: str, path: str, *, split_values: str) -> tuple[int, str]:
    """Writes the list from what `WriteWorks` left in `directory`, sorted by key.

    Args:
        directory: of the lines.
        path: of the list, on any file system.
        split_values: what to put between several labels, if they can be told apart by it.

    Returns:
        how many pictures it has; and what stands between labels, by which `--split_values` gives the same ones again,
        empty if no picture has several.
    """
    separator = choose_separator((tuple(_cells(line)[_LABELS]) for line in _lines(directory)), preferred=split_values)
    count = 0
    with (
        files.open_to_write(path) as file,
        io.TextIOWrapper(file, encoding="utf-8", errors="backslashreplace", newline="") as text,
    ):
        writer = csv.writer(text)  # ends lines with CRLF, without which it would not quote a CR
        writer.writerow(HEADER)
        for line in files.sorted_lines(_lines(directory)):
            writer.writerow(_row(line, separator))
            count += 1
    return count, separator


def choose_separator(labels_of_pictures: Iterable[tuple[str, ...]], *, preferred: str = "") -> str:
    """Returns what to put between the labels of a picture, so that cutting there gives the same labels of every one.

    Args:
        labels_of_pictures: sorted, of each picture.
        preferred: taken if it can be, else `|` if it can be, else a character that no label has.

    Returns:
        nothing if no picture has several labels.
    """
    candidates = [separator for separator in dict.fromkeys([preferred, _USUAL_SEPARATOR]) if separator]
    used: set[str] = set()
    several = False
    for labels in labels_of_pictures:
        used.update(*labels)
        several = several or len(labels) > 1
        candidates = [
            separator
            for separator in candidates
            if clean_labels([separator.join(labels)], separator=separator) == labels
        ]
    if not several:
        return ""
    others = itertools.chain(";¦‖", map(chr, itertools.count(0x2500)))
    return next(itertools.chain(candidates, (character for character in others if character not in used)))


def _lines(directory: str) -> Iterator[str]:
    for name in files.list_files(directory):
        if name.startswith(_PART):
            yield from files.read_lines(files.join(directory, name))


def _cells(line: str) -> list[Any]:
    cells: list[Any] = json.loads(line.partition(_AFTER_KEY)[2])
    return cells


def _row(line: str, separator: str) -> list[str]:
    cells = _cells(line)
    return [separator.join(cell) if isinstance(cell, list) else cell for cell in cells]


def _absolute(uri: str) -> str:
    return uri if "://" in uri else os.path.abspath(uri)
