import base64
import dataclasses
import hashlib
import re
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given, settings

from beam_pipelines.rejects import Kind
from beam_pipelines.report.reasons import reason_rows
from tests.beam_pipelines.builders import hostile_text
from tests.beam_pipelines.html_pages import ATTACK, Page, policy, text_of
from tests.trainer.card.cards import card, data_facts, saved_run
from tests.trainer.evaluation.shown import evaluation, judged, many_classes, picture, several_labels
from trainer.card.data_set import Account, DataFacts, Embeddings
from trainer.card.evaluated import Evaluated
from trainer.card.page import Card, card_rows, columns, file_size, network, render_card
from trainer.evaluation.figures import Judged
from trainer.options import resolve
from trainer.run_directory import RunDirectory

RESNET = Embeddings(backbone="resnet50", weights="imagenet", weights_sha256="ab" * 32, width=2048, normalize="z_score")


def unevaluated(**changes: Any) -> Card:
    return card(**{"evaluated": Evaluated(), "pictures": {}, **changes})


def shown(**changes: Any) -> str:
    return text_of(render_card(card(**changes)))


def test_the_page_says_what_the_model_is() -> None:
    text = shown()
    for fact in (
        "Which of 3 classes a picture shows",
        "The classes are values of garment . Scored by small_cnn , whose highest score is right for 80.0% of 100",
        "t-shirt · pants · hat",
        "a small convolutional network, trained from the beginning",
        "1,722 steps, the best by accuracy of validation",
        "96 pixels a side",
        "4.7 MB on disk",
        "300 pictures",
        "python -m serving.classify --model MODEL picture.jpg",
        "python -m beam_pipelines.batch_predict --model MODEL",
        '{"instances": [{"key": "a.jpg", "image_bytes": {"b64": ',
        "the class id of the highest score, 0 to 2",
        "float32 [batch, 3]",
        "Macro F1",
        "t-shirt 60 180",
        "Wave",
        "/lists/shirts.csv",
        "a4f2b18b57593cb9",
        "Not known to this program: ask those whom the pictures come from.",
        "All options are the default of such a model.",
        "batch_size 16",
        "tensorflow – 2.21.0",
    ):
        assert fact in text, fact
    assert "embed " not in text
    assert "Metropolitan" not in text


@pytest.mark.parametrize(("classes", "named"), [(12, "Attic workshop"), (13, "and 1 more"), (30, "and 18 more")])
def test_the_first_classes_are_named_at_the_top(classes: int, named: str) -> None:
    names = re.findall(r'<p class="names">(.*?)</p>', render_card(card(many_classes(classes))))
    assert named in names[0]
    assert names[0].count("<bdi>") == 12
    assert ("more</small>" in names[0]) == (classes > 12)


def test_a_model_that_was_not_evaluated() -> None:
    sample = (Judged(key="18/0", labels=("pants",), top=()),)
    pictures = {"18/0": picture(title="Trousers")}
    page = render_card(unevaluated(metrics={"accuracy": 0.72, "loss": 0.8545}, sample=sample, pictures=pictures))
    text = text_of(page)
    assert "which was right for 72.0% of its validation pictures while training" in text
    assert "Accuracy 72.0%" in text
    assert "Loss 0.855" in text
    assert "There is no evaluation of this checkpoint" in text
    assert "Of these the model was not asked" in text
    assert "pants Trousers" in text
    assert "✓" not in text
    assert 'id="matrix"' not in page
    assert "t-shirt 180 60" in text


