import subprocess
import sys

import pytest

from beam_pipelines.errors import OptionError
from trainer.evaluation.options import EvaluateOptions, parse_arguments


def refused(*arguments: str) -> str:
    with pytest.raises(OptionError) as caught:
        parse_arguments(arguments)
    return str(caught.value)


def test_a_run_is_enough() -> None:
    options = parse_arguments(["--run", "runs/a"])
    assert options == EvaluateOptions(run="runs/a", output="runs/a/evaluation")
    assert (options.checkpoint, options.split, options.device) == ("best", "validation", "auto")


@pytest.mark.parametrize(
    ("arguments", "output"),
    [
        (["--run", "gs://b/a"], "gs://b/a/evaluation"),
        (["--run", "a", "--split", "train"], "a/evaluation_train"),
        (["--run", "a", "--split", "train", "--output", "c"], "c"),
    ],
)
def test_where_an_evaluation_lies(arguments: list[str], output: str) -> None:
    assert parse_arguments(arguments).output == output


def test_paths_are_gathered() -> None:
    options = parse_arguments(
        ["--run", "a", "--eval_data_paths", "b,c", "--eval_data_paths", "d", "--labels_file", "e"]
    )
    assert (options.data_paths, options.labels_file) == (("b", "c", "d"), "e")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "the following arguments are required: --run: see --help"),
        (["--run", ""], "--run is empty: name the directory of a run"),
        (["--run", "a", "--spilt", "train"], "unknown option '--spilt': did you mean --split? see --help"),
        (["--run", "a", "--split", "test"], "unknown --split 'test': choose one of train, validation"),
        (["--run", "a", "--device", "tpu"], "unknown --device 'tpu': choose one of auto, cpu, gpu"),
        (["--run", "a", "--checkpoint", "-3"], "--checkpoint '-3' is no checkpoint: give best, latest or a step"),
        (["--run", "a", "--checkpoint", "last"], "--checkpoint 'last' is no checkpoint: give best, latest or a step"),
        (["--run", "a", "--mistakes", "-1"], "--mistakes -1 is less than 0"),
        (["--run", "a", "--batch_size", "-1"], "--batch_size -1 is less than 0"),
        (
            ["--run", "a", "--dataset", "b", "--eval_data_paths", "c"],
            "--dataset b has all that --eval_data_paths gives: give one of the two",
        ),
        (
            ["--run", "a", "--train_data_paths", "c"],
            "--train_data_paths is of --split train, and --split is validation: give --eval_data_paths",
        ),
        (
            ["--run", "a", "--split", "train", "--eval_data_paths", "c"],
            "--eval_data_paths is of --split validation, and --split is train: give --train_data_paths",
        ),
        (["--run", "a", "--labels_file", "c"], "--labels_file c is of --eval_data_paths: give that too"),
    ],
)
def test_what_is_refused(arguments: list[str], message: str) -> None:
    assert refused(*arguments) == message


def test_options_are_checked_without_tensorflow() -> None:
    code = (
        "import sys, trainer.evaluation.options, trainer.evaluation.data, trainer.evaluation.metrics; "
        "sys.exit('tensorflow' in sys.modules or 'keras' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
