"""Threads that work on pictures: a bounded number of them ahead, with results in the order of the pictures."""

import collections
import concurrent.futures
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Generic, TypeVar

from beam_pipelines.counters import Counters

_Item = TypeVar("_Item")
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


class WorkAhead(Generic[_Item, _Result], Iterator[_Result]):
    """Gives the results of a function on items, in order, while threads go on with those ahead by themselves.

    Whoever takes the results may be at something else for a while: a result that is ready begins the next item. Closed,
    it begins nothing more.

    Args:
        function: threads call it at the same time.
        items: taken one at a time, on any thread.
        pool: the threads.
        at_a_time: items that are worked on.
        window: items that are begun and not yet taken.
        max_weight: of results that wait to be taken; with more of it, nothing is begun. Those that are worked on then
            come on top of it.
        weight: of a result.
    """

    def __init__(
        self,
        function: Callable[[_Item], _Result],
        items: Iterable[_Item],
        *,
        pool: concurrent.futures.Executor,
        at_a_time: int,
        window: int,
        max_weight: int,
        weight: Callable[[_Result], int],
    ) -> None:
        self._function = function
        self._items = iter(items)
        self._pool = pool
        self._at_a_time = at_a_time
        self._window = window
        self._max_weight = max_weight
        self._weight = weight
        self._lock = threading.RLock()
        self._begun: collections.deque[concurrent.futures.Future[_Result]] = collections.deque()
        self._running = 0
        self._waiting = 0
        self._ended = False

    def __enter__(self) -> "WorkAhead[_Item, _Result]":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Begins nothing more; what is worked on ends by itself."""
        with self._lock:
            self._ended = True

    def __next__(self) -> _Result:
        self._begin_more()
        if not self._begun:
            raise StopIteration
        result = self._begun[0].result()
        with self._lock:
            self._begun.popleft()
            self._waiting -= self._weight(result)
        self._begin_more()
        return result

    def _begin_more(self) -> None:
        with self._lock:
            while not self._ended and self._has_room():
                try:
                    item = next(self._items)
                except StopIteration:
                    self._ended = True
                except BaseException as error:  # noqa: BLE001  (raised where the result is taken)
                    self._ended = True
                    self._begun.append(_failed(error))
                else:
                    self._running += 1
                    self._begun.append(self._pool.submit(self._work, item))

    def _has_room(self) -> bool:
        if not self._begun:
            return True
        return self._running < self._at_a_time and len(self._begun) < self._window and self._waiting < self._max_weight

    def _work(self, item: _Item) -> _Result:
        weight = 0
        try:
            result = self._function(item)
            weight = self._weight(result)
            return result
        finally:
            with self._lock:
                self._running -= 1
                self._waiting += weight
                self._begin_more()


def timed_fetch(fetch: Callable[[str], bytes], uri: str, counters: dict[str, int]) -> bytes:
    """Returns the bytes at an address, and counts them (`fetch/bytes`) and the time that they took (`fetch/msec`)."""
    started = time.perf_counter()
    try:
        data = fetch(uri)
        counters["fetch/bytes"] = len(data)
        return data
    finally:
        counters["fetch/msec"] = round(1000 * (time.perf_counter() - started))


def _failed(error: BaseException) -> concurrent.futures.Future[_Result]:
    future: concurrent.futures.Future[_Result] = concurrent.futures.Future()
    future.set_exception(error)
    return future


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
