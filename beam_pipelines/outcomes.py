"""What became of the pictures of a shard, and how it is written: first their account, then the shard, whole."""

import dataclasses
import hashlib
from collections.abc import Callable, Iterable
from typing import BinaryIO, Protocol

from beam_pipelines import files
from beam_pipelines.dataset import Shard
from beam_pipelines.plan_files import Account, DroppedPicture, NamedShard, PlanFiles, WrittenPicture

_PIECE_BYTES = 1 << 20


@dataclasses.dataclass(frozen=True, kw_only=True)
class Written:
    """A picture that became an example: the framed record, and the picture's line in the account."""

    record: bytes
    picture: WrittenPicture


Outcome = Written | DroppedPicture


class FileAccount(Protocol):
    """The size in bytes and the hash (hex) that a finished shard has."""

    @property
    def size(self) -> int: ...

    @property
    def sha256(self) -> str: ...


def is_whole(plan: PlanFiles, shard: NamedShard, account: FileAccount) -> bool:
    """Tells whether the shard is there and true to its account."""
    path = plan.shard(shard)
    if not files.exists(path) or files.size(path) != account.size:
        return False
    with files.open_to_read(path) as file:
        return sha256_of(file) == account.sha256


def write_outcomes(plan: PlanFiles, shard: Shard, outcomes: Iterable[Outcome]) -> Account:
    """Writes what became of a shard's pictures: when all are known the account, then the shard; returns the account."""
    with files.staged(plan.shard(shard)) as path:
        with open(path, "wb") as raw:
            file = HashedFile(raw)
            written, dropped = parted(outcomes, on_record=file.write)
            size, sha256 = file.finish()
        account = Account(size=size, sha256=sha256, written=written, dropped=dropped)
        files.write_json(plan.account(shard), account.to_json())
    return account


class HashedFile:
    """Writes and hashes in large pieces: each gives up the interpreter's lock, and has to wait for it again."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._digest = hashlib.sha256()
        self._pieces: list[bytes] = []
        self._waiting = 0
        self._size = 0

    def write(self, piece: bytes) -> None:
        """Takes the next bytes of the file."""
        self._pieces.append(piece)
        self._waiting += len(piece)
        if self._waiting >= _PIECE_BYTES:
            self._flush()

    def finish(self) -> tuple[int, str]:
        """Writes what is left; returns the size in bytes and the hash (hex) of all."""
        self._flush()
        return self._size, self._digest.hexdigest()

    def _flush(self) -> None:
        block = b"".join(self._pieces)
        self._digest.update(block)
        self._file.write(block)
        self._size += len(block)
        self._pieces, self._waiting = [], 0


def parted(
    outcomes: Iterable[Outcome], *, on_record: Callable[[bytes], None]
) -> tuple[tuple[WrittenPicture, ...], tuple[DroppedPicture, ...]]:
    """Returns the pictures that were written and those that were dropped; hands each record on as it comes."""
    written: list[WrittenPicture] = []
    dropped: list[DroppedPicture] = []
    for outcome in outcomes:
        if isinstance(outcome, Written):
            written.append(outcome.picture)
            on_record(outcome.record)
        else:
            dropped.append(outcome)
    return tuple(written), tuple(dropped)


def sha256_of(file: BinaryIO) -> str:
    """Returns the hash of the bytes that are left in a file, hex."""
    digest = hashlib.sha256()
    while chunk := file.read(1 << 20):
        digest.update(chunk)
    return digest.hexdigest()
