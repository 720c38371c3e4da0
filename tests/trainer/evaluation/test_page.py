import base64
import dataclasses
import hashlib
import io
import re
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from PIL import Image

from beam_pipelines.picture_lookup import Picture
from tests.beam_pipelines.builders import hostile_text
from tests.beam_pipelines.html_pages import ATTACK, Page, policy, text_of
from tests.trainer.evaluation.shown import bins, evaluation, judged, many_classes, picture, several_labels
from trainer.evaluation.confusion import Matrix, shown_matrix
from trainer.evaluation.figures import Evaluation, Judged
from trainer.evaluation.page import (
    PageInfo,
    Rate,
    Scored,
    class_rows,
    confidence,
    grid,
    headline,
    outcome,
    pixels,
    render_evaluation,
    shade,
    tile,
)

INFO = PageInfo(
    options={"model": "small_cnn", "steps": 1722, "hidden_units": [512, 256], "labels_file": "", "unfreeze_at": None},
    versions={"keras": "3.15.1"},
    command="python -m trainer.evaluate --run /runs/shirts",
)
WAVE = picture(title="Wave", artist="Hokusai", date="1831", credit_line="Rogers Fund")


def render(shown: Evaluation | None = None, *pictures: tuple[str, Picture], info: PageInfo = INFO) -> str:
    """Returns the page, by default of the shirts."""
    return render_evaluation(shown or evaluation(), dict(pictures), info=info)


def matrix(shown: Evaluation) -> Matrix:
    found = shown_matrix(shown)
    assert found
    return found


def test_the_headline_has_the_counts_behind_it() -> None:
    figures = {figure.name: figure for figure in headline(evaluation())}
    assert list(figures) == ["Accuracy", "Recall at 5", "Macro F1", "Calibration error"]
    assert (figures["Accuracy"].value, figures["Accuracy"].counts) == ("80.0%", "80 of 100")
    assert "Always saying “t-shirt” would be right for 60.0%." in figures["Accuracy"].meaning
    assert (figures["Recall at 5"].counts, figures["Macro F1"].counts) == ("100 of 100", "mean of 3 classes")
    assert "There are no more classes than that." in figures["Recall at 5"].meaning
    assert (figures["Calibration error"].value, figures["Calibration error"].counts) == ("6.0%", "over 100 scores")


def test_the_headline_of_several_labels() -> None:
    figures = {figure.name: figure for figure in headline(several_labels())}
    assert figures["Accuracy"].counts == "60 of 80"
    assert "have one of their labels" in figures["Accuracy"].meaning
    assert figures["Recall at 5"].counts == "mean of 80"
    assert (figures["Mean average precision"].value, figures["Mean average precision"].counts) == (
        "65.0%",
        "mean of 2 classes",
    )


def test_what_became_of_the_examples_adds_up() -> None:
    assert [(part.name, part.count) for part in outcome(evaluation())] == [("first", 80), ("missed", 20)]
    several = many_classes(50, examples=1_000)
    several = dataclasses.replace(several, recall_at_5=0.9)
    right = round(several.accuracy * 1_000)
    assert {part.name: part.count for part in outcome(several)} == {"first": right, "among": 900 - right, "missed": 100}
    assert [(part.name, part.count) for part in outcome(several_labels())] == [("first", 60), ("missed", 20)]


@pytest.mark.parametrize(("share", "level"), [(0, 0), (1e-6, 1), (0.015, 1), (0.016, 2), (0.25, 4), (0.26, 5), (1, 8)])
def test_rare_mistakes_still_show(share: float, level: int) -> None:
    assert shade(share) == level


def test_cells_have_their_counts_and_the_diagonal_is_right() -> None:
    first, second, third = grid(matrix(evaluation()))
    assert (first.label, first.examples) == ("t-shirt", 60)
    assert [cell.count for cell in second.cells] == [4, 30, 1]
    assert [cell.is_right for cell in second.cells] == [False, True, False]
    assert [cell.shade for cell in third.cells] == [0, 8, 0]


def test_the_picture_of_many_classes_has_a_pixel_for_each_cell() -> None:
    shown = matrix(many_classes(60))
    found = pixels(shown)
    image = np.asarray(Image.open(io.BytesIO(base64.b64decode(found.png))).convert("RGBA"))
    assert image.shape == (60, 60, 4)
    assert ((image[..., 3] > 0) == (shown.counts > 0)).all()
    row, column = np.argwhere((shown.counts > 0) & ~np.eye(60, dtype=bool))[0]
    right, wrong = image[row, row, :3], image[row, column, :3]
    assert right[1] > right[0]
    assert wrong[0] > wrong[1]


def test_every_cell_is_listed() -> None:
    shown = matrix(many_classes(60))
    found = pixels(shown)
    listed = np.zeros_like(shown.counts)
    for row, cells in enumerate(found.cells.split(";")):
        for cell in filter(None, cells.split(",")):
            column, count = map(int, cell.split(":"))
            listed[row, column] = count
    assert listed.tolist() == shown.counts.tolist()
    assert (found.numbers.split(), found.least) == ([str(number) for number in shown.numbers], 1)


