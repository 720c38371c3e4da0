"""The make targets: what they run, with which options."""

import io
import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

_ROOT = Path(__file__).parents[1]
_SECONDS = 400


def make(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs make with this process' Python, as a user does who has set up already."""
    variables = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    here = (f"BIN={Path(sys.executable).parent}", "SET_UP=")
    return subprocess.run(
        ["make", *here, *arguments], cwd=_ROOT, env=variables, capture_output=True, text=True, check=False,
        timeout=_SECONDS,
    )  # fmt: skip


def commands(*arguments: str) -> list[list[str]]:
    """Returns the words of the commands that make would run, from the module's name on."""
    done = make("--dry-run", "--no-print-directory", *arguments)
    assert done.returncode == 0, done.stderr
    lines = [shlex.split(line) for line in done.stdout.splitlines()]
    return [words[2:] for words in lines if words[1:2] == ["-m"]]


def config(path: Path, *lines: str) -> str:
    path.write_text("\n".join(lines), encoding="utf-8")
    return f"CONFIG={path}"


def write_jpeg(path: Path, *, light: bool) -> None:
    """Writes a picture of noise; of two that are light the pixels differ."""
    noise = np.random.default_rng(len(path.stem) + int(path.stem)).integers(0, 60, (48, 40, 3), dtype=np.uint8)
    out = io.BytesIO()
    Image.fromarray(noise + np.uint8(180 if light else 0)).save(out, "JPEG")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(out.getvalue())


def test_all_stages_of_ones_own_data_in_order(tmp_path: Path) -> None:
    given = config(
        tmp_path / "my.env",
        f"WORK = {tmp_path}",
        'INGEST_ARGS = --source directory --input "my pictures"',
        "TRAIN_ARGS = --model small_cnn --epochs 3",
    )
    ingest, train, evaluate, export, predict = commands("all", given)
    dataset, run, model = (f"{tmp_path}/{name}" for name in ("dataset", "run", "model/1"))
    assert ingest == ["beam_pipelines.ingest", "--output", dataset, "--source", "directory", "--input", "my pictures"]
    assert train == ["trainer.task", "--dataset", dataset, "--output", run, "--model", "small_cnn", "--epochs", "3"]
    assert evaluate == ["trainer.evaluate", "--run", run, "--skip_existing"]
    assert export == ["trainer.export", "--run", run, "--output", model, "--skip_existing"]
    assert predict == [
        "beam_pipelines.batch_predict", "--model", model, "--output", f"{tmp_path}/predictions",
        "--source", "tfrecord", "--input", f"{dataset}/validation-*.tfrecord",
    ]  # fmt: skip


def test_embedding_if_asked_and_the_runner_of_every_pipeline(tmp_path: Path) -> None:
    given = config(
        tmp_path / "my.env",
        "INGEST_ARGS = --source manifest --input list.csv",
        "EMBED_ARGS = --backbone inception_v3",
        "BEAM_ARGS = --runner FlinkRunner",
        "PREDICT_ARGS = --source directory --input new",
    )
    stages = {words[0]: words for words in commands("all", given)}
    assert list(stages)[1] == "beam_pipelines.embed"
    assert stages["trainer.task"][1:3] == ["--dataset", "work/embeddings"]
    with_runner = {name for name, words in stages.items() if words[-2:] == ["--runner", "FlinkRunner"]}
    assert with_runner == {name for name in stages if name.startswith("beam_pipelines.")}
    assert "new" in stages["beam_pipelines.batch_predict"]
    assert "tfrecord" not in stages["beam_pipelines.batch_predict"]


def test_one_stage_with_its_options() -> None:
    assert commands("labels", "ARGS=--source idx --input mnist") == [
        ["beam_pipelines.labels", "--source", "idx", "--input", "mnist"]
    ]
    assert commands("train", "DATASET=data", "RUN=a run", "ARGS=--epochs 1") == [
        ["trainer.task", "--dataset", "data", "--output", "a run", "--epochs", "1"]
    ]
    assert commands("export", "RUN=run", "MODEL=model/2") == [["trainer.export", "--run", "run", "--output", "model/2"]]
    assert commands("predict", "MODEL=m/1", "ARGS=--source directory --input new", "PREDICTIONS=out") == [
        ["beam_pipelines.batch_predict", "--model", "m/1", "--output", "out", "--source", "directory", "--input", "new"]
    ]
    assert commands("classify", "MODEL=m", "PICTURES=a.jpg b.jpg") == [
        ["serving.classify", "--model", "m", "a.jpg", "b.jpg"]
    ]


@pytest.mark.parametrize(("target", "missing"), [("all", "INGEST_ARGS"), ("classify", "PICTURES")])
def test_what_is_missing_is_named(target: str, missing: str) -> None:
    done = make(target)
    assert done.returncode == 2
    assert f"give {missing}=…, see README.md" in done.stderr


@pytest.mark.slow
def test_all_stages_on_pictures_of_ones_own_and_again(tmp_path: Path) -> None:
    for number in range(24):
        write_jpeg(tmp_path / "pictures" / ("light", "dark")[number % 2] / f"{number}.jpg", light=number % 2 == 0)
    given = config(
        tmp_path / "my.env",
        f"WORK = {tmp_path}/work",
        f"INGEST_ARGS = --source directory --input {tmp_path}/pictures --min_images_per_label 2 --num_shards 2",
        "TRAIN_ARGS = --model small_cnn --image_size 32 --epochs 1 --batch_size 4 --device cpu",
    )
    first = make("all", given)
    assert first.returncode == 0, first.stderr
    summary = json.loads((tmp_path / "work" / "predictions" / "summary.json").read_bytes())
    evaluated = json.loads((tmp_path / "work" / "run" / "evaluation" / "evaluation.json").read_bytes())
    assert summary["predicted"] == evaluated["examples"] > 0
    assert summary["accuracy"]["accuracy"] == pytest.approx(evaluated["accuracy"])
    again = make("all", given)
    assert again.returncode == 0, again.stderr
    for name in ("dataset", "run/evaluation", "model/1", "predictions"):
        assert f"{tmp_path}/work/{name} is complete, there is nothing to do" in again.stdout
