"""Writes MNIST's files: http://yann.lecun.com/exdb/mnist/."""

import gzip
import struct
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

Pictures = npt.NDArray[np.uint8]


def draw_pictures(count: int, *, side: int = 28, seed: int = 0) -> Pictures:
    """Returns random grey pictures, `count` of `side` by `side` pixels."""
    return np.random.default_rng(seed).integers(0, 256, (count, side, side), dtype=np.uint8)


def idx_pictures(pictures: Pictures) -> bytes:
    """Returns a file of pictures."""
    return struct.pack(">4I", 0x803, *pictures.shape) + pictures.tobytes()


def idx_labels(labels: Sequence[int]) -> bytes:
    """Returns a file of labels."""
    return struct.pack(">2I", 0x801, len(labels)) + bytes(labels)


def write_pair(folder: Path, stem: str, pictures: Pictures, labels: Sequence[int]) -> Path:
    """Writes a packed pair of files; returns the path of the pictures."""
    folder.mkdir(parents=True, exist_ok=True)
    images = folder / f"{stem}-images-idx3-ubyte.gz"
    images.write_bytes(gzip.compress(idx_pictures(pictures), 1))
    (folder / f"{stem}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx_labels(labels), 1))
    return images
