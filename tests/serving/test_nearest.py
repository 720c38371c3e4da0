from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from serving import collection as collection_module
from serving.nearest import Nearest, Work, search
from tests.serving.builders import embedding_example, write_collection

Vectors = npt.NDArray[np.float32]


def naive(vectors: Vectors, keys: Sequence[str], query: Vectors, *, top: int) -> list[str]:
    """Returns the keys of the nearest vectors, compared one by one."""
    exact, other = vectors.astype(np.float64), query.astype(np.float64)
    cosines = [float(row @ other / (np.linalg.norm(row) * np.linalg.norm(other) or 1)) for row in exact]
    return [key for _, key in sorted(zip([-round(cosine, 12) for cosine in cosines], keys, strict=True))[:top]]


def drawn(count: int, *, width: int = 16, seed: int = 0) -> Vectors:
    """Returns vectors of which some are equal and some are zeros, of very different lengths."""
    numbers = np.random.default_rng(seed)
    vectors = numbers.normal(size=(count, width)) * 10.0 ** numbers.integers(-9, 4, size=(count, 1))
    vectors[numbers.integers(0, count, count // 3)] = vectors[0]
    vectors[numbers.integers(0, count, 2)] = 0
    return vectors.astype(np.float32)


def added(queries: Vectors, vectors: Vectors, *, top: int, block: int) -> list[list[Work]]:
    """Returns what is nearest among vectors that are added block by block; their keys are their rows."""
    nearest = Nearest(queries, top=top)
    for start in range(0, len(vectors), block):
        some = vectors[start : start + block]

        def example(row: int, start: int = start) -> dict[str, list[Any]]:
            return {"image/key": [f"{start + row:04d}".encode()]}

        nearest.add(some, example)
    return nearest.found


@pytest.mark.parametrize("block", [1, 7, 64, 1000])
@pytest.mark.parametrize("top", [1, 5, 300])
def test_the_nearest_are_those_of_a_search_one_by_one(block: int, top: int) -> None:
    vectors, queries = drawn(200), np.random.default_rng(5).normal(size=(2, 16)).astype(np.float32)
    keys = [f"{row:04d}" for row in range(200)]
    found = added(queries, vectors, top=top, block=block)
    assert [[work.key for work in works] for works in found] == [
        naive(vectors, keys, query, top=top) for query in queries
    ]


def test_a_vector_is_nearest_to_itself_whatever_its_length() -> None:
    vectors = drawn(50)
    ((first, second),) = added(1000 * vectors[7:8], vectors, top=2, block=9)
    assert first.key == "0007"
    assert first.similarity == pytest.approx(1.0, abs=1e-9)
    assert -1 <= second.similarity < 1


def test_equally_near_works_come_in_the_order_of_their_keys(tmp_path: Path) -> None:
    vector = drawn(1, width=33)[0] + 1
    keys = [str(key) for key in np.random.default_rng(3).permutation(90)]
    shards = {
        f"train-{index:05d}-of-00003": [embedding_example(key, vector) for key in keys[index::3]] for index in range(3)
    }
    written = write_collection(tmp_path / "e", shards, width=33)
    (found,) = search(written, vector[np.newaxis], top=10)
    assert [work.key for work in found] == sorted(keys)[:10]


def near_ties(count: int = 400, *, width: int = 512) -> Vectors:
    """Returns vectors whose cosines with the first are so near to each other that float32 cannot tell them apart."""
    numbers = np.random.default_rng(4)
    first = numbers.normal(size=width)
    vectors = (first + 1e-3 * numbers.normal(size=(count, width))).astype(np.float32)
    vectors[0] = first
    return vectors


def test_what_float32_cannot_tell_apart_is_told_apart() -> None:
    vectors = near_ties()
    (found,) = added(vectors[:1], vectors, top=20, block=90)
    assert [work.key for work in found] == naive(vectors, [f"{row:04d}" for row in range(400)], vectors[0], top=20)
    assert found[0].key == "0000"


def test_no_cosine_is_more_than_one() -> None:
    vectors = drawn(60, width=100)[1:]
    queries = vectors[vectors.any(axis=1)]
    assert all(work.similarity <= 1 for works in added(queries, vectors, top=2, block=60) for work in works)


def test_zeros_and_the_opposite_are_far() -> None:
    vectors = np.array([[-1, 0], [0, 0], [0, 1], [1, 0]], np.float32)
    (found,) = added(np.array([[2, 0]], np.float32), vectors, top=9, block=2)
    assert [(work.key, work.similarity) for work in found] == [("0003", 1), ("0001", 0), ("0002", 0), ("0000", -1)]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("top", [2, 9])
def test_what_is_not_a_number_is_never_near(top: int) -> None:
    for other in ([np.nan, 1], [np.inf, 1]):
        vectors = np.array([other, [1, 1], [1, 0], [0, 1]], np.float32)
        (found,) = added(np.array([[1, 0]], np.float32), vectors, top=top, block=9)
        assert [work.key for work in found] == ["0002", "0001", "0003"][:top]


def test_only_those_that_may_be_near_are_looked_at() -> None:
    vectors = near_ties()
    asked = []

    def example(row: int) -> dict[str, list[Any]]:
        asked.append(row)
        return {"image/key": [b"%d" % row]}

    nearest = Nearest(vectors[:1], top=3)
    for _ in range(5):
        nearest.add(vectors, example)
    assert 3 <= len(asked) <= 5 * 5


def test_both_splits_are_searched_and_what_is_known_is_told(tmp_path: Path) -> None:
    shards = {
        "train-00000-of-00001": [
            embedding_example("a", [1, 0]),
            embedding_example("b\udc80", [0, 1], uri="http://x/é"),
        ],
        "validation-00000-of-00001": [embedding_example("c", [1, 1], labels=("hat", "shoe"))],
    }
    written = write_collection(tmp_path / "e", shards, width=2)
    found = search(written, np.array([[1, 0.5], [0, 3]], np.float32), top=2)
    assert [[work.key for work in works] for works in found] == [["c", "a"], ["b\udc80", "c"]]
    assert found[0][0].labels == ("hat", "shoe")
    assert found[1][0] == Work(similarity=1.0, key="b\udc80", labels=("hat",), uri="http://x/é")


def test_neither_blocks_nor_files_decide(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = drawn(120)
    examples = [embedding_example(f"{row:03d}", vector) for row, vector in enumerate(vectors)]
    one = write_collection(tmp_path / "one", {"train-00000-of-00001": examples}, width=16)
    expected = search(one, vectors[:4] + 1, top=9)
    parts = {f"train-{index:05d}-of-00007": examples[index::7] for index in range(7)}
    several = write_collection(tmp_path / "several", parts, width=16)
    monkeypatch.setattr(collection_module, "_BLOCK_BYTES", 64 * 5)
    assert search(several, vectors[:4] + 1, top=9) == expected
