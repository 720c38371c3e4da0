"""What the trainer is measured on: TFRecords of drawn pictures and of random embeddings."""

import io
import itertools
import pathlib
from collections.abc import Iterable, Iterator

import numpy as np

from beam_pipelines import images, tfrecords
from beam_pipelines.dataset import EMBEDDING, Feature
from benchmarks import pictures
from benchmarks.pictures import SMALL

CLASSES = 10
SHARDS = 10
WIDTH = 2048
# As ingest makes them by itself.
IMAGE_SIZE = 320


def write_pictures(folder: pathlib.Path, *, train: int) -> list[str]:
    """Writes pictures as ingest shrinks them; returns the trainer's options that name them."""
    drawn = sorted((pictures.drawn((SMALL,)) / SMALL.name).iterdir())
    shrunk = [images.shrink(path.read_bytes(), size=IMAGE_SIZE).jpeg for path in drawn[:train]]
    records = (
        tfrecords.encode_example({Feature.ENCODED: jpeg, Feature.LABEL: number % CLASSES})
        for number, jpeg in enumerate(itertools.islice(itertools.cycle(shrunk), train))
    )
    return _written(folder, {"train": records})


def write_embeddings(folder: pathlib.Path, *, train: int, validation: int = 0) -> list[str]:
    """Writes embeddings of width 2,048, of which classes can be told; returns the trainer's options that name them."""
    splits = {"train": train} | ({"eval": validation} if validation else {})
    generator = np.random.default_rng(7)
    centres = generator.normal(size=(CLASSES, WIDTH)).astype(np.float32)
    return _written(folder, {name: _embeddings(generator, centres, count) for name, count in splits.items()})


def _embeddings(generator: np.random.Generator, centres: np.ndarray, count: int) -> Iterator[bytes]:
    for number in range(count):
        vector = centres[number % CLASSES] + generator.normal(scale=4, size=WIDTH)
        yield tfrecords.encode_example({EMBEDDING: vector.tolist(), Feature.LABEL: number % CLASSES})


def _written(folder: pathlib.Path, splits: dict[str, Iterable[bytes]]) -> list[str]:
    """Writes each split in ten shards, records in turns, and the labels; returns the trainer's options."""
    folder.mkdir()
    labels = folder / "labels.txt"
    labels.write_text("".join(f"label {number}\n" for number in range(CLASSES)))
    for name, records in splits.items():
        paths = [folder / f"{name}-{number:05d}-of-{SHARDS:05d}.tfrecord" for number in range(SHARDS)]
        files = [io.BytesIO() for _ in paths]
        for file, record in zip(itertools.cycle(files), records, strict=False):
            file.write(tfrecords.frame(record))
        for path, file in zip(paths, files, strict=True):
            path.write_bytes(file.getbuffer())
    named = [option for name in splits for option in (f"--{name}_data_paths", str(folder / f"{name}-*.tfrecord"))]
    return [*named, "--labels_file", str(labels)]
