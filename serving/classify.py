"""Says what pictures show: `python -m serving.classify --model MODEL picture.jpg https://… gs://…`.

A table of the likeliest classes of each picture, or one JSON object a line for programs. Pictures are fetched while
TensorFlow is imported.
"""

import dataclasses
import json
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from beam_pipelines.commands import run_command
from beam_pipelines.option_parser import OptionParser
from beam_pipelines.pages import visible
from serving.model import Model, find_model, load_model, read_model_info
from serving.picture_options import PictureOptions, add_picture_arguments, check_positive, picture_options
from serving.pictures import Picture, Refusal, complain, picture_batches, reading, undecodable

_HEADER = ("KEY", "PREDICTION", "SCORE")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClassifyOptions:
    """What is classified, by which model, and how it is told.

    Attributes:
        model: the directory of a model, or of one of its versions; local or gs://.
        pictures: which ones.
        top: how many classes of each are shown, the likeliest first.
        json: whether each picture is one JSON object on a line.
        batch_size: the most pictures that the model sees at a time.
        verbose: log more, and show errors whole.
    """

    model: str
    pictures: PictureOptions
    top: int = 5
    json: bool = False
    batch_size: int = 32
    verbose: bool = False

    def __post_init__(self) -> None:
        check_positive("top", self.top)
        check_positive("batch_size", self.batch_size)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Answer:
    """What a model says of a picture.

    Attributes:
        key: the picture's address as it was given.
        class_id: the likeliest class.
        label: its name.
        scores: float32 [classes].
    """

    key: str
    class_id: int
    label: str
    scores: npt.NDArray[np.float32]

    def to_json(self) -> dict[str, Any]:
        """Returns it as JSON values; scores as short as they can be without another value."""
        scores = [float(str(score)) for score in self.scores]
        return {
            "key": self.key,
            "prediction": self.class_id,
            "label": self.label,
            "score": scores[self.class_id],
            "scores": scores,
        }

    def likeliest(self, count: int) -> list[int]:
        """Returns the ids of the likeliest classes, the first of equals first."""
        return [int(class_id) for class_id in np.argsort(-self.scores, kind="stable")[:count]]


def main(arguments: Sequence[str]) -> int:
    """Runs the command.

    Returns:
        its exit code: 0 every picture has its answer, 1 not all of them, 2 wrong options.
    """
    verbose = "--verbose" in arguments
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "0" if verbose else "3")
    return run_command(lambda: _classify(parse_arguments(arguments)), verbose=verbose)


def parse_arguments(arguments: Sequence[str]) -> ClassifyOptions:
    """Returns the options; raises OptionError for those that are unknown, missing or out of range."""
    values = make_parser().parse_options(arguments)
    own = {name: values[name] for name in ("model", "top", "json", "batch_size", "verbose")}
    return ClassifyOptions(pictures=picture_options(values), **own)


def make_parser() -> OptionParser:
    """Returns the parser of `python -m serving.classify`."""
    defaults = ClassifyOptions
    parser = OptionParser(
        prog="python -m serving.classify",
        description="Says what pictures show, by a model that trainer.export has made.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "--model", required=True, metavar="DIR", help="of a model or of one of its versions; local or gs://"
    )
    parser.add_argument(
        "--top", type=int, default=defaults.top, metavar="N", help="classes of each picture (default: %(default)s)"
    )
    parser.add_argument(
        "--json",
        action="store_true",
        help="one object a line: key, prediction, label, score and scores, in the order of the class ids; or key and "
        "error",
    )
    parser.add_argument(
        "--batch_size", type=int, default=defaults.batch_size, metavar="N", help="pictures (default: %(default)s)"
    )
    add_picture_arguments(parser)
    return parser


def answers(
    model: Model, pictures: Iterable[Picture | Refusal], *, batch_size: int
) -> Iterator[list[Answer | Refusal]]:
    """Yields what the model says of each picture, in their order, a batch at a time."""
    for batch in picture_batches(pictures, size=batch_size):
        yield _answer(model, batch)


def table_rows(answer: Answer, labels: Sequence[str], *, top: int) -> list[tuple[str, str, str]]:
    """Returns the rows of a picture: key, label and score; only the first of them has the key."""
    return [
        ("" if place else visible(answer.key), visible(labels[class_id]), f"{answer.scores[class_id]:.4f}")
        for place, class_id in enumerate(answer.likeliest(top))
    ]


def _classify(options: ClassifyOptions) -> int:
    path = find_model(options.model)
    with reading(options.pictures.within(read_model_info(path))) as pictures:
        model = load_model(path)
        batches = answers(model, pictures, batch_size=options.batch_size)
        refused = _print_json(batches) if options.json else _print_table(batches, model.labels, options)
    return 1 if refused else 0


def _answer(model: Model, batch: Sequence[Picture | Refusal]) -> list[Answer | Refusal]:
    shown = [picture for picture in batch if isinstance(picture, Picture)]
    predictions = model.predict([picture.key for picture in shown], [picture.data for picture in shown])
    said = zip(predictions.class_ids, predictions.labels, predictions.scores, strict=True)
    return [picture if isinstance(picture, Refusal) else _judge(picture, *next(said)) for picture in batch]


def _judge(picture: Picture, class_id: np.int64, label: str, scores: npt.NDArray[np.float32]) -> Answer | Refusal:
    if class_id < 0:
        return undecodable(picture)
    return Answer(key=picture.key, class_id=int(class_id), label=label, scores=scores)


def _print_json(batches: Iterable[Sequence[Answer | Refusal]]) -> int:
    """Prints an object for each picture; returns how many have no answer."""
    refused = 0
    for answer in (answer for batch in batches for answer in batch):
        if isinstance(answer, Refusal):
            refused += 1
        value = answer.to_json() if isinstance(answer, Answer) else {"key": answer.key, "error": answer.to_json()}
        print(json.dumps(value), flush=True)  # noqa: T201
    return refused


def _print_table(batches: Iterable[Sequence[Answer | Refusal]], labels: Sequence[str], options: ClassifyOptions) -> int:
    """Prints the table, as far as it is known, batch by batch; returns how many pictures have no answer."""
    keys = [visible(key) for key in options.pictures.addresses]
    widths = [max(map(len, texts)) for texts in ([_HEADER[0], *keys], [_HEADER[1], *map(visible, labels)])]
    refused = shown = 0
    for answer in (answer for batch in batches for answer in batch):
        if isinstance(answer, Refusal):
            refused += 1
            complain(answer)
            continue
        rows = table_rows(answer, labels, top=options.top)
        for key, label, score in rows if shown else [_HEADER, *rows]:
            print(f"{key:{widths[0]}}  {label:{widths[1]}}  {score:>6}", flush=True)  # noqa: T201
        shown += 1
    return refused


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
