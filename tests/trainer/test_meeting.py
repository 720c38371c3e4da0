import contextlib
import json
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest

from beam_pipelines.errors import OptionError, RunError
from tests.ports import free_ports
from trainer import meeting as meeting_module
from trainer.cluster import Cluster
from trainer.meeting import Meeting, Outcome, WorkerGoneError, addresses_of, agree


def clusters(workers: int) -> list[Cluster]:
    addresses = tuple(f"127.0.0.1:{port}" for port in free_ports(workers))
    return [Cluster({"worker": addresses}, "worker", rank) for rank in range(workers)]


def on_all(cluster: Sequence[Cluster], act: Callable[[Meeting], Any], *, timeout: float = 20.0) -> list[Future[Any]]:
    """Lets each worker, on a thread, meet the others and act; returns what came of each."""

    def run(member: Cluster) -> Any:
        with Meeting.of(member, timeout=timeout) as meeting:
            return act(meeting)

    with ThreadPoolExecutor(len(cluster)) as pool:
        return [pool.submit(run, member) for member in cluster]


def results(futures: Sequence[Future[Any]]) -> list[Any]:
    return [future.result() for future in futures]


def connected(host: str, port: int) -> socket.socket:
    """Connects to a port on which somebody will listen soon."""
    deadline = time.monotonic() + 20
    while True:
        try:
            return socket.create_connection((host, port))
        except ConnectionRefusedError:
            assert time.monotonic() < deadline


def cut(meeting: Meeting) -> None:
    """Closes all connections without a word, as they close when a process is killed."""
    meeting._left_event.set()
    for peer in meeting._peers.values():
        peer.close()


def errors(futures: Sequence[Future[Any]]) -> list[str]:
    return [f"{type(error).__name__}: {error}" for future in futures if (error := future.exception())]


def test_one_machine_needs_nobody() -> None:
    with Meeting.of(Cluster(), timeout=0) as meeting:
        assert meeting.gather({"a": 1}) == [{"a": 1}]
        assert meeting.workers == 1
        assert meeting.loss(wait=60) == ""


def test_a_chief_comes_before_the_workers() -> None:
    cluster = Cluster({"worker": ("b:2", "c:3"), "chief": ("a:1",)}, "worker", 1)
    assert addresses_of(cluster)[cluster.rank] == "c:3"


@pytest.mark.parametrize("workers", [2, 5])
def test_each_gets_what_all_give(workers: int) -> None:
    def act(meeting: Meeting) -> Any:
        return [meeting.gather(10 * meeting.rank + number) for number in range(3)]

    wanted = [[10 * rank + number for rank in range(workers)] for number in range(3)]
    assert results(on_all(clusters(workers), act)) == [wanted] * workers


def test_something_else_that_knocks_is_sent_away() -> None:
    cluster = clusters(2)
    port = int(addresses_of(cluster[0])[0].rpartition(":")[2])
    words = (b"PRI * HTTP/2.0\r\n\r\n", b"\xff\n", b"", json.dumps({"hello": "x", "rank": 1}).encode() + b"\n", b"1\n")

    def knock() -> None:
        for said in words:
            with connected("127.0.0.1", port) as connection, contextlib.suppress(ConnectionError):
                connection.sendall(said)
                connection.shutdown(socket.SHUT_WR)
                assert connection.recv(100) == b""

    with ThreadPoolExecutor(2) as pool:
        chief = pool.submit(lambda: Meeting.of(cluster[0], timeout=20))
        pool.submit(knock).result()
        worker = pool.submit(lambda: Meeting.of(cluster[1], timeout=20))
        with chief.result() as first, worker.result() as second:
            together = pool.submit(first.gather, "a")
            assert second.gather("b") == together.result() == ["a", "b"]


def test_a_worker_that_starts_again_before_all_are_there_counts_once() -> None:
    cluster = clusters(3)
    host, port = addresses_of(cluster[0])[0].split(":")
    hello = {"hello": meeting_module._HELLO, "rank": 1, "workers": 3}

    def begin_and_die() -> None:
        connection = connected(host, int(port))
        with connection:
            connection.sendall(json.dumps(hello).encode() + b"\n")
            assert connection.recv(100)

    def act(meeting: Meeting) -> Any:
        return meeting.gather(meeting.rank)

    with ThreadPoolExecutor(4) as pool:
        together = [pool.submit(on_all, cluster[:1], act)]
        pool.submit(begin_and_die).result()
        together += [pool.submit(on_all, cluster[1:], act)]
        assert [results(future.result()) for future in together] == [[[0, 1, 2]], [[0, 1, 2], [0, 1, 2]]]


def test_a_worker_that_does_not_come_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = clusters(3)
    failed = errors(on_all(cluster[:2], lambda meeting: None, timeout=3))
    missing = f"worker 2 of 3 ({addresses_of(cluster[0])[2]}) did not come up within 3 seconds"
    assert len(failed) == 2
    assert failed[0].startswith(f"RunError: {missing}: start all workers")
    assert failed[1].startswith(f"WorkerGoneError: worker 0 of 3 ({addresses_of(cluster[0])[0]}) ended: {missing}")


