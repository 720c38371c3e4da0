"""The export command: what a run's evaluation says, the exported graph says too."""

import csv
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import pytest
import tensorflow as tf

from beam_pipelines import files
from beam_pipelines.dataset import BACKBONE_WEIGHTS_FILE, EMBEDDING, Feature
from beam_pipelines.errors import OptionError, RunError
from beam_pipelines.tfrecords import decode_example, encode_example, frame, read_records
from tests.beam_pipelines.builders import BUCKET, object_store
from tests.hostile_server import jpeg
from tests.trainer.replica_training import tiny_classifier
from tests.trainer.test_evaluate import give_second_labels
from tests.trainer.test_restoring import begun as begun_run
from tests.trainer.test_restoring import save
from tests.trainer.train_command import LABELS, checkpoint_steps, run_evaluation, run_training, write_pictures
from trainer import export
from trainer.classifier import ModelSpec, build_classifier
from trainer.data_files import read_data_set
from trainer.exporting import parts as parts_module
from trainer.exporting.parts import assemble
from trainer.exporting.trial import check_exported
from trainer.models import backbone_layers, save_backbone_weights, weights_sha256
from trainer.options import resolve
from trainer.pixels import decode_and_resize
from trainer.restoring import restore_classifier
from trainer.run_directory import begin_run
from trainer.saved_run import SavedRun, read_saved_run
from trainer.serving_graph import ServedParts, build_served_module, save_served_model

pytestmark = pytest.mark.slow

Numbers = npt.NDArray[np.float32]

VALIDATION = 33
MAX_PIXELS = 1_000_000
FILES = [
    "assets/labels.txt",
    "assets/model.json",
    "fingerprint.pb",
    "model_card.html",
    "saved_model.pb",
    "variables/variables.data-00000-of-00001",
    "variables/variables.index",
]


def run_export(log: Path, *arguments: object) -> tuple[int, str]:
    return run_training(log, *arguments, command="trainer.export")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was evaluated, and the first version of its model."""
    folder = tmp_path_factory.mktemp("exported")
    arguments = write_pictures(folder / "data", validation=VALIDATION)
    code, said = run_training(folder / "log", *arguments, "--output", folder / "run", "--epochs", 3, "--batch_size", 4)
    assert code == 0, said
    code, said = run_evaluation(folder / "log", "--run", folder / "run")
    assert code == 0, said
    code, said = run_export(folder / "said", "--run", folder / "run", "--output", folder / "model" / "1")
    assert code == 0, said
    return folder


def validation_pictures(data: Path) -> dict[str, bytes]:
    """Returns the bytes of the pictures by key."""
    with open(data / "validation-00000-of-00001.tfrecord", "rb") as file:
        examples = [decode_example(record) for record in read_records(file)]
    return {example[Feature.KEY][0].decode(): example[Feature.ENCODED][0] for example in examples}


def predictions(run: Path) -> dict[str, dict[str, str]]:
    with open(run / "evaluation" / "predictions.csv", newline="", encoding="utf-8") as file:
        return {row["key"]: row for row in csv.DictReader(file)}


class Exported:
    """A version, as other programs see it."""

    def __init__(self, directory: object) -> None:
        self.signatures = tf.saved_model.load(str(directory)).signatures

    def predict(self, images: Sequence[bytes], *, batch: int = 32) -> dict[str, Any]:
        answers = [self._ask("serving_default", images[at : at + batch]) for at in range(0, len(images), batch)]
        return {name: np.concatenate([answer[name] for answer in answers]) for name in answers[0]}

    def embed(self, images: Sequence[bytes]) -> Numbers:
        vectors: Numbers = self._ask("embed", images)["embedding"]
        return vectors

    def _ask(self, signature: str, images: Sequence[bytes]) -> dict[str, Any]:
        answer = self.signatures[signature](
            key=tf.fill([len(images)], "a"), image_bytes=tf.constant(list(images), tf.string)
        )
        return {name: value.numpy() for name, value in answer.items()}


def assert_as_evaluated(version: Path, run: Path, data: Path) -> None:
    """Compares what the graph says of the data set's pictures, in several batches, with what evaluation said."""
    expected, pictures = predictions(run), validation_pictures(data)
    assert expected.keys() == pictures.keys()
    exported = Exported(version)
    for batch in (1, 3, 32):
        answer = exported.predict(list(pictures.values()), batch=batch)
        for key, label, scores in zip(pictures, answer["label"], answer["scores"], strict=True):
            assert label.decode() == expected[key]["prediction"]
            assert scores.max() == pytest.approx(float(expected[key]["score"]), abs=1e-4)


