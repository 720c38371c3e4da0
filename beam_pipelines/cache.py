"""Keeps what was fetched, by address, for later runs; on any file system, for several processes at a time.

A file holds what was at an address, and after it its hash (32 bytes, which viewers of pictures pass over), so that a
damaged one is noticed and fetched anew. Files appear whole; two processes that keep the same address write the same.
"""

import dataclasses
import hashlib
import logging
import posixpath
import threading
import time
from collections.abc import Callable

from beam_pipelines import files
from beam_pipelines.fetch.addresses import scheme_of

_LOGGER = logging.getLogger(__name__)

# Folders of a `--cache_dir`.
PICTURES = "pictures"
ANSWERS = "answers"

# Younger ones may be another run's, at work.
_UNFINISHED_SECONDS = 86_400.0
_HASH_BYTES = hashlib.sha256().digest_size
NO_BOUND = -1


@dataclasses.dataclass
class FileCache:
    """One process' view of a cache; shared by its threads.

    Args:
        directory: on any file system.
        room: bytes that this process may add; `NO_BOUND` for any number.
    """

    directory: str
    room: int = NO_BOUND

    def __post_init__(self) -> None:
        self._lock = threading.Lock()

    def read(self, address: str) -> bytes | None:
        """Returns what is kept of an address; None if nothing is, or it is damaged."""
        try:
            kept = files.read_bytes(self._path(address))
        except FileNotFoundError:
            return None
        content, digest = kept[:-_HASH_BYTES], kept[-_HASH_BYTES:]
        if hashlib.sha256(content).digest() == digest:
            return content
        files.remove(self._path(address))
        return None

    def keep(self, address: str, content: bytes) -> bool:
        """Keeps what was at an address, unless something is kept of it; returns whether there was room for it."""
        if files.exists(self._path(address)):
            return True
        size = len(content) + _HASH_BYTES
        with self._lock:
            if self.room != NO_BOUND:
                if size > self.room:
                    return False
                self.room -= size
        files.write_bytes(self._path(address), content + hashlib.sha256(content).digest())
        return True

    def _path(self, address: str) -> str:
        name = hashlib.blake2b(address.encode("utf-8", "surrogatepass"), digest_size=20).hexdigest()
        return files.join(self.directory, name[:2], name)


class CachedFetch:
    """Fetches pictures, and keeps those from other machines for later runs.

    Args:
        fetch: returns the bytes at an address, or raises `RejectedError`.
        cache: where they are kept.
    """

    def __init__(self, fetch: Callable[[str], bytes], cache: FileCache) -> None:
        self._fetch = fetch
        self._cache = cache

    def fetch(self, uri: str) -> bytes:
        """Returns the bytes at an address: those kept, or else those fetched now, which are not kept yet."""
        kept = self._cache.read(uri) if _is_elsewhere(uri) else None
        return self._fetch(uri) if kept is None else kept

    def keep(self, uri: str, content: bytes) -> None:
        """Keeps the bytes of a picture that was found good; of one that was not, another try may get better ones."""
        if _is_elsewhere(uri):
            self._cache.keep(uri, content)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Originals:
    """How pictures are fetched, and what is done with those that were found good."""

    fetch: Callable[[str], bytes]
    keep: Callable[[str, bytes], None] = lambda uri, content: None


def originals_kept(fetch: Callable[[str], bytes], directory: str, *, room: int = NO_BOUND) -> Originals:
    """Returns how pictures are fetched where they are kept for later runs in a directory; empty for nowhere."""
    if not directory:
        return Originals(fetch=fetch)
    cached = CachedFetch(fetch, FileCache(directory, room=room))
    return Originals(fetch=cached.fetch, keep=cached.keep)


def _is_elsewhere(uri: str) -> bool:
    return scheme_of(uri) in ("http", "https", "gs")


def make_room(directory: str, *, max_bytes: int) -> int:
    """Tidies a cache before a run: deletes what killed runs left half written, and the oldest files beyond a bound.

    Args:
        directory: of the cache, on any file system.
        max_bytes: what it may have; 0 for no bound.

    Returns:
        the bytes that may still be added, or `NO_BOUND`.
    """
    kept = []
    for entry in files.list_entries(directory):
        if not files.is_unfinished(posixpath.basename(entry.path)):
            kept.append(entry)
        elif time.time() - entry.modified > _UNFINISHED_SECONDS:
            files.remove(entry.path)
    return _trim(directory, kept, max_bytes) if max_bytes else NO_BOUND


def _trim(directory: str, kept: list[files.Entry], max_bytes: int) -> int:
    room = max_bytes - sum(entry.size for entry in kept)
    deleted = 0
    for entry in sorted(kept, key=lambda entry: (entry.modified, entry.path)):
        if room >= 0:
            break
        files.remove(entry.path)
        room += entry.size
        deleted += 1
    if deleted:
        _LOGGER.info(
            "%s had more than --cache_bytes %d: its %d oldest files were deleted", directory, max_bytes, deleted
        )
    return room
