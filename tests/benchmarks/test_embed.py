import dataclasses
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from beam_pipelines.dataset import Shard
from benchmarks import embed, embed_loops
from benchmarks.embed import CONTESTANTS, OURS
from benchmarks.figures import Figures, Round
from tests.beam_pipelines.builders import artwork
from tests.beam_pipelines.data_sets import write_data_set

PICTURES = 11


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "pictures"
    rows = [artwork(f"{number:02d}") for number in range(PICTURES)]
    write_data_set(str(folder), {Shard("train", 0, 2): rows[:7], Shard("train", 1, 2): rows[7:]})
    return folder


class FakeEmbedder:
    """Remembers how many pictures were decoded, and how many were embedded at a time."""

    def __init__(self) -> None:
        self.decoded = 0
        self.batches: list[int] = []

    def pixels(self, jpeg: bytes) -> npt.NDArray[np.float32]:
        assert jpeg.startswith(b"\xff\xd8")
        self.decoded += 1
        return np.zeros((1, 1, 3), np.float32)

    def batch(self, pixels: list[npt.NDArray[np.float32]]) -> npt.NDArray[np.float32]:
        return np.stack(pixels)

    def embed_batch(self, pixels: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        self.batches.append(len(pixels))
        return np.zeros((len(pixels), 2), np.float32)

    def embed(self, pixels: list[npt.NDArray[np.float32]]) -> npt.NDArray[np.float32]:
        return self.embed_batch(self.batch(pixels))


@pytest.mark.parametrize(
    ("loop", "pictures", "decoded", "batches"),
    [
        ("ready", 15, PICTURES, [4, 4, 4, 3]),
        ("bare", 10, 10, [4, 4, 2]),
        ("single", 10, 10, [1] * 10),
        ("decode", 10, 10, []),
    ],
)
def test_a_loop_takes_so_many_pictures(
    dataset: Path, loop: str, pictures: int, decoded: int, batches: list[int]
) -> None:
    fake: Any = FakeEmbedder()
    assert embed_loops.LOOPS[loop](fake, dataset, pictures=pictures, batch_size=4) == pictures
    assert (fake.decoded, fake.batches) == (decoded, batches)


def rounds_of(*rates: dict[str, float]) -> list[dict[str, Round]]:
    """Returns rounds in which contestants have these rates, or 1, and take the less CPU time the faster they are."""
    blank = Figures(rate=1, cpu=2, start_up=3, start_up_cpu=0, peak_memory=5e6, largest_process=0)
    return [
        {
            name: Round(
                running=dataclasses.replace(blank, rate=given.get(name, 1), cpu=2 / given.get(name, 1)),
                whole=100 / given.get(name, 1),
            )
            for name in CONTESTANTS
        }
        for given in rates
    ]


def test_the_table_has_medians() -> None:
    rows = embed.table(rounds_of({OURS: 10}, {OURS: 40}, {OURS: 20})).splitlines()
    assert [row.split()[0] for row in rows[1:]] == list(CONTESTANTS)
    assert rows[1].split() == [OURS, "20.0", "100.00", "3.0", "5.0", "5"]


def test_ours_is_compared_with_the_others_round_by_round() -> None:
    lines = embed.verdicts(rounds_of({OURS: 9, "ready": 10, "bare": 9, "single": 3, "decode": 36}))
    assert lines == [
        ("ours / ready, images/s: 0.90 (0.90 to 0.90, goal 0.95: missed)", False),
        ("ours / bare, images/s: 1.00 (1.00 to 1.00, goal 0.95: met)", True),
        ("ours / single, images/s: 3.00 (3.00 to 3.00)", True),
        ("bare / ready, images/s: 0.90 (0.90 to 0.90)", True),
        ("decode / bare, CPU time: 0.25 (0.25 to 0.25)", True),
    ]


def test_a_wrong_backbone_is_told_at_once(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["embed", "--backbones", "inception_v3", "inception_v5"])
    assert embed.main() == 2
    assert "inception_v5 is not a model of Keras Applications" in capsys.readouterr().err
