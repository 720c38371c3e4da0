"""The options of ingest: parsed once, checked before any work, and told apart by whether they change the data set.

Imports neither Beam nor TensorFlow, so that a command can say what is wrong with its options at once.
"""

import argparse
import dataclasses
import hashlib
import json
from collections.abc import Sequence
from typing import Any

from beam_pipelines.command_options import (
    MAX_REJECT_FRACTION,
    Group,
    add_reject_fraction,
    check_reject_fraction,
    make_command_parser,
    taken,
)
from beam_pipelines.dataset import TRAIN, VALIDATION
from beam_pipelines.errors import OptionError
from beam_pipelines.images import ImageLimits
from beam_pipelines.row_options import Reading, SourcedRows, add_reading_arguments, add_row_arguments, fetch_limits
from beam_pipelines.sources import ReadOptions, SourceOptions

# Grows when the same options would give another data set.
FORMAT_VERSION = 2


@dataclasses.dataclass(frozen=True, kw_only=True)
class DatasetOptions(SourcedRows):
    """What the data set is: another value of any of these makes another data set."""

    validation_input: str = ""
    default_label: str = ""
    multi_label: bool = False
    min_images_per_label: int = 10
    max_labels: int = 0
    max_images_per_label: int = 0
    max_images: int = 0
    validation_fraction: float = 0.25
    num_shards: int = 0
    image_size: int = 320
    jpeg_quality: int = 90
    min_image_side: int = 16
    max_image_pixels: int = 100_000_000
    max_image_bytes: int = 32 << 20

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_ranges(self)
        if self.labels_file and self.max_labels:
            raise OptionError(f"--labels_file names the classes, --max_labels {self.max_labels} counts them: give one")
        if self.num_shards == 1 and (self.validation_input or self.validation_fraction > 0):
            raise OptionError("--num_shards 1 leaves no shard for validation: give 2 or --validation_fraction 0")

    def fingerprint(self) -> str:
        """Returns a short hash that tells data sets of different options apart."""
        value = {"format": FORMAT_VERSION, **self.to_json()}
        return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]

    def to_json(self) -> dict[str, Any]:
        """Returns the options by name, as JSON values."""
        return {**dataclasses.asdict(self), "filter": list(self.filter)}

    def sources(self, reading: ReadOptions) -> list[SourceOptions]:
        """Returns what to read: the input, and the validation input if there is one."""
        if not self.validation_input:
            return [SourceOptions.of(self, reading=reading)]
        return [
            SourceOptions.of(self, split=TRAIN, reading=reading),
            SourceOptions.of(self, split=VALIDATION, reading=reading, input=self.validation_input),
        ]

    def worker_paths(self) -> dict[str, str]:
        """Returns the paths that workers read, by the names of their options."""
        return {
            **super().worker_paths(),
            "validation_input": "" if self.source == "bigquery" else self.validation_input,
        }

    def image_limits(self) -> ImageLimits:
        """Returns what a picture may be."""
        return ImageLimits(min_side=self.min_image_side, max_pixels=self.max_image_pixels)


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunOptions(Reading):
    """How one run goes about it; the data set does not depend on these."""

    output: str
    plan_only: bool = False
    check_only: bool = False
    write_images: str = ""
    retry_rejected: bool = False
    no_wait: bool = False
    max_reject_fraction: float = MAX_REJECT_FRACTION
    fetch_threads: int = 16
    cache_bytes: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_reject_fraction(self.max_reject_fraction)
        if self.fetch_threads < 1:
            raise OptionError(f"--fetch_threads {self.fetch_threads} is not positive")
        if self.cache_bytes < 0:
            raise OptionError(f"--cache_bytes {self.cache_bytes} is negative")
        if self.cache_bytes and not self.cache_dir:
            raise OptionError(f"--cache_bytes {self.cache_bytes} bounds a cache: name its --cache_dir")
        if self.check_only and self.write_images:
            raise OptionError("--check_only keeps no pictures, --write_images leaves them: give one")
        if self.check_only and self.no_wait:
            raise OptionError("--check_only tells what it found, --no_wait does not stay for it: give one")


def parse_arguments(arguments: Sequence[str]) -> tuple[DatasetOptions, RunOptions, list[str]]:
    """Returns the options, and those arguments that are Beam's; raises OptionError for values out of range."""
    parsed, beam_arguments = make_parser().parse_known_args(list(arguments))
    values = vars(parsed)
    dataset = DatasetOptions(**taken(values, DatasetOptions))
    fetch = fetch_limits(values, max_bytes=dataset.max_image_bytes)
    return dataset, RunOptions(fetch=fetch, **taken(values, RunOptions)), beam_arguments