def test_of_very_many_cells_the_largest_are_listed() -> None:
    counts = np.full((300, 300), 3, np.int64)
    counts[:, :150] = 4
    counts[:, :90] = 5
    found = pixels(matrix(evaluation([str(number) for number in range(300)], counts)))
    assert found.least == 5
    assert found.cells.count(":") == 27_000


def test_classes_come_from_the_commonest_on_with_what_is_known() -> None:
    rows = class_rows(evaluation(counts=((0, 0, 0), (1, 30, 0), (10, 40, 0))))
    assert [row.label for row in rows] == ["hat", "pants", "t-shirt"]
    none = Rate(text="–", width=None)
    assert rows[0].rates == [none, Rate(text="0%", width=0.0), Rate(text="0%", width=0.0)]
    assert rows[1].rates == [
        Rate(text="42.9%", width=42.9),
        Rate(text="96.8%", width=96.8),
        Rate(text="59.4%", width=59.4),
    ]
    assert rows[2].rates == [Rate(text="0%", width=0.0), none, none]
    assert [len(row.rates) for row in class_rows(several_labels())] == [4, 4, 4]


@pytest.mark.parametrize(
    ("accuracy", "kind"), [(0.5, "over"), (0.791, "even"), (0.8, "even"), (0.809, "even"), (0.9, "under")]
)
def test_confidence_is_told_by_the_mean_score(accuracy: float, kind: str) -> None:
    found = confidence(bins((0, np.nan, np.nan), (10, 0.75, accuracy), (10, 0.85, accuracy)))
    assert found
    assert found.kind == kind
    assert found.score == pytest.approx(0.8)
    assert found.right == pytest.approx(accuracy)


def test_without_scores_nothing_is_said_of_confidence() -> None:
    assert confidence(bins((0, np.nan, np.nan))) is None


def test_a_tile_tells_the_prediction_and_the_label() -> None:
    top = [("pants", 0.9996), ("hat", 0.0002), ("t-shirt", 0.0015), ("shoes", 0.0001)]
    found = tile(judged("hat", "gloves", top=top), {"17/0": WAVE})
    assert found.prediction == Scored(label="pants", score=">99.9%")
    assert found.labels == [Scored(label="hat", score="<0.1%"), Scored(label="gloves", score="")]
    assert found.others == [Scored(label="t-shirt", score="0.1%")]
    assert not found.is_right
    assert (found.title, list(found.lines)) == ("Wave", ["artist", "date", "credit_line"])
    assert found.address.link == "https://museum.example/17.jpg"


def test_a_tile_without_a_picture_has_its_key() -> None:
    found = tile(judged("pants"), {})
    assert (found.data, found.title, found.is_key, found.address.link) == ("", "17/0", True, "")
    assert found.is_right


def test_the_page_says_what_there_is() -> None:
    text = text_of(render(evaluation(), ("17/0", WAVE), ("18/0", picture())))
    for fact in (
        "80.0% right",
        "80 of 100 validation pictures in 3 classes, by small_cnn at step 1,722 (best)",
        "hat pants 5 100%",
        "The model is under-confident : its scores are 78.0% on average, and 80.0% of its predictions are right",
        "✗ pants 75.0% is hat 20.0%",
        "Wave Hokusai 1831 Rogers Fund",
        "2 pictures as they come, chosen by hash; 1 ✓ right and 1 ✗ wrong.",
        "python -m trainer.evaluate --run /runs/shirts",
        "hidden_units 512, 256",
        "unfreeze_at not set",
        "keras 3.15.1",
    ):
        assert fact in text, fact
    assert "no pictures to show" not in text
    assert "no picture " not in text


def test_the_page_of_several_labels_has_no_matrix() -> None:
    page = render(several_labels(), ("17/0", WAVE))
    assert 'id="matrix"' not in page
    assert 'id="confusions"' not in page
    text = text_of(page)
    assert "Mean average precision 65.0%" in text
    assert "the scores of all classes are 21.7% on average, and 12.5% of them are of a label" in text
    assert "✗ gloves 75.0% is hat 20.0% , shoes" in text
    assert "✓ hat 90.0% is hat 90.0% , shoes" in text


def test_one_picture_may_be_absent() -> None:
    text = text_of(render(evaluation(), ("18/0", picture())))
    assert "no picture ✗ pants" in text
    assert "no pictures to show" not in text


@pytest.mark.parametrize(
    ("key", "reason"),
    [("17/0", "/data/shirts has none of its own. Give --pictures"), ("", "these examples have no names")],
)
def test_a_page_without_pictures_says_why(key: str, reason: str) -> None:
    example = judged(key=key)
    page = render(evaluation(mistakes=(example,), sample=(example,)))
    assert reason in text_of(page)
    assert "✗ pants 75.0%" in text_of(page)
    assert "<img" not in page


def test_a_model_without_a_mistake() -> None:
    page = render(evaluation(counts=((2, 0, 0), (0, 3, 0), (0, 0, 4)), mistakes=()))
    assert "100% right" in text_of(page)
    assert 'id="mistakes"' not in page
    assert 'id="confusions"' not in page


