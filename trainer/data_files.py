"""What there is to train on: the files of a data set, their examples, labels and features. Imports no TensorFlow."""

import collections
import concurrent.futures
import dataclasses
import functools
import gzip
import hashlib
import json
import logging
import re
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

from beam_pipelines import files
from beam_pipelines.dataset import (
    COMPLETED_FILE,
    EMBEDDING,
    INFO_FILE,
    LABELS_FILE,
    PLAN_DIRECTORY,
    PLAN_FILE,
    SPLITS,
    TRAIN,
    TRANSFORM_DIRECTORIES,
    VALIDATION,
    Feature,
)
from beam_pipelines.errors import OptionError, RunError
from beam_pipelines.label_choice import read_labels_file
from beam_pipelines.tfrecords import CorruptRecordError, count_records, decode_example, read_records
from trainer.options import HEAD, SMALL_CNN, TrainingOptions

_LOGGER = logging.getLogger(__name__)

IMAGES = "images"
EMBEDDINGS = "embeddings"

# The option that names foreign TFRecords of a split.
FOREIGN_OPTIONS = {TRAIN: "train_data_paths", VALIDATION: "eval_data_paths"}

_NAMED_CLASSES = 10
_THREADS = 16
# Of a foreign file, these are read and checked; the others are counted.
_FIRST_RECORDS = 10


@dataclasses.dataclass(frozen=True, kw_only=True)
class Layout:
    """The names of an example's features.

    Attributes:
        inputs: the picture (bytes of a JPEG) or the embedding (float32 [width]).
        label: int64, the class id; several of them where the data set has several labels.
        key: what the example is called, bytes; empty where examples have no name.
    """

    inputs: str
    label: str
    key: str


OUR_IMAGES = Layout(inputs=Feature.ENCODED.value, label=Feature.LABEL.value, key=Feature.KEY.value)
OUR_EMBEDDINGS = Layout(inputs=EMBEDDING, label=Feature.LABEL.value, key=Feature.KEY.value)
# What the workshop on transfer learning wrote, from which this project comes.
WORKSHOP_EMBEDDINGS = Layout(inputs=EMBEDDING, label="label", key="image_uri")


@dataclasses.dataclass(frozen=True, kw_only=True)
class SplitFiles:
    """The files of a split, in order, without those that are empty.

    Attributes:
        paths: TFRecord files, local or gs://.
        examples: how many records each has.
        compression: `GZIP`, or empty for none, as `tf.data.TFRecordDataset` has it.
    """

    paths: tuple[str, ...]
    examples: tuple[int, ...]
    compression: str = ""

    @property
    def total(self) -> int:
        """All examples of the split."""
        return sum(self.examples)


NO_FILES = SplitFiles(paths=(), examples=())


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainingData:
    """What a run trains and validates on.

    Attributes:
        kind: `images` or `embeddings`.
        layout: names of the features.
        train: the files to train on.
        validation: the files to validate on; without any, nothing can be monitored.
        labels: the classes, in the order of their ids.
        multi_label: whether an example may have several labels.
        class_counts: training examples of each class; empty where they were not counted.
        width: of the embeddings; 0 for images.
        fingerprint: a short hash of the examples and the labels, wherever they lie.
        directory: of the data set; empty for foreign TFRecords.
        transform: the directory of the TensorFlow Transform graph that normalises embeddings; empty for none.
        backbone: the hash of the weights that the embeddings were made with; empty where it is not known.
    """

    kind: str
    layout: Layout
    train: SplitFiles
    validation: SplitFiles
    labels: tuple[str, ...]
    multi_label: bool = False
    class_counts: tuple[int, ...] = ()
    width: int = 0
    fingerprint: str = ""
    directory: str = ""
    transform: str = ""
    backbone: str = ""

    @property
    def place(self) -> str:
        """Where it lies, for messages."""
        return self.directory or next(iter((*self.train.paths, *self.validation.paths)), "")

    def split(self, name: str) -> SplitFiles:
        """Returns the files of `train` or `validation`."""
        return self.train if name == TRAIN else self.validation


def read_training_data(options: TrainingOptions) -> TrainingData:
    """Returns what there is to train on.

    A class without training examples, and a data set without any to validate on, are told in the log.

    Raises:
        OptionError: there is no finished data set, it lacks files, it has nothing to train on, or it does not go with
            the model.
        RunError: a file is damaged.
    """
    data = read_data_set(options.dataset) if options.dataset else _read_foreign(options)
    _check_options(options, data)
    if not data.train.total:
        place = data.directory or "--train_data_paths"
        raise OptionError(f"{place} has no training examples: give another data set")
    if not data.validation.total:
        if options.early_stopping_patience:
            raise OptionError(
                f"--early_stopping_patience {options.early_stopping_patience} needs a metric of validation, and "
                f"{data.place} has no examples to validate on: leave it out"
            )
        _LOGGER.warning("%s has no examples to validate on: nothing can be monitored", data.place)
    _warn_of_empty_classes(data)
    return data


