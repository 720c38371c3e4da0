"""Fetches the bytes of a picture from `http(s)://`, `gs://`, a path or a larger file: politely, and within limits.

Everything that comes from outside is bounded: bytes (also after decompression), time (also of servers that drip),
redirects, tries and the addresses that may be reached. Whatever goes wrong with a picture is a `RejectedError` with a
reason from the closed list, whose detail comes out the same whenever the server behaves the same.
"""

import dataclasses
import http.client
import importlib.metadata
import random
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import cast

import requests

from beam_pipelines.errors import OptionError
from beam_pipelines.fetch import json_lines, record_files
from beam_pipelines.fetch.addresses import HttpAddress, follow_redirect, parse_http, scheme_of
from beam_pipelines.fetch.cloud_storage import CloudStorage, parse_object
from beam_pipelines.fetch.failures import PassingError, failure_of, reason_of_status
from beam_pipelines.fetch.file_ranges import FileRanges
from beam_pipelines.fetch.http_bodies import discard_body, read_body, respect_opt_out
from beam_pipelines.fetch.idx_files import MAX_OBJECT_BYTES, IdxFiles
from beam_pipelines.fetch.local_files import parse_path, read_file
from beam_pipelines.fetch.rate_limits import HostLimiter, parse_retry_after
from beam_pipelines.fetch.transport import ConnectionLimits
from beam_pipelines.fetch.web_session import Answer, WebSession
from beam_pipelines.rejects import Reason, RejectedError

AGENT_NAME = "museum-image-classifier"

_MAX_BACKOFF_SECONDS = 30.0
# What the Met's hosts stand for hours; they block for a while those who ask more.
MET_RATES = (("collectionapi.metmuseum.org", 4.0), ("images.metmuseum.org", 16.0))

# Of files that have pictures in them.
_READERS_OF_RANGES = {json_lines.SCHEME: json_lines.read_picture, record_files.SCHEME: record_files.read_picture}

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_PASSING_REASONS = frozenset({Reason.SERVER_ERROR, Reason.RATE_LIMITED})


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
        allow_paths: whether files may be read: `file://`, paths, and `idx:`, `jsonl:` and `tfrecord:`.
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
    requests_per_second: tuple[tuple[str, float], ...] = MET_RATES
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


