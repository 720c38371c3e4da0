"""Being told to end: noted at once, acted on between two chunks of steps, when all workers know of it."""

import contextlib
import logging
import signal
import threading
from collections.abc import Iterator

_LOGGER = logging.getLogger(__name__)

# The first that any worker was sent is what all end with.
SIGNALS = (signal.SIGTERM, signal.SIGINT)


class StopRequest:
    """What the process was told by a signal; a second signal changes nothing, so that a checkpoint is still saved."""

    def __init__(self) -> None:
        self._signal: signal.Signals | None = None

    def flags(self) -> list[float]:
        """Returns 1 for the signal that came and 0 for others, in the order of `SIGNALS`."""
        return [float(self._signal is number) for number in SIGNALS]

    def note(self, number: int) -> None:
        """Notes a signal."""
        if self._signal is None:
            self._signal = signal.Signals(number)
            _LOGGER.info("%s: a checkpoint is saved before the end", self._signal.name)


@contextlib.contextmanager
def noted_signals() -> Iterator[StopRequest]:
    """Notes SIGTERM and Ctrl-C instead of ending the process while the block runs."""
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    before = {number: signal.signal(number, lambda number, frame: request.note(number)) for number in SIGNALS}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
