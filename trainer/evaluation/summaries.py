"""What TensorBoard shows of an evaluation, beside the curves of its run: figures, charts, pictures and the projector.

All lies in one folder, so that each figure becomes one line over the checkpoints that were evaluated. Every step has
one file of events, named for the step: evaluated again, the step's file is replaced whole, and the others stay.
TensorBoard reads files in the order of their names, and takes a step that comes after a later one for a new beginning:
the names sort as the steps do. The projector's files are those of the last evaluation that had vectors.
"""

import io
import os
import shutil
import tempfile
from collections.abc import Mapping

import numpy as np
import tensorflow as tf
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from beam_pipelines import files
from beam_pipelines.drawing import as_png
from beam_pipelines.picture_lookup import Picture
from beam_pipelines.projector import write_projector
from beam_pipelines.sprite import draw_sprite
from trainer.evaluation.charts import calibration_figure, confusion_figure
from trainer.evaluation.figures import Evaluation, Judged, ProjectedVectors
from trainer.evaluation.sheet import draw_sheet
from trainer.run_directory import RunDirectory

Pixels = NDArray[np.uint8]


def write_summaries(
    evaluation: Evaluation,
    pictures: Mapping[str, Picture],
    run: RunDirectory,
    *,
    output: str,
    vectors: ProjectedVectors | None,
) -> None:
    """Writes the events of the evaluation's step and, if there are vectors, the projector's files.

    Args:
        evaluation: what is shown.
        pictures: by key, as far as they could be had.
        run: in whose `tensorboard/` they lie, local or gs://.
        output: the name of the folder there.
        vectors: of some examples; those with numbers that are not finite are left out.
    """
    directory = files.join(run.tensorboard, output)
    images = summary_images(evaluation, pictures)
    with files.staged(files.join(directory, events_file(evaluation.step))) as path:
        _write_events(path, evaluation, images)
    if vectors:
        _write_projector(vectors, pictures, directory=directory)


def events_file(step: int) -> str:
    """Returns the name of a step's file; where TensorFlow has the time, it has the step."""
    return f"events.out.tfevents.{step:010d}.evaluation"


def summary_images(evaluation: Evaluation, pictures: Mapping[str, Picture]) -> dict[str, Pixels]:
    """Returns the images to show, uint8 [height, width, 3]: the charts, and sheets if there is any picture for them."""
    images = {"calibration": _drawn(calibration_figure(evaluation))}
    confusion = confusion_figure(evaluation)
    if confusion:
        images["confusion_matrix"] = _drawn(confusion)
    for name, examples in (("sample", evaluation.sample), ("mistakes", evaluation.mistakes)):
        if any(judged.key in pictures for judged in examples):
            images[name] = np.asarray(draw_sheet(examples, pictures))
    return images


def _drawn(figure: Figure) -> Pixels:
    return np.asarray(Image.open(io.BytesIO(as_png(figure))).convert("RGB"))


def _write_events(path: str, evaluation: Evaluation, images: Mapping[str, Pixels]) -> None:
    """Writes one file of events; TensorFlow names it as it likes, so that it is written elsewhere first."""
    with tempfile.TemporaryDirectory() as folder:
        writer = tf.summary.create_file_writer(folder)
        with writer.as_default(step=evaluation.step):
            for name, value in evaluation.metrics.items():
                if value is not None and np.isfinite(value):
                    tf.summary.scalar(name, value)
            for name, image in images.items():
                tf.summary.image(name, image[np.newaxis])
        writer.close()
        (written,) = os.listdir(folder)
        shutil.copyfile(os.path.join(folder, written), path)


def _write_projector(vectors: ProjectedVectors, pictures: Mapping[str, Picture], *, directory: str) -> None:
    finite = np.flatnonzero(np.isfinite(vectors.vectors).all(axis=1)).tolist()
    judged = [vectors.judged[place] for place in finite]
    if not judged:
        return
    sprite = draw_sprite([pictures[example.key].jpeg if example.key in pictures else b"" for example in judged])
    write_projector(_metadata(judged), vectors.vectors[finite], sprite, directory=directory)


def _metadata(examples: list[Judged]) -> dict[str, list[str]]:
    return {
        "label": [", ".join(example.labels) for example in examples],
        "prediction": [example.prediction for example in examples],
        "score": [f"{example.score:.4f}" for example in examples],
        "right": ["right" if example.is_right else "wrong" for example in examples],
        "key": [example.key for example in examples],
    }
