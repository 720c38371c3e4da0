import hashlib
import http.server
import inspect
import random
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import h5py
import keras
import numpy as np
import numpy.typing as npt
import pytest
import tensorflow as tf

from beam_pipelines import files
from beam_pipelines.errors import OptionError
from tests.beam_pipelines.builders import BUCKET, object_store
from trainer import models
from trainer.models import (
    BACKBONES,
    backbone_layers,
    build_backbone,
    check_backbone,
    save_backbone_weights,
    weights_sha256,
)

pytestmark = pytest.mark.slow

Floats = npt.NDArray[np.float32]

IMAGENET_MEANS = (0.485, 0.456, 0.406)
IMAGENET_STDDEVS = (0.229, 0.224, 0.225)


def pictures(name: str) -> Floats:
    """Returns two pictures of the size that a backbone takes."""
    size = BACKBONES[name].input_size
    return np.random.default_rng(0).uniform(0, 255, (2, size, size, 3)).astype(np.float32)


def application(name: str, *, weights: str | None) -> keras.Model:
    """Returns what Keras Applications itself builds."""
    return getattr(keras.applications, BACKBONES[name].class_name)(include_top=False, pooling="avg", weights=weights)


def one_line(error: pytest.ExceptionInfo[OptionError]) -> str:
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.fixture(scope="module")
def backbone() -> keras.Model:
    return build_backbone("mobilenet", weights="none", seed=7)


