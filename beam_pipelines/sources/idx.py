"""Source: MNIST's files, pairs `<stem>-images-idx3-ubyte[.gz]` and `<stem>-labels-idx1-ubyte[.gz]`.

Fashion-MNIST, EMNIST and others come in the same form: http://yann.lecun.com/exdb/mnist/. A label is a number; the
labels file gives it a name. Pictures stay where they are: an address `idx:PATH#NUMBER` is read when it is fetched.
"""

import dataclasses
import os
import re
from collections.abc import Callable, Iterator
from typing import BinaryIO, TypeVar

import apache_beam as beam
from apache_beam import pvalue
from apache_beam.io.filesystem import BeamIOError

from beam_pipelines import files
from beam_pipelines.artwork import Artwork
from beam_pipelines.dataset import SPLITS, TRAIN, VALIDATION
from beam_pipelines.errors import OptionError
from beam_pipelines.fetch.idx_files import pixel_chunks, read_labels, read_shape, unpacked
from beam_pipelines.label_choice import read_labels_file
from beam_pipelines.rejects import RejectedError
from beam_pipelines.rows import DroppedRow, flat_map_rows
from beam_pipelines.sources import SourceOptions
from beam_pipelines.sources.csv_rows import matching_files
from beam_pipelines.sources.row_choice import check_attributes, make_row

_LABEL = "label"
_IMAGES = "images"
_LABELS = "labels"
_NAME = re.compile(r"(?P<stem>.*?)-?(?P<what>images|labels)[-.]idx\d-ubyte(?:\.gz)?", re.DOTALL)
_VALIDATION_STEM = re.compile(r"(?:^|[^a-z])(?:test|t10k|valid)", re.IGNORECASE)
_PATTERN = re.compile(r"[*?\[]")

_Value = TypeVar("_Value")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pair:
    """Two files that belong together.

    Attributes:
        images: the file of the pictures.
        labels: the file of their labels.
        split: `train` or `validation`.
        key: what the keys of its pictures begin with.
    """

    images: str
    labels: str
    split: str
    key: str


class ReadIdx(beam.PTransform):
    """Gives an Artwork for each picture of each pair of files."""

    def __init__(self, options: SourceOptions) -> None:
        super().__init__()
        self._options = options

    def check(self) -> None:
        """Raises OptionError if there is no pair, a file of one is not whole, or a label has no name."""
        check_attributes(self._options, self.attribute_names())
        names = _given_names(self._options)
        for pair in find_pairs(self._options):
            check_pair(pair)
            most = max(_read(pair.labels, read_labels), default=0)
            if names and most >= len(names):
                raise OptionError(
                    f"{pair.labels} has the label {most}, but --labels_file {self._options.labels_file} has "
                    f"{len(names)} names, of the labels 0 to {len(names) - 1}"
                )

    def attribute_names(self) -> list[str]:
        """Returns `label`, the only one."""
        return [_LABEL]

    def class_names(self) -> tuple[str, ...]:
        """Returns the labels by their number, as the labels file names them; nothing if they are put in bins."""
        if self._options.bin:
            return ()
        return _given_names(self._options) or tuple(str(number) for number in range(self._count_labels()))

    def expand(self, pipeline: beam.Pipeline) -> pvalue.DoOutputsTuple:
        """Returns the outputs `artworks` and `dropped`."""
        return (
            pipeline
            | beam.Create(find_pairs(self._options))
            | "ReadLabels" >> flat_map_rows(read_pair, names=_given_names(self._options), options=self._options)
        )

    def _count_labels(self) -> int:
        return 1 + max(max(_read(pair.labels, read_labels), default=-1) for pair in find_pairs(self._options))


