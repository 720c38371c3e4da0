"""The train command on one machine: what it leaves and says, stopped and started again, refused."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.beam_pipelines.builders import BUCKET, object_store
from tests.trainer.train_command import (
    TrainingProcess,
    checkpoint_steps,
    checkpoint_values,
    metrics,
    run_command_line,
    run_training,
    start_training,
    write_embeddings,
    write_pictures,
)
from trainer.checkpoints import Checkpoints
from trainer.models import build_backbone, weights_sha256
from trainer.restoring import restore_classifier
from trainer.saved_run import choose_checkpoint, read_saved_run

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[object]:
    return write_pictures(tmp_path_factory.mktemp("data") / "pictures")


@pytest.fixture(scope="module")
def embeddings(tmp_path_factory: pytest.TempPathFactory) -> list[object]:
    return write_embeddings(tmp_path_factory.mktemp("data") / "embeddings")


def wait_for_checkpoint(process: TrainingProcess, output: Path) -> None:
    """Waits for another checkpoint than those that are there."""
    before = checkpoint_steps(output)[-1:]
    process.wait_until(lambda: checkpoint_steps(output)[-1:] > before)


def assert_same(some: Path, others: Path) -> None:
    """Compares all numbers of the newest checkpoints of two runs, to the bit, and their metrics."""
    values, other_values = checkpoint_values(some), checkpoint_values(others)
    assert values.keys() == other_values.keys()
    for name, value in values.items():
        np.testing.assert_array_equal(value, other_values[name], err_msg=name)
    assert metrics(some) == metrics(others)


def test_a_run_from_the_command_line(embeddings: list[object], tmp_path: Path) -> None:
    output = tmp_path / "run"
    ran = run_command_line(*embeddings, "--epochs", 30, "--output", output, "--hidden_units", 16, "--device", "cpu")
    assert ran.returncode == 0, ran.stderr
    finished = json.loads((output / "COMPLETED").read_text())
    assert ran.stdout.startswith(f"{output} is complete: {finished['step']} steps, loss ")
    assert ran.stdout.count("\n") == 1
    assert "recall_at_5 1" in ran.stdout
    assert finished["metrics"]["accuracy"] > 0.5, "the classes can be told from one another"
    first, *others = ran.stderr.splitlines()
    assert first.startswith("head, ")
    assert others[0].startswith("48 examples of 3 labels to train on, 20 to validate on; 12 steps of 128 on 1 replica")
    assert all(line.startswith("epoch ") for line in others[1:]), "TensorFlow says nothing"
    assert {path.name for path in output.iterdir()} == {
        "COMPLETED", "checkpoints", "config.json", "labels.txt", "metrics.jsonl", "tensorboard",
    }  # fmt: skip

    again = run_command_line(*embeddings, "--epochs", 30, "--output", output, "--hidden_units", 16)
    assert (again.returncode, again.stdout, again.stderr) == (0, ran.stdout, "")
    other = run_command_line(*embeddings, "--epochs", 31, "--output", output, "--hidden_units", 16)
    assert (other.returncode, other.stdout) == (2, "")
    assert other.stderr.startswith(f"error: --output {output} has a run with --epochs 30, not 31: ")


def test_a_run_that_is_killed_reaches_the_same_weights(pictures: list[object], tmp_path: Path) -> None:
    arguments = [
        *pictures, "--steps", 80, "--batch_size", 6, "--augmentation", "strong", "--checkpoint_every_steps", 3,
        "--log_every_steps", 10, "--steps_per_execution", 2,
    ]  # fmt: skip
    undisturbed, output = tmp_path / "undisturbed", tmp_path / "run"
    code, told = run_training(tmp_path / "log", *arguments, "--output", undisturbed)
    assert code == 0, told
    for number, code in ((signal.SIGKILL, -9), (signal.SIGTERM, 143), (signal.SIGINT, 130)):
        process = start_training(tmp_path / "log", *arguments, "--output", output)
        wait_for_checkpoint(process, output)
        process.send(number)
        if number != signal.SIGKILL:
            process.send(number)
        assert process.wait() == code, process.output
        assert (f"stopped at step {checkpoint_steps(output)[-1]}: " in process.output) == (number != signal.SIGKILL)
        assert not (output / "COMPLETED").exists()
    code, told = run_training(tmp_path / "log", *arguments, "--output", output)
    assert code == 0, told
    assert "going on from step " in told
    assert_same(undisturbed, output)
    assert list((output / "checkpoints").glob(".unfinished-*")) == []


def test_two_devices_of_a_machine_reach_what_one_reaches(pictures: list[object], tmp_path: Path) -> None:
    # Without dropout and augmentation, and with all examples in each step, the batch is the same for both.
    arguments = [*pictures, "--epochs", 3, "--batch_size", 24, "--dropout", 0, "--augmentation", "none"]
    for name, devices in (("one_device", 1), ("mirrored", 2)):
        output = tmp_path / name
        code, told = run_training(
            tmp_path / "log", *arguments, "--strategy", name, "--output", output, logical_cpus=devices
        )
        assert code == 0, told
        assert f"on {devices} replica" in told
    one, two = (checkpoint_values(tmp_path / name) for name in ("one_device", "mirrored"))
    for name, value in one.items():
        np.testing.assert_allclose(value, two[name], rtol=0, atol=1e-5, err_msg=name)
    assert [line["val_accuracy"] for line in metrics(tmp_path / "mirrored")] == [
        line["val_accuracy"] for line in metrics(tmp_path / "one_device")
    ]


def test_a_run_in_an_object_store(embeddings: list[object], tmp_path: Path) -> None:
    arguments = [*embeddings, "--epochs", 4, "--batch_size", 48, "--output", f"{BUCKET}/run", "--hidden_units", 4]
    with object_store():
        environment = {"STORAGE_EMULATOR_HOST": os.environ["STORAGE_EMULATOR_HOST"]}
        code, told = run_training(tmp_path / "log", *arguments, environment=environment)
        assert code == 0, told
        assert Checkpoints(f"{BUCKET}/run/checkpoints").steps() == [2, 3, 4]


def test_a_backbone_that_was_trained_is_kept_for_embed(pictures: list[object], tmp_path: Path) -> None:
    output, name = tmp_path / "run", "mobilenet_v3_small"
    data = pictures[pictures.index("--dataset") :][:2]
    options = ["--model", name, "--weights", "none", "--steps", 2, "--batch_size", 2, "--output", output]
    code, said = run_training(tmp_path / "log", *data, *options)
    assert code == 0, said
    saved = read_saved_run(str(output))
    backbone = restore_classifier(saved, choose_checkpoint(saved, "best")).backbone
    kept = build_backbone(name, weights=str(output / "backbone.weights.h5"))
    assert weights_sha256(kept) == weights_sha256(backbone)
    assert weights_sha256(kept) != weights_sha256(build_backbone(name, weights="none"))


def test_options_that_do_not_go_with_the_machine_or_the_data(embeddings: list[object], tmp_path: Path) -> None:
    output = tmp_path / "run"
    for more, told in (
        (("--device", "gpu"), "error: --device gpu, and TensorFlow finds no GPU here"),
        (("--strategy", "multi_worker"), "error: --strategy multi_worker needs a cluster"),
        (("--class_weight", "some"), "error: unknown --class_weight 'some'"),
    ):
        code, said = run_training(tmp_path / "log", *embeddings, "--output", output, *more)
        assert code == 2, said
        assert told in said
        assert not output.exists()


def test_a_picture_that_cannot_be_decoded_ends_the_run_naming_it(tmp_path: Path) -> None:
    arguments = write_pictures(tmp_path / "pictures", broken=5)
    code, told = run_training(tmp_path / "log", *arguments, "--steps", 10, "--output", tmp_path / "run")
    assert code == 1, told
    assert told.splitlines()[-1].startswith(f"error: record 5 of {tmp_path}/pictures/train-00000-of-00001.tfrecord: ")


def test_a_trainer_needs_nothing_of_beam() -> None:
    absent = ["apache_beam", "tensorflow_transform", "pyarrow", "matplotlib", "google.cloud.bigquery"]
    program = (
        "import sys\n"
        f"sys.modules.update(dict.fromkeys({absent!r}))\n"
        "import trainer.assembly, trainer.strategy, trainer.summaries, trainer.task\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
