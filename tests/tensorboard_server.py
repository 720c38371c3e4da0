"""A real TensorBoard on a folder, to ask what it shows of it."""

import json
import re
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

# Without TensorFlow, which it only needs for checkpoints, TensorBoard starts in a second.
_TENSORBOARD = """
import sys
sys.modules["tensorflow"] = None
from tensorboard.main import run_main
sys.argv[0] = "tensorboard"
run_main()
"""


@contextmanager
def tensorboard(folder: Path) -> Iterator[str]:
    """Runs TensorBoard on a folder while the block runs; gives the address of its plugins."""
    command = [sys.executable, "-c", _TENSORBOARD, "--logdir", str(folder), "--host", "127.0.0.1", "--port", "0"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr
        said = (re.search(r" at (http://127\.0\.0\.1:\d+/)", line) for line in process.stderr)
        found = next(filter(None, said), None)
        assert found, "TensorBoard ended before it served anything"
        yield f"{found[1]}data/plugin"
    finally:
        process.terminate()
        process.communicate()


def get(address: str) -> bytes:
    """Returns what is at an address."""
    with urllib.request.urlopen(address, timeout=60) as answer:
        content: bytes = answer.read()
    return content


def get_json(address: str) -> Any:
    """Returns the JSON at an address."""
    return json.loads(get(address))


def post_json(address: str, question: Any) -> Any:
    """Returns the JSON that is the answer to a question, which is JSON too."""
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(address, data=json.dumps(question).encode(), headers=headers)
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)


def get_when_there(address: str, *, seconds: float = 60) -> Any:
    """Returns the JSON at an address once TensorBoard has read so far that it is not empty."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = get_json(address)
        if found:
            return found
    raise AssertionError(f"nothing came to {address} within {seconds} s")
