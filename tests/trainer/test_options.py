import dataclasses
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beam_pipelines.errors import OptionError
from trainer.models import BACKBONES
from trainer.options import (
    PLACES,
    RunOptions,
    TrainingOptions,
    make_parser,
    model_defaults,
    parse_arguments,
    resolve,
)

NEEDED = ["--dataset=data", "--output=run"]
FOREIGN = ["--output=run", "--train_data_paths=a", "--labels_file=l"]


def parsed(*arguments: str) -> TrainingOptions:
    return parse_arguments([*NEEDED, *arguments])[0]


def run_of(*arguments: str) -> RunOptions:
    return parse_arguments([*NEEDED, *arguments])[1]


def refused(*arguments: str) -> str:
    with pytest.raises(OptionError) as caught:
        parse_arguments([*NEEDED, *arguments])
    return str(caught.value)


def test_a_data_set_and_an_output_are_enough() -> None:
    options, run = parse_arguments(NEEDED)
    assert (options.dataset, options.model, options.weights, options.optimizer) == (
        "data",
        "small_cnn",
        "none",
        "adamw",
    )
    defaults = model_defaults("small_cnn")
    assert (options.epochs, options.steps, options.examples) == (defaults.epochs, 0, 0)
    assert (options.batch_size, options.image_size) == (defaults.batch_size, defaults.image_size)
    assert (run.output, run.strategy, run.device) == ("run", "auto", "auto")
    assert run.steps_per_execution == defaults.steps_per_execution


def test_defaults_of_the_head() -> None:
    options = parsed("--model=head")
    assert (options.hidden_units, options.dropout, options.image_size, options.augmentation) == ((512,), 0.5, 0, "none")
    assert (options.unfreeze_at, options.weights) == (None, "none")


def test_defaults_of_a_backbone() -> None:
    options = parsed("--model=inception_v3")
    assert (options.weights, options.image_size, options.unfreeze_at) == ("imagenet", 299, None)
    assert options.fine_tune_learning_rate == options.learning_rate / 10
    assert run_of("--model=inception_v3").steps_per_execution == model_defaults("inception_v3").steps_per_execution


def test_a_backbone_of_random_weights_trains_from_the_beginning() -> None:
    options = parsed("--model=mobilenet_v2", "--weights=none", "--learning_rate=0.5", "--unfreeze_layers=3")
    assert (options.unfreeze_at, options.fine_tune_learning_rate, options.unfreeze_layers) == (0, 0.5, 3)
    assert parsed("--model=mobilenet_v2", "--weights=none", "--unfreeze_at=never").unfreeze_at is None


def test_fine_tuning() -> None:
    options = parsed("--model=resnet50", "--weights=w.h5", "--unfreeze_at=4", "--learning_rate=0.5")
    assert (options.weights, options.unfreeze_at, options.fine_tune_learning_rate) == ("w.h5", 4, 0.05)
    assert parsed("--model=resnet50", "--unfreeze_at=4", "--fine_tune_learning_rate=2").fine_tune_learning_rate == 2


def test_defaults_of_the_optimizer() -> None:
    rates = model_defaults("small_cnn").learning_rates
    assert (parsed().momentum, parsed().learning_rate) == (0.0, rates["adamw"])
    sgd = parsed("--optimizer=sgd")
    assert (sgd.momentum, sgd.learning_rate) == (0.9, rates["sgd"])
    assert sgd.weight_decay != parsed().weight_decay
    assert parsed("--optimizer=sgd", "--momentum=0").momentum == 0.0


@pytest.mark.parametrize("name", ["epochs", "steps", "examples"])
def test_one_of_three_says_how_long(name: str) -> None:
    options = parsed(f"--{name}=7")
    lengths = {other: getattr(options, other) for other in ("epochs", "steps", "examples")}
    assert lengths == {"epochs": 0, "steps": 0, "examples": 0, name: 7}


def test_hidden_layers() -> None:
    assert parsed("--hidden_units=64,32").hidden_units == (64, 32)
    assert parsed("--hidden_units", "64", "--hidden_units", "32").hidden_units == (64, 32)
    assert parsed("--model=head", "--hidden_units=0").hidden_units == ()


