"""Ingest and labels with everything in Cloud Storage: as on the local disk, killed, refused and broken off."""

import contextlib
import hashlib
import http.server
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.beam_pipelines.ingest_command import content, run_ingest, start_ingest
from tests.cloud_storage_server import BUCKET, Answer, Asked, CloudStorageServer
from tests.hostile_server import jpeg

pytestmark = pytest.mark.slow

_PICTURES = 220
_POLL_SECONDS = 0.01
_WAIT_SECONDS = 120.0
# TensorFlow's own files, and the page, need not be the same twice.
_NOT_COMPARED = ("transform_fn/", "report.html")
_MISSING = 3


class Collection:
    """Pictures in the bucket and a list of them, with keys and groups of their own; some are not there."""

    def __init__(self, server: CloudStorageServer) -> None:
        self.server = server
        lines = ["uri,label,key,group"]
        for number in range(_PICTURES):
            name = f"pictures/{number} é.jpg"
            if number >= _MISSING:
                server.put(name, jpeg(number, width=60, height=40))
            lines.append(f"gs://{BUCKET}/{name},label {number % 2},key {number},group {number // 2}")
        self.list = ("\n".join(lines) + "\n").encode()
        server.put("list.csv", self.list)
        self.options = ("--num_shards", 11, "--direct_num_workers", 2)

    def arguments(self, name: str) -> list[object]:
        """Returns the arguments of a run from the bucket to the folder `name` in it."""
        return [*self.from_bucket(), "--output", f"gs://{BUCKET}/{name}"]

    def from_bucket(self) -> list[object]:
        return ["--source", "manifest", "--input", f"gs://{BUCKET}/list.csv", *self.options]

    def left(self, name: str) -> dict[str, bytes]:
        """Returns what a run left that must come out the same however it came about."""
        left = self.server.objects(f"{name}/")
        return {path: data for path, data in left.items() if not path.startswith(_NOT_COMPARED)}

    def pictures_of(self, shards: set[str], name: str) -> set[str]:
        """Returns the names of the pictures planned for some shards of a run."""
        lines = [
            line
            for shard in shards
            for line in self.left(name)[f".plan/rows/{shard.removesuffix('.tfrecord')}.jsonl"].splitlines()
        ]
        return {json.loads(line)["uri"].removeprefix(f"gs://{BUCKET}/") for line in lines}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CloudStorageServer]:
    """The store, for all commands that these tests start, on a machine without Google credentials."""
    with CloudStorageServer() as server, pytest.MonkeyPatch.context() as patch:
        for name, value in server.environment().items():
            patch.setenv(name, value)
        patch.setenv("CLOUDSDK_CONFIG", str(tmp_path_factory.mktemp("no credentials")))
        patch.delenv("GOOGLE_APPLICATION_CREDENTIALS", raising=False)
        yield server


@pytest.fixture(autouse=True)
def well_behaved(server: CloudStorageServer) -> Iterator[None]:
    """Lets every test begin and end with a store that does as it is asked."""
    server.answer = lambda asked: None
    server.asked.clear()
    server.held.clear()
    yield
    server.answer = lambda asked: None


@pytest.fixture(scope="module")
def collection(server: CloudStorageServer) -> Collection:
    return Collection(server)


@pytest.fixture(scope="module")
def run_with_everything(collection: Collection) -> list[str]:
    """A run that nothing happens to; gives what was asked of the server that knows a machine's credentials."""
    elsewhere = ("--cache_dir", f"gs://{BUCKET}/cache", "--write_images", f"gs://{BUCKET}/images")
    with metadata_server() as (address, asked), pytest.MonkeyPatch.context() as patch:
        patch.setenv("GCE_METADATA_HOST", address)
        patch.setenv("GCE_METADATA_IP", address)
        code, printed = run_ingest(*collection.arguments("undisturbed"), *elsewhere)
    assert code == 0, printed
    assert f"gs://{BUCKET}/undisturbed is complete" in printed
    return asked


@pytest.fixture(scope="module")
def undisturbed(collection: Collection, run_with_everything: list[str]) -> dict[str, bytes]:
    """What a run leaves that nothing happens to."""
    return collection.left("undisturbed")


@contextlib.contextmanager
def metadata_server() -> Iterator[tuple[str, list[str]]]:
    """Serves what knows the credentials of Google's machines; gives its address and what it was asked for."""
    asked: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_error(404)

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield f"127.0.0.1:{server.server_address[1]}", asked
    finally:
        server.shutdown()
        server.server_close()


def run_module(name: str, *arguments: object) -> tuple[int, str]:
    command = [sys.executable, "-m", f"beam_pipelines.{name}", *map(str, arguments)]
    ended = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=240)
    return ended.returncode, ended.stdout


def shards_in(left: dict[str, bytes]) -> set[str]:
    return {name for name in left if name.endswith(".tfrecord")}


def copy_plan(collection: Collection, name: str) -> None:
    """Leaves in the folder `name` what a run killed right after its plan would leave."""
    for path, data in collection.server.objects("undisturbed/").items():
        if path.startswith((".plan/rows/", ".plan/plan.json", ".plan/rejected", "transform", "labels.txt")):
            collection.server.put(f"{name}/{path}", data)


