import itertools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from beam_pipelines.dataset import EMBEDDING, TRAIN, VALIDATION, Feature
from beam_pipelines.errors import OptionError
from beam_pipelines.tfrecords import encode_example, frame
from tests.hostile_server import jpeg
from trainer.data_files import EMBEDDINGS, IMAGES, Layout, SplitFiles, TrainingData
from trainer.input_pipeline import (
    InputOptions,
    balanced_class_weights,
    evaluation_batches,
    evaluation_steps,
    explain_input_error,
    load_transform,
    share_of,
    training_batches,
)
from trainer.pixels import decode_and_resize

pytestmark = pytest.mark.slow

LABELS = ("hat", "shoe", "shirt")
WIDTH = 4
# Of files without and with turns of their own, more than one buffer, none a multiple of the batch.
SIZES = (7, 1, 5, 3, 2)

Row = dict[str, Any]


def example(number: int, *, kind: str, **changed: Any) -> bytes:
    """Returns example `number`: its first pixel or first element, its class and its key all tell it."""
    inputs = jpeg(number, width=12, height=10) if kind == IMAGES else [float(number)] + [0.5] * (WIDTH - 1)
    features = {"inputs": inputs, Feature.LABEL: number % len(LABELS), Feature.KEY: str(number).encode()}
    return encode_example({**features, **changed})


def write_files(directory: Path, records: Sequence[Sequence[bytes]], *, compression: str = "") -> SplitFiles:
    directory.mkdir(parents=True, exist_ok=True)
    paths = []
    for index, contents in enumerate(records):
        path = directory / f"{index}.tfrecord"
        with tf.io.TFRecordWriter(str(path), compression) as writer:
            for content in contents:
                writer.write(content)
        paths.append(str(path))
    return SplitFiles(paths=tuple(paths), examples=tuple(map(len, records)), compression=compression)


def make_data(directory: Path, sizes: Sequence[int] = SIZES, *, kind: str = IMAGES, **changed: Any) -> TrainingData:
    """Writes files of so many examples, numbered through, as both splits."""
    numbers = iter(range(sum(sizes)))
    files = write_files(directory, [[example(next(numbers), kind=kind) for _ in range(size)] for size in sizes])
    return data_of(files, kind=kind, **changed)


def data_of(files: SplitFiles, *, kind: str = EMBEDDINGS, **changed: Any) -> TrainingData:
    known: dict[str, Any] = {
        "kind": kind,
        "layout": Layout(inputs="inputs", label=Feature.LABEL, key=Feature.KEY),
        "train": files,
        "validation": files,
        "labels": LABELS,
        "width": WIDTH if kind == EMBEDDINGS else 0,
    }
    return TrainingData(**{**known, **changed})


def input_options(data: TrainingData, **changed: Any) -> InputOptions:
    known: dict[str, Any] = {"batch_size": 4, "shuffle_buffer": 5, "image_size": 8 if data.kind == IMAGES else 0}
    return InputOptions(data=data, **{**known, **changed})


