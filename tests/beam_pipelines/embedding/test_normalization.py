"""TensorFlow takes seconds to import, and each fit some more: few tests, and no import before they run."""

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from beam_pipelines import files
from beam_pipelines.dataset import EMBEDDING, Feature, Shard
from beam_pipelines.embedding import normalization
from beam_pipelines.errors import RunError
from beam_pipelines.plan_files import PlanFiles
from beam_pipelines.tfrecords import encode_example, frame
from tests.beam_pipelines.builders import BUCKET, object_store

pytestmark = pytest.mark.slow

Vectors = np.ndarray[tuple[int, int], np.dtype[np.float32]]

FIRST, SECOND, VALIDATION = Shard("train", 0, 2), Shard("train", 1, 2), Shard("validation", 0, 1)
SHARDS = [FIRST, SECOND, VALIDATION]

_WITHOUT_TENSORFLOW_TRANSFORM = """
import json, sys
import tensorflow as tf
graph = tf.saved_model.load(sys.argv[1])
vectors = tf.constant(json.loads(sys.argv[2]), tf.float32)
print(json.dumps(graph.transform_fn({"embedding": vectors})["embedding"].numpy().tolist()))
assert "tensorflow_transform" not in sys.modules
"""


def write_shards(directory: str, shards: Mapping[Shard, Vectors]) -> PlanFiles:
    """Writes shards of these vectors, float32 [examples, width]; the others are empty."""
    plan = PlanFiles(directory)
    for shard in SHARDS:
        rows = shards.get(shard, np.zeros((0, 1), np.float32)).tolist()
        examples = (encode_example({EMBEDDING: row, Feature.KEY.value: b"key", Feature.LABEL.value: 1}) for row in rows)
        files.write_bytes(plan.shard(shard), b"".join(map(frame, examples)))
    return plan


def fitted(directory: str, shards: Mapping[Shard, Vectors], *, normalize: str = "z_score") -> Any:
    """Returns the transform that these shards give."""
    plan = write_shards(directory, shards)
    width = max(vectors.shape[1] for vectors in shards.values())
    normalization.fit(plan, SHARDS, width=width, normalize=normalize, output=directory)
    return normalization.load(directory)


def drawn(examples: int, width: int, *, mean: float = 0.0, deviation: float = 1.0) -> Vectors:
    """Returns vectors of normally distributed numbers."""
    return np.random.default_rng(3).normal(mean, deviation, (examples, width)).astype(np.float32)


def z_scores(vectors: Vectors, training: Vectors) -> Any:
    """Returns what is asked for, in float64."""
    exact = training.astype(np.float64)
    deviation = exact.std(axis=0)
    return (vectors.astype(np.float64) - exact.mean(axis=0)) / np.where(deviation, deviation, 1)


def test_z_scores_are_those_of_all_training_shards_and_of_no_other(tmp_path: Path) -> None:
    vectors = drawn(1203, 5, mean=1e3, deviation=1e-2)
    vectors[:, 3] = 0.1
    vectors[:, 4] *= 1e-9
    shards = {FIRST: vectors[:3], SECOND: vectors[3:1200], VALIDATION: vectors[1200:] + 50}
    transform = fitted(str(tmp_path), shards)
    np.testing.assert_allclose(transform(vectors), z_scores(vectors, vectors[:1200]), rtol=1e-6, atol=1e-6)
    assert (transform(vectors)[:, 3] == 0).all()
    assert transform(vectors).dtype == np.float32
    assert transform(vectors[:0]).shape == (0, 5)


def test_the_graph_is_loaded_with_and_without_tensorflow_transform(tmp_path: Path) -> None:
    import tensorflow_transform as tft

    vectors = drawn(20, 3, mean=7)
    transform = fitted(str(tmp_path), {SECOND: vectors})
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_dir()) == ["transform_fn", "transformed_metadata"]

    output = tft.TFTransformOutput(str(tmp_path))
    (column, spec), *others = output.transformed_feature_spec().items()
    assert (column, spec.shape, spec.dtype.name, others) == ("embedding", [3], "float32", [])
    expected = output.transform_raw_features({"embedding": vectors})["embedding"].numpy()
    np.testing.assert_array_equal(transform(vectors), expected)

    command = [sys.executable, "-c", _WITHOUT_TENSORFLOW_TRANSFORM, str(tmp_path / "transform_fn")]
    run = subprocess.run([*command, json.dumps(vectors.tolist())], capture_output=True, text=True, check=True)
    np.testing.assert_array_equal(np.array(json.loads(run.stdout), np.float32), expected)


def test_one_example_of_width_one_gives_what_is_left_without_its_mean(tmp_path: Path) -> None:
    transform = fitted(str(tmp_path), {FIRST: np.array([[5.5]], np.float32)})
    assert transform(np.array([[5.5], [7.0]], np.float32)).tolist() == [[0], [1.5]]


def test_without_normalisation_vectors_stay_as_they_are(tmp_path: Path) -> None:
    vectors = drawn(4, 3, mean=7)
    transform = fitted(str(tmp_path), {FIRST: vectors}, normalize="none")
    assert transform(vectors).tobytes() == vectors.tobytes()


def test_a_graph_in_an_object_store_replaces_the_one_before(tmp_path: Path) -> None:
    vectors = drawn(10, 2, mean=3)
    with object_store():
        directory = f"{BUCKET}/embeddings"
        files.write_bytes(f"{directory}/transform_fn/left", b"by a killed run")
        transform = fitted(directory, {FIRST: vectors})
        names = files.list_files(directory)
    assert "transform_fn/left" not in names
    assert {"transform_fn/saved_model.pb", "transformed_metadata/schema.pbtxt"} <= set(names)
    np.testing.assert_allclose(transform(vectors), z_scores(vectors, vectors), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("normalize", ["z_score", "none"])
def test_without_any_training_example_there_is_no_graph(tmp_path: Path, normalize: str) -> None:
    with pytest.raises(RunError, match="has no example in the training split"):
        fitted(str(tmp_path), {VALIDATION: drawn(3, 2)}, normalize=normalize)
    assert not (tmp_path / "transform_fn").exists()


def test_a_damaged_shard_is_named(tmp_path: Path) -> None:
    plan = write_shards(str(tmp_path), {FIRST: drawn(3, 2), SECOND: drawn(3, 2)})
    content = bytearray(files.read_bytes(plan.shard(SECOND)))
    content[-6] ^= 1
    files.write_bytes(plan.shard(SECOND), bytes(content))
    with pytest.raises(RunError, match=rf"^{plan.shard(SECOND)} is damaged: .* delete it and give the same command"):
        normalization.fit(plan, SHARDS, width=2, normalize="z_score", output=str(tmp_path))
