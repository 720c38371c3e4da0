"""A trial of what was exported: it must say what its parts say, and nothing of bytes that are no pictures."""

import itertools
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from beam_pipelines.errors import RunError
from trainer.pixels import decode_and_resize
from trainer.serving_graph import EMBED, SERVING_DEFAULT, ServedParts

TOLERANCE = 1e-4
# What fewer bits leave of the same sum, added up in another order.
LOW_PRECISION_TOLERANCE = 2e-2

_SIZES = ((1, 1), (64, 48), (320, 427), (31, 200), (900, 700))
_JPEG_START = b"\xff\xd8\xff\xe0"
_PNG_START = b"\x89PNG\r\n\x1a\n"
_HOSTILE = (b"", b"no picture", _JPEG_START, _PNG_START + b"\0" * 60, b"GIF89a" + b"\xff" * 90, b"RIFF\0\0\0\0WEBPVP8X")

Scores = npt.NDArray[np.float32]


def check_exported(directory: str, parts: ServedParts, *, max_image_pixels: int, tolerance: float = TOLERANCE) -> None:
    """Loads a SavedModel and asks it about drawn pictures, with bytes between them that are none.

    Args:
        directory: of the SavedModel, local.
        parts: what it was made of.
        max_image_pixels: of the largest picture that it decodes.
        tolerance: by how much scores may differ.

    Raises:
        RunError: it does not say what its parts say.
    """
    loaded = tf.saved_model.load(directory)
    pictures = _drawn_pictures(max_image_pixels)
    pixels = tf.stack([decode_and_resize(tf.constant(picture), parts.image_size) for picture in pictures])
    vectors = None if parts.backbone is None else tf.cast(parts.backbone(pixels), tf.float32)
    logits = parts.head(pixels if vectors is None else parts.transform(vectors))
    expected = (tf.sigmoid(logits) if parts.multi_label else tf.nn.softmax(logits)).numpy()
    rows = np.arange(len(pictures)) * 2
    batch = [item for pair in zip(pictures, itertools.cycle(_HOSTILE), strict=False) for item in pair] + [*_HOSTILE]
    _check(_ask(loaded, SERVING_DEFAULT, "scores", batch), rows, expected, directory=directory, tolerance=tolerance)
    if vectors is not None:
        largest = float(np.abs(vectors.numpy()).max(initial=1.0))
        found = _ask(loaded, EMBED, "embedding", batch)
        _check(found / largest, rows, vectors.numpy() / largest, directory=directory, tolerance=tolerance)


def _ask(loaded: Any, signature: str, output: str, batch: list[bytes]) -> Scores:
    answer: Scores = loaded.signatures[signature](key=tf.fill([len(batch)], ""), image_bytes=tf.constant(batch))[
        output
    ].numpy()
    return answer


def _check(found: Scores, rows: npt.NDArray[np.int64], expected: Scores, *, directory: str, tolerance: float) -> None:
    apart = float(np.abs(found[rows] - expected).max())
    others = np.delete(found, rows, axis=0)
    if not apart <= tolerance or others.any():
        raise RunError(
            f"the model in {directory} does not say what it was made to say (scores differ by {apart:.2g}): its "
            "numbers may not be finite; try another --checkpoint"
        )


def _drawn_pictures(max_pixels: int) -> list[bytes]:
    """Returns JPEGs of smooth forms, the same each time, one of one pixel at least."""
    random = np.random.default_rng(0)
    pictures = []
    for height, width in (size for size in _SIZES if size[0] * size[1] <= max_pixels):
        coarse = random.integers(0, 256, (6, 6, 3)).astype(np.float32)
        smooth = tf.image.resize(coarse, (height, width), method="bicubic")
        pictures.append(tf.io.encode_jpeg(tf.saturate_cast(smooth, tf.uint8), quality=90).numpy())
    return pictures
