import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from beam_pipelines import files
from beam_pipelines.errors import OptionError
from serving.model import Model, Predictions, batches_of, find_model, load_model, model_fingerprint, read_model_info
from tests.beam_pipelines.builders import BUCKET, object_store
from tests.serving.builders import BLACK, WHITE, png


def version(directory: Path, name: str) -> Path:
    """Makes what looks like a version of a model."""
    (directory / name).mkdir(parents=True)
    (directory / name / "saved_model.pb").write_bytes(b"")
    return directory / name


def test_a_version_is_itself(tmp_path: Path) -> None:
    found = version(tmp_path, "3")
    assert find_model(str(found)) == str(found)


def test_the_newest_version_has_the_highest_number(tmp_path: Path) -> None:
    for name in ("9", "10", "2", "x11", "0"):
        version(tmp_path, name)
    (tmp_path / "12").mkdir()  # one that is being uploaded
    assert find_model(str(tmp_path)) == str(tmp_path / "10")


def test_a_directory_without_a_model_is_refused_with_what_is_there(tmp_path: Path) -> None:
    for name in ("0", "a2", "c", "d", "e", "f", "g"):
        version(tmp_path, name)
    with pytest.raises(
        OptionError, match=r"is no model, it has 0, a2, c, d, e and 2 more: give the directory of a Sav"
    ):
        find_model(str(tmp_path))
    with pytest.raises(OptionError, match=r"nowhere is no model, nothing is there"):
        find_model(str(tmp_path / "nowhere"))


@given(st.lists(st.integers(0, 30), max_size=40), st.integers(1, 5), st.integers(1, 40))
def test_batches_hold_every_item_in_order_and_within_bounds(pixels: list[int], size: int, most: int) -> None:
    numbered = list(enumerate(pixels))
    batches = list(batches_of(numbered, size=size, max_pixels=most, pixels=lambda item: item[1]))
    assert [item for batch in batches for item in batch] == numbered
    for batch in batches:
        assert 1 <= len(batch) <= size
        assert len(batch) == 1 or sum(item[1] for item in batch) <= most


def test_batches_are_as_full_as_they_can_be() -> None:
    assert list(batches_of([3, 3, 9, 1, 1, 1, 1], size=3, max_pixels=6, pixels=int)) == [[3, 3], [9], [1, 1, 1], [1]]


def test_no_more_is_read_than_a_batch_and_the_next_item() -> None:
    read: list[int] = []

    def items() -> Any:
        for number in range(9):
            read.append(number)
            yield number

    next(batches_of(items(), size=2, max_pixels=99, pixels=lambda _: 1))
    assert read == [0, 1, 2]


def test_the_score_of_what_was_not_decoded_is_zero() -> None:
    predictions = Predictions(np.array([1, -1]), ("b", ""), np.array([[0.25, 0.75], [0, 0]], np.float32))
    assert predictions.top_scores.tolist() == [0.75, 0.0]
    assert Predictions(np.zeros(0, np.int64), (), np.zeros((0, 2), np.float32)).top_scores.shape == (0,)


def test_a_model_says_what_pictures_show(colour: Path, colour_model: Model) -> None:
    predictions = colour_model.predict(["a", "b\udc80", "c"], [png(BLACK), b"no picture\0", png(WHITE)])
    assert predictions.class_ids.tolist() == [0, -1, 1]
    assert predictions.labels == ("dark", "", "bright")
    assert predictions.scores.dtype == np.float32
    assert predictions.scores.argmax(axis=1)[[0, 2]].tolist() == [0, 1]
    assert not predictions.scores[1].any()
    assert (colour_model.path, colour_model.labels) == (str(colour), ("dark", "bright"))
    assert colour_model.info["model"] == "brightness"


def test_a_batch_may_be_empty(colour_model: Model) -> None:
    predictions = colour_model.predict([], [])
    assert (predictions.class_ids.shape, predictions.labels, predictions.scores.shape) == ((0,), (), (0, 2))
    assert colour_model.embed([]).shape == (0, 3)