def test_a_chief_that_does_not_come_is_named() -> None:
    cluster = clusters(2)
    (failed,) = errors(on_all(cluster[1:], lambda meeting: None, timeout=1))
    assert failed.startswith(f"RunError: worker 0 of 2 ({addresses_of(cluster[0])[0]}) did not come up")


def test_a_port_that_is_held(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = clusters(2)
    port = int(addresses_of(cluster[0])[0].rpartition(":")[2])
    with socket.create_server(("", port)):
        (failed,) = errors(on_all(cluster[:1], lambda meeting: None, timeout=1))
    assert failed.startswith(f"RunError: cannot listen on port {port} (Address already in use): end what holds it")


@pytest.mark.parametrize("lost", [0, 1])
def test_a_worker_that_is_gone_is_known_to_all(lost: int) -> None:
    cluster = clusters(3)

    def act(meeting: Meeting) -> str:
        meeting.advise(lambda: "start all again to go on from step 7")
        if meeting.rank == lost:
            meeting.gather("together")
            cut(meeting)
            return ""
        meeting.gather("together")
        return meeting.loss(wait=20)

    told = f"worker {lost} of 3 ({addresses_of(cluster[0])[lost]}) is gone: start all again to go on from step 7"
    assert results(on_all(cluster, act)) == ["" if rank == lost else told for rank in range(3)]


def test_a_worker_that_fails_says_why() -> None:
    cluster = clusters(3)

    def act(meeting: Meeting) -> None:
        if meeting.rank == 2:
            raise RunError("the disk is full\nmore")
        meeting.gather("never complete")

    failed = errors(on_all(cluster, act))
    told = f"WorkerGoneError: worker 2 of 3 ({addresses_of(cluster[0])[2]}) ended: the disk is full: start all again"
    assert failed == [told, told, "RunError: the disk is full\nmore"]


def test_all_are_met_before_the_end_of_one_is_told() -> None:
    cluster = clusters(3)
    host, port = addresses_of(cluster[0])[0].split(":")
    hello, value, gone = {"hello": meeting_module._HELLO}, {"value": 3}, {"gone": "worker 2 ended"}

    @contextlib.contextmanager
    def worker(rank: int, *words: dict[str, Any]) -> Iterator[Callable[[], Any]]:
        with connected(host, int(port)) as connection, connection.makefile() as lines:
            for said in ({**hello, "rank": rank, "workers": 3}, *words):
                connection.sendall(json.dumps(said).encode() + b"\n")
            assert json.loads(lines.readline()) == hello
            yield lambda: json.loads(lines.readline())

    with ThreadPoolExecutor(1) as pool:
        chief = pool.submit(lambda: Meeting.of(cluster[0], timeout=20))
        with worker(2, gone), worker(1) as heard:
            assert [heard(), heard()] == [value, gone]
            chief.result().leave()


def test_workers_that_end_together_are_not_missed() -> None:
    def act(meeting: Meeting) -> str:
        meeting.gather("the end")
        if meeting.rank:
            return ""
        return meeting.loss(wait=0.5)

    assert results(on_all(clusters(3), act)) == ["", "", ""]


def test_a_process_that_does_not_end_by_itself_is_ended(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    ended = threading.Event()
    codes = []

    def end(code: int) -> None:
        codes.append(code)
        ended.set()

    monkeypatch.setattr(meeting_module, "_STUCK_SECONDS", 0.01)
    monkeypatch.setattr(os, "_exit", end)
    cluster = clusters(2)

    def act(meeting: Meeting) -> None:
        meeting.gather("together")
        if meeting.rank:
            cut(meeting)
        else:
            assert ended.wait(20)

    results(on_all(cluster, act))
    assert codes == [1]
    assert capfd.readouterr().err == f"error: worker 1 of 2 ({addresses_of(cluster[0])[1]}) is gone: start all again\n"


@pytest.mark.parametrize("kind", [OptionError, RunError])
def test_all_refuse_where_one_does(kind: type[OptionError | RunError]) -> None:
    cluster = clusters(3)

    def act(meeting: Meeting) -> Any:
        def check() -> int:
            if meeting.rank == 1:
                raise kind("--seed -1 is negative")
            return meeting.rank

        return agree(meeting, Outcome.of(check))

    other = f"{kind.__name__}: worker 1 of 3 ({addresses_of(cluster[0])[1]}): --seed -1 is negative"
    assert errors(on_all(cluster, act)) == [other, f"{kind.__name__}: --seed -1 is negative", other]


def test_what_all_accept_is_returned() -> None:
    assert results(on_all(clusters(2), lambda meeting: agree(meeting, Outcome.of(lambda: meeting.rank)))) == [0, 1]


def test_it_is_an_error_of_the_user() -> None:
    assert issubclass(WorkerGoneError, RunError)
