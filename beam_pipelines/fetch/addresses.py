"""Web addresses of pictures: how they are read, and which hosts may be reached.

An address from a table is hostile until shown otherwise: `http://museum.example/1.jpg` may resolve to the metadata
service of the cloud that the job runs in. So a host is resolved once for each connection, and every address that is
not public is dropped (see `transport`).
"""

import dataclasses
import ipaddress
import re
import socket
from typing import cast
from urllib.parse import quote, urljoin, urlsplit

import idna

from beam_pipelines.rejects import Reason, RejectedError

DEFAULT_PORTS = {"http": 80, "https": 443}

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):(//)?")
_KNOWN_SCHEMES = frozenset({"http", "https", "gs", "file", "idx", "jsonl", "tfrecord"})
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

    @property
    def origin(self) -> tuple[str, str, int]:
        """What two addresses share if one connection can serve both."""
        return self.scheme, self.host, self.port

    @property
    def url(self) -> str:
        """The address in one piece, with its port; `parse_http` reads it back."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}{self.target}"


def scheme_of(uri: str) -> str:
    """Returns the scheme of an address, in lower case; empty for a path."""
    match = _SCHEME.match(uri)
    if match is None:
        return ""
    scheme = match[1].lower()
    return scheme if match[2] or scheme in _KNOWN_SCHEMES else ""


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
        port = DEFAULT_PORTS[parts.scheme] if parts.port is None else parts.port
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
    try:
        joined = urljoin(address.url, location)
        scheme = urlsplit(joined).scheme
    except ValueError as error:
        raise RejectedError(Reason.BAD_URI, "redirected to an address that cannot be read") from error
    if scheme not in DEFAULT_PORTS:
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
