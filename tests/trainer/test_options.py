import dataclasses
import math
from typing import Any

import pytest

from beam_pipelines.errors import OptionError
from trainer.models import BACKBONES
from trainer.options import PLACES, RunOptions, TrainingOptions, model_defaults, resolve


def resolved(**given: Any) -> TrainingOptions:
    return resolve({"dataset": "data", **given})


def run_options(**given: Any) -> RunOptions:
    return RunOptions(**{"output": "run", "steps_per_execution": 1, **given})


def test_defaults_of_the_head() -> None:
    options = resolved(model="head")
    assert (options.hidden_units, options.dropout, options.image_size, options.augmentation) == ((512,), 0.5, 0, "none")
    assert (options.unfreeze_at, options.weights) == (None, "none")


def test_defaults_of_a_backbone() -> None:
    options = resolved(model="inception_v3")
    assert (options.weights, options.image_size, options.unfreeze_at) == ("imagenet", 299, None)
    assert options.fine_tune_learning_rate == options.learning_rate / 10


def test_a_backbone_of_random_weights_trains_from_the_beginning() -> None:
    options = resolved(model="mobilenet_v2", weights="none", learning_rate=0.5, unfreeze_layers=3)
    assert (options.unfreeze_at, options.fine_tune_learning_rate, options.unfreeze_layers) == (0, 0.5, 3)
    assert resolved(model="mobilenet_v2", weights="none", unfreeze_at=None).unfreeze_at is None


def test_fine_tuning() -> None:
    options = resolved(model="resnet50", weights="w.h5", unfreeze_at=4, learning_rate=0.5)
    assert (options.weights, options.unfreeze_at, options.fine_tune_learning_rate) == ("w.h5", 4, 0.05)
    assert resolved(model="resnet50", unfreeze_at=4, fine_tune_learning_rate=2.0).fine_tune_learning_rate == 2


def test_defaults_of_the_optimizer() -> None:
    rates = model_defaults("small_cnn").learning_rates
    assert (resolved().momentum, resolved().learning_rate) == (0.0, rates["adamw"])
    sgd = resolved(optimizer="sgd")
    assert (sgd.momentum, sgd.learning_rate) == (0.9, rates["sgd"])
    assert sgd.weight_decay != resolved().weight_decay
    assert resolved(optimizer="sgd", momentum=0.0).momentum == 0.0


@pytest.mark.parametrize("name", ["epochs", "steps", "examples"])
def test_one_of_three_says_how_long(name: str) -> None:
    options = resolved(**{name: 7})
    lengths = {other: getattr(options, other) for other in ("epochs", "steps", "examples")}
    assert lengths == {"epochs": 0, "steps": 0, "examples": 0, name: 7}


