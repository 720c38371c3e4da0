"""The options that say which pictures a command reads, and within what limits. Imports neither Beam nor TensorFlow."""

import argparse
import dataclasses
import os
from collections.abc import Mapping
from typing import Any

from beam_pipelines.command_options import add_verbose
from beam_pipelines.errors import OptionError
from beam_pipelines.fetch.fetcher import FetchLimits
from beam_pipelines.images import ImageLimits
from beam_pipelines.row_options import add_fetch_arguments, fetch_limits

# Stands for a picture that comes through a pipe.
STANDARD_INPUT = "-"


@dataclasses.dataclass(frozen=True, kw_only=True)
class PictureOptions:
    """Which pictures are read.

    Attributes:
        addresses: `http://`, `https://`, `gs://` or a path each; `-` for standard input.
        fetch: bounds on every request.
        max_image_pixels: width times height of the largest picture that is taken.
        fetch_threads: how many are fetched at the same time.
    """

    addresses: tuple[str, ...]
    fetch: FetchLimits = dataclasses.field(default_factory=FetchLimits)
    max_image_pixels: int = ImageLimits.max_pixels
    fetch_threads: int = 8

    def __post_init__(self) -> None:
        check_positive("max_image_pixels", self.max_image_pixels)
        check_positive("fetch_threads", self.fetch_threads)
        if self.addresses.count(STANDARD_INPUT) > 1:
            raise OptionError("- stands for standard input, which is one picture: give it once")
        for address in self.addresses:
            _check_is_no_directory(address)

    @property
    def limits(self) -> ImageLimits:
        """Which pictures are taken, by what their headers say."""
        return ImageLimits(min_side=1, max_pixels=self.max_image_pixels)

    def within(self, model: Mapping[str, Any]) -> "PictureOptions":
        """Returns the options with a model's own bound on pixels, where that is lower.

        Args:
            model: what its export says of it.
        """
        bound = min(self.max_image_pixels, int(model.get("max_image_pixels", self.max_image_pixels)))
        return dataclasses.replace(self, max_image_pixels=bound)


def add_picture_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `PictureOptions`, and `--verbose`."""
    parser.add_argument(
        "addresses", nargs="+", metavar="PICTURE", help="a file, http://, https:// or gs://; - reads standard input"
    )
    group = parser.add_argument_group("reading and fetching")
    group.add_argument(
        "--max_image_pixels",
        type=int,
        default=PictureOptions.max_image_pixels,
        help="larger ones are rejected (default: %(default)s)",
    )
    group.add_argument(
        "--max_image_bytes",
        type=int,
        default=FetchLimits.max_bytes,
        help="larger files are rejected (default: %(default)s)",
    )
    group.add_argument(
        "--fetch_threads",
        type=int,
        default=PictureOptions.fetch_threads,
        help="pictures fetched at a time (default: %(default)s)",
    )
    add_fetch_arguments(group)
    add_verbose(group)


def picture_options(values: Mapping[str, Any]) -> PictureOptions:
    """Returns the options among parsed values; raises OptionError for what can be known to be wrong."""
    check_positive("max_image_bytes", values["max_image_bytes"])
    return PictureOptions(
        addresses=tuple(values["addresses"]),
        fetch=fetch_limits(dict(values), max_bytes=values["max_image_bytes"]),
        max_image_pixels=values["max_image_pixels"],
        fetch_threads=values["fetch_threads"],
    )


def check_positive(name: str, value: int) -> None:
    """Raises OptionError for the value of an option `--name` that is less than 1."""
    if value < 1:
        raise OptionError(f"--{name} {value} is not positive")


def _check_is_no_directory(address: str) -> None:
    if os.path.isdir(address) or (address.startswith("gs://") and address.endswith("/")):
        raise OptionError(
            f"{address} is a directory: name its pictures, or have all of them predicted with "
            f"python -m beam_pipelines.batch_predict --source directory --input {address}"
        )
