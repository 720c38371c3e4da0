"""Runs TensorFlow Transform in this process on Arrow record batches, and puts its graph into a data set directory."""

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import apache_beam as beam
import tensorflow_transform.beam as tft_beam
from apache_beam.options.pipeline_options import PipelineOptions

from beam_pipelines import files
from beam_pipelines.dataset import TRANSFORM_DIRECTORIES
from beam_pipelines.runners import new_pipeline, run_pipeline


def analyze(preprocessing_fn: Callable[[Any], Any], batches: beam.PTransform, adapter: Any, *, output: str) -> None:
    """Runs `preprocessing_fn` over record batches and writes `transform_fn/` and `transformed_metadata/`.

    Args:
        preprocessing_fn: TensorFlow Transform's.
        batches: gives a PCollection of record batches at the root of a pipeline.
        adapter: TFXIO's configuration that turns those batches into tensors.
        output: a local directory; TensorFlow's own file systems are not those of `files`.

    Raises:
        RunError: for failures that a user can mend.
    """
    with tempfile.TemporaryDirectory() as temporary, tft_beam.Context(temp_dir=temporary):
        pipeline = new_pipeline(PipelineOptions([]))
        transform_fn = (pipeline | "ReadBatches" >> batches, adapter) | tft_beam.AnalyzeDataset(preprocessing_fn)
        _ = transform_fn | tft_beam.WriteTransformFn(output)
        run_pipeline(pipeline)


@contextmanager
def staged_transform(output: str) -> Iterator[str]:
    """Gives a local directory for `analyze`; when the block ends, the graph written there replaces that in `output`.

    Args:
        output: the data set directory, on any file system.
    """
    with tempfile.TemporaryDirectory() as directory:
        yield directory
        for name in TRANSFORM_DIRECTORIES:
            files.remove_tree(files.join(output, name))
            files.copy_tree(os.path.join(directory, name), files.join(output, name))
