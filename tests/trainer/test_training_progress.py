import io
import logging

import pytest

from trainer.schedule import Schedule
from trainer.training_progress import Pace, ProgressLine, epoch_of, training_line

SCHEDULE = Schedule(steps=4_800, examples_per_epoch=12_800, batch_size=32)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_the_line() -> None:
    results = {"loss": 1.2341, "accuracy": 0.5189, "recall_at_5": 0.9}
    assert training_line(SCHEDULE, 1_200, results, steps_per_second=25.375) == (
        "epoch 3/12, step 1,200 of 4,800, loss 1.234, accuracy 0.52, 812 examples/s, 2:22 left"
    )


def test_what_is_not_known_yet_is_not_shown() -> None:
    assert training_line(SCHEDULE, 1, {}, steps_per_second=0.0) == "epoch 1/12, step 1 of 4,800"


def test_the_step_that_ends_an_epoch_belongs_to_it() -> None:
    assert [epoch_of(SCHEDULE, step) for step in (0, 1, 400, 401, 4_800)] == [1, 1, 1, 2, 12]


def test_on_a_terminal_one_line_is_kept_up_to_date() -> None:
    times = iter([0.0, 0.1, 0.2, 0.7])
    terminal = Terminal()
    progress = ProgressLine(stream=terminal, clock=lambda: next(times))
    for line in ("one", "two", "three"):
        progress.show(line.strip)
    progress.clear()
    assert terminal.getvalue() == "\r\x1b[Kone\r\x1b[Kthree\r\x1b[K"


def test_elsewhere_a_line_is_logged_now_and_then(caplog: pytest.LogCaptureFixture) -> None:
    times = iter([0.0, 14.0, 16.0, 17.0, 32.0])
    progress = ProgressLine(stream=io.StringIO(), clock=lambda: next(times))
    with caplog.at_level(logging.INFO):
        for line in ("one", "two", "three", "four"):
            progress.show(line.strip)
        progress.say("the end")
    assert [record.getMessage() for record in caplog.records] == ["two", "four", "the end"]


def test_other_workers_show_nothing(caplog: pytest.LogCaptureFixture) -> None:
    terminal = Terminal()
    progress = ProgressLine(shown=False, stream=terminal, clock=lambda: 0.0)
    with caplog.at_level(logging.INFO):
        progress.show(lambda: "one")
        progress.say("two")
        progress.clear()
    assert (terminal.getvalue(), caplog.records) == ("", [])


def test_the_pace_is_that_of_warm_steps() -> None:
    pace = Pace()
    assert (pace.steps_per_second, pace.lap()) == (0.0, 0.0)
    pace.add(10, 100.0, warm=False)
    pace.add(10, 1.0, warm=True)
    assert (pace.lap(), pace.steps_per_second) == (10.0, 10.0)
    pace.add(10, 4.0, warm=True)
    assert (pace.lap(), pace.steps_per_second) == (2.5, 4.0)
    pace.add(3, 9.0, warm=False)
    assert pace.lap() == 4.0, "nothing else is known of this lap"
