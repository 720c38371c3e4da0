"""The shard writer of embed: reads a shard of pictures, has them embedded, writes their vectors, accounts for each.

A shard of embeddings has the name, the order and the batches of its shard of pictures, so that it comes out the same
in every run. First come what the report and `verify` need of it, then its account, then the shard itself, whole, under
its final name: the shard is the mark that it is done.
"""

import dataclasses
import itertools
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from beam_pipelines import files
from beam_pipelines.artwork import Artwork
from beam_pipelines.choice import key_rank
from beam_pipelines.dataset import EMBEDDING, Feature
from beam_pipelines.embedding.source import (
    Example,
    Record,
    SourceShard,
    decode_picture,
    picture_of,
    read_planned,
    read_source_records,
)
from beam_pipelines.errors import RunError
from beam_pipelines.images import thumbnail
from beam_pipelines.outcomes import Outcome, Written, is_whole, write_outcomes
from beam_pipelines.picture_threads import PictureThreads, in_order
from beam_pipelines.plan_files import Account, DroppedPicture, PlanFiles, PlannedPicture, WrittenPicture, read_account
from beam_pipelines.rejects import Dropped, Reason, RejectedError
from beam_pipelines.tfrecords import CorruptRecordError, encode_example, frame

# The feature of a sample's small picture: JPEG bytes.
THUMBNAIL = "thumbnail"

_THUMBNAIL_SIDE = 64
_BATCHES_AHEAD = 2
_COPIED = (Feature.LABEL, Feature.TEXT, Feature.KEY, Feature.URI, Feature.SHA256)

Vector = npt.NDArray[np.float32]
Vectors = npt.NDArray[np.float32]
_In = TypeVar("_In")
_Out = TypeVar("_Out")


