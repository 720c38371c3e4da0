"""How often a host may be asked: evenly spaced slots for each host, and the pauses that a host asks for.

A rate is meant for the whole job. No coordinator hands it out: each of the job's processes takes its share, the rate
divided by the most processes there can be.
"""

import datetime
import email.utils
import threading
import time
from collections.abc import Callable, Mapping

EVERY_OTHER_HOST = ""


class HostLimiter:
    """Makes the threads of one process wait for their turn with a host; hosts without a rate cost nothing.

    Args:
        requests_per_second: rate of the whole job for each host (lower case); `""` stands for every host not named.
        max_processes: the most processes that the job can have; each takes this part of the rate.
        clock: seconds from any origin, never going back.
        sleep: waits for a number of seconds.
    """

    def __init__(
        self,
        requests_per_second: Mapping[str, float],
        *,
        max_processes: int = 1,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._intervals = {host: max_processes / rate for host, rate in requests_per_second.items()}
        self._other_interval = self._intervals.get(EVERY_OTHER_HOST, 0.0)
        self._clock = clock
        self._sleep = sleep
        self._lock = threading.Lock()
        self._next_slots: dict[str, float] = {}
        self._pause_ends: dict[str, float] = {}

    def wait(self, host: str) -> None:
        """Returns once the calling thread may send one request to `host`."""
        interval = self._intervals.get(host, self._other_interval)
        if not interval and host not in self._pause_ends:
            return
        while True:
            slot = self._reserve(host, interval)
            self._sleep_until(slot)
            # A slot reserved before the host asked for a pause is void.
            if slot >= self._pause_ends.get(host, slot):
                return

    def pause(self, host: str, seconds: float) -> None:
        """Lets no thread of this process send a request to `host` for `seconds` from now."""
        with self._lock:
            end = self._clock() + seconds
            self._pause_ends[host] = max(end, self._pause_ends.get(host, end))

    def _reserve(self, host: str, interval: float) -> float:
        with self._lock:
            now = self._clock()
            slot = max(now, self._next_slots.get(host, now), self._pause_ends.get(host, now))
            if interval:
                self._next_slots[host] = slot + interval
            return slot

    def _sleep_until(self, moment: float) -> None:
        delay = moment - self._clock()
        if delay > 0:
            self._sleep(delay)


def parse_retry_after(value: str | None, *, now: float) -> float | None:
    """Reads a `Retry-After` header: seconds, or a date (RFC 9110, section 10.2.3).

    Args:
        value: the header, None where there is none.
        now: seconds since 1970, UTC.

    Returns:
        Seconds to wait from now, at least 0; None if the header is absent or means nothing.
    """
    text = (value or "").strip()
    if text.isascii() and text.isdecimal():
        return float(text[:20])
    try:
        moment = email.utils.parsedate_to_datetime(text)
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=datetime.UTC)
    return max(0.0, moment.timestamp() - now)
