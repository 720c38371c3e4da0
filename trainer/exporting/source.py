"""Where a run's model comes from: its data, and for a head the backbone of the embeddings. Imports no TensorFlow."""

import dataclasses
from typing import Any

from beam_pipelines import files
from beam_pipelines.dataset import BACKBONE_WEIGHTS_FILE, COMPLETED_FILE, INFO_FILE, TRANSFORM_DIRECTORIES
from beam_pipelines.errors import OptionError
from beam_pipelines.picture_lookup import picture_data_set
from trainer.data_files import EMBEDDINGS, read_data_set
from trainer.models import check_backbone
from trainer.saved_run import SavedRun


@dataclasses.dataclass(frozen=True, kw_only=True)
class EmbeddingsSource:
    """How embeddings were made.

    Attributes:
        directory: of their data set.
        backbone: its name.
        weights: the file that has them.
        weights_sha256: their hash.
        transform: the directory of the graph that normalises.
    """

    directory: str
    backbone: str
    weights: str
    weights_sha256: str
    transform: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Source:
    """What a run was trained on.

    Attributes:
        path: of the data set, or of the first of its foreign files.
        fingerprint: of its examples and labels.
        pictures: the data set of pictures; empty where there is none.
        embeddings: how they were made, if the run was trained on some.
    """

    path: str
    fingerprint: str
    pictures: str
    embeddings: EmbeddingsSource | None = None

    def to_json(self) -> dict[str, str]:
        """Returns what `model.json` says of the data."""
        return {"path": self.path, "fingerprint": self.fingerprint, "pictures": self.pictures}


def find_source(saved: SavedRun, *, dataset: str = "") -> Source:
    """Returns where a run's model comes from.

    Args:
        saved: the run.
        dataset: where its data set lies now; empty for where it lay.

    Raises:
        OptionError: `dataset` is not that of the run; or a head's embeddings are gone, were made anew, or lack the
            backbone that made them.
    """
    directory = dataset or saved.options.dataset
    is_there = bool(directory) and files.exists(files.join(directory, COMPLETED_FILE))
    if saved.kind == EMBEDDINGS or dataset:
        _check_same(saved, directory, is_there=is_there, given=bool(dataset))
    return Source(
        path=directory or next(iter((*saved.options.train_data_paths, *saved.options.eval_data_paths)), ""),
        fingerprint=saved.data_fingerprint,
        pictures=picture_data_set(directory) if is_there else "",
        embeddings=_embeddings_source(directory) if saved.kind == EMBEDDINGS else None,
    )


def _check_same(saved: SavedRun, directory: str, *, is_there: bool, given: bool) -> None:
    run = saved.directory.path
    if not directory:
        raise OptionError(
            f"--run {run} was trained on embeddings of other programs, and nobody knows their backbone: train a head "
            "on embeddings of beam_pipelines.embed"
        )
    if not is_there and not given:
        raise OptionError(f"--run {run} was trained on {directory}, which is not there: say by --dataset where it is")
    if read_data_set(directory, []).fingerprint != saved.data_fingerprint:
        told = (
            f"--dataset {directory} is not what --run {run} was trained on: give that"
            if given
            else f"{directory} was made anew since --run {run} was trained on it: train it anew, or say by --dataset "
            "where the old one is"
        )
        raise OptionError(told)


def _embeddings_source(directory: str) -> EmbeddingsSource:
    backbone = _recorded_backbone(directory)
    weights = files.join(directory, BACKBONE_WEIGHTS_FILE)
    transform = files.join(directory, TRANSFORM_DIRECTORIES[0])
    for path in (weights, files.join(transform, "saved_model.pb")):
        if not files.exists(path):
            raise OptionError(f"{path} is not there, which made the embeddings: copy the whole data set")
    check_backbone(backbone["name"])
    return EmbeddingsSource(
        directory=directory,
        backbone=backbone["name"],
        weights=weights,
        weights_sha256=str(backbone.get("weights_sha256", "")),
        transform=transform,
    )


def _recorded_backbone(directory: str) -> dict[str, Any]:
    recorded = files.read_json(files.join(directory, INFO_FILE)).get("backbone")
    if not isinstance(recorded, dict) or "name" not in recorded:
        raise OptionError(f"{directory} has pictures, and the run was trained on embeddings: give those")
    return recorded
