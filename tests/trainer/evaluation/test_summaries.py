import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from beam_pipelines import files
from tests.beam_pipelines.builders import BUCKET, object_store
from tests.tensorboard_server import get, get_json, get_when_there, tensorboard
from tests.trainer.evaluation.shown import evaluation, judged, picture, several_labels
from trainer.evaluation.figures import Evaluation, ProjectedVectors
from trainer.evaluation.summaries import events_file, summary_images, write_summaries
from trainer.run_directory import RunDirectory

PICTURES = {"17/0": picture(title="Wave"), "18/0": picture()}
# With one chart and no sheet, so that it is quickly drawn.
SIMPLE = several_labels(mistakes=(), sample=())
VECTORS = ProjectedVectors(
    judged=(judged("pants", key="18/0"), judged("a\tb", key="no picture"), judged(key="17/0")),
    vectors=np.array([[1, 0], [2, 3], [np.nan, 1]], np.float32),
)


def write(
    run: Path | str, shown: Evaluation = SIMPLE, *, vectors: ProjectedVectors | None = None, **changes: Any
) -> None:
    shown = dataclasses.replace(shown, **changes)
    write_summaries(shown, PICTURES, RunDirectory(str(run)), output="evaluation", vectors=vectors)


def events(path: Path) -> Iterator[Any]:
    for record in tf.data.TFRecordDataset(str(path)):
        event = tf.compat.v1.Event()
        event.ParseFromString(record.numpy())
        yield event


def written(path: Path) -> dict[str, tuple[int, tf.Tensor]]:
    """Returns step and value of what a file of events has, by name."""
    return {
        value.tag: (event.step, tf.make_ndarray(value.tensor))
        for event in events(path)
        for value in event.summary.value
    }


def test_figures_and_images_of_a_step(tmp_path: Path) -> None:
    write(tmp_path, evaluation())
    (path,) = (tmp_path / "tensorboard" / "evaluation").iterdir()
    found = written(path)
    shown = evaluation()
    for name, value in shown.metrics.items():
        if value is not None:
            assert found[name] == (1722, pytest.approx(value))
    assert set(found) - set(shown.metrics) == {"confusion_matrix", "calibration", "sample", "mistakes"}
    assert {step for step, _ in found.values()} == {1722}
    width, height, png = found["sample"][1]
    assert tf.io.decode_png(png).shape == (int(height), int(width), 3)


def test_figures_that_are_not_numbers_are_left_out(tmp_path: Path) -> None:
    write(tmp_path, loss=float("nan"))
    found = written(tmp_path / "tensorboard" / "evaluation" / events_file(1722))
    assert "loss" not in found
    assert "accuracy" in found


def test_only_images_that_there_are(tmp_path: Path) -> None:
    assert set(summary_images(several_labels(), {})) == {"calibration"}
    assert set(summary_images(evaluation(mistakes=()), PICTURES)) == {"calibration", "confusion_matrix", "sample"}


def test_a_step_evaluated_again_replaces_its_file_alone(tmp_path: Path) -> None:
    for step, loss in ((1000, 0.1), (20, 0.2), (1000, 0.3)):
        write(tmp_path, step=step, loss=loss)
    paths = sorted((tmp_path / "tensorboard" / "evaluation").iterdir())
    found = [written(path)["loss"] for path in paths]
    assert found == [(20, pytest.approx(0.2)), (1000, pytest.approx(0.3))]


def test_the_projector_has_what_is_said_of_each_vector(tmp_path: Path) -> None:
    write(tmp_path, vectors=VECTORS)
    folder = tmp_path / "tensorboard" / "evaluation"
    assert (folder / "metadata.tsv").read_text().splitlines() == [
        "label\tprediction\tscore\tright\tkey",
        "pants\tpants\t0.7500\tright\t18/0",
        "a\\tb\tpants\t0.7500\twrong\tno picture",
    ]
    assert (folder / "vectors.tsv").read_text() == "1\t0\n2\t3\n"


def test_vectors_that_are_no_numbers_make_no_projector(tmp_path: Path) -> None:
    nothing = ProjectedVectors(judged=VECTORS.judged[2:], vectors=VECTORS.vectors[2:])
    write(tmp_path, vectors=nothing)
    assert [path.name for path in (tmp_path / "tensorboard" / "evaluation").iterdir()] == [events_file(1722)]


def test_a_run_may_lie_in_an_object_store() -> None:
    with object_store():
        write(f"{BUCKET}/run", vectors=VECTORS)
        assert files.list_files(f"{BUCKET}/run") == [
            f"tensorboard/evaluation/{name}"
            for name in (events_file(1722), "metadata.tsv", "projector_config.pbtxt", "sprite.png", "vectors.tsv")
        ]


@pytest.mark.slow
def test_tensorboard_shows_it_all(tmp_path: Path) -> None:
    for step, loss in ((1000, 0.1), (20, 0.2), (1000, 0.3)):
        write(tmp_path, evaluation(), step=step, loss=loss, vectors=VECTORS)
    with tensorboard(tmp_path / "tensorboard") as plugins:
        tags = get_when_there(f"{plugins}/scalars/tags")["evaluation"]
        assert {name for name, value in evaluation().metrics.items() if value is not None} == set(tags)
        losses = get_json(f"{plugins}/scalars/scalars?run=evaluation&tag=loss")
        assert [(step, round(loss, 4)) for _, step, loss in losses] == [(20, 0.2), (1000, 0.3)]
        images = get_json(f"{plugins}/images/tags")["evaluation"]
        assert set(images) == {"confusion_matrix", "calibration", "sample", "mistakes"}
        (_, last) = get_json(f"{plugins}/images/images?run=evaluation&tag=sample&sample=0")
        assert get(f"{plugins}/images/individualImage?{last['query']}").startswith(b"\x89PNG")
        assert get_json(f"{plugins}/projector/runs") == ["evaluation"]
        (embedding,) = get_json(f"{plugins}/projector/info?run=evaluation")["embeddings"]
        assert embedding["tensorShape"] == [2, 2]
        asked = f"run=evaluation&name={embedding['tensorName']}"
        assert (
            get(f"{plugins}/projector/metadata?{asked}").decode().startswith("label\tprediction\tscore\tright\tkey\n")
        )
        assert get(f"{plugins}/projector/sprite_image?{asked}").startswith(b"\x89PNG")