def test_a_model_of_which_next_to_nothing_is_known() -> None:
    data = DataFacts(place="/gone", state="gone", fingerprint="f", totals={})
    page = render_card(unevaluated(info={}, size=0, data=data, saved=saved_run(versions={})))
    text = text_of(page)
    assert "Nothing is known of how good it is" in text
    assert "The data set is not where the run found it" in text
    assert "How many pictures each has is not known." in text
    assert page.count("<tr data-number=") == 3
    for section in ("matrix", "pictures", "versions"):
        assert f'id="{section}"' not in page
    assert "None" not in text


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"data": data_facts(state="changed", counts={})}, "Another data set lies now where the run found its own"),
        ({"data": data_facts(state="foreign", counts={})}, "TFRecords that are no data set of this program"),
        ({"data": data_facts(rights="open_access")}, "data and pictures of them are CC0 ."),
        ({"data": data_facts(rights="mixed")}, "Works that are not in the public domain were taken too"),
        ({"data": data_facts(choices={"max_labels": "5"})}, "Chosen otherwise than by default max_labels 5"),
        ({"data": data_facts(embeddings=RESNET)}, "resnet50 , 2,048 numbers, normalised by z_score"),
        ({"saved": saved_run(options=resolve({"dataset": "d", "dropout": 0.25}))}, "than by default dropout 0.25"),
        ({"info": {"checkpoint": "1722"}}, "step 1,722, chosen by its step"),
        ({"data": data_facts(totals={"train": 9, "validation": 0})}, "step 1,722, the latest"),
        (
            {"info": {"embedding": {"backbone": "resnet50", "width": 2048}}},
            "float32 [batch, 2048], the vector of resnet50",
        ),
        ({"evaluated": Evaluated(other_step=861)}, "The run was evaluated at step 861, which is another checkpoint"),
    ],
)
def test_what_is_said_where_it_is_so(changes: dict[str, Any], told: str) -> None:
    assert told in shown(**changes)
    assert told not in shown()


def test_rows_left_out_are_explained() -> None:
    reasons = tuple(reason_rows({"not_found": 5}, Kind.REJECTED, {}))
    text = shown(data=data_facts(account=Account(read=400, written=395, reasons=reasons)))
    assert "400 read, 395 written." in text
    assert "not_found 5 There is nothing at the address" in text
    assert "none is missing" in shown(data=data_facts(account=Account(read=4, written=4, reasons=())))


def test_figures_of_the_split_trained_on_are_marked() -> None:
    text = text_of(render_card(card(evaluation(split="train"), data=data_facts(totals={"train": 100}))))
    assert "of 100 training pictures" in text
    assert "The model was trained on these very pictures" in text


def test_figures_on_other_data_are_marked() -> None:
    other = card(evaluation(data="/data/other"), data=data_facts(totals={"validation": 7}))
    text = text_of(render_card(other))
    assert "of 100 test pictures" in text
    assert "Tested on other data than its own data set: /data/other" in text
    assert columns(other.data, other.evaluated.evaluation) == ["tested", "train", "validation"]


def test_several_labels() -> None:
    page = render_card(card(several_labels()))
    text = text_of(page)
    assert "Any of 3 classes a picture shows" in text
    assert "of each class by itself, 0 to 1" in text
    assert "average precision" in text
    assert 'id="matrix"' not in page


def test_the_first_column_is_that_of_the_matrix() -> None:
    data = data_facts(counts={"train": {"t-shirt": 5}, "validation": {"t-shirt": 60, "pants": 35, "hat": 5}})
    rows = card_rows(("t-shirt", "pants", "hat"), data, evaluation())
    assert columns(data, evaluation()) == ["validation", "train"]
    assert [(row.label, row.counts, len(row.rates)) for row in rows] == [
        ("t-shirt", [60, 5], 3),
        ("pants", [35, 0], 3),
        ("hat", [5, 0], 3),
    ]
    assert [row.counts for row in card_rows(("a", "b"), data_facts(counts={}), None)] == [[], []]


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, ""),
        (1, "1 bytes"),
        (999, "999 bytes"),
        (1_000, "1.0 kB"),
        (4_691_356, "4.7 MB"),
        (94e6, "94.0 MB"),
        (2.5e11, "250 GB"),
    ],
)
def test_sizes_for_people(count: float, text: str) -> None:
    assert file_size(int(count)) == text


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"model": "resnet50"}, "from ImageNet weights, which were left as they were, with a head of dense layers"),
        ({"model": "resnet50", "weights": "none"}, "from random weights, with a head of dense layers"),
        ({"model": "resnet50", "weights": "/a.h5", "unfreeze_at": 1}, "from weights of another training, with a head"),
    ],
)
def test_what_the_model_is_made_of(options: dict[str, Any], words: str) -> None:
    assert words in network(card(saved=saved_run(options=resolve({"dataset": "d", **options}))))


