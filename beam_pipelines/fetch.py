"""Fetches the bytes of a picture from `http(s)://`, `gs://`, `file://` or a path: politely, and within limits.

Everything that comes from outside is bounded: bytes (also after decompression), time (also of servers that drip),
redirects, tries and the addresses that may be reached. Whatever goes wrong with a picture is a `RejectedError` with a
reason from the closed list, whose detail comes out the same whenever the server behaves the same.

Web requests go through the standard library's `http.client`, whose reads can be put under a deadline and whose
connections can be made to the very address that was checked (see `addresses`).
"""

import contextlib
import dataclasses
import errno
import http.client
import importlib.metadata
import io
import os
import random
import re
import socket
import ssl
import stat
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import unquote, urlsplit

from beam_pipelines.addresses import (
    Connection,
    ConnectionLimits,
    ConnectionPool,
    HttpAddress,
    follow_redirect,
    has_control_character,
    parse_http,
)
from beam_pipelines.artwork import clean_text
from beam_pipelines.errors import OptionError
from beam_pipelines.rate_limits import HostLimiter, parse_retry_after
from beam_pipelines.rejects import Reason, RejectedError

AGENT_NAME = "museum-image-classifier"

_MAX_BACKOFF_SECONDS = 30.0
_CHUNK_BYTES = 64 * 1024
# Of an answer that is no picture, this much is read so that the connection can be used again.
_MAX_DISCARDED_BYTES = 64 * 1024
_MAX_DISCARD_SECONDS = 1.0

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_REASON_OF_STATUS = {
    401: Reason.FORBIDDEN,
    403: Reason.FORBIDDEN,
    404: Reason.NOT_FOUND,
    408: Reason.SERVER_ERROR,
    410: Reason.NOT_FOUND,
    429: Reason.RATE_LIMITED,
}
_PASSING_REASONS = frozenset({Reason.SERVER_ERROR, Reason.RATE_LIMITED})

