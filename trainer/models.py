"""The backbones: every image model of Keras Applications by its name, with its own preprocessing and weights.

A backbone is one flat Keras model: the application's own preprocessing, then its layers without the classification
layer, then the mean over all positions. Names and sizes are known without TensorFlow; it is imported when a model is
built. What `save_backbone_weights` writes can also be given to Keras Applications themselves, as their `weights`.
"""

import contextlib
import dataclasses
import difflib
import hashlib
import math
import os
import random
import shutil
import socket
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from types import ModuleType
from typing import TYPE_CHECKING, Any, cast

from beam_pipelines.errors import OptionError

if TYPE_CHECKING:
    import h5py
    import keras

IMAGENET = "imagenet"
NO_WEIGHTS = "none"

_IMAGENET_CLASSES = 1000
_IMAGENET_STDDEVS = (0.229, 0.224, 0.225)
# The name of the backbone, in the files that `save_backbone_weights` writes.
_BACKBONE_ATTRIBUTE = "backbone"
# A host that does not answer for so long is taken for unreachable.
_SILENCE_SECONDS = 10


@dataclasses.dataclass(frozen=True, kw_only=True)
class BackboneSpec:
    """An image model of Keras Applications.

    Attributes:
        name: what the options call it.
        input_size: side of the square pictures, in pixels, that its published weights were trained on.
        class_name: its function in `keras.applications`.
        module: the module of `keras.applications` that has its `preprocess_input`.
    """

    name: str
    input_size: int
    class_name: str
    module: str


def _registry(*rows: tuple[str, int, str, str]) -> dict[str, BackboneSpec]:
    return {
        name: BackboneSpec(name=name, input_size=size, class_name=class_name, module=module)
        for name, size, class_name, module in rows
    }


BACKBONES: Mapping[str, BackboneSpec] = _registry(
    ("convnext_tiny", 224, "ConvNeXtTiny", "convnext"),
    ("convnext_small", 224, "ConvNeXtSmall", "convnext"),
    ("convnext_base", 224, "ConvNeXtBase", "convnext"),
    ("convnext_large", 224, "ConvNeXtLarge", "convnext"),
    ("convnext_xlarge", 224, "ConvNeXtXLarge", "convnext"),
    ("densenet121", 224, "DenseNet121", "densenet"),
    ("densenet169", 224, "DenseNet169", "densenet"),
    ("densenet201", 224, "DenseNet201", "densenet"),
    ("efficientnet_b0", 224, "EfficientNetB0", "efficientnet"),
    ("efficientnet_b1", 240, "EfficientNetB1", "efficientnet"),
    ("efficientnet_b2", 260, "EfficientNetB2", "efficientnet"),
    ("efficientnet_b3", 300, "EfficientNetB3", "efficientnet"),
    ("efficientnet_b4", 380, "EfficientNetB4", "efficientnet"),
    ("efficientnet_b5", 456, "EfficientNetB5", "efficientnet"),
    ("efficientnet_b6", 528, "EfficientNetB6", "efficientnet"),
    ("efficientnet_b7", 600, "EfficientNetB7", "efficientnet"),
    ("efficientnet_v2_b0", 224, "EfficientNetV2B0", "efficientnet_v2"),
    ("efficientnet_v2_b1", 240, "EfficientNetV2B1", "efficientnet_v2"),
    ("efficientnet_v2_b2", 260, "EfficientNetV2B2", "efficientnet_v2"),
    ("efficientnet_v2_b3", 300, "EfficientNetV2B3", "efficientnet_v2"),
    ("efficientnet_v2_s", 384, "EfficientNetV2S", "efficientnet_v2"),
    ("efficientnet_v2_m", 480, "EfficientNetV2M", "efficientnet_v2"),
    ("efficientnet_v2_l", 480, "EfficientNetV2L", "efficientnet_v2"),
    ("inception_resnet_v2", 299, "InceptionResNetV2", "inception_resnet_v2"),
    ("inception_v3", 299, "InceptionV3", "inception_v3"),
    ("mobilenet", 224, "MobileNet", "mobilenet"),
    ("mobilenet_v2", 224, "MobileNetV2", "mobilenet_v2"),
    ("mobilenet_v3_large", 224, "MobileNetV3Large", "mobilenet_v3"),
    ("mobilenet_v3_small", 224, "MobileNetV3Small", "mobilenet_v3"),
    ("nasnet_large", 331, "NASNetLarge", "nasnet"),
    ("nasnet_mobile", 224, "NASNetMobile", "nasnet"),
    ("resnet50", 224, "ResNet50", "resnet"),
    ("resnet101", 224, "ResNet101", "resnet"),
    ("resnet152", 224, "ResNet152", "resnet"),
    ("resnet50_v2", 224, "ResNet50V2", "resnet_v2"),
    ("resnet101_v2", 224, "ResNet101V2", "resnet_v2"),
    ("resnet152_v2", 224, "ResNet152V2", "resnet_v2"),
    ("vgg16", 224, "VGG16", "vgg16"),
    ("vgg19", 224, "VGG19", "vgg19"),
    ("xception", 299, "Xception", "xception"),
)