def test_foreign_paths_stand_side_by_side_or_one_after_another() -> None:
    options, _ = parse_arguments(
        [*FOREIGN, "--train_data_paths=b, c*.gz,", "--eval_data_paths", "gs://x/d-*", "--eval_data_paths", "e"]
    )
    assert options.train_data_paths == ("a", "b", "c*.gz")
    assert options.eval_data_paths == ("gs://x/d-*", "e")
    assert (options.dataset, options.labels_file) == ("", "l")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--output=run"], "there is nothing to train on: give --dataset, or --train_data_paths and --labels_file"),
        (FOREIGN[:2], "--labels_file is missing: TFRecords that are no data set of ingest or embed need it"),
        (
            ["--output=run", "--labels_file=l"],
            "--train_data_paths is missing: TFRecords that are no data set of ingest or embed need it",
        ),
        ([*FOREIGN, "--dataset=data"], "--dataset data has all that --train_data_paths gives: give one of the two"),
        (["--dataset=data"], "the following arguments are required: --output: see --help"),
        (["--dataset=data", "--output="], "--output is empty: name the run's directory"),
    ],
)
def test_what_must_be_given(arguments: list[str], message: str) -> None:
    with pytest.raises(OptionError) as caught:
        parse_arguments(arguments)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--epoch=3", "unknown option '--epoch=3': did you mean --epochs? see --help"),
        ("--learning_rat 3", "unknown option '--learning_rat': did you mean --learning_rate? see --help"),
        ("stray", "unknown option 'stray': see --help"),
        ("--epochs=few", "argument --epochs: invalid int value: 'few': see --help"),
        ("--hidden_units=a,b", "argument --hidden_units: invalid whole numbers value: 'a,b': see --help"),
        ("--unfreeze_at=soon", "argument --unfreeze_at: invalid whole number value: 'soon': see --help"),
        ("--model=inception_v4", "unknown --model 'inception_v4': choose one of inception_v3, "),
        ("--model=x", "unknown --model 'x': choose one of small_cnn, head, "),
        ("--optimizer=adam", "unknown --optimizer 'adam': choose one of adamw, sgd"),
        ("--class_weight=auto", "unknown --class_weight 'auto': choose one of none, balanced"),
        ("--augmentation=hard", "unknown --augmentation 'hard': choose one of none, light, strong"),
        ("--dtype_policy=half", "unknown --dtype_policy 'half': choose one of float32, mixed_float16, mixed_bfloat16"),
        ("--monitor=f1", "unknown --monitor 'f1': choose one of accuracy, recall_at_5, loss"),
        ("--strategy=tpu", "unknown --strategy 'tpu': choose one of auto, one_device, mirrored, multi_worker"),
        ("--device=tpu", "unknown --device 'tpu': choose one of auto, cpu, gpu"),
        ("--epochs=1 --steps=2", "--epochs 1 and --steps 2 both say how long to train: give one"),
        ("--steps=2 --examples=3", "--steps 2 and --examples 3 both say how long to train: give one"),
        *(
            (f"--{name}=0", f"--{name} 0 is less than 1")
            for name in ("epochs", "steps", "examples", "batch_size", "shuffle_buffer")
        ),
        *(
            (f"--{name}=0", f"--{name} 0 is less than 1")
            for name in ("keep_checkpoints", "log_every_steps", "steps_per_execution")
        ),
        ("--epochs=-1", "--epochs -1 is less than 1"),
        ("--early_stopping_patience=-1", "--early_stopping_patience -1 is less than 0"),
        ("--checkpoint_every_steps=-1", "--checkpoint_every_steps -1 is less than 0"),
        ("--checkpoint_every_minutes=-1", "--checkpoint_every_minutes -1.0 is less than 0"),
        ("--checkpoint_every_minutes=inf", "--checkpoint_every_minutes inf is not a finite number"),
        ("--cluster_timeout=0", "--cluster_timeout 0.0 is not greater than 0"),
        ("--warmup_epochs=-0.5", "--warmup_epochs -0.5 is less than 0"),
        ("--weight_decay=-0.5", "--weight_decay -0.5 is less than 0"),
        ("--global_clipnorm=nan", "--global_clipnorm nan is not a finite number"),
        ("--learning_rate=0", "--learning_rate 0.0 is not greater than 0"),
        ("--learning_rate=nan", "--learning_rate nan is not a finite number"),
        ("--dropout=1", "--dropout 1.0 is not at least 0 and below 1"),
        ("--dropout=nan", "--dropout nan is not at least 0 and below 1"),
        ("--label_smoothing=-0.1", "--label_smoothing -0.1 is not at least 0 and below 1"),
        ("--optimizer=sgd --momentum=1", "--momentum 1.0 is not at least 0 and below 1"),
        ("--seed=-1", "--seed -1 is not between 0 and 2147483647"),
        ("--seed=2147483648", "--seed 2147483648 is not between 0 and 2147483647"),
        ("--image_size=15", "--image_size 15 is less than 16"),
        ("--hidden_units=3,0", "--hidden_units 0 is less than 1"),
        ("--hidden_units=-3", "--hidden_units -3 is less than 1"),
        ("--model=resnet50 --unfreeze_at=-1", "--unfreeze_at -1 is less than 0"),
        ("--model=resnet50 --unfreeze_at=1 --unfreeze_layers=-1", "--unfreeze_layers -1 is less than 0"),
        (
            "--model=resnet50 --unfreeze_at=1 --fine_tune_learning_rate=0",
            "--fine_tune_learning_rate 0.0 is not greater than 0",
        ),
    ],
)
def test_a_value_out_of_range_is_named(arguments: str, message: str) -> None:
    assert refused(*arguments.split()).startswith(message)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        *(
            (
                f"--model={model} --{name}={value}",
                f"--{name} {value} is of backbones, and --model {model} is none: leave it out",
            )
            for model in ("small_cnn", "head")
            for name, value in (
                ("weights", "imagenet"),
                ("unfreeze_at", "0"),
                ("unfreeze_layers", "3"),
                ("fine_tune_learning_rate", "0.1"),
            )
        ),
        (
            "--model=head --image_size=96",
            "--image_size 96 is of pictures, and --model head takes embeddings: leave it out",
        ),
        (
            "--model=head --augmentation=light",
            "--augmentation light is of pictures, and --model head takes embeddings: leave it out",
        ),
        ("--momentum=0.5", "--momentum 0.5 is of --optimizer sgd, not of adamw: leave it out"),
        (
            "--model=resnet50 --unfreeze_layers=3",
            "--unfreeze_layers 3 needs --unfreeze_at: the backbone is never trained without it",
        ),
        (
            "--model=resnet50 --unfreeze_at=never --fine_tune_learning_rate=0.1",
            "--fine_tune_learning_rate 0.1 needs --unfreeze_at: the backbone is never trained without it",
        ),
    ],
)
def test_an_option_that_means_nothing_here(arguments: str, message: str) -> None:
    assert refused(*arguments.split()) == message


