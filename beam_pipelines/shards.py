"""The shard writer: fetches, checks and writes the pictures planned for one shard, and accounts for every one.

A shard is written in the order of its plan, first its account, then the shard itself, whole, under its final name: the
shard is the mark that it is done. Whatever an earlier run left that is still true is used and not fetched again.
"""

import collections
import contextlib
import dataclasses
import hashlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from concurrent.futures import Future
from typing import Any, BinaryIO

from beam_pipelines import files
from beam_pipelines.dataset import Feature, Shard
from beam_pipelines.images import Picture
from beam_pipelines.outcomes import Outcome, Written, is_whole, parted, write_outcomes
from beam_pipelines.picture_threads import PictureThreads, done, in_order, timed_fetch
from beam_pipelines.plan_files import (
    Account,
    DroppedPicture,
    PlanFiles,
    PlannedPicture,
    WrittenPicture,
    read_account,
)
from beam_pipelines.rejects import Dropped, Kind, Reason, RejectedError
from beam_pipelines.tfrecords import CorruptRecordError, decode_example, encode_example, frame, read_records

_FRAMING = 16


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Reusable:
    """Where an earlier shard file holds a record of the same picture."""

    offset: int
    length: int
    picture: WrittenPicture


@dataclasses.dataclass(frozen=True, kw_only=True)
class ShardContent:
    """What really lies in a shard file.

    Attributes:
        examples: how many.
        size: bytes.
        sha256: of the file, hex.
        labels: examples per class id.
    """

    examples: int
    size: int
    sha256: str
    labels: Mapping[int, int]


class ShardWriter(PictureThreads):
    """Writes shards of one data set; several shards may be written at the same time, from several threads.

    It counts `fetch/ok`, `fetch/bytes`, `fetch/msec` and `rejected/…`.

    Args:
        plan: the data set's plan.
        fetch: returns the bytes at an address, or raises `RejectedError`.
        shrink: makes them into a checked JPEG, or raises `RejectedError`.
        threads: how many pictures are fetched at the same time, over all shards.
        keep: called with the address and the bytes of each picture that can be used.
        on_outcome: called with the number of pictures done and of those rejected, from any thread.
    """

    def __init__(
        self,
        plan: PlanFiles,
        *,
        fetch: Callable[[str], bytes],
        shrink: Callable[[bytes], Picture],
        threads: int,
        keep: Callable[[str, bytes], None] = lambda uri, data: None,
        on_outcome: Callable[[int, int], None] = lambda done, rejected: None,
    ) -> None:
        super().__init__(threads, on_outcome=on_outcome)
        self._plan = plan
        self._fetch = fetch
        self._shrink = shrink
        self._keep = keep
        self._window = 4 * threads

    def ensure(self, shard: Shard, *, retry_rejected: bool = False) -> Account:
        """Writes the shard unless it is there and true to its account.

        Args:
            shard: which one.
            retry_rejected: try again the pictures that were rejected for passing reasons.
        """
        account = read_account(self._plan.account(shard))
        whole = account is not None and is_whole(self._plan, shard, account)
        if account is not None and whole and not (retry_rejected and _has_passing(account)):
            return self._settled(account)
        known = account if account is not None and files.exists(self._plan.shard(shard)) else None
        return self._write(shard, known, settled=_still_dropped(known, retry_rejected=retry_rejected))

    def check(self, shard: Shard, *, retry_rejected: bool = False) -> Account:
        """Fetches and checks the pictures planned for the shard as `ensure` does, and writes what became of them alone.

        Args:
            shard: which one.
            retry_rejected: try again the pictures that were rejected for passing reasons.
        """
        known = read_account(self._plan.check(shard))
        if known is not None and not (retry_rejected and _has_passing(known)):
            return self._settled(known)
        settled: dict[str, Outcome] = dict(_still_dropped(known, retry_rejected=retry_rejected))
        settled.update(
            {picture.key: Written(record=b"", picture=picture) for picture in (known.written if known else ())}
        )
        written, dropped = parted(self._outcomes(shard, settled, {}, None), on_record=lambda record: None)
        account = Account(size=0, sha256="", written=written, dropped=dropped)
        files.write_json(self._plan.check(shard), account.to_json())
        return account

    def drop_duplicates(self, shard: Shard, keys: set[str]) -> Account:
        """Writes the shard anew without the pictures of these keys, which equal one on the other side of the split."""
        account = read_account(self._plan.account(shard))
        if account is None:
            raise FileNotFoundError(self._plan.account(shard))
        without = without_duplicates(account, keys, read_rows(self._plan, shard))
        return self._write(shard, account, settled=_still_dropped(without, retry_rejected=False))

    def _settled(self, account: Account) -> Account:
        self._on_outcome(len(account.written) + len(account.dropped), len(list(account.rejected())))
        return account

    def _write(self, shard: Shard, known: Account | None, *, settled: Mapping[str, DroppedPicture]) -> Account:
        """Writes the shard and its account; the records of pictures that are known and not settled are used again."""
        with self._reusable(shard, known) as (reusable, old):
            return write_outcomes(self._plan, shard, self._outcomes(shard, settled, reusable, old))

    @contextlib.contextmanager
    def _reusable(self, shard: Shard, known: Account | None) -> Iterator[tuple[dict[str, _Reusable], BinaryIO | None]]:
        """Opens what an earlier run left of the shard, with where in it each known picture lies."""
        if known is None or not files.exists(self._plan.shard(shard)):
            yield {}, None
            return
        with files.open_to_read(self._plan.shard(shard)) as file:
            yield _index(file, {picture.key: picture for picture in known.written}), file

    def _outcomes(
        self,
        shard: Shard,
        settled: Mapping[str, Outcome],
        reusable: Mapping[str, _Reusable],
        old: BinaryIO | None,
    ) -> Iterator[Outcome]:
        """Yields the outcome of each planned row, in order, while the threads work a window ahead."""

        def begun(row: PlannedPicture) -> Future[Outcome | _Reusable]:
            ready = settled.get(row.artwork.key) or reusable.get(row.artwork.key)
            return done(ready) if ready else self._pool.submit(self._picture, row)

        for outcome in in_order(map(begun, read_rows(self._plan, shard)), window=self._window):
            if isinstance(outcome, _Reusable):
                assert old is not None  # noqa: S101  (what is reusable was found in it)
                old.seek(outcome.offset)
                outcome = Written(record=old.read(outcome.length), picture=outcome.picture)
            self._on_outcome(1, int(isinstance(outcome, DroppedPicture) and _is_rejected(outcome)))
            yield outcome

    def _picture(self, row: PlannedPicture) -> Outcome:
        counters: dict[str, int] = {}
        try:
            data = timed_fetch(self._fetch, row.artwork.image_uri, counters)
            picture = self._shrink(data)
            self._keep(row.artwork.image_uri, data)
            counters["fetch/ok"] = 1
        except RejectedError as error:
            counters[f"rejected/{error.reason}"] = 1
            dropped = Dropped(key=row.artwork.key, uri=row.artwork.image_uri, reason=error.reason, detail=error.detail)
            return DroppedPicture(dropped=dropped)
        finally:
            self._counters.add(counters)
        sha256 = hashlib.sha256(data).hexdigest()
        width, height = picture.original_size
        return Written(
            record=frame(encode_example(_features(row, picture, sha256))),
            picture=WrittenPicture(row.artwork.key, sha256, width, height, len(data)),
        )


