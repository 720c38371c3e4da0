"""Asks the Met's collection API for objects: at its rate, never twice for the same, and patient where it blocks.

The API stands some four requests a second; who asks more gets pages instead of answers for a while, whatever the
documentation allows. So every answer is kept as it comes, and a run that was stopped asks only for what is missing.
"""

import collections
import concurrent.futures
import dataclasses
import logging
import threading
import time
from collections.abc import Callable, Iterator
from typing import NoReturn

import apache_beam as beam
from apache_beam import pvalue
from apache_beam.pvalue import TaggedOutput
from apache_beam.transforms.window import GlobalWindow
from apache_beam.utils.windowed_value import WindowedValue

from beam_pipelines.artwork import Artwork
from beam_pipelines.cache import FileCache
from beam_pipelines.errors import OptionError, RunError
from beam_pipelines.fetch.addresses import parse_http, scheme_of
from beam_pipelines.fetch.fetcher import Fetcher, FetchLimits
from beam_pipelines.rejects import Dropped, Reason, RejectedError
from beam_pipelines.rows import ARTWORKS, DROPPED, DroppedRow, drop
from beam_pipelines.sources import SourceOptions
from beam_pipelines.sources.met_objects import (
    NO_OBJECT,
    BlockedError,
    MetObject,
    is_public_domain,
    picture_addresses,
    read_answer,
)

_LOGGER = logging.getLogger(__name__)

_OBJECT_ID = "{object_id}"
_MAX_ANSWER_BYTES = 4 << 20
_LOG_SECONDS = 15.0
# Enough for the usual rate though an answer takes four seconds.
_THREADS = 16
# Objects asked for, or answered and waiting for one before them.
_WINDOW = 64
_BLOCKS = frozenset({Reason.FORBIDDEN, Reason.RATE_LIMITED})

# Gives a row what the API tells of its object, or says why it is left out.
Describe = Callable[[Artwork, MetObject], Artwork | DroppedRow]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Patience:
    """How long an API that does not answer is borne with.

    Attributes:
        pause: seconds for which it is left alone when it blocks; doubles with each block on end.
        longest_pause: seconds to which that grows.
        blocks: so many on end, and the run stops; an object met by so many, though others are answered, is given up.
        failures: so many objects on end that fail for other reasons, and the run stops.
    """

    pause: float = 60.0
    longest_pause: float = 600.0
    blocks: int = 5
    failures: int = 20


class AskApi(beam.PTransform):
    """Gives the pictures of objects, given rows whose keys are object ids; outputs `artworks` and `dropped`.

    Args:
        options: of the source; whose API is asked, for which pictures, and where answers are kept.
        describe: called for each object that may be taken.
        patience: how long an API that does not answer is borne with.
    """

    def __init__(self, options: SourceOptions, *, describe: Describe, patience: Patience | None = None) -> None:
        super().__init__()
        self._ask = _Ask(options, describe, patience or Patience())

    def expand(self, rows: beam.PCollection) -> pvalue.DoOutputsTuple:
        asked = beam.ParDo(self._ask).with_output_types(Artwork, dropped=Dropped)
        return rows | "AskForObjects" >> asked.with_outputs(DROPPED, main=ARTWORKS)


