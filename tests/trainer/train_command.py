"""Runs the commands of the trainer in processes of their own, and reads what they leave.

The processes are forked from one that has imported TensorFlow and not used it yet, which saves each the seconds that
the import takes; `run_command_line` runs the command as a user does.
"""

import dataclasses
import importlib
import json
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from beam_pipelines.dataset import EMBEDDING, Feature
from beam_pipelines.tfrecords import encode_example, frame
from tests.hostile_server import jpeg
from tests.ports import free_ports
from trainer.checkpoints import Checkpoints

WIDTH = 8
LABELS = ("hat", "shirt", "shoe")

# Two cores and several workers: more threads than one each would only wait for one another.
_ENVIRONMENT = {
    "CUDA_VISIBLE_DEVICES": "",
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "TF_NUM_INTEROP_THREADS": "2",
    "TF_NUM_INTRAOP_THREADS": "1",
}
_SECONDS = 400.0
_POLL_SECONDS = 0.02


def write_embeddings(directory: Path, *, train: int = 48, validation: int = 20, files: int = 2) -> list[object]:
    """Writes embeddings of which one class can be told from another; returns the options that name them."""
    directory.mkdir(parents=True)
    randomness = random.Random(7)

    def example(number: int) -> bytes:
        label = number % len(LABELS)
        vector = [randomness.gauss(float(place == label), 0.5) for place in range(WIDTH)]
        return encode_example({EMBEDDING: vector, "label": label, "image_uri": f"picture {number}".encode()})

    for split, count in (("train", train), ("eval", validation)):
        for index in range(files):
            records = [example(number) for number in range(index, count, files)]
            (directory / f"{split}-{index}.tfrecord").write_bytes(b"".join(map(frame, records)))
    (directory / "labels.txt").write_text("".join(f"{label}\n" for label in LABELS))
    return [
        "--model", "head", "--labels_file", directory / "labels.txt",
        "--train_data_paths", directory / "train-*.tfrecord", "--eval_data_paths", directory / "eval-*.tfrecord",
    ]  # fmt: skip


