"""The options of training: checked before any work, and told apart by whether they change the weights.

Imports neither Keras nor TensorFlow, so that a command can say what is wrong with its options at once.
"""

import dataclasses
import difflib
import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from beam_pipelines.errors import OptionError
from trainer.models import BACKBONES

# Grows when the same options would give other weights.
FORMAT_VERSION = 1

SMALL_CNN = "small_cnn"
HEAD = "head"
MODELS = (SMALL_CNN, HEAD, *BACKBONES)

STRATEGIES = ("auto", "one_device", "mirrored", "multi_worker")
DEVICES = ("auto", "cpu", "gpu")
OPTIMIZERS = ("adamw", "sgd")
CLASS_WEIGHTS = ("none", "balanced")
AUGMENTATIONS = ("none", "light", "strong")
DTYPE_POLICIES = ("float32", "mixed_float16", "mixed_bfloat16")
MONITORS = ("accuracy", "recall_at_5", "loss")
_LESS_IS_BETTER = ("loss",)

# Where the data lie, and not what they are: a run may find them elsewhere when it goes on.
PLACES = ("dataset", "train_data_paths", "eval_data_paths", "labels_file")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelDefaults:
    """What a model trains with unless the user says otherwise; see `TrainingOptions` and `RunOptions`."""

    epochs: int
    batch_size: int
    image_size: int
    hidden_units: tuple[int, ...]
    dropout: float
    augmentation: str
    shuffle_buffer: int
    steps_per_execution: int
    learning_rates: Mapping[str, float]
    optimizer: str = "adamw"
    warmup_epochs: float = 1.0


SMALL_CNN_DEFAULTS = ModelDefaults(
    epochs=12,
    batch_size=16,
    image_size=96,
    hidden_units=(),
    dropout=0.5,
    augmentation="light",
    shuffle_buffer=1_000,
    steps_per_execution=5,
    learning_rates={"adamw": 1e-3, "sgd": 0.01},
)
HEAD_DEFAULTS = ModelDefaults(
    epochs=30,
    batch_size=128,
    image_size=0,
    hidden_units=(512,),
    dropout=0.5,
    augmentation="none",
    shuffle_buffer=10_000,
    steps_per_execution=20,
    learning_rates={"adamw": 1e-3, "sgd": 0.05},
)
BACKBONE_DEFAULTS = ModelDefaults(
    epochs=10,
    batch_size=32,
    image_size=0,
    hidden_units=(),
    dropout=0.2,
    augmentation="light",
    shuffle_buffer=1_000,
    steps_per_execution=1,
    learning_rates={"adamw": 1e-3, "sgd": 0.01},
)
WEIGHT_DECAYS = {"adamw": 0.004, "sgd": 1e-4}
MOMENTUM = 0.9
_FINE_TUNE_DIVISOR = 10


def is_less_better(metric: str) -> bool:
    """Tells whether less is better of a metric."""
    return metric in _LESS_IS_BETTER


