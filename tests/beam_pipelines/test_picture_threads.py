import concurrent.futures
import threading
from collections.abc import Callable, Iterable, Iterator

import pytest

from beam_pipelines.picture_threads import PictureThreads, WorkAhead, done, in_order


def test_results_come_in_order_whoever_is_done_first() -> None:
    first_may_end = threading.Event()

    def work(number: int) -> int:
        if number == 0:
            assert first_may_end.wait(timeout=60)
        else:
            first_may_end.set()
        return number

    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        futures = (pool.submit(work, number) for number in range(9))
        assert list(in_order(futures, window=3)) == list(range(9))


@pytest.mark.parametrize("window", [1, 3, 20])
def test_no_more_than_a_window_is_begun_ahead(window: int) -> None:
    begun: list[int] = []

    def futures() -> Iterator[concurrent.futures.Future[int]]:
        for number in range(9):
            begun.append(number)
            yield done(number)

    for number, result in enumerate(in_order(futures(), window=window), start=1):
        assert result == number - 1
        assert len(begun) == min(number - 1 + window, 9)


def test_what_a_thread_raises_comes_in_its_turn() -> None:
    failed: concurrent.futures.Future[int] = concurrent.futures.Future()
    failed.set_exception(RuntimeError("broken"))
    results = in_order([done(1), failed, done(2)], window=3)
    assert next(results) == 1
    with pytest.raises(RuntimeError, match="broken"):
        next(results)


def told(items: Iterable[int], begun: list[int]) -> Iterator[int]:
    """Yields the items, and tells of each that it was taken."""
    for item in items:
        begun.append(item)
        yield item


def settle(pool: concurrent.futures.Executor) -> None:
    """Returns when the pool has begun all that it will, given that each piece of work begins few others."""
    for _ in range(40):
        pool.submit(int).result(timeout=60)


class TestWorkAhead:
    @pytest.fixture
    def pool(self) -> Iterator[concurrent.futures.Executor]:
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            yield pool

    def ahead(
        self,
        pool: concurrent.futures.Executor,
        function: Callable[[int], int],
        items: Iterable[int] = range(20),
        *,
        at_a_time: int = 2,
        window: int = 5,
        max_weight: int = 1000,
    ) -> WorkAhead[int, int]:
        return WorkAhead(
            function,
            items,
            pool=pool,
            at_a_time=at_a_time,
            window=window,
            max_weight=max_weight,
            weight=lambda result: result,
        )

    def test_results_come_in_order_whoever_is_done_first(self, pool: concurrent.futures.Executor) -> None:
        first_may_end = threading.Event()

        def work(number: int) -> int:
            assert number or first_may_end.wait(timeout=60)
            first_may_end.set() if number else None
            return number

        assert list(self.ahead(pool, work)) == list(range(20))

    def test_threads_fill_the_window_while_nobody_takes_a_result(self, pool: concurrent.futures.Executor) -> None:
        full, worked = threading.Event(), list[int]()

        def work(number: int) -> int:
            worked.append(number)
            full.set() if number == 5 else None
            return number

        results = self.ahead(pool, work)
        assert next(results) == 0
        assert full.wait(timeout=60)
        assert sorted(worked) == [0, 1, 2, 3, 4, 5]

    def test_no_more_than_so_many_are_worked_on(self, pool: concurrent.futures.Executor) -> None:
        begun, may_end = list[int](), threading.Event()

        def work(number: int) -> int:
            assert number == 0 or may_end.wait(timeout=60)
            return number

        results = self.ahead(pool, work, told(range(20), begun), at_a_time=2, window=20)
        assert next(results) == 0
        settle(pool)
        begun_meanwhile = list(begun)
        may_end.set()
        assert begun_meanwhile == [0, 1, 2]
        assert list(results) == list(range(1, 20))

    def test_what_waits_is_bounded_in_weight_and_all_comes(self) -> None:
        begun: list[int] = []
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            items = told([10] * 9, begun)
            results = self.ahead(pool, lambda weight: weight, items, at_a_time=1, window=9, max_weight=25)
            assert next(results) == 10
            settle(pool)
            assert len(begun) == 1 + 3
            assert list(results) == [10] * 8

    def test_a_weight_beyond_the_bound_comes_too(self, pool: concurrent.futures.Executor) -> None:
        assert list(self.ahead(pool, lambda number: number, [50, 60, 70], max_weight=10)) == [50, 60, 70]

    def test_what_a_thread_or_the_items_raise_comes_in_its_turn(self, pool: concurrent.futures.Executor) -> None:
        def fail(number: int) -> int:
            if number == 1:
                raise RuntimeError("broken")
            return number

        results = self.ahead(pool, fail)
        assert next(results) == 0
        with pytest.raises(RuntimeError, match="broken"):
            next(results)

        def items() -> Iterator[int]:
            yield 0
            raise OSError("gone")

        results = self.ahead(pool, fail, items())
        assert next(results) == 0
        with pytest.raises(OSError, match="gone"):
            next(results)

    def test_closed_it_begins_nothing_more(self, pool: concurrent.futures.Executor) -> None:
        begun: list[int] = []

        def work(number: int) -> int:
            begun.append(number)
            return number

        with self.ahead(pool, work, window=2) as results:
            next(results)
        list(results)
        assert len(begun) < 20


class Writer(PictureThreads):
    """Has one thread, which works until another picture is given up."""

    def __init__(self) -> None:
        super().__init__(1, on_outcome=lambda done, rejected: None)
        self.at_work, self.given_up = threading.Event(), threading.Event()

    def begin(self) -> None:
        self._pool.submit(self._work)
        self._pool.submit(self._work).add_done_callback(lambda future: self.given_up.set())
        assert self.at_work.wait(timeout=60)

    def _work(self) -> None:
        self.at_work.set()
        assert self.given_up.wait(timeout=60)
        self._counters.add({"done": 1})


def test_pictures_not_yet_begun_are_left() -> None:
    writer = Writer()
    writer.begin()
    writer.close()
    assert writer.take_counters() == {"done": 1}
    assert writer.take_counters() == {}
