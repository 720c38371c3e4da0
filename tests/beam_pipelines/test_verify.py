import io
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from beam_pipelines import files
from beam_pipelines.dataset import INFO_FILE, Feature, Shard
from beam_pipelines.errors import OptionError
from beam_pipelines.plan_files import PlanFiles
from beam_pipelines.rejects import Reason, RejectedError
from beam_pipelines.shards import read_content
from beam_pipelines.tfrecords import decode_example, encode_example, frame, read_records
from beam_pipelines.verify import main, verify
from tests.beam_pipelines.builders import artwork, planned, write_rows
from tests.beam_pipelines.data_sets import write_data_set

TRAIN, TRAIN_2, VALIDATION = Shard("train", 0, 2), Shard("train", 1, 2), Shard("validation", 0, 1)
ROWS = {
    TRAIN: [artwork("1/0", group="1"), artwork("1/1", group="1", labels=["China"])],
    TRAIN_2: [artwork("2/0", group="2"), artwork("missing")],
    VALIDATION: [artwork("3/0", group="3"), artwork("4/0", group="4", labels=["China"])],
}


def fetch(uri: str) -> bytes:
    """Returns a picture of its own for each address."""
    if "missing" in uri:
        raise RejectedError(Reason.NOT_FOUND)
    image, file = Image.new("RGB", (20, 16), (sum(uri.encode()) % 256, len(uri), 0)), io.BytesIO()
    image.save(file, "JPEG")
    return file.getvalue() + uri.encode()


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = str(tmp_path_factory.mktemp("finished"))
    write_data_set(folder, ROWS, labels=["Japan", "China"], fetch=fetch)
    return folder


@pytest.fixture
def data(finished: str, tmp_path: Path) -> str:
    """A copy of a finished data set, to be damaged."""
    files.copy_tree(finished, str(tmp_path))
    return str(tmp_path)


def edit_info(folder: str, edit: Callable[[dict[str, Any]], object]) -> None:
    path = files.join(folder, INFO_FILE)
    info = files.read_json(path)
    edit(info)
    files.write_json(path, info)


def forge(
    folder: str, shard: Shard, change: Callable[[list[dict[str, Any]]], list[dict[str, Any]]], *, told: bool = True
) -> None:
    """Writes a shard anew with other examples; if `told`, the data set's information knows of it."""
    path = files.join(folder, shard.file_name)
    with files.open_to_read(path) as file:
        examples = [decode_example(record) for record in read_records(file)]
    files.write_bytes(path, b"".join(frame(encode_example(example)) for example in change(examples)))
    content = read_content(PlanFiles(folder), shard)

    def tell(info: Mapping[str, Any]) -> None:
        (entry,) = (value for value in info["splits"][shard.split]["shards"] if value["name"] == shard.file_name)
        entry.update(examples=content.examples, sha256=content.sha256)

    if told:
        edit_info(folder, tell)


