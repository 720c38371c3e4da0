"""The options of ingest: parsed once, checked before any work, and told apart by whether they change the data set.

Imports neither Beam nor TensorFlow, so that a command can say what is wrong with its options at once.
"""

import argparse
import dataclasses
import hashlib
import json
from collections.abc import Sequence
from typing import Any

from beam_pipelines.dataset import TRAIN, VALIDATION
from beam_pipelines.errors import OptionError
from beam_pipelines.fetch.fetcher import FetchLimits
from beam_pipelines.images import ImageLimits
from beam_pipelines.sources import MET_MIRROR, SOURCE_NAMES, SourceOptions

# Grows when the same options would give another data set.
FORMAT_VERSION = 1


@dataclasses.dataclass(frozen=True, kw_only=True)
class DatasetOptions:
    """What the data set is: another value of any of these makes another data set."""

    source: str
    input: str
    validation_input: str = ""
    attribute: str = "label"
    split_values: str = ""
    images_input: str = ""
    image_uri_template: str = MET_MIRROR
    include_restricted: bool = False
    labels_file: str = ""
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
        if self.source not in SOURCE_NAMES:
            raise OptionError(f"unknown source {self.source!r}: choose one of {', '.join(SOURCE_NAMES)}")
        _check_ranges(self)
        if self.labels_file and self.max_labels:
            raise OptionError(f"--labels_file names the classes, --max_labels {self.max_labels} counts them: give one")
        if self.num_shards == 1 and (self.validation_input or self.validation_fraction > 0):
            raise OptionError("--num_shards 1 leaves no shard for validation: give 2 or --validation_fraction 0")

    def fingerprint(self) -> str:
        """Returns a short hash that tells data sets of different options apart."""
        value = {"format": FORMAT_VERSION, **dataclasses.asdict(self)}
        return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]

    def sources(self) -> list[SourceOptions]:
        """Returns what to read: the input, and the validation input if there is one."""
        given = bool(self.validation_input)
        main = SourceOptions(
            input=self.input,
            attribute=self.attribute,
            split_values=self.split_values,
            include_restricted=self.include_restricted,
            images_input=self.images_input,
            image_uri_template=self.image_uri_template,
            split=TRAIN if given else "",
        )
        validation = dataclasses.replace(main, input=self.validation_input, split=VALIDATION)
        return [main, validation] if given else [main]

    def image_limits(self) -> ImageLimits:
        """Returns what a picture may be."""
        return ImageLimits(min_side=self.min_image_side, max_pixels=self.max_image_pixels)


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunOptions:
    """How one run goes about it; the data set does not depend on these."""

    output: str
    plan_only: bool = False
    retry_rejected: bool = False
    max_reject_fraction: float = 0.5
    fetch_threads: int = 16
    fetch: FetchLimits = dataclasses.field(default_factory=FetchLimits)
    verbose: bool = False


def parse_arguments(arguments: Sequence[str]) -> tuple[DatasetOptions, RunOptions, list[str]]:
    """Returns the options, and those arguments that are Beam's; raises OptionError for values out of range."""
    parser = make_parser()
    parsed, beam_arguments = parser.parse_known_args(list(arguments))
    values = vars(parsed)
    dataset = DatasetOptions(**_taken(values, DatasetOptions))
    fetch = FetchLimits(
        **{
            **_taken(values, FetchLimits),
            "requests_per_second": parse_rates(parsed.max_requests_per_second),
            "max_bytes": dataset.max_image_bytes,
        }
    )
    run = RunOptions(fetch=fetch, **_taken(values, RunOptions))
    if not 0 <= run.max_reject_fraction <= 1:
        raise OptionError(f"--max_reject_fraction {run.max_reject_fraction} is not between 0 and 1")
    if run.fetch_threads < 1:
        raise OptionError(f"--fetch_threads {run.fetch_threads} is not positive")
    return dataset, run, beam_arguments