def check_backbone(name: str) -> BackboneSpec:
    """Returns the backbone of that name; raises OptionError, with the names that are near, if there is none."""
    if name in BACKBONES:
        return BACKBONES[name]
    near = difflib.get_close_matches(name, BACKBONES, n=4) or sorted(BACKBONES)
    raise OptionError(f"--backbone {name} is not a model of Keras Applications: give one of {', '.join(near)}")


def build_backbone(name: str, *, weights: str, seed: int = 0) -> "keras.Model":
    """Builds a backbone.

    Args:
        name: one of `BACKBONES`.
        weights: `imagenet`, which Keras downloads once and keeps in its cache (`~/.keras/models`, or below
            `$KERAS_HOME`); `none`, random ones; or a path, local or `gs://`, of what `save_backbone_weights` wrote or
            of a file of Keras Applications without the classification layer (`…notop.h5`, `…no_top.h5`).
        seed: what random weights come from; the same seed gives the same weights in every process.

    Returns:
        a model of float32 [batch, size, size, 3], RGB in 0..255, to float32 [batch, width], where size is the
        `input_size` of the backbone's spec. Its name is `name`.

    Raises:
        OptionError: there is no such backbone or no such file, the file holds other weights, or `imagenet` cannot be
            downloaded.
    """
    spec = check_backbone(name)
    with _weights_file(spec, weights) as file, _seeded(seed):
        backbone = _with_published_scaling(spec, _call_application(spec, weights=None))
        if file:
            _load_weights(backbone, file)
    return backbone


def save_backbone_weights(backbone: "keras.Model", path: str) -> None:
    """Writes a backbone's weights, local or `gs://`, whole or not at all; the same weights give the same bytes."""
    import h5py

    from beam_pipelines import files

    with tempfile.TemporaryDirectory() as folder:
        keras_path, plain_path = os.path.join(folder, "keras.weights.h5"), os.path.join(folder, "plain.weights.h5")
        backbone.save_weights(keras_path)
        with h5py.File(keras_path, "r") as source, h5py.File(plain_path, "w") as target:
            _copy_arrays(source, target)
            target.attrs[_BACKBONE_ATTRIBUTE] = backbone.name
        with open(plain_path, "rb") as plain, files.open_to_write(path) as file:
            shutil.copyfileobj(plain, file)


def weights_sha256(backbone: "keras.Model") -> str:
    """Returns the hash, in hex, of all weights' shapes, dtypes and values in order, wherever they came from."""
    digest = hashlib.sha256()
    for weight in backbone.weights:
        value = weight.numpy()
        digest.update(f"{value.dtype.name}{value.shape}".encode())
        digest.update(value.tobytes())
    return digest.hexdigest()


def backbone_layers(backbone: "keras.Model") -> "list[keras.layers.Layer]":
    """Returns the layers that have weights, in order from the picture to the vector."""
    return [layer for layer in backbone.layers if layer.weights]


def _call_application(spec: BackboneSpec, *, weights: str | None) -> "keras.Model":
    import keras

    shape = (spec.input_size, spec.input_size, 3)
    pixels = keras.Input(shape, dtype="float32", name="pixels")
    preprocess_input = getattr(keras.applications, spec.module).preprocess_input
    application = getattr(keras.applications, spec.class_name)
    layers = application(
        include_top=False,
        weights=weights,
        pooling="avg",
        input_tensor=preprocess_input(pixels),
        input_shape=shape,
    )
    return keras.Model(pixels, layers.output, name=spec.name)