@pytest.fixture(scope="module")
def saved(backbone: keras.Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("saved") / "mobilenet.weights.h5"
    save_backbone_weights(backbone, str(path))
    return path


@pytest.fixture(scope="module")
def published(saved: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns a file in the format of those that Keras Applications publishes."""
    path = tmp_path_factory.mktemp("published") / "mobilenet_notop.h5"
    application("mobilenet", weights=str(saved)).save(path)
    return path


class TestRegistry:
    def test_it_has_every_image_model_of_keras_applications(self) -> None:
        offered = {name for name, _ in inspect.getmembers(keras.applications, inspect.isfunction)}
        assert sorted(spec.class_name for spec in BACKBONES.values()) == sorted(offered)

    @pytest.mark.parametrize("name", BACKBONES)
    def test_a_row(self, name: str) -> None:
        spec = BACKBONES[name]
        assert spec.name == name == name.lower()
        assert name.replace("_", "") == spec.class_name.lower()
        assert spec.input_size >= 224
        module = getattr(keras.applications, spec.module)
        assert callable(module.preprocess_input)
        assert getattr(keras.applications, spec.class_name).__module__.endswith(f".{spec.module}")

    def test_names_and_sizes_need_no_tensorflow(self) -> None:
        script = (
            "import sys, trainer.models, trainer.pixels; print(trainer.models.check_backbone('xception').input_size); "
            "assert not {'tensorflow', 'keras', 'h5py', 'apache_beam'} & set(sys.modules)"
        )
        completed = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
        assert completed.stdout == "299\n"

    def test_a_name_that_is_nearly_right(self) -> None:
        with pytest.raises(OptionError, match=r"^--backbone resnet_50 is not .*: give one of .*resnet50") as error:
            check_backbone("resnet_50")
        assert "vgg16" not in one_line(error)

    def test_a_name_like_no_other(self) -> None:
        with pytest.raises(OptionError) as error:
            check_backbone("7")
        assert all(name in one_line(error) for name in BACKBONES)


class TestBuild:
    def test_pixels_to_vectors(self, backbone: keras.Model) -> None:
        vectors = backbone(pictures("mobilenet"))
        assert vectors.shape == (2, 1024)
        assert vectors.dtype == tf.float32
        assert backbone.name == "mobilenet"
        assert backbone.input_shape == (None, 224, 224, 3)

    @pytest.mark.parametrize("name", ["mobilenet", "vgg16", "mobilenet_v3_small"])
    def test_its_own_preprocessing_is_inside(self, tmp_path: Path, name: str) -> None:
        built = build_backbone(name, weights="none", seed=1)
        path = tmp_path / "a.weights.h5"
        save_backbone_weights(built, str(path))
        preprocess_input = getattr(keras.applications, BACKBONES[name].module).preprocess_input
        picture = pictures(name)[:1]
        expected = application(name, weights=str(path))(preprocess_input(picture.copy()))
        np.testing.assert_allclose(built(picture), expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())

    def test_the_layers_with_weights(self, backbone: keras.Model) -> None:
        layers = backbone_layers(backbone)
        assert layers[0].name == "conv1"
        assert layers[-1].name == "conv_pw_13_bn"
        assert sum(len(layer.weights) for layer in layers) == len(backbone.weights)
        assert backbone.trainable
        assert all(layer.trainable for layer in layers)

    def test_an_unknown_backbone(self) -> None:
        with pytest.raises(OptionError, match="mobilenet_v3_small"):
            build_backbone("mobilenet_v3", weights="none")


class TestSeed:
    def test_the_same_seed_gives_the_same_weights(self, backbone: keras.Model) -> None:
        keras.utils.set_random_seed(99)
        again = build_backbone("mobilenet", weights="none", seed=7)
        assert weights_sha256(again) == weights_sha256(backbone)
        other = build_backbone("mobilenet", weights="none", seed=8)
        assert weights_sha256(other) != weights_sha256(backbone)

    def test_other_random_numbers_are_left_alone(self) -> None:
        before = random.getstate()
        build_backbone("mobilenet", weights="none")
        assert random.getstate() == before
        seeds = [keras.initializers.GlorotUniform().seed for _ in range(2)]
        assert seeds[0] != seeds[1]

    def test_the_same_weights_in_every_process(self, backbone: keras.Model) -> None:
        script = (
            "from trainer.models import build_backbone, weights_sha256; "
            "print(weights_sha256(build_backbone('mobilenet', weights='none', seed=7)))"
        )
        completed = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
        assert completed.stdout.split()[-1] == weights_sha256(backbone)


class TestFiles:
    def test_weights_come_back(self, backbone: keras.Model, saved: Path) -> None:
        loaded = build_backbone("mobilenet", weights=str(saved), seed=1)
        assert weights_sha256(loaded) == weights_sha256(backbone)
        np.testing.assert_array_equal(loaded(pictures("mobilenet")), backbone(pictures("mobilenet")))

    def test_the_same_weights_give_the_same_bytes(self, saved: Path, tmp_path: Path) -> None:
        again = tmp_path / "again.weights.h5"
        save_backbone_weights(build_backbone("mobilenet", weights=str(saved), seed=1), str(again))
        assert again.read_bytes() == saved.read_bytes()
        other = tmp_path / "other.weights.h5"
        save_backbone_weights(build_backbone("mobilenet", weights="none", seed=8), str(other))
        assert other.read_bytes() != saved.read_bytes()

    def test_in_an_object_store(self, backbone: keras.Model, saved: Path) -> None:
        with object_store():
            path = f"{BUCKET}/embeddings/backbone.weights.h5"
            save_backbone_weights(backbone, path)
            assert files.read_bytes(path) == saved.read_bytes()
            assert weights_sha256(build_backbone("mobilenet", weights=path)) == weights_sha256(backbone)
            with pytest.raises(OptionError, match=f"^--weights {BUCKET}/none.h5 is not there"):
                build_backbone("mobilenet", weights=f"{BUCKET}/none.h5")

    def test_a_published_file(self, backbone: keras.Model, published: Path, tmp_path: Path) -> None:
        renamed = tmp_path / "renamed.weights.h5"
        shutil.copy(published, renamed)
        for path in (published, renamed):
            loaded = build_backbone("mobilenet", weights=str(path))
            assert weights_sha256(loaded) == weights_sha256(backbone)

    def test_the_hash_is_of_the_weights(self, saved: Path) -> None:
        changed = build_backbone("mobilenet", weights=str(saved))
        before = weights_sha256(changed)
        weight = backbone_layers(changed)[-1].weights[-1]
        weight.assign(weight + np.eye(1, weight.shape[0], dtype=np.float32)[0])
        assert len(before) == hashlib.sha256().digest_size * 2
        assert weights_sha256(changed) != before

    def test_no_such_file(self, tmp_path: Path) -> None:
        with pytest.raises(OptionError, match=r"none\.h5 is not there: give imagenet, none or the path") as error:
            build_backbone("mobilenet", weights=str(tmp_path / "none.h5"))
        one_line(error)

    def test_the_weights_of_another_backbone(self, saved: Path, published: Path) -> None:
        with pytest.raises(OptionError, match=r"--weights .* holds the weights of mobilenet, not of mobilenet_v2$"):
            build_backbone("mobilenet_v2", weights=str(saved))
        with pytest.raises(
            OptionError,
            match=r"^--weights .* does not hold the weights of mobilenet_v2: it has 135 arrays of 3,2\d+,\d+",
        ) as error:
            build_backbone("mobilenet_v2", weights=str(published))
        assert str(published) in one_line(error)

    def test_more_weights_than_the_backbone_has(self, saved: Path, tmp_path: Path) -> None:
        path = tmp_path / "more.weights.h5"
        shutil.copy(saved, path)
        with h5py.File(path, "a") as file:
            file["layers/conv2d_99/vars/0"] = np.zeros(3, np.float32)
        with pytest.raises(OptionError, match="does not hold the weights of mobilenet"):
            build_backbone("mobilenet", weights=str(path))

    @pytest.mark.parametrize("name", ["top.weights.h5", "top.h5"])
    def test_a_file_with_the_classification_layer(self, tmp_path: Path, name: str) -> None:
        whole = keras.applications.MobileNet(weights=None)
        whole.save_weights(tmp_path / name) if name.endswith(".weights.h5") else whole.save(tmp_path / name)
        with pytest.raises(OptionError, match=r"holds a classification layer.*give the file without it") as error:
            build_backbone("mobilenet", weights=str(tmp_path / name))
        one_line(error)

    @pytest.mark.parametrize("defect", ["text", "cut short", "empty", "folder", "no weights"])
    def test_a_file_that_holds_no_weights(self, saved: Path, tmp_path: Path, defect: str) -> None:
        path = tmp_path / "broken.h5"
        if defect == "folder":
            path.mkdir()
        elif defect == "no weights":
            h5py.File(path, "w").close()
        else:
            content = saved.read_bytes()
            path.write_bytes({"text": b"weights", "cut short": content[: len(content) // 2], "empty": b""}[defect])
        expected = "does not hold the weights" if defect == "no weights" else "cannot be read as weights"
        with pytest.raises(OptionError, match=f"^--weights .*broken.h5 {expected}") as error:
            build_backbone("mobilenet", weights=str(path))
        one_line(error)


class _Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        server = self.server
        assert isinstance(server, WeightsServer)
        server.asked.append(self.path)
        server.answer(self)

    def log_message(self, *_: object) -> None:
        pass


class WeightsServer(http.server.ThreadingHTTPServer):
    """Stands for the host of Keras Applications; `answer` says what it does."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.asked: list[str] = []
        self.answer: Callable[[http.server.BaseHTTPRequestHandler], None] = lambda request: request.send_error(404)
        self.released = threading.Event()

    def send(self, content: bytes, *, part: float = 1.0, wait: bool = False) -> None:
        """Answers with the first part of `content`, then ends, or waits long before it sends the rest."""
        sent = int(len(content) * part)

        def answer(request: http.server.BaseHTTPRequestHandler) -> None:
            request.send_response(200)
            request.send_header("Content-Length", str(len(content)))
            request.end_headers()
            request.wfile.write(content[:sent])
            request.wfile.flush()
            if wait and not self.released.wait(20):
                request.wfile.write(content[sent:])

        self.answer = answer


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "keras"


@pytest.fixture
def host(cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[WeightsServer]:
    """Has Keras download from a server of this process, to a cache of the test's own."""
    cache.mkdir()
    download = keras.utils.get_file
    with WeightsServer() as server:

        def get_file(fname: str, origin: str, **options: object) -> str:
            assert origin.startswith("https://storage.googleapis.com/")
            local = origin.replace("https://storage.googleapis.com", f"http://127.0.0.1:{server.server_port}")
            path = download(fname, local, cache_dir=str(cache), **options)
            assert isinstance(path, str)
            return path

        monkeypatch.setattr(keras.utils, "get_file", get_file)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.released.set()
            server.shutdown()
            thread.join()


class TestImageNet:
    def test_it_is_downloaded_once(
        self, host: WeightsServer, published: Path, backbone: keras.Model, capsys: pytest.CaptureFixture[str]
    ) -> None:
        host.send(published.read_bytes())
        for _ in range(2):
            assert weights_sha256(build_backbone("mobilenet", weights="imagenet")) == weights_sha256(backbone)
        assert host.asked == ["/tensorflow/keras-applications/mobilenet/mobilenet_1_0_224_tf_no_top.h5"]
        assert capsys.readouterr().out == ""

    def test_half_a_file_in_the_cache_is_not_taken_for_whole(
        self, host: WeightsServer, cache: Path, published: Path, backbone: keras.Model
    ) -> None:
        half = cache / "models" / "mobilenet_1_0_224_tf_no_top.h5"
        half.parent.mkdir()
        half.write_bytes(published.read_bytes()[:100_000])
        host.send(published.read_bytes())
        assert weights_sha256(build_backbone("mobilenet", weights="imagenet")) == weights_sha256(backbone)
        assert len(host.asked) == 1

    @pytest.mark.parametrize("failure", ["missing", "broken off", "silence", "other bytes", "refused"])
    def test_a_download_that_fails(
        self,
        host: WeightsServer,
        cache: Path,
        published: Path,
        monkeypatch: pytest.MonkeyPatch,
        failure: str,
    ) -> None:
        name = "mobilenet"
        monkeypatch.setattr(models, "_SILENCE_SECONDS", 0.3)
        if failure == "broken off":
            host.send(published.read_bytes(), part=0.5)
        if failure == "silence":
            host.send(published.read_bytes(), part=0.5, wait=True)
        if failure == "other bytes":
            name = "mobilenet_v3_small"
            host.send(published.read_bytes())
        if failure == "refused":
            host.server_close()
        with pytest.raises(OptionError, match=f"^--weights imagenet cannot be downloaded for {name} ") as error:
            build_backbone(name, weights="imagenet")
        assert "fetch https://storage.googleapis.com/tensorflow/keras-applications/mobilenet" in one_line(error)
        assert "top" in one_line(error)
        assert one_line(error).endswith("give the path of that file as --weights")
        if failure != "other bytes":
            assert not list((cache / "models").iterdir())


def test_efficientnets_are_scaled_as_with_their_published_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "efficientnet_b0"
    built = build_backbone(name, weights="none", seed=3)
    normalization = next(layer for layer in built.layers if isinstance(layer, keras.layers.Normalization))
    normalization.set_weights([np.array(IMAGENET_MEANS), np.array(IMAGENET_STDDEVS), np.array(0)])
    normalization.finalize_state()
    path = tmp_path / "a.weights.h5"
    save_backbone_weights(built, str(path))
    monkeypatch.setattr("keras.src.utils.file_utils.get_file", lambda *_, **__: str(path))
    expected = application(name, weights="imagenet")(pictures(name)[:1])
    np.testing.assert_allclose(built(pictures(name)[:1]), expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())
