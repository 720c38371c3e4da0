import json
import threading
import time
from pathlib import Path

import pytest

from beam_pipelines import files, progress
from beam_pipelines.progress import ProgressFile, progress_line, shown_progress


@pytest.mark.parametrize(
    ("done", "rejected", "total", "seconds", "expected"),
    [
        (1200, 4, 3068, 12.5, "1,200 of 3,068 pictures (39%), 96/s, 4 rejected, 0:19 left"),
        (0, 0, 10, 5, "0 of 10 pictures (0%), 0/s, 0 rejected, ? left"),
        (10, 10, 10, 5, "10 of 10 pictures (100%), 2/s, 10 rejected, 0:00 left"),
        (10, 0, 100_000, 1, "10 of 100,000 pictures (0%), 10/s, 0 rejected, 2:46:39 left"),
        (40, 0, 10, 5, "10 of 10 pictures (100%), 2/s, 0 rejected, 0:00 left"),
        (0, 0, 0, 0, "0 of 0 pictures (100%), 0/s, 0 rejected, ? left"),
    ],
)
def test_progress_line(done: int, rejected: int, total: int, seconds: float, expected: str) -> None:
    assert progress_line(done=done, rejected=rejected, total=total, seconds=seconds) == expected


def test_what_several_workers_have_done_is_added_up(tmp_path: Path) -> None:
    for rejected in (0, 2):
        worker = ProgressFile(str(tmp_path))
        worker.add(done=3, rejected=0)
        worker.add(done=2, rejected=rejected)
        worker.tell()
    (tmp_path / "damaged.json").write_text("{")
    assert progress._read(str(tmp_path)) == (10, 2)
    assert progress._read(str(tmp_path / "no")) == (0, 0)


def test_a_worker_tells_only_from_time_to_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    worker = ProgressFile(str(tmp_path))
    worker.add(done=1, rejected=0)
    assert list(tmp_path.iterdir()) == []
    now += 1
    worker.add(done=1, rejected=1)
    (told,) = tmp_path.iterdir()
    now += 0.1
    worker.add(done=1, rejected=0)
    assert json.loads(told.read_text()) == {"done": 2, "rejected": 1}


def test_a_full_disk_does_not_end_a_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def refuse(path: str, content: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files, "write_bytes", refuse)
    ProgressFile(str(tmp_path)).tell()


def test_watching_ends_with_its_block_even_if_that_raises(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="it broke"), shown_progress(str(tmp_path), total=3):
        raise RuntimeError("it broke")
    assert not [thread for thread in threading.enumerate() if thread.name == "progress"]
