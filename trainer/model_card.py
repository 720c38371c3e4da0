"""The card of an exported model, `model_card.html`: one page made from what the earlier stages left.

What cannot be found, because the data set was moved, nobody evaluated the run or a file is damaged, is left out or
said to be unknown; it never fails an export. Imports neither TensorFlow nor Beam.
"""

from collections.abc import Mapping
from typing import Any

from beam_pipelines import files
from beam_pipelines.picture_lookup import Picture, picture_data_set, read_pictures
from trainer.card.data_set import read_data_facts, sampled_examples
from trainer.card.evaluated import read_evaluated
from trainer.card.metrics import validation_metrics
from trainer.card.optional import optional
from trainer.card.page import Card, render_card
from trainer.saved_run import SavedRun

MODEL_CARD_FILE = "model_card.html"


def write_model_card(saved: SavedRun, *, step: int, directory: str, model_info: Mapping[str, Any]) -> None:
    """Writes `model_card.html` beside a SavedModel.

    Args:
        saved: the run that the model comes from.
        step: of its checkpoint.
        directory: the model's version, local, with all its other files.
        model_info: what `assets/model.json` has.

    Raises:
        OSError: the page cannot be written.
    """
    card = gather_card(saved, step=step, directory=directory, model_info=model_info)
    files.write_bytes(files.join(directory, MODEL_CARD_FILE), render_card(card).encode())


def gather_card(saved: SavedRun, *, step: int, directory: str, model_info: Mapping[str, Any]) -> Card:
    """Returns what is known of a model; see `write_model_card`."""
    evaluated = read_evaluated(saved, step)
    pictures_in = _pictures_in(saved, model_info)
    sample = () if evaluated.evaluation else sampled_examples(pictures_in, saved.labels)
    keys = {judged.key for judged in (*evaluated.right, *evaluated.mistakes, *sample)}
    pictures = optional(f"the pictures of {pictures_in}", lambda: read_pictures(pictures_in, keys))
    return Card(
        saved=saved,
        step=step,
        info=model_info,
        size=_size(directory),
        data=read_data_facts(saved),
        evaluated=evaluated,
        metrics=validation_metrics(saved, step, model_info),
        sample=sample,
        pictures=pictures or dict[str, Picture](),
    )


def _pictures_in(saved: SavedRun, model_info: Mapping[str, Any]) -> str:
    """Returns the data set that has the pictures; empty if it is not known."""
    data = model_info.get("data")
    given = data.get("pictures") if isinstance(data, Mapping) else None
    if isinstance(given, str) and given:
        return given
    return optional("pictures", lambda: picture_data_set(saved.options.dataset)) or ""


def _size(directory: str) -> int:
    entries = files.list_entries(directory)
    return sum(entry.size for entry in entries if entry.path != files.join(directory, MODEL_CARD_FILE))
