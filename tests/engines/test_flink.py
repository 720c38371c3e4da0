"""Ingest and labels on a real Flink cluster: the same bytes as on one machine, also when a machine of it is lost."""

import contextlib
import hashlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from beam_pipelines.dataset import Shard
from beam_pipelines.plan_files import PlanFiles, read_account
from beam_pipelines.verify import verify
from demo import draw
from demo.serve import serve
from tests.beam_pipelines.ingest_command import content, run_ingest, start_ingest
from tests.beam_pipelines.test_ingest_killed import Collection
from tests.engines.flink_cluster import RealCluster, assert_gives_what_one_machine_gives
from tests.hostile_server import HostileServer
from tests.ports import free_ports

pytestmark = [pytest.mark.engine, pytest.mark.timeout(900)]

_POLL_SECONDS = 0.02
_END_SECONDS = 30.0
_RATE = 20.0


class DrawnCatalogue:
    """The collection of the demo, served at `address`."""

    def __init__(self, folder: Path, address: str, collection: draw.Collection) -> None:
        draw.write_catalogue(collection, folder / "MetObjects.csv")
        draw.write_image_list(collection, folder / "images.csv", address=address)
        self.arguments = [
            "--source", "open_access_csv", "--input", folder / "MetObjects.csv", "--images_input",
            folder / "images.csv", "--attribute", "culture",
        ]  # fmt: skip


@pytest.fixture(scope="module")
def catalogue(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DrawnCatalogue]:
    folder = tmp_path_factory.mktemp("catalogue")
    pictures = folder / "pictures"
    pictures.mkdir()
    collection = draw.plan_collection(works=200, seed=3)
    draw.write_pictures(collection, pictures)
    with serve(pictures) as address:
        yield DrawnCatalogue(folder, address, collection)


@pytest.fixture(scope="module")
def collection(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Collection]:
    with HostileServer() as server:
        yield Collection(server, tmp_path_factory.mktemp("collection"))


def run_labels(*arguments: object) -> tuple[int, str]:
    command = [sys.executable, "-m", "beam_pipelines.labels", *map(str, arguments)]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=600)
    return done.returncode, done.stdout


def slowly(collection: Collection, output: Path, flink: RealCluster) -> list[object]:
    """Returns the arguments of an ingest on the cluster that takes some time; the plan is there already."""
    if not output.exists():
        collection.planned(output)
    rate = ("--max_requests_per_second", f"127.0.0.1={_RATE:g}")
    return [*collection.arguments, *rate, *flink.options, "--output", output]