def kill_when(server: CloudStorageServer, process: subprocess.Popen[str], is_time: Callable[[], bool]) -> None:
    """Kills the command and all that it started as soon as `is_time`; fails if it ends before.

    The store has then done, and forgotten, what the command had asked of it.
    """
    pause = threading.Event()
    waited = 0.0
    while not is_time():
        assert process.poll() is None, f"it ended before it was killed: {process.communicate()[0]}"
        assert waited < _WAIT_SECONDS, "its time never came"
        pause.wait(_POLL_SECONDS)
        waited += _POLL_SECONDS
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    server.forget_the_dead()


def test_everything_in_the_bucket_comes_out_as_on_the_local_disk(
    collection: Collection, undisturbed: dict[str, bytes], tmp_path: Path
) -> None:
    server = collection.server
    (tmp_path / "list.csv").write_bytes(collection.list)
    local = ["--source", "manifest", "--input", tmp_path / "list.csv", *collection.options]
    code, printed = run_ingest(*local, "--output", tmp_path / "out", "--write_images", tmp_path / "images")
    assert code == 0, printed
    here = content(tmp_path / "out")
    same = {name for name in here if name.endswith((".tfrecord", ".txt")) or name == "rejected.jsonl"}
    assert len(shards_in(here)) == 11
    assert {name: undisturbed[name] for name in same} == {name: here[name] for name in same}
    assert set(undisturbed) == set(here)
    assert server.objects("images/") == content(tmp_path / "images")
    code, printed = run_module("verify", f"gs://{BUCKET}/undisturbed")
    assert (code, printed) == (0, f"gs://{BUCKET}/undisturbed: all is well\n")


def test_what_the_cache_has_is_not_fetched_again(collection: Collection, undisturbed: dict[str, bytes]) -> None:
    server = collection.server
    assert len(server.objects("cache/")) == _PICTURES - _MISSING
    copy_plan(collection, "again")
    code, printed = run_ingest(*collection.arguments("again"), "--cache_dir", f"gs://{BUCKET}/cache")
    assert code == 0, printed
    assert collection.left("again") == undisturbed
    assert server.count("read", "pictures/") == _MISSING


def test_killed_while_pictures_come_and_run_again(collection: Collection, undisturbed: dict[str, bytes]) -> None:
    server = collection.server
    copy_plan(collection, "killed")

    def hold_later_pictures(asked: Asked) -> Answer:
        is_picture = asked.operation == "read" and asked.name.startswith("pictures/")
        return "hold" if is_picture and server.count("read", "pictures/") >= 150 else None

    server.answer = hold_later_pictures
    process = start_ingest(*collection.arguments("killed"))
    kill_when(server, process, lambda: server.held.is_set() and len(shards_in(server.objects("killed/"))) >= 2)
    done = shards_in(server.objects("killed/"))
    assert 2 <= len(done) < 11

    server.answer = lambda asked: None
    code, printed = run_ingest(*collection.arguments("killed"))
    assert code == 0, printed
    assert collection.left("killed") == undisturbed
    missing = collection.pictures_of(shards_in(undisturbed) - done, "killed")
    fetched = [asked.name for asked in server.asked if asked.operation == "read" and asked.name.startswith("pictures/")]
    assert sorted(fetched) == sorted(missing)


def test_killed_just_before_it_is_complete(collection: Collection, undisturbed: dict[str, bytes]) -> None:
    server = collection.server
    copy_plan(collection, "nearly")
    server.answer = lambda asked: "hold" if asked.operation == "write" and asked.name.endswith("/COMPLETED") else None
    kill_when(server, start_ingest(*collection.arguments("nearly")), server.held.is_set)
    left = collection.left("nearly")
    assert "COMPLETED" not in left
    assert {**left, "COMPLETED": undisturbed["COMPLETED"]} == undisturbed
    assert run_module("verify", f"gs://{BUCKET}/nearly")[0] == 2

    server.answer = lambda asked: None
    code, printed = run_ingest(*collection.arguments("nearly"))
    assert code == 0, printed
    assert collection.left("nearly") == undisturbed
    assert server.count("read", "pictures/") == 0


def test_readers_never_see_half_a_shard(collection: Collection, undisturbed: dict[str, bytes]) -> None:
    """Every upload of a shard is broken off once; what lies in the bucket is looked at before each request."""
    server = collection.server
    copy_plan(collection, "watched")
    seen: dict[str, set[str]] = {}
    broken: set[str] = set()

    def watch(asked: Asked) -> Answer:
        for name, data in server.objects("watched/").items():
            if name.endswith(".tfrecord") or name == "COMPLETED":
                seen.setdefault(name, set()).add(hashlib.sha256(data).hexdigest())
        if asked.operation == "write" and asked.name.endswith(".tfrecord") and asked.name not in broken:
            assert asked.name.removeprefix("watched/") not in seen
            broken.add(asked.name)
            return "break off"
        return None

    server.answer = watch
    code, printed = run_ingest(*collection.arguments("watched"))
    assert code == 0, printed
    assert {name.removeprefix("watched/") for name in broken} == shards_in(undisturbed)
    assert collection.left("watched") == undisturbed
    assert seen == {name: {hashlib.sha256(undisturbed[name]).hexdigest()} for name in shards_in(undisturbed)}