class Fetcher:
    """Fetches pictures; one for each process, shared by its threads.

    Args:
        limits: bounds on every fetch.
        accept: what kinds of content are asked for.
        heeds_opt_outs: whether what `X-Robots-Tag` keeps from machines is left; an API is there for them.
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
        accept: str = "image/*",
        heeds_opt_outs: bool = True,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.requests = 0
        self.retries = 0
        self.bytes = 0
        self._limits = limits
        self._heeds_opt_outs = heeds_opt_outs
        self._sleep = sleep
        self._random = random.SystemRandom()
        self._limiter = HostLimiter(
            {host.lower(): rate for host, rate in limits.requests_per_second},
            max_processes=limits.max_processes,
            clock=clock,
            sleep=sleep,
        )
        self._session = WebSession(
            {"User-Agent": user_agent(limits.contact), "Accept": accept, "Accept-Encoding": "identity"},
            ConnectionLimits(
                connect_timeout=limits.connect_timeout,
                read_timeout=limits.read_timeout,
                allow_private_addresses=limits.allow_private_addresses,
            ),
        )
        self._storage = CloudStorage(
            connect_timeout=limits.connect_timeout,
            read_timeout=limits.read_timeout,
            total_timeout=limits.total_timeout,
            max_bytes=limits.max_bytes,
        )
        large_storage = CloudStorage(
            connect_timeout=limits.connect_timeout,
            read_timeout=limits.read_timeout,
            total_timeout=limits.total_timeout,
            max_bytes=MAX_OBJECT_BYTES,
        )
        self._idx_files = IdxFiles(large_storage, max_bytes=limits.max_bytes)
        self._ranges = FileRanges(large_storage)
        self._lock = threading.Lock()

    def __enter__(self) -> "Fetcher":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes idle connections; fetches under way end as they would have."""
        self._session.close()
        self._storage.close()
        self._idx_files.close()

    def fetch(self, uri: str) -> bytes:
        """Returns the bytes at `uri`, at most `max_bytes` of them.

        Args:
            uri: `http://`, `https://`, `gs://bucket/object`, `file://` or a path; spaces and letters of any alphabet
                need no quoting. Or a place in a larger file: `idx:PATH#NUMBER`, and `jsonl:` or `tfrecord:` with
                `OFFSET:LENGTH:PATH`.

        Raises:
            RejectedError: they cannot be had; the reason's stage is `fetch`, or `source` where a larger file is not
                what it was.
        """
        uri = uri.strip()
        scheme = scheme_of(uri)
        if scheme in ("http", "https"):
            body = self._fetch_http(parse_http(uri))
        elif scheme == "gs":
            body = self._fetch_object(*parse_object(uri))
        elif scheme not in ("file", "idx", "", *_READERS_OF_RANGES):
            raise RejectedError(Reason.BAD_URI, "only http, https, gs, file and paths can be fetched")
        elif not self._limits.allow_paths:
            raise RejectedError(Reason.REFUSED_ADDRESS, "files of this machine are not served")
        elif scheme == "idx":
            body = self._idx_files.read(uri)
        elif scheme in _READERS_OF_RANGES:
            body = _READERS_OF_RANGES[scheme](self._ranges, uri, max_bytes=self._limits.max_bytes)
        else:
            body = read_file(parse_path(uri), max_bytes=self._limits.max_bytes)
        with self._lock:
            self.bytes += len(body)
        return body

    def pause(self, uri: str, seconds: float) -> None:
        """Lets no thread send a request to the host of the web address `uri` for `seconds` from now."""
        self._limiter.pause(parse_http(uri).host, seconds)

    def _fetch_http(self, address: HttpAddress) -> bytes:
        for tries in range(1, self._limits.max_retries + 1):
            try:
                return self._try(address)
            except PassingError:
                self._back_off(tries)
        try:
            return self._try(address)
        except PassingError as error:
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
                answer = self._ask(address, timeout=seconds_left)
            except (OSError, http.client.HTTPException) as error:
                raise failure_of(error) from error
            if isinstance(answer, bytes):
                return answer
            address = answer
            seconds_left -= time.monotonic() - started
        raise RejectedError(Reason.TOO_MANY_REDIRECTS, f"more than {self._limits.max_redirects} redirects")

    def _ask(self, address: HttpAddress, *, timeout: float) -> bytes | HttpAddress:
        """Returns the body at `address`, or the address that it redirects to."""
        with self._lock:
            self.requests += 1
        with self._session.ask(address, timeout=timeout) as response:
            answer = cast(Answer, response.raw)
            if response.status_code == 200:
                if self._heeds_opt_outs:
                    respect_opt_out(answer, agent_name=AGENT_NAME)
                return read_body(answer, max_bytes=self._limits.max_bytes)
            try:
                location = response.headers.get("Location")
                if response.status_code in _REDIRECTS and location:
                    return follow_redirect(address, location)
                raise self._refusal(address, response)
            finally:
                discard_body(answer)

    def _refusal(self, address: HttpAddress, response: requests.Response) -> RejectedError:
        """Returns what an answer that is no picture means; pauses its host where it asks for that."""
        status = response.status_code
        reason = reason_of_status(status)
        if reason not in _PASSING_REASONS:
            detail = f"status {status} without an address" if status in _REDIRECTS else f"status {status}"
            return RejectedError(reason, detail)
        pause = parse_retry_after(response.headers.get("Retry-After"), now=time.time())
        if pause is not None:
            if pause > self._limits.max_retry_after:
                return RejectedError(reason, f"status {status}, to be left alone for too long")
            self._limiter.pause(address.host, pause)
        return PassingError(reason, f"status {status}")

    def _fetch_object(self, bucket: str, name: str) -> bytes:
        with self._lock:
            self.requests += 1
        return self._storage.read(bucket, name)


def user_agent(contact: str = "") -> str:
    """Returns how requests introduce themselves: `museum-image-classifier/0.1.0 (+contact)`."""
    try:
        version = importlib.metadata.version(AGENT_NAME)
    except importlib.metadata.PackageNotFoundError:
        version = "0"
    return f"{AGENT_NAME}/{version}" + (f" (+{contact})" if contact else "")


def _after_tries(error: RejectedError, tries: int) -> RejectedError:
    return RejectedError(error.reason, f"{error.detail} after {tries} tries" if tries > 1 else error.detail)
