import io
import json
import re
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from PIL import Image

from beam_pipelines.embedding_samples import Sample
from beam_pipelines.normalization import Vectors
from beam_pipelines.projector import write_projector
from beam_pipelines.sprite import draw_sprite
from tests.beam_pipelines.builders import hostile_text

# Without TensorFlow, which it only needs for checkpoints, TensorBoard starts in a second.
_TENSORBOARD = """
import sys
sys.modules["tensorflow"] = None
from tensorboard.main import run_main
sys.argv[0] = "tensorboard"
run_main()
"""


def sample(key: str = "1/0", *labels: str, split: str = "train") -> Sample:
    """Returns a sample whose small picture is red."""
    out = io.BytesIO()
    Image.new("RGB", (40, 64), "red").save(out, "JPEG")
    return Sample(key=key, split=split, labels=labels or ("Japan",), thumbnail=out.getvalue())


def write(folder: Path, samples: Sequence[Sample], vectors: Vectors) -> Path:
    """Writes the projector's files and returns their folder."""
    sprite = draw_sprite([sample.thumbnail for sample in samples])
    write_projector(samples, vectors, sprite, output=str(folder))
    return folder / "projector"


def lines(path: Path) -> list[str]:
    """Returns the lines of a text file as TensorBoard parts them."""
    return path.read_bytes().decode().split("\n")


def test_what_an_earlier_run_left_is_gone(tmp_path: Path) -> None:
    (tmp_path / "projector").mkdir()
    (tmp_path / "projector" / "old.tsv").write_bytes(b"")
    folder = write(tmp_path, [sample()], np.ones((1, 3), np.float32))
    assert sorted(path.name for path in folder.iterdir()) == [
        "metadata.tsv",
        "projector_config.pbtxt",
        "sprite.png",
        "vectors.tsv",
    ]


def test_several_labels_and_none(tmp_path: Path) -> None:
    samples = [sample("a", "x", "y"), sample("b", ""), sample("  ", " z ", split="validation")]
    folder = write(tmp_path, samples, np.zeros((3, 1), np.float32))
    assert lines(folder / "metadata.tsv") == [
        "label\tkey\tsplit",
        "x, y\ta\ttrain",
        "-\tb\ttrain",
        "z\t-\tvalidation",
        "",
    ]


@given(key=hostile_text, label=hostile_text)
def test_hostile_texts_stay_within_their_line_and_column(
    tmp_path_factory: pytest.TempPathFactory, key: str, label: str
) -> None:
    folder = write(tmp_path_factory.mktemp("out"), [sample(key, label)], np.zeros((1, 1), np.float32))
    header, line, end = lines(folder / "metadata.tsv")
    assert (header, end) == ("label\tkey\tsplit", "")
    columns = line.strip().split("\t")
    assert len(columns) == 3
    assert all(column.isprintable() and column for column in columns)


@contextmanager
def tensorboard(folder: Path) -> Iterator[str]:
    """Runs TensorBoard on a folder while the block runs; gives the address of its projector."""
    command = [sys.executable, "-c", _TENSORBOARD, "--logdir", str(folder), "--host", "127.0.0.1", "--port", "0"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr
        said = (re.search(r" at (http://127\.0\.0\.1:\d+/)", line) for line in process.stderr)
        found = next(filter(None, said), None)
        assert found, "TensorBoard ended before it served anything"
        yield f"{found[1]}data/plugin/projector"
    finally:
        process.terminate()
        process.communicate()


def get(address: str) -> bytes:
    """Returns what is at an address."""
    with urllib.request.urlopen(address, timeout=60) as answer:
        content: bytes = answer.read()
    return content


@pytest.mark.slow
def test_tensorboard_reads_it_all(tmp_path: Path) -> None:
    vectors = np.random.default_rng(2).normal(0, 100, (5, 7)).astype(np.float32)
    vectors[1] = 0  # bytes of which are valid UTF-8
    samples = [sample(f"key\t{number}\n", "a label", split="validation") for number in range(5)]
    folder = write(tmp_path, samples, vectors)
    with tensorboard(folder) as projector:
        assert json.loads(get(f"{projector}/runs")) == ["."]
        (embedding,) = json.loads(get(f"{projector}/info?run=."))["embeddings"]
        assert embedding["tensorShape"] == [5, 7]
        assert embedding["sprite"]["singleImageDim"] == [64, 64]
        asked = f"run=.&name={embedding['tensorName']}"
        read = np.frombuffer(get(f"{projector}/tensor?{asked}"), np.float32).reshape(5, 7)
        metadata = get(f"{projector}/metadata?{asked}").decode()
        sprite = Image.open(io.BytesIO(get(f"{projector}/sprite_image?{asked}")))
    np.testing.assert_allclose(read, vectors, rtol=1e-4)
    assert metadata.splitlines()[1] == "a label\tkey\\t0\\n\tvalidation"
    assert len(metadata.splitlines()) == 6
    assert (sprite.format, sprite.size) == ("PNG", (192, 192))
