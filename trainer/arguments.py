"""The arguments of training: what `python -m trainer.task` is told, as the options of `trainer.options`.

Imports neither Keras nor TensorFlow, so that a command can say what is wrong with its options at once.
"""

import argparse
import dataclasses
from collections.abc import Sequence

from beam_pipelines.option_parser import OptionParser, comma_separated
from trainer.options import (
    AUGMENTATIONS,
    BACKBONE_DEFAULTS,
    CLASS_WEIGHTS,
    DEVICES,
    DTYPE_POLICIES,
    HEAD,
    HEAD_DEFAULTS,
    MOMENTUM,
    MONITORS,
    OPTIMIZERS,
    SMALL_CNN,
    SMALL_CNN_DEFAULTS,
    STRATEGIES,
    WEIGHT_DECAYS,
    RunOptions,
    TrainingOptions,
    model_defaults,
    resolve,
)

_Group = argparse._ArgumentGroup


def parse_arguments(arguments: Sequence[str]) -> tuple[TrainingOptions, RunOptions]:
    """Returns the options; raises OptionError for those that are unknown, missing or out of range."""
    given = make_parser().parse_options(arguments)
    if "hidden_units" in given:
        given["hidden_units"] = _hidden_units(given["hidden_units"])
    for name in ("train_data_paths", "eval_data_paths"):
        if name in given:
            given[name] = tuple(path for paths in given[name] for path in paths)
    options = resolve(given)
    steps = {"steps_per_execution": model_defaults(options.model).steps_per_execution}
    of_run = {field.name for field in dataclasses.fields(RunOptions)}
    return options, RunOptions(**{**steps, **{name: given[name] for name in given if name in of_run}})


def make_parser() -> OptionParser:
    """Returns the parser of `python -m trainer.task`; options that are not given are not among what it parses."""
    parser = OptionParser(
        prog="python -m trainer.task",
        description="Trains an image classifier on TFRecords of pictures or of embeddings: on one device, on all "
        "devices of a machine, or on many machines. A run that was stopped goes on where it was when the same command "
        "is given again.",
        epilog="Defaults that differ are of small_cnn, of head and of backbones, in this order.",
        allow_abbrev=False,
        argument_default=argparse.SUPPRESS,
    )
    _add_data_options(parser.add_argument_group("data"))
    _add_model_options(parser.add_argument_group("model"))
    _add_training_options(parser.add_argument_group("training"))
    _add_run_options(parser.add_argument_group("run"))
    return parser


def _hidden_units(lists: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
    units = tuple(number for numbers in lists for number in numbers)
    return () if units == (0,) else units


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(number) for number in text.split(","))


def _epoch_or_never(text: str) -> int | None:
    return None if text == "never" else int(text)


# The names by which the parser speaks of them.
_numbers.__name__, _epoch_or_never.__name__ = "whole numbers", "whole number"


def _by_model(name: str) -> str:
    """Returns the default of an option, or those of small_cnn, head and backbones where they differ."""
    values = [getattr(defaults, name) for defaults in (SMALL_CNN_DEFAULTS, HEAD_DEFAULTS, BACKBONE_DEFAULTS)]
    texts = [",".join(map(str, value)) or "none" if isinstance(value, tuple) else f"{value}" for value in values]
    return f"(default: {texts[0] if len(set(texts)) == 1 else ', '.join(texts)})"


def _add_data_options(group: _Group) -> None:
    group.add_argument("--dataset", help="the directory that ingest or embed left; local or gs://")
    group.add_argument(
        "--train_data_paths",
        action="append",
        type=comma_separated,
        metavar="PATHS",
        help="instead: TFRecords of other programs, plain or .gz; paths and patterns, with commas between them or the "
        "option repeated",
    )
    group.add_argument(
        "--eval_data_paths", action="append", type=comma_separated, metavar="PATHS", help="the same, to validate on"
    )
    group.add_argument(
        "--labels_file",
        metavar="FILE",
        help="the labels of such TFRecords, one a line, in the order of their ids from 0",
    )


def _add_model_options(group: _Group) -> None:
    group.add_argument(
        "--model",
        help=f"{SMALL_CNN}, {HEAD} (for embeddings) or a backbone of Keras Applications, such as inception_v3 "
        f"(default: {SMALL_CNN})",
    )
    group.add_argument(
        "--weights",
        help="of a backbone: imagenet, none (random ones) or the path of a .weights.h5, local or gs:// "
        "(default: imagenet)",
    )
    group.add_argument(
        "--image_size",
        type=int,
        metavar="PIXELS",
        help=f"side of the square that the model sees (default: {SMALL_CNN} {SMALL_CNN_DEFAULTS.image_size}, a "
        "backbone its own)",
    )
    group.add_argument(
        "--unfreeze_at",
        type=_epoch_or_never,
        metavar="EPOCH",
        help="epochs that train the head alone; then the backbone trains too (default: never; 0 with --weights none)",
    )
    group.add_argument(
        "--unfreeze_layers",
        type=int,
        metavar="N",
        help="train only so many of the backbone's last layers, 0 for all (default: 0)",
    )
    group.add_argument(
        "--hidden_units",
        action="append",
        type=_numbers,
        metavar="N[,N]",
        help=f"units of each hidden layer before the classes, 0 for no such layer {_by_model('hidden_units')}",
    )
    group.add_argument(
        "--dropout",
        type=float,
        metavar="RATE",
        help=f"part dropped after each hidden layer, or where there is none, of the vector {_by_model('dropout')}",
    )
    group.add_argument(
        "--dtype_policy",
        help=f"what Keras computes in: {', '.join(DTYPE_POLICIES)} (default: {TrainingOptions.dtype_policy})",
    )


