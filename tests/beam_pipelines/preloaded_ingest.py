"""Runs ingest many times, each time in a fork of one process that has imported all that it needs.

Most of what a small ingest costs is to import Apache Beam in the command, and TensorFlow Transform in the child that
plans. Here both are imported once. What is killed or interrupted is started as a user starts it, see `ingest_command`.
"""

import atexit
import functools
import gc
import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
import threading
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

_LOCK = threading.Lock()


def run(arguments: Sequence[str]) -> tuple[int, str]:
    """Runs ingest to its end, in this directory and environment; returns its exit code and what it printed."""
    with tempfile.NamedTemporaryFile() as printed, _LOCK:
        request = {"arguments": list(arguments), "printed": printed.name, "directory": os.getcwd()}
        environment = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
        server = _server()
        assert server.stdin
        assert server.stdout
        server.stdin.write(json.dumps({**request, "environment": environment}) + "\n")
        server.stdin.flush()
        code = int(server.stdout.readline())
        return code, printed.read().decode()


@functools.cache
def _server() -> subprocess.Popen[str]:
    """Returns the process that forks; it ends when this one does, and closes its input."""
    command = [sys.executable, "-m", __name__]
    checkout = Path(__file__).parents[2]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=checkout)


def _serve() -> None:
    """Answers each line of its input with an exit code."""
    from beam_pipelines import child_process, ingest, phases, publish, vocabulary, write_shards  # noqa: F401

    child_process.CONTEXT = multiprocessing.get_context("fork")
    gc.freeze()
    for line in sys.stdin:
        child = os.fork()
        if not child:
            _ingest(**json.loads(line))
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)  # noqa: T201


def _ingest(*, arguments: list[str], printed: str, directory: str, environment: dict[str, str]) -> NoReturn:
    """Runs the command and ends this process, without the two seconds that Python takes to tear all down."""
    from beam_pipelines import ingest

    os.setsid()
    for number, path in enumerate((os.devnull, printed, printed)):
        os.dup2(os.open(path, os.O_RDWR | os.O_APPEND), number)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(directory)
    sys.argv[1:] = arguments
    code: object = 1
    try:
        code = ingest.main(arguments)
    except SystemExit as ended:
        code = ended.code
    except BaseException:  # noqa: BLE001  (this process ends here)
        traceback.print_exc()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code if isinstance(code, int) else bool(code))


if __name__ == "__main__":
    _serve()
