"""Ingest killed at several moments: the next run leaves what an undisturbed one would have left, byte for byte."""

import os
import shutil
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.beam_pipelines.ingest_command import content, run_ingest, start_ingest, write_manifest
from tests.hostile_server import CASES, HostileServer

pytestmark = pytest.mark.slow

_PICTURES = 240
_POLL_SECONDS = 0.005


class Collection:
    """A collection on the server, with broken pictures and with doubles across the split."""

    def __init__(self, server: HostileServer, folder: Path) -> None:
        self.server = server
        uris = [server.url(f"/picture/{seed}.jpg?width=120&height=90") for seed in range(_PICTURES)]
        doubles = [server.url(f"/picture/1.jpg?width=120&height=90&double={number}") for number in range(12)]
        broken = [server.url(f"{CASES[name].path}?n={n}") for name in ("not_found", "truncated_jpeg") for n in range(5)]
        rows = [(uri, f"label {number % 2}") for number, uri in enumerate([*uris, *doubles, *broken])]
        self.arguments = [
            "--source", "manifest", "--input", write_manifest(folder / "list.csv", rows), "--allow_private_addresses",
            "--num_shards", 12, "--max_requests_per_second", 150, "--direct_num_workers", 2,
        ]  # fmt: skip
        self.undisturbed = folder / "undisturbed"
        code, output = run_ingest(*self.arguments, "--output", self.undisturbed)
        assert code == 0, output

    def planned(self, output: Path) -> None:
        """Copies the plan, as a run killed right after it would leave it."""
        for name in (".plan/plan.json", ".plan/rejected.jsonl", "labels.txt"):
            (output / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(self.undisturbed / name, output / name)
        for name in (".plan/rows", "transform_fn", "transformed_metadata"):
            shutil.copytree(self.undisturbed / name, output / name)


@pytest.fixture(scope="module")
def collection(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Collection]:
    with HostileServer() as server:
        yield Collection(server, tmp_path_factory.mktemp("killed"))


def kill_when(process: subprocess.Popen[str], is_time: Callable[[], bool]) -> None:
    """Kills the command, and only it, as soon as `is_time`; fails if it ends before."""
    pause = threading.Event()
    while not is_time():
        assert process.poll() is None, f"it ended before it was killed: {process.communicate()[0]}"
        pause.wait(_POLL_SECONDS)
    process.kill()
    process.communicate()


def shards(output: Path) -> int:
    return len(list(output.glob("*.tfrecord")))


MOMENTS: dict[str, Callable[[Path, HostileServer, int], bool]] = {
    "while pictures come": lambda output, server, visits: sum(server.visits.values()) > visits + 60,
    "with the first shard": lambda output, server, visits: shards(output) >= 1,
    "when half is there": lambda output, server, visits: shards(output) >= 6,
    "while it publishes": lambda output, server, visits: (output / ".plan" / "counted.json").exists(),
}


@pytest.mark.parametrize("moment", MOMENTS)
def test_killed_run_is_finished_by_the_next(collection: Collection, tmp_path: Path, moment: str) -> None:
    output = tmp_path / "out"
    collection.planned(output)
    visits = sum(collection.server.visits.values())
    process = start_ingest(*collection.arguments, "--output", output)
    kill_when(process, lambda: MOMENTS[moment](output, collection.server, visits))
    assert not (output / "COMPLETED").exists()
    kept = {path.name: path.stat().st_mtime_ns for path in output.glob("*.tfrecord")}
    code, printed = run_ingest(*collection.arguments, "--output", output)
    assert code == 0, printed
    assert content(output) == content(collection.undisturbed)
    rewritten = [name for name, time in kept.items() if (output / name).stat().st_mtime_ns != time]
    doubles = [name for name in kept if "duplicate_content" in account_of(output, name)]
    assert set(rewritten) <= set(doubles)


def test_killed_while_planning(collection: Collection, tmp_path: Path) -> None:
    output = tmp_path / "out"
    process = start_ingest(*collection.arguments, "--output", output)
    kill_when(process, lambda: bool(list(output.glob(".plan/*"))))
    assert not (output / ".plan" / "plan.json").exists()
    code, printed = run_ingest(*collection.arguments, "--output", output)
    assert code == 0, printed
    assert content(output) == content(collection.undisturbed)


def test_interrupted_run_says_how_to_go_on(collection: Collection, tmp_path: Path) -> None:
    output = tmp_path / "out"
    collection.planned(output)
    process = start_ingest(*collection.arguments, "--output", output)
    visits = sum(collection.server.visits.values())
    pause = threading.Event()
    while sum(collection.server.visits.values()) < visits + 20:
        assert process.poll() is None
        pause.wait(_POLL_SECONDS)
    os.killpg(process.pid, signal.SIGINT)
    printed, _ = process.communicate(timeout=30)
    assert process.returncode == 130
    assert printed.splitlines()[-1] == "interrupted: give the same command again to go on"
    assert "Traceback" not in printed


def account_of(output: Path, shard: str) -> str:
    return (output / ".plan" / "accounts" / shard.replace(".tfrecord", ".json")).read_text()
