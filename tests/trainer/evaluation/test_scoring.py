from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from beam_pipelines.dataset import VALIDATION, Feature
from beam_pipelines.tfrecords import encode_example, frame
from tests.hostile_server import jpeg
from tests.trainer.evaluation.builders import evaluation_of, new_tally
from tests.trainer.replica_training import tiny_classifier
from trainer import metrics as of_training
from trainer.assembly import make_feed, make_learner
from trainer.checkpoints import Checkpoints, named_variables
from trainer.cluster import Cluster
from trainer.data_files import EMBEDDINGS, IMAGES, NO_FILES, Layout, SplitFiles, TrainingData
from trainer.evaluation.figures import Evaluation
from trainer.evaluation.scoring import _features_and_logits, scored_batches
from trainer.loop import Steps
from trainer.options import RunOptions, resolve
from trainer.preparation import Plan
from trainer.restoring import restore_classifier
from trainer.run_directory import RunDirectory, begin_run
from trainer.saved_run import read_saved_run
from trainer.schedule import make_schedule

pytestmark = pytest.mark.slow

LABELS = tuple("abcdefg")
WIDTH = 5
EXAMPLES = 23
GIVEN: dict[str, dict[str, Any]] = {
    IMAGES: {"model": "small_cnn", "image_size": 16, "batch_size": 4},
    EMBEDDINGS: {"model": "head", "hidden_units": (6,), "batch_size": 4},
}
LAYOUT = Layout(inputs="inputs", label=Feature.LABEL, key=Feature.KEY)


def example(number: int, *, kind: str, multi_label: bool) -> bytes:
    random = np.random.default_rng(number)
    inputs = jpeg(number, width=18, height=16) if kind == IMAGES else random.normal(size=WIDTH).tolist()
    labels = sorted(random.choice(len(LABELS), size=1 + number % 3, replace=False).tolist())
    label = labels if multi_label else number % len(LABELS)
    return encode_example({"inputs": inputs, Feature.LABEL: label, Feature.KEY: f"picture {number}".encode()})


def make_data(directory: Path, *, kind: str, multi_label: bool = False) -> TrainingData:
    """Writes a split in two files, of no multiple of the batch."""
    directory.mkdir(parents=True)
    sizes = (EXAMPLES - 6, 6)
    paths = tuple(str(directory / f"{index}.tfrecord") for index in range(2))
    numbers = iter(range(EXAMPLES))
    for path, size in zip(paths, sizes, strict=True):
        records = [example(next(numbers), kind=kind, multi_label=multi_label) for _ in range(size)]
        Path(path).write_bytes(b"".join(map(frame, records)))
    split = SplitFiles(paths=paths, examples=sizes)
    width = WIDTH if kind == EMBEDDINGS else 0
    return TrainingData(
        kind=kind, layout=LAYOUT, train=split, validation=split, labels=LABELS, multi_label=multi_label, width=width
    )


def validated_in_training(directory: Path, data: TrainingData, **given: Any) -> dict[str, float]:
    """Begins a run, gives its model some weights, saves a checkpoint of step 3; returns the loop's validation of it."""
    options = resolve({"dataset": "data", **GIVEN[data.kind], **given})
    plan = Plan(
        options=options,
        run=RunOptions(output=str(directory), steps_per_execution=2),
        cluster=Cluster(),
        data=data,
        schedule=make_schedule(options, examples=EXAMPLES),
        directory=RunDirectory(str(directory)),
    )
    begin_run(str(directory), options, data)
    strategy = tf.distribute.OneDeviceStrategy("CPU:0")
    classifier, learner = make_learner(plan, strategy)
    random = np.random.default_rng(8)
    for variable in classifier.model.trainable_variables:
        variable.assign(random.normal(scale=0.3, size=variable.shape))
    checkpoints = Checkpoints(plan.directory.checkpoints)
    variables = named_variables(model=classifier.model.variables, optimizer=learner.optimizer.variables)
    checkpoints.save(3, variables, {"best_step": 3})
    feed = make_feed(plan, ["CPU:0"])
    batches = iter(strategy.distribute_datasets_from_function(lambda context: feed.validation()))
    sums = Steps(learner, batch_size=options.batch_size).evaluate(batches, feed.validation_steps, [0.0]).sums
    return of_training.results(sums)


def evaluated(directory: Path, data: TrainingData, *, batch_size: int = 0) -> Evaluation:
    saved = read_saved_run(str(directory))
    with new_tally(LABELS, multi_label=data.multi_label, vectors=9) as tally:
        classifier = restore_classifier(saved, 3)
        for batch in scored_batches(classifier, data, VALIDATION, options=saved.options, batch_size=batch_size):
            tally.add(batch)
        return evaluation_of(tally)