def find_pairs(options: SourceOptions) -> list[Pair]:
    """Returns the pairs in the input, a folder or a pattern, sorted.

    A file that is there both packed and unpacked is taken once. Pairs whose stem says `test`, `t10k` or `valid` are
    for validation, unless the options give a split.

    Raises:
        OptionError: there is none, or a file lacks its partner.
    """
    found: dict[str, dict[str, str]] = {}
    # Unpacked files come first, and first come stays.
    for path in sorted(_list_files(options.input), key=lambda path: (path.endswith(".gz"), path)):
        folder, name = os.path.split(path)
        if match := _NAME.fullmatch(name):
            found.setdefault(files.join(folder, match["stem"]), {}).setdefault(match["what"], path)
    if not found:
        raise OptionError(
            f"{options.input} has no pair of idx files: give a folder or a pattern of files named "
            "like train-images-idx3-ubyte.gz and train-labels-idx1-ubyte.gz"
        )
    for stem, pair in sorted(found.items()):
        if missing := {_IMAGES, _LABELS} - pair.keys():
            raise OptionError(
                f"{next(iter(pair.values()))} lacks its partner: put {_partner(stem, *missing)} beside it"
            )
    split_of = {stem: options.split or _split_of_stem(stem) for stem in found}
    return [
        Pair(images=found[stem][_IMAGES], labels=found[stem][_LABELS], split=split, key=key)
        for split in SPLITS
        for stem, key in _keys(split, sorted(stem for stem in found if split_of[stem] == split))
    ]


def check_pair(pair: Pair) -> None:
    """Raises OptionError unless both files are whole, lie where pictures can be fetched, and have equal counts."""
    if files.is_remote(pair.images) and not pair.images.startswith("gs://"):
        raise OptionError(f"pictures cannot be fetched from {pair.images}: put it on a disk or into gs://")
    pictures, labels = _read(pair.images, _count_pictures), len(_read(pair.labels, read_labels))
    if pictures != labels:
        raise OptionError(
            f"{pair.images} has {pictures} pictures, but {pair.labels} has {labels} labels: "
            "give files that belong together"
        )


def read_pair(pair: Pair, *, names: tuple[str, ...], options: SourceOptions) -> Iterator[Artwork | DroppedRow]:
    """Yields an Artwork for each picture of a pair, or why it is left out.

    Args:
        pair: the files.
        names: the labels by their number; the numbers themselves if there are none.
        options: which rows are taken, and what is done with the labels.
    """
    for number, label in enumerate(_read(pair.labels, read_labels)):
        name = names[label] if names else str(label)
        key = f"{pair.key}/{number}"
        yield make_row(
            key=key,
            group=key,
            image_uri=f"idx:{pair.images}#{number}",
            values=[name],
            cell={_LABEL: name}.__getitem__,
            attributes={_LABEL: name} if options.all_attributes else {},
            options=options,
            split=pair.split,
        )


def _given_names(options: SourceOptions) -> tuple[str, ...]:
    return read_labels_file(options.labels_file) if options.labels_file else ()


def _list_files(path: str) -> list[str]:
    if os.path.isdir(path) or (files.is_remote(path) and not _PATTERN.search(path)):
        found = [files.join(path, name) for name in files.list_directory(path)]
    else:
        found = matching_files(path)
    return [path for path in found if files.is_remote(path) or os.path.isfile(path)]


def _split_of_stem(stem: str) -> str:
    return VALIDATION if _VALIDATION_STEM.search(os.path.basename(stem)) else TRAIN


def _keys(split: str, stems: list[str]) -> Iterator[tuple[str, str]]:
    """Yields stems with what their keys begin with: the split, and what tells several of one split apart."""
    shared = os.path.commonprefix(stems)  # noqa: RUF071  (paths would lose a slash of `gs://`)
    folder = shared[: shared.rfind("/") + 1]
    for stem in stems:
        yield stem, f"{split}/{stem.removeprefix(folder)}" if len(stems) > 1 else split


def _partner(stem: str, what: str) -> str:
    dimensions = 3 if what == _IMAGES else 1
    return "-".join(filter(None, (os.path.basename(stem), what, f"idx{dimensions}-ubyte.gz")))


def _count_pictures(content: BinaryIO) -> int:
    """Returns how many pictures a file has, having read it to its end."""
    shape = read_shape(content)
    for _ in pixel_chunks(content, shape):
        pass
    return shape.count


def _read(path: str, read: Callable[[BinaryIO], _Value]) -> _Value:
    """Returns what `read` makes of a file, unpacked; raises OptionError if it cannot be read."""
    try:
        with files.open_to_read(path) as file, unpacked(file) as content:
            return read(content)
    except RejectedError as error:
        raise OptionError(f"cannot use {path}: {error.detail}: get the file anew") from error
    except (OSError, BeamIOError) as error:
        raise OptionError(f"cannot read {path}: {error}") from error