def test_a_head_names_its_backbone() -> None:
    head = saved_run(kind="embeddings", options=resolve({"dataset": "d", "model": "head"}))
    assert network(card(saved=head)) == "of dense layers, on embeddings"
    assert network(card(saved=head, data=data_facts(embeddings=RESNET))) == "of dense layers, on resnet50 as it was"
    assert "Scored by head on resnet50" in shown(saved=head, info={"embedding": {"backbone": "resnet50"}})


def test_an_example_whose_picture_is_gone_is_not_shown() -> None:
    both = Evaluated(evaluation=evaluation(), right=(judged("pants", key="18/0"),), mistakes=(judged(key="17/0"),))
    page = render_card(card(evaluated=both, pictures={"18/0": picture(title="Wave")}))
    assert page.count("<figure") == 1
    assert "Mistakes" not in page


def test_a_page_of_many_classes_is_small_and_can_be_searched() -> None:
    page = render_card(card(many_classes(600), pictures={}))
    assert len(page.encode()) < 500_000
    assert page.count("<tr data-number=") == 600
    assert 'class="pixels"' in page
    assert 'class="filter"' in page


def test_the_page_loads_nothing_and_runs_only_its_own() -> None:
    page = render_card(card(many_classes(60), data=data_facts(rights="open_access")))
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
    links = [value or "" for value in parsed.values("href")]
    assert all(link.startswith(("#", "https://")) for link in links)


def attacked(text: str) -> str:
    """Returns a page in which everything from outside is `text`."""
    labels = (text, f"{text} 1", f"{text} 2")
    example = Judged(key=text, labels=labels[:1], top=((labels[1], 0.75),))
    tested = evaluation(labels, data=text, counts=((0, 60, 0), (4, 30, 1), (0, 5, 0)))
    options = dataclasses.replace(resolve({"dataset": "d"}), dataset=text or "d", seed=3)
    run = saved_run(labels, options=options, directory=RunDirectory(f"/runs/{text}"), versions={text: text})
    embeddings = Embeddings(backbone=text, weights=text, weights_sha256=text, width=8, normalize=text)
    data = data_facts(
        tested, place=text, fingerprint=text, source=text, input=text, attribute=text, choices={"input": text},
        options={"input": text}, options_fingerprint=text, embeddings=embeddings, versions={text: text},
    )  # fmt: skip
    known = dict.fromkeys(("title", "artist", "date", "credit_line", "rights"), text)
    work = dataclasses.replace(picture(**known), uri=text)
    info = {
        "checkpoint": text,
        "image_size": text,
        "embedding": {"backbone": text, "width": text},
        "versions": {text: text},
    }
    evaluated = Evaluated(evaluation=tested, right=(example,), mistakes=(example,))
    return render_card(card(saved=run, data=data, info=info, evaluated=evaluated, pictures={text: work}))


def test_nothing_from_outside_becomes_an_element() -> None:
    harmless, page = attacked("a"), attacked(ATTACK)
    assert Page(page).tags == Page(harmless).tags
    assert Page(page).kinds() == Page(harmless).kinds()
    assert ATTACK in text_of(page)
    assert "49" not in [text.strip() for text in Page(page).texts]


@settings(max_examples=10, deadline=None)
@given(text=hostile_text)
def test_any_text_can_be_shown(text: str) -> None:
    page = attacked(text)
    page.encode()
    assert all(character.isprintable() or character == "\n" for character in page)


@pytest.mark.parametrize(
    "shown_card", [card(), unevaluated(), card(several_labels())], ids=["shirts", "bare", "several"]
)
def test_sections_of_the_contents_are_there(shown_card: Card) -> None:
    page = Page(render_card(shown_card))
    targets = {value[1:] for value in page.values("href") if value and value.startswith("#")}
    ids = page.values("id")
    assert targets <= set(ids)
    assert {"facts", "use", "limits", "classes", "data", "training"} <= targets
    assert len(ids) == len(set(ids))


def test_the_same_card_gives_the_same_page() -> None:
    assert render_card(card(many_classes(60))) == render_card(card(many_classes(60)))


def test_it_needs_neither_tensorflow_nor_beam() -> None:
    program = (
        "import sys, trainer.model_card\n"
        "assert not {'tensorflow', 'keras', 'apache_beam', 'matplotlib'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
