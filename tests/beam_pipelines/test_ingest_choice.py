"""The ingest command on the rows that it is asked for: filters, bins, rows excluded, given splits; MNIST's files."""

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from beam_pipelines.dataset import Feature
from beam_pipelines.verify import verify
from tests.beam_pipelines.idx_writer import draw_pictures, write_pair
from tests.beam_pipelines.ingest_command import (
    QUICK,
    information,
    keys_of,
    read_examples,
    rejected_reasons,
    run_ingest,
)
from tests.hostile_server import CASES, HostileServer

pytestmark = pytest.mark.slow

_NAMES = ["Shirt", "Ankle boot", "T-shirt/top", "Bag"]


class Catalogue:
    """A list of pictures with every column that there is, and what must become of each row.

    Attributes:
        ended: the split that a row is written to, or why it is not; by key.
        labels: of the rows written, by key.
    """

    def __init__(self, server: HostileServer) -> None:
        self.server = server
        self.ended: dict[str, str] = {}
        self.labels: dict[str, str] = {}
        self.rows = [["key", "group", "uri", "split", "medium", "year"]]

    def add(
        self, key: str, ended: str, *, year: str, group: str = "", split: str = "", medium: str = "Silk", uri: str = ""
    ) -> None:
        uri = uri or self.server.url(f"/picture/{len(self.rows)}.jpg?width=60&height=50&choice")
        self.rows.append([key, group, uri, split, medium, year])
        self.ended[key] = ended
        if ended in ("train", "validation"):
            self.labels[key] = f"{year[:2]}00 to {year[:2]}99"

    def write(self, path: Path) -> Path:
        with path.open("w", newline="") as file:
            csv.writer(file).writerows(self.rows)
        return path

    def uri(self, key: str) -> str:
        return next(row[2] for row in self.rows if row[0] == key)


@pytest.fixture(scope="module")
def catalogue() -> Iterator[Catalogue]:
    with HostileServer() as server:
        catalogue = Catalogue(server)
        for number in range(11):
            split, medium, ended = ("test", "WOOD", "validation") if number % 3 == 2 else ("train", " silk ", "train")
            catalogue.add(f"{number}", ended, year=f"{1780 + 20 * number}", split=split, medium=medium)
        # Where the list gives the split, a group on both sides of it is its author's wish.
        catalogue.add("a pair/0", "train", year="1950", group="a pair", split="train")
        catalogue.add("a pair/1", "validation", year="1950", group="a pair", split="test")
        catalogue.add("stone", "not_matching", year="1900", medium="Stone")
        catalogue.add("no medium", "not_matching", year="c. 1900", medium="")
        catalogue.add("by its key", "excluded", year="1900")
        catalogue.add("by its group/0", "excluded", year="1900", group="by its group")
        catalogue.add("by its group/1", "excluded", year="", group="by its group")
        catalogue.add("by its address", "excluded", year="1900")
        catalogue.add("rejected before", "excluded", year="1900")
        catalogue.add("circa", "not_a_number", year="c. 1900")
        catalogue.add("year missing", "no_label", year=" ")
        catalogue.add("bad split", "bad_row", year="1900", split="holdout")
        catalogue.add("gone", "not_found", year="1900", uri=server.url(CASES["not_found"].path))
        yield catalogue


def test_every_row_is_taken_or_left_as_asked(catalogue: Catalogue, tmp_path: Path) -> None:
    exclude = tmp_path / "exclude.txt"
    again = json.dumps({"key": "rejected before", "uri": "u", "reason": "not_found"})
    lines = ["by its key", "  by its group", "", catalogue.uri("by its address"), again, "of no row"]
    exclude.write_text("\ufeff" + "\r\n".join(lines))
    output = tmp_path / "dataset"
    code, printed = run_ingest(
        "--source", "manifest", "--input", catalogue.write(tmp_path / "list.csv"), "--output", output,
        "--attribute", "year", "--bin", 100, "--filter", "medium=Silk", "--filter", "medium=wood",
        "--exclude_file", exclude, "--min_images_per_label", 1, "--allow_private_addresses", *QUICK,
    )  # fmt: skip
    assert code == 0, printed
    info = information(output)
    assert info["read"] == len(catalogue.ended)
    assert info["read"] == info["written"] + sum(info["filtered"].values()) + sum(info["rejected"].values())
    assert info["filtered"] == {"excluded": 5, "not_matching": 2}
    bad_row = f"list.csv:{len(catalogue.rows) - 1}"
    expected = {key: ended for key, ended in catalogue.ended.items() if ended in info["rejected"]}
    assert rejected_reasons(output) == {bad_row if key == "bad split" else key: why for key, why in expected.items()}
    assert len(expected) == 4
    for split in ("train", "validation"):
        assert keys_of(output, split) == {key for key, ended in catalogue.ended.items() if ended == split}
    labels = {example[Feature.KEY][0].decode(): example[Feature.TEXT][0].decode() for example in read_examples(output)}
    assert labels == catalogue.labels
    assert set(info["labels"]) == {"1700 to 1799", "1800 to 1899", "1900 to 1999"}
    assert list(verify(str(output))) == []


def test_an_exclude_file_that_is_not_there_is_told_before_any_work(catalogue: Catalogue, tmp_path: Path) -> None:
    code, printed = run_ingest(
        "--source", "manifest", "--input", catalogue.write(tmp_path / "list.csv"), "--output", tmp_path / "dataset",
        "--attribute", "year", "--exclude_file", tmp_path / "no.txt",
    )  # fmt: skip
    assert code == 2
    assert f"cannot read --exclude_file {tmp_path}/no.txt: there is no such file" in printed.splitlines()[-1]
    assert not (tmp_path / "dataset" / ".plan" / "plan.json").exists()


def test_files_of_mnist_become_a_data_set_whose_classes_are_in_the_order_of_their_names(tmp_path: Path) -> None:
    train, validation = draw_pictures(40, seed=1), draw_pictures(12, seed=2)
    train_labels = [(0, 2, 3)[number % 3] for number in range(40)]
    write_pair(tmp_path / "mnist", "train", train, train_labels)
    write_pair(tmp_path / "mnist", "t10k", validation, [2] * 12)
    (tmp_path / "names.txt").write_text("".join(f"{name}\n" for name in _NAMES))
    output = tmp_path / "dataset"
    code, printed = run_ingest(
        "--source", "idx", "--input", tmp_path / "mnist", "--labels_file", tmp_path / "names.txt", "--output", output,
        "--jpeg_quality", 95, "--direct_num_workers", 2,
    )  # fmt: skip
    assert code == 0, printed
    assert (output / "labels.txt").read_text().splitlines() == _NAMES
    assert information(output)["labels"] == dict(zip(_NAMES, (14, 0, 25, 13), strict=True))
    assert keys_of(output, "train") == {f"train/{number}" for number in range(40)}
    assert keys_of(output, "validation") == {f"validation/{number}" for number in range(12)}
    for example in read_examples(output, "train"):
        number = int(example[Feature.KEY][0].decode().removeprefix("train/"))
        assert example[Feature.LABEL] == [train_labels[number]]
        with Image.open(io.BytesIO(example[Feature.ENCODED][0])) as image:
            nearest = np.abs(train - np.asarray(image.convert("L"), dtype=float)).mean(axis=(1, 2)).argmin()
        assert nearest == number
    assert list(verify(str(output))) == []
