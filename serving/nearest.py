"""Exact search for the nearest vectors of a collection, by the cosine, within memory that does not grow with it.

Vectors are compared in float32, all of a block at once; those that may be among the nearest once more in float64, so
that equal vectors are equally near wherever they lie, and neither blocks nor threads decide on the order.
"""

import concurrent.futures
import dataclasses
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from beam_pipelines import files
from beam_pipelines.dataset import Feature
from serving.collection import Collection, Vectors, read_shard

# Files that are read at the same time where each has to be waited for.
_REMOTE_THREADS = 8


@dataclasses.dataclass(frozen=True, kw_only=True)
class Work:
    """A work that was found.

    Attributes:
        similarity: the cosine of its vector and the query's, -1 to 1; 0 for a vector of zeros.
        key: the picture's.
        labels: what it is labelled.
        uri: where it was fetched from.
    """

    similarity: float
    key: str
    labels: tuple[str, ...]
    uri: str


class Nearest:
    """The nearest works to each query, of all that were added; threads may add at the same time.

    Args:
        queries: float32 [queries, width], none of them zeros.
        top: how many works are kept for each; equally near ones in the order of their keys.
    """

    def __init__(self, queries: Vectors, *, top: int) -> None:
        exact = queries.astype(np.float64)
        self._queries = exact / np.sqrt((exact**2).sum(axis=1, keepdims=True))
        self._directions = self._queries.astype(np.float32)
        self._top = top
        # How far a cosine in float32 may be from its value.
        self._error = float(queries.shape[1] * np.finfo(np.float32).eps)
        self._found: list[list[Work]] = [[] for _ in queries]
        self._lock = threading.Lock()

    @property
    def found(self) -> list[list[Work]]:
        """For each query, the nearest works so far, the nearest first."""
        return self._found

    def add(self, vectors: Vectors, example: Callable[[int], Mapping[str, Sequence[Any]]]) -> None:
        """Adds works.

        Args:
            vectors: float32 [works, width].
            example: the features of a work by its row; called for those alone that may be among the nearest.
        """
        with np.errstate(invalid="ignore", over="ignore"):
            lengths = np.sqrt(np.einsum("ij,ij->i", vectors, vectors))
            cosines = vectors @ self._directions.T / np.maximum(lengths, np.finfo(np.float32).tiny)[:, np.newaxis]
        cosines[np.isnan(cosines)] = -np.inf
        for number, column in enumerate(cosines.T):
            rows = np.flatnonzero((column > -np.inf) & (column >= self._least(number, column) - self._error))
            self._add(number, rows, _exact_cosines(vectors[rows], self._queries[number]), example)

    def _least(self, number: int, cosines: npt.NDArray[np.floating[Any]]) -> float:
        """Returns how near a work must be to be among the nearest, as far as it is known."""
        found = self._found[number]
        known = found[-1].similarity if len(found) == self._top else -np.inf
        here = np.partition(cosines, -self._top)[-self._top] if len(cosines) > self._top else -np.inf
        return float(max(known, here))

    def _add(
        self,
        number: int,
        rows: npt.NDArray[np.intp],
        cosines: npt.NDArray[np.float64],
        example: Callable[[int], Mapping[str, Sequence[Any]]],
    ) -> None:
        least = self._least(number, cosines)
        near = [
            _work(float(cosine), example(int(row)))
            for row, cosine in zip(rows, cosines, strict=True)
            if cosine >= least
        ]
        with self._lock:
            both = sorted([*self._found[number], *near], key=lambda work: (-work.similarity, work.key))
            self._found[number] = both[: self._top]


def search(collection: Collection, queries: Vectors, *, top: int) -> list[list[Work]]:
    """Returns, for each query, the nearest works of a collection, the nearest first.

    Args:
        collection: where to look.
        queries: float32 [queries, width], none of them zeros.
        top: how many works; equally near ones come in the order of their keys.

    Raises:
        RunError: a file of the collection is damaged.
    """
    nearest = Nearest(queries, top=top)

    def add_shard(name: str) -> None:
        for block in read_shard(collection, name):
            nearest.add(block.vectors, block.example)

    threads = _REMOTE_THREADS if files.is_remote(collection.directory) else os.cpu_count() or 1
    with concurrent.futures.ThreadPoolExecutor(threads, thread_name_prefix="search") as pool:
        for _ in pool.map(add_shard, collection.shards):
            pass
    return nearest.found


def _exact_cosines(vectors: Vectors, query: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Returns float64 [rows]; each depends on its own row alone, unlike the sums of a matrix product."""
    exact = vectors.astype(np.float64)
    lengths = np.sqrt((exact**2).sum(axis=1))
    cosines: npt.NDArray[np.float64] = (exact * query).sum(axis=1) / np.where(lengths > 0, lengths, 1)
    return cosines.clip(-1, 1)


def _work(similarity: float, example: Mapping[str, Sequence[Any]]) -> Work:
    return Work(
        similarity=similarity,
        key=_text(example.get(Feature.KEY, [b""])[0]),
        labels=tuple(map(_text, example.get(Feature.TEXT, ()))),
        uri=_text(example.get(Feature.URI, [b""])[0]),
    )


def _text(value: bytes) -> str:
    return value.decode("utf-8", "surrogatepass")
