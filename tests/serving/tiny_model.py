"""A served model without training whose answer is known, for tests of what uses one."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from trainer.serving_graph import ServedParts, build_served_module, save_served_model

SIZE = 16
_SHARPNESS = 10.0


def tiny_model(
    directory: Path,
    *,
    labels: Sequence[str] = ("dark", "bright"),
    multi_label: bool = False,
    with_embed: bool = False,
    max_image_pixels: int = 1_000_000,
) -> Path:
    """Writes a model that tells pictures apart by their brightness.

    Black is the first label, white the last, and others stand for the greys between them in equal steps. The vector of
    a picture is its mean red, green and blue, in 0..1.

    Args:
        directory: where the version `1` is made.
        labels: at least two.
        multi_label: scores are those of a sigmoid; of two labels each is 1 minus the other.
        with_embed: whether there is the signature `embed`.
        max_image_pixels: width times height of the largest picture that is decoded.

    Returns:
        the directory of the version.
    """
    colour, head = _mean_colour(), _brightness_head(len(labels), multi_label=multi_label)
    parts = ServedParts(
        image_size=SIZE,
        labels=labels,
        multi_label=multi_label,
        backbone=colour if with_embed else None,
        transform=tf.identity,
        head=head if with_embed else lambda pixels: head(colour(pixels)),
        variables=[variable.value for variable in head.variables],
    )
    version = directory / "1"
    module = build_served_module(parts, max_image_pixels=max_image_pixels)
    info = _info(labels, multi_label=multi_label, with_embed=with_embed, max_image_pixels=max_image_pixels)
    save_served_model(module, str(version), info=info)
    return version


def _mean_colour() -> keras.Model:
    pixels = keras.Input((SIZE, SIZE, 3))
    return keras.Model(pixels, keras.layers.GlobalAveragePooling2D()(keras.layers.Rescaling(1 / 255)(pixels)))


def _brightness_head(labels: int, *, multi_label: bool) -> keras.Model:
    """Returns mean colours, float32 [batch, 3], to logits: linear, and largest for the nearest grey."""
    colour = keras.Input((3,))
    dense = keras.layers.Dense(labels)
    model = keras.Model(colour, dense(colour))
    grey = np.linspace(0.0, 1.0, labels)
    slope, offset = (4 * grey - 2, 1 - 2 * grey) if multi_label else (2 * grey, -(grey**2))
    dense.set_weights([np.tile(_SHARPNESS * slope / 3, (3, 1)), _SHARPNESS * offset])
    return model


def _info(labels: Sequence[str], *, multi_label: bool, with_embed: bool, max_image_pixels: int) -> dict[str, Any]:
    return {
        "format": 1,
        "model": "brightness",
        "run": "a-run",
        "step": 7,
        "checkpoint": "best",
        "labels": list(labels),
        "multi_label": multi_label,
        "image_size": SIZE,
        "max_image_pixels": max_image_pixels,
        "embedding": {"backbone": "mean_colour", "weights_sha256": "0" * 64, "width": 3} if with_embed else None,
        "data": {"path": "a-data-set", "fingerprint": "0123456789abcdef", "pictures": ""},
        "metrics": {"accuracy": 0.5},
        "versions": {},
    }
