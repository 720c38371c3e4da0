"""Holds runs side by side, finished or not: `python -m trainer.compare --help`. Imports no TensorFlow."""

import dataclasses
import os
import sys
from collections.abc import Sequence

from beam_pipelines import files
from beam_pipelines.commands import run_command
from beam_pipelines.errors import OptionError
from beam_pipelines.option_parser import OptionParser
from trainer.comparison.runs import read_runs
from trainer.comparison.side_by_side import side_by_side
from trainer.comparison.table import text_table


@dataclasses.dataclass(frozen=True, kw_only=True)
class CompareOptions:
    """What is compared, and how it is shown.

    Attributes:
        runs: directories of runs, and directories that hold runs.
        output: the page to write; empty for none.
        labels: other names for runs, by the names that they have without.
        verbose: show errors whole.
    """

    runs: tuple[str, ...]
    output: str = ""
    labels: tuple[tuple[str, str], ...] = ()
    verbose: bool = False

    def __post_init__(self) -> None:
        if self.output and not self.output.endswith((".html", ".htm")):
            raise OptionError(f"--output {self.output} is to be a page: give a name that ends in .html")
        if self.output and not files.is_remote(self.output) and os.path.isdir(self.output):
            raise OptionError(f"--output {self.output} is a directory: give the name of a file")


def main(arguments: Sequence[str]) -> int:
    """Runs the command.

    Returns:
        its exit code: 0 done, 1 failed, 2 wrong options.
    """
    return run_command(lambda: _compare(arguments), verbose="--verbose" in arguments)


def parse_arguments(arguments: Sequence[str]) -> CompareOptions:
    """Returns the options; raises OptionError for those that are unknown, missing or wrong."""
    given = make_parser().parse_options(arguments)
    return CompareOptions(
        runs=tuple(given["runs"]),
        output=given["output"],
        labels=tuple(_label(text) for text in given["labels"]),
        verbose=given["verbose"],
    )


def make_parser() -> OptionParser:
    """Returns the parser of `python -m trainer.compare`."""
    parser = OptionParser(
        prog="python -m trainer.compare",
        description="Holds runs of trainer.task side by side: their figures of validation, how fast they were, and the "
        "options that differ. Runs may be finished, stopped or still at work.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "runs", nargs="+", metavar="RUN", help="the --output of a run, or a directory of such; local or gs://"
    )
    parser.add_argument(
        "--output", default="", metavar="PAGE.html", help="also write a page, with curves; local or gs://"
    )
    parser.add_argument(
        "--labels",
        action="append",
        default=[],
        metavar="NAME=TEXT",
        help="call the run that goes by NAME something else; may be repeated",
    )
    parser.add_argument("--verbose", action="store_true", help="show errors whole")
    return parser


def _label(text: str) -> tuple[str, str]:
    name, equals, label = text.partition("=")
    if not (name and equals and label.strip()):
        raise OptionError(f"--labels {text} is not NAME=TEXT: give the name of a run, and what to call it")
    return name, label.strip()


def _compare(arguments: Sequence[str]) -> int:
    options = parse_arguments(arguments)
    seen = side_by_side(read_runs(options.runs, labels=dict(options.labels)))
    told = text_table(seen)
    if options.output:
        from trainer.comparison.page import render_comparison

        files.write_bytes(options.output, render_comparison(seen, output=options.output).encode())
        told = f"{told}\n\n{options.output} shows the curves"
    print(told)  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
