import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from numpy.typing import NDArray
from PIL import Image

from beam_pipelines.projector import write_projector
from beam_pipelines.sprite import draw_sprite
from tests.beam_pipelines.builders import hostile_text
from tests.tensorboard_server import get, get_json, tensorboard


def small_picture() -> bytes:
    """Returns a red JPEG."""
    out = io.BytesIO()
    Image.new("RGB", (40, 64), "red").save(out, "JPEG")
    return out.getvalue()


def write(folder: Path, metadata: Mapping[str, Sequence[str]], vectors: NDArray[np.float32]) -> Path:
    """Writes the projector's files into `folder` and returns it."""
    sprite = draw_sprite([small_picture()] * len(vectors))
    write_projector(metadata, vectors, sprite, directory=str(folder))
    return folder


def lines(path: Path) -> list[str]:
    """Returns the lines of a text file as TensorBoard parts them."""
    return path.read_bytes().decode().split("\n")


def test_files_lie_beside_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "events").write_bytes(b"")
    for label in ("old", "new"):
        write(tmp_path, {"label": [label], "key": ["1/0"]}, np.ones((1, 3), np.float32))
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "events",
        "metadata.tsv",
        "projector_config.pbtxt",
        "sprite.png",
        "vectors.tsv",
    ]
    assert lines(tmp_path / "metadata.tsv") == ["label\tkey", "new\t1/0", ""]


def test_there_is_no_configuration_of_files_that_are_not_whole(tmp_path: Path) -> None:
    write(tmp_path, {"label": ["x"], "key": ["y"]}, np.ones((1, 3), np.float32))
    with pytest.raises(ValueError, match="shorter"):
        write(tmp_path, {"label": ["x"], "key": []}, np.ones((1, 3), np.float32))
    assert not (tmp_path / "projector_config.pbtxt").exists()


def test_no_column_is_empty(tmp_path: Path) -> None:
    metadata = {"label": ["x, y", "", " z "], "key": ["a", "b", "  "]}
    write(tmp_path, metadata, np.zeros((3, 1), np.float32))
    assert lines(tmp_path / "metadata.tsv") == ["label\tkey", "x, y\ta", "-\tb", "z\t-", ""]


@given(key=hostile_text, label=hostile_text)
def test_hostile_texts_stay_within_their_line_and_column(
    tmp_path_factory: pytest.TempPathFactory, key: str, label: str
) -> None:
    metadata = {"label": [label], "key": [key], "split": ["train"]}
    folder = write(tmp_path_factory.mktemp("out"), metadata, np.zeros((1, 1), np.float32))
    header, line, end = lines(folder / "metadata.tsv")
    assert (header, end) == ("label\tkey\tsplit", "")
    columns = line.strip().split("\t")
    assert len(columns) == 3
    assert all(column.isprintable() and column for column in columns)


@pytest.mark.slow
def test_tensorboard_reads_it_all(tmp_path: Path) -> None:
    vectors = np.random.default_rng(2).normal(0, 100, (5, 7)).astype(np.float32)
    vectors[1] = 0  # bytes of which are valid UTF-8
    metadata = {"label": ["a label"] * 5, "key": [f"key\t{number}\n" for number in range(5)]}
    write(tmp_path, metadata, vectors)
    with tensorboard(tmp_path) as plugins:
        projector = f"{plugins}/projector"
        assert get_json(f"{projector}/runs") == ["."]
        (embedding,) = get_json(f"{projector}/info?run=.")["embeddings"]
        assert embedding["tensorShape"] == [5, 7]
        assert embedding["sprite"]["singleImageDim"] == [64, 64]
        asked = f"run=.&name={embedding['tensorName']}"
        read = np.frombuffer(get(f"{projector}/tensor?{asked}"), np.float32).reshape(5, 7)
        said = get(f"{projector}/metadata?{asked}").decode().splitlines()
        sprite = Image.open(io.BytesIO(get(f"{projector}/sprite_image?{asked}")))
    np.testing.assert_allclose(read, vectors, rtol=1e-4)
    assert said[1] == "a label\tkey\\t0\\n"
    assert len(said) == 6
    assert (sprite.format, sprite.size) == ("PNG", (192, 192))
