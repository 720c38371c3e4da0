"""What is kept of a trained backbone."""

import types
from pathlib import Path
from typing import Any, cast

import keras
import numpy as np
import pytest

from beam_pipelines.dataset import BACKBONE_WEIGHTS_FILE
from trainer.assembly import keep_backbone
from trainer.classifier import Classifier, ModelSpec, put_head_on
from trainer.loop import Trainer
from trainer.preparation import Plan
from trainer.run_directory import RunDirectory


def classifier_of(value: float) -> Classifier:
    pixels = keras.Input((4, 4, 3))
    features = keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(2, 1, kernel_initializer="ones")(pixels))
    backbone = keras.Model(pixels, features, name="tiny")
    classifier = put_head_on(backbone, ModelSpec(name="tiny"), labels=3)
    set_kernel(classifier, value)
    return classifier


def set_kernel(classifier: Classifier, value: float) -> None:
    assert classifier.backbone is not None
    kernel = classifier.backbone.weights[0]
    kernel.assign(np.full(kernel.shape, value, np.float32))


class FakeTrainer:
    """A run that is at step 9; in its checkpoint of step N all values of the backbone's kernel are N."""

    def __init__(self, classifier: Classifier, *, best_step: int | None) -> None:
        self._classifier = classifier
        self.state = types.SimpleNamespace(step=9, best_step=best_step)

    def restore(self, step: int) -> None:
        set_kernel(self._classifier, step)


@pytest.mark.parametrize(("best_step", "kept"), [(5, 5.0), (9, 9.0), (None, 9.0)])
def test_the_backbone_of_the_best_checkpoint_is_kept(tmp_path: Path, best_step: int | None, kept: float) -> None:
    classifier = classifier_of(9.0)
    trainer = cast(Trainer, FakeTrainer(classifier, best_step=best_step))
    keep_backbone(plan_of(tmp_path, unfreeze_step=3), classifier, trainer)
    other = classifier_of(0.0)
    assert other.backbone is not None
    other.backbone.load_weights(tmp_path / BACKBONE_WEIGHTS_FILE)
    np.testing.assert_array_equal(other.backbone.weights[0].numpy(), np.full((1, 1, 3, 2), kept, np.float32))


def test_a_backbone_that_was_not_trained_is_not_kept(tmp_path: Path) -> None:
    classifier = classifier_of(9.0)
    keep_backbone(
        plan_of(tmp_path, unfreeze_step=None), classifier, cast(Trainer, FakeTrainer(classifier, best_step=5))
    )
    assert not list(tmp_path.iterdir())


def plan_of(directory: Path, *, unfreeze_step: int | None) -> Plan:
    values: dict[str, Any] = {
        "schedule": types.SimpleNamespace(unfreeze_step=unfreeze_step),
        "directory": RunDirectory(str(directory)),
    }
    return cast(Plan, types.SimpleNamespace(**values))
