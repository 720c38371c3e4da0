"""The workers of a run in touch with one another, beside TensorFlow: they start together, and learn who is gone.

While TensorFlow waits for the others of a cluster it holds Python's lock: no log line, no time-out and no signal gets
through. So the workers meet here first. Worker 0 listens on its own address, the others connect to it, and when all are
there TensorFlow takes the same port over. The connections stay open: one that breaks is a worker that is gone, told to
all at once, long before a collective operation fails, or where none would.

Messages are lines of JSON, between workers of one run on a network that is theirs, as TensorFlow's own protocol
supposes too.
"""

import contextlib
import dataclasses
import json
import logging
import math
import os
import queue
import select
import socket
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, Generic, TypeVar, cast

from beam_pipelines.errors import OptionError, RunError, UserError
from trainer.cluster import Cluster

_LOGGER = logging.getLogger(__name__)

_Value = TypeVar("_Value")

_RETRY_SECONDS = 0.5
_HELLO_SECONDS = 5.0
_QUIET_SECONDS = 3.0
_LOG_SECONDS = 15.0
# A machine that vanished without closing its connections is noticed after these: 10 + 4 * 5 seconds.
_KEEPALIVE = {"TCP_KEEPIDLE": 10, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 4}
# What a collective operation is given to fail by itself once a worker is gone.
_STUCK_SECONDS = 20.0
_MAX_LINE_BYTES = 1 << 20
_PIECE_BYTES = 1 << 16
_HELLO = "museum-image-classifier worker"


class WorkerGoneError(RunError):
    """A worker of the group has ended, and the others cannot go on without it."""