# https://developers.google.com/search/docs/crawling-indexing/robots-meta-tag; `noai` and `noimageai`: DeviantArt's.
_OPT_OUTS = frozenset({"noai", "noimageai", "noindex", "noimageindex", "none"})
_ROBOTS_RULES_WITH_VALUE = frozenset({"max-image-preview", "max-snippet", "max-video-preview", "unavailable_after"})

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):(//)?")
_KNOWN_SCHEMES = frozenset({"http", "https", "gs", "file"})
_BUCKET = re.compile(r"[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]")
# Names too long, links in a circle, sockets: nothing that waiting could mend, unlike a failing disk.
_NO_FILE_ERRORS = frozenset({errno.ENAMETOOLONG, errno.ELOOP, errno.ENXIO})
_GOOGLE_MACHINE = Path("/sys/class/dmi/id/product_name")


@dataclasses.dataclass(frozen=True, kw_only=True)
class FetchLimits:
    """What one fetch may take, and how often a host may be asked.

    Attributes:
        connect_timeout: seconds to connect to one address, and again for TLS.
        read_timeout: seconds without a byte.
        total_timeout: seconds for one try: connecting, headers, body and redirects; waiting for one's turn aside.
        max_bytes: size of a picture, as it comes and decompressed.
        max_redirects: redirects followed in one try.
        max_retries: tries after the first, for what may pass.
        backoff: seconds; a retry waits a random part of it, doubled each time, at most 30 s.
        max_retry_after: seconds; a host that asks to be left alone for longer is not asked again for this picture.
        allow_private_addresses: whether hosts outside the open internet may be reached (tests, intranets).
        requests_per_second: rates of the whole job, by host; `""` stands for every host not named. Hosts without one
            are not limited.
        max_processes: the most processes the job can have; each takes this part of every rate.
        contact: address or page that museums can turn to; stands in the user agent.
        allow_paths: whether `file://` and paths may be read.
    """

    connect_timeout: float = 10.0
    read_timeout: float = 30.0
    total_timeout: float = 120.0
    max_bytes: int = 32 * 1024 * 1024
    max_redirects: int = 5
    max_retries: int = 3
    backoff: float = 1.0
    max_retry_after: float = 120.0
    allow_private_addresses: bool = False
    requests_per_second: tuple[tuple[str, float], ...] = (("images.metmuseum.org", 16.0),)
    max_processes: int = 1
    contact: str = ""
    allow_paths: bool = True

    def __post_init__(self) -> None:
        for name in ("connect_timeout", "read_timeout", "total_timeout", "max_bytes", "max_processes"):
            if not getattr(self, name) > 0:
                raise OptionError(f"{name} is {getattr(self, name)}; give a number above 0")
        for name in ("max_redirects", "max_retries", "backoff", "max_retry_after"):
            if not getattr(self, name) >= 0:
                raise OptionError(f"{name} is {getattr(self, name)}; give 0 or more")
        for host, rate in self.requests_per_second:
            if not rate > 0:
                raise OptionError(f"the rate of host {host!r} is {rate}; give requests a second, above 0")
        if not (self.contact.isascii() and self.contact.isprintable()):
            raise OptionError(f"contact is {self.contact!r}; give an e-mail address or a page, in ASCII")


class _PassingError(RejectedError):
    """A try failed in a way that the next one may not."""


class Fetcher:
    """Fetches pictures; one for each process, shared by its threads.

    Args:
        limits: bounds on every fetch.
        clock: seconds from any origin, for rates and pauses.
        sleep: waits for a number of seconds, between tries and for one's turn.

    Attributes:
        requests: web and storage requests sent so far, redirects and retries included.
        retries: tries beyond the first so far.
        bytes: size of all pictures so far.
    """

    def __init__(
        self,
        limits: FetchLimits,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.requests = 0
        self.retries = 0
        self.bytes = 0
        self._limits = limits
        self._sleep = sleep
        self._random = random.SystemRandom()
        self._limiter = HostLimiter(
            {host.lower(): rate for host, rate in limits.requests_per_second},
            max_processes=limits.max_processes,
            clock=clock,
            sleep=sleep,
        )
        self._pool = ConnectionPool(
            ConnectionLimits(
                connect_timeout=limits.connect_timeout,
                read_timeout=limits.read_timeout,
                allow_private_addresses=limits.allow_private_addresses,
            )
        )
        self._headers = {
            "User-Agent": user_agent(limits.contact),
            "Accept": "image/*",
            "Accept-Encoding": "identity",
        }
        self._lock = threading.Lock()
        self._storage_client: Any = None

    def __enter__(self) -> "Fetcher":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes idle connections; fetches under way end as they would have."""
        self._pool.close()
        with self._lock:
            client, self._storage_client = self._storage_client, None
        if client is not None:
            client.close()

    def fetch(self, uri: str) -> bytes:
        """Returns the bytes at `uri`, at most `max_bytes` of them.

        Args:
            uri: `http://`, `https://`, `gs://bucket/object`, `file://` or a path; spaces and letters of any alphabet
                need no quoting.

        Raises:
            RejectedError: they cannot be had; the reason's stage is `fetch`.
        """
        uri = uri.strip()
        scheme = scheme_of(uri)
        if scheme in ("http", "https"):
            body = self._fetch_http(parse_http(uri))
        elif scheme == "gs":
            body = self._fetch_object(*parse_object(uri))
        elif scheme not in ("file", ""):
            raise RejectedError(Reason.BAD_URI, "only http, https, gs, file and paths can be fetched")
        elif not self._limits.allow_paths:
            raise RejectedError(Reason.REFUSED_ADDRESS, "files of this machine are not served")
        else:
            body = read_file(parse_path(uri), max_bytes=self._limits.max_bytes)
        with self._lock:
            self.bytes += len(body)
        return body

    def _fetch_http(self, address: HttpAddress) -> bytes:
        for tries in range(1, self._limits.max_retries + 1):
            try:
                return self._try(address)
            except _PassingError:
                self._back_off(tries)
        try:
            return self._try(address)
        except _PassingError as error:
            raise _after_tries(error, self._limits.max_retries + 1) from error

    def _back_off(self, tries: int) -> None:
        with self._lock:
            self.retries += 1
        longest = min(_MAX_BACKOFF_SECONDS, self._limits.backoff * 2 ** (tries - 1))
        self._sleep(self._random.uniform(0, longest))

    def _try(self, address: HttpAddress) -> bytes:
        """Follows redirects from `address` to a body; one try, within `total_timeout`."""
        seconds_left = self._limits.total_timeout
        for _ in range(self._limits.max_redirects + 1):
            self._limiter.wait(address.host)
            started = time.monotonic()
            try:
                answer = self._ask(address, deadline=started + seconds_left)
            except (OSError, http.client.HTTPException) as error:
                raise _failure(error) from error
            if isinstance(answer, bytes):
                return answer
            address = answer
            seconds_left -= time.monotonic() - started
        raise RejectedError(Reason.TOO_MANY_REDIRECTS, f"more than {self._limits.max_redirects} redirects")

    def _ask(self, address: HttpAddress, *, deadline: float) -> bytes | HttpAddress:
        """Returns the body at `address`, or the address that it redirects to."""
        with self._answer(address, deadline) as response:
            if response.status == 200:
                _respect_opt_out(response)
                return _read_body(response, max_bytes=self._limits.max_bytes)
            if response.status in _REDIRECTS and response.headers["Location"]:
                return follow_redirect(address, response.headers["Location"])
            raise self._refusal(address, response)

    def _refusal(self, address: HttpAddress, response: http.client.HTTPResponse) -> RejectedError:
        """Returns what an answer that is no picture means; pauses its host where it asks for that."""
        status = response.status
        reason = _REASON_OF_STATUS.get(status, Reason.SERVER_ERROR if status >= 500 else Reason.HTTP_ERROR)
        if reason not in _PASSING_REASONS:
            detail = f"status {status} without an address" if status in _REDIRECTS else f"status {status}"
            return RejectedError(reason, detail)
        pause = parse_retry_after(response.headers["Retry-After"], now=time.time())
        if pause is not None:
            if pause > self._limits.max_retry_after:
                return RejectedError(reason, f"status {status}, to be left alone for too long")
            self._limiter.pause(address.host, pause)
        return _PassingError(reason, f"status {status}")

    @contextlib.contextmanager
    def _answer(self, address: HttpAddress, deadline: float) -> Iterator[http.client.HTTPResponse]:
        """Gives the answer of `address`; afterwards keeps its connection if the answer was read to its end."""
        connection, response = self._request(address, deadline)
        try:
            yield response
        finally:
            if response.status != 200:
                _discard_body(connection, response)
            if connection.sock is not None and response.isclosed() and not response.length:
                self._pool.give(connection)
            else:
                response.close()
                connection.close()

    def _request(self, address: HttpAddress, deadline: float) -> tuple[Connection, http.client.HTTPResponse]:
        with self._lock:
            self.requests += 1
        idle = self._pool.take(address)
        if idle is not None:
            try:
                return idle, self._send(idle, address, deadline)
            except TimeoutError:
                raise
            except (OSError, http.client.HTTPException):
                # The server hung up on the idle connection; that says nothing about the picture.
                pass
        connection = self._pool.new(address)
        return connection, self._send(connection, address, deadline)

    def _send(self, connection: Connection, address: HttpAddress, deadline: float) -> http.client.HTTPResponse:
        connection.deadline = deadline
        try:
            connection.request("GET", address.target, headers=self._headers)
            return connection.getresponse()
        except BaseException:
            connection.close()
            raise

    def _fetch_object(self, bucket: str, name: str) -> bytes:
        with self._lock:
            self.requests += 1
            if self._storage_client is None:
                self._storage_client = new_storage_client()
            client = self._storage_client
        return read_object(client, bucket, name, limits=self._limits)


def user_agent(contact: str = "") -> str:
    """Returns how requests introduce themselves: `museum-image-classifier/0.1.0 (+contact)`."""
    try:
        version = importlib.metadata.version(AGENT_NAME)
    except importlib.metadata.PackageNotFoundError:
        version = "0"
    return f"{AGENT_NAME}/{version}" + (f" (+{contact})" if contact else "")


def scheme_of(uri: str) -> str:
    """Returns the scheme of an address, in lower case; empty for a path."""
    match = _SCHEME.match(uri)
    if match is None:
        return ""
    scheme = match[1].lower()
    return scheme if match[2] or scheme in _KNOWN_SCHEMES else ""


def _after_tries(error: RejectedError, tries: int) -> RejectedError:
    return RejectedError(error.reason, f"{error.detail} after {tries} tries" if tries > 1 else error.detail)


def _failure(error: OSError | http.client.HTTPException) -> RejectedError:
    """Returns what an error of a connection means; its own text, with ports and numbers, goes no further."""
    match error:
        case TimeoutError():
            return _PassingError(Reason.TIMED_OUT, "took too long")
        case ssl.SSLCertVerificationError():
            return RejectedError(Reason.CONNECTION_FAILED, "certificate not accepted")
        case ssl.SSLError():
            return _PassingError(Reason.CONNECTION_FAILED, "no TLS connection")
        case socket.gaierror():
            return _PassingError(Reason.CONNECTION_FAILED, "host name not found")
        case ConnectionRefusedError():
            return _PassingError(Reason.CONNECTION_FAILED, "connection refused")
        case ConnectionError():
            return _PassingError(Reason.CONNECTION_FAILED, "connection broken")
        case http.client.IncompleteRead():
            return _PassingError(Reason.INCOMPLETE_BODY, "the body broke off")
        case http.client.HTTPException():
            return _PassingError(Reason.CONNECTION_FAILED, "the answer is not HTTP")
    return _PassingError(Reason.CONNECTION_FAILED, "no connection")


def _respect_opt_out(response: http.client.HTTPResponse) -> None:
    """Raises OPTED_OUT if an `X-Robots-Tag` for everybody, or for us, keeps the picture from machines.

    A header is a list of rules; `somebot: noindex` addresses, from there on, only that bot.
    """
    for header in response.headers.get_all("X-Robots-Tag", ()):
        agent = "*"
        for part in header.lower().split(","):
            name, colon, rule = (text.strip() for text in part.partition(":"))
            if colon and name not in _ROBOTS_RULES_WITH_VALUE:
                agent = name
            elif not colon:
                rule = name
            if rule in _OPT_OUTS and agent in ("*", AGENT_NAME):
                raise RejectedError(Reason.OPTED_OUT, f"X-Robots-Tag {rule}")


def _read_body(response: http.client.HTTPResponse, *, max_bytes: int) -> bytes:
    """Reads and decodes a body to its end.

    Raises:
        RejectedError: TOO_LARGE, INCOMPLETE_BODY or HTTP_ERROR (an encoding nobody asked for).
        OSError, http.client.HTTPException: the connection failed.
    """
    encoding = response.headers.get("Content-Encoding", "identity").strip().lower()
    if (response.length or 0) > max_bytes:
        raise _too_large(max_bytes)
    if encoding in ("identity", ""):
        body = b"".join(_at_most(_chunks(response), max_bytes))
    elif encoding in ("gzip", "x-gzip", "deflate"):
        body = _inflate(_at_most(_chunks(response), max_bytes), max_bytes=max_bytes)
    else:
        raise RejectedError(Reason.HTTP_ERROR, f"content encoding {clean_text(encoding, max_characters=40)}")
    response.close()
    return body


def _chunks(response: http.client.HTTPResponse) -> Iterator[bytes]:
    """Gives a body piece by piece, as it arrives; raises IncompleteRead if it ends before it should."""
    while chunk := response.read1(_CHUNK_BYTES):
        yield chunk
        if response.length == 0:
            return
    if response.length:
        raise http.client.IncompleteRead(b"")


def _at_most(chunks: Iterator[bytes], max_bytes: int) -> Iterator[bytes]:
    size = 0
    for chunk in chunks:
        size += len(chunk)
        if size > max_bytes:
            raise _too_large(max_bytes)
        yield chunk


def _too_large(max_bytes: int) -> RejectedError:
    return RejectedError(Reason.TOO_LARGE, f"more than {max_bytes} bytes")


def _inflate(chunks: Iterator[bytes], *, max_bytes: int) -> bytes:
    """Decompresses gzip (of any number of members), zlib or bare deflate, never beyond `max_bytes` + 1 bytes."""
    output = bytearray()
    decoder = None
    for chunk in chunks:
        while chunk:
            if decoder is None or decoder.eof:
                decoder = zlib.decompressobj(_window_bits(chunk))
            try:
                output += decoder.decompress(chunk, max_bytes + 1 - len(output))
            except zlib.error as error:
                raise _PassingError(Reason.INCOMPLETE_BODY, "compressed data is broken") from error
            if len(output) > max_bytes:
                raise _too_large(max_bytes)
            chunk = decoder.unused_data if decoder.eof else b""
    if decoder is not None and not decoder.eof:
        raise _PassingError(Reason.INCOMPLETE_BODY, "compressed data broke off")
    return bytes(output)


def _window_bits(start: bytes) -> int:
    """Returns zlib's `wbits` for data that starts so: gzip, zlib, or deflate without a header."""
    if start[0] == 0x1F:
        return zlib.MAX_WBITS | 16
    return zlib.MAX_WBITS if start[0] & 0x0F == 8 else -zlib.MAX_WBITS


def _discard_body(connection: Connection, response: http.client.HTTPResponse) -> None:
    """Reads the rest of a short answer, for a moment, so that its connection can be used again."""
    if response.will_close:
        return
    connection.deadline = min(connection.deadline, time.monotonic() + _MAX_DISCARD_SECONDS)
    try:
        for _ in _at_most(_chunks(response), _MAX_DISCARDED_BYTES):
            pass
        response.close()
    except (OSError, http.client.HTTPException, RejectedError):
        connection.close()


def parse_path(uri: str) -> str:
    """Returns the local path that a `file:` address or a path stands for.

    Raises:
        RejectedError: BAD_URI.
    """
    path = uri
    if scheme_of(uri) == "file":
        try:
            parts = urlsplit(uri)
        except ValueError as error:
            raise RejectedError(Reason.BAD_URI, "the address cannot be read") from error
        if parts.netloc not in ("", "localhost"):
            raise RejectedError(Reason.BAD_URI, "a file address of another machine")
        path = unquote(parts.path)
    if not path:
        raise RejectedError(Reason.BAD_URI, "the address is empty")
    if has_control_character(path):
        raise RejectedError(Reason.BAD_URI, "control character in the path")
    return path


def read_file(path: str, *, max_bytes: int) -> bytes:
    """Returns the bytes of a regular file, never those of a pipe or a device.

    Raises:
        RejectedError: NOT_FOUND, FORBIDDEN, TOO_LARGE, BAD_URI, or CONNECTION_FAILED if the disk fails.
    """
    try:
        # Without O_NONBLOCK, opening a pipe would wait for somebody to write to it.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
        with open(descriptor, "rb", buffering=0) as file:
            return _read_regular(file, max_bytes=max_bytes)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise RejectedError(Reason.NOT_FOUND, "no such file") from error
    except IsADirectoryError as error:
        raise RejectedError(Reason.NOT_FOUND, "not a regular file") from error
    except PermissionError as error:
        raise RejectedError(Reason.FORBIDDEN, "the file may not be read") from error
    except ValueError as error:
        raise RejectedError(Reason.BAD_URI, "no such path can exist") from error
    except OSError as error:
        reason = Reason.NOT_FOUND if error.errno in _NO_FILE_ERRORS else Reason.CONNECTION_FAILED
        raise RejectedError(reason, os.strerror(error.errno or 0)) from error


def _read_regular(file: io.FileIO, *, max_bytes: int) -> bytes:
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        raise RejectedError(Reason.NOT_FOUND, "not a regular file")
    pieces = iter(lambda: file.read(_CHUNK_BYTES), b"")
    return b"".join(_at_most(pieces, max_bytes))


def parse_object(uri: str) -> tuple[str, str]:
    """Returns bucket and object name of a `gs://` address; the name may hold anything but control characters.

    Raises:
        RejectedError: BAD_URI.
    """
    bucket, _, name = uri.partition("://")[2].partition("/")
    if has_control_character(uri):
        raise RejectedError(Reason.BAD_URI, "control character in the address")
    if not (_BUCKET.fullmatch(bucket) and name):
        raise RejectedError(Reason.BAD_URI, "give gs://bucket/object")
    try:
        name.encode()
    except UnicodeError as error:
        raise RejectedError(Reason.BAD_URI, "the address cannot be read") from error
    return bucket, name


def new_storage_client() -> Any:
    """Returns a client for Google Cloud Storage; anonymous unless this machine has credentials.

    Looking for credentials where there are none would wait for a metadata server that is not there.

    Raises:
        RejectedError: FORBIDDEN if there are credentials and they cannot be used.
    """
    import google.auth
    import requests.adapters
    from google.auth.credentials import AnonymousCredentials
    from google.auth.exceptions import GoogleAuthError
    from google.auth.transport.requests import AuthorizedSession
    from google.cloud import storage

    try:
        credentials: Any = AnonymousCredentials()  # type: ignore[no-untyped-call]
        if has_google_credentials():
            credentials, _ = google.auth.default(scopes=["https://www.googleapis.com/auth/devstorage.read_only"])
    except GoogleAuthError as error:
        raise RejectedError(Reason.FORBIDDEN, "Google credentials cannot be used") from error
    session = AuthorizedSession(credentials)  # type: ignore[no-untyped-call]
    for prefix in ("https://", "http://"):
        session.mount(prefix, requests.adapters.HTTPAdapter(pool_maxsize=64))
    return storage.Client(project=None, credentials=credentials, _http=session)


def has_google_credentials() -> bool:
    """Tells, without asking the network, whether Google's libraries would find credentials here."""
    if "STORAGE_EMULATOR_HOST" in os.environ:
        return False
    if "GOOGLE_APPLICATION_CREDENTIALS" in os.environ:
        return True
    config = os.environ.get("CLOUDSDK_CONFIG") or os.path.expanduser("~/.config/gcloud")
    if os.path.exists(os.path.join(config, "application_default_credentials.json")):
        return True
    try:
        return _GOOGLE_MACHINE.read_text().strip() in ("Google", "Google Compute Engine")
    except OSError:
        return False


class _BoundedBuffer(io.BytesIO):
    """Collects a download; raises TOO_LARGE or TIMED_OUT once it is beyond its bounds."""

    def __init__(self, *, max_bytes: int, deadline: float) -> None:
        super().__init__()
        self._max_bytes = max_bytes
        self._deadline = deadline

    def write(self, data: bytes, /) -> int:  # type: ignore[override]
        if self.tell() + len(data) > self._max_bytes:
            raise _too_large(self._max_bytes)
        if time.monotonic() > self._deadline:
            raise RejectedError(Reason.TIMED_OUT, "took too long")
        return super().write(data)


def read_object(client: Any, bucket: str, name: str, *, limits: FetchLimits) -> bytes:
    """Returns an object's bytes, decompressed if it is stored with a content encoding; the library retries.

    Args:
        client: a `google.cloud.storage.Client`.
        bucket: name of the bucket.
        name: name of the object, unquoted.
        limits: `total_timeout` holds for all tries together.

    Raises:
        RejectedError: any reason of the fetch stage but those of redirects and addresses.
    """
    from google.api_core.exceptions import GoogleAPICallError, RetryError
    from google.auth.exceptions import GoogleAuthError
    from google.cloud.storage.exceptions import DataCorruption
    from google.cloud.storage.retry import DEFAULT_RETRY
    from requests.exceptions import RequestException, Timeout
    from urllib3.exceptions import HTTPError

    blob = client.bucket(bucket).blob(name)
    buffer = _BoundedBuffer(max_bytes=limits.max_bytes, deadline=time.monotonic() + limits.total_timeout)
    try:
        blob.download_to_file(
            buffer,
            raw_download=True,
            timeout=(limits.connect_timeout, limits.read_timeout),
            retry=DEFAULT_RETRY.with_timeout(limits.total_timeout),
        )
    except GoogleAPICallError as error:
        raise _storage_refusal(error.code) from error
    except DataCorruption as error:
        raise RejectedError(Reason.INCOMPLETE_BODY, "checksum differs") from error
    except (RetryError, Timeout) as error:
        raise RejectedError(Reason.TIMED_OUT, "took too long") from error
    except GoogleAuthError as error:
        raise RejectedError(Reason.FORBIDDEN, "Google credentials cannot be used") from error
    except (RequestException, HTTPError, OSError) as error:
        raise RejectedError(Reason.CONNECTION_FAILED, "no connection to Cloud Storage") from error
    if blob.content_encoding in ("gzip", "deflate"):
        return _inflate(iter([buffer.getvalue()]), max_bytes=limits.max_bytes)
    return buffer.getvalue()


def _storage_refusal(status: int | None) -> RejectedError:
    reason = _REASON_OF_STATUS.get(status or 0, Reason.SERVER_ERROR if (status or 0) >= 500 else Reason.HTTP_ERROR)
    return RejectedError(reason, f"status {status} from Cloud Storage")