def training_rows(options: InputOptions, count: int, *, first_example: int = 0) -> list[Row]:
    """Returns the first rows of the stream from `first_example` on."""
    batches = -(-count // options.batch_size)
    return list(rows_of(training_batches(options, first_example=first_example).take(batches)))[:count]


def rows_of(batches: tf.data.Dataset) -> Iterator[Row]:
    for batch in batches.as_numpy_iterator():
        for values in zip(*batch.values(), strict=True):
            yield dict(zip(batch, values, strict=True))


def numbers(rows: Sequence[Row]) -> list[int]:
    """Returns the numbers of embedding examples."""
    return [int(row["inputs"][0]) for row in rows]


def assert_same(rows: Sequence[Row], others: Sequence[Row]) -> None:
    assert len(rows) == len(others)
    for row, other in zip(rows, others, strict=True):
        for name, value in row.items():
            np.testing.assert_array_equal(value, other[name])


@pytest.fixture
def embeddings(tmp_path: Path) -> TrainingData:
    return make_data(tmp_path / "embeddings", kind=EMBEDDINGS)


@pytest.fixture
def images(tmp_path: Path) -> TrainingData:
    return make_data(tmp_path / "images")


@pytest.mark.parametrize("kind", [IMAGES, EMBEDDINGS])
def test_a_stream_goes_on_anywhere_to_the_bit(tmp_path: Path, kind: str) -> None:
    options = input_options(make_data(tmp_path, kind=kind), augmentation="light", seed=3)
    undisturbed = training_rows(options, 60)
    for first in (3, 17, 18, 41):
        assert_same(training_rows(options, 60 - first, first_example=first), undisturbed[first:])


def test_every_epoch_has_each_example_once_in_an_order_of_its_own(embeddings: TrainingData) -> None:
    seen = numbers(training_rows(input_options(embeddings), 4 * 18))
    epochs = [seen[start : start + 18] for start in range(0, 4 * 18, 18)]
    assert all(sorted(epoch) == list(range(18)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 4


def test_shards_come_in_another_order_in_each_epoch_without_any_buffer(tmp_path: Path) -> None:
    data = make_data(tmp_path, [1] * 12, kind=EMBEDDINGS)
    seen = numbers(training_rows(input_options(data, shuffle_buffer=1), 24))
    assert sorted(seen[:12]) == sorted(seen[12:]) == list(range(12))
    assert seen[:12] != seen[12:] != list(range(12))


def test_records_of_one_file_are_shuffled_anew_in_each_epoch(tmp_path: Path) -> None:
    data = make_data(tmp_path, [30], kind=EMBEDDINGS)
    seen = numbers(training_rows(input_options(data, shuffle_buffer=30), 60))
    assert list(range(30)) != seen[:30] != seen[30:]


def test_the_seed_alone_decides_whatever_tensorflows_own_is(embeddings: TrainingData) -> None:
    rows = numbers(training_rows(input_options(embeddings, seed=0), 30))
    try:
        for global_seed in (0, 7):
            tf.random.set_seed(global_seed)
            assert numbers(training_rows(input_options(embeddings, seed=0), 30)) == rows
    finally:
        tf.random.set_seed(None)
    assert numbers(training_rows(input_options(embeddings, seed=1), 30)) != rows


def test_targets_go_with_their_inputs(images: TrainingData, embeddings: TrainingData) -> None:
    for row in training_rows(input_options(embeddings), 18):
        assert row["targets"] == row["inputs"][0] % len(LABELS)
        assert row["weights"] == 1
    pictures = [decode_and_resize(jpeg(number, width=12, height=10), 8).numpy() for number in range(18)]
    for row in training_rows(input_options(images), 18):
        (number,) = [number for number in range(18) if np.array_equal(row["inputs"], pictures[number])]
        assert row["targets"] == number % len(LABELS)


def test_the_shapes_are_known_beforehand(images: TrainingData, embeddings: TrainingData) -> None:
    def spec(batches: tf.data.Dataset) -> dict[str, tuple[str, list[int]]]:
        return {name: (tensor.dtype.name, tensor.shape.as_list()) for name, tensor in batches.element_spec.items()}

    assert spec(training_batches(input_options(images))) == {
        "inputs": ("float32", [4, 8, 8, 3]),
        "targets": ("int64", [4]),
        "weights": ("float32", [4]),
    }
    assert spec(evaluation_batches(input_options(embeddings), VALIDATION, steps=1)) == {
        "inputs": ("float32", [4, WIDTH]),
        "targets": ("int64", [4]),
        "mask": ("float32", [4]),
        "key": ("string", [4]),
    }


def test_several_labels_are_multi_hot(tmp_path: Path) -> None:
    contents = [
        example(0, kind=EMBEDDINGS, **{Feature.LABEL: [2, 0]}),
        encode_example({"inputs": [1.0] * WIDTH}),
        example(2, kind=EMBEDDINGS, **{Feature.LABEL: [1, 1]}),
    ]
    data = data_of(write_files(tmp_path, [contents]), multi_label=True, class_counts=(1, 1, 1))
    rows = training_rows(input_options(data, batch_size=3, class_weight="balanced"), 3)
    targets = {number: row["targets"].tolist() for number, row in zip(numbers(rows), rows, strict=True)}
    assert targets == {0: [1, 0, 1], 1: [0, 0, 0], 2: [0, 1, 0]}
    assert {row["weights"] for row in rows} == {1.0}
    assert rows[0]["targets"].dtype == np.float32


def test_classes_weigh_alike_if_balanced(embeddings: TrainingData) -> None:
    assert balanced_class_weights([30, 10, 0]) == [40 / 60, 2.0, 1.0]
    assert balanced_class_weights([10_000, 1]) == [10_001 / 20_000, 10.0]
    data = data_of(embeddings.train, class_counts=(30, 10, 0))
    rows = training_rows(input_options(data, class_weight="balanced"), 18)
    expected = balanced_class_weights([30, 10, 0])
    assert all(row["weights"] == np.float32(expected[row["targets"]]) for row in rows)


@given(st.lists(st.integers(1, 9), max_size=30), st.integers(1, 4))
def test_shares_are_disjoint_and_complete(sizes: list[int], workers: int) -> None:
    files = SplitFiles(paths=tuple(f"{index}" for index in range(len(sizes))), examples=tuple(sizes))
    if files.total < workers:
        with pytest.raises(OptionError, match=f"{workers} workers cannot share {files.total}"):
            share_of(files, worker=0, workers=workers)
        return
    shares = [share_of(files, worker=worker, workers=workers) for worker in range(workers)]
    assert sum(share.examples for share in shares) == files.total
    assert min(share.examples for share in shares) > 0
    if shares[0].stride == 1:
        assert sorted(path for share in shares for path in share.paths) == sorted(files.paths)
        assert workers == 1 or len(sizes) >= 4 * workers
    else:
        assert [(share.paths, share.stride, share.offset) for share in shares] == [
            (files.paths, workers, worker) for worker in range(workers)
        ]


@pytest.mark.parametrize(
    ("examples", "paths"),
    [
        ((5, 9, 5, 5, 5, 5, 9, 5), ["abdf", "cegh"]),
        ((500, 490, 510, 505, 495, 500, 500, 500), ["bcfh", "adeg"]),
        ((5, 5, 5, 5, 5, 5, 5), ["abcdefg", "abcdefg"]),
        ((5, 5, 5, 5, 5, 5, 5, 50), ["abcdefgh", "abcdefgh"]),
        ((5, 5, 5, 5, 5, 5, 5, 5, 5), ["abcdefghi", "abcdefghi"]),
    ],
)
def test_files_are_dealt_whole_where_the_shares_come_out_equal(examples: tuple[int, ...], paths: list[str]) -> None:
    files = SplitFiles(paths=tuple("abcdefghi"[: len(examples)]), examples=examples)
    shares = [share_of(files, worker=worker, workers=2) for worker in range(2)]
    assert ["".join(share.paths) for share in shares] == paths


@pytest.mark.parametrize(("sizes", "workers"), [(SIZES, 2), ((4,), 3), ((2,) * 8, 2)])
def test_workers_see_each_example_once_in_every_epoch(tmp_path: Path, sizes: tuple[int, ...], workers: int) -> None:
    data = make_data(tmp_path, sizes, kind=EMBEDDINGS)
    epochs: list[list[int]] = [[], []]
    for worker in range(workers):
        own = share_of(data.train, worker=worker, workers=workers).examples
        seen = numbers(training_rows(input_options(data, worker=worker, workers=workers), 2 * own))
        epochs[0] += seen[:own]
        epochs[1] += seen[own:]
    assert sorted(epochs[0]) == sorted(epochs[1]) == list(range(sum(sizes)))


def test_a_worker_without_an_example_is_an_error_before_training(tmp_path: Path) -> None:
    data = make_data(tmp_path, [1, 1], kind=EMBEDDINGS)
    with pytest.raises(OptionError, match="3 workers cannot share 2 training examples"):
        training_batches(input_options(data, workers=3))


@pytest.mark.parametrize(
    ("sizes", "workers", "replicas", "steps"),
    [((7, 1, 5), 1, 1, 4), ((8,), 2, 1, 1), ((1,), 3, 2, 1), ((3,) * 8, 2, 2, 2), ((), 1, 1, 0)],
)
def test_evaluation_has_each_example_once(
    tmp_path: Path, sizes: tuple[int, ...], workers: int, replicas: int, steps: int
) -> None:
    data = make_data(tmp_path, sizes, kind=EMBEDDINGS)
    seen = []
    for worker in range(workers):
        options = input_options(data, worker=worker, workers=workers, replicas=replicas)
        assert evaluation_steps(options, VALIDATION) == steps
        rows = list(rows_of(evaluation_batches(options, VALIDATION, steps=steps)))
        assert len(rows) == steps * replicas * options.batch_size
        assert all(row["mask"] == 0 and row["key"] == b"" for row in rows if row["mask"] != 1)
        seen += [row for row in rows if row["mask"] == 1]
    assert sorted(numbers(seen)) == list(range(sum(sizes)))
    assert [int(row["key"]) for row in seen] == numbers(seen)


def test_evaluation_is_the_same_each_time_and_not_augmented(images: TrainingData) -> None:
    options = input_options(images, augmentation="strong", seed=1)
    rows = list(rows_of(evaluation_batches(options, TRAIN, steps=5)))
    assert_same(rows, list(rows_of(evaluation_batches(input_options(images, seed=2), TRAIN, steps=5))))
    for row in rows[:18]:
        encoded = jpeg(int(row["key"]), width=12, height=10)
        np.testing.assert_array_equal(row["inputs"], decode_and_resize(encoded, 8))
    assert not np.any([row["inputs"] for row in rows[18:]])
    with pytest.raises(OptionError, match="unknown split 'test'"):
        evaluation_steps(options, "test")


def test_the_place_decides_how_a_picture_is_augmented(tmp_path: Path) -> None:
    same = example(1, kind=IMAGES, inputs=jpeg(1, width=60, height=80))
    data = data_of(write_files(tmp_path, [[same] * 4]), kind=IMAGES)
    rows = [
        training_rows(input_options(data, augmentation="light", worker=worker, workers=2), 4) for worker in range(2)
    ]
    pictures = [row["inputs"] for row in itertools.chain(*rows)]
    assert all(not np.array_equal(one, other) for one, other in itertools.combinations(pictures, 2))


def test_packed_files_are_read_and_examples_may_lack_names(tmp_path: Path) -> None:
    contents = [example(number, kind=EMBEDDINGS) for number in range(6)]
    files = write_files(tmp_path, [contents[:4], contents[4:]], compression="GZIP")
    data = data_of(files, layout=Layout(inputs="inputs", label=Feature.LABEL, key=""))
    rows = list(rows_of(evaluation_batches(input_options(data, batch_size=3), VALIDATION, steps=2)))
    assert sorted(numbers(rows)) == list(range(6))
    assert {row["key"] for row in rows} == {b""}


def save_transform(path: Path) -> str:
    """Saves a graph as TensorFlow Transform does: `transform_fn` of named features, twice the embedding."""
    module = tf.Module()
    module.transform_fn = tf.function(
        lambda features: {EMBEDDING: 2.0 * features[EMBEDDING], "other": features[EMBEDDING]},
        input_signature=[{EMBEDDING: tf.TensorSpec([None, WIDTH], tf.float32, name=EMBEDDING)}],
    )
    tf.saved_model.save(module, str(path))
    return str(path)


def test_embeddings_are_normalised_by_the_graph_of_the_data_set(tmp_path: Path, embeddings: TrainingData) -> None:
    transform = save_transform(tmp_path / "transform_fn")
    data = data_of(embeddings.train, transform=transform)
    rows = list(rows_of(evaluation_batches(input_options(data), VALIDATION, steps=5)))[:18]
    assert sorted(numbers(rows)) == [2 * number for number in range(18)]
    assert sorted(numbers(training_rows(input_options(data), 18))) == [2 * number for number in range(18)]
    assert load_transform(transform)(tf.ones([2, WIDTH])).numpy().tolist() == [[2.0] * WIDTH] * 2
    assert load_transform("")(tf.ones([1, WIDTH])).numpy().tolist() == [[1.0] * WIDTH]


def holding(kind: str, **changed: Any) -> bytes:
    return frame(example(8, kind=kind, **changed))


@pytest.mark.parametrize(
    ("kind", "content", "message"),
    [
        (EMBEDDINGS, frame(b"?" * 40)[:-30], "damaged"),
        (EMBEDDINGS, b"a page, and not a file of records", "damaged"),
        (EMBEDDINGS, frame(b"not an example"), "no tf.train.Example"),
        (IMAGES, holding(IMAGES, inputs=jpeg(8)[:900]), "cannot be decoded"),
        (IMAGES, holding(IMAGES, **{Feature.LABEL: 3}), "label 3 is none of the 3 classes: 8"),
        (EMBEDDINGS, holding(EMBEDDINGS, **{Feature.LABEL: -1}), "label -1 is none of the 3 classes: 8"),
        (EMBEDDINGS, holding(EMBEDDINGS, inputs=[0.5]), "feature inputs is of another type or length"),
        (EMBEDDINGS, frame(encode_example({"inputs": [0.5] * WIDTH})), f"no feature {Feature.LABEL}"),
    ],
    ids=["cut", "page", "no_example", "cut_picture", "high_label", "low_label", "width", "no_label"],
)
def test_a_bad_record_is_told_in_one_line_with_its_file(
    tmp_path: Path, kind: str, content: bytes, message: str
) -> None:
    files = write_files(tmp_path, [[example(0, kind=kind)], [example(1, kind=kind)] * 2])
    Path(files.paths[1]).write_bytes(frame(example(1, kind=kind)) + content)
    data = data_of(files, kind=kind)
    error = failure(data)
    assert message in explain_input_error(error)
    assert '"' not in explain_input_error(error)
    assert explain_input_error(error, data) == f"record 1 of {files.paths[1]}: {explain_input_error(error)}"
    assert "\n" not in explain_input_error(error)


@pytest.mark.parametrize("change", [lambda content: b"", lambda content: 2 * content])
def test_files_that_changed_since_they_were_counted_are_told(tmp_path: Path, change: Callable[[bytes], bytes]) -> None:
    data = make_data(tmp_path, [1, 1], kind=EMBEDDINGS)
    path = Path(data.train.paths[0])
    path.write_bytes(change(path.read_bytes()))
    assert explain_input_error(failure(data), data).startswith("the files do not hold the 2 examples")


def failure(data: TrainingData) -> tf.errors.OpError:
    """Returns what is raised by a training step, as the loop has it."""
    step = tf.function(lambda iterator: next(iterator)["inputs"])
    iterator = iter(training_batches(input_options(data, batch_size=1)))
    try:
        for _ in range(data.train.total + 1):
            step(iterator)
    except tf.errors.OpError as error:
        return error
    return pytest.fail("every step went well")


def test_other_errors_are_told_without_names_of_nodes() -> None:
    error = tf.errors.NotFoundError(
        None, None, "{{function_node f}} gs://b/x; No such object [Op:IteratorGetNext] name: "
    )
    assert explain_input_error(error) == "gs://b/x; No such object"
