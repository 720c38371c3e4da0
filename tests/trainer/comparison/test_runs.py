import json
from pathlib import Path
from typing import Any

import pytest

from beam_pipelines.errors import OptionError
from tests.beam_pipelines.builders import BUCKET, object_store
from tests.trainer.comparison.written_runs import LINES, line, write_run
from trainer.comparison.runs import Best, Run, data_groups, distinct_names, read_runs


def names(groups: list[list[Run]]) -> list[list[str]]:
    return [[run.name for run in group] for group in groups]


def test_a_finished_run(tmp_path: Path) -> None:
    found = {"accuracy": 0.75, "split": "validation"}
    (run,) = read_runs([write_run(tmp_path / "run", evaluation=found, model="head")])
    assert (run.name, run.path) == ("run", str(tmp_path / "run"))
    assert run.options["model"] == "head"
    assert (run.step, run.state, run.speed) == (30, "complete", 100.0)
    assert run.points("val_loss") == [(10, 1.5), (20, 1.25), (30, 1.125)]
    assert run.evaluation == found
    assert run.evaluation_page == ""
    (tmp_path / "run" / "evaluation" / "evaluation.html").touch()
    (again,) = read_runs([run.path])
    assert again.evaluation_page == str(tmp_path / "run" / "evaluation" / "evaluation.html")


@pytest.mark.parametrize(
    ("monitor", "step", "recall"), [("accuracy", 20, 0.875), ("recall_at_5", 30, 1.0), ("loss", 30, 1.0)]
)
def test_the_best_checkpoint_is_the_first_of_the_best_by_the_monitored_metric(
    tmp_path: Path, monitor: str, step: int, recall: float
) -> None:
    (run,) = read_runs([write_run(tmp_path / "run", monitor=monitor)])
    assert run.best
    assert (run.best.step, run.best.epoch, run.best.accuracy) == (step, step // 10, 0.75)
    assert run.best.recall_at_5 == recall


def test_a_run_in_training(tmp_path: Path) -> None:
    run_path = write_run(tmp_path / "run", finished=False)
    with open(tmp_path / "run" / "metrics.jsonl", "a", encoding="utf-8") as metrics:
        metrics.write('[]\n{"step": "40"}\n{"loss": 1}\n\n{"step": 40, "loss": null}\n{"step": 50, "lo')
    (run,) = read_runs([run_path])
    assert (run.step, run.state) == (40, "unfinished")
    assert run.points("loss") == [(10, 1.0), (20, 1.0), (30, 1.0)]


def test_figures_that_are_no_numbers_are_passed_over(tmp_path: Path) -> None:
    lines = [
        line(10, val_accuracy=0.25, val_loss=None),
        line(20, val_accuracy=None),
        line(30, val_accuracy=float("nan"), val_loss=float("inf")),
    ]
    (run,) = read_runs([write_run(tmp_path / "run", lines=lines)])
    assert run.best == Best(step=10, epoch=1, accuracy=0.25, recall_at_5=None, loss=None)
    assert run.points("val_loss") == []


def test_a_run_that_has_only_begun(tmp_path: Path) -> None:
    path = write_run(tmp_path / "run", finished=False)
    (tmp_path / "run" / "metrics.jsonl").unlink()
    (run,) = read_runs([path])
    assert (run.step, run.state, run.best, run.speed, run.points("loss")) == (0, "unfinished", None, None, [])


def test_a_directory_of_runs_means_all_of_them_each_once(tmp_path: Path) -> None:
    for name in ("b", "a"):
        write_run(tmp_path / "runs" / name)
    (tmp_path / "runs" / "notes").mkdir()
    (tmp_path / "runs" / "list.txt").touch()
    write_run(tmp_path / "c")
    given = [f"{tmp_path}/runs/b/", f"{tmp_path}/runs", f"{tmp_path}/c", f"{tmp_path}/runs/../c"]
    assert [run.name for run in read_runs(given)] == ["b", "a", "c"]


def test_runs_in_an_object_store(tmp_path: Path) -> None:
    with object_store():
        write_run(f"{BUCKET}/runs/a")
        write_run(f"{BUCKET}/runs/b", finished=False)
        local = write_run(tmp_path / "a")
        runs = read_runs([f"{BUCKET}/runs", local])
        assert [(run.path, run.state) for run in runs] == [
            (f"{BUCKET}/runs/a", "complete"),
            (f"{BUCKET}/runs/b", "unfinished"),
            (local, "complete"),
        ]
        assert [run.name for run in runs] == ["runs/a", "b", f"{tmp_path.name}/a"]


def test_what_is_no_run_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()
    for name in ("missing", "empty"):
        with pytest.raises(OptionError, match=f"{name} is no run, it has no file config.json, and no directory in it"):
            read_runs([str(tmp_path / name)])
    with pytest.raises(OptionError, match="file is a file: give the directory of a run"):
        read_runs([str(tmp_path / "file")])


@pytest.mark.parametrize(
    "content",
    [
        b"{",
        b"[]",
        b"{}",
        b'{"format": 1, "options": [], "data": {}}',
        b'{"format": 1, "options": {"model": "head"}, "data": {}}',
    ],
)
def test_a_configuration_of_something_else_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "config.json").write_bytes(content)
    with pytest.raises(OptionError, match=r"config\.json is not what training wrote"):
        read_runs([str(tmp_path)])


