"""Batches to train and to evaluate on, from TFRecords, as one tf.data graph for all epochs.

Which example comes at which place of a worker's stream is a function of the seed and of the place alone, whatever the
machine: files in an order drawn for the epoch, read side by side, their records shuffled in a buffer seeded for the
epoch, each picture changed by a seed made of its place. So a run goes on in the middle of an epoch by passing over
records that are still encoded, and no state of an iterator is kept. An epoch ends when all of the worker's examples
have been taken; batches run across.

Memory: `shuffle_buffer` encoded records; 1,000 pictures of 200 KB are 200 MB.
"""

import dataclasses
import heapq
import re
import time
from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from beam_pipelines.dataset import EMBEDDING, SPLITS, TRAIN
from beam_pipelines.errors import OptionError
from beam_pipelines.tfrecords import encode_example
from trainer.augmentation import augment
from trainer.data_files import IMAGES, SplitFiles, TrainingData
from trainer.pixels import decode_for_size, decode_jpeg

Batch = dict[str, tf.Tensor]
Transform = Callable[[tf.Tensor], tf.Tensor]

# Files read side by side, and records taken from one before the next one's turn. Both are part of the order, and so not
# the machine's choice.
_FILES_AT_ONCE = 16
_RECORDS_IN_TURN = 4
# With fewer files a worker, or shares less equal, each worker reads all files and takes its part of the records.
_MIN_FILES_PER_WORKER = 4
_MAX_SHARE_RATIO = 1.1
_MAX_CLASS_WEIGHT = 10.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class InputOptions:
    """What a worker feeds to its replicas.

    Attributes:
        data: the files, the features and the classes.
        batch_size: examples of one replica in one step.
        image_size: pixels of a side of the square; 0 for embeddings.
        augmentation: `none`, `light` or `strong`; of pictures to train on.
        class_weight: `balanced`, or `none` for weights of 1.
        shuffle_buffer: records among which the next one is drawn.
        seed: of the order and of the augmentation; an int64.
        worker: the worker that is fed, from 0.
        workers: how many there are.
        replicas: devices of this worker, each of which takes a batch of its own in every step.
    """

    data: TrainingData
    batch_size: int
    image_size: int = 0
    augmentation: str = "none"
    class_weight: str = "none"
    shuffle_buffer: int = 1_000
    seed: int = 0
    worker: int = 0
    workers: int = 1
    replicas: int = 1


@dataclasses.dataclass(frozen=True, kw_only=True)
class WorkerShare:
    """The part of a split that a worker reads: of all records of these files every `stride`-th, from `offset`."""

    paths: tuple[str, ...]
    examples: int
    stride: int = 1
    offset: int = 0


def training_batches(options: InputOptions, *, first_example: int = 0) -> tf.data.Dataset:
    """Returns endless batches for one replica after another.

    Args:
        options: what to read.
        first_example: how many examples of this worker's stream are passed over: those of a run that goes on.

    Returns:
        dictionaries of `inputs`, float32 [batch, size, size, 3] in 0..255 or normalised embeddings [batch, width];
        `targets`, int64 [batch] or, with several labels, float32 [batch, classes] of 0 and 1; `weights`, float32
        [batch].

    Raises:
        OptionError: there are fewer examples than workers.
    """
    share = share_of(options.data.train, worker=options.worker, workers=options.workers)
    epoch, taken = divmod(first_example, share.examples)
    records = (
        tf.data.Dataset.range(epoch, tf.int64.max)
        .flat_map(lambda number: _epoch_records(share, options, number))
        .skip(taken)
    )
    weights = _class_weights(options)

    def finish(batch: Batch) -> Batch:
        return {
            "inputs": batch["inputs"],
            "targets": batch["targets"],
            "weights": tf.ones(options.batch_size) if weights is None else tf.gather(weights, batch["targets"]),
        }

    return _finished(_batches(records, options, first_example=first_example).map(finish), options)


