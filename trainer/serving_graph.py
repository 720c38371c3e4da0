"""The one graph that is served: bytes of pictures to labels and scores, and to the backbone's vectors.

It holds everything between the two: decoding, resizing, the backbone, the normalisation of its vectors, the head, and
softmax or sigmoid. A row whose bytes cannot be decoded gets no label and takes no part in the rest.
"""

import dataclasses
import functools
import json
import os
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import tensorflow as tf

from beam_pipelines import files
from trainer.decoding.pictures import read_picture

LABELS_FILE = "labels.txt"
MODEL_INFO_FILE = "model.json"
# What TensorFlow puts into the directory `assets` of a SavedModel.
ASSETS_DIRECTORY = "assets"

SERVING_DEFAULT = "serving_default"
EMBED = "embed"

# Pictures that are decoded at the same time; fixed, so that the graph is the same wherever it is made.
_DECODED_AT_ONCE = 16

Layers = Callable[[tf.Tensor], tf.Tensor]


@dataclasses.dataclass(frozen=True, kw_only=True)
class ServedParts:
    """What a graph is made of, between the square picture and the scores.

    Attributes:
        image_size: pixels of a side of the square.
        labels: the classes, in the order of their ids.
        multi_label: whether scores are those of a sigmoid, each for itself, or of a softmax.
        backbone: images, float32 [batch, size, size, 3] in 0..255, to vectors [batch, width]; None if there is none.
        transform: vectors to what the head takes, float32 [batch, width].
        head: what `transform` gives, or images if there is no backbone, to logits, float32 [batch, classes].
        variables: all that these compute with.
    """

    image_size: int
    labels: Sequence[str]
    multi_label: bool
    backbone: Layers | None
    transform: Layers
    head: Layers
    variables: Sequence[tf.Variable]


class ServedModule(tf.Module):
    """The graph, with its two signatures; `build_served_module` makes it."""

    def __init__(self, parts: ServedParts, *, max_image_pixels: int) -> None:
        """Keeps what is to be saved."""
        super().__init__(name="classifier")
        self._parts = parts
        # Traced once for both signatures.
        self._pictures = tf.function(
            functools.partial(decode_rows, size=parts.image_size, max_image_pixels=max_image_pixels),
            input_signature=[tf.TensorSpec([None], tf.string)],
            autograph=False,
        )
        self._variables = list(parts.variables)
        self._assets: list[tf.saved_model.Asset] = []

    @property
    def labels(self) -> tuple[str, ...]:
        """The classes, in the order of their ids."""
        return tuple(self._parts.labels)

    def signatures(self) -> dict[str, Any]:
        """Returns the functions that are served, by their names; `embed` only where there is a backbone."""
        found = {SERVING_DEFAULT: self._served(self._predict)}
        if self._parts.backbone is not None:
            found[EMBED] = self._served(self._embed)
        return found

    def hold(self, assets: Iterable[str]) -> None:
        """Has files, by their paths on this machine, saved with the graph."""
        self._assets = [tf.saved_model.Asset(path) for path in assets]

    def _served(self, function: Callable[[tf.Tensor, tf.Tensor], dict[str, tf.Tensor]]) -> Any:
        # TensorFlow Serving's JSON takes values of inputs whose names end in _bytes as base64.
        inputs = [tf.TensorSpec([None], tf.string, name=name) for name in ("key", "image_bytes")]
        return tf.function(function, input_signature=inputs, autograph=False)

    def _predict(self, key: tf.Tensor, image_bytes: tf.Tensor) -> dict[str, tf.Tensor]:
        rows, pixels = self._pictures(image_bytes)
        logits = self._parts.head(self._features(pixels))
        scores = tf.sigmoid(logits) if self._parts.multi_label else tf.nn.softmax(logits)
        prediction = tf.argmax(scores, axis=-1)
        count = tf.shape(image_bytes)[0]
        # Counted from 1, so that rows that nothing is put into come out as -1 and without a label.
        numbered = _put(rows, prediction + 1, count)
        return {
            "key": tf.identity(key),
            "prediction": numbered - 1,
            "label": tf.gather(tf.constant(["", *self._parts.labels]), numbered),
            "scores": _put(rows, scores, count),
        }

    def _embed(self, key: tf.Tensor, image_bytes: tf.Tensor) -> dict[str, tf.Tensor]:
        rows, pixels = self._pictures(image_bytes)
        return {
            "key": tf.identity(key),
            "embedding": _put(rows, self._vectors(pixels), tf.shape(image_bytes)[0]),
        }

    def _features(self, pixels: tf.Tensor) -> tf.Tensor:
        vectors = self._vectors(pixels)
        return pixels if vectors is None else self._parts.transform(vectors)

    def _vectors(self, pixels: tf.Tensor) -> tf.Tensor | None:
        return None if self._parts.backbone is None else tf.cast(self._parts.backbone(pixels), tf.float32)