class CollectionApi:
    """Answers of the API, from the cache or fresh; shared by the threads of a process.

    Args:
        address: of an object, with `{object_id}` in it.
        fetch: bounds on requests.
        answers: directory in which answers are kept.
        patience: how long an API that does not answer is borne with.
        clock: seconds from any origin.
        sleep: waits for a number of seconds.
    """

    def __init__(
        self,
        address: str,
        *,
        fetch: FetchLimits,
        answers: str,
        patience: Patience,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], object] | None = None,
    ) -> None:
        self._template = address
        self._patience = patience
        self._clock = clock
        self._over = threading.Event()
        self._why_over = ""
        self._sleep = sleep or self._over.wait
        self._cache = FileCache(answers)
        self._fetcher = Fetcher(
            dataclasses.replace(fetch, max_bytes=_MAX_ANSWER_BYTES, allow_paths=False),
            accept="application/json",
            heeds_opt_outs=False,
            clock=clock,
            sleep=self._wait,
        )
        self._lock = threading.Lock()
        self._blocks = self._failures = 0
        self._pause_ends = clock()
        self._tally = _Tally()

    def address(self, object_id: str) -> str:
        """Returns where the API tells of an object."""
        return self._template.replace(_OBJECT_ID, object_id)

    def ask(self, object_id: str) -> MetObject | None:
        """Returns what the API tells of an object; None if it says that there is no such object.

        Raises:
            RejectedError: API_FAILED, it tells of others but not of this one.
            RunError: it does not answer at all, or no longer; every other thread that asks or waits is told so too.
        """
        address = self.address(object_id)
        kept = self._cache.read(address)
        if kept is not None:
            self._tally.add(kept=True)
            return read_answer(kept, object_id)
        for _ in range(self._patience.blocks):
            try:
                body = self._fetch(address)
                found = read_answer(body, object_id)
            except BlockedError:
                self._blocked(address)
            except RejectedError as error:
                self._failed(error)
                raise
            else:
                self._cache.keep(address, body)
                self._answered()
                return found
        raise RejectedError(Reason.API_FAILED, "blocked, though others are answered")

    def close(self) -> None:
        """Ends what waits, and closes idle connections."""
        self._end("nobody needs the answers of the collection API any more")
        self._fetcher.close()

    def _fetch(self, address: str) -> bytes:
        self._wait(0)
        try:
            return self._fetcher.fetch(address)
        except RejectedError as error:
            if error.reason is Reason.NOT_FOUND:
                return NO_OBJECT
            if error.reason in _BLOCKS:
                raise BlockedError from error
            raise RejectedError(Reason.API_FAILED, str(error)) from error

    def _wait(self, seconds: float) -> None:
        """Sleeps; raises RunError when there is nothing to wait for any more."""
        if seconds:
            self._sleep(seconds)
        if self._over.is_set():
            raise RunError(self._why_over)

    def _answered(self) -> None:
        with self._lock:
            self._failures = 0
            if self._clock() >= self._pause_ends:
                self._blocks = 0
        self._tally.add(kept=False)

    def _blocked(self, address: str) -> None:
        """Leaves the host alone for a while, unless it is: this is then an answer to what was sent before."""
        with self._lock:
            if self._clock() < self._pause_ends:
                return
            self._blocks += 1
            if self._blocks >= self._patience.blocks:
                self._give_up("it blocks us")
            pause = min(self._patience.pause * 2 ** (self._blocks - 1), self._patience.longest_pause)
            self._pause_ends = self._clock() + pause
            self._fetcher.pause(address, pause)
        _LOGGER.warning("the collection API blocks us: waiting %g s", pause)

    def _failed(self, error: RejectedError) -> None:
        with self._lock:
            self._failures += 1
            if self._failures >= self._patience.failures:
                self._give_up(error.detail)

    def _give_up(self, why: str) -> NoReturn:
        host = parse_http(self.address("0")).host
        self._end(
            f"the collection API at {host} does not answer us ({why}): wait a while and give the same command again "
            f"to go on; {self._tally.asked:,} answers are kept"
        )
        raise RunError(self._why_over)

    def _end(self, why: str) -> None:
        self._why_over = self._why_over or why
        self._over.set()


class _Tally:
    """Counts answers, and logs from time to time how many there are; thread-safe."""

    def __init__(self) -> None:
        self.asked = 0
        self._kept = 0
        self._lock = threading.Lock()
        self._began = self._told = time.monotonic()

    def add(self, *, kept: bool) -> None:
        with self._lock:
            self.asked += 1
            self._kept += kept
            now = time.monotonic()
            if now - self._told < _LOG_SECONDS:
                return
            self._told = now
            rate = (self.asked - self._kept) / (now - self._began)
        _LOGGER.info("%s objects asked, %s from earlier answers, %.1f/s", f"{self.asked:,}", f"{self._kept:,}", rate)