def make_parser() -> argparse.ArgumentParser:
    """Returns the parser of `python -m beam_pipelines.ingest`."""
    parser = argparse.ArgumentParser(
        prog="python -m beam_pipelines.ingest",
        description="Turns a collection's metadata into sharded TFRecords of checked, shrunk pictures and their "
        "classes. A run that was stopped goes on where it was when the same command is given again.",
        epilog="Options that are not listed here are Apache Beam's, such as --runner and --direct_num_workers.",
        allow_abbrev=False,
    )
    _add_source_options(parser.add_argument_group("source"))
    _add_choice_options(parser.add_argument_group("choice of labels and pictures"))
    _add_output_options(parser.add_argument_group("output"))
    _add_fetch_options(parser.add_argument_group("fetch"))
    _add_run_options(parser.add_argument_group("run"))
    return parser


def parse_rates(texts: Sequence[str]) -> tuple[tuple[str, float], ...]:
    """Returns requests a second by host from `RATE` (every other host) and `HOST=RATE`, the defaults included."""
    rates = dict(FetchLimits().requests_per_second)
    for text in texts:
        host, _, rate = text.rpartition("=")
        try:
            rates[host] = float(rate)
        except ValueError:
            raise OptionError(f"--max_requests_per_second {text!r}: give a number, or HOST=NUMBER") from None
        if not rates[host] > 0:
            raise OptionError(f"--max_requests_per_second {text!r}: give a number greater than 0")
    return tuple(sorted(rates.items()))


def _taken(values: dict[str, Any], options: type[Any]) -> dict[str, Any]:
    return {field.name: values[field.name] for field in dataclasses.fields(options) if field.name in values}


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


_Group = argparse._ArgumentGroup


def _add_source_options(group: _Group) -> None:
    group.add_argument("--source", required=True, help=f"what kind of metadata to read: {', '.join(SOURCE_NAMES)}")
    group.add_argument("--input", required=True, help="the list, folder or catalogue; local or gs://, may be a pattern")
    group.add_argument(
        "--validation_input", default="", help="the same for validation, instead of a split of --input by hash"
    )
    group.add_argument("--attribute", default="label", help="whose values become the labels (default: %(default)s)")
    group.add_argument(
        "--split_values", default="", metavar="SEPARATOR", help="cut a value into several, as '|' in the Met's"
    )
    group.add_argument("--images_input", default="", help="open_access_csv: a CSV with columns object_id,image_uri")
    group.add_argument(
        "--image_uri_template",
        default=MET_MIRROR,
        help="open_access_csv without --images_input: addresses by rule (default: %(default)s)",
    )
    group.add_argument(
        "--include_restricted", action="store_true", help="open_access_csv: also works not in the public domain"
    )


def _add_choice_options(group: _Group) -> None:
    group.add_argument("--labels_file", default="", help="the classes, one a line, in the order of their ids")
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


def _add_output_options(group: _Group) -> None:
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


def _add_fetch_options(group: _Group) -> None:
    limits = FetchLimits()
    group.add_argument(
        "--max_requests_per_second",
        action="append",
        default=[],
        metavar="[HOST=]RATE",
        help="of the whole job, to one host, or to every host not named; may be repeated "
        "(default: images.metmuseum.org=16, others unlimited)",
    )
    group.add_argument(
        "--allow_private_addresses", action="store_true", help="also fetch from loopback and private networks"
    )
    group.add_argument("--contact", default="", help="address or page that museums see in the user agent")
    group.add_argument(
        "--fetch_threads", type=int, default=16, help="pictures at a time in each process (default: %(default)s)"
    )
    for name, what in (
        ("connect_timeout", "seconds to connect"),
        ("read_timeout", "seconds without a byte"),
        ("total_timeout", "seconds for one try"),
        ("max_retries", "tries after the first, for failures that may pass"),
        ("backoff", "seconds before the first retry; doubles"),
        ("max_redirects", "redirects to follow"),
    ):
        value = getattr(limits, name)
        group.add_argument(f"--{name}", type=type(value), default=value, help=f"{what} (default: %(default)s)")


def _add_run_options(group: _Group) -> None:
    group.add_argument("--plan_only", action="store_true", help="stop before the first fetch and say what it would be")
    group.add_argument(
        "--retry_rejected", action="store_true", help="try again what failed for passing reasons in earlier runs"
    )
    group.add_argument(
        "--max_reject_fraction",
        type=float,
        default=0.5,
        help="fail if more of the pictures than this are rejected (default: %(default)s)",
    )
    group.add_argument("--verbose", action="store_true", help="log more, and show errors whole")
