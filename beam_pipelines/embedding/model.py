"""A backbone as workers use it: pictures to pixels, one at a time on any thread, and pixels to vectors, in batches."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from beam_pipelines.rejects import Reason, RejectedError


class BackboneEmbedder:
    """The `Embedder` of a Keras model; imports TensorFlow.

    Args:
        build: returns the model: float32 [batch, size, size, 3] in 0..255 to float32 [batch, width].
        input_size: pixels of a side.
        threads: that TensorFlow may use, in a process that has not used it yet; 0 for every core.
    """

    def __init__(self, build: Callable[[], Any], *, input_size: int, threads: int = 0) -> None:
        import tensorflow as tf

        from trainer.pixels import decode_and_resize

        if threads:
            tf.config.threading.set_intra_op_parallelism_threads(threads)
            tf.config.threading.set_inter_op_parallelism_threads(threads)
        backbone = build()
        self._cannot_decode = tf.errors.InvalidArgumentError
        self._stack = tf.stack
        self._pixels = tf.function(
            lambda encoded: decode_and_resize(encoded, input_size), input_signature=[tf.TensorSpec([], tf.string)]
        ).get_concrete_function()
        self._vectors = tf.function(
            lambda pixels: backbone(pixels, training=False),
            input_signature=[tf.TensorSpec([None, input_size, input_size, 3], tf.float32)],
        ).get_concrete_function()
        self._constant = tf.constant

    def pixels(self, jpeg: bytes) -> Any:
        """Returns a picture as a tensor, float32 [size, size, 3]; raises RejectedError if it cannot be decoded."""
        try:
            return self._pixels(self._constant(jpeg))
        except self._cannot_decode as error:
            raise RejectedError(Reason.CORRUPT_IMAGE, "the picture in the shard cannot be decoded") from error

    def embed(self, pixels: Sequence[Any]) -> npt.NDArray[np.float32]:
        """Returns the vectors, float32 [len(pixels), width], of pictures that `pixels` returned."""
        return self.embed_batch(self.batch(pixels))

    def batch(self, pixels: Sequence[Any]) -> Any:
        """Returns the pictures that `pixels` returned as one tensor, float32 [len(pixels), size, size, 3]."""
        return self._stack(pixels)

    def embed_batch(self, pixels: Any) -> npt.NDArray[np.float32]:
        """Returns the vectors of a tensor that `batch` returned."""
        vectors: npt.NDArray[np.float32] = self._vectors(pixels).numpy()
        return vectors