@pytest.mark.parametrize("kind", [IMAGES, EMBEDDINGS])
@pytest.mark.parametrize("multi_label", [False, True])
def test_the_figures_are_those_of_validation_in_training(tmp_path: Path, kind: str, multi_label: bool) -> None:
    data = make_data(tmp_path / "data", kind=kind, multi_label=multi_label)
    expected = validated_in_training(tmp_path / "run", data, label_smoothing=0.1)
    found = evaluated(tmp_path / "run", data)
    assert found.examples == EXAMPLES
    assert round(found.accuracy * EXAMPLES) == round(expected["accuracy"] * EXAMPLES) > 0
    assert found.accuracy == expected["accuracy"]
    assert found.recall_at_5 == pytest.approx(expected["recall_at_5"], rel=1e-12)
    assert found.loss == pytest.approx(expected["loss"], rel=1e-6)


def test_the_figures_are_those_of_training_in_half_precision_too(tmp_path: Path) -> None:
    data = make_data(tmp_path / "data", kind=IMAGES)
    try:
        expected = validated_in_training(tmp_path / "run", data, dtype_policy="mixed_bfloat16")
    finally:
        keras.config.set_dtype_policy("float32")
    found = evaluated(tmp_path / "run", data)
    assert (found.accuracy, found.recall_at_5) == (expected["accuracy"], expected["recall_at_5"])
    assert found.loss == pytest.approx(expected["loss"], rel=1e-6)


def test_every_example_comes_once_in_the_order_of_the_files(tmp_path: Path) -> None:
    data = make_data(tmp_path / "data", kind=EMBEDDINGS)
    validated_in_training(tmp_path / "run", data)
    saved = read_saved_run(str(tmp_path / "run"))
    classifier = restore_classifier(saved, 3)
    only = TrainingData(
        kind=EMBEDDINGS, layout=LAYOUT, train=NO_FILES, validation=data.validation, labels=LABELS, width=WIDTH
    )
    batches = list(scored_batches(classifier, only, VALIDATION, options=saved.options, batch_size=10))
    assert [(batch.place, len(batch.keys)) for batch in batches] == [(0, 10), (10, 10), (20, 3)]
    keys = [key for batch in batches for key in batch.keys]
    assert sorted(keys) == sorted(f"picture {number}" for number in range(EXAMPLES))
    for batch in batches:
        assert [int(key.split()[1]) % 7 for key in batch.keys] == batch.targets.tolist()
        assert batch.features is not None
        np.testing.assert_array_equal(classifier.model(batch.features).numpy().shape, batch.logits.shape)
        first = np.random.default_rng(int(batch.keys[0].split()[1])).normal(size=WIDTH)
        assert batch.features[0] == pytest.approx(first, rel=1e-6), "of a head, what it gets"


def test_keys_of_any_bytes(tmp_path: Path) -> None:
    data = make_data(tmp_path / "data", kind=EMBEDDINGS)
    validated_in_training(tmp_path / "run", data)
    record: dict[str, Any] = {"inputs": [0.5] * WIDTH, Feature.LABEL: 1}
    keys = [b"\xff\xfe", "\udc80".encode("utf-8", "surrogatepass"), "é".encode(), b""]
    Path(data.validation.paths[0]).write_bytes(
        b"".join(frame(encode_example({**record, Feature.KEY: key})) for key in keys)
    )
    few = SplitFiles(paths=data.validation.paths[:1], examples=(4,))
    only = TrainingData(kind=EMBEDDINGS, layout=LAYOUT, train=NO_FILES, validation=few, labels=LABELS, width=WIDTH)
    saved = read_saved_run(str(tmp_path / "run"))
    (batch,) = scored_batches(restore_classifier(saved, 3), only, VALIDATION, options=saved.options)
    assert batch.keys == ("\ufffd\ufffd", "\udc80", "é", "")


def test_the_vector_of_a_backbone_is_the_pooled_one() -> None:
    classifier = tiny_classifier()
    classifier.head.get_layer("logits").kernel.assign(np.random.default_rng(4).normal(size=(5, 3)))
    images = tf.constant(np.random.default_rng(3).uniform(0, 255, (4, 4, 4, 3)), tf.float32)
    features, logits = _features_and_logits(classifier, images)
    assert features is not None
    assert classifier.backbone is not None
    assert features.shape == (4, 5)
    np.testing.assert_array_equal(logits, classifier.model(images, training=False))
    np.testing.assert_array_equal(features, classifier.backbone(images, training=False))


def test_a_small_cnn_has_no_vector(tmp_path: Path) -> None:
    data = make_data(tmp_path / "data", kind=IMAGES)
    validated_in_training(tmp_path / "run", data)
    saved = read_saved_run(str(tmp_path / "run"))
    batches = scored_batches(restore_classifier(saved, 3), data, VALIDATION, options=saved.options)
    assert {batch.features is None for batch in batches} == {True}