def evaluation_batches(options: InputOptions, split: str, *, steps: int) -> tf.data.Dataset:
    """Returns this worker's batches of a split, in a fixed order, `steps` for each of its replicas.

    Every example of the split comes once, on one worker. Rows that fill up the last batches have the mask 0.

    Args:
        options: what to read; neither shuffled nor augmented.
        split: `train` or `validation`.
        steps: as `evaluation_steps` gives them, so that all workers take equally many.

    Returns:
        dictionaries of `inputs` and `targets` as in `training_batches`; `mask`, float32 [batch], 1 for an example;
        `key`, string [batch], empty where examples have no name.
    """
    files = _files_of(options.data, split)
    share = _share(files, worker=options.worker, workers=options.workers)
    rows = steps * options.replicas * options.batch_size
    records = _file_records(tf.constant(share.paths, tf.string), share, files.compression)
    padding = tf.data.Dataset.from_tensors(_padding_record(options.data)).repeat(rows - share.examples)
    plain = dataclasses.replace(options, augmentation="none")
    masks = tf.data.Dataset.range(rows).map(lambda place: tf.cast(place < share.examples, tf.float32))
    batches = _batches(records.concatenate(padding), plain, first_example=0)
    with_masks = tf.data.Dataset.zip(batches, masks.batch(options.batch_size, drop_remainder=True))
    return _finished(with_masks.map(lambda batch, mask: {**batch, "mask": mask}), options)


