"""Says how good a checkpoint of a run is: `python -m trainer.evaluate --help`.

per_class.csv                              precision, recall and the like of each class
confusions.csv                             what was taken for what; not where examples may have several labels
predictions.csv                            what the model says of every example
confusion_matrix.png, calibration.png      the same as pictures
evaluation.html                            all of it on one page
evaluation.json                            the figures of the whole; written last

The figures are those of validation while training, exact to the example. TensorFlow is imported when everything that
can be said without it has been said.
"""

import contextlib
import functools
import logging
import os
import shlex
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence

from beam_pipelines import files
from beam_pipelines.commands import native_messages_held_back, run_command
from beam_pipelines.errors import OptionError, RunError
from beam_pipelines.locks import only_run_in
from beam_pipelines.picture_lookup import Picture, picture_data_set, read_pictures
from beam_pipelines.progress import clock as duration
from trainer.data_files import TrainingData
from trainer.evaluation.data import read_evaluation_data
from trainer.evaluation.figures import Evaluation, ProjectedVectors
from trainer.evaluation.metrics import ScoredBatch, Tally
from trainer.evaluation.options import EVALUATION_FILE, PAGE_FILE, EvaluateOptions, parse_arguments
from trainer.evaluation.page import PageInfo, render_evaluation
from trainer.evaluation.tables import predictions_table, write_confusions, write_per_class
from trainer.run_directory import RunDirectory
from trainer.saved_run import SavedRun, choose_checkpoint, read_saved_run
from trainer.training_progress import ProgressLine

# Named, because this module is `__main__` where it is the command.
_LOGGER = logging.getLogger("trainer.evaluate")

PREDICTIONS_FILE = "predictions.csv"
PER_CLASS_FILE = "per_class.csv"
CONFUSIONS_FILE = "confusions.csv"
CONFUSION_MATRIX_FILE = "confusion_matrix.png"
CALIBRATION_FILE = "calibration.png"

_FILES = (
    EVALUATION_FILE, PAGE_FILE, PREDICTIONS_FILE, PER_CLASS_FILE, CONFUSIONS_FILE, CONFUSION_MATRIX_FILE,
    CALIBRATION_FILE,
)  # fmt: skip
_SAMPLE = 24
_PROJECTED = 1_000


def main(arguments: Sequence[str]) -> int:
    """Runs the command.

    Returns:
        its exit code: 0 done, 1 failed, 2 wrong options.
    """
    verbose = "--verbose" in arguments
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "0" if verbose else "3")
    return run_command(lambda: _evaluate(arguments), verbose=verbose)


def _evaluate(arguments: Sequence[str]) -> None:
    options = parse_arguments(arguments)
    saved = read_saved_run(options.run)
    data = read_evaluation_data(options, saved)
    pictures_in = picture_data_set(data.directory, given=options.pictures)
    _check_output(options.output)
    with contextlib.nullcontext() if files.is_remote(options.output) else only_run_in(options.output):
        if options.skip_existing and _is_evaluated(options, saved, data):
            print(f"{options.output} is complete, there is nothing to do")  # noqa: T201
            return
        files.remove_unfinished(options.output)
        evaluation, vectors = _score(options, saved, data)
        pictures = read_pictures(pictures_in, _keys(evaluation, vectors))
        info = PageInfo(options=saved.options.to_json(), versions=saved.versions, command=_command(arguments))
        _write(evaluation, pictures, vectors, options=options, run=saved.directory, info=info)
    print(describe(evaluation))  # noqa: T201
    print(f"see {files.join(options.output, PAGE_FILE)}")  # noqa: T201


def _is_evaluated(options: EvaluateOptions, saved: SavedRun, data: TrainingData) -> bool:
    """Tells whether the output has the evaluation of that checkpoint on these examples."""
    try:
        found = files.read_json(files.join(options.output, EVALUATION_FILE))
    except FileNotFoundError:
        return False
    with contextlib.nullcontext() if options.verbose else native_messages_held_back():
        step = choose_checkpoint(saved, options.checkpoint)
    asked = {"step": step, "split": options.split, "data": data.place, "examples": data.split(options.split).total}
    return all(found.get(name) == value for name, value in asked.items())


def describe(evaluation: Evaluation) -> str:
    """Returns the figures as an aligned table, in lines for people."""
    counted = {
        "examples": f"{evaluation.examples:,} of {evaluation.split}, {evaluation.data}",
        "checkpoint": f"step {evaluation.step:,} of {evaluation.run} ({evaluation.checkpoint})",
    }
    figures = {name: f"{value:.4g}" for name, value in evaluation.metrics.items() if value is not None}
    width = max(map(len, (*counted, *figures)))
    return "\n".join(f"{name:{width}}  {value}" for name, value in {**counted, **figures}.items())


def progress_line(done: int, total: int, *, seconds: float) -> str:
    """Returns `1,200 of 3,068 examples (39%), 96/s, 0:19 left`."""
    rate = done / seconds if seconds > 0 else 0.0
    left = duration((total - done) / rate) if rate else "?"
    return f"{done:,} of {total:,} examples ({100 * done // max(total, 1)}%), {rate:,.0f}/s, {left} left"


