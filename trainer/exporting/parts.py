"""The parts of the graph that is exported, from a run's checkpoint and, for a head, from its embeddings."""

import dataclasses
import os
import tempfile
from collections.abc import Sequence

import keras
import tensorflow as tf

from beam_pipelines import files
from beam_pipelines.errors import OptionError
from trainer.classifier import Classifier
from trainer.exporting.model_info import EmbeddingInfo
from trainer.exporting.source import EmbeddingsSource
from trainer.input_pipeline import load_transform
from trainer.models import build_backbone, weights_sha256
from trainer.saved_run import SavedRun
from trainer.serving_graph import Layers, ServedParts


@dataclasses.dataclass(frozen=True, kw_only=True)
class Assembled:
    """The parts, and what is to be told of the backbone among them, if there is one."""

    parts: ServedParts
    embedding: EmbeddingInfo | None


def assemble(saved: SavedRun, classifier: Classifier, embeddings: EmbeddingsSource | None) -> Assembled:
    """Returns the parts of the graph.

    Args:
        saved: the run.
        classifier: with the weights of a checkpoint.
        embeddings: how those were made that a head was trained on; else None.

    Raises:
        OptionError: the backbone that lies beside the embeddings is not what made them.
    """
    if embeddings is not None:
        backbone = _backbone_of(embeddings)
        return _assembled(saved, backbone, classifier.model, transform=_transform_of(embeddings))
    return _assembled(saved, classifier.backbone, classifier.head, transform=tf.identity)


def _assembled(saved: SavedRun, backbone: "keras.Model | None", head: keras.Model, *, transform: Layers) -> Assembled:
    models = [model for model in (backbone, head) if model is not None]
    parts = ServedParts(
        image_size=saved.options.image_size if backbone is None else int(backbone.input_shape[1]),
        labels=saved.labels,
        multi_label=saved.multi_label,
        backbone=None if backbone is None else _inference(backbone),
        transform=transform,
        head=_inference(head),
        variables=_variables(models),
    )
    if backbone is None:
        return Assembled(parts=parts, embedding=None)
    embedding = EmbeddingInfo(
        backbone=backbone.name, weights_sha256=weights_sha256(backbone), width=int(backbone.output_shape[-1])
    )
    return Assembled(parts=parts, embedding=embedding)


def _inference(model: keras.Model) -> Layers:
    return lambda inputs: model(inputs, training=False)


def _variables(models: Sequence[keras.Model]) -> list[tf.Variable]:
    return [variable.value for model in models for variable in model.variables]


def _backbone_of(embeddings: EmbeddingsSource) -> keras.Model:
    backbone = build_backbone(embeddings.backbone, weights=embeddings.weights)
    if embeddings.weights_sha256 and weights_sha256(backbone) != embeddings.weights_sha256:
        raise OptionError(
            f"{embeddings.weights} is not what made the embeddings of {embeddings.directory}: copy the data set again"
        )
    return backbone


def _transform_of(embeddings: EmbeddingsSource) -> Layers:
    """Returns the normalisation, from a copy of its graph: TensorFlow's file systems are not those of `files`."""
    with tempfile.TemporaryDirectory() as copy:
        for name in files.list_files(embeddings.transform):
            content = files.read_bytes(files.join(embeddings.transform, name))
            files.write_bytes(os.path.join(copy, name), content)
        return load_transform(copy)
