"""The graph that is served: what its signatures give, whatever the batch and whatever the bytes."""

import io
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from tests.hostile_server import jpeg
from tests.serving.tiny_model import tiny_model

pytestmark = pytest.mark.slow

LABELS = ("black", "grey", "white")
HOSTILE = [b"", b"no picture", b"\xff\xd8\xff\xe0", b"GIF89a" + b"\xff" * 50, b"RIFF\0\0\0\0WEBPVP8X" + b"\xff" * 40]


def grey(value: int, kind: str = "PNG", *, size: tuple[int, int] = (30, 20)) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", size, (value, value, value)).save(file, kind)
    return file.getvalue()


def ask(model: Any, images: Sequence[bytes], signature: str = "serving_default") -> dict[str, Any]:
    keys = [f"key {number}" for number in range(len(images))]
    inputs = {"key": keys, "image_bytes": list(images)}
    answer = model.signatures[signature](**{name: tf.constant(value, tf.string) for name, value in inputs.items()})
    return {name: value.numpy() for name, value in answer.items()}


@pytest.fixture(scope="module")
def version(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("model"), labels=LABELS, with_embed=True, max_image_pixels=10_000)


@pytest.fixture(scope="module")
def model(version: Path) -> Any:
    return tf.saved_model.load(str(version))


@pytest.fixture(scope="module")
def several(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return tf.saved_model.load(str(tiny_model(tmp_path_factory.mktemp("several"), multi_label=True)))


def test_a_version_has_the_graph_its_labels_and_what_is_known(version: Path) -> None:
    assert {str(path.relative_to(version)) for path in version.rglob("*") if path.is_file()} == {
        "assets/labels.txt",
        "assets/model.json",
        "fingerprint.pb",
        "saved_model.pb",
        "variables/variables.data-00000-of-00001",
        "variables/variables.index",
    }
    assert (version / "assets" / "labels.txt").read_text() == "black\ngrey\nwhite\n"
    info = json.loads((version / "assets" / "model.json").read_text())
    assert info["labels"] == list(LABELS)
    assert list(info) == sorted(info)


def test_inputs_and_outputs_of_the_signatures(model: Any) -> None:
    for name, outputs in {
        "serving_default": {"key", "prediction", "label", "scores"},
        "embed": {"key", "embedding"},
    }.items():
        signature = model.signatures[name]
        inputs = signature.structured_input_signature[1]
        assert {name: (spec.dtype, spec.shape.as_list()) for name, spec in inputs.items()} == {
            "key": (tf.string, [None]),
            "image_bytes": (tf.string, [None]),
        }
        assert set(signature.structured_outputs) == outputs
    scores = model.signatures["serving_default"].structured_outputs["scores"]
    assert (scores.dtype, scores.shape.as_list()) == (tf.float32, [None, len(LABELS)])
    embedding = model.signatures["embed"].structured_outputs["embedding"]
    assert (embedding.dtype, embedding.shape.as_list()) == (tf.float32, [None, 3])


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "BMP", "WEBP"])
def test_what_it_says_of_every_kind(model: Any, kind: str) -> None:
    answer = ask(model, [grey(0, kind), grey(128, kind), grey(255, kind)])
    assert answer["label"].tolist() == [b"black", b"grey", b"white"]
    assert answer["prediction"].dtype == np.int64
    assert answer["prediction"].tolist() == [0, 1, 2]
    np.testing.assert_allclose(answer["scores"].sum(axis=1), 1, rtol=1e-6)
    assert answer["key"].tolist() == [b"key 0", b"key 1", b"key 2"]


def test_rows_that_cannot_be_decoded_leave_the_others_alone(model: Any) -> None:
    pictures = [grey(0), jpeg(1), grey(255)]
    alone = ask(model, pictures)
    mixed = [HOSTILE[0], pictures[0], *HOSTILE[1:3], pictures[1], pictures[2], *HOSTILE[3:]]
    rows = [1, 4, 5]
    answer = ask(model, mixed)
    np.testing.assert_array_equal(answer["scores"][rows], alone["scores"])
    assert answer["label"][rows].tolist() == alone["label"].tolist()
    others = [row for row in range(len(mixed)) if row not in rows]
    assert answer["label"][others].tolist() == [b""] * len(HOSTILE)
    assert answer["prediction"][others].tolist() == [-1] * len(HOSTILE)
    assert not answer["scores"][others].any()
    assert answer["key"].tolist() == [f"key {row}".encode() for row in range(len(mixed))]


def test_the_vector_of_a_picture(model: Any) -> None:
    answer = ask(model, [b"no picture", grey(51), grey(255)], "embed")
    np.testing.assert_allclose(answer["embedding"], [[0.0] * 3, [0.2] * 3, [1.0] * 3], atol=1e-6)
    assert answer["key"].tolist() == [b"key 0", b"key 1", b"key 2"]


@pytest.mark.parametrize("images", [[], HOSTILE])
def test_nothing_to_look_at(model: Any, images: list[bytes]) -> None:
    answer = ask(model, images)
    assert answer["scores"].shape == (len(images), len(LABELS))
    assert answer["label"].tolist() == [b""] * len(images)
    assert answer["prediction"].tolist() == [-1] * len(images)
    assert ask(model, images, "embed")["embedding"].shape == (len(images), 3)


def test_the_same_in_any_batch(model: Any) -> None:
    pictures = [jpeg(number, width=20 + number, height=40 - number) for number in range(33)]
    alone = np.concatenate([ask(model, [picture])["scores"] for picture in pictures])
    for size in (3, 33):
        batches = [ask(model, pictures[start : start + size])["scores"] for start in range(0, len(pictures), size)]
        np.testing.assert_allclose(np.concatenate(batches), alone, rtol=0, atol=1e-6)


def test_a_picture_beyond_the_limit_is_not_decoded(model: Any) -> None:
    answer = ask(model, [grey(255, size=(100, 100)), grey(255, size=(100, 101))])
    assert answer["label"].tolist() == [b"white", b""]


def test_scores_of_several_labels_are_each_for_itself(several: Any) -> None:
    assert list(several.signatures) == ["serving_default"], "there is no backbone"
    answer = ask(several, [grey(0), grey(255), grey(100), b"no picture"])
    dark = 1 / (1 + np.exp(-10 * (1 - 2 * 100 / 255)))
    np.testing.assert_allclose(answer["scores"][2], [dark, 1 - dark], rtol=1e-4)
    assert answer["label"].tolist() == [b"dark", b"bright", b"dark", b""]
    assert not answer["scores"][3].any()


def test_every_decoding_operation_is_on_the_processor(model: Any) -> None:
    graph = model.signatures["serving_default"].graph.as_graph_def()
    functions = {function.signature.name: function.node_def for function in graph.library.function}
    datasets = [
        node for nodes in functions.values() for node in nodes if "Dataset" in node.op or node.op.startswith("Decode")
    ]
    reading = [node for node in datasets if node.op in ("ParallelMapDatasetV2", "DatasetToSingleElement")]
    assert reading
    assert all("CPU" in node.device for node in reading)


def test_a_process_without_keras_asks_it(version: Path) -> None:
    script = (
        "import sys; sys.modules['keras'] = None\n"
        "import tensorflow as tf\n"
        f"model = tf.saved_model.load({str(version)!r})\n"
        f"picture = tf.constant([{grey(255)!r}])\n"
        "answer = model.signatures['serving_default'](key=tf.constant(['a']), image_bytes=picture)\n"
        "print(answer['label'].numpy()[0].decode())"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["white"], done.stderr