def _score(options: EvaluateOptions, saved: SavedRun, data: TrainingData) -> tuple[Evaluation, ProjectedVectors | None]:
    """Looks at every example of the split; leaves the predictions, and no mark that the evaluation is whole."""
    with contextlib.nullcontext() if options.verbose else native_messages_held_back():
        from trainer.evaluation.scoring import scored_batches
        from trainer.restoring import restore_classifier
        from trainer.strategy import prepare_devices

    total = data.split(options.split).total
    prepare_devices(options.device, strategy="one_device")
    step = choose_checkpoint(saved, options.checkpoint)
    _LOGGER.info("%s at step %s on %s examples of %s", saved.options.model, f"{step:,}", f"{total:,}", data.place)
    classifier = restore_classifier(saved, step)
    batch_size = options.batch_size or saved.options.batch_size
    batches = scored_batches(classifier, data, options.split, options=saved.options, batch_size=batch_size)
    predictions = predictions_table(files.join(options.output, PREDICTIONS_FILE), saved.labels)
    with _explained(data, batch_size), _tally(options, saved, total) as tally, predictions as table:
        for batch in _with_progress(batches, total):
            tally.add(batch)
            table.add(batch)
        found = tally.evaluation(
            run=saved.directory.path,
            model=saved.options.model,
            checkpoint=options.checkpoint,
            step=step,
            data=data.place,
            split=options.split,
        )
        _forget_other_evaluation(options.output)
    return found


def _tally(options: EvaluateOptions, saved: SavedRun, examples: int) -> Tally:
    return Tally(
        saved.labels,
        multi_label=saved.multi_label,
        examples=examples,
        mistakes=options.mistakes,
        sample=_SAMPLE,
        vectors=_PROJECTED,
    )


def _with_progress(batches: Iterable[ScoredBatch], total: int) -> Iterator[ScoredBatch]:
    """Yields the batches and shows how far they have come."""
    progress, began = ProgressLine(), time.monotonic()
    try:
        for batch in batches:
            yield batch
            done = batch.place + len(batch.keys)
            progress.show(functools.partial(progress_line, done, total, seconds=time.monotonic() - began))
    finally:
        progress.clear()


def _write(
    evaluation: Evaluation,
    pictures: Mapping[str, Picture],
    vectors: ProjectedVectors | None,
    *,
    options: EvaluateOptions,
    run: RunDirectory,
    info: PageInfo,
) -> None:
    """Leaves all but the predictions, the mark that the evaluation is whole last."""
    from trainer.evaluation.charts import draw_calibration, draw_confusion_matrix
    from trainer.evaluation.summaries import write_summaries

    def path(name: str) -> str:
        return files.join(options.output, name)

    write_per_class(evaluation, path(PER_CLASS_FILE))
    draw_calibration(evaluation, path(CALIBRATION_FILE))
    if evaluation.confusion is not None:
        write_confusions(evaluation, path(CONFUSIONS_FILE))
        draw_confusion_matrix(evaluation, path(CONFUSION_MATRIX_FILE))
    files.write_bytes(path(PAGE_FILE), render_evaluation(evaluation, pictures, info=info).encode())
    write_summaries(evaluation, pictures, run, output=options.name, vectors=vectors)
    files.write_json(path(EVALUATION_FILE), evaluation.to_json())


def _keys(evaluation: Evaluation, vectors: ProjectedVectors | None) -> set[str]:
    """Returns the keys of the examples that are shown."""
    shown = [judged.key for judged in (*evaluation.mistakes, *evaluation.sample)]
    return {*shown, *(vectors.keys if vectors else ())}


def _check_output(output: str) -> None:
    """Raises OptionError for a directory in which something else lies."""
    if not files.is_remote(output) and os.path.isfile(output):
        raise OptionError(f"--output {output} is a file: give a directory")
    names = [name for name in files.list_directory(output) if not files.is_unfinished(name)]
    strangers = [name for name in names if name not in _FILES]
    if strangers and EVALUATION_FILE not in names:
        raise OptionError(f"--output {output} is no evaluation, it has {strangers[0]!r}: give another --output")


def _forget_other_evaluation(output: str) -> None:
    """Deletes what an evaluation before this one left, the mark that it is whole first."""
    for name in _FILES:
        if name != PREDICTIONS_FILE:
            files.remove(files.join(output, name))


@contextlib.contextmanager
def _explained(data: TrainingData, batch_size: int) -> Iterator[None]:
    """Turns what TensorFlow raises into one line: memory is full, or the input cannot be read."""
    import tensorflow as tf

    from trainer.input_pipeline import explain_input_error

    try:
        yield
    except tf.errors.ResourceExhaustedError as error:
        raise RunError(f"memory is full: give a --batch_size below {batch_size}") from error
    except (tf.errors.InvalidArgumentError, tf.errors.DataLossError, tf.errors.NotFoundError) as error:
        raise RunError(explain_input_error(error, data)) from error


def _command(arguments: Sequence[str]) -> str:
    return shlex.join(["python", "-m", "trainer.evaluate", *arguments])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