def test_without_credentials_nobody_looks_for_some(run_with_everything: list[str]) -> None:
    assert run_with_everything == []


def refused(place: str, status: int) -> str:
    return f"error: Google Cloud Storage refuses gs://{BUCKET}/{place} ({status}"


@pytest.mark.parametrize(
    ("operation", "place", "status"),
    [("write", "refused", 401), ("write", "refused", 403), ("stat", "list.csv", 401), ("stat", "list.csv", 403)],
)
def test_a_refusal_is_told_before_any_work(collection: Collection, operation: str, place: str, status: int) -> None:
    server = collection.server
    server.answer = lambda asked: status if asked.operation == operation and asked.name.startswith(place) else None
    code, printed = run_ingest(*collection.arguments("refused"))
    assert code == 2, printed
    assert printed.startswith(refused(place, status))
    assert "`gcloud auth application-default login`" in printed
    assert printed.count("\n") == 1
    assert len(server.asked) <= 4
    assert server.objects("refused/") == {}


@pytest.mark.parametrize("option", ["--input", "--output", "--cache_dir", "--write_images"])
def test_a_missing_bucket_is_told_before_any_work(collection: Collection, option: str) -> None:
    arguments = [*collection.arguments("no bucket"), option, "gs://nobody/place.csv"]
    code, printed = run_ingest(*arguments)
    assert (code, printed) == (2, "error: there is no bucket nobody: make it, or mend gs://nobody/place.csv\n")
    assert len(collection.server.asked) <= 8
    assert collection.server.objects("no bucket/") == {}


def test_a_store_that_cannot_be_reached_is_told_at_once(
    collection: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        address = f"http://127.0.0.1:{unused.getsockname()[1]}"
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", address)
    code, printed = run_ingest(*collection.arguments("unreachable"))
    assert (code, printed) == (2, f"error: there is no connection to {address}, which STORAGE_EMULATOR_HOST names\n")


@pytest.mark.parametrize("status", [401, 403])
def test_a_refusal_in_mid_run_ends_it_in_one_line(
    collection: Collection, undisturbed: dict[str, bytes], status: int
) -> None:
    server, name = collection.server, f"revoked {status}"
    copy_plan(collection, name)

    def revoke(asked: Asked) -> Answer:
        is_done = len(shards_in(server.objects(f"{name}/"))) >= 3
        return status if is_done and asked.name.startswith(name) else None

    server.answer = revoke
    code, printed = run_ingest(*collection.arguments(name))
    assert code == 1, printed
    assert printed.splitlines()[-1].startswith(f"error: Google Cloud Storage refuses gs://{BUCKET}/{name}/")
    assert f"({status}" in printed.splitlines()[-1]
    assert "Traceback" not in printed
    assert 3 <= len(shards_in(server.objects(f"{name}/"))) < 11

    server.answer = lambda asked: None
    code, printed = run_ingest(*collection.arguments(name))
    assert code == 0, printed
    assert collection.left(name) == undisturbed


def test_a_refusal_while_planning_ends_it_in_one_line(collection: Collection) -> None:
    """Beam itself writes and reads there."""
    server = collection.server
    server.answer = lambda asked: 403 if asked.name.startswith("unplanned/.plan/candidates") else None
    code, printed = run_ingest(*collection.arguments("unplanned"))
    assert code == 1, printed
    assert printed.splitlines()[-1].startswith(f"error: Google Cloud Storage refuses gs://{BUCKET}")
    assert "(403: nobody does not have" in printed.splitlines()[-1]
    assert "Traceback" not in printed


def test_labels_from_and_to_the_bucket(collection: Collection, tmp_path: Path) -> None:
    server = collection.server
    (tmp_path / "list.csv").write_bytes(collection.list)
    for folder, directory in ((str(tmp_path), str(tmp_path)), (f"gs://{BUCKET}", f"gs://{BUCKET}/labels")):
        code, printed = run_module(
            "labels", "--source", "manifest", "--input", f"{folder}/list.csv",
            "--output", f"{directory}/counts.csv", "--works_output", f"{directory}/works.csv",
        )  # fmt: skip
        assert code == 0, printed
    left = server.objects("labels/")
    assert set(left) == {"counts.csv", "counts.png", "works.csv"}
    assert {name: (tmp_path / name).read_bytes() for name in ("counts.csv", "works.csv")} == {
        name: left[name] for name in ("counts.csv", "works.csv")
    }


def test_labels_that_cannot_be_written(collection: Collection) -> None:
    server = collection.server
    server.answer = lambda asked: 403 if asked.operation == "write" else None
    code, printed = run_module(
        "labels", "--source", "manifest", "--input", f"gs://{BUCKET}/list.csv", "--output", f"gs://{BUCKET}/no/counts.csv"
    )  # fmt: skip
    assert code == 2
    assert printed.startswith(refused("no", 403))
    assert printed.count("\n") == 1
    assert len(server.asked) <= 4
