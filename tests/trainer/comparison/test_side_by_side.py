from pathlib import Path

from tests.trainer.comparison.written_runs import line, write_run
from trainer.comparison.runs import read_runs
from trainer.comparison.side_by_side import side_by_side


def test_the_best_comes_first(tmp_path: Path) -> None:
    for name, accuracy, loss in (("a", 0.5, 1.0), ("b", None, 3.0), ("c", 0.75, 2.0)):
        write_run(tmp_path / "all" / name, lines=[line(10, val_accuracy=accuracy, val_loss=loss)])
        write_run(tmp_path / "loss" / name, monitor="loss", lines=[line(10, val_accuracy=accuracy, val_loss=loss)])
    seen = side_by_side(read_runs([str(tmp_path / "all")]))
    assert (seen.monitor, [run.name for run in seen.runs]) == ("accuracy", ["c", "a", "b"])
    seen = side_by_side(read_runs([str(tmp_path / "loss")]))
    assert (seen.monitor, [run.name for run in seen.runs]) == ("loss", ["a", "c", "b"])
    write_run(tmp_path / "loss" / "begun", monitor="loss", lines=[])
    seen = side_by_side(read_runs([str(tmp_path / "loss")]))
    assert [run.name for run in seen.runs] == ["a", "c", "b", "begun"]
    seen = side_by_side(read_runs([str(tmp_path / "all" / "a"), str(tmp_path / "loss" / "c")]))
    assert (seen.monitor, [run.name for run in seen.runs]) == ("accuracy", ["c", "a"])


def test_a_run_is_ranked_by_its_best_checkpoint_and_not_by_its_last(tmp_path: Path) -> None:
    write_run(tmp_path / "early", lines=[line(10, val_accuracy=0.75), line(20, val_accuracy=0.25)])
    write_run(tmp_path / "late", lines=[line(10, val_accuracy=0.25), line(20, val_accuracy=0.5)])
    assert [run.name for run in side_by_side(read_runs([str(tmp_path)])).runs] == ["early", "late"]


def test_runs_on_other_data_are_ranked_apart(tmp_path: Path) -> None:
    for name, accuracy, data in (("a", 0.25, "x"), ("b", 0.75, "y"), ("c", 0.5, "x")):
        write_run(tmp_path / name, lines=[line(10, val_accuracy=accuracy)], data={"fingerprint": data}, dataset=data)
    seen = side_by_side(read_runs([str(tmp_path)]))
    assert [[run.name for run in group] for group in seen.groups] == [["c", "a"], ["b"]]
    assert seen.differing == {"data": ["x", "x", "y"]}


def test_options_that_differ(tmp_path: Path) -> None:
    write_run(tmp_path / "a", model="inception_v3", unfreeze_at=2, learning_rate=1e-3, hidden_units=(64, 32))
    write_run(tmp_path / "b", model="inception_v3", learning_rate=1e-5, dataset="moved")
    seen = side_by_side(read_runs([str(tmp_path)]))
    assert seen.differing == {
        "learning_rate": ["0.001", "1e-05"],
        "unfreeze_at": ["2", "never"],
        "fine_tune_learning_rate": ["0.0001", "1e-06"],
        "hidden_units": ["64,32", "none"],
    }
    assert seen.alike["model"] == "inception_v3"
    assert seen.alike["keras"] == "3"
    assert "dataset" not in seen.alike
    assert not seen.differing.keys() & seen.alike.keys()


def test_an_option_that_a_run_does_not_know(tmp_path: Path) -> None:
    first, second = read_runs([write_run(tmp_path / name) for name in ("a", "b")])
    first.config["options"]["novelty"] = 3
    assert side_by_side([first, second]).differing == {"novelty": ["3", "–"]}
