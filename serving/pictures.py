"""Reads pictures the way ingest does: fetched politely and within limits, then checked by their headers.

Imports neither Beam nor TensorFlow. A picture that cannot be had is a row with its reason, never an exception.
"""

import concurrent.futures
import contextlib
import dataclasses
import itertools
import sys
from collections.abc import Iterable, Iterator

from beam_pipelines.fetch.fetcher import Fetcher
from beam_pipelines.images import ImageHeader, ImageLimits, PixelGate, check_image, shrink
from beam_pipelines.pages import visible
from beam_pipelines.picture_threads import in_order
from beam_pipelines.rejects import Reason, RejectedError
from serving.model import batches_of
from serving.picture_options import STANDARD_INPUT, PictureOptions

# What is decoded at the same time to be shrunk; four bytes a pixel.
_DECODED_PIXELS = 100_000_000
# What a model sees at the same time; a larger picture goes alone.
_BATCH_PIXELS = 100_000_000


@dataclasses.dataclass(frozen=True, kw_only=True)
class Picture:
    """A picture that may be shown to a model.

    Attributes:
        key: its address as it was given.
        data: its file.
        header: what that says of itself.
    """

    key: str
    data: bytes
    header: ImageHeader

    @property
    def pixels(self) -> int:
        """Width times height."""
        return self.header.width * self.header.height


@dataclasses.dataclass(frozen=True, kw_only=True)
class Refusal:
    """A picture that cannot be had or used.

    Attributes:
        key: its address as it was given.
        reason: why, from the closed list.
        detail: more, for people.
    """

    key: str
    reason: Reason
    detail: str = ""

    @property
    def pixels(self) -> int:
        """None of them are held."""
        return 0

    def to_json(self) -> dict[str, str]:
        """Returns what a line of `rejected.jsonl` says of it besides its key and address."""
        return {"stage": self.reason.stage.value, "reason": self.reason.value, "detail": self.detail}

    def in_words(self) -> str:
        """Returns it on one line."""
        return ": ".join(filter(None, (self.key, *self.to_json().values())))


@contextlib.contextmanager
def reading(options: PictureOptions, *, resize: int = 0) -> Iterator[Iterator[Picture | Refusal]]:
    """Gives the pictures in the order in which they were asked for, and begins to fetch at once.

    No more are held than are fetched at the same time.

    Args:
        options: which pictures.
        resize: shrinks them to so many pixels of the shorter side; 0 leaves them as they came.
    """
    pool = concurrent.futures.ThreadPoolExecutor(options.fetch_threads, thread_name_prefix="fetch")
    with Fetcher(options.fetch) as fetcher:
        reader = _Reader(fetcher, limits=options.limits, max_bytes=options.fetch.max_bytes, resize=resize)
        futures = (pool.submit(reader.read, address) for address in options.addresses)
        begun = list(itertools.islice(futures, options.fetch_threads))
        try:
            yield in_order(itertools.chain(begun, futures), window=options.fetch_threads)
        finally:
            pool.shutdown(cancel_futures=True)


def picture_batches(pictures: Iterable[Picture | Refusal], *, size: int) -> Iterator[list[Picture | Refusal]]:
    """Yields pictures in their order, in batches that a model can be shown at once.

    Args:
        pictures: and those that cannot be shown, among them.
        size: the most of both in a batch.
    """
    return batches_of(pictures, size=size, max_pixels=_BATCH_PIXELS, pixels=lambda picture: picture.pixels)


def undecodable(picture: Picture) -> Refusal:
    """Returns what becomes of a picture whose header is well and whose pixels are not."""
    return Refusal(key=picture.key, reason=Reason.CORRUPT_IMAGE, detail=f"{picture.header.kind}: cannot be decoded")


def complain(refusal: Refusal) -> None:
    """Says on stderr that a picture cannot be used, and why."""
    print(f"error: {visible(refusal.in_words())}", file=sys.stderr, flush=True)  # noqa: T201


class _Reader:
    """Reads one picture after another, on many threads."""

    def __init__(self, fetcher: Fetcher, *, limits: ImageLimits, max_bytes: int, resize: int) -> None:
        self._fetcher = fetcher
        self._limits = limits
        self._max_bytes = max_bytes
        self._resize = resize
        self._gate = PixelGate(_DECODED_PIXELS)

    def read(self, address: str) -> Picture | Refusal:
        """Returns a picture, or why there is none."""
        try:
            data = self._standard_input() if address == STANDARD_INPUT else self._fetcher.fetch(address)
            header = check_image(data, limits=self._limits)
            if self._resize:
                small = shrink(data, size=self._resize, limits=self._limits, pixel_gate=self._gate)
                data, header = small.jpeg, ImageHeader("JPEG", small.width, small.height)
            return Picture(key=address, data=data, header=header)
        except RejectedError as error:
            return Refusal(key=address, reason=error.reason, detail=error.detail)

    def _standard_input(self) -> bytes:
        data = sys.stdin.buffer.read(self._max_bytes + 1)
        if len(data) > self._max_bytes:
            raise RejectedError(Reason.TOO_LARGE, f"more than {self._max_bytes} bytes")
        return data
