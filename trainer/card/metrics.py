"""The figures of validation while a run trained. Imports no TensorFlow."""

import json
import math
from collections.abc import Mapping
from typing import Any

from beam_pipelines import files
from trainer.card.optional import optional
from trainer.saved_run import SavedRun

_NAMES = ("accuracy", "recall_at_5", "loss")
_PREFIX = "val_"


def validation_metrics(saved: SavedRun, step: int, model_info: Mapping[str, Any]) -> dict[str, float]:
    """Returns the figures of validation at a step by name, those that are known.

    Args:
        saved: the run.
        step: of the checkpoint.
        model_info: has `metrics`, which are taken where the run has none of that step.
    """
    logged = optional("the metrics of training", lambda: _logged(saved.directory.metrics, step)) or {}
    known = _finite(logged)
    return known or _finite(model_info.get("metrics"))


def _logged(path: str, step: int) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for text in files.read_bytes(path).decode("utf-8", "replace").splitlines():
        line = _line(text)
        if line.get("step") == step:
            found |= {name.removeprefix(_PREFIX): value for name, value in line.items() if name.startswith(_PREFIX)}
    return found


def _line(text: str) -> dict[str, Any]:
    """Returns a line's values; nothing for a line that was cut short."""
    try:
        value = json.loads(text)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _finite(values: Any) -> dict[str, float]:
    found = {name: values.get(name) for name in _NAMES} if isinstance(values, Mapping) else {}
    return {
        name: float(value)
        for name, value in found.items()
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    }
