import csv
import io
from pathlib import Path

import numpy as np
import pytest

from beam_pipelines import files
from tests.beam_pipelines.builders import BUCKET, object_store
from tests.trainer.evaluation.builders import batches, evaluated, names
from trainer.evaluation.tables import label_separator, predictions_table, write_confusions, write_per_class

TARGETS = np.array([0, 0, 0, 1, 2, 2])
# Predicted: 0, 2, 2, 1, 0, 2.
LOGITS = np.array([[9, 0, 0, 0], [0, 0, 9, 0], [0, 1, 2, 0], [0, 5, 0, 0], [3, 0, 0, 3], [0, 0, 3, 0]], np.float32)


def rows(path: Path) -> list[list[str]]:
    return list(csv.reader(io.StringIO(path.read_bytes().decode(), newline="")))


def test_the_figures_of_each_class(tmp_path: Path) -> None:
    write_per_class(evaluated(TARGETS, LOGITS), str(tmp_path / "per_class.csv"))
    assert rows(tmp_path / "per_class.csv") == [
        ["class_id", "label", "examples", "predicted", "right", "precision", "recall", "f1", "average_precision"],
        ["0", "class 0", "3", "2", "1", "0.5", "0.333333", "0.4", ""],
        ["1", "class 1", "1", "1", "1", "1", "1", "1", ""],
        ["2", "class 2", "2", "3", "1", "0.333333", "0.5", "0.4", ""],
        ["3", "class 3", "0", "0", "0", "0", "0", "0", ""],
    ]


def test_average_precision_where_there_may_be_several_labels(tmp_path: Path) -> None:
    targets = np.array([[1, 0], [1, 0], [0, 0]], np.float32)
    write_per_class(evaluated(targets, np.array([[3.0, 1.0], [1.0, 0.0], [2.0, 0.0]])), str(tmp_path / "per_class.csv"))
    assert [row[-1] for row in rows(tmp_path / "per_class.csv")[1:]] == ["0.833333", ""]


def test_what_was_taken_for_what(tmp_path: Path) -> None:
    write_confusions(evaluated(TARGETS, LOGITS), str(tmp_path / "confusions.csv"))
    assert rows(tmp_path / "confusions.csv") == [
        ["label", "prediction", "examples"],
        ["class 0", "class 2", "2"],
        ["class 2", "class 0", "1"],
    ]
    with pytest.raises(ValueError, match="several labels"):
        write_confusions(evaluated(np.ones((1, 2), np.float32), np.ones((1, 2))), str(tmp_path / "x.csv"))


def test_every_prediction(tmp_path: Path) -> None:
    path = tmp_path / "predictions.csv"
    keys = ["a", "", 'b,"c"', "line\r\nbreak", "\udc80", "é"]
    with predictions_table(str(path), names(4)) as table:
        for batch in batches(TARGETS, LOGITS, keys=keys):
            table.add(batch)
        assert not path.exists()
    found = rows(path)
    assert found[0] == ["key", "labels", "prediction", "score", "right"]
    assert [row[0] for row in found[1:]] == ["a", "", 'b,"c"', "line\r\nbreak", "\\udc80", "é"]
    assert [row[1] for row in found[1:]] == [f"class {number}" for number in TARGETS]
    assert [row[2] for row in found[1:]] == [f"class {number}" for number in np.argmax(LOGITS, axis=1)]
    assert [row[4] for row in found[1:]] == ["true", "false", "false", "true", "false", "true"]
    assert float(found[5][3]) == pytest.approx(np.exp(3) / (2 * np.exp(3) + 2), rel=1e-5)


def test_several_labels_of_an_example_can_be_told_apart(tmp_path: Path) -> None:
    path = tmp_path / "predictions.csv"
    targets = np.array([[1, 0, 1], [0, 0, 0]], np.float32)
    with predictions_table(str(path), ["France|Italy", "Rome", "a;b"]) as table:
        for batch in batches(targets, np.zeros((2, 3))):
            table.add(batch)
    assert [row[1:3] for row in rows(path)[1:]] == [["France|Italy¦a;b", "France|Italy"], ["", "France|Italy"]]


def test_what_stands_between_labels() -> None:
    assert label_separator(["a", "b"]) == "|"
    assert label_separator(["a|", "b;", "¦"]) == "\u2500"


def test_a_pass_that_fails_leaves_no_predictions(tmp_path: Path) -> None:
    def fail() -> None:
        with predictions_table(str(tmp_path / "predictions.csv"), names(4)) as table:
            table.add(batches(TARGETS, LOGITS)[0])
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert list(tmp_path.iterdir()) == []


def test_tables_in_an_object_store() -> None:
    with object_store():
        write_per_class(evaluated(TARGETS, LOGITS), f"{BUCKET}/run/evaluation/per_class.csv")
        assert files.read_bytes(f"{BUCKET}/run/evaluation/per_class.csv").startswith(b"class_id,label")