class Meeting:
    """The connections between the workers of a run; of one machine alone it has none, and everything is immediate.

    Use it in a `with` block: where the block raises, the others are told why before this worker ends.
    """

    def __init__(self, addresses: Sequence[str] = (), rank: int = 0) -> None:
        self._addresses = tuple(addresses)
        self._rank = rank
        self._peers: dict[int, _Peer] = {}
        self._lock = threading.Lock()
        self._telling = threading.Lock()
        self._gone = ""
        self._gone_event = threading.Event()
        self._left_event = threading.Event()
        self._advice: Callable[[], str] = lambda: "start all again"

    @classmethod
    def of(cls, cluster: Cluster, *, timeout: float) -> "Meeting":
        """Returns the meeting of all workers, once all are there.

        Args:
            cluster: all machines.
            timeout: seconds to wait for the others.

        Raises:
            RunError: one of them did not come in time; it is named.
        """
        meeting = cls(addresses_of(cluster), cluster.rank)
        if cluster.workers > 1:
            deadline = _Deadline(timeout)
            if cluster.is_chief:
                meeting._receive_all(deadline)
            else:
                meeting._join(deadline)
        return meeting

    def __enter__(self) -> "Meeting":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.leave(_reason(error))

    @property
    def workers(self) -> int:
        """How many machines train together."""
        return max(1, len(self._addresses))

    @property
    def rank(self) -> int:
        """The number of this machine, from 0."""
        return self._rank

    def name(self, rank: int) -> str:
        """Returns `worker 1 of 3 (host:port)`."""
        return f"worker {rank} of {self.workers} ({self._addresses[rank]})"

    def gather(self, value: Any) -> list[Any]:
        """Returns what each worker gives here, by rank; waits until all have come to the same call.

        Args:
            value: anything that JSON can hold.

        Raises:
            WorkerGoneError: a worker has ended.
        """
        if self._rank:
            self._peers[0].send({"value": value})
            values: list[Any] = self._take(0)
            return values
        values = [value, *(self._take(rank) for rank in range(1, self.workers))]
        self._tell_all({"value": values})
        return values

    def advise(self, advice: Callable[[], str]) -> None:
        """Has what `advice` returns added wherever it is said that a worker is gone: how to go on."""
        self._advice = advice

    def loss(self, *, wait: float = 0.0) -> str:
        """Returns who is gone and what to do, or nothing if nobody is found to be within `wait` seconds."""
        self._gone_event.wait(wait if self._peers else 0.0)
        return f"{self._gone}: {self._advice()}" if self._gone else ""

    def leave(self, reason: str = "") -> None:
        """Ends the meeting for this worker; without a reason all have agreed to end, and nobody misses it."""
        with self._lock:
            if self._left_event.is_set():
                return
            self._left_event.set()
        told = self._gone or (f"{self.name(self._rank)} ended: {reason}" if reason and self._addresses else "")
        for peer in self._peers.values():
            peer.send({"gone": told} if told else {"left": True})
            peer.close()

    def _receive_all(self, deadline: "_Deadline") -> None:
        with _listener(self._addresses[0], deadline) as listener:
            while missing := self._missing():
                names = ", ".join(map(self.name, missing))
                if deadline.passed(f"waiting for {names}"):
                    told = f"{names} did not come up within {deadline.told}: start all workers, or look at their logs"
                    self.leave(told)
                    raise RunError(f"{told}; --cluster_timeout waits longer")
                with contextlib.suppress(OSError):
                    self._receive(listener.accept()[0])
        self._tell_all({"value": self.workers})
        for rank, peer in self._peers.items():
            self._listen_to(rank, peer)

    def _receive(self, connection: socket.socket) -> None:
        """Keeps a connection if a worker of this run is at its other end; anything may knock at an open port."""
        peer = _Peer(connection)
        hello = peer.read(timeout=_HELLO_SECONDS)
        rank = hello.get("rank")
        is_ours = hello.get("hello") == _HELLO and hello.get("workers") == self.workers
        if not is_ours or not isinstance(rank, int) or rank not in range(1, self.workers):
            peer.close()
            return
        if rank in self._peers:
            self._peers[rank].close()
        peer.send({"hello": _HELLO})
        self._peers[rank] = peer

    def _missing(self) -> list[int]:
        """Returns who has not come, or has gone again."""
        for rank in [rank for rank, peer in self._peers.items() if peer.is_closed()]:
            self._peers.pop(rank).close()
        return [rank for rank in range(1, self.workers) if rank not in self._peers]

    def _join(self, deadline: "_Deadline") -> None:
        while not deadline.passed(f"waiting for {self.name(0)}"):
            with contextlib.suppress(OSError):
                peer = _Peer(socket.create_connection(_split(self._addresses[0]), timeout=_HELLO_SECONDS))
                peer.send({"hello": _HELLO, "rank": self._rank, "workers": self.workers})
                answer = self._answer(peer) if peer.read(timeout=_HELLO_SECONDS).get("hello") == _HELLO else {}
                if answer.get("value") == self.workers:
                    self._peers[0] = peer
                    self._listen_to(0, peer)
                    return
                peer.close()
                if "gone" in answer:
                    raise WorkerGoneError(str(answer["gone"]))
            time.sleep(_RETRY_SECONDS)
        raise RunError(
            f"{self.name(0)} did not come up within {deadline.told}: start all workers, or look at their logs; "
            "--cluster_timeout waits longer"
        )

    def _answer(self, peer: "_Peer") -> Mapping[str, Any]:
        """Returns what worker 0 says once all are there, or has waited for too long; it says nothing before."""
        patience = _Deadline(math.inf)
        while not peer.wait(_RETRY_SECONDS):
            patience.passed("waiting for the other workers")
        return peer.read(timeout=_HELLO_SECONDS)

    def _listen_to(self, rank: int, peer: "_Peer") -> None:
        threading.Thread(target=self._listen, args=(rank, peer), name=f"meeting-{rank}", daemon=True).start()

    def _listen(self, rank: int, peer: "_Peer") -> None:
        while message := peer.read():
            if "value" in message:
                peer.values.put(message["value"])
            elif "left" in message:
                peer.values.put(_END)
                return
            elif "gone" in message:
                self._lose(str(message["gone"]))
                return
        self._lose(f"{self.name(rank)} is gone")

    def _lose(self, what: str) -> None:
        """Remembers who is gone, tells all, and ends this process if it does not do so itself."""
        with self._lock:
            if self._left_event.is_set() or self._gone:
                return
            self._gone = what
        self._gone_event.set()
        self._tell_all({"gone": what})
        for peer in self._peers.values():
            peer.values.put(_END)
        if self._left_event.wait(_STUCK_SECONDS):
            return
        sys.stderr.write(f"error: {self.loss()}\n")
        sys.stderr.flush()
        os._exit(1)

    def _tell_all(self, message: Mapping[str, Any]) -> None:
        """Sends a message to all before the next one: nobody hears of an end before what the others heard before it."""
        with self._telling:
            for peer in self._peers.values():
                peer.send(message)

    def _take(self, rank: int) -> Any:
        value = self._peers[rank].values.get()
        if value is _END:
            raise WorkerGoneError(self.loss() or f"{self.name(rank)} has left before the others")
        return value


_END = object()


