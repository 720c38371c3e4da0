"""Web addresses of pictures: how they are read, which hosts may be reached, and the connections to them.

An address from a table is hostile until shown otherwise: `http://museum.example/1.jpg` may resolve to the metadata
service of the cloud that the job runs in. A host is resolved once for each connection, every address that is not
public is dropped, and the connection goes to one of those left, so that a second answer of the name server never
counts. No proxy is ever used: it would hide from the check the address that is really reached.
"""

import dataclasses
import functools
import http.client
import io
import ipaddress
import re
import socket
import ssl
import threading
import time
from typing import cast
from urllib.parse import quote, urljoin, urlsplit

import certifi
import idna

from beam_pipelines.rejects import Reason, RejectedError

_DEFAULT_PORTS = {"http": 80, "https": 443}
_READ_BYTES = 64 * 1024
_MAX_IDLE_CONNECTIONS = 64

_CONTROL_CHARACTER = re.compile(r"[\x00-\x1f\x7f]")
_HOST_NAME = re.compile(
    r"(?=.{1,253}\.?$)([a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?\.)*[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?\.?"
)
# What may stand in a path and query as it is (RFC 3986): unreserved and reserved characters, and quoted ones.
_SAFE = "/?:@!$&'()*+,;=-._~"
_QUOTED = re.compile(r"(?:[A-Za-z0-9/?:@!$&'()*+,;=\-._~]|%[0-9A-Fa-f]{2})*")
_BARE_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")

# Not public, though `ipaddress` calls them so: the whole protocol block, deprecated 6to4 relays, and the address
# under which Azure's machines reach their host.
_NOT_PUBLIC_V4 = tuple(map(ipaddress.IPv4Network, ("192.0.0.0/24", "192.88.99.0/24", "168.63.129.16/32")))
_GLOBAL_UNICAST_V6 = ipaddress.IPv6Network("2000::/3")
# Addresses that a gateway turns into the IPv4 address of their last 32 bits (RFC 6052).
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


@dataclasses.dataclass(frozen=True, slots=True)
class HttpAddress:
    """A web address, ready to be asked for.

    Attributes:
        scheme: `http` or `https`.
        host: in lower case and ASCII; an IPv6 address without brackets.
        port: 1 to 65535.
        target: path and query, quoted, beginning with a slash.
    """

    scheme: str
    host: str
    port: int
    target: str


def has_control_character(text: str) -> bool:
    """Tells whether there is a line end, a NUL or the like in `text`."""
    return _CONTROL_CHARACTER.search(text) is not None


def parse_http(text: str) -> HttpAddress:
    """Reads an address that begins with `http:` or `https:`; quotes in it what is not quoted yet.

    Raises:
        RejectedError: BAD_URI; the detail never repeats the address, which may hold a password.
    """
    if has_control_character(text):
        raise RejectedError(Reason.BAD_URI, "control character in the address")
    try:
        parts = urlsplit(text)
        port = _DEFAULT_PORTS[parts.scheme] if parts.port is None else parts.port
        host = _ascii_host(parts.hostname or "")
        target = _quote(parts.path or "/") + ("?" + _quote(parts.query) if parts.query else "")
    except ValueError as error:
        raise RejectedError(Reason.BAD_URI, "the address cannot be read") from error
    if not host:
        raise RejectedError(Reason.BAD_URI, "no host in the address")
    if not port:
        raise RejectedError(Reason.BAD_URI, "port 0 in the address")
    if "@" in parts.netloc:
        raise RejectedError(Reason.BAD_URI, "user name or password in the address")
    if not target.startswith("/"):
        raise RejectedError(Reason.BAD_URI, "the address cannot be read")
    return HttpAddress(parts.scheme, host, port, target)


def follow_redirect(address: HttpAddress, location: str) -> HttpAddress:
    """Returns where the `Location` header of an answer from `address` leads.

    Raises:
        RejectedError: REFUSED_ADDRESS if it leaves the web (`file:`, `gs:`); BAD_URI if it cannot be read.
    """
    # http.client reads headers as Latin-1; addresses in them are UTF-8 in practice.
    location = location.encode("latin-1", "replace").decode("utf-8", "replace").strip()
    host = f"[{address.host}]" if ":" in address.host else address.host
    try:
        joined = urljoin(f"{address.scheme}://{host}:{address.port}{address.target}", location)
        scheme = urlsplit(joined).scheme
    except ValueError as error:
        raise RejectedError(Reason.BAD_URI, "redirected to an address that cannot be read") from error
    if scheme not in _DEFAULT_PORTS:
        raise RejectedError(Reason.REFUSED_ADDRESS, "redirected to something that is not http or https")
    return parse_http(joined)


def _ascii_host(host: str) -> str:
    """Returns a host as it goes over the wire; raises ValueError if it is none; leaves an empty one empty."""
    if ":" in host:
        if "%" in host:
            raise ValueError("an address of this link only")
        return str(ipaddress.IPv6Address(host))
    if not host.isascii():
        host = idna.encode(host, uts46=True).decode("ascii")
    if host and not _HOST_NAME.fullmatch(host):
        raise ValueError("not a host name")
    return host.removesuffix(".")


def _quote(text: str) -> str:
    if _QUOTED.fullmatch(text):
        return text
    return quote(_BARE_PERCENT.sub("%25", text), safe=_SAFE + "%")


def is_public(address: str) -> bool:
    """Tells whether a numeric IP address belongs to the open internet.

    Those of private and shared networks, this machine, the link, multicast and reserved blocks do not; nor do IPv6
    addresses through which a gateway or a tunnel would reach such an IPv4 address.
    """
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv4Address):
        return _is_public_v4(ip)
    if ip.ipv4_mapped is not None:
        return _is_public_v4(ip.ipv4_mapped)
    if ip in _NAT64:
        return _is_public_v4(ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF))
    tunnelled = ip.sixtofour is not None or ip.teredo is not None
    return ip in _GLOBAL_UNICAST_V6 and ip.is_global and not tunnelled


def _is_public_v4(ip: ipaddress.IPv4Address) -> bool:
    special = ip.is_multicast or ip.is_reserved or any(ip in network for network in _NOT_PUBLIC_V4)
    return ip.is_global and not special


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
        self.default_port = _DEFAULT_PORTS[address.scheme]
        self.origin = origin(address)
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


def origin(address: HttpAddress) -> tuple[str, str, int]:
    """Returns what two addresses share if one connection can serve both."""
    return address.scheme, address.host, address.port


def resolve(host: str, port: int, *, allow_private: bool) -> list[tuple[socket.AddressFamily, tuple[str, int]]]:
    """Asks the name server once; returns the addresses that may be connected to, in its order, at least one.

    Raises:
        RejectedError: REFUSED_ADDRESS if there are none but private ones.
        OSError: there is no such host.
    """
    answers = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    allowed = [
        (socket.AddressFamily(family), cast(tuple[str, int], address))
        for family, _, _, _, address in answers
        if allow_private or is_public(str(address[0]))
    ]
    if not allowed:
        raise RejectedError(Reason.REFUSED_ADDRESS, "the host's address is not public")
    return allowed


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
        wanted = origin(address)
        with self._lock:
            for index in range(len(self._idle) - 1, -1, -1):
                if self._idle[index].origin == wanted:
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