def test_what_is_so_anyway_may_be_said() -> None:
    assert parsed("--weights=none", "--unfreeze_at=never", "--momentum=0") == parsed()
    assert parsed("--model=head", "--augmentation=none") == parsed("--model=head")


@pytest.mark.parametrize("model", ["small_cnn", "head", *BACKBONES])
def test_defaults_of_every_model_are_in_range(model: str) -> None:
    options = resolve({"dataset": "data", "model": model})
    assert options.model == model
    assert (options.image_size > 0) == (model != "head")
    assert model_defaults(model).steps_per_execution > 0


def test_options_made_by_hand_are_checked_too() -> None:
    with pytest.raises(OptionError, match="of --epochs, --steps and --examples exactly one is to be positive, not"):
        dataclasses.replace(parsed(), steps=3)
    with pytest.raises(OptionError, match="unknown --optimizer 'adam'"):
        dataclasses.replace(parsed(), optimizer="adam")


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
    first = parsed()
    found = {first.fingerprint()}
    names = [field.name for field in dataclasses.fields(first) if field.name not in PLACES]
    for name in names:
        fingerprint = other(first, name).fingerprint()
        assert fingerprint not in found, name
        found.add(fingerprint)
    assert len(found) == len(names) + 1


def test_neither_places_nor_how_a_run_goes_about_it_make_another_run() -> None:
    options, _ = parse_arguments([*FOREIGN, "--device=cpu", "--strategy=one_device", "--checkpoint_every_steps=3"])
    assert options.fingerprint() == parsed().fingerprint()


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


def test_how_a_run_goes_about_it() -> None:
    assert run_of(
        *("--strategy=mirrored", "--device=gpu", "--checkpoint_every_steps=7", "--checkpoint_every_minutes=1.5"),
        "--cluster_timeout=5",
        *("--keep_checkpoints=9", "--log_every_steps=8", "--steps_per_execution=6", "--deterministic", "--verbose"),
    ) == RunOptions(
        output="run",
        strategy="mirrored",
        device="gpu",
        checkpoint_every_steps=7,
        checkpoint_every_minutes=1.5,
        keep_checkpoints=9,
        log_every_steps=8,
        steps_per_execution=6,
        cluster_timeout=5.0,
        deterministic=True,
        verbose=True,
    )


def test_every_option_is_explained_with_its_default() -> None:
    text = " ".join(make_parser().format_help().split())
    for options in (TrainingOptions, RunOptions):
        for field in dataclasses.fields(options):
            assert re.search(rf"--{field.name}\b", text), field.name
    epochs = ", ".join(str(model_defaults(model).epochs) for model in ("small_cnn", "head", "inception_v3"))
    for said in (
        f"(default: {epochs})",
        "(default: none, 512, none)",
        "gs:// (default: imagenet)",
        "time (default: 10)",
    ):
        assert said in text
    explained = [action for action in make_parser()._actions if action.help]
    assert len(explained) == len(make_parser()._actions)


@given(
    st.lists(st.sampled_from(["--model", "head", "--epochs", "3", "--seed", "x", "--", "-1", ""]) | st.text(max_size=4))
)
def test_any_arguments_give_options_or_one_clear_line(arguments: list[str]) -> None:
    if {"-h", "--help"} & set(arguments):
        return
    try:
        options, _ = parse_arguments([*NEEDED, *arguments])
    except OptionError:
        return
    assert options.dataset == "data"