def test_a_model_gives_embeddings(colour_model: Model) -> None:
    assert colour_model.width == 3
    vectors = colour_model.embed([png((255, 0, 0)), b"no picture"])
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(vectors, [[1, 0, 0], [0, 0, 0]], atol=1e-6)


def test_a_model_without_embeddings_says_so(brightness: Path) -> None:
    model = load_model(str(brightness))
    assert model.width is None
    with pytest.raises(OptionError, match=r"gives no embeddings, it has no signature embed: give one with a backbone"):
        model.embed([png(BLACK)])


def test_a_model_may_lie_in_an_object_store(brightness: Path) -> None:
    with object_store():
        files.copy_tree(str(brightness), f"{BUCKET}/model/1")
        model = load_model(f"{BUCKET}/model")
        remote = model_fingerprint(f"{BUCKET}/model/1")
    assert model.path == f"{BUCKET}/model/1"
    assert model.labels == ("dark", "bright")
    assert remote == model_fingerprint(str(brightness))


def test_a_fingerprint_is_of_the_model_and_of_nothing_beside_it(brightness: Path, tmp_path: Path) -> None:
    copy = tmp_path / "7"
    shutil.copytree(brightness, copy)
    (copy / "model_card.html").write_text("a page")
    assert model_fingerprint(str(copy)) == model_fingerprint(str(brightness))
    (copy / "assets" / "labels.txt").write_text("dark\nlight\n")
    assert model_fingerprint(str(copy)) != model_fingerprint(str(brightness))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda path: (path / "assets/labels.txt").unlink(), r"model .* has no assets/labels.txt: give a model of tr"),
        (lambda path: (path / "assets/labels.txt").write_text("a\nb\nc\n"), r"has 3 labels for 2 scores"),
        (lambda path: (path / "assets/model.json").write_text("{"), r"model.json is damaged .*export the model again"),
        (lambda path: (path / "saved_model.pb").write_bytes(b"\x07"), r"model .* cannot be loaded: "),
        (lambda path: shutil.rmtree(path / "variables"), r"model .* cannot be loaded: "),
    ],
)
def test_what_is_damaged_is_named(brightness: Path, tmp_path: Path, spoil: Any, message: str) -> None:
    shutil.copytree(brightness, tmp_path / "1")
    spoil(tmp_path / "1")
    with pytest.raises(OptionError, match=message):
        load_model(str(tmp_path))


def test_a_model_of_another_program_is_known_by_its_graph_alone(brightness: Path, tmp_path: Path) -> None:
    shutil.copytree(brightness, tmp_path / "1")
    (tmp_path / "1/assets/model.json").unlink()
    assert read_model_info(str(tmp_path / "1")) == {}
    assert load_model(str(tmp_path)).info == {}


class Foreign(tf.Module):
    """A model that takes numbers."""

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
    def double(self, x: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"y": 2 * x}


@pytest.mark.parametrize(
    ("signature", "message"),
    [
        (
            "serving_default",
            r"the signature serving_default of model .* takes x \(float32\) instead of image_bytes \(str",
        ),
        ("other", r"model .* has no signature serving_default \(it has other\): give a model of trainer.export"),
    ],
)
def test_a_model_of_other_things_is_refused(tmp_path: Path, signature: str, message: str) -> None:
    module = Foreign()
    tf.saved_model.save(module, str(tmp_path / "1"), signatures={signature: module.double})
    (tmp_path / "1/assets").mkdir(exist_ok=True)
    (tmp_path / "1/assets/labels.txt").write_text("a\n")
    with pytest.raises(OptionError, match=message):
        load_model(str(tmp_path))


@pytest.mark.slow
def test_a_model_is_loaded_in_silence_and_without_beam(brightness: Path) -> None:
    code = (
        "import sys, json\n"
        "from serving.model import load_model\n"
        "assert 'tensorflow' not in sys.modules\n"
        f"model = load_model({str(brightness)!r}, threads=2)\n"
        "model.predict([''], [b''])\n"
        "import tensorflow as tf\n"
        "print(json.dumps([tf.config.threading.get_intra_op_parallelism_threads(),\n"
        "    sorted({'apache_beam', 'trainer'} & set(sys.modules))]))"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(ended.stdout) == [2, []]
    assert ended.stderr == ""
