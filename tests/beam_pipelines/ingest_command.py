"""Runs the ingest, embed and batch_predict commands, in a process of their own, and reads what they leave."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from beam_pipelines.dataset import Feature
from beam_pipelines.tfrecords import decode_example, read_records
from tests.beam_pipelines import preloaded_ingest

# TensorFlow's own files, and the page, need not be the same twice.
_NOT_COMPARED = ("transform_fn/", "report.html")

QUICK = ("--connect_timeout", "2", "--read_timeout", "1", "--total_timeout", "2", "--backoff", "0.01")


def start_ingest(*arguments: object, preexec: Callable[[], None] | None = None) -> subprocess.Popen[str]:
    """Starts ingest as a user does, in a session of its own."""
    return _start("beam_pipelines.ingest", arguments, preexec)


def start_embed(*arguments: object) -> subprocess.Popen[str]:
    """Starts embed in a session of its own."""
    return _start("beam_pipelines.embed", arguments, None)


def start_predict(*arguments: object) -> subprocess.Popen[str]:
    """Starts batch_predict in a session of its own."""
    return _start("beam_pipelines.batch_predict", arguments, None)


def _start(module: str, arguments: Iterable[object], preexec: Callable[[], None] | None) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", module, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        preexec_fn=preexec,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
    )


def run_ingest(*arguments: object, preexec: Callable[[], None] | None = None) -> tuple[int, str]:
    """Runs ingest to its end; returns its exit code and what it printed."""
    if preexec:
        return ended(start_ingest(*arguments, preexec=preexec))
    return preloaded_ingest.run(list(map(str, arguments)))


def run_embed(*arguments: object) -> tuple[int, str]:
    """Runs embed to its end; returns its exit code and what it printed."""
    return ended(start_embed(*arguments))


def run_predict(*arguments: object) -> tuple[int, str]:
    """Runs batch_predict to its end; returns its exit code and what it printed."""
    return ended(start_predict(*arguments))


def ended(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Waits for the end of a command; returns its exit code and what it printed."""
    output, _ = process.communicate(timeout=600)
    return process.returncode, output


def write_manifest(path: Path, rows: Iterable[tuple[str, ...]]) -> Path:
    """Writes an image list with a header."""
    lines = ["uri,label", *(",".join(f'"{cell}"' for cell in row) for row in rows)]
    path.write_text("\n".join(lines) + "\n")
    return path


def read_examples(directory: Path, split: str = "") -> list[dict[str, Any]]:
    """Returns the features of every example."""
    examples = []
    for path in sorted(directory.glob(f"{split}*.tfrecord")):
        with path.open("rb") as file:
            examples += [decode_example(record) for record in read_records(file)]
    return examples


def keys_of(directory: Path, split: str = "") -> set[str]:
    """Returns the keys of the examples."""
    return {example[Feature.KEY][0].decode() for example in read_examples(directory, split)}


def rejected_reasons(directory: Path) -> dict[str, str]:
    """Returns the reason of every rejected row by its key."""
    lines = map(json.loads, (directory / "rejected.jsonl").read_text().splitlines())
    return {line["key"]: line["reason"] for line in lines}


def information(directory: Path, name: str = "dataset_info.json") -> Any:
    """Returns what is told of a data set."""
    return json.loads((directory / name).read_text())


def content(directory: Path) -> dict[str, bytes]:
    """Returns the bytes of every file that must come out the same however the data set came about."""
    files = {path.relative_to(directory).as_posix(): path for path in directory.rglob("*") if path.is_file()}
    return {name: path.read_bytes() for name, path in sorted(files.items()) if not name.startswith(_NOT_COMPARED)}
