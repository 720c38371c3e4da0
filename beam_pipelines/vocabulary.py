"""Chooses the classes with TensorFlow Transform, and keeps the graph that turns a label into its class id.

TensorFlow Transform is fed Arrow record batches of labels, one row a picture's label, made from the label counts that a
pipeline has gathered on whatever runner: a column of ten thousand labels costs it what a single row would.
"""

import os
import tempfile
from collections.abc import Iterator, Mapping
from typing import Any

import apache_beam as beam
import pyarrow as pa
import tensorflow as tf
import tensorflow_transform as tft
from tensorflow_transform.tf_metadata import dataset_metadata
from tfx_bsl.tfxio import tensor_adapter, tensor_representation_util

from beam_pipelines import files
from beam_pipelines.dataset import LABEL_COLUMN, LABELS_FILE
from beam_pipelines.errors import RunError
from beam_pipelines.label_choice import LabelChoice
from beam_pipelines.transform_graph import analyze, staged_transform

_VOCABULARY = "labels"
_BATCH_ROWS = 10_000
_ARROW_SCHEMA = pa.schema([(LABEL_COLUMN, pa.large_list(pa.large_binary()))])


def choose_labels(counts: Mapping[str, int], choice: LabelChoice, *, output: str) -> list[str]:
    """Writes `transform_fn/`, `transformed_metadata/` and `labels.txt` to `output` and returns the labels by class id.

    Args:
        counts: distinct pictures of each label.
        choice: which of them become classes.
        output: the data set directory, on any file system.

    Raises:
        RunError: no label has enough pictures.
    """
    if not choice.fixed and max(counts.values(), default=0) < choice.min_images:
        raise RunError(_nothing_chosen(counts, choice))
    with tempfile.TemporaryDirectory() as directory:
        labels = list(choice.fixed) or _commonest(counts, choice, directory)
        labels_file = os.path.join(directory, _VOCABULARY)
        files.write_lines(labels_file, labels)
        with staged_transform(output) as transform:
            _write_transform(labels_file, transform, multi_label=choice.multi_label)
    files.write_lines(files.join(output, LABELS_FILE), labels)
    return labels


def _commonest(counts: Mapping[str, int], choice: LabelChoice, directory: str) -> list[str]:
    def count_labels(inputs: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        tft.vocabulary(
            inputs[LABEL_COLUMN],
            top_k=choice.max_labels or None,
            frequency_threshold=choice.min_images,
            vocab_filename=_VOCABULARY,
        )
        return {LABEL_COLUMN: inputs[LABEL_COLUMN]}

    output = os.path.join(directory, "vocabulary")
    _analyze_labels(count_labels, output, counts=counts, multi_label=False)
    vocabulary = tft.TFTransformOutput(output).vocabulary_by_name(_VOCABULARY)
    return [label.decode() for label in vocabulary]


def _write_transform(labels_file: str, output: str, *, multi_label: bool) -> None:
    def to_class_id(inputs: Mapping[str, Any]) -> dict[str, Any]:
        tft.annotate_asset(_VOCABULARY, labels_file)
        return {LABEL_COLUMN: tft.apply_vocabulary(inputs[LABEL_COLUMN], labels_file)}

    _analyze_labels(to_class_id, output, counts={}, multi_label=multi_label)


def _analyze_labels(preprocessing_fn: Any, output: str, *, counts: Mapping[str, int], multi_label: bool) -> None:
    feature = tf.io.VarLenFeature(tf.string) if multi_label else tf.io.FixedLenFeature([], tf.string)
    metadata = dataset_metadata.DatasetMetadata.from_feature_spec({LABEL_COLUMN: feature})
    representations = tensor_representation_util.InferTensorRepresentationsFromMixedSchema(metadata.schema)
    adapter = tensor_adapter.TensorAdapterConfig(_ARROW_SCHEMA, representations)
    batches = beam.Create([dict(counts)]) | beam.FlatMap(label_batches).with_output_types(pa.RecordBatch)
    analyze(preprocessing_fn, batches, adapter, output=output)


def label_batches(counts: Mapping[str, int]) -> Iterator[pa.RecordBatch]:
    """Yields record batches of one column, in which each label stands as often as it was counted."""
    column: list[list[bytes]] = []
    for label, count in sorted(counts.items()):
        row = [label.encode()]
        while count > 0:
            taken = min(count, _BATCH_ROWS - len(column))
            column.extend([row] * taken)
            count -= taken
            if len(column) == _BATCH_ROWS:
                yield _batch(column)
                column = []
    if column:
        yield _batch(column)


def _batch(column: list[list[bytes]]) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays([pa.array(column, _ARROW_SCHEMA.field(0).type)], schema=_ARROW_SCHEMA)


def _nothing_chosen(counts: Mapping[str, int], choice: LabelChoice) -> str:
    if not counts:
        return "no picture has a label: see what was filtered and rejected, or name another --attribute"
    label, most = max(counts.items(), key=lambda item: item[1])
    return (
        f"no label has {choice.min_images} pictures; the commonest, {label!r}, has {most}: lower --min_images_per_label"
    )
