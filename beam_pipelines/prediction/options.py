"""The options of batch_predict: parsed once, checked before any work, told apart by whether they change what comes out.

Imports neither Beam nor TensorFlow, so that the command can say what is wrong with its options at once.
"""

import argparse
import dataclasses
import hashlib
import json
from collections.abc import Sequence
from typing import Any

from beam_pipelines import files
from beam_pipelines.command_options import (
    MAX_REJECT_FRACTION,
    Group,
    add_reject_fraction,
    check_reject_fraction,
    make_command_parser,
    taken,
    with_one_local_worker,
)
from beam_pipelines.errors import OptionError
from beam_pipelines.row_options import Reading, SourcedRows, add_reading_arguments, add_row_arguments, fetch_limits
from serving.model import find_model

JSONL, CSV = "jsonl", "csv"
OUTPUT_FORMATS = (JSONL, CSV)

# Grows when the same options would give other files.
FORMAT_VERSION = 1


@dataclasses.dataclass(frozen=True, kw_only=True)
class PredictionOptions(SourcedRows):
    """What is predicted: another value of any of these makes other predictions.

    Attributes:
        attribute: as of every source; empty takes its column `label` where it has one.
        model: the directory of a model, or of its versions, local or gs://.
        output_format: one of `OUTPUT_FORMATS`.
        all_scores: whether the scores of every class are written.
        num_shards: files of predictions; 0 for about 500 rows each.
        max_image_pixels: pictures of more are rejected.
        max_image_bytes: pictures of more are rejected.
    """

    attribute: str = ""
    model: str
    output_format: str = JSONL
    all_scores: bool = False
    num_shards: int = 0
    max_image_pixels: int = 100_000_000
    max_image_bytes: int = 32 << 20

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.output_format not in OUTPUT_FORMATS:
            formats = ", ".join(OUTPUT_FORMATS)
            raise OptionError(f"unknown --output_format {self.output_format!r}: choose one of {formats}")
        if not 0 <= self.num_shards <= 99_999:
            raise OptionError(f"--num_shards {self.num_shards} is not between 0 and 99999")
        for name in ("max_image_pixels", "max_image_bytes"):
            if getattr(self, name) < 1:
                raise OptionError(f"--{name} {getattr(self, name)} is not positive")
        if self.labels_file and self.source != "idx":
            raise OptionError("--labels_file names the labels of idx files, classes are the model's own: leave it out")
        if not files.is_remote(self.model):
            find_model(self.model)

    def fingerprint(self, *, model: str) -> str:
        """Returns a short hash that tells predictions of other options, or of another model, apart.

        Args:
            model: the fingerprint of the model.
        """
        value = {"format": FORMAT_VERSION, **self.to_json(), "model": model}
        return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]

    def to_json(self) -> dict[str, Any]:
        """Returns the options by name, as JSON values."""
        return {**dataclasses.asdict(self), "filter": list(self.filter)}

    def worker_paths(self) -> dict[str, str]:
        """Returns the paths that workers read, by the names of their options."""
        return {**super().worker_paths(), "model": self.model}


@dataclasses.dataclass(frozen=True, kw_only=True)
class PredictRunOptions(Reading):
    """How one run goes about it; what is predicted does not depend on these.

    Attributes:
        output: the directory of the predictions.
        batch_size: the most pictures that the model sees at a time.
        fetch_threads: pictures that are fetched at a time in each process.
        bigquery_table: `PROJECT.DATASET.TABLE` that the predictions are loaded into in the end; empty for none.
        plan_only: stop before the first fetch.
        retry_rejected: try again what failed for passing reasons.
        no_wait: leave the job to itself when it is submitted.
        max_reject_fraction: the run fails if more of the pictures are rejected.
    """

    output: str
    batch_size: int = 32
    fetch_threads: int = 16
    bigquery_table: str = ""
    plan_only: bool = False
    retry_rejected: bool = False
    no_wait: bool = False
    max_reject_fraction: float = MAX_REJECT_FRACTION

    def __post_init__(self) -> None:
        super().__post_init__()
        check_reject_fraction(self.max_reject_fraction)
        for name in ("batch_size", "fetch_threads"):
            if getattr(self, name) < 1:
                raise OptionError(f"--{name} {getattr(self, name)} is not positive")


