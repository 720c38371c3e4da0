import dataclasses
import gzip
from pathlib import Path

import pytest

from beam_pipelines import files
from beam_pipelines.errors import OptionError
from beam_pipelines.fetch.fetcher import Fetcher, FetchLimits
from beam_pipelines.rejects import Reason
from beam_pipelines.sources import SourceOptions, make_source
from beam_pipelines.sources.idx import Pair, ReadIdx, check_pair, find_pairs, read_pair
from tests.beam_pipelines.builders import BUCKET, artwork, object_store, outcome, run_rows
from tests.beam_pipelines.idx_writer import draw_pictures, idx_labels, idx_pictures, write_pair


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def both(stem: str, ending: str = "-ubyte.gz") -> tuple[str, str]:
    return f"{stem}images-idx3{ending}", f"{stem}labels-idx1{ending}"


def splits(folder: Path, *stems: str) -> dict[str, str]:
    """Returns the split of each stem."""
    for stem in stems:
        touch(folder, *both(stem))
    pairs = find_pairs(SourceOptions(input=str(folder)))
    return {Path(pair.images).name.removesuffix("images-idx3-ubyte.gz"): pair.split for pair in pairs}


def write_names(folder: Path, *names: str) -> str:
    path = folder / "names.txt"
    path.write_text("".join(f"{name}\n" for name in names))
    return str(path)


def check(path: Path, **options: str) -> None:
    ReadIdx(SourceOptions(input=str(path), **options)).check()  # type: ignore[arg-type]


def test_the_stem_says_the_split(tmp_path: Path) -> None:
    train = dict.fromkeys(("train-", "", "emnist-latest-", "contest-", "k49-train-"), "train")
    validation = dict.fromkeys(("t10k-", "T10K-b-", "test-", "emnist-letters-test-", "validation-"), "validation")
    assert splits(tmp_path, *train, *validation) == train | validation


def test_a_given_split_wins(tmp_path: Path) -> None:
    touch(tmp_path, *both("t10k-"))
    (pair,) = find_pairs(SourceOptions(input=str(tmp_path), split="train"))
    assert (pair.split, pair.key) == ("train", "train")


@pytest.mark.parametrize("ending", ["-ubyte", "-ubyte.gz"])
@pytest.mark.parametrize("mark", ["-", "."])
def test_every_way_to_name_the_files(ending: str, mark: str, tmp_path: Path) -> None:
    images, labels = f"train-images{mark}idx3{ending}", f"train-labels{mark}idx1{ending}"
    touch(tmp_path, images, labels, "train-images.png", "readme.txt", "train-images-idx3-ubyte.zip")
    assert find_pairs(SourceOptions(input=f"{tmp_path}/")) == [
        Pair(images=f"{tmp_path}/{images}", labels=f"{tmp_path}/{labels}", split="train", key="train")
    ]


def test_files_both_packed_and_unpacked_are_one_pair_and_folders_are_none(tmp_path: Path) -> None:
    touch(tmp_path, *both("train-"), *both("train-", "-ubyte"), "t10k-images-idx3-ubyte/t10k-images-idx3-ubyte")
    (pair,) = find_pairs(SourceOptions(input=str(tmp_path)))
    assert (Path(pair.images).name, Path(pair.labels).name) == both("train-", "-ubyte")


def test_one_file_of_a_pair_may_be_packed(tmp_path: Path) -> None:
    touch(tmp_path, "train-images-idx3-ubyte.gz", "train-labels.idx1-ubyte")
    (pair,) = find_pairs(SourceOptions(input=str(tmp_path)))
    assert Path(pair.labels).name == "train-labels.idx1-ubyte"


def test_keys_tell_several_pairs_of_a_split_apart(tmp_path: Path) -> None:
    touch(tmp_path, *both("a/train-"), *both("b/train-"), *both("b/train-more-"), *both("b/t10k-"))
    pairs = find_pairs(SourceOptions(input=f"{tmp_path}/*/*"))
    assert [pair.key for pair in pairs] == ["train/a/train", "train/b/train", "train/b/train-more", "validation"]
    assert [pair.key for pair in find_pairs(SourceOptions(input=f"{tmp_path}/b"))] == [
        "train/train",
        "train/train-more",
        "validation",
    ]