WRONG_VALUES: list[tuple[dict[str, Any], str]] = [
    ({"model": "inception_v4"}, "unknown --model 'inception_v4': choose one of inception_v3, "),
    ({"model": "x"}, "unknown --model 'x': choose one of small_cnn, head, "),
    ({"optimizer": "adam"}, "unknown --optimizer 'adam': choose one of adamw, sgd"),
    ({"class_weight": "auto"}, "unknown --class_weight 'auto': choose one of none, balanced"),
    ({"augmentation": "hard"}, "unknown --augmentation 'hard': choose one of none, light, strong"),
    ({"dtype_policy": "half"}, "unknown --dtype_policy 'half': choose one of float32, mixed_float16, mixed_bfloat16"),
    ({"monitor": "f1"}, "unknown --monitor 'f1': choose one of accuracy, recall_at_5, loss"),
    ({"epochs": 1, "steps": 2}, "--epochs 1 and --steps 2 both say how long to train: give one"),
    ({"steps": 2, "examples": 3}, "--steps 2 and --examples 3 both say how long to train: give one"),
    *(
        ({name: 0}, f"--{name} 0 is less than 1")
        for name in ("epochs", "steps", "examples", "batch_size", "shuffle_buffer")
    ),
    ({"epochs": -1}, "--epochs -1 is less than 1"),
    ({"early_stopping_patience": -1}, "--early_stopping_patience -1 is less than 0"),
    ({"warmup_epochs": -0.5}, "--warmup_epochs -0.5 is less than 0"),
    ({"weight_decay": -0.5}, "--weight_decay -0.5 is less than 0"),
    ({"global_clipnorm": math.nan}, "--global_clipnorm nan is not a finite number"),
    ({"learning_rate": 0.0}, "--learning_rate 0.0 is not greater than 0"),
    ({"learning_rate": math.nan}, "--learning_rate nan is not a finite number"),
    ({"dropout": 1.0}, "--dropout 1.0 is not at least 0 and below 1"),
    ({"dropout": math.nan}, "--dropout nan is not at least 0 and below 1"),
    ({"label_smoothing": -0.1}, "--label_smoothing -0.1 is not at least 0 and below 1"),
    ({"optimizer": "sgd", "momentum": 1.0}, "--momentum 1.0 is not at least 0 and below 1"),
    ({"seed": -1}, "--seed -1 is not between 0 and 2147483647"),
    ({"seed": 1 << 31}, "--seed 2147483648 is not between 0 and 2147483647"),
    ({"image_size": 15}, "--image_size 15 is less than 16"),
    ({"hidden_units": (3, 0)}, "--hidden_units 0 is less than 1"),
    ({"hidden_units": (-3,)}, "--hidden_units -3 is less than 1"),
    ({"model": "resnet50", "unfreeze_at": -1}, "--unfreeze_at -1 is less than 0"),
    ({"model": "resnet50", "unfreeze_at": 1, "unfreeze_layers": -1}, "--unfreeze_layers -1 is less than 0"),
    (
        {"model": "resnet50", "unfreeze_at": 1, "fine_tune_learning_rate": 0.0},
        "--fine_tune_learning_rate 0.0 is not greater than 0",
    ),
]


@pytest.mark.parametrize(("given", "message"), WRONG_VALUES)
def test_a_value_out_of_range_is_named(given: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError) as caught:
        resolved(**given)
    assert str(caught.value).startswith(message)


WRONG_RUNS: list[tuple[dict[str, Any], str]] = [
    ({"output": ""}, "--output is empty: name the run's directory"),
    ({"strategy": "tpu"}, "unknown --strategy 'tpu': choose one of auto, one_device, mirrored, multi_worker"),
    ({"device": "tpu"}, "unknown --device 'tpu': choose one of auto, cpu, gpu"),
    *(
        ({name: 0}, f"--{name} 0 is less than 1")
        for name in ("keep_checkpoints", "log_every_steps", "steps_per_execution")
    ),
    ({"checkpoint_every_steps": -1}, "--checkpoint_every_steps -1 is less than 0"),
    ({"checkpoint_every_minutes": -1.0}, "--checkpoint_every_minutes -1.0 is less than 0"),
    ({"checkpoint_every_minutes": math.inf}, "--checkpoint_every_minutes inf is not a finite number"),
    ({"cluster_timeout": 0.0}, "--cluster_timeout 0.0 is not greater than 0"),
]


@pytest.mark.parametrize(("given", "message"), WRONG_RUNS)
def test_a_value_of_a_run_out_of_range_is_named(given: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError) as caught:
        run_options(**given)
    assert str(caught.value) == message


