"""The options of embed: parsed once, checked before any work, and told apart by whether they change the data set.

Imports neither Beam nor TensorFlow, so that the command can say what is wrong with its options at once.
"""

import argparse
import dataclasses
import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from typing import Any

from beam_pipelines.command_options import (
    MAX_REJECT_FRACTION,
    Group,
    add_reject_fraction,
    add_shared_filesystem,
    add_verbose,
    check_reject_fraction,
    make_command_parser,
    taken,
    with_one_local_worker,
)
from beam_pipelines.errors import OptionError
from beam_pipelines.options import FORMAT_VERSION
from trainer.models import IMAGENET, NO_WEIGHTS, check_backbone

Z_SCORE = "z_score"
NORMALIZE = (Z_SCORE, "none")


@dataclasses.dataclass(frozen=True, kw_only=True)
class EmbeddingOptions:
    """What the embeddings are: another value of any of these makes another data set.

    Attributes:
        dataset: the directory of the pictures' data set.
        backbone: a name in `trainer.models.BACKBONES`.
        weights: `imagenet`, `none`, or the path of a weights file.
        normalize: what the transform graph does with each element of the vector.
    """

    dataset: str
    backbone: str
    weights: str = IMAGENET
    normalize: str = Z_SCORE

    def __post_init__(self) -> None:
        check_backbone(self.backbone)
        if self.normalize not in NORMALIZE:
            raise OptionError(f"--normalize {self.normalize!r} is none of {', '.join(NORMALIZE)}")
        path = self.weights_path()
        if not self.weights:
            raise OptionError(f"--weights is empty: give {IMAGENET}, {NO_WEIGHTS} or the path of a weights file")
        if path and "://" not in path and not os.path.isfile(path):
            raise OptionError(
                f"--weights {path} is not there: give {IMAGENET}, {NO_WEIGHTS} or the path of a weights file"
            )

    def weights_path(self) -> str:
        """Returns the path of the weights; empty if they have none."""
        return "" if self.weights in (IMAGENET, NO_WEIGHTS) else self.weights

    def fingerprint(self, *, weights_sha256: str, source: Mapping[str, Any]) -> str:
        """Returns a short hash that tells data sets of embeddings apart.

        Args:
            weights_sha256: of the backbone, as `trainer.models` has it.
            source: `dataset_info.json` of the pictures' data set.
        """
        value = {
            "format": FORMAT_VERSION,
            "backbone": self.backbone,
            "weights_sha256": weights_sha256,
            "normalize": self.normalize,
            "dataset": source["fingerprint"],
            "shards": [
                [shard["name"], shard["sha256"]] for split in source["splits"].values() for shard in split["shards"]
            ],
        }
        return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]

    def to_json(self) -> dict[str, str]:
        """Returns the options by name."""
        return dataclasses.asdict(self)


@dataclasses.dataclass(frozen=True, kw_only=True)
class EmbedRunOptions:
    """How one run goes about it; the data set does not depend on these.

    Attributes:
        output: the data set directory.
        batch_size: pictures that the backbone takes at a time.
        max_reject_fraction: the run fails if more of the pictures are rejected.
        shared_filesystem: a cluster's workers see the same files under the same paths as this machine.
        no_wait: leave the job to itself when it is submitted.
    """

    output: str
    batch_size: int = 32
    max_reject_fraction: float = MAX_REJECT_FRACTION
    shared_filesystem: bool = False
    no_wait: bool = False

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise OptionError(f"--batch_size {self.batch_size} is not positive")
        check_reject_fraction(self.max_reject_fraction)


def parse_arguments(arguments: Sequence[str]) -> tuple[EmbeddingOptions, EmbedRunOptions, list[str]]:
    """Returns the options, and those arguments that are Beam's; raises OptionError for values that are wrong."""
    parsed, beam_arguments = make_parser().parse_known_args(list(arguments))
    options = EmbeddingOptions(**taken(vars(parsed), EmbeddingOptions))
    run = EmbedRunOptions(**taken(vars(parsed), EmbedRunOptions))
    _check_apart(options.dataset, run.output)
    return options, run, with_one_local_worker(beam_arguments)


def make_parser() -> argparse.ArgumentParser:
    """Returns the parser of `python -m beam_pipelines.embed`."""
    parser = make_command_parser(
        "beam_pipelines.embed",
        "Turns a data set of pictures into one of embeddings: the vectors that a backbone gives for them. "
        "A run that was stopped goes on where it was when the same command is given again.",
        of_beam="--runner and --direct_num_workers",
    )
    _add_embedding_options(parser.add_argument_group("embeddings"))
    _add_run_options(parser.add_argument_group("run"))
    return parser


def _check_apart(dataset: str, output: str) -> None:
    inner, outer = _real(output), _real(dataset)
    if inner == outer:
        raise OptionError(f"--output {output} is the data set itself: name another directory")
    if inner.startswith(f"{outer}/"):
        raise OptionError(f"--output {output} is inside --dataset {dataset}: name a directory beside it")


def _real(path: str) -> str:
    return (path if "://" in path else os.path.realpath(path)).rstrip("/")


def _add_embedding_options(group: Group) -> None:
    group.add_argument("--dataset", required=True, help="a finished data set of pictures; local or gs://")
    group.add_argument(
        "--backbone", required=True, metavar="NAME", help="a model of Keras Applications, such as inception_v3"
    )
    group.add_argument(
        "--weights",
        default=IMAGENET,
        metavar=f"{IMAGENET}|{NO_WEIGHTS}|PATH",
        help="the backbone's: those that Keras publishes, random ones of a fixed seed, or a file, local or gs:// "
        "(default: %(default)s)",
    )
    group.add_argument(
        "--normalize",
        default=Z_SCORE,
        metavar="|".join(NORMALIZE),
        help="what the transform graph does with each element of a vector, by the training split; the shards hold the "
        "vectors as they are (default: %(default)s)",
    )


def _add_run_options(group: Group) -> None:
    group.add_argument("--output", required=True, help="the directory of the embeddings; local or gs://")
    group.add_argument(
        "--batch_size", type=int, default=32, help="pictures that the backbone takes at a time (default: %(default)s)"
    )
    add_reject_fraction(group)
    add_shared_filesystem(group)
    group.add_argument(
        "--no_wait", action="store_true", help="DataflowRunner: end when the job that embeds is submitted"
    )
    add_verbose(group)