def test_a_file_without_its_partner(tmp_path: Path) -> None:
    touch(tmp_path, *both("train-"), both("t10k-")[1])
    expected = r"/t10k-labels-idx1-ubyte\.gz lacks its partner: put t10k-images-idx3-ubyte\.gz beside it"
    with pytest.raises(OptionError, match=expected):
        check(tmp_path)


def test_no_file_at_all(tmp_path: Path) -> None:
    touch(tmp_path, "train-images.png")
    with pytest.raises(OptionError, match=r"has no pair of idx files: give a folder or a pattern .*train-labels"):
        check(tmp_path)
    with pytest.raises(OptionError, match=r"cannot read .*/no: there is no such file"):
        check(tmp_path / "no")


@pytest.mark.parametrize(
    ("spoil", "problem"),
    [
        (lambda images, labels: (labels, labels), r"cannot use .*train-images.*no idx file of pictures"),
        (lambda images, labels: (images, images), r"cannot use .*train-labels.*no idx file of labels"),
        (lambda images, labels: (images[:-1], labels), r"train-images.*: fewer than the 1568 bytes .*: get the file"),
        (lambda images, labels: (images + b"0", labels), r"train-images.*: more than the 1568 bytes"),
        (lambda images, labels: (images, labels[:-1]), r"train-labels.*: fewer than the 2 bytes"),
        (lambda images, labels: (images, labels[:5]), r"train-labels.*: the file breaks off in its header"),
        (lambda images, labels: (images, idx_labels([1])), r"has 2 pictures, but .*train-labels.* has 1 labels: give"),
        (lambda images, labels: (gzip.compress(images)[:-9], labels), r"train-images.*: compressed data is broken"),
    ],
)
def test_files_that_are_not_whole(spoil: object, problem: str, tmp_path: Path) -> None:
    content = idx_pictures(draw_pictures(2)), idx_labels([0, 1])
    for name, data in zip(both("train-"), spoil(*content), strict=True):  # type: ignore[operator]
        (tmp_path / name).write_bytes(data)
    with pytest.raises(OptionError, match=problem):
        check(tmp_path)
    for name, data in zip(both("train-"), content, strict=True):
        (tmp_path / name).write_bytes(data)
    check(tmp_path)


def test_names_come_in_the_order_of_the_labels_file(tmp_path: Path) -> None:
    write_pair(tmp_path, "train", draw_pictures(3), [2, 0, 1])
    source = ReadIdx(SourceOptions(input=str(tmp_path), labels_file=write_names(tmp_path, "Shirt", "Bag", "Coat")))
    source.check()
    assert source.class_names() == ("Shirt", "Bag", "Coat")


def test_without_a_labels_file_the_numbers_are_names_up_to_the_largest_in_any_pair(tmp_path: Path) -> None:
    write_pair(tmp_path, "train", draw_pictures(2), [0, 2])
    write_pair(tmp_path, "t10k", draw_pictures(1), [11])
    options = SourceOptions(input=str(tmp_path))
    assert ReadIdx(options).class_names() == tuple(map(str, range(12)))
    assert ReadIdx(dataclasses.replace(options, bin=5)).class_names() == ()


def test_a_label_beyond_the_names(tmp_path: Path) -> None:
    write_pair(tmp_path, "train", draw_pictures(1), [2])
    with pytest.raises(OptionError, match=r"has the label 2, but --labels_file .* has 2 names, of the labels 0 to 1"):
        check(tmp_path, labels_file=write_names(tmp_path, "Shirt", "Bag"))
    check(tmp_path, labels_file=write_names(tmp_path, "Shirt", "Bag", "Coat"))


