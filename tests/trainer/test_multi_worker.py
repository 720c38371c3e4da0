"""Groups of real workers on loopback: the same weights, killed, told to end, refusing."""

import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.trainer.train_command import (
    TrainingProcess,
    checkpoint_steps,
    checkpoint_values,
    metrics,
    run_training,
    start_group,
    wait_all,
    write_embeddings,
)

pytestmark = pytest.mark.slow

Values = Mapping[str, np.ndarray[Any, Any]]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> list[object]:
    return write_embeddings(tmp_path_factory.mktemp("data") / "embeddings", train=600, validation=20)


def assert_close(some: Values, others: Values, *, tolerance: float) -> None:
    assert some.keys() == others.keys()
    for name, value in some.items():
        np.testing.assert_allclose(value, others[name], rtol=0, atol=tolerance, err_msg=name)


def test_two_workers_reach_what_one_reaches(data: list[object], tmp_path: Path) -> None:
    # With all examples in each step the batch is the same however they are shared out.
    arguments = [
        *data, "--hidden_units", 6, "--dropout", 0, "--epochs", 6, "--batch_size", 600, "--learning_rate", 0.01,
        "--global_clipnorm", 0.1, "--label_smoothing", 0.1,
    ]  # fmt: skip
    code, told = run_training(tmp_path / "one.log", *arguments, "--output", tmp_path / "one")
    assert code == 0, told
    codes, told = wait_all(start_group(tmp_path / "logs", *arguments, "--output", tmp_path / "two", workers=2))
    assert codes == [0, 0], told
    assert told.count("is complete: 6 steps") == 1, "worker 0 alone says how it ended"
    assert "not quite those of worker 0" not in told
    assert_close(checkpoint_values(tmp_path / "one"), checkpoint_values(tmp_path / "two"), tolerance=1e-5)
    for line, other in zip(metrics(tmp_path / "one"), metrics(tmp_path / "two"), strict=True):
        assert line == pytest.approx(other, abs=1e-5)


def test_a_group_that_is_killed_and_told_to_end_reaches_what_an_undisturbed_one_reaches(
    data: list[object], tmp_path: Path
) -> None:
    output = tmp_path / "run"

    def start(directory: Path) -> list[TrainingProcess]:
        return start_group(
            tmp_path / "logs", *data, "--hidden_units", 6, "--steps", 400, "--batch_size", 12, "--output", directory,
            "--checkpoint_every_steps", 25, "--log_every_steps", 50, "--steps_per_execution", 5,
            workers=3,
        )  # fmt: skip

    def start_and_send(number: signal.Signals, *, to: int) -> tuple[list[int], str]:
        group = start(output)
        before = checkpoint_steps(output)[-1:]
        group[0].wait_until(lambda: checkpoint_steps(output)[-1:] > before)
        group[to].send(number)
        return wait_all(group)

    codes, told = wait_all(start(tmp_path / "undisturbed"))
    assert codes == [0, 0, 0], told
    assert "not quite those of worker 0" not in told

    for victim in (1, 0):
        codes, told = start_and_send(signal.SIGKILL, to=victim)
        assert codes == [1 if rank != victim else -signal.SIGKILL for rank in range(3)], told
        assert told.count(f"error: worker {victim} of 3 (127.0.0.1:") == 2, told
        assert told.count("is gone: start all again to go on from step ") == 2, told

    codes, told = start_and_send(signal.SIGTERM, to=2)
    assert codes == [143, 143, 143], told
    newest = checkpoint_steps(output)[-1]
    assert told.count(f"stopped at step {newest}: ") == 3, told
    cut = output / "checkpoints" / f"ckpt-{newest}.data-00000-of-00001"
    cut.write_bytes(cut.read_bytes()[:100])

    codes, told = wait_all(start(output))
    assert codes == [0, 0, 0], told
    assert f"ckpt-{newest} is damaged and passed over" in told
    assert "going on from step " in told
    assert_close(checkpoint_values(tmp_path / "undisturbed"), checkpoint_values(output), tolerance=0)
    assert metrics(output) == metrics(tmp_path / "undisturbed")

    codes, told = wait_all(start(output))
    assert codes == [0, 0, 0], told
    assert told.count("is complete: 400 steps") == 1


def test_a_group_refuses_together(data: list[object], tmp_path: Path) -> None:
    group = start_group(tmp_path / "logs", *data, "--output", tmp_path / "run", "--batch_size", 13, workers=2)
    codes, told = wait_all(group)
    assert codes == [2, 2], told
    assert "error: --batch_size 13 is not divisible by the 2 replicas (2 workers of 1): give 12 or 14" in told
    assert not (tmp_path / "run").exists()
