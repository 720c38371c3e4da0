import io
import warnings
from pathlib import Path

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image

from beam_pipelines import files
from beam_pipelines.drawing import as_png
from tests.beam_pipelines.builders import BUCKET, object_store
from tests.trainer.evaluation.shown import bins, evaluation, many_classes, several_labels
from trainer.evaluation.charts import calibration_figure, confusion_figure, draw_calibration, draw_confusion_matrix
from trainer.evaluation.figures import Evaluation

TEAL, RUST = (0x16, 0x65, 0x5D), (0x96, 0x3C, 0x05)
HOSTILE = ["$\\frac$", "a\nb\0", "漢字" * 50]


def texts(figure: Figure | None) -> set[str]:
    """Returns what is written in a figure's charts."""
    assert figure
    axes = figure.axes[0]
    ticks = [*axes.get_xticklabels(), *axes.get_yticklabels()]
    return {text.get_text() for text in (*axes.texts, *ticks)}


def heights(axes: Axes) -> list[float]:
    """Returns how high the bars of a chart are."""
    return [bar.get_height() for bar in axes.patches if isinstance(bar, Rectangle)]


def pixels(png: bytes) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))


def test_few_classes_have_names_and_counts() -> None:
    assert {"t-shirt", "pants", "hat", "50", "10", "4", "30", "1", "5"} <= texts(confusion_figure(evaluation()))


@pytest.mark.parametrize(("classes", "named"), [(45, True), (70, False)])
def test_more_classes_have_names_and_very_many_have_numbers(classes: int, named: bool) -> None:
    found = texts(confusion_figure(many_classes(classes)))
    assert any(text.startswith("Attic workshop") for text in found) == named
    assert all(len(text) <= 24 for text in found)
    assert named or {text for text in found if text} <= {f"{number}" for number in range(classes)}


@pytest.mark.parametrize("classes", [2, 26, 600])
def test_the_size_is_that_of_a_picture_to_look_at(classes: int) -> None:
    shown = many_classes(classes) if classes > 2 else evaluation(("a", "b"), ((3, 1), (0, 2)))
    figure = confusion_figure(shown)
    assert figure
    width, height = figure.get_size_inches() * figure.dpi
    assert 500 <= width <= 2_500
    assert 500 <= height <= 2_500


def test_right_and_wrong_have_colours_of_their_own() -> None:
    right, wrong = (
        pixels(as_png(confusion_figure(evaluation(("a", "b"), counts)) or Figure()))
        for counts in (((9, 0), (0, 9)), ((0, 9), (9, 0)))
    )
    for image, colour, other in ((right, TEAL, RUST), (wrong, RUST, TEAL)):
        assert (image == colour).all(axis=2).mean() > 0.1
        assert not (image == other).all(axis=2).any()


def test_of_several_labels_there_is_no_matrix(tmp_path: Path) -> None:
    draw_confusion_matrix(several_labels(), str(tmp_path / "matrix.png"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "shown", [evaluation(), several_labels(), evaluation(calibration=bins((0, np.nan, np.nan), (0, np.nan, np.nan)))]
)
def test_the_calibration_shows_what_there_is(shown: Evaluation) -> None:
    reliability, counts = calibration_figure(shown).axes
    known = [row for row in shown.calibration if row.examples]
    assert heights(reliability) == [row.accuracy for row in known]
    assert heights(counts) == [row.examples for row in known]


def test_labels_from_outside_are_drawn_as_they_stand(tmp_path: Path) -> None:
    shown = evaluation(HOSTILE, ((3, 0, 1), (0, 2, 1), (1, 1, 1)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        draw_confusion_matrix(shown, str(tmp_path / "matrix.png"))
        draw_calibration(shown, str(tmp_path / "calibration.png"))
    assert {Image.open(path).format for path in tmp_path.iterdir()} == {"PNG"}
    assert "$\\frac$" in texts(confusion_figure(shown))


def test_charts_can_lie_in_an_object_store() -> None:
    with object_store():
        draw_confusion_matrix(evaluation(), f"{BUCKET}/matrix.png")
        draw_calibration(evaluation(), f"{BUCKET}/calibration.png")
        assert files.list_files(BUCKET) == ["calibration.png", "matrix.png"]
        assert files.read_bytes(f"{BUCKET}/matrix.png") == as_png(confusion_figure(evaluation()) or Figure())
