import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from beam_pipelines import files
from beam_pipelines.errors import OptionError, RunError
from beam_pipelines.tfrecords import CorruptRecordError, encode_example, frame
from serving import collection as module
from serving.collection import read_blocks, read_collection, read_shard
from tests.beam_pipelines.builders import BUCKET, hostile_text, object_store
from tests.serving.builders import embedding_example, write_collection


def shard(examples: Sequence[bytes]) -> io.BytesIO:
    return io.BytesIO(b"".join(map(frame, examples)))


@given(
    st.integers(1, 40).flatmap(lambda width: arrays.arrays(np.float32, st.tuples(st.integers(1, 5), st.just(width)))),
    hostile_text,
)
def test_vectors_are_what_was_written(vectors: Any, text: str) -> None:
    key = f"embedding{text}"
    examples = [embedding_example(key, row, uri=text) for row in vectors]
    blocks = list(read_blocks(shard(examples), width=vectors.shape[1]))
    np.testing.assert_array_equal(np.concatenate([block.vectors for block in blocks]), vectors)
    assert blocks[0].example(0)["image/key"] == [key.encode("utf-8", "surrogatepass")]


def test_long_vectors_are_read_from_where_they_lie(monkeypatch: pytest.MonkeyPatch) -> None:
    def slow(record: bytes) -> None:
        raise AssertionError("the example was decoded")

    vectors = np.random.default_rng(1).normal(size=(3, 2048)).astype(np.float32)
    examples = [embedding_example("a" * 9 * row, vector) for row, vector in enumerate(vectors)]
    monkeypatch.setattr(module, "decode_example", slow)
    (block,) = read_blocks(shard(examples), width=2048)
    np.testing.assert_array_equal(block.vectors, vectors)


def test_features_may_come_in_any_order() -> None:
    sorted_keys = encode_example({"embedding": [1.0, 2.0], "a": b"embedding"})
    assert sorted_keys.index(b"\x01a") < sorted_keys.index(b"\tembedding\x12")
    (block,) = read_blocks(shard([encode_example({"embedding": [3.0, 4.0]}), sorted_keys]), width=2)
    assert block.vectors.tolist() == [[3, 4], [1, 2]]


def test_blocks_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_BLOCK_BYTES", 3 * 4 * 2)
    examples = [embedding_example(str(number), [number, 1]) for number in range(7)]
    blocks = list(read_blocks(shard(examples), width=2))
    assert [block.vectors[:, 0].tolist() for block in blocks] == [[0, 1, 2], [3, 4, 5], [6]]
    assert [block.example(0)["image/key"] for block in blocks] == [[b"0"], [b"3"], [b"6"]]


@pytest.mark.parametrize("example", [embedding_example("a", [1, 2, 3]), encode_example({"image/key": b"a"}), b"\xff"])
def test_another_vector_is_damage(example: bytes) -> None:
    with pytest.raises(CorruptRecordError):
        list(read_blocks(shard([example]), width=2))


def test_a_data_set_says_what_it_has(tmp_path: Path) -> None:
    shards = {"train-00000-of-00002": [embedding_example("a", [1, 2])] * 3, "train-00001-of-00002": []}
    written = write_collection(
        tmp_path / "e", {**shards, "validation-00000-of-00001": [embedding_example("b", [1, 2])]}, width=2
    )
    assert read_collection(str(tmp_path / "e")) == written
    assert (written.works, len(written.shards)) == (4, 2)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("COMPLETED", None, r"--embeddings .* is no data set, it has no file COMPLETED: give the --output of beam_pi"),
        ("dataset_info.json", "{}", r"--embeddings .* has pictures: give the data set of embeddings that python -m"),
        ("dataset_info.json", '{"backbone": {}}', r"dataset_info.json is damaged: see python -m beam_pipelines.verify"),
        ("dataset_info.json", "{", r"dataset_info.json is damaged"),
        ("dataset_info.json", "3", r"dataset_info.json is damaged"),
        ("dataset_info.json", None, r"dataset_info.json is damaged"),
    ],
)
def test_what_is_no_finished_data_set_is_refused(tmp_path: Path, name: str, content: str | None, message: str) -> None:
    write_collection(tmp_path / "e", {}, width=2)
    (tmp_path / "e" / name).unlink()
    if content is not None:
        (tmp_path / "e" / name).write_text(content)
    with pytest.raises(OptionError, match=message):
        read_collection(str(tmp_path / "e"))


def test_damaged_files_are_named(tmp_path: Path) -> None:
    written = write_collection(tmp_path / "e", {"train-00000-of-00001": [embedding_example("a", [1, 2])]}, width=2)
    path = tmp_path / "e" / written.shards[0]
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(RunError, match=r"train-00000-of-00001.tfrecord is damaged \(record 0: .*: see .*verify"):
        list(read_shard(written, written.shards[0]))
    path.unlink()
    with pytest.raises(RunError, match=r"train-00000-of-00001.tfrecord is missing: see .*verify"):
        list(read_shard(written, written.shards[0]))


def test_a_collection_may_lie_in_an_object_store(tmp_path: Path) -> None:
    write_collection(tmp_path / "e", {"train-00000-of-00001": [embedding_example("a", [1, 2])]}, width=2)
    with object_store():
        files.copy_tree(str(tmp_path / "e"), f"{BUCKET}/e")
        found = read_collection(f"{BUCKET}/e")
        (block,) = read_shard(found, found.shards[0])
    assert block.vectors.tolist() == [[1, 2]]
    assert json.loads((tmp_path / "e/dataset_info.json").read_text())["backbone"]["name"] == found.backbone