def _check_options(options: TrainingOptions, data: TrainingData) -> None:
    if data.kind == IMAGES and options.model == HEAD:
        raise OptionError(
            f"--model {HEAD} takes embeddings, and {data.place} has pictures: give --model {SMALL_CNN} or a backbone, "
            "or make embeddings of them with `python -m beam_pipelines.embed`"
        )
    if data.multi_label and options.class_weight != "none":
        raise OptionError(
            f"--class_weight {options.class_weight} weighs examples by their one label, and those of {data.place} may "
            "have several: leave it out"
        )
    if data.kind == EMBEDDINGS and options.model != HEAD:
        raise OptionError(
            f"--model {options.model} takes pictures, and {data.place} has embeddings: give --model {HEAD}, or the "
            "data set of pictures"
        )


def _warn_of_empty_classes(data: TrainingData) -> None:
    empty = [label for label, count in zip(data.labels, data.class_counts, strict=False) if not count]
    if not empty:
        return
    named = ", ".join(map(repr, empty[:_NAMED_CLASSES]))
    more = f" and {len(empty) - _NAMED_CLASSES} more" if len(empty) > _NAMED_CLASSES else ""
    _LOGGER.warning("there is nothing to learn these classes from, they have no training examples: %s%s", named, more)


def read_data_set(directory: str, splits: Sequence[str] = SPLITS) -> TrainingData:
    """Returns what the directory of a finished data set has.

    Args:
        directory: local or gs://.
        splits: those whose files are looked at; the others are as if they were empty.

    Raises:
        OptionError: there is no finished data set, or it lacks files of these splits.
    """
    if not files.exists(files.join(directory, COMPLETED_FILE)):
        if files.exists(files.join(directory, PLAN_DIRECTORY, PLAN_FILE)):
            raise OptionError(
                f"--dataset {directory} is not finished, it has no file {COMPLETED_FILE}: give the command that began "
                "it, ingest or embed, once more"
            )
        raise OptionError(
            f"--dataset {directory} is no data set, it has no file {COMPLETED_FILE}: give ingest's --output"
        )
    info = _read_information(directory)
    try:
        labels = tuple(files.read_lines(files.join(directory, LABELS_FILE)))
    except FileNotFoundError as error:
        raise OptionError(f"--dataset {directory} lacks {LABELS_FILE}: copy the whole directory") from error
    if labels != tuple(info["labels"]):
        raise OptionError(
            f"{LABELS_FILE} of --dataset {directory} was changed: it does not have the classes of {INFO_FILE}"
        )
    backbone = info.get("backbone")
    train = info["splits"][TRAIN]["labels"]
    data = TrainingData(
        kind=EMBEDDINGS if backbone else IMAGES,
        layout=OUR_EMBEDDINGS if backbone else OUR_IMAGES,
        train=_shard_files(directory, info, TRAIN) if TRAIN in splits else NO_FILES,
        validation=_shard_files(directory, info, VALIDATION) if VALIDATION in splits else NO_FILES,
        labels=labels,
        multi_label=_is_multi_label(info),
        class_counts=tuple(train.get(label, 0) for label in labels),
        width=int(backbone["width"]) if backbone else 0,
        fingerprint=_fingerprint([info["splits"][split]["shards"] for split in SPLITS], labels),
        directory=directory,
        transform=files.join(directory, TRANSFORM_DIRECTORIES[0]) if backbone else "",
        backbone=str(backbone.get("weights_sha256", "")) if backbone else "",
    )
    _check_shards_are_there(data)
    return data


def _read_information(directory: str) -> dict[str, Any]:
    try:
        info = files.read_json(files.join(directory, INFO_FILE))
    except (FileNotFoundError, ValueError):
        info = None
    if not isinstance(info, dict) or "labels" not in info or not set(SPLITS) <= set(info.get("splits", ())):
        raise OptionError(f"--dataset {directory} has no {INFO_FILE} as ingest and embed write it: give their --output")
    return info


def _is_multi_label(info: dict[str, Any]) -> bool:
    """Tells whether pictures may have several labels; a data set of embeddings has that of its pictures."""
    options = info.get("dataset", {}).get("options", {}), info.get("options", {})
    return any(bool(recorded.get("multi_label")) for recorded in options)


