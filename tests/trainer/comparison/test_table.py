from pathlib import Path

from tests.trainer.comparison.written_runs import LINES, line, write_run
from trainer.comparison.runs import read_runs
from trainer.comparison.side_by_side import side_by_side
from trainer.comparison.table import aligned, text_table


def table(*paths: Path) -> str:
    return text_table(side_by_side(read_runs([str(path) for path in paths])))


def test_two_runs(tmp_path: Path) -> None:
    worse = [line(10, val_accuracy=0.5, val_recall_at_5=0.625, val_loss=1.75, examples_per_second=12_345.6)]
    write_run(tmp_path / "plain", lines=worse, augmentation="none")
    write_run(tmp_path / "augmented", lines=[*LINES, line(1720)])
    assert table(tmp_path).splitlines() == [
        "run        accuracy  recall_at_5    loss  best_step  epoch  steps  examples/s  model",
        "augmented    0.7500       0.8750  1.2500         20      2  1,720         100  small_cnn",
        "plain        0.5000       0.6250  1.7500         10      1     10      12,346  small_cnn",
        "figures of validation at the best checkpoint, ranked by accuracy",
        "",
        "option        augmented  plain",
        "augmentation  light      none",
    ]


def test_an_unfinished_run_without_figures(tmp_path: Path) -> None:
    write_run(tmp_path / "begun", lines=[], finished=False)
    write_run(tmp_path / "done")
    header, done, begun, *_, last = table(tmp_path).splitlines()
    assert header.endswith("model      state")
    assert done.endswith("small_cnn  complete")
    assert begun.split() == ["begun", "–", "–", "–", "–", "–", "0", "–", "small_cnn", "unfinished"]
    assert last == "no option differs"


def test_one_run_has_nothing_to_differ_from(tmp_path: Path) -> None:
    write_run(tmp_path / "run")
    assert len(table(tmp_path / "run").splitlines()) == 3


def test_evaluations(tmp_path: Path) -> None:
    found = {"accuracy": 0.75, "loss": None, "macro_f1": 0.5, "step": 1200, "examples": 40, "split": "validation"}
    write_run(tmp_path / "a", evaluation=found)
    write_run(tmp_path / "b")
    lines = table(tmp_path).splitlines()
    assert lines[5:7] == [
        "evaluated  accuracy  macro_f1   step  examples",
        "a            0.7500    0.5000  1,200  40 of validation",
    ]


def test_other_data_are_named_with_a_warning(tmp_path: Path) -> None:
    write_run(tmp_path / "a", dataset="first")
    write_run(tmp_path / "b", dataset="second", data={"fingerprint": "other", "validation_examples": 1234})
    lines = table(tmp_path).splitlines()
    assert [row[-1] for row in lines[1:3]] == ["A", "B"]
    assert lines[-3:] == [
        "The runs are on 2 different data sets: do not compare figures across them.",
        "  A: first, 160 to train on, 40 to validate on, 2 labels (a)",
        "  B: second, 160 to train on, 1,234 to validate on, 2 labels (b)",
    ]


def test_many_runs_are_shown_the_other_way_round(tmp_path: Path) -> None:
    for number in range(12):
        write_run(tmp_path / f"a-run-of-number-{number:02d}", seed=number)
    lines = table(tmp_path).splitlines()
    assert lines[15].split() == ["run", "seed"]
    assert lines[-1].split() == ["a-run-of-number-11", "11"]
    assert max(map(len, lines)) <= 120


def test_a_long_path_shows_its_end(tmp_path: Path) -> None:
    for name in ("x", "y"):
        write_run(tmp_path / name, model="inception_v3", weights=f"/a/long/way/to/the/weights/{name}.h5")
    assert table(tmp_path).splitlines()[-1].split() == [
        "weights",
        "…way/to/the/weights/x.h5",
        "…way/to/the/weights/y.h5",
    ]


def test_columns_are_as_wide_as_their_longest_text() -> None:
    assert aligned([["a", "b", "c"], ["long", "1", ""], ["", "22", "x"]], numbers=[1]) == (
        "a      b  c\nlong   1\n      22  x"
    )
