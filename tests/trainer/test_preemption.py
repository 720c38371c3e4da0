import os
import signal
import threading

import pytest

from trainer.preemption import noted_signals


@pytest.mark.parametrize(("number", "flags"), [(signal.SIGTERM, [1.0, 0.0]), (signal.SIGINT, [0.0, 1.0])])
def test_the_first_signal_is_noted_and_others_change_nothing(number: signal.Signals, flags: list[float]) -> None:
    before = signal.getsignal(number)
    with noted_signals() as request:
        assert request.flags() == [0.0, 0.0]
        os.kill(os.getpid(), number)
        os.kill(os.getpid(), number)
        os.kill(os.getpid(), signal.SIGINT)
        assert request.flags() == flags
    assert signal.getsignal(number) == before


def test_on_another_thread_no_signal_comes() -> None:
    found = []

    def run() -> None:
        with noted_signals() as request:
            found.append(request.flags())

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert found == [[0.0, 0.0]]
