import dataclasses
import gzip
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from beam_pipelines import files
from beam_pipelines.errors import OptionError, RunError
from beam_pipelines.tfrecords import encode_example, frame
from tests.beam_pipelines.builders import BUCKET, object_store
from trainer.data_files import Layout, TrainingData, read_foreign_labels, read_training_data
from trainer.options import resolve

LABELS = ("Japan", "Rome", "Peru")
IMAGES = Layout(inputs="image/encoded", label="image/class/label", key="image/key")
SLIM = dataclasses.replace(IMAGES, key="")
WORKSHOP = Layout(inputs="embedding", label="label", key="image_uri")


def ours(label: int | list[int], *, key: bytes = b"k") -> bytes:
    return encode_example({"image/encoded": b"jpeg", "image/class/label": label, "image/key": key})


def slim(label: int) -> bytes:
    return encode_example({"image/encoded": b"jpeg", "image/format": b"jpg", "image/class/label": label})


def workshop(label: int, *, width: int = 4) -> bytes:
    return encode_example({"image_uri": b"gs://b/1.jpg", "label": label, "embedding": [0.5] * width})


def framed(examples: Sequence[bytes]) -> bytes:
    return b"".join(map(frame, examples))


def write_shard(directory: Path, name: str, examples: int) -> dict[str, Any]:
    (directory / name).write_bytes(framed([ours(0)] * examples))
    return {"name": name, "examples": examples, "sha256": f"hash of {name} {examples}"}


def write_data_set(
    directory: Path,
    *,
    train: Sequence[int] = (3, 0, 2),
    validation: Sequence[int] = (4,),
    counts: Mapping[str, int] | None = None,
    labels: Sequence[str] = LABELS,
    **more: Any,
) -> str:
    """Writes a finished data set whose shards have so many examples."""
    directory.mkdir(parents=True, exist_ok=True)
    splits = {}
    for split, sizes in (("train", train), ("validation", validation)):
        shards = [
            write_shard(directory, f"{split}-{index:05d}-of-{len(sizes):05d}.tfrecord", size)
            for index, size in enumerate(sizes)
        ]
        of_class = dict.fromkeys(labels, 1) if counts is None else counts
        splits[split] = {"examples": sum(sizes), "labels": dict(of_class), "shards": shards}
    info = {"options": {}, "labels": dict.fromkeys(labels, 2), "splits": splits, **more}
    (directory / "dataset_info.json").write_text(json.dumps(info))
    (directory / "labels.txt").write_text("".join(f"{label}\n" for label in labels))
    (directory / "COMPLETED").write_text("x\n")
    return str(directory)


def read(dataset: str, **given: Any) -> TrainingData:
    return read_training_data(resolve({"dataset": dataset, **given}))


def refused(dataset: str, **given: Any) -> str:
    with pytest.raises(OptionError) as caught:
        read(dataset, **given)
    return str(caught.value)


def test_a_data_set_of_pictures(tmp_path: Path) -> None:
    data = read(write_data_set(tmp_path, counts={"Rome": 4, "Japan": 1, "Peru": 7}))
    assert data.kind == "images"
    assert data.layout == IMAGES
    shards = ("train-00000-of-00003.tfrecord", "train-00002-of-00003.tfrecord")
    assert data.train.paths == tuple(f"{tmp_path}/{name}" for name in shards)
    assert (data.train.examples, data.train.total, data.train.compression) == ((3, 2), 5, "")
    assert (data.validation.paths, data.validation.total) == ((f"{tmp_path}/validation-00000-of-00001.tfrecord",), 4)
    assert (data.labels, data.class_counts, data.multi_label) == (LABELS, (1, 4, 7), False)
    assert (data.width, data.transform, data.directory) == (0, "", str(tmp_path))


def test_a_data_set_of_embeddings(tmp_path: Path) -> None:
    directory = write_data_set(tmp_path, backbone={"name": "resnet50", "width": 2048}, dataset={"options": {}})
    data = read(directory, model="head")
    assert (data.kind, data.width, data.transform) == ("embeddings", 2048, f"{tmp_path}/transform_fn")
    assert data.layout == Layout(inputs="embedding", label="image/class/label", key="image/key")
    assert not data.multi_label