def _shard_files(directory: str, info: dict[str, Any], split: str) -> SplitFiles:
    shards = [shard for shard in info["splits"][split]["shards"] if shard["examples"]]
    return SplitFiles(
        paths=tuple(files.join(directory, shard["name"]) for shard in shards),
        examples=tuple(shard["examples"] for shard in shards),
    )


def _check_shards_are_there(data: TrainingData) -> None:
    there = set(files.list_directory(data.directory))
    for path in (*data.train.paths, *data.validation.paths):
        name = path.rsplit("/", 1)[-1]
        if name not in there:
            raise OptionError(f"--dataset {data.directory} lacks {name}: copy the whole directory, or make it anew")


def _fingerprint(content: Any, labels: Sequence[str]) -> str:
    return hashlib.sha256(json.dumps([content, list(labels)], sort_keys=True).encode()).hexdigest()[:16]


def _read_foreign(options: TrainingOptions) -> TrainingData:
    labels = read_foreign_labels(options.labels_file)
    balanced = options.class_weight == "balanced"
    train = _inspect_all("train_data_paths", options.train_data_paths, labels=len(labels), count_classes=balanced)
    validation = _inspect_all("eval_data_paths", options.eval_data_paths, labels=len(labels), count_classes=False)
    _check_alike(train, validation)
    both = sorted({found.path for found in train} & {found.path for found in validation})
    if both:
        _LOGGER.warning("%s is there to train on and to validate on: the metrics of validation mean little", both[0])
    first = next((found for found in (*train, *validation) if found.layout), None)
    if first is None or first.layout is None:
        raise OptionError(f"--train_data_paths {','.join(options.train_data_paths)} has no examples: give other files")
    return TrainingData(
        kind=_kind_of(first.layout),
        layout=first.layout,
        train=_split_files("train_data_paths", train),
        validation=_split_files("eval_data_paths", validation),
        labels=labels,
        class_counts=tuple(sum(found.classes[label] for found in train) for label in range(len(labels)))
        if balanced
        else (),
        width=first.width,
        fingerprint=_fingerprint([[found.identity for found in split] for split in (train, validation)], labels),
    )


def read_foreign_split(split: str, patterns: Sequence[str], labels: tuple[str, ...]) -> TrainingData:
    """Returns foreign TFRecords as one split of a data set whose other split is empty.

    Args:
        split: `train` or `validation`.
        patterns: files and patterns; there is at least one.
        labels: the classes, in the order of their ids.

    Raises:
        OptionError: there are no such files, or they are not of these classes or not of one kind.
        RunError: a file is damaged.
    """
    option = FOREIGN_OPTIONS[split]
    inspected = _inspect_all(option, patterns, labels=len(labels), count_classes=False)
    _check_alike(inspected, [])
    first = next((found for found in inspected if found.layout), None)
    if first is None or first.layout is None:
        raise OptionError(f"--{option} {','.join(patterns)} has no examples: give other files")
    found = _split_files(option, inspected)
    return TrainingData(
        kind=_kind_of(first.layout),
        layout=first.layout,
        train=found if split == TRAIN else NO_FILES,
        validation=found if split == VALIDATION else NO_FILES,
        labels=labels,
        width=first.width,
    )


def read_foreign_labels(path: str) -> tuple[str, ...]:
    """Returns the labels of foreign TFRecords, in the order of their ids: one a line, or slim's `0:daisy`.

    Raises:
        OptionError: the file cannot be read, is empty, or has a label twice.
    """
    labels = read_labels_file(path)
    numbered = [re.fullmatch(r"(\d+):\s*(.+)", label) for label in labels]
    if all(match and int(match[1]) == number for number, match in enumerate(numbered)):
        return tuple(match[2] for match in numbered if match)
    return labels


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Inspected:
    """What was found in a foreign file; `layout` is None where it has no records."""

    path: str
    size: int
    examples: int
    layout: Layout | None
    width: int
    classes: Mapping[int, int]

    @property
    def identity(self) -> tuple[str, int, int]:
        """What tells it from other files, wherever it lies."""
        return self.path.rsplit("/", 1)[-1], self.size, self.examples


def _inspect_all(option: str, patterns: Sequence[str], *, labels: int, count_classes: bool) -> list[_Inspected]:
    paths: dict[str, None] = {}
    for pattern in patterns:
        found = files.matching(pattern)
        if not found:
            raise OptionError(f"--{option} {pattern}: there is no such file")
        paths.update(dict.fromkeys(found))
    inspect = functools.partial(_inspect, labels=labels, count_classes=count_classes)
    with concurrent.futures.ThreadPoolExecutor(_THREADS) as pool:
        return list(pool.map(inspect, paths))


