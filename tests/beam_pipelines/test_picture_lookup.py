import io
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from beam_pipelines import files
from beam_pipelines.dataset import Shard
from beam_pipelines.errors import OptionError
from beam_pipelines.picture_lookup import picture_data_set, read_pictures
from beam_pipelines.tfrecords import decode_example, encode_example, frame, read_records
from tests.beam_pipelines.builders import BUCKET, artwork, object_store
from tests.beam_pipelines.data_sets import drawn, write_data_set

TRAIN, VALIDATION = Shard("train", 0, 1), Shard("validation", 0, 1)
WORK = {"title": "Wave", "artist": "Hokusai", "date": "1831", "credit_line": "Rogers Fund"}


def write(directory: Path | str) -> str:
    """Writes a data set of three pictures and returns its directory."""
    rows = {TRAIN: [artwork("1/0", attributes=WORK), artwork("2/0")], VALIDATION: [artwork("3/\udc80")]}
    write_data_set(str(directory), rows, fetch=lambda uri: drawn(len(uri), width=300, height=200))
    return str(directory)


def embeddings_of(pictures: Path, *, fingerprint: str, path: Path) -> Path:
    """Writes what a data set of embeddings says of the pictures that it was made of."""
    made_of = {"path": str(pictures), "fingerprint": fingerprint}
    files.write_json(str(path / "dataset_info.json"), {"backbone": {"name": "resnet50"}, "dataset": made_of})
    files.write_bytes(str(path / "COMPLETED"), b"")
    return path


def spoil(directory: str, shard: Shard, places: Sequence[int]) -> None:
    """Replaces the pictures of some examples of a shard by bytes that are none."""
    path = Path(directory) / shard.file_name
    with path.open("rb") as file:
        examples = [decode_example(record) for record in read_records(file)]
    for place in places:
        examples[place]["image/encoded"] = [b"\xff\xd8 no JPEG"]
    path.write_bytes(b"".join(frame(encode_example(example)) for example in examples))


def test_pictures_come_small_with_what_is_known_of_them(tmp_path: Path) -> None:
    found = read_pictures(write(tmp_path), ["1/0", "3/\udc80", "no such"])
    assert set(found) == {"1/0", "3/\udc80"}
    wave = found["1/0"]
    assert wave.attributes == WORK
    assert wave.uri == "http://museum.example/1/0.jpg"
    assert (wave.width, wave.height) == (128, 85)
    assert Image.open(io.BytesIO(wave.jpeg)).size == (128, 85)
    assert found["3/\udc80"].attributes == {}


def test_without_its_plan_a_data_set_has_pictures_without_titles(tmp_path: Path) -> None:
    directory = write(tmp_path)
    known = read_pictures(directory, ["1/0", "2/0"])
    shutil.rmtree(tmp_path / ".plan")
    found = read_pictures(directory, ["1/0", "2/0"])
    assert {key: picture.jpeg for key, picture in found.items()} == {key: known[key].jpeg for key in known}
    assert (found["1/0"].uri, found["1/0"].attributes) == (known["1/0"].uri, {})


def test_only_shards_that_hold_a_wanted_picture_are_read(tmp_path: Path) -> None:
    directory = write(tmp_path)
    (tmp_path / VALIDATION.file_name).unlink()
    (tmp_path / VALIDATION.file_name).symlink_to(tmp_path / "nothing")
    assert set(read_pictures(directory, ["2/0"])) == {"2/0"}


def test_a_picture_that_cannot_be_decoded_is_absent(tmp_path: Path) -> None:
    directory = write(tmp_path)
    spoil(directory, TRAIN, [0])
    assert set(read_pictures(directory, ["1/0", "2/0"])) == {"2/0"}


def test_of_a_damaged_shard_there_is_what_can_be_read(tmp_path: Path) -> None:
    directory = write(tmp_path)
    path = tmp_path / TRAIN.file_name
    path.write_bytes(path.read_bytes()[:-20])
    assert set(read_pictures(directory, ["1/0", "2/0", "3/\udc80"])) == {"1/0", "3/\udc80"}


@pytest.mark.parametrize("keys", [[], [""]])
def test_without_names_nothing_is_read(tmp_path: Path, keys: list[str]) -> None:
    assert read_pictures(str(tmp_path / "absent"), keys) == {}
    assert read_pictures("", ["1/0"]) == {}


def test_pictures_may_lie_in_an_object_store() -> None:
    with object_store():
        found = read_pictures(write(f"{BUCKET}/pictures"), ["1/0"])
    assert found["1/0"].attributes == WORK


def test_a_data_set_of_pictures_has_its_own(tmp_path: Path) -> None:
    assert picture_data_set(str(tmp_path)) == str(tmp_path)
    assert picture_data_set("") == ""


@pytest.mark.parametrize("is_same", [True, False])
def test_embeddings_lead_to_the_pictures_that_they_were_made_of(tmp_path: Path, is_same: bool) -> None:
    pictures = Path(write(tmp_path / "pictures"))
    fingerprint: Any = files.read_json(str(pictures / "dataset_info.json"))["fingerprint"]
    made_of = embeddings_of(pictures, fingerprint=fingerprint if is_same else "other", path=tmp_path / "embeddings")
    assert picture_data_set(str(made_of)) == (str(pictures) if is_same else "")


def test_embeddings_whose_pictures_are_gone_have_none(tmp_path: Path) -> None:
    made_of = embeddings_of(tmp_path / "gone", fingerprint="0123", path=tmp_path / "embeddings")
    assert picture_data_set(str(made_of)) == ""


def test_the_user_may_say_where_pictures_are(tmp_path: Path) -> None:
    directory = write(tmp_path / "pictures")
    assert picture_data_set(str(tmp_path / "embeddings"), given=directory) == directory


def test_what_is_no_data_set_of_pictures_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=r"--pictures .*nothing is no data set, it has no file COMPLETED"):
        picture_data_set(str(tmp_path), given=str(tmp_path / "nothing"))
    vectors = embeddings_of(tmp_path, fingerprint="0123", path=tmp_path / "embeddings")
    with pytest.raises(OptionError, match=r"--pictures .*embeddings has embeddings"):
        picture_data_set(str(tmp_path), given=str(vectors))
