"""The options of evaluation, checked before any work. Imports no TensorFlow."""

import argparse
import dataclasses
from collections.abc import Sequence

from beam_pipelines import files
from beam_pipelines.dataset import SPLITS, TRAIN, VALIDATION
from beam_pipelines.errors import OptionError
from beam_pipelines.option_parser import OptionParser, comma_separated
from trainer.data_files import FOREIGN_OPTIONS
from trainer.options import DEVICES, check_choice, check_number
from trainer.saved_run import BEST, LATEST, check_checkpoint

# What an evaluation is called, by the split that it looks at.
NAMES = {VALIDATION: "evaluation", TRAIN: "evaluation_train"}

# Of what it leaves: the figures, written last, and the page.
EVALUATION_FILE = "evaluation.json"
PAGE_FILE = "evaluation.html"


@dataclasses.dataclass(frozen=True, kw_only=True)
class EvaluateOptions:
    """What is evaluated, on what, and where to.

    Attributes:
        run: the directory of a run; local or gs://.
        dataset: the directory of a data set; empty for what the run was trained on.
        train_data_paths: instead, foreign TFRecords for the split `train`.
        eval_data_paths: instead, foreign TFRecords for the split `validation`.
        labels_file: their labels, one a line; empty for those of the run.
        checkpoint: `best`, `latest` or a step.
        split: `train` or `validation`.
        batch_size: examples at a time; 0 for that of training.
        output: the directory of the evaluation; by default in the run's own.
        pictures: the data set that has the pictures of the examples; empty to find it.
        mistakes: how many of the most confident ones are kept.
        device: `auto`, `cpu` or `gpu`.
        skip_existing: do nothing where there is an evaluation of the same checkpoint on the same examples.
        verbose: log more, and show errors whole.
    """

    run: str
    dataset: str = ""
    train_data_paths: tuple[str, ...] = ()
    eval_data_paths: tuple[str, ...] = ()
    labels_file: str = ""
    checkpoint: str = BEST
    split: str = VALIDATION
    batch_size: int = 0
    output: str = ""
    pictures: str = ""
    mistakes: int = 24
    device: str = "auto"
    skip_existing: bool = False
    verbose: bool = False

    def __post_init__(self) -> None:
        if not self.run:
            raise OptionError("--run is empty: name the directory of a run")
        check_choice("split", self.split, SPLITS)
        check_choice("device", self.device, DEVICES)
        check_number("mistakes", self.mistakes, at_least=0)
        check_number("batch_size", self.batch_size, at_least=0)
        check_checkpoint(self.checkpoint)
        self._check_data()
        if not self.output:
            object.__setattr__(self, "output", files.join(self.run, self.name))

    @property
    def name(self) -> str:
        """What this evaluation is called, in the run's directory and for TensorBoard."""
        return NAMES[self.split]

    @property
    def data_paths(self) -> tuple[str, ...]:
        """The foreign TFRecords of the split, where they are given."""
        return self.train_data_paths if self.split == TRAIN else self.eval_data_paths

    def _check_data(self) -> None:
        other_split = next(split for split in SPLITS if split != self.split)
        other, own = FOREIGN_OPTIONS[other_split], FOREIGN_OPTIONS[self.split]
        if getattr(self, other):
            raise OptionError(f"--{other} is of --split {other_split}, and --split is {self.split}: give --{own}")
        if self.dataset and (self.data_paths or self.labels_file):
            given = own if self.data_paths else "labels_file"
            raise OptionError(f"--dataset {self.dataset} has all that --{given} gives: give one of the two")
        if self.labels_file and not self.data_paths:
            raise OptionError(f"--labels_file {self.labels_file} is of --{own}: give that too")


def parse_arguments(arguments: Sequence[str]) -> EvaluateOptions:
    """Returns the options; raises OptionError for those that are unknown, missing or out of range."""
    given = make_parser().parse_options(arguments)
    for name in FOREIGN_OPTIONS.values():
        if name in given:
            given[name] = tuple(path for paths in given[name] for path in paths)
    return EvaluateOptions(**given)


def make_parser() -> OptionParser:
    """Returns the parser of `python -m trainer.evaluate`; options that are not given are not among what it parses."""
    parser = OptionParser(
        prog="python -m trainer.evaluate",
        description="Says how good a checkpoint of a run is: figures exact to the example, for each class, the "
        "confusion matrix, the calibration and the most confident mistakes, as files, as a page and for TensorBoard.",
        allow_abbrev=False,
        argument_default=argparse.SUPPRESS,
    )
    defaults = EvaluateOptions
    parser.add_argument("--run", required=True, help="the directory that trainer.task left, or is at work in")
    parser.add_argument(
        "--dataset", help="a data set of ingest or embed, such as a test set (default: what the run was trained on)"
    )
    parser.add_argument("--split", help=f"{' or '.join(SPLITS)} (default: {defaults.split})")
    for split, name in FOREIGN_OPTIONS.items():
        parser.add_argument(
            f"--{name}",
            action="append",
            type=comma_separated,
            metavar="PATHS",
            help=f"instead of --dataset, with --split {split}: TFRecords of other programs",
        )
    parser.add_argument("--labels_file", metavar="FILE", help="the labels of such TFRecords (default: the run's)")
    parser.add_argument(
        "--checkpoint", metavar=f"{BEST}|{LATEST}|STEP", help=f"of the run (default: {defaults.checkpoint})"
    )
    parser.add_argument(
        "--batch_size", type=int, metavar="N", help="examples at a time; the figures are the same (default: the run's)"
    )
    parser.add_argument(
        "--output", metavar="DIR", help=f"local or gs:// (default: RUN/{NAMES[VALIDATION]}, or RUN/{NAMES[TRAIN]})"
    )
    parser.add_argument(
        "--pictures",
        metavar="DIR",
        help="the data set of pictures that embeddings were made from (default: where they say that it was)",
    )
    parser.add_argument(
        "--mistakes",
        type=int,
        metavar="N",
        help=f"how many to show, the most confident first (default: {defaults.mistakes})",
    )
    parser.add_argument("--device", help=f"{', '.join(DEVICES)}: auto takes a GPU if there is one (default: auto)")
    parser.add_argument(
        "--skip_existing",
        action="store_true",
        help="do nothing where an evaluation of the same checkpoint on the same examples lies in --output",
    )
    parser.add_argument("--verbose", action="store_true", help="log more, and show errors whole")
    return parser
