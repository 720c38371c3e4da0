import itertools
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.beam_pipelines.builders import hostile_text
from tests.trainer.comparison.written_runs import LINES, line, write_run
from trainer.comparison.page import pairs, relative_link, render_comparison, run_rows
from trainer.comparison.runs import Run, read_runs
from trainer.comparison.side_by_side import side_by_side


def page(*paths: Path | str, output: str = "page.html") -> str:
    return render_comparison(side_by_side(read_runs([str(path) for path in paths])), output=output)


def made_run(name: str) -> Run:
    options = {"model": name, "batch_size": 8, "monitor": "accuracy", "dataset": name}
    data = {"fingerprint": "x", "kind": "images", "train_examples": 8, "validation_examples": 8, "labels": [name]}
    return Run(path=name, name=name, config={"options": options, "data": data, "versions": {}}, lines=LINES)


def test_it_shows_what_the_table_shows(tmp_path: Path) -> None:
    write_run(tmp_path / "augmented", lines=[*LINES, line(1720)])
    write_run(tmp_path / "plain", augmentation="none", lines=[line(10, val_accuracy=0.5)], finished=False)
    html = page(tmp_path)
    assert "<h1>2 runs side by side</h1>" in html
    assert "Best by validation accuracy is <b><bdi>augmented</bdi></b> with 0.7500, at step 20" in html
    rows = [re.sub(r"<[^>]+>", " ", row).split() for row in re.findall(r"<tr>.*?</tr>", html, re.DOTALL)]
    assert ["1", "augmented", "0.7500", "0.8750", "1.2500", "20", "2", "1,720", "100", "small_cnn", "complete"] in rows
    assert ["2", "plain", "0.5000", "–", "–", "10", "1", "10", "100", "small_cnn", "unfinished"] in rows
    assert ["augmentation", "light", "none"] in rows
    assert "different data sets" not in html
    assert "By step." in html


def test_other_data_are_warned_of(tmp_path: Path) -> None:
    write_run(tmp_path / "a", dataset="here")
    write_run(tmp_path / "b", dataset="there", data={"fingerprint": "other"})
    html = page(tmp_path)
    assert "2 different data sets." in html
    assert "Data B: best by" in html


def test_evaluations_are_linked(tmp_path: Path) -> None:
    found = {"split": "validation", "examples": 40, "step": 20, "accuracy": 0.75, "macro_f1": 0.5, "loss": None}
    write_run(tmp_path / "a run", evaluation=found)
    (tmp_path / "a run" / "evaluation" / "evaluation.html").touch()
    html = page(tmp_path / "a run", output=str(tmp_path / "pages" / "page.html"))
    assert '<a href="../a%20run/evaluation/evaluation.html">' in html
    assert ">macro F1</th>" in html
    assert ">mean average precision</th>" not in html


@pytest.mark.parametrize(
    ("path", "output", "expected"),
    [
        ("/x/run/e.html", "/x/page.html", "run/e.html"),
        ("/x/run/e.html", "/y/page.html", "../x/run/e.html"),
        ("/x/a?#%.html", "/x/page.html", "a%3F%23%25.html"),
        ("gs://b/e.html", "/x/page.html", ""),
        ("/x/e.html", "gs://b/page.html", ""),
        ("", "/x/page.html", ""),
    ],
)
def test_links(path: str, output: str, expected: str) -> None:
    assert relative_link(path, output=output) == expected


def test_a_step_is_not_as_many_examples_for_all(tmp_path: Path) -> None:
    write_run(tmp_path / "a", batch_size=16)
    write_run(tmp_path / "b", batch_size=64)
    seen = side_by_side(read_runs([str(tmp_path)]))
    charts = [chart for pair in pairs(run_rows(seen, output=""), by_steps=False) for chart in pair.charts]
    assert {chart.across.high for chart in charts} == {30 * 64}
    one, other = charts[0].curves
    assert (one.end[0], other.end[0]) == (25, 100)
    assert (one.mark or (0,))[0] == pytest.approx(100 * 20 * 16 / (30 * 64), abs=1e-3)
    assert "By examples seen" in page(tmp_path)


def test_charts(tmp_path: Path) -> None:
    lines = [line(step, accuracy=0.5, learning_rate=0.1, val_loss=1.0, val_accuracy=0.5) for step in (10, 20)]
    (run,) = read_runs([write_run(tmp_path / "run", lines=lines)])
    made = pairs(run_rows(side_by_side([run]), output=""), by_steps=True)
    told = {pair.title: [chart.title for chart in pair.charts] for pair in made}
    assert told == {"Accuracy": ["Validation", "Training"], "Loss": ["Validation", "Training"], "Learning rate": [""]}
    validation, training = made[0].charts
    assert validation.curves[0].mark
    assert training.curves[0].mark is None


def test_a_run_that_has_only_begun_has_no_curves(tmp_path: Path) -> None:
    html = page(write_run(tmp_path / "run", lines=[], finished=False))
    assert 'id="curves"' not in html
    assert "<script>" not in html


def test_styles_of_runs_differ_not_by_colour_alone() -> None:
    rows = run_rows(side_by_side([made_run(f"{number}") for number in range(40)]), output="")
    assert len({(row.colour, row.dash) for row in rows}) == 40
    assert all(one.dash != other.dash for one, other in itertools.pairwise(rows))


def test_a_run_of_many_lines_makes_a_small_page(tmp_path: Path) -> None:
    lines = [line(step, accuracy=step % 7 / 7, learning_rate=1 / step) for step in range(1, 30_000)]
    assert len(page(write_run(tmp_path / "run", lines=lines))) < 60_000


@given(st.lists(hostile_text.filter(str.strip), min_size=1, max_size=3, unique=True))
def test_hostile_names_are_shown_and_do_no_harm(names: list[str]) -> None:
    runs = [made_run(f"<script>alert(1)</script>{name}") for name in names]
    html = render_comparison(side_by_side(runs), output="")
    html.encode()
    assert html.count("<script>") == 1
    assert "<script>alert" not in html


def test_the_same_runs_give_the_same_page(tmp_path: Path) -> None:
    write_run(tmp_path / "a")
    write_run(tmp_path / "b", seed=2)
    assert page(tmp_path) == page(tmp_path)
    assert not re.search(r"https?:", page(tmp_path).replace("http://www.w3.org/2000/svg", ""))