def with_first(**values: Any) -> Callable[[list[dict[str, Any]]], list[dict[str, Any]]]:
    """Returns a change of the first example's features, named as in `Feature`."""

    def change(examples: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [{**examples[0], **{Feature[name]: value for name, value in values.items()}}, *examples[1:]]

    return change


def test_a_finished_data_set_is_well(data: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert list(verify(data)) == []
    assert main([data]) == 0
    assert capsys.readouterr().out == f"{data}: all is well\n"


def test_nothing_to_check(tmp_path: Path, data: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(OptionError, match="has no finished data set: it has no file COMPLETED"):
        list(verify(str(tmp_path / "no")))
    files.remove(files.join(data, "COMPLETED"))
    assert main([data]) == 2
    assert "error: " in capsys.readouterr().err


@pytest.mark.parametrize("place", [0, 9, 20, -1])
def test_a_flipped_byte(data: str, place: int, capsys: pytest.CaptureFixture[str]) -> None:
    path = Path(data, TRAIN.file_name)
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)
    assert any(problem.startswith(f"{TRAIN.file_name}: record ") for problem in verify(data))
    assert main([data]) == 1
    assert "problems" in capsys.readouterr().out.splitlines()[-1]


def test_a_shard_that_is_cut_between_two_records(data: str) -> None:
    forge(data, TRAIN, lambda examples: examples[:1], told=False)
    assert f"{TRAIN.file_name} is not the file that dataset_info.json lists" in list(verify(data))


def test_a_missing_shard(data: str) -> None:
    Path(data, VALIDATION.file_name).unlink()
    assert f"{VALIDATION.file_name} is missing" in list(verify(data))


@pytest.mark.parametrize(
    ("edit", "problem"),
    [
        (lambda info: info.update(read=7), "7 rows were read, but 6 have an outcome"),
        (lambda info: info.update(written=6, read=7), "5 examples were found instead of 6"),
        (lambda info: info["rejected"].update(not_found=2), "rejected.jsonl has {'not_found': 1} instead of"),
        (lambda info: info["labels"].update(Japan=4), "the classes do not have the pictures that"),
        (lambda info: info.update(labels={"Japan": 3}), "labels.txt does not have the classes of"),
        (lambda info: info["splits"]["train"].update(examples=4), "train has 3 examples instead of 4"),
        (lambda info: info["splits"]["validation"]["labels"].update(Japan=2), "validation does not have the pictures"),
        (
            lambda info: info["splits"]["train"]["shards"][0].update(sha256="0" * 64),
            "train-00000-of-00002.tfrecord is not",
        ),
        (
            lambda info: info["splits"]["train"]["shards"].pop(1),
            "train-00001-of-00002.tfrecord is not the file that dataset_info.json lists",
        ),
    ],
)
def test_edited_information(data: str, edit: Callable[[dict[str, Any]], object], problem: str) -> None:
    edit_info(data, edit)
    assert any(found.startswith(problem) for found in verify(data))


def test_a_rejected_row_that_is_gone(data: str) -> None:
    Path(data, "rejected.jsonl").write_text("")
    assert list(verify(data)) == ["rejected.jsonl has {} instead of {'not_found': 1}"]


def test_labels_that_were_edited(data: str) -> None:
    Path(data, "labels.txt").write_text("China\nJapan\n")
    problems = list(verify(data))
    assert problems[0] == "labels.txt does not have the classes of dataset_info.json"
    assert any("1/0: has the class ids (0,), which labels.txt names otherwise than ('Japan',)" in p for p in problems)
    Path(data, "labels.txt").write_text("Japan\n")
    assert any("1/1: has the class ids (1,), which labels.txt names otherwise" in p for p in verify(data))


def test_a_key_that_stands_twice(data: str) -> None:
    forge(data, TRAIN, lambda examples: [*examples, examples[0]])
    assert "1 keys stand more than once" in list(verify(data))


def test_an_object_on_both_sides_of_the_split(data: str) -> None:
    rows = [artwork("3/0", group="1"), ROWS[VALIDATION][1]]
    write_rows(PlanFiles(data), VALIDATION, planned(*rows))
    assert list(verify(data)) == ["1 objects are on both sides of the split"]


def test_a_picture_on_both_sides_of_the_split(data: str) -> None:
    with files.open_to_read(files.join(data, TRAIN.file_name)) as file:
        sha256 = decode_example(next(read_records(file)))[Feature.SHA256]
    forge(data, VALIDATION, with_first(SHA256=sha256))
    assert list(verify(data)) == ["1 pictures are on both sides of the split"]


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"LABEL": [1]}, "1/0: has the classes (1,) ('Japan',) instead of (0,) ('Japan',)"),
        ({"TEXT": [b"China"]}, "1/0: has the classes (0,) ('China',) instead of (0,) ('Japan',)"),
        ({"LABEL": [99], "TEXT": [b"China"]}, "1/0: has the classes (99,) ('China',)"),
        ({"KEY": [b"9/9"]}, "9/9: is not planned for this shard"),
        ({"ENCODED": [b"no picture"]}, "1/0: has no whole JPEG (UnidentifiedImageError)"),
        ({"WIDTH": [21]}, "1/0: is ('RGB', (20, 16)) instead of an RGB picture of (21, 16)"),
        ({"URI": []}, "an example lacks image/uri"),
    ],
)
def test_an_example_that_is_not_what_was_planned(data: str, values: dict[str, Any], problem: str) -> None:
    forge(data, TRAIN, with_first(**values))
    assert any(found.startswith(f"{TRAIN.file_name}: {problem}") for found in verify(data))


def test_a_picture_that_is_no_whole_rgb_jpeg(data: str) -> None:
    for image, kind, problem in (
        (Image.new("RGB", (20, 16)), "PNG", "has no whole JPEG"),
        (Image.new("L", (20, 16)), "JPEG", "is ('L', (20, 16)) instead of an RGB picture"),
        (Image.effect_noise((200, 160), 90).convert("RGB"), "cut", "has no whole JPEG"),
    ):
        file = io.BytesIO()
        image.save(file, "JPEG" if kind == "cut" else kind)
        encoded = file.getvalue()[: -2000 if kind == "cut" else None]
        forge(data, TRAIN, with_first(ENCODED=[encoded], WIDTH=[image.width], HEIGHT=[image.height]))
        assert any(problem in found for found in verify(data))


def test_of_many_problems_twenty_are_shown(data: str, capsys: pytest.CaptureFixture[str]) -> None:
    def many(examples: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [{**examples[0], Feature.KEY: [f"{number}".encode()]} for number in range(30)]

    forge(data, TRAIN, many)
    assert main([data]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 22
    assert lines[20].startswith("… and ")


def test_rejected_rows_are_json(finished: str) -> None:
    lines = Path(finished, "rejected.jsonl").read_text().splitlines()
    assert [json.loads(line)["key"] for line in lines] == ["missing"]