def _add_training_options(group: _Group) -> None:
    group.add_argument(
        "--epochs", type=int, metavar="N", help=f"times through the training examples {_by_model('epochs')}"
    )
    group.add_argument("--steps", type=int, metavar="N", help="instead of --epochs: updates of the weights")
    group.add_argument("--examples", type=int, metavar="N", help="instead of --epochs: examples trained on")
    group.add_argument(
        "--batch_size",
        type=int,
        metavar="N",
        help=f"examples of a step, on all devices together {_by_model('batch_size')}",
    )
    rates = ", ".join(
        f"{defaults.learning_rates['sgd']:g}" for defaults in (SMALL_CNN_DEFAULTS, HEAD_DEFAULTS, BACKBONE_DEFAULTS)
    )
    group.add_argument(
        "--learning_rate",
        type=float,
        metavar="RATE",
        help="the highest; it rises from 0 and falls to 0 as a cosine (default: "
        f"{SMALL_CNN_DEFAULTS.learning_rates['adamw']:g}, with --optimizer sgd {rates})",
    )
    group.add_argument(
        "--warmup_epochs",
        type=float,
        metavar="EPOCHS",
        help=f"over which the learning rate rises, at most half of the run {_by_model('warmup_epochs')}",
    )
    group.add_argument(
        "--fine_tune_learning_rate",
        type=float,
        metavar="RATE",
        help="the highest from --unfreeze_at on (default: a tenth of --learning_rate; the same with --weights none)",
    )
    group.add_argument("--optimizer", help=f"{' or '.join(OPTIMIZERS)} {_by_model('optimizer')}")
    group.add_argument("--momentum", type=float, help=f"Nesterov's, of --optimizer sgd (default: {MOMENTUM})")
    group.add_argument(
        "--weight_decay",
        type=float,
        metavar="RATE",
        help=f"decoupled, times the learning rate (default: {WEIGHT_DECAYS['adamw']}, with --optimizer sgd "
        f"{WEIGHT_DECAYS['sgd']})",
    )
    group.add_argument(
        "--global_clipnorm",
        type=float,
        metavar="NORM",
        help="longest that all gradients together may be (default: no bound)",
    )
    group.add_argument(
        "--label_smoothing", type=float, metavar="PART", help="of the target, spread over all classes (default: 0)"
    )
    group.add_argument(
        "--class_weight", help=f"{' or '.join(CLASS_WEIGHTS)}: balanced lets all classes count alike (default: none)"
    )
    group.add_argument("--augmentation", help=f"of pictures: {', '.join(AUGMENTATIONS)} {_by_model('augmentation')}")
    group.add_argument(
        "--shuffle_buffer",
        type=int,
        metavar="N",
        help=f"examples among which the next one is drawn {_by_model('shuffle_buffer')}",
    )
    group.add_argument("--seed", type=int, help="of weights, order, augmentation and dropout (default: 0)")
    group.add_argument(
        "--monitor",
        help=f"metric of validation that chooses the best checkpoint: {', '.join(MONITORS)} "
        f"(default: {TrainingOptions.monitor})",
    )
    group.add_argument(
        "--early_stopping_patience",
        type=int,
        metavar="EPOCHS",
        help="end after so many epochs without a better --monitor, 0 for never (default: 0)",
    )


def _add_run_options(group: _Group) -> None:
    group.add_argument(
        "--output", required=True, help="the run's directory: checkpoints, metrics, configuration; local or gs://"
    )
    group.add_argument(
        "--strategy",
        help=f"{', '.join(STRATEGIES)}: auto takes the machines that TF_CONFIG or a Kubernetes Job name, else all "
        "GPUs of this one (default: auto)",
    )
    group.add_argument("--device", help=f"{', '.join(DEVICES)}: auto takes GPUs if there are any (default: auto)")
    group.add_argument(
        "--checkpoint_every_steps",
        type=int,
        metavar="N",
        help="save also after so many steps, 0 for only by time and at the ends of epochs (default: 0)",
    )
    group.add_argument(
        "--checkpoint_every_minutes",
        type=float,
        metavar="MINUTES",
        help="save also when so many have passed, 0 for never by time "
        f"(default: {RunOptions.checkpoint_every_minutes:g})",
    )
    group.add_argument(
        "--keep_checkpoints",
        type=int,
        metavar="N",
        help=f"of the newest, besides the best (default: {RunOptions.keep_checkpoints})",
    )
    group.add_argument(
        "--log_every_steps",
        type=int,
        metavar="N",
        help=f"steps between two lines of metrics.jsonl (default: {RunOptions.log_every_steps})",
    )
    group.add_argument(
        "--steps_per_execution",
        type=int,
        metavar="N",
        help=f"steps between two returns from TensorFlow to Python {_by_model('steps_per_execution')}",
    )
    group.add_argument(
        "--cluster_timeout",
        type=float,
        metavar="SECONDS",
        help=f"to wait for the other machines at the start (default: {RunOptions.cluster_timeout:g})",
    )
    group.add_argument(
        "--deterministic", action="store_true", help="the same bits each time on GPUs too, which is slower there"
    )
    group.add_argument("--verbose", action="store_true", help="log more, and show errors whole")
