from pathlib import Path
from typing import Any

import pytest

from tests.trainer.card.cards import saved_run
from trainer.card.metrics import validation_metrics
from trainer.run_directory import RunDirectory

LINES = b"""{"step": 20, "loss": 2.0}
{"step": 40, "loss": 1.0, "val_loss": 1.5, "val_accuracy": 0.5, "val_recall_at_5": null}
{"step": 80, "val_loss": 0.9, "val_accuracy": 0.7}
{"step": 80, "val_
"""


@pytest.mark.parametrize(
    ("step", "info", "known"),
    [
        (40, {}, {"accuracy": 0.5, "loss": 1.5}),
        (80, {"metrics": {"accuracy": 0.1}}, {"accuracy": 0.7, "loss": 0.9}),
        (20, {"metrics": {"accuracy": 0.1, "loss": None, "best_step": 20}}, {"accuracy": 0.1}),
        (20, {"metrics": "lost"}, {}),
        (60, {}, {}),
    ],
)
def test_figures_of_the_very_step(tmp_path: Path, step: int, info: dict[str, Any], known: dict[str, float]) -> None:
    (tmp_path / "metrics.jsonl").write_bytes(LINES)
    saved = saved_run(directory=RunDirectory(str(tmp_path)))
    assert validation_metrics(saved, step, info) == known


def test_a_run_without_metrics(tmp_path: Path) -> None:
    assert validation_metrics(saved_run(directory=RunDirectory(str(tmp_path))), 40, {}) == {}