def wait_until(is_time: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    """Returns as soon as `is_time`; fails if the command ends before."""
    pause = threading.Event()
    while not is_time():
        assert process.poll() is None, f"it ended before its time: {process.communicate()[0]}"
        pause.wait(_POLL_SECONDS)


def assert_shards_are_whole(output: Path) -> None:
    plan = PlanFiles(str(output))
    for path in output.glob("*.tfrecord"):
        account = read_account(plan.account(Shard.parse(path.name.removesuffix(".tfrecord"))))
        assert account is not None
        assert hashlib.sha256(path.read_bytes()).hexdigest() == account.sha256


def assert_workers_end(flink: RealCluster) -> None:
    pause, end = threading.Event(), time.monotonic() + _END_SECONDS
    while flink.python_workers():
        assert time.monotonic() < end, "Python workers are at work without a job"
        pause.wait(_POLL_SECONDS)


def test_ingest_gives_what_one_machine_gives(flink: RealCluster, catalogue: DrawnCatalogue, tmp_path: Path) -> None:
    choices = ("--image_size", 96, "--num_shards", 8, "--allow_private_addresses")
    assert_gives_what_one_machine_gives(flink, run_ingest, *catalogue.arguments, *choices, folder=tmp_path)


def test_labels_are_counted_alike(flink: RealCluster, catalogue: DrawnCatalogue, tmp_path: Path) -> None:
    tables = []
    for name, options in (("here", ()), ("there", flink.options)):
        code, printed = run_labels(*catalogue.arguments, "--output", tmp_path / f"{name}.csv", *options)
        assert code == 0, printed
        tables.append((tmp_path / f"{name}.csv").read_text())
    assert tables[0] == tables[1]
    assert len(tables[0].splitlines()) > 3


def test_rate_of_a_host_holds_for_all_workers_together(
    flink: RealCluster, collection: Collection, tmp_path: Path
) -> None:
    output = tmp_path / "out"
    before = len(collection.server.arrivals)
    process = start_ingest(*slowly(collection, output, flink))
    workers: set[str] = set()

    def ended() -> bool:
        with contextlib.suppress(OSError):
            workers.update(path.name for path in (output / ".plan" / "progress").glob("[0-9]*.json"))
        return process.poll() is not None

    wait_until(ended, process)
    printed, _ = process.communicate()
    assert process.returncode == 0, printed
    arrivals = collection.server.arrivals[before:]
    assert (len(arrivals) - 1) / (arrivals[-1] - arrivals[0]) <= 1.1 * _RATE
    assert len(workers) >= 2
    assert content(output) == content(collection.undisturbed)


def test_killed_task_manager_costs_time_alone(flink: RealCluster, collection: Collection, tmp_path: Path) -> None:
    output = tmp_path / "out"
    before = len(collection.server.arrivals)
    process = start_ingest(*slowly(collection, output, flink))
    wait_until(lambda: len(collection.server.arrivals) > before + 60, process)
    flink.kill_task_manager()
    flink.add_task_manager()
    printed, _ = process.communicate(timeout=600)
    assert process.returncode == 0, printed
    assert content(output) == content(collection.undisturbed)
    assert not list(verify(str(output)))


def test_stopped_job_is_finished_by_the_next(flink: RealCluster, collection: Collection, tmp_path: Path) -> None:
    output = tmp_path / "out"
    arguments = slowly(collection, output, flink)

    def start_and_wait() -> subprocess.Popen[str]:
        before = len(collection.server.arrivals)
        process = start_ingest(*arguments)
        wait_until(lambda: len(collection.server.arrivals) > before + 60, process)
        return process

    process = start_and_wait()
    [job] = flink.jobs_at_work()
    flink.cancel(job)
    printed, _ = process.communicate(timeout=240)
    assert process.returncode == 1
    assert printed.splitlines()[-1].startswith("error: ")
    assert "cancel" in printed.splitlines()[-1].lower()
    assert "Traceback" not in printed
    assert_shards_are_whole(output)

    process = start_and_wait()
    os.kill(process.pid, signal.SIGINT)
    printed, _ = process.communicate(timeout=240)
    assert process.returncode == 130
    assert printed.splitlines()[-1] == "interrupted: give the same command again to go on"
    assert "Traceback" not in printed
    assert not flink.jobs_at_work()
    assert_workers_end(flink)
    assert_shards_are_whole(output)

    code, printed = run_ingest(*arguments)
    assert code == 0, printed
    assert content(output) == content(collection.undisturbed)


def test_path_that_a_remote_cluster_cannot_reach_is_refused(tmp_path: Path) -> None:
    code, printed = run_ingest(
        "--source", "manifest", "--input", "gs://a-bucket/list.csv", "--output", tmp_path / "out",
        "--runner", "FlinkRunner", "--flink_master", "flink.example:8081",
    )  # fmt: skip
    assert code == 2, printed
    assert f"--output {tmp_path / 'out'} " in printed
    assert len(printed.splitlines()) == 1


def test_cluster_that_does_not_answer_is_told_at_once(tmp_path: Path) -> None:
    master = f"127.0.0.1:{free_ports(1)[0]}"
    code, printed = run_ingest(
        "--source", "directory", "--input", tmp_path, "--output", tmp_path / "out",
        "--runner", "FlinkRunner", "--flink_master", master,
    )  # fmt: skip
    assert code == 2, printed
    assert f"--flink_master {master}" in printed
    assert len(printed.splitlines()) == 1
    assert not (tmp_path / "out").exists()
