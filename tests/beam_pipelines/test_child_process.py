import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from beam_pipelines.child_process import run_in_child
from beam_pipelines.errors import OptionError, RunError

pytestmark = pytest.mark.slow


def succeed(arguments: list[str]) -> None:
    Path(arguments[0]).write_text(f"{os.getpid()}")


def refuse(arguments: list[str]) -> None:
    raise OptionError(f"{arguments[0]} is wrong")


def fail(arguments: list[str]) -> None:
    raise RunError("it cannot end well")


def wait_for_ever(arguments: list[str]) -> None:
    succeed(arguments)
    threading.Event().wait()


def test_a_part_runs_elsewhere(tmp_path: Path) -> None:
    assert run_in_child(succeed, [str(tmp_path / "pid")]) == 0
    assert (tmp_path / "pid").read_text() != str(os.getpid())


def test_what_it_raises_is_told_by_its_exit_code(capfd: pytest.CaptureFixture[str]) -> None:
    assert run_in_child(refuse, ["--colour"]) == 2
    assert run_in_child(fail, []) == 1
    assert capfd.readouterr().err == "error: --colour is wrong\nerror: it cannot end well\n"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_told_to_end_both_end_at_once(tmp_path: Path, number: signal.Signals) -> None:
    program = (
        "import sys; from beam_pipelines.child_process import run_in_child; "
        "from beam_pipelines.commands import run_command; "
        "from tests.beam_pipelines.test_child_process import wait_for_ever; "
        "sys.exit(run_command(lambda: run_in_child(wait_for_ever, sys.argv[1:])))"
    )
    begun = tmp_path / "pid"
    process = subprocess.Popen([sys.executable, "-c", program, begun], stderr=subprocess.PIPE, text=True)
    pause = threading.Event()
    while not (begun.exists() and begun.read_text()):
        assert process.poll() is None
        pause.wait(0.01)
    process.send_signal(number)
    _, told = process.communicate(timeout=20)
    assert process.returncode == 128 + number
    assert told.strip() == "interrupted: give the same command again to go on"
    with pytest.raises(ProcessLookupError):
        os.kill(int(begun.read_text()), 0)
