import csv
from pathlib import Path

import numpy as np
import pytest

from beam_pipelines import files
from tests.trainer.card.cards import STEP, saved_run, write_evaluation
from tests.trainer.evaluation.shown import bins, evaluation, judged, many_classes, several_labels
from trainer.card.evaluated import Evaluated, read_evaluated, read_evaluation, read_predictions
from trainer.evaluation.figures import Evaluation
from trainer.run_directory import RunDirectory
from trainer.saved_run import SavedRun

EXAMPLES = (judged("pants", key="18/0"), judged("hat", key="17/0"), judged("hat", key=""))


def run_in(path: Path, shown: Evaluation | None = None) -> SavedRun:
    shown = shown or evaluation()
    return saved_run(shown.labels, multi_label=shown.multi_label, directory=RunDirectory(str(path)))


def evaluated(path: Path, shown: Evaluation, *, name: str = "evaluation") -> Evaluated:
    (path / name).mkdir(exist_ok=True)
    write_evaluation(path / name, shown, EXAMPLES)
    return read_evaluated(run_in(path, shown), STEP)


@pytest.mark.parametrize("shown", [evaluation(), several_labels(), many_classes(60)], ids=["few", "several", "many"])
def test_an_evaluation_is_read_as_it_was_written(tmp_path: Path, shown: Evaluation) -> None:
    write_evaluation(tmp_path, shown)
    found = read_evaluation(shown.to_json(), str(tmp_path))
    assert (found.confusion is None) == (shown.confusion is None)
    if found.confusion is not None and shown.confusion is not None:
        assert found.confusion.tolist() == shown.confusion.tolist()
    assert found.classes == shown.classes
    assert found.to_json() == shown.to_json()


def test_right_ones_and_mistakes_are_apart(tmp_path: Path) -> None:
    found = evaluated(tmp_path, evaluation())
    assert found.evaluation
    assert found.evaluation.accuracy == pytest.approx(0.8)
    assert [(example.key, example.labels, example.prediction) for example in found.right] == [
        ("18/0", ("pants",), "pants")
    ]
    assert [(example.key, example.score) for example in found.mistakes] == [("17/0", 0.75)]
    assert found.other_step is None


def test_nothing_was_evaluated(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert read_evaluated(run_in(tmp_path), STEP) == Evaluated()
    assert not caplog.records


def test_an_evaluation_of_another_checkpoint_is_not_shown(tmp_path: Path) -> None:
    assert evaluated(tmp_path, evaluation(step=861)) == Evaluated(other_step=861)


def test_the_split_trained_on_is_better_than_nothing(tmp_path: Path) -> None:
    found = evaluated(tmp_path, evaluation(split="train"), name="evaluation_train").evaluation
    assert found
    assert found.split == "train"
    found = evaluated(tmp_path, evaluation()).evaluation
    assert found
    assert found.split == "validation"


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("evaluation.json", b"{", "the model card is without what lies in"),
        ("evaluation.json", b"[]", "is not what trainer.evaluate wrote"),
        ("evaluation.json", b'{"step": 1722, "labels": ["cat"]}', "is of other classes than the run"),
        ("per_class.csv", b"class_id,label\r\n0,t-shirt\r\n", "without the evaluation in"),
        ("confusions.csv", b"label,prediction,examples\r\n", "has other examples than evaluation.json"),
        ("confusions.csv", b"label,prediction,examples\r\nhat,cat,1\r\n", "cat"),
    ],
)
def test_damaged_files_are_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str, content: bytes, reason: str
) -> None:
    (tmp_path / "evaluation").mkdir()
    write_evaluation(tmp_path / "evaluation", evaluation())
    (tmp_path / "evaluation" / name).write_bytes(content)
    assert read_evaluated(run_in(tmp_path), STEP) == Evaluated()
    assert reason in caplog.text


def test_tables_may_be_gone(tmp_path: Path) -> None:
    evaluated(tmp_path, evaluation())
    files.remove(str(tmp_path / "evaluation" / "predictions.csv"))
    found = read_evaluated(run_in(tmp_path), STEP)
    assert found.evaluation
    assert (found.right, found.mistakes) == ((), ())
    files.remove(str(tmp_path / "evaluation" / "per_class.csv"))
    assert read_evaluated(run_in(tmp_path), STEP) == Evaluated()


def test_figures_that_were_not_numbers_are_none(tmp_path: Path) -> None:
    shown = evaluation(loss=float("nan"), calibration=bins((0, np.nan, np.nan)))
    write_evaluation(tmp_path, shown)
    found = read_evaluation(shown.to_json(), str(tmp_path))
    assert np.isnan([found.loss, found.calibration[0].confidence]).all()


def test_several_labels_are_told_apart(tmp_path: Path) -> None:
    path = tmp_path / "predictions.csv"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(
            [["key", "labels", "prediction", "score", "right"], ["1", "a|b;c", "a|b", "0.5", "true"]]
        )
    (found,) = read_predictions(str(path), ("a|b", "c"))
    assert (found.labels, found.top, found.is_right) == (("a|b", "c"), (("a|b", 0.5),), True)