@pytest.mark.parametrize("content", ["{", "[]"])
def test_an_evaluation_of_something_else_is_refused(tmp_path: Path, content: str) -> None:
    path = write_run(tmp_path / "run", evaluation={})
    (tmp_path / "run" / "evaluation" / "evaluation.json").write_text(content)
    with pytest.raises(OptionError, match=r"evaluation\.json is not what trainer\.evaluate wrote"):
        read_runs([path])


@pytest.mark.parametrize(
    ("paths", "expected"),
    [
        (["/x/a", "/x/b"], ["a", "b"]),
        (["/x/1/run", "/x/2/run", "/x/other"], ["1/run", "2/run", "other"]),
        (["/1/x/run", "/2/x/run", "/2/y/run"], ["1/x/run", "2/x/run", "y/run"]),
        (["gs://b/x/run", "gs://c/x/run"], ["b/x/run", "c/x/run"]),
        (["/run", "/x/run"], ["/run", "x/run"]),
    ],
)
def test_names_tell_runs_apart(paths: list[str], expected: list[str]) -> None:
    assert distinct_names(paths) == expected


def test_labels(tmp_path: Path) -> None:
    paths = [write_run(tmp_path / name) for name in ("a", "b")]
    assert [run.name for run in read_runs(paths, labels={"b": "the other"})] == ["a", "the other"]
    with pytest.raises(OptionError, match="--labels c=C names no run: the runs are a, b"):
        read_runs(paths, labels={"c": "C"})
    with pytest.raises(OptionError, match="2 runs would be called a: give them different ones"):
        read_runs(paths, labels={"b": "a"})


class TestData:
    def test_other_places_are_the_same_data(self, tmp_path: Path) -> None:
        runs = read_runs([write_run(tmp_path / name, dataset=name) for name in ("a", "b")])
        assert names(data_groups(runs)) == [["a", "b"]]

    def test_other_pictures_are_other_data(self, tmp_path: Path) -> None:
        self.write_data_set(tmp_path / "dataset", {"fingerprint": "asked for alike"})
        for name, fingerprint in (("a", "x"), ("b", "y"), ("c", "x")):
            write_run(tmp_path / "runs" / name, data={"fingerprint": fingerprint}, dataset=str(tmp_path / "dataset"))
        assert names(data_groups(read_runs([str(tmp_path / "runs")]))) == [["a", "c"], ["b"]]

    @pytest.mark.parametrize(
        ("origin", "examples", "expected"),
        [
            ("pictures", 40, [["embedded", "other", "pixels"]]),
            ("other pictures", 40, [["embedded", "other"], ["pixels"]]),
            ("pictures", 39, [["embedded"], ["other", "pixels"]]),
        ],
    )
    def test_embeddings_are_the_data_that_their_pictures_are(
        self, tmp_path: Path, origin: str, examples: int, expected: list[list[str]]
    ) -> None:
        self.write_data_set(tmp_path / "dataset", {"fingerprint": "pictures"})
        write_run(tmp_path / "runs" / "pixels", dataset=str(tmp_path / "dataset"))
        for name in ("embedded", "other"):
            place = tmp_path / f"{name}-vectors"
            self.write_data_set(place, {"fingerprint": name, "dataset": {"fingerprint": origin}})
            found = examples if name == "embedded" else 40
            data = {"fingerprint": name, "kind": "embeddings", "validation_examples": found}
            write_run(tmp_path / "runs" / name, data=data, dataset=str(place), model="head")
        assert names(data_groups(read_runs([str(tmp_path / "runs")]))) == expected

    @pytest.mark.parametrize("content", [None, "{", "[]", '{"dataset": "x"}'])
    def test_embeddings_of_unknown_pictures_are_other_data(self, tmp_path: Path, content: str | None) -> None:
        data = {"fingerprint": "vectors", "kind": "embeddings"}
        if content:
            (tmp_path / "dataset_info.json").write_text(content)
        paths = [
            write_run(tmp_path / "a", dataset=str(tmp_path)),
            write_run(tmp_path / "b", data=data, dataset=str(tmp_path), model="head"),
        ]
        assert names(data_groups(read_runs(paths))) == [["a"], ["b"]]

    def test_foreign_files(self, tmp_path: Path) -> None:
        given: dict[str, Any] = {"train_data_paths": ("x", "y"), "labels_file": "l", "dataset": ""}
        paths = [
            write_run(tmp_path / "a", **given),
            write_run(tmp_path / "b", data={"fingerprint": "other", "kind": "embeddings"}, **given, model="head"),
        ]
        runs = read_runs(paths)
        assert names(data_groups(runs)) == [["a"], ["b"]]
        assert runs[0].place == "x,y"

    @staticmethod
    def write_data_set(path: Path, info: dict[str, object]) -> None:
        path.mkdir()
        (path / "dataset_info.json").write_text(json.dumps(info))


def test_the_lines_of_a_run_are_not_changed_by_reading(tmp_path: Path) -> None:
    (run,) = read_runs([write_run(tmp_path / "run")])
    assert list(run.lines) == list(LINES)