def model_defaults(model: str) -> ModelDefaults:
    """Returns the defaults of a model; raises OptionError, with the names that are near, if there is none."""
    if model in BACKBONES:
        return dataclasses.replace(BACKBONE_DEFAULTS, image_size=BACKBONES[model].input_size)
    if model == SMALL_CNN:
        return SMALL_CNN_DEFAULTS
    if model == HEAD:
        return HEAD_DEFAULTS
    near = difflib.get_close_matches(model, MODELS, n=3)
    raise OptionError(f"unknown --model {model!r}: choose one of {', '.join(near or MODELS)}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainingOptions:
    """What the run is: another value of any of these makes other weights. `resolve` fills in what is not given.

    Attributes:
        dataset: the directory of a finished data set; empty where the paths below are given instead.
        train_data_paths: files and patterns of foreign TFRecords to train on.
        eval_data_paths: the same to validate on.
        labels_file: the labels of foreign TFRecords, one a line.
        model: `small_cnn`, `head` or the name of a backbone.
        weights: where a backbone begins: `imagenet`, `none` (random) or a path; `none` for other models.
        epochs: times through the training examples; 0 where `steps` or `examples` is given.
        steps: updates of the weights; 0 where another of the three is given.
        examples: examples trained on, each as often as it comes; 0 where another of the three is given.
        batch_size: examples of a step, on all replicas together.
        learning_rate: at its highest, after the warm-up.
        warmup_epochs: over which it rises from 0; at most half of the run.
        seed: of the first weights, the order of the examples, augmentation and dropout.
        image_size: pixels of a side of the square that the model sees; 0 for `head`.
        unfreeze_at: epochs after which the backbone trains too; 0 from the beginning, None never.
        unfreeze_layers: how many of the backbone's last layers then train; 0 for all.
        fine_tune_learning_rate: at its highest, from `unfreeze_at` on.
        hidden_units: units of each hidden layer between the vector and the classes.
        dropout: part of the units dropped after each hidden layer, or where there is none, of the vector.
        optimizer: `adamw` or `sgd`.
        momentum: Nesterov's, of `sgd`; 0 for `adamw`.
        weight_decay: decoupled, as Keras has it: times the learning rate.
        global_clipnorm: the longest that all gradients together may be; 0 for no bound.
        label_smoothing: part of the target that is spread over all classes.
        class_weight: `balanced` weighs examples so that all classes count alike; `none`.
        augmentation: `none`, `light` or `strong`.
        dtype_policy: Keras' own: `float32`, `mixed_float16` or `mixed_bfloat16`.
        shuffle_buffer: examples among which the next one is drawn.
        monitor: by which metric of validation the best checkpoint is chosen: `accuracy`, `recall_at_5` or `loss`.
        early_stopping_patience: epochs without a better one after which training ends; 0 for never.
    """

    dataset: str = ""
    train_data_paths: tuple[str, ...] = ()
    eval_data_paths: tuple[str, ...] = ()
    labels_file: str = ""
    model: str
    weights: str
    epochs: int
    steps: int
    examples: int
    batch_size: int
    learning_rate: float
    warmup_epochs: float
    seed: int = 0
    image_size: int
    unfreeze_at: int | None
    unfreeze_layers: int = 0
    fine_tune_learning_rate: float
    hidden_units: tuple[int, ...]
    dropout: float
    optimizer: str
    momentum: float
    weight_decay: float
    global_clipnorm: float = 0.0
    label_smoothing: float = 0.0
    class_weight: str = "none"
    augmentation: str
    dtype_policy: str = "float32"
    shuffle_buffer: int
    monitor: str = "accuracy"
    early_stopping_patience: int = 0

    def __post_init__(self) -> None:
        model_defaults(self.model)
        for name, names in _CHOICES.items():
            check_choice(name, getattr(self, name), names)
        _check_data(self)
        _check_length(self)
        _check_numbers(self)

    def to_json(self) -> dict[str, Any]:
        """Returns the options by name, as JSON values."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in vars(self).items()}

    def fingerprint(self) -> str:
        """Returns a short hash that tells runs of different options apart, wherever their data lie."""
        options = {name: value for name, value in self.to_json().items() if name not in PLACES}
        value = {"format": FORMAT_VERSION, **options}
        return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunOptions:
    """How one start of a run goes about it; the weights do not depend on these.

    Attributes:
        output: the run's directory; local or gs://.
        strategy: `auto`, `one_device`, `mirrored` or `multi_worker`.
        device: `auto`, `cpu` or `gpu`.
        checkpoint_every_steps: 0 for by time and at the ends of epochs alone.
        checkpoint_every_minutes: 0 for by steps and at the ends of epochs alone.
        keep_checkpoints: how many of the newest are kept, besides the best.
        log_every_steps: steps between two lines of `metrics.jsonl`.
        steps_per_execution: steps that TensorFlow goes without coming back to Python.
        cluster_timeout: seconds to wait for the other machines at the start.
        deterministic: use only operations that give the same bits each time, also on GPUs.
        verbose: log more, and show errors whole.
    """

    output: str
    strategy: str = "auto"
    device: str = "auto"
    checkpoint_every_steps: int = 0
    checkpoint_every_minutes: float = 10.0
    keep_checkpoints: int = 3
    log_every_steps: int = 20
    steps_per_execution: int
    cluster_timeout: float = 600.0
    deterministic: bool = False
    verbose: bool = False

    def __post_init__(self) -> None:
        if not self.output:
            raise OptionError("--output is empty: name the run's directory")
        check_choice("strategy", self.strategy, STRATEGIES)
        check_choice("device", self.device, DEVICES)
        check_number("checkpoint_every_minutes", self.checkpoint_every_minutes, at_least=0)
        check_number("cluster_timeout", self.cluster_timeout, above=0)
        check_number("checkpoint_every_steps", self.checkpoint_every_steps, at_least=0)
        for name in ("keep_checkpoints", "log_every_steps", "steps_per_execution"):
            check_number(name, getattr(self, name), at_least=1)


def resolve(given: Mapping[str, Any]) -> TrainingOptions:
    """Returns the options, with the model's defaults for those that are not given.

    Args:
        given: values by the names of `TrainingOptions`; other names are passed over.

    Raises:
        OptionError: a value is out of range, or does not go with the model.
    """
    fields = {field.name for field in dataclasses.fields(TrainingOptions)}
    given = {name: value for name, value in given.items() if name in fields}
    model = given.get("model", SMALL_CNN)
    defaults = model_defaults(model)
    _check_goes_with_model(model, given, defaults)
    _check_lengths_given(given)
    optimizer = given.get("optimizer", defaults.optimizer)
    check_choice("optimizer", optimizer, OPTIMIZERS)
    weights = given.get("weights", "imagenet" if model in BACKBONES else "none")
    learning_rate = given.get("learning_rate", defaults.learning_rates[optimizer])
    values = {
        "model": model,
        "weights": weights,
        "epochs": 0 if {"steps", "examples"} & given.keys() else defaults.epochs,
        "steps": 0,
        "examples": 0,
        "batch_size": defaults.batch_size,
        "learning_rate": learning_rate,
        "warmup_epochs": defaults.warmup_epochs,
        "image_size": defaults.image_size,
        "unfreeze_at": 0 if model in BACKBONES and weights == "none" else None,
        "fine_tune_learning_rate": learning_rate if weights == "none" else learning_rate / _FINE_TUNE_DIVISOR,
        "hidden_units": defaults.hidden_units,
        "dropout": defaults.dropout,
        "optimizer": optimizer,
        "momentum": MOMENTUM if optimizer == "sgd" else 0.0,
        "weight_decay": WEIGHT_DECAYS[optimizer],
        "augmentation": defaults.augmentation,
        "shuffle_buffer": defaults.shuffle_buffer,
    }
    options = TrainingOptions(**{**values, **given})
    for name in ("unfreeze_layers", "fine_tune_learning_rate"):
        if name in given and options.unfreeze_at is None:
            raise OptionError(f"--{name} {given[name]} needs --unfreeze_at: the backbone is never trained without it")
    return options


# What can be chosen, by option.
_CHOICES: Mapping[str, Sequence[str]] = {
    "optimizer": OPTIMIZERS,
    "class_weight": CLASS_WEIGHTS,
    "augmentation": AUGMENTATIONS,
    "dtype_policy": DTYPE_POLICIES,
    "monitor": MONITORS,
}
_OF_BACKBONES = ("weights", "unfreeze_at", "unfreeze_layers", "fine_tune_learning_rate")
_OF_PICTURES = ("image_size", "augmentation")
_LENGTHS = ("epochs", "steps", "examples")


def check_choice(name: str, value: str, names: Sequence[str]) -> None:
    """Raises OptionError unless `value` is one of `names`."""
    if value not in names:
        raise OptionError(f"unknown --{name} {value!r}: choose one of {', '.join(names)}")


def check_number(name: str, value: float, *, at_least: float | None = None, above: float = -math.inf) -> None:
    """Raises OptionError unless `value` is finite, not less than `at_least`, and greater than `above`."""
    if not math.isfinite(value):
        raise OptionError(f"--{name} {value} is not a finite number")
    if at_least is not None and value < at_least:
        raise OptionError(f"--{name} {value} is less than {at_least:g}")
    if not value > above:
        raise OptionError(f"--{name} {value} is not greater than {above:g}")


def _check_data(options: TrainingOptions) -> None:
    foreign = [name for name in PLACES if name != "dataset" and getattr(options, name)]
    if options.dataset and foreign:
        raise OptionError(f"--dataset {options.dataset} has all that --{foreign[0]} gives: give one of the two")
    if not options.dataset and not foreign:
        raise OptionError("there is nothing to train on: give --dataset, or --train_data_paths and --labels_file")
    if not options.dataset:
        for name in ("train_data_paths", "labels_file"):
            if not getattr(options, name):
                raise OptionError(f"--{name} is missing: TFRecords that are no data set of ingest or embed need it")


def _check_lengths_given(given: Mapping[str, Any]) -> None:
    lengths = [name for name in _LENGTHS if name in given]
    if len(lengths) > 1:
        both = " and ".join(f"--{name} {given[name]}" for name in lengths)
        raise OptionError(f"{both} both say how long to train: give one")
    for name in lengths:
        check_number(name, given[name], at_least=1)


def _check_length(options: TrainingOptions) -> None:
    lengths = [getattr(options, name) for name in _LENGTHS]
    if min(lengths) < 0 or sum(length > 0 for length in lengths) != 1:
        raise OptionError(f"of --epochs, --steps and --examples exactly one is to be positive, not {lengths}")


def _check_numbers(options: TrainingOptions) -> None:
    for name in ("batch_size", "shuffle_buffer"):
        check_number(name, getattr(options, name), at_least=1)
    for name in ("unfreeze_layers", "early_stopping_patience", "warmup_epochs", "weight_decay", "global_clipnorm"):
        check_number(name, getattr(options, name), at_least=0)
    for name in ("learning_rate", "fine_tune_learning_rate"):
        check_number(name, getattr(options, name), above=0)
    for name in ("dropout", "label_smoothing", "momentum"):
        if not 0 <= getattr(options, name) < 1:
            raise OptionError(f"--{name} {getattr(options, name)} is not at least 0 and below 1")
    if not 0 <= options.seed < 1 << 31:
        raise OptionError(f"--seed {options.seed} is not between 0 and {(1 << 31) - 1}")
    if options.unfreeze_at is not None:
        check_number("unfreeze_at", options.unfreeze_at, at_least=0)
    if options.model != HEAD:
        check_number("image_size", options.image_size, at_least=16)
    for units in options.hidden_units:
        check_number("hidden_units", units, at_least=1)


def _check_goes_with_model(model: str, given: Mapping[str, Any], defaults: ModelDefaults) -> None:
    """Raises OptionError for an option that means nothing to the model, unless it asks for what is so anyway."""
    if model not in BACKBONES:
        for name in _OF_BACKBONES:
            if given.get(name, "none") not in ("none", None):
                raise OptionError(f"--{name} {given[name]} is of backbones, and --model {model} is none: leave it out")
    if model == HEAD:
        for name in _OF_PICTURES:
            if given.get(name, "none") != "none":
                raise OptionError(
                    f"--{name} {given[name]} is of pictures, and --model head takes embeddings: leave it out"
                )
    optimizer = given.get("optimizer", defaults.optimizer)
    if optimizer != "sgd" and given.get("momentum", 0.0) != 0.0:
        raise OptionError(f"--momentum {given['momentum']} is of --optimizer sgd, not of {optimizer}: leave it out")
