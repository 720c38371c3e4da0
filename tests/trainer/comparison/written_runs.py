"""Directories of runs as training leaves them, without any training."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from beam_pipelines import files
from trainer.options import resolve

Lines = Sequence[Mapping[str, Any]]


def line(step: int, **figures: float | None) -> dict[str, Any]:
    """Returns a line of metrics; an epoch has ten steps."""
    return {"step": step, "epoch": (step - 1) // 10 + 1, "loss": 1.0, "examples_per_second": 100.0, **figures}


LINES = (
    line(10, val_accuracy=0.5, val_recall_at_5=0.75, val_loss=1.5),
    line(20, val_accuracy=0.75, val_recall_at_5=0.875, val_loss=1.25),
    line(30, val_accuracy=0.75, val_recall_at_5=1.0, val_loss=1.125),
)


def write_run(
    path: Path | str,
    *,
    lines: Lines = LINES,
    finished: bool = True,
    data: Mapping[str, Any] | None = None,
    evaluation: Mapping[str, Any] | None = None,
    **options: Any,
) -> str:
    """Writes the directory of a run, local or gs://, and returns its path.

    Args:
        path: of the directory.
        lines: of its metrics.
        finished: whether it has ended.
        data: what differs of its data from that of other runs.
        evaluation: what its evaluation found; None if it was not evaluated.
        **options: those that are given to training.
    """
    directory = str(path)
    config = {
        "format": 1,
        "options": resolve({"dataset": "dataset", **options}).to_json(),
        "data": {
            "fingerprint": "same",
            "kind": "images",
            "train_examples": 160,
            "validation_examples": 40,
            "labels": ["hat", "shoes"],
            **(data or {}),
        },
        "versions": {"keras": "3"},
    }
    files.write_json(files.join(directory, "config.json"), config)
    files.write_lines(files.join(directory, "metrics.jsonl"), [json.dumps(line) for line in lines])
    if finished:
        files.write_json(files.join(directory, "COMPLETED"), {"step": lines[-1]["step"] if lines else 0, "metrics": {}})
    if evaluation is not None:
        files.write_json(files.join(directory, "evaluation", "evaluation.json"), evaluation)
    return directory
