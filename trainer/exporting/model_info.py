"""What an exported model says of itself, `assets/model.json`. Imports no TensorFlow."""

import dataclasses
import importlib.metadata
import json
from collections.abc import Iterator, Mapping
from typing import Any

from beam_pipelines import files
from beam_pipelines.dataset import VALIDATION
from trainer.evaluation.options import EVALUATION_FILE, NAMES
from trainer.exporting.source import Source
from trainer.saved_run import SavedRun

FORMAT_VERSION = 1

_VERSIONS_OF = ("museum-image-classifier", "keras", "tensorflow")
_METRICS = (
    "examples", "loss", "accuracy", "recall_at_5", "macro_precision", "macro_recall", "macro_f1",
    "mean_average_precision", "expected_calibration_error",
)  # fmt: skip
_OF_VALIDATION = "val_"


@dataclasses.dataclass(frozen=True, kw_only=True)
class EmbeddingInfo:
    """The backbone of a model.

    Attributes:
        backbone: its name.
        weights_sha256: the hash of its weights; vectors of the same backbone and hash can be compared.
        width: of its vectors.
    """

    backbone: str
    weights_sha256: str
    width: int


def model_info(
    saved: SavedRun,
    source: Source,
    embedding: EmbeddingInfo | None,
    *,
    step: int,
    checkpoint: str,
    image_size: int,
    max_image_pixels: int,
) -> dict[str, Any]:
    """Returns what is known of a model, as `model.json` has it.

    Args:
        saved: the run.
        source: what it was trained on.
        embedding: its backbone; None if it has none.
        step: of the checkpoint.
        checkpoint: how it was chosen.
        image_size: pixels of a side of the square that the model looks at.
        max_image_pixels: of the largest picture that it decodes.
    """
    return {
        "format": FORMAT_VERSION,
        "model": saved.options.model,
        "run": saved.directory.path,
        "step": step,
        "checkpoint": checkpoint,
        "labels": list(saved.labels),
        "multi_label": saved.multi_label,
        "image_size": image_size,
        "max_image_pixels": max_image_pixels,
        "embedding": dataclasses.asdict(embedding) if embedding else None,
        "data": source.to_json(),
        "metrics": known_metrics(saved, step),
        "versions": {name: importlib.metadata.version(name) for name in _VERSIONS_OF},
    }


def known_metrics(saved: SavedRun, step: int) -> dict[str, float]:
    """Returns the figures of validation of a checkpoint: those of its evaluation, else those that training noted."""
    return _evaluated(saved, step) or _noted(saved, step)


def _evaluated(saved: SavedRun, step: int) -> dict[str, float]:
    try:
        found = files.read_json(files.join(saved.directory.path, NAMES[VALIDATION], EVALUATION_FILE))
    except (FileNotFoundError, ValueError):
        return {}
    if not isinstance(found, dict) or (found.get("step"), found.get("split")) != (step, VALIDATION):
        return {}
    return _figures(found)


def _noted(saved: SavedRun, step: int) -> dict[str, float]:
    values: dict[str, Any] = {}
    for line in _lines(saved.directory.metrics):
        if line.get("step") == step:
            values |= {
                name.removeprefix(_OF_VALIDATION): line[name] for name in line if name.startswith(_OF_VALIDATION)
            }
    return _figures(values)


def _figures(values: Mapping[str, Any]) -> dict[str, float]:
    return {name: values[name] for name in _METRICS if isinstance(values.get(name), int | float)}


def _lines(path: str) -> Iterator[dict[str, Any]]:
    """Yields the lines of a metrics file, as far as they are whole."""
    try:
        content = files.read_bytes(path).decode("utf-8", "replace")
    except FileNotFoundError:
        return
    for text in content.splitlines():
        try:
            line = json.loads(text)
        except ValueError:
            continue
        if isinstance(line, dict):
            yield line
