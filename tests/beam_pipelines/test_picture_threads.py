import concurrent.futures
import threading
from collections.abc import Iterator

import pytest

from beam_pipelines.picture_threads import PictureThreads, done, in_order


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
