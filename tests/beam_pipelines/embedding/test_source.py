from pathlib import Path

import pytest

from beam_pipelines import files
from beam_pipelines.dataset import COMPLETED_FILE, INFO_FILE, Shard
from beam_pipelines.embedding.source import SourceShard, read_source, source_shards
from beam_pipelines.errors import OptionError
from tests.beam_pipelines.builders import artwork
from tests.beam_pipelines.data_sets import write_data_set


@pytest.fixture
def pictures(tmp_path: Path) -> str:
    rows = {
        Shard("train", 0, 2): [artwork("a"), artwork("b")],
        Shard("train", 1, 2): [],
        Shard("validation", 0, 1): [artwork("c")],
    }
    write_data_set(str(tmp_path), rows)
    return str(tmp_path)


def test_shards_are_told_with_their_pictures(pictures: str) -> None:
    shards = source_shards(read_source(pictures))
    assert shards == [
        SourceShard("train-00000-of-00002", 2),
        SourceShard("train-00001-of-00002", 0),
        SourceShard("validation-00000-of-00001", 1),
    ]
    assert [len(shard) for shard in shards] == [2, 0, 1]


def test_what_is_not_finished_is_refused(pictures: str, tmp_path: Path) -> None:
    for directory in (pictures, str(tmp_path / "no")):
        files.remove(files.join(directory, COMPLETED_FILE))
        with pytest.raises(OptionError, match=f"--dataset {directory} is no finished data set"):
            read_source(directory)


def test_embeddings_are_refused(pictures: str) -> None:
    path = files.join(pictures, INFO_FILE)
    info = {**files.read_json(path), "backbone": {"name": "resnet50"}, "dataset": {"path": "the/pictures"}}
    files.write_json(path, info)
    with pytest.raises(OptionError, match=r"has embeddings already, of resnet50: .* the/pictures"):
        read_source(pictures)


def test_without_training_pictures_it_is_refused(tmp_path: Path) -> None:
    rows = {Shard("validation", 0, 1): [artwork("c")]}
    write_data_set(str(tmp_path), rows)
    with pytest.raises(OptionError, match="no picture in the training split"):
        read_source(str(tmp_path))