def evaluation_steps(options: InputOptions, split: str) -> int:
    """Returns how many steps all workers take together until each has given all its examples of a split."""
    files = _files_of(options.data, split)
    shares = [_share(files, worker=worker, workers=options.workers) for worker in range(options.workers)]
    return -(-max(share.examples for share in shares) // (options.replicas * options.batch_size))


def share_of(files: SplitFiles, *, worker: int, workers: int) -> WorkerShare:
    """Returns what a worker trains on; the shares of all workers are disjoint and make up the whole.

    By file where there are enough of them for shares of about the same size, else by record.

    Raises:
        OptionError: a worker would have nothing, and all others would wait for it.
    """
    if files.total < workers:
        raise OptionError(
            f"{workers} workers cannot share {files.total} training examples: start fewer, or give more examples"
        )
    return _share(files, worker=worker, workers=workers)


def balanced_class_weights(counts: Sequence[int]) -> list[float]:
    """Returns weights by which all classes count alike: examples / (classes with examples * examples of the class).

    Args:
        counts: training examples of each class.

    Returns:
        a weight for each class, at most 10; 1 for those without examples.
    """
    present = sum(count > 0 for count in counts)
    return [min(sum(counts) / (present * count), _MAX_CLASS_WEIGHT) if count else 1.0 for count in counts]


def load_transform(path: str) -> Transform:
    """Returns the normalisation of embeddings, of float32 [batch, width] to the same.

    It can stand in tf.data and in an exported graph.

    Args:
        path: the directory of a TensorFlow Transform graph, `transform_fn`; empty for none.
    """
    if not path:
        return lambda embeddings: embeddings
    graph = tf.saved_model.load(path)
    return lambda embeddings: tf.ensure_shape(graph.transform_fn({EMBEDDING: embeddings})[EMBEDDING], embeddings.shape)


def explain_input_error(error: Exception, data: TrainingData | None = None) -> str:
    """Returns one line on what is wrong with the records, from what TensorFlow raised while it read them.

    Args:
        error: a `tf.errors.OpError`.
        data: if given, its files are read again, for a minute at most, to find the one at fault.
    """
    text = str(error)
    for pattern, explanation in _OF_RECORDS.items():
        if match := re.search(pattern, text):
            place = _first_unreadable(data) if data else ""
            line = explanation.format(*match.groups())
            return f"{place}: {line}" if place else line
    if match := re.search(r"expected to contain (\d+) elements but contained", text):
        return f"the files do not hold the {match[1]} examples that were counted: they have changed"
    return _essence(text)


# What TensorFlow says of a record, and what it means; groups of the one stand in the other.
_OF_RECORDS = {
    r"(label -?\d+ is none of the [^\"\]]*)": "{0}",
    r"((?:corrupted|truncated) record at \d+|inflate\(\) failed)": "the file is damaged ({0}): make or fetch it again",
    r"Could not parse example": "a record is no tf.train.Example: make the file again",
    r"Feature: ([^\s(]+) .*required but could not be found": "an example has no feature {0}: make the file again",
    r"Key: ([^\s.,]+)[.,]": "an example's feature {0} is of another type or length than asked for",
    r"Unknown image file format|Invalid JPEG|jpeg::Uncompress": "a picture cannot be decoded: leave it out",
}
_SEARCH_SECONDS = 60.0


def _essence(text: str) -> str:
    """Returns the first line of a message of TensorFlow's without names of nodes."""
    cleaned = re.sub(r"\{\{.*?\}\}|\[Op:.*|Graph execution error:", "", text).strip()
    return cleaned.splitlines()[0].strip() if cleaned else text


def _first_unreadable(data: TrainingData) -> str:
    """Returns which record of which file is the first that cannot be read, or nothing if none is found in time."""
    end = time.monotonic() + _SEARCH_SECONDS
    for files in (data.train, data.validation):
        for path in files.paths:
            records = tf.data.TFRecordDataset(path, compression_type=files.compression)
            number = 0
            try:
                for number, _ in enumerate(records.map(_reading_of(data), tf.data.AUTOTUNE), start=1):  # noqa: B007
                    if time.monotonic() > end:
                        return ""
            except tf.errors.OpError:
                return f"record {number} of {path}"
    return ""


def _reading_of(data: TrainingData) -> Callable[[tf.Tensor], tf.Tensor]:
    def read(record: tf.Tensor) -> tf.Tensor:
        inputs = _parse(record[tf.newaxis], data)["inputs"]
        return tf.shape(decode_jpeg(inputs[0]) if data.kind == IMAGES else inputs)

    return read


def _files_of(data: TrainingData, split: str) -> SplitFiles:
    if split not in SPLITS:
        raise OptionError(f"unknown split {split!r}: one of {', '.join(SPLITS)}")
    return data.train if split == TRAIN else data.validation


def _share(files: SplitFiles, *, worker: int, workers: int) -> WorkerShare:
    dealt = _deal(files.examples, workers)
    sizes = [sum(files.examples[index] for index in hand) for hand in dealt]
    if len(files.paths) >= _MIN_FILES_PER_WORKER * workers and max(sizes) <= _MAX_SHARE_RATIO * min(sizes):
        return WorkerShare(paths=tuple(files.paths[index] for index in dealt[worker]), examples=sizes[worker])
    examples = len(range(worker, files.total, workers))
    return WorkerShare(paths=files.paths, examples=examples, stride=workers, offset=worker)


def _deal(sizes: Sequence[int], workers: int) -> list[list[int]]:
    """Deals files, the largest first, each to the worker that has least; returns the indices that each has, sorted."""
    hands: list[list[int]] = [[] for _ in range(workers)]
    totals = [(0, worker) for worker in range(workers)]
    for index in sorted(range(len(sizes)), key=lambda index: (-sizes[index], index)):
        total, worker = heapq.heappop(totals)
        hands[worker].append(index)
        heapq.heappush(totals, (total + sizes[index], worker))
    return [sorted(hand) for hand in hands]


def _epoch_records(share: WorkerShare, options: InputOptions, epoch: tf.Tensor) -> tf.data.Dataset:
    """Returns all records of a worker's share once, in the order of that epoch (int64 scalar)."""
    seed = tf.stack([tf.constant(options.seed, tf.int64), epoch])
    order = tf.argsort(tf.random.stateless_uniform([len(share.paths)], seed, alg="philox"), stable=True)
    records = _file_records(tf.gather(share.paths, order), share, options.data.train.compression)
    return _shuffled(records, options.shuffle_buffer, seed=seed)


def _file_records(paths: tf.Tensor, share: WorkerShare, compression: str) -> tf.data.Dataset:
    """Returns the share's records of the files `paths`, string [files], in turns; fails if they are not as many."""
    records = tf.data.Dataset.from_tensor_slices(paths).interleave(
        lambda path: tf.data.TFRecordDataset(path, compression_type=compression),
        cycle_length=_FILES_AT_ONCE,
        block_length=_RECORDS_IN_TURN,
        num_parallel_calls=tf.data.AUTOTUNE,
        deterministic=True,
    )
    own = records.shard(share.stride, share.offset) if share.stride > 1 else records
    return own.apply(tf.data.experimental.assert_cardinality(share.examples))


def _shuffled(records: tf.data.Dataset, buffer: int, *, seed: tf.Tensor) -> tf.data.Dataset:
    """Returns the records shuffled by `seed`, int64 [2], alone.

    `Dataset.shuffle` mixes TensorFlow's global seed into its own, and takes no tensor for a seed where that one is 0.
    """
    shuffled = tf.raw_ops.ShuffleDataset(
        input_dataset=tf.data.experimental.to_variant(records),
        buffer_size=buffer,
        seed=seed[0],
        seed2=seed[1] + 1,  # two zeros would mean a random seed
        output_types=[tf.string],
        output_shapes=[[]],
        reshuffle_each_iteration=False,
    )
    return tf.data.experimental.from_variant(shuffled, records.element_spec)


def _batches(records: tf.data.Dataset, options: InputOptions, *, first_example: int) -> tf.data.Dataset:
    """Returns batches of `inputs`, `targets` and `key`; the first record's place in the stream is `first_example`."""
    if options.data.kind == IMAGES:
        pictures = records.enumerate(first_example).map(_picture_reader(options), tf.data.AUTOTUNE)
        return pictures.batch(options.batch_size, drop_remainder=True)
    transform = load_transform(options.data.transform)

    def read(serialized: tf.Tensor) -> Batch:
        batch = _parse(serialized, options.data)
        return {**batch, "inputs": transform(batch["inputs"])}

    return records.batch(options.batch_size, drop_remainder=True).map(read, tf.data.AUTOTUNE)


def _picture_reader(options: InputOptions) -> Callable[[tf.Tensor, tf.Tensor], Batch]:
    def read(place: tf.Tensor, record: tf.Tensor) -> Batch:
        example = {name: values[0] for name, values in _parse(record[tf.newaxis], options.data).items()}
        seed = tf.stack([options.seed, place * options.workers + options.worker])
        pixels, sides = decode_for_size(example["inputs"], options.image_size)
        augmented = augment(pixels, options.image_size, augmentation=options.augmentation, seed=seed, sides=sides)
        return {**example, "inputs": augmented}

    return read


def _parse(serialized: tf.Tensor, data: TrainingData) -> Batch:
    """Returns `inputs`, `targets` and `key` of serialized examples, string [batch]; fails for labels of no class."""
    layout = data.layout
    features = {
        layout.inputs: _inputs_feature(data),
        layout.label: tf.io.VarLenFeature(tf.int64) if data.multi_label else tf.io.FixedLenFeature([], tf.int64),
    }
    if layout.key:
        features[layout.key] = tf.io.FixedLenFeature([], tf.string, default_value="")
    parsed = tf.io.parse_example(serialized, features)
    keys = parsed[layout.key] if layout.key else tf.zeros_like(serialized)
    labels = parsed[layout.label]
    if not data.multi_label:
        _check_labels(labels, keys, classes=len(data.labels))
        return {"inputs": parsed[layout.inputs], "targets": labels, "key": keys}
    _check_labels(labels.values, tf.gather(keys, labels.indices[:, 0]), classes=len(data.labels))
    targets = tf.cast(tf.sparse.to_indicator(labels, len(data.labels)), tf.float32)
    return {"inputs": parsed[layout.inputs], "targets": targets, "key": keys}


def _inputs_feature(data: TrainingData) -> Any:
    if data.kind == IMAGES:
        return tf.io.FixedLenFeature([], tf.string)
    return tf.io.FixedLenFeature([data.width], tf.float32)


def _check_labels(labels: tf.Tensor, keys: tf.Tensor, *, classes: int) -> None:
    """Adds an operation that fails if a label is none of the classes, and names it with its key; both are [labels]."""
    wrong = (labels < 0) | (labels >= classes)
    named = tf.strings.join(["label ", tf.strings.as_string(labels), f" is none of the {classes} classes: ", keys])
    tf.debugging.Assert(~tf.reduce_any(wrong), [tf.boolean_mask(named, wrong)[:1]])


def _class_weights(options: InputOptions) -> list[float] | None:
    """Returns the weight of each class; None where all are 1."""
    if options.class_weight == "none" or options.data.multi_label:
        return None
    return balanced_class_weights(options.data.class_counts)


def _padding_record(data: TrainingData) -> bytes:
    """Returns an example as the data set has them: one black pixel, or zeros; the first class; no key."""
    pixel: bytes = tf.io.encode_jpeg(tf.zeros([1, 1, 3], tf.uint8)).numpy()
    inputs = pixel if data.kind == IMAGES else [0.0] * data.width
    key = {data.layout.key: b""} if data.layout.key else {}
    return encode_example({data.layout.inputs: inputs, data.layout.label: 0, **key})


def _finished(batches: tf.data.Dataset, options: InputOptions) -> tf.data.Dataset:
    settings = tf.data.Options()
    settings.deterministic = True
    settings.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.OFF
    return batches.prefetch(tf.data.AUTOTUNE).with_options(settings)
