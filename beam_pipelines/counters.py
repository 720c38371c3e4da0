"""Counters of what a process has done, which its threads add to and a runner's metrics are told from time to time."""

import collections
import threading
from collections.abc import Mapping


class Counters:
    """Sums by name; thread-safe."""

    def __init__(self) -> None:
        self._sums: collections.Counter[str] = collections.Counter()
        self._lock = threading.Lock()

    def add(self, numbers: Mapping[str, int]) -> None:
        """Adds to the sums."""
        with self._lock:
            self._sums.update(numbers)

    def take(self) -> dict[str, int]:
        """Returns the sums since the last call."""
        with self._lock:
            taken, self._sums = self._sums, collections.Counter()
        return dict(taken)
