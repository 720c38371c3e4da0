"""Cards, and the runs and evaluations on disk that they are made from, for the tests."""

import csv
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from beam_pipelines import files
from tests.trainer.evaluation.shown import evaluation, picture
from trainer.card.data_set import DataFacts
from trainer.card.evaluated import Evaluated
from trainer.card.page import Card
from trainer.evaluation.figures import Evaluation, Judged
from trainer.evaluation.tables import label_separator, write_confusions, write_per_class
from trainer.options import resolve
from trainer.run_directory import RunDirectory
from trainer.saved_run import SavedRun

STEP = 1722


def saved_run(labels: tuple[str, ...] = ("t-shirt", "pants", "hat"), **changes: Any) -> SavedRun:
    """Returns a run on pictures of shirts."""
    values: dict[str, Any] = {
        "directory": RunDirectory("/runs/shirts"),
        "options": resolve({"dataset": "/data/shirts"}),
        "kind": "images",
        "labels": labels,
        "multi_label": False,
        "width": 0,
        "data_fingerprint": "a4f2b18b57593cb9",
        "versions": {"keras": "3.15.1"},
    }
    return SavedRun(**{**values, **changes})


def data_facts(shown: Evaluation | None = None, **changes: Any) -> DataFacts:
    """Returns what is known of the data of an evaluation, which has three times as many pictures to train on."""
    shown = shown or evaluation()
    tested = {row.label: row.examples for row in shown.classes}
    values: dict[str, Any] = {
        "place": "/data/shirts",
        "state": "known",
        "fingerprint": "a4f2b18b57593cb9",
        "totals": {"train": 3 * shown.examples, "validation": shown.examples},
        "counts": {"train": {label: 3 * count for label, count in tested.items()}, "validation": tested},
        "source": "manifest",
        "input": "/lists/shirts.csv",
        "attribute": "garment",
    }
    return DataFacts(**{**values, **changes})


def card(shown: Evaluation | None = None, **changes: Any) -> Card:
    """Returns the card of a model with an evaluation, by default that of the shirts."""
    shown = shown or evaluation()
    values: dict[str, Any] = {
        "saved": saved_run(shown.labels, multi_label=shown.multi_label),
        "step": STEP,
        "info": {"checkpoint": "best", "image_size": 96, "embedding": None, "versions": {"tensorflow": "2.21.0"}},
        "size": 4_700_000,
        "data": data_facts(shown),
        "evaluated": Evaluated(evaluation=shown, right=shown.sample[:1], mistakes=shown.mistakes),
        "pictures": {judged.key: picture(title="Wave") for judged in (*shown.sample, *shown.mistakes)},
    }
    return Card(**{**values, **changes})


def write_evaluation(directory: Path, shown: Evaluation, examples: Iterable[Judged] = ()) -> None:
    """Writes what `trainer.evaluate` leaves, without its page and its pictures."""
    write_per_class(shown, str(directory / "per_class.csv"))
    if shown.confusion is not None:
        write_confusions(shown, str(directory / "confusions.csv"))
    separator = label_separator(shown.labels)
    with (directory / "predictions.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["key", "labels", "prediction", "score", "right"])
        for judged in examples:
            right = "true" if judged.is_right else "false"
            writer.writerow([judged.key, separator.join(judged.labels), judged.prediction, judged.score, right])
    files.write_json(str(directory / "evaluation.json"), shown.to_json())
