import dataclasses
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beam_pipelines.errors import OptionError
from trainer.arguments import make_parser, parse_arguments
from trainer.options import RunOptions, TrainingOptions, model_defaults, resolve

NEEDED = ["--dataset=data", "--output=run"]
FOREIGN = ["--output=run", "--train_data_paths=a", "--labels_file=l"]


def parsed(*arguments: str) -> TrainingOptions:
    return parse_arguments([*NEEDED, *arguments])[0]


def run_of(*arguments: str) -> RunOptions:
    return parse_arguments([*NEEDED, *arguments])[1]


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


def test_arguments_and_values_give_the_same_options() -> None:
    given = {"dataset": "data", "model": "resnet50", "unfreeze_at": 4, "learning_rate": 0.5, "steps": 7}
    assert parsed("--model=resnet50", "--unfreeze_at=4", "--learning_rate=0.5", "--steps=7") == resolve(given)


@pytest.mark.parametrize("model", ["small_cnn", "head", "inception_v3"])
def test_steps_per_execution_are_those_of_the_model(model: str) -> None:
    steps = model_defaults(model).steps_per_execution
    assert run_of(f"--model={model}").steps_per_execution == steps


def test_a_backbone_may_never_train() -> None:
    assert parsed("--model=mobilenet_v2", "--weights=none").unfreeze_at == 0
    assert parsed("--model=mobilenet_v2", "--weights=none", "--unfreeze_at=never").unfreeze_at is None
    assert parsed("--model=mobilenet_v2", "--unfreeze_at=3").unfreeze_at == 3


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
        ("stray", "unknown option 'stray': see --help"),
        ("--epochs=few", "argument --epochs: invalid int value: 'few': see --help"),
        ("--hidden_units=a,b", "argument --hidden_units: invalid whole numbers value: 'a,b': see --help"),
        ("--unfreeze_at=soon", "argument --unfreeze_at: invalid whole number value: 'soon': see --help"),
        ("--model=inception_v4", "unknown --model 'inception_v4': choose one of inception_v3, "),
        ("--strategy=tpu", "unknown --strategy 'tpu': choose one of auto, one_device, mirrored, multi_worker"),
        ("--epochs=1 --steps=2", "--epochs 1 and --steps 2 both say how long to train: give one"),
        ("--checkpoint_every_minutes=inf", "--checkpoint_every_minutes inf is not a finite number"),
        ("--learning_rate=nan", "--learning_rate nan is not a finite number"),
        ("--momentum=0.5", "--momentum 0.5 is of --optimizer sgd, not of adamw: leave it out"),
    ],
)
def test_a_wrong_value_is_named(arguments: str, message: str) -> None:
    with pytest.raises(OptionError) as caught:
        parse_arguments([*NEEDED, *arguments.split()])
    assert str(caught.value).startswith(message)


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


def test_neither_places_nor_how_a_run_goes_about_it_make_another_run() -> None:
    options, _ = parse_arguments([*FOREIGN, "--device=cpu", "--strategy=one_device", "--checkpoint_every_steps=3"])
    assert options.fingerprint() == parsed().fingerprint()


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
