"""The options of the labels command: parsed once, checked before any work.

Imports neither Beam nor TensorFlow, so that the command can say what is wrong with its options at once.
"""

import argparse
import dataclasses
import os
from collections.abc import Sequence

from beam_pipelines.command_options import Group, make_command_parser, taken
from beam_pipelines.errors import OptionError
from beam_pipelines.fetch.fetcher import FetchLimits
from beam_pipelines.row_options import Reading, SourcedRows, add_reading_arguments, add_row_arguments, fetch_limits


@dataclasses.dataclass(frozen=True, kw_only=True)
class LabelsOptions(SourcedRows):
    """What is counted, and where it is written.

    Attributes:
        output: the CSV of counts, or of attributes; empty for none.
        chart: the PNG of counts; empty for the output's name with another ending.
        no_chart: draw none.
        list_attributes: tell what every attribute offers, instead of counting the values of one.
        works_output: the CSV of works; empty for none.
        min_images_per_label: where the chart and the summary draw the line; everything is counted.
    """

    output: str = ""
    chart: str = ""
    no_chart: bool = False
    list_attributes: bool = False
    works_output: str = ""
    min_images_per_label: int = 10

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.min_images_per_label < 1:
            raise OptionError(f"--min_images_per_label {self.min_images_per_label} is not positive")
        if not (self.output or self.list_attributes or self.works_output):
            raise OptionError("nothing to do: give --output COUNTS.csv, --list_attributes or --works_output WORKS.csv")
        if self.chart and self.no_chart:
            raise OptionError(f"--chart {self.chart} and --no_chart: give one")
        if self.chart and (self.list_attributes or not self.output):
            raise OptionError(f"--chart {self.chart} shows counts: give --output COUNTS.csv too, not --list_attributes")
        if self.list_attributes and self.works_output:
            raise OptionError(f"--list_attributes and --works_output {self.works_output}: give one")
        outputs = self.outputs()
        for path in outputs:
            if outputs.count(path) > 1:
                raise OptionError(f"{path} is to be two files at once: name another")

    def counts_values(self) -> bool:
        """Tells whether the values of an attribute are counted."""
        return bool(self.output) and not self.list_attributes

    def chart_path(self) -> str:
        """Returns where the chart goes; empty if there is to be none."""
        if self.no_chart or not self.counts_values():
            return ""
        return self.chart or f"{os.path.splitext(self.output)[0]}.png"

    def outputs(self) -> list[str]:
        """Returns every file that is to be written."""
        return [path for path in (self.output, self.chart_path(), self.works_output) if path]


def parse_arguments(arguments: Sequence[str]) -> tuple[LabelsOptions, Reading, list[str]]:
    """Returns the options, and those arguments that are Beam's; raises OptionError for values out of range."""
    parsed, beam_arguments = make_parser().parse_known_args(list(arguments))
    values = vars(parsed)
    options = LabelsOptions(**taken(values, LabelsOptions))
    fetch = fetch_limits(values, max_bytes=FetchLimits().max_bytes)
    return options, Reading(fetch=fetch, **taken(values, Reading)), beam_arguments


def make_parser() -> argparse.ArgumentParser:
    """Returns the parser of `python -m beam_pipelines.labels`."""
    parser = make_command_parser(
        "beam_pipelines.labels",
        "Counts the pictures of each value of an attribute, tells which attributes there are, or lists the "
        "works, from metadata alone: what to know before classes are chosen.",
        of_beam="--runner",
    )
    add_row_arguments(parser.add_argument_group("source"))
    _add_output_options(parser.add_argument_group("output; local or gs://"))
    add_reading_arguments(parser.add_argument_group("reading"))
    return parser


def _add_output_options(group: Group) -> None:
    group.add_argument(
        "--output",
        default="",
        metavar="COUNTS.csv",
        help="value,count of the distinct pictures of each value, the commonest first; with --list_attributes: its "
        "table",
    )
    group.add_argument(
        "--chart", default="", metavar="CHART.png", help="the same to look at (default: as --output, with .png)"
    )
    group.add_argument("--no_chart", action="store_true", help="draw no chart")
    group.add_argument(
        "--min_images_per_label",
        type=int,
        default=10,
        help="where chart and summary draw the line, as ingest would; all are counted (default: %(default)s)",
    )
    group.add_argument(
        "--list_attributes",
        action="store_true",
        help="tell of every attribute how many pictures have it, how many values it has, and how many of those have "
        "ten pictures or more",
    )
    group.add_argument(
        "--works_output",
        default="",
        metavar="WORKS.csv",
        help="one line a picture, to edit and to give to ingest as --source manifest --input WORKS.csv",
    )