@pytest.mark.parametrize(
    "recorded", [{"options": {"multi_label": True}}, {"dataset": {"options": {"multi_label": True}}}]
)
def test_several_labels(tmp_path: Path, recorded: dict[str, Any]) -> None:
    directory = write_data_set(tmp_path, **recorded)
    assert read(directory).multi_label
    assert refused(directory, class_weight="balanced") == (
        f"--class_weight balanced weighs examples by their one label, and those of {directory} may have several: "
        "leave it out"
    )


def test_the_fingerprint_is_of_examples_and_labels_and_not_of_the_place(tmp_path: Path) -> None:
    first = read(write_data_set(tmp_path / "a")).fingerprint
    assert read(write_data_set(tmp_path / "b")).fingerprint == first
    others = [
        read(write_data_set(tmp_path / "c", train=(3, 0, 1))).fingerprint,
        read(write_data_set(tmp_path / "d", validation=(5,))).fingerprint,
        read(write_data_set(tmp_path / "e", labels=("Japan", "Peru", "Rome"))).fingerprint,
    ]
    assert len({first, *others}) == 4


def test_a_data_set_that_is_not_finished(tmp_path: Path) -> None:
    directory = write_data_set(tmp_path)
    (tmp_path / "COMPLETED").unlink()
    assert refused(directory) == (
        f"--dataset {directory} is no data set, it has no file COMPLETED: give ingest's --output"
    )
    (tmp_path / ".plan").mkdir()
    (tmp_path / ".plan" / "plan.json").write_text("{}")
    assert refused(directory) == (
        f"--dataset {directory} is not finished, it has no file COMPLETED: give the command that began it, ingest or "
        "embed, once more"
    )


@pytest.mark.parametrize("content", [None, "", "[]", "{}", '{"splits": {}}'])
def test_a_directory_that_is_something_else(tmp_path: Path, content: str | None) -> None:
    directory = write_data_set(tmp_path)
    (tmp_path / "dataset_info.json").unlink()
    if content is not None:
        (tmp_path / "dataset_info.json").write_text(content)
    assert refused(directory).startswith(f"--dataset {directory} has no dataset_info.json as ingest and embed")


def test_labels_that_were_changed(tmp_path: Path) -> None:
    directory = write_data_set(tmp_path)
    (tmp_path / "labels.txt").write_text("Japan\nPeru\nRome\n")
    assert refused(directory) == (
        f"labels.txt of --dataset {directory} was changed: it does not have the classes of dataset_info.json"
    )
    (tmp_path / "labels.txt").unlink()
    assert refused(directory) == f"--dataset {directory} lacks labels.txt: copy the whole directory"


def test_a_shard_that_is_missing(tmp_path: Path) -> None:
    directory = write_data_set(tmp_path)
    (tmp_path / "train-00001-of-00003.tfrecord").unlink()
    assert read(directory).train.total == 5
    (tmp_path / "train-00002-of-00003.tfrecord").unlink()
    assert refused(directory) == (
        f"--dataset {directory} lacks train-00002-of-00003.tfrecord: copy the whole directory, or make it anew"
    )


def test_a_model_of_the_other_kind(tmp_path: Path) -> None:
    pictures = write_data_set(tmp_path / "pictures")
    assert refused(pictures, model="head").startswith(
        f"--model head takes embeddings, and {pictures} has pictures: give"
    )
    embeddings = write_data_set(tmp_path / "embeddings", backbone={"width": 3})
    for model in ("small_cnn", "resnet50"):
        assert refused(embeddings, model=model) == (
            f"--model {model} takes pictures, and {embeddings} has embeddings: give --model head, or the data set of "
            "pictures"
        )


def test_nothing_to_train_on(tmp_path: Path) -> None:
    directory = write_data_set(tmp_path, train=(0,))
    assert refused(directory) == f"{directory} has no training examples: give another data set"


