from typing import Any

import pytest

from beam_pipelines.rejects import Kind
from beam_pipelines.report.reasons import reason_rows
from tests.trainer.card.cards import data_facts, saved_run
from tests.trainer.evaluation.shown import bins, evaluation, many_classes, several_labels
from trainer.card.data_set import Account, Embeddings
from trainer.card.limits import Limit, limits
from trainer.evaluation.figures import Evaluation
from trainer.options import resolve


def found(shown: Evaluation | None, *, run: dict[str, Any] | None = None, **data: Any) -> dict[str, Limit]:
    """Returns the limits by title."""
    known = shown or evaluation()
    saved = saved_run(known.labels, multi_label=known.multi_label, **(run or {}))
    return {limit.title: limit for limit in limits(data_facts(known, **data), shown, saved)}


def test_without_an_evaluation_little_is_known() -> None:
    told = found(None)
    assert "was not evaluated" in told["What it was tested on"].text
    assert "gives every picture one of them" in told["Only these classes"].text
    assert not {"Against guessing", "Often missed", "Little to test with", "Scores"} & told.keys()
    assert "Not measured" in told


def test_how_it_was_tested() -> None:
    assert "chose the checkpoint" in found(evaluation())["What it was tested on"].text
    assert "chose the checkpoint" not in found(evaluation(checkpoint="latest"))["What it was tested on"].text
    assert "know by heart" in found(evaluation(split="train"))["What it was tested on"].text
    moved = found(evaluation(data="/moved/shirts"))["What it was tested on"].text
    assert "of the source that it was trained on" in moved
    other = found(evaluation(data="/data/other"), totals={"validation": 7})["What it was tested on"].text
    assert "not of its own data set, and on no others: /data/other" in other


def test_guessing_is_the_least_to_be_better_than() -> None:
    better = found(evaluation())["Against guessing"].text
    assert "“t-shirt”, the commonest class, would be right for 60.0%; the model is right for 80.0%." in better
    assert "of no use" not in better
    blind = evaluation(counts=((60, 0, 0), (35, 0, 0), (5, 0, 0)))
    assert found(blind)["Against guessing"].text.endswith("It is of no use as it is.")
    assert "Against guessing" not in found(several_labels())


def test_classes_that_go_badly_are_named_the_worst_first() -> None:
    told = found(evaluation(counts=((50, 10, 0), (24, 10, 1), (0, 5, 0))))
    assert told["Often missed"].names == {"hat": "0% found", "pants": "28.6% found"}
    assert told["Little to test with"].names == {"hat": "5"}
    assert "1 class has fewer than 20" in told["Little to test with"].text
    assert told["Little to learn from"].names == {"hat": "15"}
    assert "Smallest classes" not in told
    never = found(evaluation(counts=((60, 0, 0), (34, 1, 0), (4, 1, 0))))["Never predicted"]
    assert (never.names, never.text) == ({"hat": "5 tested"}, "1 class is never predicted in the test:")


def test_of_many_classes_a_few_are_named() -> None:
    told = found(many_classes(600))["Little to test with"]
    assert len(told.names) == 8
    assert f"{len(told.names) + told.more} classes have fewer" in told.text


def test_the_smallest_classes_where_all_are_large() -> None:
    counts = {"train": {"t-shirt": 300, "pants": 50, "hat": 90, "cap": 100}}
    shown = evaluation(("t-shirt", "pants", "hat", "cap"), counts=((9, 0, 0, 0),) * 4)
    told = found(shown, counts=counts)
    assert told["Smallest classes"].names == {"pants": "50", "hat": "90", "cap": "100"}
    assert "Little to learn from" not in told
    assert not {"Smallest classes", "Little to learn from"} & found(shown, counts={}).keys()


@pytest.mark.parametrize(("accuracy", "kind"), [(0.5, "too much"), (0.79, ""), (0.95, "too little")])
def test_what_scores_promise(accuracy: float, kind: str) -> None:
    told = found(evaluation(calibration=bins((100, 0.79, accuracy))))
    assert ("Scores" in told) == bool(kind)
    assert kind in told.get("Scores", Limit(title="", text="")).text


def test_rows_that_could_not_be_had() -> None:
    reasons = (*reason_rows({"not_found": 5}, Kind.REJECTED, {}), *reason_rows({"no_image": 9}, Kind.FILTERED, {}))
    account = Account(read=100, written=86, reasons=reasons)
    assert "5 of 100 rows (5.0%)" in found(None, account=account)["What is missing"].text
    assert "What is missing" not in found(None, account=Account(read=100, written=91, reasons=reasons[1:]))


def test_what_a_backbone_brings_along() -> None:
    def made_with(weights: str) -> Embeddings:
        return Embeddings(backbone="resnet50", weights=weights, weights_sha256="", width=8, normalize="")

    resnet = {"options": resolve({"dataset": "/data/shirts", "model": "resnet50"})}
    assert "ImageNet" in found(None, run=resnet)
    assert "ImageNet" not in found(None)
    assert "ImageNet" in found(None, embeddings=made_with("imagenet"))
    assert "has learned nothing" in found(None, embeddings=made_with("none"))["Random backbone"].text
    assert not {"ImageNet", "Random backbone"} & found(None, embeddings=made_with("/runs/a.weights.h5")).keys()
