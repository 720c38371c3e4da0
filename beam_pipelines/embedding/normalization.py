"""The graph that makes a backbone's vectors ready for a head, fitted on the training split by TensorFlow Transform.

TensorFlow Transform is fed Arrow record batches, which the C++ decoder of its companion TFXIO makes of the serialized
examples, a few hundred at a time. It counts in float64, so that an element of mean 1000 and deviation 0.01 comes out as
exact as its float32 values allow.
"""

import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from beam_pipelines import files
from beam_pipelines.dataset import EMBEDDING, TRAIN, TRANSFORM_DIRECTORIES, Shard
from beam_pipelines.embedding.options import Z_SCORE
from beam_pipelines.errors import RunError
from beam_pipelines.plan_files import PlanFiles
from beam_pipelines.tfrecords import CorruptRecordError, read_records

Vectors = np.ndarray[tuple[int, int], np.dtype[np.float32]]

# Fixed, so that every run adds up in the same order.
_BATCH_ROWS = 500


def fit(plan: PlanFiles, shards: Sequence[Shard], *, width: int, normalize: str, output: str) -> None:
    """Writes `transform_fn/` and `transformed_metadata/`, whose only column is `embedding`, float32 [width].

    Args:
        plan: of the data set that has the shards.
        shards: all of them; those of the training split are read, as a stream.
        width: of the vectors.
        normalize: `z_score` subtracts from each element its mean and divides it by its standard deviation, unless all
            its values were the same; anything else leaves the vectors as they are.
        output: the data set directory, on any file system.

    Raises:
        RunError: there is no example in the training split, or a shard is damaged.
    """
    paths = [plan.shard(shard) for shard in shards if shard.split == TRAIN]
    if not any(files.size(path) for path in paths):
        raise RunError(
            f"{plan.directory} has no example in the training split, so that there is nothing to normalise by: give "
            "--dataset one that has pictures in both splits"
        )
    from beam_pipelines.transform_graph import staged_transform

    with staged_transform(output) as directory:
        if normalize == Z_SCORE:
            _write_transform(_to_z_score, paths, width=width, output=directory)
        else:
            _write_transform(dict, [], width=width, output=directory)


def load(directory: str) -> Callable[[Vectors], Vectors]:
    """Returns what `fit` wrote to a data set directory, on any file system, as a function of float32 [batch, width]."""
    import tensorflow as tf

    saved = files.join(directory, TRANSFORM_DIRECTORIES[0])
    with tempfile.TemporaryDirectory() as copy:
        for name in files.list_files(saved):
            files.write_bytes(os.path.join(copy, name), files.read_bytes(files.join(saved, name)))
        graph: Any = tf.saved_model.load(copy)

    def transform(vectors: Vectors) -> Vectors:
        transformed: Vectors = graph.transform_fn({EMBEDDING: tf.constant(vectors)})[EMBEDDING].numpy()
        return transformed

    return transform


def _write_transform(preprocessing_fn: Callable[[Any], Any], paths: Sequence[str], *, width: int, output: str) -> None:
    import apache_beam as beam
    import tensorflow as tf
    from tensorflow_transform.tf_metadata.dataset_metadata import DatasetMetadata
    from tfx_bsl.public.tfxio import TFExampleBeamRecord

    from beam_pipelines.transform_graph import analyze

    metadata = DatasetMetadata.from_feature_spec({EMBEDDING: tf.io.FixedLenFeature([width], tf.float32)})
    examples = TFExampleBeamRecord(physical_format="tfrecord", schema=metadata.schema)
    batches = (
        beam.Create(paths)
        | beam.FlatMap(_read_examples).with_output_types(bytes)
        | examples.BeamSource(batch_size=_BATCH_ROWS)
    )
    analyze(preprocessing_fn, batches, examples.TensorAdapterConfig(), output=output)


def _to_z_score(inputs: Mapping[str, Any]) -> dict[str, Any]:
    import tensorflow as tf
    import tensorflow_transform as tft

    scaled = tft.scale_to_z_score(inputs[EMBEDDING], elementwise=True, output_dtype=tf.float64)
    return {EMBEDDING: tf.cast(scaled, tf.float32)}


def _read_examples(path: str) -> Iterator[bytes]:
    try:
        with files.open_to_read(path) as file:
            yield from read_records(file)
    except CorruptRecordError as error:
        raise RunError(f"{path} is damaged: {error}; delete it and give the same command again") from error
