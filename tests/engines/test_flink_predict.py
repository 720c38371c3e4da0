"""Batch prediction on a real Flink cluster: the same bytes as on one machine."""

from pathlib import Path

import pytest

from tests.beam_pipelines.data_sets import drawn
from tests.beam_pipelines.ingest_command import content, run_predict
from tests.engines.flink_cluster import RealCluster
from tests.serving.tiny_model import tiny_model

pytestmark = [pytest.mark.engine, pytest.mark.timeout(900)]


def test_predict_gives_what_one_machine_gives(flink: RealCluster, tmp_path: Path) -> None:
    for number in range(20):
        path = tmp_path / "pictures" / ("dark" if number % 2 else "bright") / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(drawn(number) if number != 7 else b"no picture")
    arguments = [
        "--model", tiny_model(tmp_path / "model"), "--source", "directory", "--input", tmp_path / "pictures",
        "--num_shards", 5, "--batch_size", 3, "--all_scores",
    ]  # fmt: skip
    for name, options in (("here", ()), ("there", flink.options)):
        code, printed = run_predict(*arguments, *options, "--output", tmp_path / name)
        assert code == 0, printed
        assert "20 rows read: 19 predicted, 1 rejected" in printed
    assert content(tmp_path / "there") == content(tmp_path / "here")
