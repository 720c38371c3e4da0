"""Embed on a real Flink cluster: the same bytes as on one machine."""

from pathlib import Path

import pytest

from beam_pipelines.dataset import Shard
from tests.beam_pipelines.builders import artwork
from tests.beam_pipelines.data_sets import write_data_set
from tests.beam_pipelines.ingest_command import run_embed
from tests.engines.flink_cluster import RealCluster, assert_gives_what_one_machine_gives

pytestmark = [pytest.mark.engine, pytest.mark.timeout(900)]


def test_embed_gives_what_one_machine_gives(flink: RealCluster, tmp_path: Path) -> None:
    shards = [*(Shard("train", number, 3) for number in range(3)), Shard("validation", 0, 1)]
    rows = {shard: [artwork(f"{shard.name}/{number}") for number in range(5)] for shard in shards}
    write_data_set(str(tmp_path / "pictures"), rows)
    arguments = ("--dataset", tmp_path / "pictures", "--backbone", "resnet50", "--weights", "none", "--batch_size", 2)
    assert_gives_what_one_machine_gives(flink, run_embed, *arguments, folder=tmp_path)