class _Ask(beam.DoFn):
    """Keeps the client and the threads of one worker; gives results in the order of the rows."""

    def __init__(self, options: SourceOptions, describe: Describe, patience: Patience) -> None:
        self._options = options
        self._describe = describe
        self._patience = patience

    def setup(self) -> None:
        reading = self._options.reading
        self._api = CollectionApi(
            self._options.api_address, fetch=reading.fetch, answers=reading.answers, patience=self._patience
        )
        self._threads = concurrent.futures.ThreadPoolExecutor(_THREADS, thread_name_prefix="ask")

    def start_bundle(self) -> None:
        self._running: collections.deque[tuple[Artwork, concurrent.futures.Future[MetObject | None]]]
        self._running = collections.deque()
        self._asked: dict[str, concurrent.futures.Future[MetObject | None]] = {}

    def process(self, row: Artwork) -> Iterator[Artwork | DroppedRow]:
        # An object that is listed twice is asked for once, also while its answer is under way.
        if row.key not in self._asked:
            self._asked[row.key] = self._threads.submit(self._api.ask, row.key)
        self._running.append((row, self._asked[row.key]))
        if len(self._running) > _WINDOW:
            yield from self._next_pictures()

    def finish_bundle(self) -> Iterator[WindowedValue | TaggedOutput]:
        while self._running:
            yield from map(_in_global_window, self._next_pictures())

    def teardown(self) -> None:
        self._api.close()
        self._threads.shutdown(cancel_futures=True)

    def _next_pictures(self) -> Iterator[Artwork | DroppedRow]:
        row, answer = self._running.popleft()
        self._asked.pop(row.key, None)
        address = self._api.address(row.key)
        try:
            found = answer.result()
        except RejectedError as error:
            yield drop(Dropped(key=row.key, uri=address, reason=error.reason, detail=error.detail))
        else:
            yield from to_pictures(row, found, address=address, options=self._options, describe=self._describe)


def to_pictures(
    row: Artwork, found: MetObject | None, *, address: str, options: SourceOptions, describe: Describe
) -> Iterator[Artwork | DroppedRow]:
    """Yields a row for each picture of an object, or why it is left out.

    Args:
        row: of the object, whose id is its key.
        found: what the API tells of it, if it knows it.
        address: where the API does so.
        options: which works and which of their pictures are taken.
        describe: gives the row what its object is told of.
    """

    def without(reason: Reason) -> DroppedRow:
        return drop(Dropped(key=row.key, uri=address, reason=reason))

    if found is None:
        yield without(Reason.NO_OBJECT)
        return
    if not (options.include_restricted or is_public_domain(found)):
        yield without(Reason.NOT_PUBLIC_DOMAIN)
        return
    described = describe(row, found)
    if not isinstance(described, Artwork):
        yield described
        return
    uris = picture_addresses(found, options.api_images)
    if not uris:
        yield without(Reason.NO_IMAGE)
    for number, uri in enumerate(uris):
        yield dataclasses.replace(described, key=f"{row.key}/{number}", image_uri=uri)


def check_api(options: SourceOptions, *, asks: bool = True) -> None:
    """Raises OptionError if the API cannot be asked as `options` say; `asks` tells whether it will be at all."""
    if options.images_input:
        raise OptionError(
            f"--images_input {options.images_input!r} gives addresses of pictures, and so does the collection API: "
            "leave it out"
        )
    if _OBJECT_ID not in options.api_address:
        raise OptionError(f"--api_address {options.api_address!r} lacks the text {_OBJECT_ID}")
    try:
        if scheme_of(options.api_address) not in ("http", "https"):
            raise RejectedError(Reason.BAD_URI, "give http:// or https://")
        parse_http(options.api_address.replace(_OBJECT_ID, "1"))
    except RejectedError as error:
        raise OptionError(f"--api_address {options.api_address!r}: {error.detail}") from error
    if asks and not options.reading.answers:
        raise OptionError("answers of the collection API are kept for later runs: name a directory with --cache_dir")


def _in_global_window(result: Artwork | DroppedRow) -> WindowedValue | TaggedOutput:
    window = GlobalWindow()
    value = result if isinstance(result, Artwork) else result.value
    windowed = WindowedValue(value, window.max_timestamp(), [window])
    return windowed if isinstance(result, Artwork) else TaggedOutput(result.tag, windowed)
