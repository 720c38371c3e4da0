from pathlib import Path
from typing import Any

import pytest

from beam_pipelines import files
from beam_pipelines.dataset import Feature, Shard
from beam_pipelines.errors import OptionError
from beam_pipelines.fetch.fetcher import Fetcher, FetchLimits
from beam_pipelines.rejects import Reason
from beam_pipelines.sources import ReadOptions, SourceOptions, make_source
from beam_pipelines.sources.tfrecord import find_files
from beam_pipelines.tfrecords import encode_example, frame
from tests.beam_pipelines.builders import BUCKET, artwork, object_store, run_rows
from tests.beam_pipelines.data_sets import drawn, write_data_set
from tests.beam_pipelines.json_pictures import image_record, write_records


def source(path: Path | str, *, max_bytes: int = 1 << 20, **more: object) -> Any:
    reading = ReadOptions(fetch=FetchLimits(max_bytes=max_bytes))
    return make_source("tfrecord", SourceOptions(input=str(path), reading=reading, **more))  # type: ignore[arg-type]


def test_a_data_set_gives_its_pictures_their_labels_and_their_split(tmp_path: Path) -> None:
    data = tmp_path / "data"
    rows = {Shard("train", 0, 1): [artwork("a"), artwork("b/\udc80")], Shard("validation", 0, 1): [artwork("c")]}
    write_data_set(str(data), rows, fetch=lambda uri: drawn(7))
    read = source(data)
    read.check()
    found, dropped = run_rows(read, tmp_path / "run")
    assert dropped == []
    assert [(row.key, row.labels, row.split) for row in found] == [
        ("a", ("Japan",), "train"),
        ("b/\udc80", ("Japan",), "train"),
        ("c", ("Japan",), "validation"),
    ]
    with Fetcher(FetchLimits()) as fetcher:
        assert len({fetcher.fetch(row.image_uri) for row in found}) == 1
        assert fetcher.fetch(found[0].image_uri).startswith(b"\xff\xd8")


def test_every_record_is_a_row_or_is_told(tmp_path: Path) -> None:
    damaged = image_record(b"damaged").replace(b"damaged", b"demaged")
    records = [
        image_record(b"a", key="a", labels=["hat", "cap"]),
        damaged,
        frame(b"no example"),
        frame(encode_example({Feature.KEY: b"no picture"})),
        image_record(b"x" * 3_000_000),
        image_record(b"b"),
        frame(encode_example({Feature.ENCODED: b"c", Feature.KEY: 5, Feature.TEXT: [b"\xff"]})),
        image_record(b"cut short")[:-3],
    ]
    read = source(write_records(tmp_path / "in.tfrecord", records), max_bytes=1000)
    read.check()
    found, dropped = run_rows(read, tmp_path / "run")
    assert [(row.key, row.labels, row.split) for row in found] == [
        ("a", ("cap", "hat"), ""),
        ("in.tfrecord#5", (), ""),
        ("in.tfrecord#6", ("\ufffd",), ""),
    ]
    assert [(row.key, row.reason) for row in dropped] == [
        ("in.tfrecord#1", Reason.CORRUPT_RECORD),
        ("in.tfrecord#2", Reason.CORRUPT_RECORD),
        ("in.tfrecord#3", Reason.CORRUPT_RECORD),
        ("in.tfrecord#4", Reason.TOO_LARGE),
        ("in.tfrecord#7", Reason.CORRUPT_RECORD),
    ]


def test_files_may_lie_in_cloud_storage(tmp_path: Path) -> None:
    with object_store():
        for name in ("a.tfrecord", "b.tfrecord", "c.txt"):
            files.write_bytes(f"{BUCKET}/data/{name}", image_record(name.encode()))
        assert find_files(f"{BUCKET}/data/a*") == [f"{BUCKET}/data/a.tfrecord"]
        rows, _ = run_rows(source(f"{BUCKET}/data"), tmp_path / "run")
        with Fetcher(FetchLimits()) as fetcher:
            assert [fetcher.fetch(row.image_uri) for row in rows] == [b"a.tfrecord", b"b.tfrecord"]


def test_what_cannot_be_used_is_told(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=r"there is no file \*\.tfrecord in it"):
        source(tmp_path).check()
    with pytest.raises(OptionError, match="there is no such file"):
        source(tmp_path / "*.tfrecord").check()
    (tmp_path / "a.tfrecord.gz").write_bytes(b"\x1f\x8b\x08")
    with pytest.raises(OptionError, match="is packed"):
        source(tmp_path / "a.tfrecord.gz").check()
    write_records(tmp_path / "train.tfrecord", [frame(encode_example({"embedding": [0.5]}))])
    with pytest.raises(OptionError, match="has embeddings: give the data set of pictures"):
        source(tmp_path).check()
    (tmp_path / ".plan").mkdir()
    with pytest.raises(OptionError, match="is no finished data set"):
        source(tmp_path).check()
