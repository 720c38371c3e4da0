"""The options of export, checked before any work. Imports no TensorFlow."""

import argparse
import dataclasses
from collections.abc import Sequence

from beam_pipelines.errors import OptionError
from beam_pipelines.images import ImageLimits
from beam_pipelines.option_parser import OptionParser
from trainer.options import check_number
from trainer.saved_run import BEST, LATEST, check_checkpoint

MAX_IMAGE_PIXELS = ImageLimits().max_pixels


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExportOptions:
    """What is exported, and where to.

    Attributes:
        run: the directory of a run; local or gs://.
        output: the directory of a version, which ends in its number; local or gs://.
        checkpoint: `best`, `latest` or a step.
        dataset: where the data set of the run lies now; empty for where it lay.
        max_image_pixels: width times height of the largest picture that the model decodes.
        skip_existing: do nothing where the version is there and was made of the same checkpoint.
        verbose: log more, and show errors whole.
    """

    run: str
    output: str
    checkpoint: str = BEST
    dataset: str = ""
    max_image_pixels: int = MAX_IMAGE_PIXELS
    skip_existing: bool = False
    verbose: bool = False

    def __post_init__(self) -> None:
        if not self.run:
            raise OptionError("--run is empty: name the directory of a run")
        if not self.output:
            raise OptionError("--output is empty: name a version, such as MODEL/1")
        check_number("max_image_pixels", self.max_image_pixels, at_least=1)
        check_checkpoint(self.checkpoint)


def parse_arguments(arguments: Sequence[str]) -> ExportOptions:
    """Returns the options; raises OptionError for those that are unknown, missing or out of range."""
    return ExportOptions(**make_parser().parse_options(arguments))


def make_parser() -> OptionParser:
    """Returns the parser of `python -m trainer.export`; options that are not given are not among what it parses."""
    parser = OptionParser(
        prog="python -m trainer.export",
        description="Makes one SavedModel of a checkpoint of a run, from the bytes of pictures to labels and scores, "
        "as TensorFlow Serving, the batch pipeline and the classify command read it.",
        allow_abbrev=False,
        argument_default=argparse.SUPPRESS,
    )
    defaults = ExportOptions
    parser.add_argument("--run", required=True, help="the directory that trainer.task left, or is at work in")
    parser.add_argument(
        "--output", required=True, metavar="MODEL/VERSION", help="a new numbered directory; local or gs://"
    )
    parser.add_argument(
        "--checkpoint", metavar=f"{BEST}|{LATEST}|STEP", help=f"of the run (default: {defaults.checkpoint})"
    )
    parser.add_argument(
        "--dataset", metavar="DIR", help="where the data set of the run lies now (default: where it lay)"
    )
    parser.add_argument(
        "--max_image_pixels",
        type=int,
        metavar="N",
        help="width times height of the largest picture that the model decodes; others get no label "
        f"(default: {defaults.max_image_pixels:,})",
    )
    parser.add_argument(
        "--skip_existing",
        action="store_true",
        help="do nothing where the version is there and was made of the same checkpoint of the same run",
    )
    parser.add_argument("--verbose", action="store_true", help="log more, and show errors whole")
    return parser