def make_parser() -> argparse.ArgumentParser:
    """Returns the parser of `python -m beam_pipelines.ingest`."""
    parser = make_command_parser(
        "beam_pipelines.ingest",
        "Turns a collection's metadata into sharded TFRecords of checked, shrunk pictures and their "
        "classes. A run that was stopped goes on where it was when the same command is given again.",
        of_beam="--runner and --direct_num_workers",
    )
    add_row_arguments(parser.add_argument_group("source"))
    _add_choice_options(parser.add_argument_group("choice of labels and pictures"))
    _add_output_options(parser.add_argument_group("output"))
    add_reading_arguments(parser.add_argument_group("reading and fetching"))
    _add_run_options(parser.add_argument_group("run"))
    return parser


def _check_ranges(options: DatasetOptions) -> None:
    for name in ("max_labels", "max_images_per_label", "max_images", "num_shards"):
        if getattr(options, name) < 0:
            raise OptionError(f"--{name} {getattr(options, name)} is negative")
    for name in ("min_images_per_label", "image_size", "min_image_side", "max_image_pixels", "max_image_bytes"):
        if getattr(options, name) < 1:
            raise OptionError(f"--{name} {getattr(options, name)} is not positive")
    if options.num_shards > 99_999:
        raise OptionError(f"--num_shards {options.num_shards} is more than 99999")
    if not 1 <= options.jpeg_quality <= 95:
        raise OptionError(f"--jpeg_quality {options.jpeg_quality} is not between 1 and 95")
    if not 0 <= options.validation_fraction < 1:
        raise OptionError(f"--validation_fraction {options.validation_fraction} is not at least 0 and below 1")


def _add_choice_options(group: Group) -> None:
    group.add_argument(
        "--validation_input", default="", help="like --input, for validation, instead of a split by hash"
    )
    group.add_argument("--default_label", default="", help="label of rows without one (default: they are rejected)")
    group.add_argument("--multi_label", action="store_true", help="a picture may have several labels")
    group.add_argument(
        "--min_images_per_label",
        type=int,
        default=10,
        help="labels of fewer pictures are left out (default: %(default)s)",
    )
    for name, what in (
        ("max_labels", "so many labels, the commonest"),
        ("max_images_per_label", "so many pictures of each label"),
        ("max_images", "so many pictures in all"),
    ):
        group.add_argument(f"--{name}", type=int, default=0, metavar="N", help=f"at most {what} (default: all)")
    group.add_argument(
        "--validation_fraction",
        type=float,
        default=0.25,
        help="part of the objects that validates, by hash (default: %(default)s)",
    )


def _add_output_options(group: Group) -> None:
    group.add_argument("--output", required=True, help="the data set directory; local or gs://")
    group.add_argument(
        "--num_shards", type=int, default=0, help="of both splits together (default: about 500 pictures each)"
    )
    group.add_argument(
        "--image_size", type=int, default=320, help="pixels of the shorter side, never enlarged (default: %(default)s)"
    )
    group.add_argument("--jpeg_quality", type=int, default=90, help="1 to 95 (default: %(default)s)")
    group.add_argument(
        "--min_image_side", type=int, default=16, help="smaller pictures are rejected (default: %(default)s pixels)"
    )
    group.add_argument(
        "--max_image_pixels", type=int, default=100_000_000, help="larger ones are rejected (default: %(default)s)"
    )
    group.add_argument(
        "--max_image_bytes", type=int, default=32 << 20, help="larger files are rejected (default: %(default)s)"
    )


def _add_run_options(group: Group) -> None:
    group.add_argument("--plan_only", action="store_true", help="stop before the first fetch and say what it would be")
    group.add_argument(
        "--check_only", action="store_true", help="fetch and check every picture and report, but write no data set"
    )
    group.add_argument(
        "--write_images", default="", metavar="DIR", help="also leave the pictures as DIR/LABEL/key.jpg; local or gs://"
    )
    group.add_argument(
        "--retry_rejected", action="store_true", help="try again what failed for passing reasons in earlier runs"
    )
    group.add_argument(
        "--no_wait", action="store_true", help="DataflowRunner: end when the job that writes the shards is submitted"
    )
    add_reject_fraction(group)
    group.add_argument(
        "--fetch_threads", type=int, default=16, help="pictures at a time in each process (default: %(default)s)"
    )
    group.add_argument(
        "--cache_bytes", type=int, default=0, help="keep no more pictures in --cache_dir than these (default: no bound)"
    )