def test_figures_that_are_not_known_are_a_dash() -> None:
    nothing = evaluation(counts=((0, 0), (0, 1)), labels=("a", "b"), calibration=bins((0, np.nan, np.nan)))
    nothing = dataclasses.replace(nothing, classes=nothing.classes[:1], sample=(), mistakes=())
    text = text_of(render(nothing))
    assert "Macro F1 –" in text
    assert "There are no scores to judge." in text
    assert "nan" not in text


@pytest.mark.parametrize("classes", [2, 41, 600])
def test_the_matrix_is_a_table_where_there_is_room(classes: int) -> None:
    page = render(evaluation(("a", "b"), ((1, 0), (0, 1))) if classes == 2 else many_classes(classes))
    assert ('<table class="confusion' in page) == (classes == 2)
    assert ('class="pixels"' in page) == (classes > 2)
    assert page.count("<tr data-number=") == classes


def test_a_page_of_many_classes_is_small() -> None:
    shown = many_classes(600)
    pictures = [(example.key, WAVE) for example in (*shown.mistakes, *shown.sample)]
    thumbnails = sum(len(small.jpeg) for _, small in pictures) * 4 // 3
    assert len(render(shown, *pictures).encode()) - thumbnails < 600_000


def test_the_page_loads_nothing_and_runs_only_its_own() -> None:
    page = render(many_classes(60), ("17/0", WAVE))
    allowed = policy(page)
    assert allowed["default-src"] == ["'none'"]
    assert allowed["img-src"] == ["data:"]
    for tag in ("style", "script"):
        sources = re.findall(f"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
        digests = [base64.b64encode(hashlib.sha256(source.encode()).digest()).decode() for source in sources]
        assert sources
        assert allowed[f"{tag}-src"] == [f"'sha256-{digest}'" for digest in digests]
    parsed = Page(page)
    assert all(value and value.startswith("data:") for value in parsed.values("src"))
    assert not {"link", "iframe", "object", "embed", "base", "form"} & set(parsed.tags)
    assert not [name for _, name, _ in parsed.attributes if name.startswith("on") or name in ("style", "srcset")]
    assert "@import" not in page
    assert "url(" not in page


def attacked(text: str) -> str:
    """Returns a page in which everything from outside is `text`."""
    labels = (text, f"{text} 1", f"{text} 2")
    example = Judged(key=text, labels=labels[:1], top=((labels[1], 0.75), (labels[2], 0.25)))
    shown = evaluation(
        labels, run=f"/runs/{text}", model=text, data=text, mistakes=(example,), sample=(example,), checkpoint=text
    )
    known = dict.fromkeys(("title", "artist", "date", "credit_line", "rights"), text)
    work = dataclasses.replace(picture(**known), uri=text)
    info = PageInfo(options={"dataset": text}, versions={"keras": text}, command=text)
    return render(shown, (text, work), info=info)


def test_nothing_from_outside_becomes_an_element() -> None:
    harmless, page = attacked("a"), attacked(ATTACK)
    assert Page(page).tags == Page(harmless).tags
    assert Page(page).kinds() == Page(harmless).kinds()
    assert ATTACK in text_of(page)
    assert "49" not in [text.strip() for text in Page(page).texts]


@settings(max_examples=15, deadline=None)
@given(text=hostile_text)
def test_any_text_can_be_shown(text: str) -> None:
    page = attacked(text)
    page.encode()
    assert all(character.isprintable() or character == "\n" for character in page)


@pytest.mark.parametrize(
    ("uri", "links"), [("https://museum.example/1", 2), ("javascript:alert(1)", 0), ("/a/b.jpg", 0)]
)
def test_only_addresses_of_the_web_are_links(uri: str, links: int) -> None:
    example = judged()
    work = dataclasses.replace(WAVE, uri=uri)
    page = Page(render(evaluation(mistakes=(example,), sample=(example,)), ("17/0", work)))
    assert len([value for value in page.values("href") if not (value or "").startswith("#")]) == links


def test_sections_of_the_contents_are_there() -> None:
    page = Page(render(evaluation(), ("17/0", WAVE)))
    targets = {value[1:] for value in page.values("href") if value and value.startswith("#")}
    assert targets <= set(page.values("id"))
    assert {"facts", "matrix", "classes", "calibration", "mistakes", "sample", "made"} <= targets
    ids = page.values("id")
    assert len(ids) == len(set(ids))


def test_the_same_evaluation_gives_the_same_page() -> None:
    assert render(many_classes(60)) == render(many_classes(60))


def test_it_needs_no_tensorflow() -> None:
    program = (
        "import sys, trainer.evaluation.page\nassert not {'tensorflow', 'keras', 'apache_beam'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_options_of_any_kind_are_shown() -> None:
    options: dict[str, Any] = {"learning_rate": 0.001, "epochs": 12, "flag": True, "paths": []}
    text = text_of(render(info=dataclasses.replace(INFO, options=options)))
    assert "learning_rate 0.001 epochs 12 flag true paths not set" in text
