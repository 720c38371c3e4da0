"""Threads that work on pictures: a bounded number of them ahead, with results in the order of the pictures."""

import collections
import concurrent.futures
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from beam_pipelines.counters import Counters

_Result = TypeVar("_Result")


def in_order(futures: Iterable[concurrent.futures.Future[_Result]], *, window: int) -> Iterator[_Result]:
    """Yields the results of futures, in order, while their threads work a window of them ahead.

    Args:
        futures: each of which begins to work when it is taken.
        window: how many are taken before the first has to be done.
    """
    pending: collections.deque[concurrent.futures.Future[_Result]] = collections.deque()
    for future in futures:
        pending.append(future)
        if len(pending) >= window:
            yield pending.popleft().result()
    while pending:
        yield pending.popleft().result()


def done(result: _Result) -> concurrent.futures.Future[_Result]:
    """Returns a future of what is known already."""
    future: concurrent.futures.Future[_Result] = concurrent.futures.Future()
    future.set_result(result)
    return future


class PictureThreads:
    """What writers of shards have in common: threads that work on their pictures, and counters of what these do.

    Args:
        threads: how many.
        on_outcome: called with the number of pictures done and of those rejected, from any thread.
    """

    def __init__(self, threads: int, *, on_outcome: Callable[[int, int], None]) -> None:
        self._pool = concurrent.futures.ThreadPoolExecutor(threads, thread_name_prefix="picture")
        self._on_outcome = on_outcome
        self._counters = Counters()

    def close(self) -> None:
        """Ends the threads; pictures not yet begun are left."""
        self._pool.shutdown(cancel_futures=True)

    def take_counters(self) -> dict[str, int]:
        """Returns what was counted since the last call."""
        return self._counters.take()