def test_it_says_what_evaluation_said(trained: Path) -> None:
    assert_as_evaluated(trained / "model" / "1", trained / "run", trained / "data")


def test_what_it_leaves(trained: Path) -> None:
    version = trained / "model" / "1"
    assert files.list_files(str(version)) == FILES
    assert os.listdir(trained / "model") == ["1"]
    assert (version / "assets" / "labels.txt").read_text() == "".join(f"{label}\n" for label in LABELS)
    info = json.loads((version / "assets" / "model.json").read_text())
    evaluation = json.loads((trained / "run" / "evaluation" / "evaluation.json").read_text())
    assert (info["format"], info["model"], info["run"]) == (1, "small_cnn", str(trained / "run"))
    assert (info["step"], info["checkpoint"], info["image_size"]) == (evaluation["step"], "best", 16)
    assert (info["embedding"], info["labels"], info["max_image_pixels"]) == (None, list(LABELS), 100_000_000)
    assert info["data"]["path"] == info["data"]["pictures"] == str(trained / "data")
    assert info["metrics"]["macro_f1"] == evaluation["macro_f1"]
    assert list(Exported(version).signatures) == ["serving_default"]


def test_what_it_says(trained: Path) -> None:
    lines = (trained / "said").read_text().splitlines()
    assert lines[0].startswith("small_cnn at step ")
    version = trained / "model" / "1"
    told = lines[lines.index(f"{version} is complete") :]
    assert [line.split("  ")[0].strip() for line in told[1:5]] == ["model", "classes", "vectors", "size"]
    assert told[2] == "classes  3: hat, shirt, shoe"
    assert told[5:] == [f"try it: python -m serving.classify --model {version} picture.jpg"]


def test_another_checkpoint_and_other_limits(trained: Path, tmp_path: Path) -> None:
    step = checkpoint_steps(trained / "run")[0]
    (trained / "data").rename(tmp_path / "moved")
    try:
        code, said = run_export(
            tmp_path / "log", "--run", trained / "run", "--output", tmp_path / "model" / "7", "--checkpoint", step,
            "--max_image_pixels", 300,
        )  # fmt: skip
    finally:
        (tmp_path / "moved").rename(trained / "data")
    assert code == 0, said
    version = tmp_path / "model" / "7"
    info = json.loads((version / "assets" / "model.json").read_text())
    assert (info["step"], info["checkpoint"], info["max_image_pixels"]) == (step, str(step), 300)
    assert info["data"]["pictures"] == "", "the pictures are not needed"
    answer = Exported(version).predict([jpeg(0, width=20, height=15), jpeg(0, width=20, height=16)])
    assert [bool(label) for label in answer["label"]] == [True, False]


