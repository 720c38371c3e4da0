"""Data sets of embeddings, checked against their own account."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from beam_pipelines import files
from beam_pipelines.dataset import EMBEDDING, INFO_FILE, LABELS_FILE, SPLITS, Shard
from beam_pipelines.embedding.source import SourceShard
from beam_pipelines.embedding.writer import EmbeddingWriter, EmbedShape
from beam_pipelines.plan_files import PlanFiles
from beam_pipelines.publish import account_for_rows, mark_completed
from beam_pipelines.verify import verify
from beam_pipelines.write_shards import count_shard
from tests.beam_pipelines.builders import artwork
from tests.beam_pipelines.data_sets import write_data_set
from tests.beam_pipelines.embedding.test_writer import FakeEmbedder
from tests.beam_pipelines.test_verify import edit_info, forge, with_first

TRAIN, VALIDATION = Shard("train", 0, 1), Shard("validation", 0, 1)
ROWS = {TRAIN: [artwork("1/0", group="1"), artwork("1/1", group="1")], VALIDATION: [artwork("2/0", group="2")]}
WIDTH = 6


@pytest.fixture
def data(tmp_path: Path) -> str:
    """A finished data set of embeddings."""
    pictures, directory = str(tmp_path / "pictures"), str(tmp_path / "embeddings")
    write_data_set(pictures, ROWS)
    plan = PlanFiles(directory)
    shape = EmbedShape(dataset=pictures, backbone="fake", batch_size=2, samples_below=0)
    writer = EmbeddingWriter(plan, shape, embedder=FakeEmbedder(), threads=1)
    counted = [
        count_shard(plan, shard, writer.ensure(SourceShard(shard.name, len(rows)))) for shard, rows in ROWS.items()
    ]
    writer.close()
    summary = {
        "fingerprint": "f",
        "labels": ["Japan"],
        "read": 3,
        "splits": {split: {"shards": 1} for split in SPLITS},
        "filtered": {},
        "rejected": {},
        "split_given": 0,
        "versions": {},
        "examples": {},
    }
    files.write_json(plan.summary, summary)
    files.write_lines(plan.rejected, [])
    files.write_lines(files.join(directory, LABELS_FILE), ["Japan"])
    info, _ = account_for_rows({}, directory, plan.account, counted)
    files.write_json(files.join(directory, INFO_FILE), {**info, "backbone": {"width": WIDTH}})
    mark_completed(directory, info)
    return directory


def with_embedding(values: list[float]) -> Callable[[list[dict[str, Any]]], list[dict[str, Any]]]:
    return lambda examples: [{**examples[0], EMBEDDING: values}, *examples[1:]]


def test_a_finished_data_set_is_well(data: str) -> None:
    assert list(verify(data)) == []


@pytest.mark.parametrize("place", [0, 30, -1])
def test_a_flipped_byte(data: str, place: int) -> None:
    path = Path(data, TRAIN.file_name)
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)
    assert any(problem.startswith(f"{TRAIN.file_name}: record ") for problem in verify(data))


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ([1.0] * (WIDTH - 1), "has an embedding of 5 numbers instead of 6"),
        ([1.0] * (WIDTH + 1), "has an embedding of 7 numbers instead of 6"),
        ([1.0] * (WIDTH - 1) + [float("nan")], "has an embedding with numbers that are not finite"),
        ([float("-inf")] + [1.0] * (WIDTH - 1), "has an embedding with numbers that are not finite"),
        ([], "an example lacks embedding"),
    ],
)
def test_an_embedding_that_is_none(data: str, values: list[float], problem: str) -> None:
    forge(data, TRAIN, with_embedding(values))
    assert any(problem in found for found in verify(data))


def test_another_width_than_is_told(data: str) -> None:
    edit_info(data, lambda info: info.update(backbone={"width": 2048}))
    assert sum("has an embedding of 6 numbers instead of 2048" in found for found in verify(data)) == 3


def test_identity_is_checked_as_of_pictures(data: str) -> None:
    forge(data, TRAIN, with_first(TEXT=[b"China"]))
    assert any("has the classes (0,) ('China',)" in found for found in verify(data))
    forge(data, TRAIN, with_first(KEY=[b"9/9"]))
    assert any("9/9: is not planned for this shard" in found for found in verify(data))


def test_an_object_on_both_sides_of_the_split(data: str) -> None:
    rows = PlanFiles(data).rows(VALIDATION)
    files.write_bytes(rows, files.read_bytes(rows).replace(b'"group":"2"', b'"group":"1"'))
    assert list(verify(data)) == ["1 objects are on both sides of the split"]
