"""Connections for web requests: to checked addresses only, under a deadline, and kept for the next request.

The standard library's `http.client` does the talking, as its reads can be put under a deadline and its connections
made to the very address that was checked: a second answer of the name server never counts. No proxy is ever used: it
would hide from the check the address that is really reached.
"""

import dataclasses
import functools
import http.client
import io
import socket
import ssl
import threading
import time
from typing import cast

import certifi

from beam_pipelines.fetch.addresses import DEFAULT_PORTS, HttpAddress, resolve

_READ_BYTES = 64 * 1024
_MAX_IDLE_CONNECTIONS = 64


@dataclasses.dataclass(frozen=True, kw_only=True)
class ConnectionLimits:
    """What holds for every connection.

    Attributes:
        connect_timeout: seconds for the handshake of TCP, and again for that of TLS.
        read_timeout: seconds without a byte.
        allow_private_addresses: whether hosts that are not public may be reached.
    """

    connect_timeout: float
    read_timeout: float
    allow_private_addresses: bool


class Connection(http.client.HTTPConnection):
    """A connection to a checked address, on which everything must have happened by `deadline`.

    Args:
        address: whose host to connect to.
        limits: time and addresses.

    Attributes:
        origin: scheme, host and port: which requests it can carry.
        deadline: when (`time.monotonic()`) connecting, sending or reading raises TimeoutError, however steadily
            bytes drip in; set it before each request. Only the name server's answer is not bounded by it.
    """

    def __init__(self, address: HttpAddress, limits: ConnectionLimits) -> None:
        super().__init__(address.host, address.port)
        self.default_port = DEFAULT_PORTS[address.scheme]
        self.origin = address.origin
        self.deadline = 0.0
        self._limits = limits

    def connect(self) -> None:
        """Connects to the first of the host's allowed addresses that answers.

        Raises:
            RejectedError: REFUSED_ADDRESS if the host has no address that may be reached.
            OSError: no connection, no host of that name, or no TLS.
        """
        candidates = resolve(self.host, self.port, allow_private=self._limits.allow_private_addresses)
        connected = self._connect_to_first(candidates)
        if self.origin[0] == "https":
            connected = self._secured(connected)
        self.sock = cast(socket.socket, _TimedSocket(connected, self))

    def seconds_left_to_read(self) -> float:
        """Returns for how many seconds the next read may block; raises TimeoutError past the deadline."""
        return self._seconds_left(self._limits.read_timeout)

    def _seconds_left(self, at_most: float) -> float:
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        return min(left, at_most)

    def _connect_to_first(self, candidates: list[tuple[socket.AddressFamily, tuple[str, int]]]) -> socket.socket:
        for family, address in candidates[:-1]:
            try:
                return self._connect_to(family, address)
            except OSError:
                continue
        return self._connect_to(*candidates[-1])

    def _connect_to(self, family: socket.AddressFamily, address: tuple[str, int]) -> socket.socket:
        connecting = socket.socket(family, socket.SOCK_STREAM)
        try:
            connecting.settimeout(self._seconds_left(self._limits.connect_timeout))
            connecting.connect(address)
        except BaseException:
            connecting.close()
            raise
        return connecting

    def _secured(self, connected: socket.socket) -> ssl.SSLSocket:
        try:
            # The timeout bounds the whole handshake, not each read of it.
            connected.settimeout(self._seconds_left(self._limits.connect_timeout))
            return _tls_context().wrap_socket(connected, server_hostname=self.host)
        except BaseException:
            connected.close()
            raise


@functools.cache
def _tls_context() -> ssl.SSLContext:
    """Trusts the authorities of this machine (`SSL_CERT_FILE`, ...) and, for machines that have none, Mozilla's."""
    context = ssl.create_default_context()
    context.load_verify_locations(certifi.where())
    return context


class _TimedSocket:
    """What http.client uses of a socket, under the connection's deadline."""

    def __init__(self, connected: socket.socket, connection: Connection) -> None:
        self._socket = connected
        self._connection = connection

    def sendall(self, data: bytes) -> None:
        self._socket.settimeout(self._connection.seconds_left_to_read())
        self._socket.sendall(data)

    def makefile(self, _mode: str) -> io.BufferedReader:
        return io.BufferedReader(_TimedReader(self._socket, self._connection), _READ_BYTES)

    def close(self) -> None:
        self._socket.close()


class _TimedReader(io.RawIOBase):
    """Reads from a socket; sets its timeout anew before each read, as a timeout by itself starts afresh with each."""

    def __init__(self, connected: socket.socket, connection: Connection) -> None:
        self._socket = connected
        self._raw = connected.makefile("rb", buffering=0)
        self._connection = connection

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int | None:  # type: ignore[override]
        self._socket.settimeout(self._connection.seconds_left_to_read())
        return self._raw.readinto(buffer)

    def close(self) -> None:
        self._raw.close()
        super().close()


class ConnectionPool:
    """Keeps idle connections for the threads of one process; the one used last is used next."""

    def __init__(self, limits: ConnectionLimits) -> None:
        self._limits = limits
        self._lock = threading.Lock()
        self._idle: list[Connection] = []
        self._closed = False

    def new(self, address: HttpAddress) -> Connection:
        """Returns a connection to `address` that connects with its first request."""
        return Connection(address, self._limits)

    def take(self, address: HttpAddress) -> Connection | None:
        """Returns an idle connection that can serve `address`, which the server may have closed meanwhile."""
        with self._lock:
            for index in range(len(self._idle) - 1, -1, -1):
                if self._idle[index].origin == address.origin:
                    return self._idle.pop(index)
        return None

    def give(self, connection: Connection) -> None:
        """Takes back a connection whose last answer was read to its end."""
        with self._lock:
            self._idle.append(connection)
            surplus = self._idle[:-_MAX_IDLE_CONNECTIONS] if not self._closed else self._idle[:]
            del self._idle[: len(surplus)]
        for old in surplus:
            old.close()

    def close(self) -> None:
        """Closes idle connections now, and those in use when they are given back."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()
