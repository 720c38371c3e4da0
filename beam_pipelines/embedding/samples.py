"""The pictures of a data set of embeddings that its report shows, as the steps that wrote its shards left them."""

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np

from beam_pipelines import files
from beam_pipelines.dataset import EMBEDDING, Feature, Shard
from beam_pipelines.embedding.normalization import Vectors
from beam_pipelines.embedding.writer import THUMBNAIL
from beam_pipelines.plan_files import PlanFiles
from beam_pipelines.tfrecords import decode_example, read_records


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sample:
    """A picture that is shown.

    Attributes:
        thumbnail: a small JPEG.
    """

    key: str
    split: str
    labels: tuple[str, ...]
    thumbnail: bytes


def read_samples(plan: PlanFiles, shards: Sequence[Shard], *, width: int) -> tuple[list[Sample], Vectors]:
    """Returns the samples of all shards, in order, and their vectors, float32 [samples, width]."""
    samples, vectors = [], [np.zeros((0, width), np.float32)]
    for shard in shards:
        for record in _read_records(plan.samples(shard)):
            example = decode_example(record)
            vectors.append(np.array([example[EMBEDDING]], np.float32))
            sample = Sample(
                key=_text(example[Feature.KEY][0]),
                split=shard.split,
                labels=tuple(map(_text, example[Feature.TEXT])),
                thumbnail=example[THUMBNAIL][0],
            )
            samples.append(sample)
    return samples, np.concatenate(vectors)


def _read_records(path: str) -> Iterator[bytes]:
    """Yields the records of a file, none if there is no such file: a shard may be without any sample."""
    try:
        with files.open_to_read(path) as file:
            yield from read_records(file)
    except FileNotFoundError:
        return


def _text(value: bytes) -> str:
    return value.decode("utf-8", "surrogatepass")
