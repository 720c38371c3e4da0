"""The examples to evaluate a run on: its own, or others of the same classes. Imports no TensorFlow."""

import dataclasses
import logging
from collections.abc import Sequence

from beam_pipelines import files
from beam_pipelines.dataset import COMPLETED_FILE
from beam_pipelines.errors import OptionError
from trainer.data_files import (
    EMBEDDINGS,
    FOREIGN_OPTIONS,
    TrainingData,
    read_data_set,
    read_foreign_labels,
    read_foreign_split,
)
from trainer.evaluation.options import EvaluateOptions
from trainer.saved_run import SavedRun

_LOGGER = logging.getLogger(__name__)


def read_evaluation_data(options: EvaluateOptions, saved: SavedRun) -> TrainingData:
    """Returns the split to evaluate on; the other split is as if it were empty.

    Embeddings are normalised as those that the run was trained on, wherever they come from.

    Raises:
        OptionError: there are no such examples, or they do not go with the run.
        RunError: a file is damaged.
    """
    data = _read(options, saved)
    _check_labels(data, saved)
    _check_kind(data, saved)
    if data.multi_label and not saved.multi_label:
        raise OptionError(f"examples of {data.place} may have several labels, and those of the run have one")
    if not data.split(options.split).total:
        raise OptionError(f"{data.place} has no examples of --split {options.split}: give another split or data set")
    if data.kind == EMBEDDINGS:
        data = dataclasses.replace(data, transform=_transform(data, saved))
    return dataclasses.replace(data, multi_label=saved.multi_label)


def _read(options: EvaluateOptions, saved: SavedRun) -> TrainingData:
    if options.dataset:
        return read_data_set(options.dataset, [options.split])
    if options.data_paths:
        labels = read_foreign_labels(options.labels_file) if options.labels_file else saved.labels
        return read_foreign_split(options.split, options.data_paths, labels)
    return _read_own(options, saved)


def _read_own(options: EvaluateOptions, saved: SavedRun) -> TrainingData:
    """Returns what the run was trained or validated on, if it still lies there."""
    run, trained_on = saved.directory.path, saved.options.dataset
    if not trained_on:
        option = FOREIGN_OPTIONS[options.split]
        paths: Sequence[str] = getattr(saved.options, option)
        if not paths:
            raise OptionError(f"--run {run} was trained without --{option}: give --{option} or --dataset")
        return read_foreign_split(options.split, paths, saved.labels)
    if not files.exists(files.join(trained_on, COMPLETED_FILE)):
        raise OptionError(f"--run {run} was trained on {trained_on}, which is not there: say by --dataset where it is")
    data = read_data_set(trained_on, [options.split])
    _warn_if_changed(data, saved)
    return data


def _warn_if_changed(data: TrainingData, saved: SavedRun) -> None:
    if data.fingerprint != saved.data_fingerprint:
        _LOGGER.warning(
            "%s was made anew since %s was trained: it is not what that was trained on",
            data.place,
            saved.directory.path,
        )


def _check_labels(data: TrainingData, saved: SavedRun) -> None:
    for number, (own, label) in enumerate(zip(saved.labels, data.labels, strict=False)):
        if own != label:
            raise OptionError(
                f"class {number} is {label!r} in {data.place} and {own!r} in the run: give the same classes"
            )
    if len(data.labels) != len(saved.labels):
        raise OptionError(
            f"{data.place} has {len(data.labels)} classes and the run has {len(saved.labels)}: give the same classes"
        )


def _check_kind(data: TrainingData, saved: SavedRun) -> None:
    if data.kind != saved.kind:
        raise OptionError(f"{data.place} has {data.kind}, and the run was trained on {saved.kind}: give those")
    if data.width != saved.width:
        raise OptionError(
            f"embeddings of {data.place} have {data.width} numbers, and those of the run {saved.width}: make them with "
            "the same --backbone"
        )


def _transform(data: TrainingData, saved: SavedRun) -> str:
    """Returns the graph that normalised what the run was trained on; empty for none.

    Raises:
        OptionError: it is gone, or the embeddings are known to come from other weights.
    """
    trained_on = saved.options.dataset
    if not trained_on:
        return ""
    if data.fingerprint == saved.data_fingerprint:
        return data.transform
    if not files.exists(files.join(trained_on, COMPLETED_FILE)):
        raise OptionError(
            f"the run was trained on embeddings normalised by the graph in {trained_on}, which is not there: put that "
            "data set there again"
        )
    own = read_data_set(trained_on, [])
    if data.directory != trained_on:
        _warn_if_changed(own, saved)
    if own.backbone and data.backbone and own.backbone != data.backbone:
        raise OptionError(
            f"embeddings of {data.place} were made with other weights than those of {trained_on}, which the run was "
            "trained on: make them with the same --backbone and --weights"
        )
    return own.transform
