from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from beam_pipelines.dataset import BACKBONE_WEIGHTS_FILE
from beam_pipelines.errors import RunError
from tests.trainer.replica_training import tiny_classifier
from trainer import classifier as classifier_module
from trainer.checkpoints import Checkpoints, named_variables
from trainer.classifier import Classifier, ModelSpec, build_classifier
from trainer.data_files import EMBEDDINGS, IMAGES, OUR_IMAGES, SplitFiles, TrainingData
from trainer.options import TrainingOptions, resolve
from trainer.restoring import keep_backbone, restore_classifier
from trainer.run_directory import begin_run
from trainer.saved_run import SavedRun, read_saved_run

LABELS = ("hat", "shirt", "shoe")
HEAD: dict[str, Any] = {"model": "head", "hidden_units": (4,)}
SMALL_CNN: dict[str, Any] = {"model": "small_cnn", "image_size": 16}


def begun(directory: Path, **given: Any) -> SavedRun:
    options = resolve({"dataset": "data", **given})
    kind = EMBEDDINGS if options.model == "head" else IMAGES
    split = SplitFiles(paths=("a",), examples=(3,))
    width = 6 if kind == EMBEDDINGS else 0
    data = TrainingData(kind=kind, layout=OUR_IMAGES, train=split, validation=split, labels=LABELS, width=width)
    begin_run(str(directory), options, data)
    return read_saved_run(str(directory))


def build(options: TrainingOptions, *, width: int = 6) -> Classifier:
    return build_classifier(ModelSpec.of(options, width=width), labels=len(LABELS), seed=options.seed)


def stirred(classifier: Classifier) -> Classifier:
    """Gives every variable other values than it was built with."""
    random = np.random.default_rng(3)
    for variable in classifier.model.variables:
        if variable.dtype == "float32":
            variable.assign(random.normal(size=variable.shape))
    return classifier


def save(
    saved: SavedRun, classifier: Classifier, *, step: int = 7, best_step: int = 7, optimizer: Sequence[Any] = ()
) -> None:
    variables = named_variables(model=classifier.model.variables, optimizer=optimizer)
    Checkpoints(saved.directory.checkpoints).save(step, variables, {"best_step": best_step})


def assert_same_values(first: Classifier, second: Classifier) -> None:
    pairs = list(zip(first.model.variables, second.model.variables, strict=True))
    assert pairs
    for variable, other in pairs:
        assert variable.path == other.path
        np.testing.assert_array_equal(variable.numpy(), other.numpy())


@pytest.mark.parametrize("given", [HEAD, SMALL_CNN])
def test_every_variable_of_the_model_is_restored(tmp_path: Path, given: dict[str, Any]) -> None:
    saved = begun(tmp_path, **given)
    trained = stirred(build(saved.options))
    optimizer = keras.optimizers.SGD(momentum=0.9)
    optimizer.build(trained.model.trainable_variables)
    save(saved, trained, optimizer=optimizer.variables)
    assert_same_values(restore_classifier(saved, 7), trained)


def test_a_variable_that_the_checkpoint_lacks_is_named(tmp_path: Path) -> None:
    saved = begun(tmp_path, **HEAD)
    save(saved, build(resolve({"dataset": "data", "model": "head", "hidden_units": ()})))
    with pytest.raises(RunError) as caught:
        restore_classifier(saved, 7)
    assert str(caught.value).startswith(f"{tmp_path}/checkpoints/ckpt-7 cannot be restored (model/hidden_1/kernel: ")


def test_a_variable_of_another_shape_is_named(tmp_path: Path) -> None:
    saved = begun(tmp_path, **HEAD)
    save(saved, build(saved.options, width=5))
    with pytest.raises(RunError, match=r"ckpt-7 cannot be restored \(model/hidden_1/kernel: .*choose another"):
        restore_classifier(saved, 7)


def test_a_checkpoint_that_is_damaged(tmp_path: Path) -> None:
    saved = begun(tmp_path, **HEAD)
    save(saved, build(saved.options))
    (tmp_path / "checkpoints" / "ckpt-7.data-00000-of-00001").write_bytes(b"")
    with pytest.raises(RunError, match="ckpt-7 cannot be restored"):
        restore_classifier(saved, 7)


def test_it_computes_as_in_training(tmp_path: Path) -> None:
    saved = begun(tmp_path, **HEAD, dtype_policy="mixed_bfloat16")
    save(saved, build(saved.options))
    before = keras.config.dtype_policy()
    restored = restore_classifier(saved, 7)
    assert restored.model.get_layer("hidden_1").compute_dtype == "bfloat16"
    assert restored.model(tf.zeros((1, 6))).dtype == tf.float32
    assert keras.config.dtype_policy() == before, "what is built next is built as before"


@pytest.mark.parametrize("weights", ["imagenet", "gone.weights.h5"])
def test_a_backbone_needs_no_weights_but_those_of_the_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, weights: str
) -> None:
    def build_backbone(name: str, *, weights: str, seed: int) -> keras.Model:
        assert (name, weights) == ("vgg16", "none")
        return tiny_classifier().backbone

    monkeypatch.setattr(classifier_module, "build_backbone", build_backbone)
    saved = begun(tmp_path, model="vgg16", weights=weights)
    trained = stirred(build_classifier(ModelSpec.of(saved.options), labels=len(LABELS), pretrained=False))
    save(saved, trained)
    restored = restore_classifier(saved, 7)
    assert_same_values(restored, trained)
    assert restored.spec.weights == weights
    assert not restored.spec.is_from_scratch


def test_the_backbone_of_the_best_checkpoint_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(classifier_module, "build_backbone", lambda name, **given: tiny_classifier().backbone)
    saved = begun(tmp_path, model="vgg16", weights="none")
    trained = build_classifier(ModelSpec.of(saved.options), labels=len(LABELS))
    best = stirred(trained).backbone
    assert best is not None
    kept = [variable.numpy() for variable in best.weights]
    save(saved, trained, step=5)
    for variable in best.weights:
        variable.assign(np.zeros(variable.shape))
    save(saved, trained, step=9, best_step=5)
    keep_backbone(saved)
    other = tiny_classifier().backbone
    assert other is not None
    other.load_weights(tmp_path / BACKBONE_WEIGHTS_FILE)
    for variable, value in zip(other.weights, kept, strict=True):
        np.testing.assert_array_equal(variable.numpy(), value)


def test_a_model_without_a_backbone_keeps_none(tmp_path: Path) -> None:
    saved = begun(tmp_path, **HEAD)
    save(saved, build(saved.options))
    keep_backbone(saved)
    assert not (tmp_path / BACKBONE_WEIGHTS_FILE).exists()


@pytest.mark.slow
def test_a_real_backbone_is_restored(tmp_path: Path) -> None:
    saved = begun(tmp_path, model="mobilenet_v3_small", weights="gone.weights.h5")
    trained = stirred(build_classifier(ModelSpec.of(saved.options), labels=len(LABELS), seed=3, pretrained=False))
    save(saved, trained)
    assert_same_values(restore_classifier(saved, 7), trained)