def _with_published_scaling(spec: BackboneSpec, backbone: "keras.Model") -> "keras.Model":
    """Returns the model as its published weights want it.

    Keras builds the EfficientNets with one more scaling, behind their normalization, only when it loads the published
    weights itself. Here a backbone is the same wherever its weights come from.
    """
    import keras

    if spec.module != "efficientnet":
        return backbone
    scales = [1 / math.sqrt(stddev) for stddev in _IMAGENET_STDDEVS]

    def call(layer: "keras.layers.Layer", *arguments: Any, **options: Any) -> Any:
        output = layer(*arguments, **options)
        return keras.layers.Rescaling(scales)(output) if isinstance(layer, keras.layers.Normalization) else output

    return keras.models.clone_model(backbone, clone_function=lambda layer: layer, call_function=call)


@contextlib.contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Has the layers that are made in the block draw their weights from `seed`.

    Keras seeds each from Python's own random numbers, which an import or another thread may use meanwhile.
    """
    from keras.src.random import seed_generator

    with _replaced(seed_generator, "python_random", random.Random(seed)):  # noqa: S311  (no secret)
        yield


@contextlib.contextmanager
def _replaced(module: ModuleType, name: str, value: object) -> Iterator[None]:
    original = getattr(module, name)
    setattr(module, name, value)
    try:
        yield
    finally:
        setattr(module, name, original)


class _PublishedFile(Exception):  # noqa: N818
    """The ImageNet weights of a backbone, as Keras Applications asks for them."""

    def __init__(self, fname: str, origin: str, *, cache_subdir: str, file_hash: str | None = None) -> None:
        super().__init__(origin)
        self.name = fname
        self.url = origin
        self.folder = cache_subdir
        self.hash = file_hash


def _published_file(spec: BackboneSpec) -> _PublishedFile:
    """Returns which file Keras Applications would download; it tells nobody but its own `get_file`."""
    from keras.src.utils import file_utils

    def get_file(*arguments: Any, **options: Any) -> str:
        raise _PublishedFile(*arguments, **options)

    with _replaced(file_utils, "get_file", get_file):
        try:
            _call_application(spec, weights=IMAGENET)
        except _PublishedFile as file:
            return file
    raise AssertionError(f"Keras Applications ask for no file of {spec.name}")


def _download(spec: BackboneSpec) -> str:
    """Returns the path of the published weights in Keras' cache, downloaded if they are not there whole.

    Keras deletes what it downloaded of a file when the download fails, but not when the process is killed. It checks
    a file's hash before it takes it from the cache, except those without one: these are opened here.
    """
    file = _published_file(spec)
    try:
        path = _get_file(file)
        return path if file.hash or _is_hdf5(path) else _get_file(file, force_download=True)
    except Exception as error:  # Keras raises no class of its own
        reason = str(error).rpartition(" -- ")[2] or type(error).__name__
        raise OptionError(
            f"--weights {IMAGENET} cannot be downloaded for {spec.name} ({reason}): "
            f"fetch {file.url} where there is a network, and give the path of that file as --weights"
        ) from error


def _get_file(file: _PublishedFile, *, force_download: bool = False) -> str:
    import keras

    silence = socket.getdefaulttimeout()
    socket.setdefaulttimeout(_SILENCE_SECONDS)
    try:
        with contextlib.redirect_stdout(sys.stderr):
            path = keras.utils.get_file(
                file.name,
                file.url,
                cache_subdir=file.folder,
                file_hash=file.hash,
                force_download=force_download,
            )
    finally:
        socket.setdefaulttimeout(silence)
    return cast(str, path)


def _is_hdf5(path: str) -> bool:
    """Tells whether a file is a whole HDF5 file: one that is shorter than its header says cannot be opened."""
    import h5py

    try:
        with h5py.File(path, "r"):
            return True
    except OSError:
        return False


Shapes = Counter[tuple[int, ...]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class _WeightsFile:
    """A file of weights.

    Attributes:
        path: what the user calls it.
        local_path: where it can be read.
        legacy: it is in the format of the files that Keras Applications publishes.
        backbone: the name of the backbone that it was saved from; empty if the file does not say.
        shapes: how many arrays it has of each shape.
    """

    path: str
    local_path: str
    legacy: bool
    backbone: str
    shapes: Shapes


@contextlib.contextmanager
def _weights_file(spec: BackboneSpec, weights: str) -> Iterator[_WeightsFile | None]:
    """Gives the file that `weights` stands for; None for `none`.

    Raises:
        OptionError: there is none, it cannot be downloaded, or it is not HDF5.
    """
    if weights == NO_WEIGHTS:
        yield None
        return
    path = _download(spec) if weights == IMAGENET else weights
    with _local_file(path) as local_path:
        yield _inspect(path, local_path)


@contextlib.contextmanager
def _local_file(path: str) -> Iterator[str]:
    """Gives a local path of the file at `path`, local or `gs://`; raises OptionError if there is none."""
    from beam_pipelines import files

    if not files.exists(path):
        raise OptionError(f"--weights {path} is not there: give {IMAGENET}, {NO_WEIGHTS} or the path of a file")
    if not files.is_remote(path):
        yield path
        return
    with tempfile.TemporaryDirectory() as folder:
        local_path = os.path.join(folder, "backbone.h5")
        with files.open_to_read(path) as source, open(local_path, "wb") as target:
            shutil.copyfileobj(source, target)
        yield local_path


def _inspect(path: str, local_path: str) -> _WeightsFile:
    import h5py

    try:
        with h5py.File(local_path, "r") as file:
            weights = file.get("model_weights", file)
            return _WeightsFile(
                path=path,
                local_path=os.path.abspath(local_path),
                legacy="layer_names" in weights.attrs,
                backbone=str(file.attrs.get(_BACKBONE_ATTRIBUTE, "")),
                shapes=Counter(array.shape for array in _arrays(weights).values()),
            )
    except (OSError, RuntimeError) as error:
        raise _unreadable(path) from error


def _load_weights(backbone: "keras.Model", file: _WeightsFile) -> None:
    """Loads a file's weights; raises OptionError if they are not the backbone's."""
    if not file.legacy and file.shapes != _shapes(backbone):
        raise _other_weights(backbone, file)
    with tempfile.TemporaryDirectory() as folder:
        # Keras tells its two formats apart by the end of the name.
        link = os.path.join(folder, "backbone.h5" if file.legacy else "backbone.weights.h5")
        os.symlink(file.local_path, link)
        try:
            backbone.load_weights(link)
        except OSError as error:
            raise _unreadable(file.path) from error
        except ValueError as error:
            raise _other_weights(backbone, file) from error


def _arrays(group: "h5py.Group") -> "dict[str, h5py.Dataset]":
    """Returns the weights below a group by their paths, without the states of random generators and optimizers."""
    import h5py

    found: dict[str, h5py.Dataset] = {}

    def add(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset) and "seed_generator" not in name and not name.startswith("optimizer"):
            found[name] = item

    group.visititems(add)
    return found


def _copy_arrays(source: "h5py.File", target: "h5py.File") -> None:
    """Copies the weights alone: Keras adds names to them that count how many layers the process has made."""
    for name, array in _arrays(source).items():
        target.create_dataset(name, data=array[()], track_times=False)


def _shapes(backbone: "keras.Model") -> Shapes:
    return Counter(tuple(weight.shape) for weight in backbone.weights)


def _unreadable(path: str) -> OptionError:
    return OptionError(
        f"--weights {path} cannot be read as weights in HDF5: it is something else, was cut short, or is damaged"
    )


def _other_weights(backbone: "keras.Model", file: _WeightsFile) -> OptionError:
    """Returns the error of a file whose weights are not the backbone's."""
    expected = _shapes(backbone)
    if file.backbone and file.backbone != backbone.name:
        return OptionError(f"--weights {file.path} holds the weights of {file.backbone}, not of {backbone.name}")
    top = (_IMAGENET_CLASSES,)
    if file.shapes[top] > expected[top]:
        return OptionError(
            f"--weights {file.path} holds a classification layer, {backbone.name} has none here: give the file without "
            "it, whose name ends in notop.h5, no_top.h5 or the like"
        )
    return OptionError(
        f"--weights {file.path} does not hold the weights of {backbone.name}: it has {_describe(file.shapes)}, "
        f"{backbone.name} has {_describe(expected)}"
    )


def _describe(shapes: Shapes) -> str:
    numbers = sum(math.prod(shape) * count for shape, count in shapes.items())
    return f"{shapes.total():,} arrays of {numbers:,} numbers"