def parse_arguments(arguments: Sequence[str]) -> tuple[PredictionOptions, PredictRunOptions, list[str]]:
    """Returns the options, and those arguments that are Beam's; raises OptionError for values that are wrong."""
    parsed, beam_arguments = make_parser().parse_known_args(list(arguments))
    values = vars(parsed)
    options = PredictionOptions(**taken(values, PredictionOptions))
    fetch = fetch_limits(values, max_bytes=options.max_image_bytes)
    run = PredictRunOptions(fetch=fetch, **taken(values, PredictRunOptions))
    if run.bigquery_table and options.output_format != JSONL:
        raise OptionError(f"--bigquery_table loads JSON lines: leave out --output_format {options.output_format}")
    return options, run, with_one_local_worker(beam_arguments)


def make_parser() -> argparse.ArgumentParser:
    """Returns the parser of `python -m beam_pipelines.batch_predict`."""
    parser = make_command_parser(
        "beam_pipelines.batch_predict",
        "Says what every picture of a list, a catalogue or a folder shows, by a model that trainer.export has made. "
        "Each row of the input ends in the predictions or in rejected.jsonl. A run that was stopped goes on where it "
        "was when the same command is given again.",
        of_beam="--runner and --direct_num_workers",
    )
    _add_prediction_options(parser.add_argument_group("prediction"))
    add_row_arguments(
        parser.add_argument_group("source"),
        attribute_default="",
        attribute_help="whose values are the labels that predictions are held against (default: the column label, "
        "where there is one)",
    )
    add_reading_arguments(parser.add_argument_group("reading and fetching"))
    _add_run_options(parser.add_argument_group("run"))
    return parser


def _add_prediction_options(group: Group) -> None:
    group.add_argument(
        "--model", required=True, metavar="DIR", help="of a model or of one of its versions; local or gs://"
    )
    group.add_argument("--output", required=True, help="the directory of the predictions; local or gs://")
    group.add_argument(
        "--output_format",
        default=JSONL,
        metavar="|".join(OUTPUT_FORMATS),
        help="of its files: key, prediction, label and score of each picture, and its labels where the input has any "
        "(default: %(default)s)",
    )
    group.add_argument("--all_scores", action="store_true", help="also the scores of all classes, in their order")
    group.add_argument(
        "--num_shards", type=int, default=0, metavar="N", help="files (default: about 500 pictures each)"
    )
    group.add_argument(
        "--max_image_pixels",
        type=int,
        default=100_000_000,
        help="larger pictures are rejected (default: %(default)s, or what the model takes if that is less)",
    )
    group.add_argument(
        "--max_image_bytes", type=int, default=32 << 20, help="larger files are rejected (default: %(default)s)"
    )


def _add_run_options(group: Group) -> None:
    group.add_argument(
        "--bigquery_table",
        default="",
        metavar="PROJECT.DATASET.TABLE",
        help="also load the predictions into this table, in place of what it has, by one job that --project pays for",
    )
    group.add_argument("--plan_only", action="store_true", help="stop before the first fetch and say what it would be")
    group.add_argument(
        "--batch_size",
        type=int,
        default=32,
        help="the most pictures that the model sees at a time (default: %(default)s)",
    )
    group.add_argument(
        "--fetch_threads",
        type=int,
        default=16,
        help="pictures fetched at a time in each process (default: %(default)s)",
    )
    group.add_argument(
        "--retry_rejected", action="store_true", help="try again what failed for passing reasons in earlier runs"
    )
    group.add_argument(
        "--no_wait", action="store_true", help="DataflowRunner: end when the job that predicts is submitted"
    )
    add_reject_fraction(group)