def build_served_module(parts: ServedParts, *, max_image_pixels: int) -> ServedModule:
    """Returns the graph of a classifier.

    Args:
        parts: what it is made of.
        max_image_pixels: width times height of the largest picture that is decoded.
    """
    return ServedModule(parts, max_image_pixels=max_image_pixels)


def save_served_model(module: ServedModule, directory: str, *, info: Mapping[str, Any] | None = None) -> None:
    """Writes a SavedModel with both signatures, the labels and what is known of the model as its assets.

    Args:
        module: the graph.
        directory: on this machine.
        info: what `assets/model.json` says.
    """
    with tempfile.TemporaryDirectory() as folder:
        labels, known = os.path.join(folder, LABELS_FILE), os.path.join(folder, MODEL_INFO_FILE)
        files.write_lines(labels, module.labels)
        files.write_bytes(known, (json.dumps(dict(info or {}), indent=1, sort_keys=True) + "\n").encode())
        module.hold([labels, known])
        tf.saved_model.save(module, directory, signatures=module.signatures())


def decode_rows(image_bytes: tf.Tensor, *, size: int, max_image_pixels: int) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns the pictures that can be decoded, on the processor.

    Args:
        image_bytes: string [batch], possibly empty.
        size: side of the squares, in pixels.
        max_image_pixels: width times height of the largest picture that is decoded.

    Returns:
        the numbers of their rows, int64 [decoded], ascending; their pixels, float32 [decoded, size, size, 3], but one
        black square if there are none: not every operation takes an empty batch.
    """

    @tf.autograph.experimental.do_not_convert
    def read(row: tf.Tensor, encoded: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return row, read_picture(encoded, size=size, max_pixels=max_image_pixels)

    with tf.device("/CPU:0"):
        rows = tf.data.Dataset.from_tensor_slices(image_bytes).enumerate()
        pictures = rows.map(read, num_parallel_calls=_DECODED_AT_ONCE, deterministic=True).ignore_errors()
        # One more, because no batch can be made of nothing.
        last = tf.data.Dataset.from_tensors((tf.constant(-1, tf.int64), tf.zeros([size, size, 3])))
        count = tf.shape(image_bytes, tf.int64)[0]
        numbers, pixels = pictures.concatenate(last).batch(count + 1).get_single_element()
        decoded = tf.size(numbers) - 1
        return numbers[:decoded], pixels[: tf.maximum(decoded, 1)]


def _put(rows: tf.Tensor, values: tf.Tensor, count: tf.Tensor) -> tf.Tensor:
    """Returns the first of `values`, [values, ...], in their rows, int64 [rows], of `count`; zeros in the others."""
    shape = tf.concat([tf.expand_dims(count, 0), tf.shape(values)[1:]], axis=0)
    scattered = tf.scatter_nd(rows[:, tf.newaxis], values[: tf.size(rows)], tf.cast(shape, tf.int64))
    return tf.ensure_shape(scattered, [None, *values.shape[1:]])
