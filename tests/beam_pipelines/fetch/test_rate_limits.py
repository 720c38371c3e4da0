import threading
from datetime import UTC, datetime
from email.utils import format_datetime

import pytest

from beam_pipelines.fetch.rate_limits import HostLimiter, parse_retry_after
from tests.beam_pipelines.builders import FakeTime


def limiter(time: FakeTime, rates: dict[str, float], *, max_processes: int = 1) -> HostLimiter:
    return HostLimiter(rates, max_processes=max_processes, clock=time.clock, sleep=time.sleep)


def moments(time: FakeTime, limited: HostLimiter, host: str, count: int) -> list[float]:
    found = []
    for _ in range(count):
        limited.wait(host)
        found.append(time.now)
    return found


def test_requests_to_a_host_are_spaced_evenly() -> None:
    time = FakeTime()
    assert moments(time, limiter(time, {"slow.example": 4.0}), "slow.example", 4) == [100.0, 100.25, 100.5, 100.75]


def test_idle_time_gives_no_right_to_a_burst() -> None:
    time = FakeTime()
    limited = limiter(time, {"slow.example": 1.0})
    limited.wait("slow.example")
    time.now += 60
    assert moments(time, limited, "slow.example", 3) == [160.0, 161.0, 162.0]


def test_shares_of_two_processes_stay_under_the_rate_together() -> None:
    arrivals: list[float] = []
    for _ in range(2):
        time = FakeTime()
        arrivals += moments(time, limiter(time, {"slow.example": 16.0}, max_processes=2), "slow.example", 80)
    for start in arrivals:
        assert sum(start <= arrival < start + 1 for arrival in arrivals) <= 16


def test_hosts_do_not_wait_for_each_other_and_unlimited_ones_never() -> None:
    time = FakeTime()
    limited = limiter(time, {"slow.example": 0.1})
    limited.wait("slow.example")
    assert moments(time, limited, "free.example", 1000)[-1] == 100.0


def test_every_other_host_has_the_rate_of_the_empty_name() -> None:
    time = FakeTime()
    limited = limiter(time, {"": 2.0, "fast.example": 1000.0})
    assert moments(time, limited, "a.example", 2) == [100.0, 100.5]
    assert moments(time, limited, "b.example", 2) == [100.5, 101.0]


def test_a_pause_holds_for_a_host_without_a_rate() -> None:
    time = FakeTime()
    limited = limiter(time, {})
    limited.pause("tired.example", 30)
    limited.pause("tired.example", 10)
    assert moments(time, limited, "tired.example", 2) == [130.0, 130.0]
    assert moments(time, limited, "other.example", 1) == [130.0]


def test_a_thread_that_already_has_a_slot_obeys_a_pause() -> None:
    now = 100.0
    asleep, wake = threading.Event(), threading.Event()
    times: list[float] = []

    def sleep(seconds: float) -> None:
        nonlocal now
        asleep.set()
        assert wake.wait(10)
        now += seconds

    limited = HostLimiter({"slow.example": 1.0}, clock=lambda: now, sleep=sleep)
    limited.wait("slow.example")

    def wait() -> None:
        limited.wait("slow.example")
        times.append(now)

    waiting = threading.Thread(target=wait)
    waiting.start()
    assert asleep.wait(10)
    limited.pause("slow.example", 50)
    wake.set()
    waiting.join(10)
    assert times == [150.0]


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("120", 120.0),
        (" 0 ", 0.0),
        ("9" * 5000, 1e20),
        (format_datetime(datetime(2024, 1, 1, 0, 1, tzinfo=UTC), usegmt=True), 60.0),
        (format_datetime(datetime(2023, 1, 1, tzinfo=UTC), usegmt=True), 0.0),
        ("Mon, 01 Jan 2024 00:00:30 -0000", 30.0),
        ("soon", None),
        ("-5", None),
        ("²", None),
        ("", None),
        (None, None),
    ],
)
def test_retry_after_is_seconds_or_a_date(value: str | None, seconds: float | None) -> None:
    assert parse_retry_after(value, now=datetime(2024, 1, 1, tzinfo=UTC).timestamp()) == seconds
