import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from benchmarks import batch_predict, predict_loops
from benchmarks.batch_predict import CONTESTANTS, OURS
from benchmarks.figures import Figures, Round
from serving.model import Predictions

PICTURES = 11


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number in range(PICTURES):
        path = tmp_path / f"label {number % 2}" / f"{number}.jpg"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(bytes([number]))
    return tmp_path


class FakeModel:
    """Remembers the batches that it was asked about."""

    def __init__(self) -> None:
        self.batches: list[list[bytes]] = []

    def predict(self, keys: Sequence[str], images: Sequence[bytes]) -> Predictions:
        assert len(keys) == len(images)
        self.batches.append(list(images))
        return Predictions(np.zeros(len(images), np.int64), ("a",) * len(images), np.ones((len(images), 1), np.float32))


@pytest.mark.parametrize(
    ("loop", "pictures", "batches", "distinct"),
    [
        ("memory", 15, [4, 4, 3, 4], PICTURES),
        ("memory", 3, [3], 3),
        ("files", 10, [4, 4, 2], 10),
        ("files", PICTURES, [4, 4, 3], PICTURES),
    ],
)
def test_a_loop_takes_so_many_pictures(
    folder: Path, loop: str, pictures: int, batches: list[int], distinct: int
) -> None:
    fake = FakeModel()
    assert predict_loops.LOOPS[loop](fake, folder, pictures=pictures, batch_size=4) == pictures
    assert list(map(len, fake.batches)) == batches
    assert len({image for batch in fake.batches for image in batch}) == distinct


def test_a_folder_has_so_many_pictures_those_there_are_in_turn(folder: Path, tmp_path: Path) -> None:
    originals = sorted(folder.rglob("*.jpg"))[:3]
    made = sorted(batch_predict.links(originals, tmp_path / "links", 7).iterdir())
    assert [path.name for path in made] == [f"{number:06d}.jpg" for number in range(7)]
    assert [path.read_bytes() for path in made] == [originals[number % 3].read_bytes() for number in range(7)]


def rounds_of(*rates: dict[str, float]) -> list[dict[str, Round]]:
    """Returns rounds in which contestants have these rates, or 1."""
    blank = Figures(rate=1, cpu=2, start_up=3, start_up_cpu=0, peak_memory=5e6, largest_process=0)
    return [
        {
            name: Round(running=dataclasses.replace(blank, rate=given.get(name, 1)), whole=100 / given.get(name, 1))
            for name in CONTESTANTS
        }
        for given in rates
    ]


def test_the_table_has_medians() -> None:
    rows = batch_predict.table(rounds_of({OURS: 10}, {OURS: 40}, {OURS: 20})).splitlines()
    assert [row.split()[0] for row in rows[1:]] == list(CONTESTANTS)
    assert rows[1].split() == [OURS, "20.0", "2000.00", "3.0", "5.0", "5"]


@pytest.mark.parametrize(("rate", "told", "met"), [(9.0, "met", True), (8.9, "missed", False)])
def test_ours_is_compared_with_the_model_alone(rate: float, told: str, met: bool) -> None:
    (memory, is_met), (files, _) = batch_predict.verdicts(rounds_of({OURS: rate, "memory": 10, "files": 3}))
    assert memory.endswith(f", goal 0.9: {told})")
    assert is_met is met
    assert files.startswith("ours / files, images/s: 3.0" if met else "ours / files, images/s: 2.97")


def test_a_wrong_option_is_told_at_once(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["batch_predict", "--model", "nowhere"])
    assert batch_predict.main() == 2
    assert "nowhere is no model" in capsys.readouterr().err