class _Peer:
    """One connection: lines of JSON, one after another."""

    def __init__(self, connection: socket.socket) -> None:
        self.values: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._connection = connection
        self._read_ahead = b""
        self._sending = threading.Lock()
        connection.settimeout(None)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in _KEEPALIVE.items():
            if hasattr(socket, name):
                connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)

    def send(self, message: Mapping[str, Any]) -> None:
        """Sends a message; whether it arrives shows at the other end, or in what is read here."""
        with self._sending, contextlib.suppress(OSError):
            self._connection.sendall(json.dumps(message).encode() + b"\n")

    def read(self, *, timeout: float | None = None) -> Mapping[str, Any]:
        """Returns the next message; an empty one if there is none: the end, a time-out, or something else's words."""
        try:
            message = json.loads(self._line(None if timeout is None else time.monotonic() + timeout))
        except (OSError, ValueError, RecursionError):
            return {}
        return message if isinstance(message, dict) else {}

    def wait(self, timeout: float) -> bool:
        """Tells whether there is something to read, or the end, within `timeout` seconds."""
        return b"\n" in self._read_ahead or bool(select.select([self._connection], [], [], timeout)[0])

    def _line(self, deadline: float | None) -> bytes:
        while b"\n" not in self._read_ahead:
            if deadline is not None and not self.wait(max(0.0, deadline - time.monotonic())):
                raise TimeoutError
            received = self._connection.recv(_PIECE_BYTES)
            if not received or len(self._read_ahead) > _MAX_LINE_BYTES:
                raise ConnectionError
            self._read_ahead += received
        line, _, self._read_ahead = self._read_ahead.partition(b"\n")
        return line

    def is_closed(self) -> bool:
        """Tells whether the other end has closed the connection and everything from it has been received."""
        try:
            is_readable = bool(select.select([self._connection], [], [], 0)[0])
            return is_readable and not self._connection.recv(1, socket.MSG_PEEK)
        except OSError:
            return True

    def close(self) -> None:
        """Closes the connection at once, also for a thread that reads from it."""
        with contextlib.suppress(OSError):
            self._connection.shutdown(socket.SHUT_RDWR)
        self._connection.close()


class _Deadline:
    """A bounded wait that says every quarter of a minute what it waits for."""

    def __init__(self, seconds: float) -> None:
        minutes = seconds / 60
        self.told = f"{minutes:g} minutes" if minutes >= 1 else f"{seconds:g} seconds"
        self._end = time.monotonic() + seconds
        self._next_line = time.monotonic() + _QUIET_SECONDS

    def passed(self, what: str) -> bool:
        """Tells whether the time is over; logs `what` from time to time."""
        now = time.monotonic()
        if now >= self._next_line:
            self._next_line = now + _LOG_SECONDS
            left = self._end - now
            _LOGGER.info(what if math.isinf(left) else f"{what}: {max(0, round(left))} s more")
        return now >= self._end


def addresses_of(cluster: Cluster) -> list[str]:
    """Returns the addresses of all machines by rank; none of one machine alone."""
    return [address for name in sorted(cluster.tasks) for address in cluster.tasks[name]]


def _listener(address: str, deadline: _Deadline) -> socket.socket:
    """Returns a socket that listens on the port of `address` on all interfaces, as TensorFlow will."""
    _, port = _split(address)
    dual = socket.has_dualstack_ipv6()
    while True:
        try:
            family = socket.AF_INET6 if dual else socket.AF_INET
            listener = socket.create_server(("", port), family=family, dualstack_ipv6=dual)
            listener.settimeout(_RETRY_SECONDS)
            return listener
        except OSError as error:
            if deadline.passed(f"waiting for port {port}, which another process holds"):
                raise RunError(
                    f"cannot listen on port {port} ({os.strerror(error.errno or 0)}): end what holds it"
                ) from error
        time.sleep(_RETRY_SECONDS)


def _split(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)


def _reason(error: BaseException | None) -> str:
    if error is None:
        return ""
    told = str(error).splitlines() if isinstance(error, UserError | OSError) else []
    return told[0] if told else type(error).__name__


def agree(meeting: Meeting, outcome: "Outcome[_Value]") -> "_Value":
    """Returns what came of a check that every worker has made by itself, if it came out well on all.

    Raises:
        OptionError, RunError: it did not on this worker, or on another, which is named.
    """
    error = outcome.error
    told = meeting.gather([isinstance(error, OptionError), str(error)] if error else None)
    if error:
        raise error
    for rank, refusal in enumerate(told):
        if refusal:
            kind = OptionError if refusal[0] else RunError
            raise kind(f"{meeting.name(rank)}: {refusal[1]}")
    return cast(_Value, outcome.value)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Outcome(Generic[_Value]):
    """What came of a check: a value, or the error that the user can mend."""

    value: _Value | None = None
    error: UserError | None = None

    @classmethod
    def of(cls, check: Callable[[], _Value]) -> "Outcome[_Value]":
        """Makes the check."""
        try:
            return cls(value=check())
        except UserError as error:
            return cls(error=error)
