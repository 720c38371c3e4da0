"""A run's model with the weights of one of its checkpoints, without what it was trained by."""

import contextlib
from collections.abc import Iterator

import keras

from beam_pipelines import files
from beam_pipelines.dataset import BACKBONE_WEIGHTS_FILE
from trainer.checkpoints import Checkpoints, named_variables
from trainer.classifier import Classifier, ModelSpec, build_classifier
from trainer.models import save_backbone_weights
from trainer.saved_run import BEST, SavedRun, choose_checkpoint


def restore_classifier(saved: SavedRun, step: int) -> Classifier:
    """Builds the classifier of a run and gives it the weights of a checkpoint.

    Neither the weights that its backbone began with nor the run's data are needed. It computes as in training, by the
    same dtype policy.

    Args:
        saved: the run.
        step: of the checkpoint, as `choose_checkpoint` gives it.

    Raises:
        RunError: the checkpoint cannot be read, or lacks a variable of the model.
    """
    spec = ModelSpec.of(saved.options, width=saved.width)
    with _dtype_policy(saved.options.dtype_policy):
        classifier = build_classifier(spec, labels=len(saved.labels), seed=saved.options.seed, pretrained=False)
    checkpoints = Checkpoints(saved.directory.checkpoints)
    checkpoints.restore_some(step, named_variables(model=classifier.model.variables))
    return classifier


def keep_backbone(saved: SavedRun) -> None:
    """Writes the backbone of a run's best checkpoint beside it, for embed; a model without a backbone has none.

    It is restored anew, and not taken from the model that was trained: that one lies on all workers, of which others
    may have ended.

    Raises:
        RunError: the checkpoint cannot be read.
    """
    backbone = restore_classifier(saved, choose_checkpoint(saved, BEST)).backbone
    if backbone is not None:
        save_backbone_weights(backbone, files.join(saved.directory.path, BACKBONE_WEIGHTS_FILE))


@contextlib.contextmanager
def _dtype_policy(name: str) -> Iterator[None]:
    """Has the layers that are built in the block compute by a policy of Keras."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(name)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)