def write_pictures(directory: Path, *, train: int = 24, validation: int = 9, broken: int | None = None) -> list[object]:
    """Writes a finished data set of pictures of 16 pixels; returns the options to train on it.

    Args:
        directory: where to.
        train: how many.
        validation: how many.
        broken: the number of a picture that cannot be decoded.
    """
    directory.mkdir(parents=True)
    splits = {}
    for split, count in (("train", train), ("validation", validation)):
        name = f"{split}-00000-of-00001.tfrecord"
        (directory / name).write_bytes(
            b"".join(frame(_picture(number, broken=number == broken)) for number in range(count))
        )
        shards = [{"name": name, "examples": count, "sha256": f"{split} {count}"}]
        splits[split] = {"examples": count, "labels": dict.fromkeys(LABELS, count // len(LABELS)), "shards": shards}
    info = {"options": {}, "labels": dict.fromkeys(LABELS, train), "splits": splits}
    (directory / "dataset_info.json").write_text(json.dumps(info))
    (directory / "labels.txt").write_text("".join(f"{label}\n" for label in LABELS))
    (directory / "COMPLETED").write_text("")
    return ["--model", "small_cnn", "--dataset", directory, "--image_size", 16]


@dataclasses.dataclass
class TrainingProcess:
    """A process that trains, and what it says."""

    process: BaseProcess
    log: Path

    @property
    def output(self) -> str:
        """What it has said so far."""
        return self.log.read_text() if self.log.exists() else ""

    def wait(self) -> int:
        """Waits for its end; returns its exit code, negative for a signal that killed it."""
        self.process.join(_SECONDS)
        code = self.process.exitcode
        if code is None:
            self.process.kill()
            self.process.join()
            raise AssertionError(f"it does not end:\n{self.output}")
        return code

    def send(self, number: signal.Signals) -> None:
        """Sends a signal."""
        assert self.process.pid
        os.kill(self.process.pid, number)

    def wait_until(self, is_time: Callable[[], bool]) -> None:
        """Waits until it has come so far; fails if it ends before."""
        deadline = time.monotonic() + _SECONDS
        while not is_time():
            assert self.process.is_alive(), f"it ended too early:\n{self.output}"
            assert time.monotonic() < deadline, f"it does not get there:\n{self.output}"
            time.sleep(_POLL_SECONDS)


def start_training(
    log: Path,
    *arguments: object,
    environment: Mapping[str, str] | None = None,
    logical_cpus: int = 1,
    command: str = "trainer.task",
) -> TrainingProcess:
    """Starts the command.

    Args:
        log: where what it says goes.
        *arguments: of the command.
        environment: added to this process's own.
        logical_cpus: as how many devices TensorFlow sees the processor.
        command: the module that is run.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.trainer.preloaded"])
    log.parent.mkdir(parents=True, exist_ok=True)
    log.unlink(missing_ok=True)
    values = {**_ENVIRONMENT, **(environment or {})}
    process = context.Process(target=_run, args=(str(log), command, list(map(str, arguments)), values, logical_cpus))
    process.start()
    return TrainingProcess(process, log)


def run_training(log: Path, *arguments: object, **how: Any) -> tuple[int, str]:
    """Runs the command to its end, as `start_training` starts it; returns its exit code and what it said."""
    process = start_training(log, *arguments, **how)
    return process.wait(), process.output


def run_evaluation(log: Path, *arguments: object) -> tuple[int, str]:
    """Runs `trainer.evaluate` to its end; returns its exit code and what it said."""
    return run_training(log, *arguments, command="trainer.evaluate")


def start_group(logs: Path, *arguments: object, workers: int) -> list[TrainingProcess]:
    """Starts the command on `workers` machines, all of which are this one."""
    addresses = [f"127.0.0.1:{port}" for port in free_ports(workers)]
    processes = []
    for rank in range(workers):
        config = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": rank}}
        environment = {"TF_CONFIG": json.dumps(config)}
        processes.append(start_training(logs / f"{rank}.log", *arguments, environment=environment))
    return processes


def wait_all(processes: Sequence[TrainingProcess]) -> tuple[list[int], str]:
    """Waits for all; returns their exit codes and what they said."""
    codes = [process.wait() for process in processes]
    return codes, "\n".join(process.output for process in processes)


def run_command_line(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Runs `python -m trainer.task`."""
    return subprocess.run(
        [sys.executable, "-m", "trainer.task", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=_SECONDS,
        env={**{name: value for name, value in os.environ.items() if not name.startswith("TF_")}, "TF_CONFIG": ""},
        check=False,
    )


def checkpoint_steps(output: Path) -> list[int]:
    """Returns the steps of a run's checkpoints."""
    return Checkpoints(str(output / "checkpoints")).steps()


def checkpoint_values(output: Path, step: int | None = None) -> dict[str, np.ndarray[Any, Any]]:
    """Returns all numbers in a checkpoint, by default the newest: weights, slots of the optimizer, seed generators."""
    checkpoints = Checkpoints(str(output / "checkpoints"))
    reader = tf.train.load_checkpoint(checkpoints.prefix(checkpoints.steps()[-1] if step is None else step))
    names = [name for name in reader.get_variable_to_shape_map() if name.startswith("variables/")]
    return {name: reader.get_tensor(name) for name in names}


def metrics(output: Path) -> list[dict[str, Any]]:
    """Returns the lines of `metrics.jsonl` without those figures that differ from run to run."""
    lines = [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if name != "examples_per_second"} for line in lines]


def _run(log: str, command: str, arguments: list[str], environment: dict[str, str], logical_cpus: int) -> None:
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    sys.stdout = os.fdopen(1, "w", buffering=1, closefd=False)
    sys.stderr = os.fdopen(2, "w", buffering=1, closefd=False)
    os.environ.update(environment)
    if logical_cpus > 1:
        cpu, *_ = tf.config.list_physical_devices("CPU")
        tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * logical_cpus)
    from trainer import task

    task.end_process(importlib.import_module(command).main(arguments))


def _picture(number: int, *, broken: bool = False) -> bytes:
    label = number % len(LABELS)
    return encode_example(
        {
            Feature.ENCODED: b"no picture" if broken else jpeg(number, width=16, height=16),
            Feature.FORMAT: b"jpeg",
            Feature.HEIGHT: 16,
            Feature.WIDTH: 16,
            Feature.LABEL: label,
            Feature.TEXT: LABELS[label].encode(),
            Feature.KEY: f"picture {number}".encode(),
            Feature.URI: b"",
            Feature.SHA256: b"",
        }
    )