MEANINGLESS: list[tuple[dict[str, Any], str]] = [
    *(
        (
            {"model": model, name: value},
            f"--{name} {value} is of backbones, and --model {model} is none: leave it out",
        )
        for model in ("small_cnn", "head")
        for name, value in (
            ("weights", "imagenet"),
            ("unfreeze_at", 0),
            ("unfreeze_layers", 3),
            ("fine_tune_learning_rate", 0.1),
        )
    ),
    (
        {"model": "head", "image_size": 96},
        "--image_size 96 is of pictures, and --model head takes embeddings: leave it out",
    ),
    (
        {"model": "head", "augmentation": "light"},
        "--augmentation light is of pictures, and --model head takes embeddings: leave it out",
    ),
    ({"momentum": 0.5}, "--momentum 0.5 is of --optimizer sgd, not of adamw: leave it out"),
    (
        {"model": "resnet50", "unfreeze_layers": 3},
        "--unfreeze_layers 3 needs --unfreeze_at: the backbone is never trained without it",
    ),
    (
        {"model": "resnet50", "unfreeze_at": None, "fine_tune_learning_rate": 0.1},
        "--fine_tune_learning_rate 0.1 needs --unfreeze_at: the backbone is never trained without it",
    ),
]


@pytest.mark.parametrize(("given", "message"), MEANINGLESS)
def test_an_option_that_means_nothing_here(given: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError) as caught:
        resolved(**given)
    assert str(caught.value) == message


def test_what_is_so_anyway_may_be_said() -> None:
    assert resolved(weights="none", unfreeze_at=None, momentum=0.0) == resolved()
    assert resolved(model="head", augmentation="none") == resolved(model="head")


@pytest.mark.parametrize("model", ["small_cnn", "head", *BACKBONES])
def test_defaults_of_every_model_are_in_range(model: str) -> None:
    options = resolve({"dataset": "data", "model": model})
    assert options.model == model
    assert (options.image_size > 0) == (model != "head")
    assert model_defaults(model).steps_per_execution > 0


def test_options_made_by_hand_are_checked_too() -> None:
    with pytest.raises(OptionError, match="of --epochs, --steps and --examples exactly one is to be positive, not"):
        dataclasses.replace(resolved(), steps=3)
    with pytest.raises(OptionError, match="unknown --optimizer 'adam'"):
        dataclasses.replace(resolved(), optimizer="adam")


OTHERS: dict[str, Any] = {
    "model": "head",
    "weights": "imagenet",
    "epochs": 3,
    "image_size": 99,
    "unfreeze_at": 1,
    "hidden_units": (1, 2),
    "optimizer": "sgd",
    "class_weight": "balanced",
    "augmentation": "strong",
    "dtype_policy": "mixed_bfloat16",
    "monitor": "loss",
}


def other(options: TrainingOptions, name: str) -> TrainingOptions:
    """Returns options that differ in one value."""
    if name in ("steps", "examples"):
        length: dict[str, Any] = {"epochs": 0, name: 3}
        return dataclasses.replace(options, **length)
    value: Any = getattr(options, name)
    changed: dict[str, Any] = {name: OTHERS.get(name, value + 1 if type(value) is int else 0.75)}
    return dataclasses.replace(options, **changed)


def test_another_value_of_any_option_is_another_run() -> None:
    first = resolved()
    found = {first.fingerprint()}
    names = [field.name for field in dataclasses.fields(first) if field.name not in PLACES]
    for name in names:
        fingerprint = other(first, name).fingerprint()
        assert fingerprint not in found, name
        found.add(fingerprint)
    assert len(found) == len(names) + 1


def test_the_fingerprint_stays_the_same() -> None:
    """If it changes on purpose, runs that were begun earlier cannot go on."""
    options = TrainingOptions(
        model="mobilenet_v2",
        weights="imagenet",
        epochs=1,
        steps=0,
        examples=0,
        batch_size=2,
        learning_rate=0.1,
        warmup_epochs=1.0,
        image_size=96,
        unfreeze_at=None,
        fine_tune_learning_rate=0.01,
        hidden_units=(3, 2),
        dropout=0.5,
        optimizer="sgd",
        momentum=0.9,
        weight_decay=0.0,
        augmentation="light",
        shuffle_buffer=4,
        dataset="data",
    )
    assert options.fingerprint() == "832cd41b1768e1cf"
