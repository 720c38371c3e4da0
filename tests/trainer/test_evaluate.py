"""The evaluate command: the same figures as training, all that it leaves, and what it refuses."""

import csv
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from beam_pipelines import files
from beam_pipelines.dataset import Feature
from beam_pipelines.tfrecords import decode_example, encode_example, frame, read_records
from tests.beam_pipelines.builders import BUCKET, object_store
from tests.trainer.train_command import (
    LABELS,
    checkpoint_steps,
    metrics,
    run_evaluation,
    run_training,
    write_embeddings,
    write_pictures,
)
from trainer import evaluate
from trainer.checkpoints import Checkpoints
from trainer.saved_run import choose_checkpoint, read_saved_run

pytestmark = pytest.mark.slow

FILES = [
    "calibration.png",
    "confusion_matrix.png",
    "confusions.csv",
    "evaluation.html",
    "evaluation.json",
    "per_class.csv",
    "predictions.csv",
]
VALIDATION = 9


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on 24 pictures that validates on 9, which is no multiple of its batch."""
    folder = tmp_path_factory.mktemp("trained")
    arguments = write_pictures(folder / "data", validation=VALIDATION)
    code, said = run_training(folder / "log", *arguments, "--output", folder / "run", "--epochs", 3, "--batch_size", 4)
    assert code == 0, said
    return folder


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    """A copy of that run, on the same pictures."""
    return Path(shutil.copytree(trained / "run", tmp_path / "run"))


def result(directory: Path) -> dict[str, Any]:
    value: dict[str, Any] = json.loads((directory / "evaluation.json").read_text())
    return value


def validation_of(run: Path, step: int) -> dict[str, float]:
    return next(line for line in metrics(run) if line["step"] == step and "val_loss" in line)


def assert_same_figures(found: dict[str, Any], validated: dict[str, float]) -> None:
    assert found["accuracy"] == validated["val_accuracy"]
    assert found["recall_at_5"] == validated["val_recall_at_5"]
    assert found["loss"] == pytest.approx(validated["val_loss"], rel=1e-6)


def rows(path: Path) -> list[dict[str, str]]:
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_the_best_checkpoint_on_the_runs_own_pictures(run: Path, tmp_path: Path) -> None:
    code, said = run_evaluation(tmp_path / "log", "--run", run)
    assert code == 0, said
    output = run / "evaluation"
    assert sorted(path.name for path in output.iterdir()) == FILES
    found = result(output)
    assert_same_figures(found, validation_of(run, found["step"]))
    assert found["step"] == choose_checkpoint(read_saved_run(str(run)), "best")
    assert (found["checkpoint"], found["split"], found["examples"]) == ("best", "validation", VALIDATION)
    predictions = rows(output / "predictions.csv")
    assert sorted(row["key"] for row in predictions) == [f"picture {number}" for number in range(VALIDATION)]
    assert sum(row["right"] == "true" for row in predictions) == round(found["accuracy"] * VALIDATION)
    classes = rows(output / "per_class.csv")
    assert [row["label"] for row in classes] == list(LABELS)
    assert [int(row["examples"]) for row in classes] == [3, 3, 3]
    assert sum(int(row["right"]) for row in classes) == round(found["accuracy"] * VALIDATION)
    told = [line for line in said.splitlines() if line.startswith(("accuracy ", "see "))]
    assert told == [f"accuracy                    {found['accuracy']:.4g}", f"see {output}/evaluation.html"]
    assert list((run / "tensorboard" / "evaluation").iterdir())
    page = (output / "evaluation.html").read_text()
    assert "data:image/jpeg" in page, "pictures of the data set"


def test_any_checkpoint_and_the_other_split(run: Path, tmp_path: Path) -> None:
    step = checkpoint_steps(run)[0]
    code, said = run_evaluation(tmp_path / "log", "--run", run, "--checkpoint", step, "--batch_size", 9)
    assert code == 0, said
    assert_same_figures(result(run / "evaluation"), validation_of(run, step))
    code, said = run_evaluation(tmp_path / "log", "--run", run, "--checkpoint", "latest", "--split", "train")
    assert code == 0, said
    found = result(run / "evaluation_train")
    assert (found["examples"], found["step"], found["split"]) == (24, checkpoint_steps(run)[-1], "train")
    assert result(run / "evaluation")["step"] == step, "is left alone"


def test_again_in_the_same_place(run: Path, tmp_path: Path) -> None:
    output = tmp_path / "elsewhere"
    arguments = ["--run", run, "--output", output]
    assert run_evaluation(tmp_path / "log", *arguments)[0] == 0
    first = {path.name: path.read_bytes() for path in output.iterdir()}
    (output / "confusions.csv").write_text("of an evaluation before")
    (output / ".unfinished-3-x").write_text("of one that was killed")
    (output / "notes.txt").write_text("mine")
    assert run_evaluation(tmp_path / "log", *arguments)[0] == 0
    second = {path.name: path.read_bytes() for path in output.iterdir()}
    assert second == {**first, "notes.txt": b"mine"}


def test_what_is_evaluated_already_may_be_passed_over(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, *_, last = map(str, checkpoint_steps(run))
    written = []
    for checkpoint in (first, first, last):
        assert evaluate.main(["--run", str(run), "--skip_existing", "--checkpoint", checkpoint]) == 0
        written.append((run / "evaluation" / "evaluation.json").stat().st_mtime_ns)
    assert written[0] == written[1] < written[2]
    assert capsys.readouterr().out.count(f"{run}/evaluation is complete, there is nothing to do") == 1


def test_a_test_set_and_a_record_that_cannot_be_read(run: Path, trained: Path, tmp_path: Path) -> None:
    write_pictures(tmp_path / "test", train=0, validation=6)
    code, said = run_evaluation(tmp_path / "log", "--run", run, "--dataset", tmp_path / "test")
    assert code == 0, said
    assert (result(run / "evaluation")["examples"], result(run / "evaluation")["data"]) == (6, f"{tmp_path}/test")
    write_pictures(tmp_path / "broken", validation=6, broken=4)
    code, said = run_evaluation(tmp_path / "log", "--run", run, "--dataset", tmp_path / "broken")
    assert code == 1
    shard = tmp_path / "broken" / "validation-00000-of-00001.tfrecord"
    assert said.splitlines()[-1] == (f"error: record 4 of {shard}: a picture cannot be decoded: leave it out")
    assert result(run / "evaluation")["data"] == f"{tmp_path}/test", "what was there is left"


def test_several_labels(tmp_path: Path) -> None:
    arguments = write_pictures(tmp_path / "data", validation=7)
    give_second_labels(tmp_path / "data")
    run = tmp_path / "run"
    code, said = run_training(tmp_path / "log", *arguments, "--output", run, "--epochs", 2, "--batch_size", 4)
    assert code == 0, said
    (run / "evaluation").mkdir()
    (run / "evaluation" / "confusions.csv").write_text("of an evaluation before")
    code, said = run_evaluation(tmp_path / "log", "--run", run, "--checkpoint", "latest")
    assert code == 0, said
    found = result(run / "evaluation")
    assert_same_figures(found, validation_of(run, found["step"]))
    assert 0 < found["mean_average_precision"] <= 1
    left = sorted(path.name for path in (run / "evaluation").iterdir())
    assert left == [name for name in FILES if not name.startswith("confusion")]
    assert {row["labels"] for row in rows(run / "evaluation" / "predictions.csv")} == {
        "hat|shirt",
        "shirt|shoe",
        "hat|shoe",
    }


def give_second_labels(directory: Path) -> None:
    """Gives every picture of a data set the class after its own too."""
    for path in directory.glob("*.tfrecord"):
        with open(path, "rb") as file:
            examples = [decode_example(record) for record in read_records(file)]
        for features in examples:
            first = features[Feature.LABEL][0]
            features[Feature.LABEL] = [first, (first + 1) % len(LABELS)]
        path.write_bytes(b"".join(frame(encode_example(features)) for features in examples))
    info = json.loads((directory / "dataset_info.json").read_text())
    (directory / "dataset_info.json").write_text(json.dumps({**info, "options": {"multi_label": True}}))


def test_records_of_other_programs(tmp_path: Path) -> None:
    arguments = write_embeddings(tmp_path / "data", validation=21)
    run = tmp_path / "run"
    code, said = run_training(tmp_path / "log", *arguments, "--output", run, "--epochs", 4)
    assert code == 0, said
    code, said = run_evaluation(tmp_path / "log", "--run", run)
    assert code == 0, said
    found = result(run / "evaluation")
    assert_same_figures(found, validation_of(run, found["step"]))
    assert "vectors.tsv" in {path.name for path in (run / "tensorboard" / "evaluation").iterdir()}
    paths = tmp_path / "data" / "eval-0.tfrecord"
    code, said = run_evaluation(
        tmp_path / "log", "--run", run, "--eval_data_paths", paths, "--output", tmp_path / "one"
    )
    assert code == 0, said
    assert result(tmp_path / "one")["examples"] == 11


def test_weights_that_are_no_numbers(run: Path, tmp_path: Path) -> None:
    checkpoints = Checkpoints(str(run / "checkpoints"))
    step = checkpoints.steps()[-1]
    reader = tf.train.load_checkpoint(checkpoints.prefix(step))
    values = {
        name.removeprefix("variables/")
        .removesuffix("/.ATTRIBUTES/VARIABLE_VALUE")
        .replace(".S", "/"): reader.get_tensor(name)
        for name in reader.get_variable_to_shape_map()
        if name.startswith("variables/model")
    }
    values["model/logits/bias"] = np.full_like(values["model/logits/bias"], np.nan)
    checkpoints.save(step + 1, {name: tf.Variable(value) for name, value in values.items()}, {})
    code, said = run_evaluation(tmp_path / "log", "--run", run, "--checkpoint", "latest")
    assert code == 1
    assert said.splitlines()[-1].startswith(
        "error: the logits of 9 examples are not finite, the first of them is 'pict"
    )
    assert list((run / "evaluation").iterdir()) == []


def refused(tmp_path: Path, *arguments: object) -> str:
    code, said = run_evaluation(tmp_path / "log", *arguments)
    assert code == 2, said
    return said.splitlines()[-1]


def test_what_is_refused(run: Path, trained: Path, tmp_path: Path) -> None:
    said = refused(tmp_path, "--run", tmp_path / "nothing")
    assert said.startswith(f"error: --run {tmp_path}/nothing is no run")
    assert refused(tmp_path, "--run", run, "--output", run) == (
        f"error: --output {run} is no evaluation, it has 'COMPLETED': give another --output"
    )
    (tmp_path / "file").touch()
    said = refused(tmp_path, "--run", run, "--output", tmp_path / "file")
    assert said == f"error: --output {tmp_path}/file is a file: give a directory"
    assert refused(tmp_path, "--run", run, "--checkpoint", 7).startswith(
        f"error: --checkpoint 7 is none of {run}: give"
    )
    shutil.rmtree(run / "checkpoints")
    said = refused(tmp_path, "--run", run)
    assert said == f"error: --run {run} has no checkpoint yet: wait for its first epoch to end"
    assert not (run / "evaluation").exists()


def test_it_needs_nothing_of_beam() -> None:
    absent = ["apache_beam", "tensorflow_transform", "pyarrow", "google.cloud.bigquery"]
    modules = "trainer.evaluate, trainer.restoring, trainer.evaluation.scoring, trainer.evaluation.summaries"
    program = f"import sys\nsys.modules.update(dict.fromkeys({absent!r}))\nimport {modules}\n"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr


def test_progress_is_told_in_one_line() -> None:
    assert evaluate.progress_line(1_200, 3_068, seconds=12.5) == "1,200 of 3,068 examples (39%), 96/s, 0:19 left"
    assert evaluate.progress_line(0, 10, seconds=0.0) == "0 of 10 examples (0%), 0/s, ? left"


def test_in_an_object_store(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with object_store():
        for name in files.list_files(str(trained / "run")):
            files.write_bytes(f"{BUCKET}/run/{name}", (trained / "run" / name).read_bytes())
        evaluate._evaluate(["--run", f"{BUCKET}/run"])
        assert files.list_directory(f"{BUCKET}/run/evaluation") == FILES
        assert files.list_files(f"{BUCKET}/run/tensorboard/evaluation")
        found = files.read_json(f"{BUCKET}/run/evaluation/evaluation.json")
    assert_same_figures(found, validation_of(trained / "run", found["step"]))
    assert capsys.readouterr().out.endswith(f"see {BUCKET}/run/evaluation/evaluation.html\n")