def test_nothing_to_validate_on(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    directory = write_data_set(tmp_path, validation=())
    assert read(directory).validation.total == 0
    assert caplog.messages == [f"{directory} has no examples to validate on: nothing can be monitored"]
    assert refused(directory, early_stopping_patience=3) == (
        f"--early_stopping_patience 3 needs a metric of validation, and {directory} has no examples to validate on: "
        "leave it out"
    )


def test_classes_without_training_pictures_are_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    read(write_data_set(tmp_path / "all"))
    assert caplog.messages == []
    read(write_data_set(tmp_path / "some", counts={"Rome": 3}))
    begin = "there is nothing to learn these classes from, they have no training examples: "
    assert caplog.messages == [f"{begin}'Japan', 'Peru'"]
    assert caplog.records[0].levelno == logging.WARNING
    names = [f"c{number}" for number in range(13)]
    read(write_data_set(tmp_path / "many", labels=names, counts={"c0": 3}))
    assert caplog.messages[1] == f"{begin}{', '.join(map(repr, names[1:11]))} and 2 more"


def foreign(directory: Path, *, eval_data_paths: Sequence[object] = (), **given: Any) -> TrainingData:
    """Reads all `.rec*` files of a folder as foreign TFRecords of three labels."""
    (directory / "labels").write_text("".join(f"{label}\n" for label in LABELS))
    paths = given.pop("train_data_paths", [directory / "*.rec*"])
    values = {
        "train_data_paths": tuple(map(str, paths)),
        "eval_data_paths": tuple(map(str, eval_data_paths)),
        "labels_file": str(directory / "labels"),
        **given,
    }
    return read_training_data(resolve(values))


def refused_foreign(directory: Path, **given: Any) -> str:
    with pytest.raises(OptionError) as caught:
        foreign(directory, **given)
    return str(caught.value)


@pytest.mark.parametrize(
    ("make", "layout", "model", "width"),
    [(ours, IMAGES, "small_cnn", 0), (slim, SLIM, "small_cnn", 0), (workshop, WORKSHOP, "head", 4)],
)
@pytest.mark.parametrize("packed", [False, True])
def test_foreign_files(
    tmp_path: Path, make: Callable[[int], bytes], layout: Layout, model: str, width: int, packed: bool
) -> None:
    pack, end = (gzip.compress, ".gz") if packed else (bytes, "")
    for name, size in (("b.rec", 3), ("a.rec", 25), ("empty.rec", 0), ("eval", 2)):
        (tmp_path / f"{name}{end}").write_bytes(pack(framed([make(number % 3) for number in range(size)])))
    data = foreign(tmp_path, eval_data_paths=[tmp_path / f"eval{end}"], model=model)
    assert (data.layout, data.width, data.labels) == (layout, width, LABELS)
    assert data.kind == ("embeddings" if width else "images")
    assert data.train.paths == (f"{tmp_path}/a.rec{end}", f"{tmp_path}/b.rec{end}")
    assert (data.train.examples, data.validation.examples) == ((25, 3), (2,))
    assert data.train.compression == data.validation.compression == ("GZIP" if packed else "")
    assert (data.class_counts, data.directory, data.transform, data.multi_label) == ((), "", "", False)


def test_classes_of_foreign_files_are_counted_to_balance_them(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "a.rec").write_bytes(framed([slim(0)] * 30 + [slim(2)]))
    (tmp_path / "eval").write_bytes(framed([slim(1)]))
    data = foreign(tmp_path, eval_data_paths=[tmp_path / "eval"], class_weight="balanced")
    assert data.class_counts == (30, 0, 1)
    assert [message.rpartition(": ")[2] for message in caplog.messages] == ["'Rome'"]


def test_patterns_in_their_order_and_no_file_twice(tmp_path: Path) -> None:
    for name in ("b.rec", "a.rec", "c[1].rec", "deep/er/d.rec"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(framed([slim(0)]))
    paths = [tmp_path / "b.rec", tmp_path / "?.rec", tmp_path / "c[1].rec", tmp_path / "**" / "d.rec"]
    data = foreign(tmp_path, train_data_paths=paths)
    assert data.train.paths == tuple(f"{tmp_path}/{name}" for name in ("b.rec", "a.rec", "c[1].rec", "deep/er/d.rec"))


def test_patterns_in_an_object_store(tmp_path: Path) -> None:
    with object_store():
        for name in ("b.rec", "a.rec", "sub/c.rec", "labels"):
            content = b"Japan\nRome\nPeru\n" if name == "labels" else framed([slim(0)] * 3)
            files.write_bytes(f"{BUCKET}/data/{name}", content)
        data = foreign(
            tmp_path,
            train_data_paths=[f"{BUCKET}/data/*.rec"],
            eval_data_paths=[f"{BUCKET}/data/sub/c.rec"],
            labels_file=f"{BUCKET}/data/labels",
        )
        assert data.train.paths == (f"{BUCKET}/data/a.rec", f"{BUCKET}/data/b.rec")
        assert data.train.examples == (3, 3)
        assert data.validation.paths == (f"{BUCKET}/data/sub/c.rec",)
        message = refused_foreign(tmp_path, train_data_paths=[f"{BUCKET}/data/*.gz"])
        assert message == f"--train_data_paths {BUCKET}/data/*.gz: there is no such file"


def test_a_pattern_that_names_nothing(tmp_path: Path) -> None:
    (tmp_path / "a.rec").write_bytes(framed([slim(0)]))
    (tmp_path / "folder").mkdir()
    for path in ("nothing", "no*thing", "folder", "f*"):
        message = refused_foreign(tmp_path, eval_data_paths=[tmp_path / path])
        assert message == f"--eval_data_paths {tmp_path}/{path}: there is no such file"


def test_a_file_to_train_and_to_validate_on(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "a.rec").write_bytes(framed([slim(0)]))
    foreign(tmp_path, eval_data_paths=[tmp_path / "a.rec"])
    assert caplog.messages == [
        f"{tmp_path}/a.rec is there to train on and to validate on: the metrics of validation mean little"
    ]


def test_foreign_files_without_examples(tmp_path: Path) -> None:
    (tmp_path / "a.rec").write_bytes(b"")
    assert refused_foreign(tmp_path) == (f"--train_data_paths {tmp_path}/*.rec* has no examples: give other files")
    (tmp_path / "eval").write_bytes(framed([slim(0)]))
    message = refused_foreign(tmp_path, eval_data_paths=[tmp_path / "eval"])
    assert message == "--train_data_paths has no training examples: give another data set"


@pytest.mark.parametrize(
    ("example", "described"),
    [
        ({}, "none at all"),
        ({"image": b"jpeg", "label": 3}, "image (1 bytes), label (1 int64)"),
        ({"embedding": [1.0, 2.0]}, "embedding (2 float)"),
        ({"embedding": [1, 2], "label": 0}, "embedding (2 int64), label (1 int64)"),
        ({"image/encoded": [0.5], "image/class/label": 0}, "image/class/label (1 int64), image/encoded (1 float)"),
        ({"image/encoded": b"jpeg", "image/class/text": b"x"}, "image/class/text (1 bytes), image/encoded (1 bytes)"),
    ],
)
def test_features_that_are_not_known(tmp_path: Path, example: dict[str, Any], described: str) -> None:
    (tmp_path / "a.rec").write_bytes(framed([encode_example(example)]))
    assert refused_foreign(tmp_path) == (
        f"{tmp_path}/a.rec: record 0 has these features: {described}; to train it needs image/encoded (bytes) and "
        "image/class/label, or embedding (float) and label"
    )


def test_features_that_change(tmp_path: Path) -> None:
    (tmp_path / "a.rec").write_bytes(framed([slim(0), workshop(0)]))
    assert refused_foreign(tmp_path) == f"{tmp_path}/a.rec: record 1 has other features than those before it"
    (tmp_path / "a.rec").write_bytes(framed([workshop(0), workshop(0, width=5)]))
    assert refused_foreign(tmp_path) == f"{tmp_path}/a.rec: record 1 has other features than those before it"


def test_files_that_are_not_alike(tmp_path: Path) -> None:
    (tmp_path / "a.rec").write_bytes(framed([workshop(0)]))
    (tmp_path / "eval").write_bytes(framed([workshop(0, width=5)]))
    assert refused_foreign(tmp_path, eval_data_paths=[tmp_path / "eval"], model="head") == (
        f"{tmp_path}/eval has embedding, label, image_uri of width 5, and {tmp_path}/a.rec has embedding, label, "
        "image_uri of width 4: give files of one kind"
    )
    (tmp_path / "eval").write_bytes(framed([slim(0)]))
    message = refused_foreign(tmp_path, eval_data_paths=[tmp_path / "eval"], model="head")
    assert message.startswith(f"{tmp_path}/eval has image/encoded, image/class/label, and {tmp_path}/a.rec has")


@pytest.mark.parametrize("label", [-1, 3])
@pytest.mark.parametrize("make", [slim, workshop])
def test_a_label_that_is_not_listed(tmp_path: Path, make: Callable[[int], bytes], label: int) -> None:
    (tmp_path / "a.rec").write_bytes(framed([make(2), make(label)]))
    assert refused_foreign(tmp_path).startswith(
        f"{tmp_path}/a.rec: record 1 has the class id {label}, and --labels_file has 3 labels, ids 0 to 2: give the "
        "labels that these files were made with (where ids begin at 1"
    )


def test_a_label_is_one_class_id(tmp_path: Path) -> None:
    for label, described in (([0, 1], "2 int64"), ([], "empty")):
        (tmp_path / "a.rec").write_bytes(framed([ours(label)]))
        message = refused_foreign(tmp_path)
        assert message == f"{tmp_path}/a.rec: record 0 has {described} as its image/class/label, not one class id"


def test_packed_files_and_others(tmp_path: Path) -> None:
    (tmp_path / "a.rec").write_bytes(framed([slim(0)]))
    (tmp_path / "b.rec.gz").write_bytes(gzip.compress(framed([slim(0)])))
    assert (
        refused_foreign(tmp_path) == "--train_data_paths has files that end in .gz and others: give files of one kind"
    )


WHOLE = framed([slim(0), slim(1), slim(2)])
ONE = len(framed([slim(0)]))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.rec", WHOLE[:-1], "record 2: the file ends within its bytes"),
        ("a.rec", WHOLE[: 2 * ONE + 11], "record 2: the file ends within its header"),
        ("a.rec", WHOLE[:ONE] + b"x" + WHOLE[ONE + 1 :], "record 1: wrong checksum of its length"),
        ("a.rec", WHOLE[: ONE + 20] + b"x" + WHOLE[ONE + 21 :], "record 1: wrong checksum of its bytes"),
        ("a.rec", frame(b"no example"), "a record is no tf.train.Example"),
        (
            "a.rec",
            gzip.compress(WHOLE),
            "record 0: wrong checksum of its length (it is packed by gzip: let its name end in .gz)",
        ),
        ("a.rec.gz", WHOLE, "Not a gzipped file (b'R\\x00') (its name ends in .gz, and it is not packed)"),
        ("a.rec.gz", gzip.compress(WHOLE[:-1]), "record 2: the file ends within its bytes"),
        ("a.rec.gz", gzip.compress(WHOLE)[:-9], "Compressed file ended before the end-of-stream marker was reached"),
    ],
)
def test_a_damaged_file(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(RunError) as caught:
        foreign(tmp_path)
    assert str(caught.value) == f"{tmp_path}/{name} is damaged: {message}"


def test_the_fingerprint_of_foreign_files_is_not_of_their_place(tmp_path: Path) -> None:
    found = []
    for folder, examples in (("a", 3), ("b", 3), ("c", 4)):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "x.rec").write_bytes(framed([slim(0)] * examples))
        found.append(foreign(tmp_path / folder).fingerprint)
    assert found[0] == found[1] != found[2]


def test_labels_of_foreign_files(tmp_path: Path) -> None:
    path = tmp_path / "labels"
    for content, labels in (
        ("daisy\r\n rose \n\n", ("daisy", "rose")),
        ("0:crane\n1:rose: red\n2:crane\n", ("crane", "rose: red", "crane")),
        ("0:crane\n2:rose\n", ("0:crane", "2:rose")),
    ):
        path.write_text(content, newline="")
        assert read_foreign_labels(str(path)) == labels
    with pytest.raises(OptionError, match=r"cannot read --labels_file .*nothing: there is no such file"):
        read_foreign_labels(str(tmp_path / "nothing"))