def read_content(
    plan: PlanFiles, shard: Shard, *, on_example: Callable[[dict[str, list[Any]]], None] = lambda example: None
) -> ShardContent:
    """Reads a shard file and counts what lies in it; raises `CorruptRecordError` where it is damaged.

    Args:
        plan: the data set's plan.
        shard: which one.
        on_example: called with the features of each example, in order.
    """
    labels: collections.Counter[int] = collections.Counter()
    digest = hashlib.sha256()
    examples = size = 0
    with files.open_to_read(plan.shard(shard)) as file:
        for record in read_records(file):
            framed = frame(record)
            digest.update(framed)
            size += len(framed)
            examples += 1
            example = decode_example(record)
            labels.update(example.get(Feature.LABEL, ()))
            on_example(example)
    return ShardContent(examples=examples, size=size, sha256=digest.hexdigest(), labels=labels)


def _features(row: PlannedPicture, picture: Picture, sha256: str) -> dict[str, bytes | int | list[int] | list[bytes]]:
    return {
        Feature.ENCODED: picture.jpeg,
        Feature.FORMAT: b"jpeg",
        Feature.HEIGHT: picture.height,
        Feature.WIDTH: picture.width,
        Feature.LABEL: list(row.class_ids),
        Feature.TEXT: [label.encode() for label in row.artwork.labels],
        Feature.KEY: row.artwork.key.encode("utf-8", "surrogatepass"),
        Feature.URI: row.artwork.image_uri.encode("utf-8", "surrogatepass"),
        Feature.SHA256: sha256.encode(),
    }


def read_rows(plan: PlanFiles, shard: Shard) -> Iterator[PlannedPicture]:
    """Yields the rows planned for a shard, in order."""
    return map(PlannedPicture.from_line, files.read_lines(plan.rows(shard)))


def without_duplicates(account: Account, keys: Collection[str], rows: Iterable[PlannedPicture]) -> Account:
    """Returns the account without the pictures of these keys, which equal one on the other side of the split.

    Args:
        account: of a shard.
        keys: of pictures in it that must go.
        rows: planned for the shard.
    """
    uris = {row.artwork.key: row.artwork.image_uri for row in rows if row.artwork.key in keys}
    doubles = [
        DroppedPicture(
            dropped=Dropped(
                key=picture.key,
                uri=uris[picture.key],
                reason=Reason.DUPLICATE_CONTENT,
                detail=f"sha256 {picture.sha256}",
            ),
            sha256=picture.sha256,
        )
        for picture in account.written
        if picture.key in keys
    ]
    written = tuple(picture for picture in account.written if picture.key not in keys)
    return dataclasses.replace(account, written=written, dropped=(*account.dropped, *doubles))


def _still_dropped(account: Account | None, *, retry_rejected: bool) -> dict[str, DroppedPicture]:
    """Returns by key the dropped pictures of an account that are not to be tried again."""
    return {
        picture.dropped.key: picture
        for picture in (account.dropped if account else ())
        if not (retry_rejected and picture.dropped.reason.passing)
    }


def _index(file: BinaryIO, known: Mapping[str, WrittenPicture]) -> dict[str, _Reusable]:
    """Returns where each known picture's record lies in a shard file, up to the first damage."""
    found: dict[str, _Reusable] = {}
    offset = 0
    with contextlib.suppress(CorruptRecordError):
        for record in read_records(file):
            example = decode_example(record)
            length = len(record) + _FRAMING
            key = example[Feature.KEY][0].decode("utf-8", "surrogatepass")
            if key in known and known[key].sha256 == example[Feature.SHA256][0].decode():
                found[key] = _Reusable(offset=offset, length=length, picture=known[key])
            offset += length
    return found


def _is_rejected(picture: DroppedPicture) -> bool:
    return picture.dropped.reason.kind is Kind.REJECTED


def _has_passing(account: Account) -> bool:
    return any(picture.dropped.reason.passing for picture in account.dropped)