class Embedder(Protocol):
    """Makes vectors of pictures; threads may use it at the same time."""

    def pixels(self, jpeg: bytes) -> Any:
        """Returns a picture as the backbone takes it; raises RejectedError if it cannot be decoded."""

    def embed(self, pixels: Sequence[Any]) -> Vectors:
        """Returns the vectors, float32 [len(pixels), width], of what `pixels` returned for each of several pictures."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class EmbedShape:
    """What decides the bytes of the shards, besides the pictures and the backbone.

    Attributes:
        dataset: the directory of the pictures.
        backbone: its name and its weights, as messages tell them.
        batch_size: pictures that the backbone takes at a time.
        samples_below: pictures of a lower rank of their key are samples for the report.
    """

    dataset: str
    backbone: str
    batch_size: int
    samples_below: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Prepared:
    """A picture on its way: which it is, and either its example and its pixels, or why it has none."""

    picture: PlannedPicture
    example: Example
    pixels: Any = None
    dropped: Dropped | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Finished:
    """The outcome of a picture, and its sample for the report; empty if it is none."""

    picture: PlannedPicture
    outcome: Outcome
    sample: bytes = b""


class EmbeddingWriter(PictureThreads):
    """Writes shards of embeddings, one after the other.

    It counts `embed/ok`, `embed/msec`, `decode/msec` and `rejected/…`.

    Args:
        plan: of the data set of embeddings.
        shape: what decides the bytes.
        embedder: makes the vectors.
        threads: how many pictures are decoded at the same time.
        on_outcome: called with the number of pictures done and of those rejected.
    """

    def __init__(
        self,
        plan: PlanFiles,
        shape: EmbedShape,
        *,
        embedder: Embedder,
        threads: int,
        on_outcome: Callable[[int, int], None] = lambda done, rejected: None,
    ) -> None:
        super().__init__(threads, on_outcome=on_outcome)
        self._plan = plan
        self._shape = shape
        self._embedder = embedder

    def ensure(self, source: SourceShard) -> Account:
        """Writes the shard unless it is there and true to its account; one shard at a time.

        Raises:
            RunError: the shard of pictures is not there, or the backbone gives numbers that are not finite.
        """
        account = read_account(self._plan.account(source.shard))
        if account is None or not is_whole(self._plan, source.shard, account):
            return write_outcomes(self._plan, source.shard, self._outcomes(source))
        self._on_outcome(len(account.written) + len(account.dropped), len(account.dropped))
        return account

    def _outcomes(self, source: SourceShard) -> Iterator[Outcome]:
        """Yields the outcome of each picture, in order; writes what lies beside the shard when all are known."""
        planned, size = read_planned(self._shape.dataset, source), self._shape.batch_size
        rows: list[str] = []
        samples: list[bytes] = []

        def prepare(numbered: tuple[int, Record]) -> _Prepared:
            number, record = numbered
            known = planned[number] if planned else None
            return self._prepare(record, known or _nameless(source, number), is_known=known is not None)

        records = enumerate(read_source_records(self._shape.dataset, source))
        prepared = self._threaded(prepare, records, window=_BATCHES_AHEAD * size)
        for finished in self._threaded(self._finish, self._embed(prepared), window=size):
            rows.append(finished.picture.to_line())
            samples += filter(None, [finished.sample])
            self._on_outcome(1, int(isinstance(finished.outcome, DroppedPicture)))
            yield finished.outcome
        files.write_lines(self._plan.rows(source.shard), rows)
        files.write_bytes(self._plan.samples(source.shard), b"".join(map(frame, samples)))

    def _prepare(self, record: Record, picture: PlannedPicture, *, is_known: bool) -> _Prepared:
        """Decodes a record and its picture; what the plan of the pictures does not know is taken from the example."""
        example: Example = {}
        counters: dict[str, int] = {}
        started = time.perf_counter()
        try:
            example = decode_picture(record)
            told = picture_of(example)
            if not is_known or told.artwork.key != picture.artwork.key:
                picture = told
            return _Prepared(
                picture=picture, example=example, pixels=self._embedder.pixels(example[Feature.ENCODED][0])
            )
        except CorruptRecordError as error:
            rejected = RejectedError(Reason.CORRUPT_RECORD, str(error))
        except RejectedError as error:
            rejected = error
        finally:
            counters["decode/msec"] = round(1000 * (time.perf_counter() - started))
            self._counters.add(counters)
        self._counters.add({f"rejected/{rejected.reason}": 1})
        work = picture.artwork
        dropped = Dropped(key=work.key, uri=work.image_uri, reason=rejected.reason, detail=rejected.detail)
        return _Prepared(picture=picture, example=example, dropped=dropped)

    def _embed(self, prepared: Iterator[_Prepared]) -> Iterator[tuple[_Prepared, Vector | None]]:
        """Yields each picture with its vector, without its pixels; a batch is so many records, less the rejected."""
        while batch := list(itertools.islice(prepared, self._shape.batch_size)):
            good = [picture for picture in batch if picture.dropped is None]
            vectors = iter(self._vectors(good))
            for picture in batch:
                without_pixels = dataclasses.replace(picture, pixels=None)
                yield without_pixels, None if picture.dropped else next(vectors)

    def _vectors(self, pictures: Sequence[_Prepared]) -> Vectors:
        if not pictures:
            return np.empty((0, 0), np.float32)
        started = time.perf_counter()
        vectors = self._embedder.embed([picture.pixels for picture in pictures])
        self._counters.add({"embed/msec": round(1000 * (time.perf_counter() - started)), "embed/ok": len(pictures)})
        finite = np.isfinite(vectors).all(axis=1)
        if not finite.all():
            key = pictures[int(np.argmin(finite))].picture.artwork.key
            raise RunError(
                f"{self._shape.backbone} gives numbers that are not finite for {key}: give --weights of another file"
            )
        return vectors

    def _finish(self, embedded: tuple[_Prepared, Vector | None]) -> _Finished:
        """Makes the record of a picture's vector, and its sample if it is one."""
        prepared, vector = embedded
        if prepared.dropped or vector is None:
            assert prepared.dropped  # noqa: S101  (what is not dropped has a vector)
            return _Finished(picture=prepared.picture, outcome=DroppedPicture(dropped=prepared.dropped))
        example, values = prepared.example, vector.tolist()
        record = encode_example({**{name.value: example[name] for name in _COPIED}, EMBEDDING: values})
        picture = WrittenPicture(
            prepared.picture.artwork.key,
            example[Feature.SHA256][0].decode(),
            width=example[Feature.WIDTH][0],
            height=example[Feature.HEIGHT][0],
            size=len(example[Feature.ENCODED][0]),
        )
        is_sample = key_rank(picture.key) < self._shape.samples_below
        return _Finished(
            picture=prepared.picture,
            outcome=Written(record=frame(record), picture=picture),
            sample=_sample(example, values) if is_sample else b"",
        )

    def _threaded(self, function: Callable[[_In], _Out], items: Iterable[_In], *, window: int) -> Iterator[_Out]:
        """Yields what the function makes of each item, in order, while the threads work a window of them ahead."""
        return in_order((self._pool.submit(function, item) for item in items), window=window)


def _nameless(source: SourceShard, number: int) -> PlannedPicture:
    """Returns a picture of which nobody knows more than its place."""
    key = f"{source.name}#{number}"
    return PlannedPicture(artwork=Artwork(key=key, group=key, image_uri=""), class_ids=())


def _sample(example: Example, embedding: list[float]) -> bytes:
    """Returns an example of a picture's vector with a small picture; nothing if there can be none."""
    try:
        small = thumbnail(example[Feature.ENCODED][0], side=_THUMBNAIL_SIDE)
    except (OSError, SyntaxError, ValueError):
        return b""
    told = {name.value: example[name] for name in (Feature.KEY, Feature.LABEL, Feature.TEXT)}
    return encode_example({**told, EMBEDDING: embedding, THUMBNAIL: small.jpeg})