def test_only_the_label_can_be_the_attribute(tmp_path: Path) -> None:
    write_pair(tmp_path, "train", draw_pictures(1), [0])
    with pytest.raises(OptionError, match=r"unknown attribute 'colour'.*choose one of label"):
        check(tmp_path, attribute="colour")


def test_pictures_must_lie_where_they_can_be_fetched() -> None:
    images, labels = both("hdfs://store/train-")
    with pytest.raises(OptionError, match=r"cannot be fetched from hdfs://store/train-images.*: put it on a disk or"):
        check_pair(Pair(images=images, labels=labels, split="train", key="train"))


def test_rows_carry_every_attribute_if_asked(tmp_path: Path) -> None:
    write_pair(tmp_path, "train", draw_pictures(1), [1])
    options = SourceOptions(input=str(tmp_path), attribute="colour", all_attributes=True)
    ReadIdx(options).check()
    (row,) = read_pair(*find_pairs(options), names=("Shirt", "Bag"), options=options)
    assert row == artwork(
        "train/0",
        uri=f"idx:{tmp_path}/train-images-idx3-ubyte.gz#0",
        labels=["Bag"],
        split="train",
        attributes={"label": "Bag"},
    )


def test_labels_are_put_in_bins_and_filtered(tmp_path: Path) -> None:
    write_pair(tmp_path, "train", draw_pictures(4), [0, 4, 5, 9])
    options = SourceOptions(input=str(tmp_path), bin=5, filter=("label=4", "label=9"))
    kept, dropped = outcome(list(read_pair(*find_pairs(options), names=(), options=options)))
    assert [(row.key, row.labels) for row in kept] == [("train/1", ("0 to 4",)), ("train/3", ("5 to 9",))]
    assert [(row.key, row.reason) for row in dropped] == [
        ("train/0", Reason.NOT_MATCHING),
        ("train/2", Reason.NOT_MATCHING),
    ]


def test_a_folder_as_a_source_whose_addresses_can_be_fetched(tmp_path: Path) -> None:
    pictures = draw_pictures(3)
    images = write_pair(tmp_path, "train", pictures[:2], [1, 0])
    write_pair(tmp_path, "t10k", pictures[2:], [1])
    names = write_names(tmp_path, "Shirt", "Bag")
    source = make_source("idx", SourceOptions(input=str(tmp_path), labels_file=names))
    source.check()
    kept, dropped = run_rows(source, tmp_path / "run")
    assert kept == [
        artwork("train/0", uri=f"idx:{images}#0", labels=["Bag"], split="train"),
        artwork("train/1", uri=f"idx:{images}#1", labels=["Shirt"], split="train"),
        artwork("validation/0", uri=f"idx:{tmp_path}/t10k-images-idx3-ubyte.gz#0", labels=["Bag"], split="validation"),
    ]
    assert dropped == []
    with Fetcher(FetchLimits()) as fetcher:
        assert len({fetcher.fetch(row.image_uri) for row in kept}) == 3


def test_a_folder_in_an_object_store(tmp_path: Path) -> None:
    with object_store():
        pictures = draw_pictures(2)
        for name, data in zip(both("train-"), (idx_pictures(pictures), idx_labels([1, 0])), strict=True):
            files.write_bytes(f"{BUCKET}/mnist/{name}", gzip.compress(data))
        for given in (f"{BUCKET}/mnist", f"{BUCKET}/mnist/train-*"):
            source = ReadIdx(SourceOptions(input=given))
            source.check()
            assert source.class_names() == ("0", "1")
            kept, _ = run_rows(source, tmp_path)
            assert [row.image_uri for row in kept] == [
                f"idx:{BUCKET}/mnist/train-images-idx3-ubyte.gz#{number}" for number in range(2)
            ]
        with Fetcher(FetchLimits()) as fetcher:
            assert len({fetcher.fetch(row.image_uri) for row in kept}) == 2
        with pytest.raises(OptionError, match=r"gs://a-bucket/no has no pair"):
            ReadIdx(SourceOptions(input=f"{BUCKET}/no")).check()
