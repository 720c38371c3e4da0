import shutil
from pathlib import Path
from typing import Any

import pytest

from beam_pipelines import files
from tests.beam_pipelines.html_pages import Page, text_of
from tests.trainer.card.cards import STEP, write_evaluation
from tests.trainer.card.test_data_set import LABELS, pictures_in, run_on
from tests.trainer.evaluation.shown import evaluation, judged
from trainer.model_card import gather_card, write_model_card
from trainer.saved_run import SavedRun

EXAMPLES = (judged("Iran", key="4/0", top=[("Iran", 0.75)]), judged("Japan", key="1/0", top=[("Iran", 0.5)]))


@pytest.fixture
def saved(tmp_path: Path) -> SavedRun:
    """A run on four pictures that was evaluated."""
    saved = run_on(pictures_in(tmp_path / "data"), tmp_path / "run")
    files.write_lines(saved.directory.metrics, ['{"step": 1722, "val_accuracy": 0.5, "val_loss": 1.25}'])
    shown = evaluation(LABELS, ((0, 1), (0, 1)), data=saved.options.dataset)
    (tmp_path / "run" / "evaluation").mkdir()
    write_evaluation(tmp_path / "run" / "evaluation", shown, EXAMPLES)
    return saved


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """The directory of a model's version."""
    directory = tmp_path / "model" / "1"
    files.write_bytes(str(directory / "saved_model.pb"), b"x" * 2_000)
    files.write_bytes(str(directory / "variables" / "variables.index"), b"x" * 500)
    return directory


def info(saved: SavedRun, **changes: Any) -> dict[str, Any]:
    """Returns what `assets/model.json` has."""
    return {
        "checkpoint": "best",
        "image_size": 96,
        "embedding": None,
        "data": {"path": saved.options.dataset, "pictures": saved.options.dataset},
        "metrics": {},
        "versions": {"tensorflow": "2.21.0"},
        **changes,
    }


def written(saved: SavedRun, model: Path, **changes: Any) -> str:
    """Returns the page of the model; it says of itself that it was evaluated on 2 pictures, of which 1 is right."""
    write_model_card(saved, step=STEP, directory=str(model), model_info=info(saved, **changes))
    return (model / "model_card.html").read_text(encoding="utf-8")


def test_a_card_has_what_all_stages_left(saved: SavedRun, model: Path) -> None:
    page = written(saved, model)
    text = text_of(page)
    for fact in (
        "2.5 kB on disk",
        "right for 50.0% of 2",
        "3 pictures",
        "✓ Iran 75.0%",
        "✗ Iran 50.0% is Japan",
        "manifest",
    ):
        assert fact in text, fact
    assert len([value for value in Page(page).values("src") if value and value.startswith("data:image/jpeg")]) == 2


def test_a_card_made_again_is_the_same(saved: SavedRun, model: Path) -> None:
    assert written(saved, model) == written(saved, model)


def test_pictures_are_found_from_the_data_set_too(saved: SavedRun, model: Path) -> None:
    assert "<img" in written(saved, model, data={})


@pytest.mark.parametrize(
    ("gone", "left", "not_left"),
    [
        ("data", "The data set is not where the run found it", "<figure"),
        ("data/train-00000-of-00001.tfrecord", "✓", "✗"),
        ("data/.plan", "✗", "The data set is not where"),
        ("run/evaluation", "There is no evaluation of this checkpoint", "✓"),
        ("run/evaluation/predictions.csv", "Macro F1", "✓"),
        ("run/evaluation/confusions.csv", "There is no evaluation of this checkpoint", "✓"),
        ("run/metrics.jsonl", "Macro F1", "Nothing is known"),
        ("run/config.json", "Macro F1", "Nothing is known"),
    ],
)
def test_what_is_gone_is_left_out(
    saved: SavedRun, model: Path, tmp_path: Path, gone: str, left: str, not_left: str
) -> None:
    path = tmp_path / gone
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    page = written(saved, model)
    assert left in page
    assert not_left not in page


def test_without_an_evaluation_pictures_come_from_the_plan(saved: SavedRun, model: Path, tmp_path: Path) -> None:
    shutil.rmtree(tmp_path / "run" / "evaluation")
    text = text_of(written(saved, model))
    assert "Of these the model was not asked" in text
    assert "Accuracy 50.0%" in text
    assert "Loss 1.25" in text


def test_all_that_can_be_damaged_fails_nothing(saved: SavedRun, model: Path, tmp_path: Path) -> None:
    for folder in (tmp_path / "data", tmp_path / "run"):
        for path in folder.rglob("*"):
            if path.is_file():
                path.write_bytes(b'\xff{[\0,,\n"')
    page = written(saved, model, data="lost", metrics=3, versions=["a"], embedding="b", image_size="c", checkpoint=None)
    assert "Nothing is known of how good it is" in page


def test_a_place_that_cannot_be_reached_fails_nothing(saved: SavedRun, model: Path) -> None:
    found = gather_card(
        saved, step=STEP, directory=str(model), model_info=info(saved, data={"pictures": "nowhere://bucket/data"})
    )
    assert found.pictures == {}
    assert found.evaluated.evaluation


def test_the_page_itself_does_not_count(saved: SavedRun, model: Path) -> None:
    written(saved, model)
    assert gather_card(saved, step=STEP, directory=str(model), model_info=info(saved)).size == 2_500