def _inspect(path: str, *, labels: int, count_classes: bool) -> _Inspected:
    """Reads a file's first records, or all of them to count classes, and counts the others by their framing."""
    layout: Layout | None = None
    width = 0
    classes: collections.Counter[int] = collections.Counter()
    try:
        with files.open_to_read(path, decompress=True) as file:
            examples = count_records(file)
            file.seek(0)
            for number, record in enumerate(read_records(file)):
                if number >= _FIRST_RECORDS and not count_classes:
                    break
                example = decode_example(record)
                found, found_width = _layout_of(example, path=path, number=number)
                if layout and (found, found_width) != (layout, width):
                    raise OptionError(f"{path}: record {number} has other features than those before it")
                layout, width = found, found_width
                classes[_label_of(example, layout, path=path, number=number, labels=labels)] += 1
    except (CorruptRecordError, EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise RunError(f"{path} is damaged: {error}{_hint(path)}") from error
    return _Inspected(path=path, size=files.size(path), examples=examples, layout=layout, width=width, classes=classes)


def _hint(path: str) -> str:
    with files.open_to_read(path) as file:
        packed = file.read(2) == b"\x1f\x8b"
    if packed and not _is_packed(path):
        return " (it is packed by gzip: let its name end in .gz)"
    return " (its name ends in .gz, and it is not packed)" if _is_packed(path) and not packed else ""


def _layout_of(example: Mapping[str, list[Any]], *, path: str, number: int) -> tuple[Layout, int]:
    """Returns the names of an example's features, and the width of its embedding (0 for a picture)."""
    for layout, kind in ((OUR_IMAGES, bytes), (OUR_EMBEDDINGS, float), (WORKSHOP_EMBEDDINGS, float)):
        values = example.get(layout.inputs)
        if values and isinstance(values[0], kind) and layout.label in example:
            key = layout.key if layout.key in example else ""
            return dataclasses.replace(layout, key=key), 0 if layout is OUR_IMAGES else len(values)
    names = ", ".join(f"{name} ({_kind(values)})" for name, values in sorted(example.items())) or "none at all"
    raise OptionError(
        f"{path}: record {number} has these features: {names}; to train it needs {OUR_IMAGES.inputs} (bytes) and "
        f"{OUR_IMAGES.label}, or {EMBEDDING} (float) and {WORKSHOP_EMBEDDINGS.label}"
    )


def _kind_of(layout: Layout) -> str:
    return IMAGES if layout.inputs == Feature.ENCODED else EMBEDDINGS


def _kind(values: Sequence[Any]) -> str:
    kinds = {bytes: "bytes", int: "int64", float: "float"}
    return f"{len(values)} {kinds[type(values[0])]}" if values else "empty"


def _label_of(example: Mapping[str, list[Any]], layout: Layout, *, path: str, number: int, labels: int) -> int:
    values = example[layout.label]
    if len(values) != 1 or not isinstance(values[0], int):
        raise OptionError(f"{path}: record {number} has {_kind(values)} as its {layout.label}, not one class id")
    label: int = values[0]
    if not 0 <= label < labels:
        raise OptionError(
            f"{path}: record {number} has the class id {label}, and --labels_file has {labels} labels, ids 0 to "
            f"{labels - 1}: give the labels that these files were made with (where ids begin at 1, the first line is "
            "that of the background)"
        )
    return label


def _check_alike(train: Sequence[_Inspected], validation: Sequence[_Inspected]) -> None:
    known = [found for found in (*train, *validation) if found.layout]
    for found in known[1:]:
        if (found.layout, found.width) != (known[0].layout, known[0].width):
            raise OptionError(
                f"{found.path} has {_described(found)}, and {known[0].path} has {_described(known[0])}: give files of "
                "one kind"
            )


def _described(found: _Inspected) -> str:
    names = ", ".join(name for name in dataclasses.astuple(found.layout) if name) if found.layout else ""
    return f"{names} of width {found.width}" if found.width else names


def _split_files(option: str, inspected: Sequence[_Inspected]) -> SplitFiles:
    full = [found for found in inspected if found.examples]
    packed = {_is_packed(found.path) for found in full}
    if len(packed) > 1:
        raise OptionError(f"--{option} has files that end in .gz and others: give files of one kind")
    return SplitFiles(
        paths=tuple(found.path for found in full),
        examples=tuple(found.examples for found in full),
        compression="GZIP" if packed == {True} else "",
    )


def _is_packed(path: str) -> bool:
    return path.lower().endswith(".gz")