def test_what_is_exported_already_may_be_passed_over(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = trained / "model" / "1"
    before = sorted((path, path.stat().st_mtime_ns) for path in model.rglob("*"))
    asked = ["--run", str(trained / "run"), "--output", str(model), "--skip_existing"]
    best = json.loads((model / "assets" / "model.json").read_text())["step"]
    other = next(step for step in checkpoint_steps(trained / "run") if step != best)
    assert export.main(asked) == 0
    assert capsys.readouterr().out == f"{model} is complete, there is nothing to do\n"
    assert export.main([*asked, "--checkpoint", str(other)]) == 2
    assert "is there already: give --output" in capsys.readouterr().err
    assert sorted((path, path.stat().st_mtime_ns) for path in model.rglob("*")) == before


def test_bytes_that_are_no_pictures(trained: Path) -> None:
    answer = Exported(trained / "model" / "1").predict([b"", jpeg(1), b"no picture", jpeg(1)[:-400]])
    assert [bool(label) for label in answer["label"]] == [False, True, False, False]
    assert (answer["prediction"] == -1).tolist() == [True, False, True, True]
    assert not answer["scores"][[0, 2, 3]].any()


@pytest.mark.parametrize("images", [[], [b""], [b"no picture", jpeg(1)[:50]]])
def test_nothing_that_can_be_decoded(trained: Path, images: list[bytes]) -> None:
    answer = Exported(trained / "model" / "1")._ask("serving_default", images)
    assert answer["scores"].shape == (len(images), len(LABELS))
    assert answer["prediction"].tolist() == [-1] * len(images)
    assert not answer["scores"].any()


def test_several_labels(tmp_path: Path) -> None:
    arguments = write_pictures(tmp_path / "data", validation=VALIDATION)
    give_second_labels(tmp_path / "data")
    run, version = tmp_path / "run", tmp_path / "model" / "1"
    for command, given in {
        "trainer.task": [*arguments, "--output", run, "--epochs", 2, "--batch_size", 4],
        "trainer.evaluate": ["--run", run],
        "trainer.export": ["--run", run, "--output", version],
    }.items():
        code, said = run_training(tmp_path / "log", *given, command=command)
        assert code == 0, said
    assert json.loads((version / "assets" / "model.json").read_text())["multi_label"] is True
    assert_as_evaluated(version, run, tmp_path / "data")
    sums = Exported(version).predict(list(validation_pictures(tmp_path / "data").values()))["scores"].sum(axis=1)
    assert not np.allclose(sums, 1, atol=1e-3)


def wakened(backbone: keras.Model) -> keras.Model:
    """Returns a backbone of random weights that gives numbers of about 1: they vanish or explode by themselves."""
    for layer in backbone_layers(backbone):
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.moving_variance.assign(tf.fill(layer.moving_variance.shape, 0.1))
    return backbone


def test_a_backbone(tmp_path: Path) -> None:
    saved = begun_run(tmp_path / "run", model="mobilenet_v3_small", weights="none")
    trained = build_classifier(ModelSpec.of(saved.options), labels=len(LABELS), seed=5, pretrained=False)
    assert trained.backbone
    wakened(trained.backbone)
    random = np.random.default_rng(1)
    kernel = trained.head.get_layer("logits").kernel
    kernel.assign(random.normal(size=kernel.shape) * 3)
    save(saved, trained)
    version = tmp_path / "model" / "1"
    code, said = run_export(tmp_path / "log", "--run", tmp_path / "run", "--output", version)
    assert code == 0, said
    assert "576 numbers, of mobilenet_v3_small" in said
    info = json.loads((version / "assets" / "model.json").read_text())
    assert info["embedding"] == {
        "backbone": "mobilenet_v3_small",
        "weights_sha256": weights_sha256(trained.backbone),
        "width": 576,
    }
    pictures = [jpeg(number, width=250, height=230 + number) for number in range(3)]
    pixels = tf.stack([decode_and_resize(tf.constant(picture), 224) for picture in pictures])
    exported = Exported(version)
    expected = tf.nn.softmax(trained.model(pixels, training=False)).numpy()
    assert np.ptp(expected, axis=0).max() > 0.01, "the pictures are told apart"
    np.testing.assert_allclose(exported.predict(pictures, batch=2)["scores"], expected, atol=1e-4)
    assert exported.predict([b"no picture"])["prediction"].tolist() == [-1]
    vectors = exported.embed([*pictures, b"no picture"])
    np.testing.assert_allclose(vectors[:3], trained.backbone(pixels, training=False), atol=1e-4)
    assert not vectors[3].any()


class Embedded:
    """A head on embeddings of a backbone of its own, with everything that made them."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.run, self.data = folder / "run", folder / "embeddings"
        backbone = tiny_classifier().backbone
        assert backbone
        self.backbone = backbone

        def build_backbone(name: str, *, weights: str) -> keras.Model:
            assert name == "mobilenet_v3_small"
            other = tiny_classifier().backbone
            assert other
            for weight in other.weights:
                weight.assign(tf.zeros(weight.shape))
            other.load_weights(weights)
            return other

        monkeypatch.setattr(parts_module, "build_backbone", build_backbone)
        self.width = backbone.output_shape[-1]
        self.mean = np.linspace(-0.1, 0.1, self.width).astype(np.float32)
        self._write_data_set()
        self.saved = self._begin()

    def expected(self, pictures: Sequence[bytes]) -> tuple[Numbers, Numbers]:
        """Returns the vectors and the scores of pictures."""
        pixels = tf.stack([decode_and_resize(tf.constant(picture), 4) for picture in pictures])
        vectors = self.backbone(pixels, training=False)
        logits = restore_classifier(self.saved, 7).model((vectors - self.mean) / 0.05, training=False)
        return vectors.numpy(), tf.nn.softmax(logits).numpy()

    def _write_data_set(self) -> None:
        self.data.mkdir()
        record = frame(encode_example({EMBEDDING: [0.0] * self.width, Feature.LABEL: 0, Feature.KEY: b"a"}))
        splits = {}
        for split in ("train", "validation"):
            name = f"{split}-00000-of-00001.tfrecord"
            (self.data / name).write_bytes(record)
            shards = [{"name": name, "examples": 1, "sha256": split}]
            splits[split] = {"examples": 1, "labels": {"hat": 1}, "shards": shards}
        sha256 = weights_sha256(self.backbone)
        backbone = {"name": "mobilenet_v3_small", "width": self.width, "weights_sha256": sha256}
        info = {"labels": dict.fromkeys(LABELS, 1), "splits": splits, "backbone": backbone}
        (self.data / "dataset_info.json").write_text(json.dumps(info))
        (self.data / "labels.txt").write_text("".join(f"{label}\n" for label in LABELS))
        save_backbone_weights(self.backbone, str(self.data / BACKBONE_WEIGHTS_FILE))
        graph, mean = tf.Module(), tf.constant(self.mean)
        graph.transform_fn = tf.function(
            lambda inputs: {EMBEDDING: (inputs[EMBEDDING] - mean) / 0.05},
            input_signature=[{EMBEDDING: tf.TensorSpec([None, self.width], tf.float32)}],
        )
        tf.saved_model.save(graph, str(self.data / "transform_fn"))
        (self.data / "COMPLETED").touch()

    def _begin(self) -> SavedRun:
        options = resolve({"dataset": str(self.data), "model": "head", "hidden_units": (6,)})
        begin_run(str(self.run), options, read_data_set(str(self.data)))
        saved = read_saved_run(str(self.run))
        head = build_classifier(ModelSpec.of(options, width=self.width), labels=len(LABELS))
        random = np.random.default_rng(2)
        for variable in head.model.trainable_variables:
            variable.assign(random.normal(size=variable.shape) * 0.3)
        save(saved, head)
        return saved


@pytest.fixture
def embedded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Embedded:
    return Embedded(tmp_path, monkeypatch)


def test_a_head_on_embeddings_holds_all_that_made_them(embedded: Embedded, tmp_path: Path) -> None:
    export._export(["--run", str(embedded.run), "--output", f"{tmp_path}/model/1"])
    pictures = [jpeg(number) for number in range(5)]
    vectors, scores = embedded.expected(pictures)
    info = json.loads((tmp_path / "model" / "1" / "assets" / "model.json").read_text())
    assert (info["image_size"], info["embedding"]["width"]) == (4, embedded.width)
    shutil.rmtree(embedded.data)
    shutil.rmtree(embedded.run)
    exported = Exported(tmp_path / "model" / "1")
    np.testing.assert_allclose(exported.embed(pictures), vectors, atol=1e-6)
    answer = exported.predict(pictures)
    np.testing.assert_allclose(answer["scores"], scores, atol=1e-5)
    assert np.ptp(scores, axis=0).max() > 0.01, "the pictures are told apart"


def test_a_backbone_that_is_not_the_one_of_the_embeddings(embedded: Embedded, tmp_path: Path) -> None:
    embedded.backbone.weights[0].assign_add(tf.ones(embedded.backbone.weights[0].shape))
    save_backbone_weights(embedded.backbone, str(embedded.data / BACKBONE_WEIGHTS_FILE))
    with pytest.raises(OptionError, match=r"backbone\.weights\.h5 is not what made the embeddings of"):
        export._export(["--run", str(embedded.run), "--output", f"{tmp_path}/model/1"])
    assert os.listdir(tmp_path / "model") == []


class TestTrial:
    def parts(self, tmp_path: Path) -> tuple[ServedParts, str]:
        saved = begun_run(tmp_path / "run", model="small_cnn", image_size=16)
        classifier = build_classifier(ModelSpec.of(saved.options), labels=len(LABELS))
        parts = assemble(saved, classifier, None).parts
        save_served_model(build_served_module(parts, max_image_pixels=MAX_PIXELS), str(tmp_path / "model"))
        check_exported(str(tmp_path / "model"), parts, max_image_pixels=MAX_PIXELS)
        return parts, str(tmp_path / "model")

    def test_other_weights(self, tmp_path: Path) -> None:
        parts, directory = self.parts(tmp_path)
        parts.variables[-1].assign([0.0, 0.001, 0.0])
        with pytest.raises(RunError, match=r"does not say what it was made to say \(scores differ by 0.000"):
            check_exported(directory, parts, max_image_pixels=MAX_PIXELS)
        check_exported(directory, parts, max_image_pixels=MAX_PIXELS, tolerance=1e-2)

    def test_numbers_that_are_not_finite(self, tmp_path: Path) -> None:
        parts, _ = self.parts(tmp_path)
        parts.variables[-1].assign([0.0, np.nan, 0.0])
        save_served_model(build_served_module(parts, max_image_pixels=MAX_PIXELS), str(tmp_path / "other"))
        with pytest.raises(RunError, match="may not be finite; try another --checkpoint"):
            check_exported(str(tmp_path / "other"), parts, max_image_pixels=MAX_PIXELS)


def test_on_an_object_store(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with object_store():
        for name in files.list_files(str(trained / "run")):
            files.write_bytes(f"{BUCKET}/run/{name}", (trained / "run" / name).read_bytes())
        export._export(["--run", f"{BUCKET}/run", "--output", f"{BUCKET}/model/1"])
        assert files.list_files(f"{BUCKET}/model") == [f"1/{name}" for name in FILES]
        for name in ("saved_model.pb", "variables/variables.data-00000-of-00001"):
            assert len(files.read_bytes(f"{BUCKET}/model/1/{name}")) > 100
        with pytest.raises(OptionError, match=f"{BUCKET}/model/1 is there already: give --output {BUCKET}/model/2"):
            export._export(["--run", f"{BUCKET}/run", "--output", f"{BUCKET}/model/1"])
    assert f"{BUCKET}/model/1 is complete" in capsys.readouterr().out


WITHOUT_TENSORFLOW = "import sys\nsys.modules['tensorflow'] = None\nfrom trainer import export\n"


def refused(*arguments: object) -> str:
    """Returns what the command says to options that it refuses, where there is no TensorFlow."""
    program = f"{WITHOUT_TENSORFLOW}sys.exit(export.main({list(map(str, arguments))!r}))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 2, done.stderr
    return done.stderr.splitlines()[-1]


def test_what_is_refused_before_tensorflow_is_needed(trained: Path, embedded: Embedded, tmp_path: Path) -> None:
    run, model = trained / "run", trained / "model"
    assert refused("--run", run, "--output", model / "1") == (
        f"error: {model}/1 is there already: give --output {model}/2"
    )
    assert refused("--run", run, "--output", model) == (
        f"error: --output {model} does not end in the number of a version: give --output {model}/2"
    )
    assert "is no run" in refused("--run", tmp_path / "nothing", "--output", tmp_path / "1")
    shutil.rmtree(embedded.data)
    assert f"was trained on {embedded.data}, which is not there" in refused(
        "--run", embedded.run, "--output", tmp_path / "1"
    )


def test_it_needs_nothing_of_beam() -> None:
    absent = ["apache_beam", "tensorflow_transform", "pyarrow", "google.cloud.bigquery"]
    modules = "trainer.export, trainer.exporting.parts, trainer.exporting.trial, trainer.restoring"
    program = f"import sys\nsys.modules.update(dict.fromkeys({absent!r}))\nimport {modules}\n"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
