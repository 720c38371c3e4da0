"""An exported model, wherever it lies: finds it, loads it and asks it, a batch at a time.

A model directory is `MODEL/<version>/`, as TensorFlow Serving expects. TensorFlow is imported when a model is loaded;
Keras has no part in it, because all that a model needs is in its graph.
"""

import contextlib
import dataclasses
import hashlib
import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from beam_pipelines import files
from beam_pipelines.commands import native_messages_held_back
from beam_pipelines.errors import OptionError
from beam_pipelines.outcomes import sha256_of

MODEL_FILE = "saved_model.pb"
LABELS_ASSET = "assets/labels.txt"
INFO_ASSET = "assets/model.json"

PREDICT_SIGNATURE = "serving_default"
EMBED_SIGNATURE = "embed"

_LOGGER = logging.getLogger(__name__)

_Item = TypeVar("_Item")

_INPUTS = {"key": "string", "image_bytes": "string"}
_OUTPUTS = {
    PREDICT_SIGNATURE: {"key": "string", "prediction": "int64", "label": "string", "scores": "float32"},
    EMBED_SIGNATURE: {"key": "string", "embedding": "float32"},
}
_FINGERPRINTED = (MODEL_FILE, "variables/", "assets/")


@dataclasses.dataclass(frozen=True)
class Predictions:
    """What a model says of a batch of pictures.

    Attributes:
        class_ids: int64 [batch], the likeliest class of each; -1 where its bytes could not be decoded.
        labels: the names of those classes; empty where the bytes could not be decoded.
        scores: float32 [batch, classes]; zeros where the bytes could not be decoded.
    """

    class_ids: npt.NDArray[np.int64]
    labels: tuple[str, ...]
    scores: npt.NDArray[np.float32]

    @property
    def top_scores(self) -> npt.NDArray[np.float32]:
        """float32 [batch]: the score of the likeliest class of each picture, 0 where its bytes could not be decoded."""
        highest: npt.NDArray[np.float32] = self.scores.max(axis=1, initial=0)
        return highest


class Model:
    """A loaded model; threads may share it.

    Attributes:
        path: the directory of the version that was loaded.
        labels: the classes, in the order of their ids.
        info: what its export says of it, `assets/model.json`; empty if another program made it.
        width: of the embeddings that it gives; None if it gives none.
    """

    def __init__(self, path: str, signatures: Mapping[str, Any], *, labels: Sequence[str], info: Mapping[str, Any]):
        self.path = path
        self.labels = tuple(labels)
        self.info = info
        self._predict = _checked(path, PREDICT_SIGNATURE, signatures)
        self._embed = _checked(path, EMBED_SIGNATURE, signatures) if EMBED_SIGNATURE in signatures else None
        self.width = int(self._embed.structured_outputs["embedding"].shape[-1]) if self._embed else None
        self._check_labels()

    def predict(self, keys: Sequence[str], images: Sequence[bytes]) -> Predictions:
        """Returns what the model says of pictures, in one call of its signature.

        Args:
            keys: what the pictures are called.
            images: their files as they came; as many.
        """
        answer = _ask(self._predict, keys, images)
        labels = tuple(label.decode("utf-8", "surrogatepass") for label in answer["label"].numpy())
        return Predictions(answer["prediction"].numpy(), labels, answer["scores"].numpy())

    def embed(self, images: Sequence[bytes]) -> npt.NDArray[np.float32]:
        """Returns the vectors of pictures, float32 [batch, width], in one call of the signature.

        A picture whose bytes cannot be decoded has zeros.

        Raises:
            OptionError: the model gives no embeddings.
        """
        if self._embed is None:
            raise OptionError(
                f"model {self.path} gives no embeddings, it has no signature {EMBED_SIGNATURE}: "
                "give one with a backbone, or the head of a backbone's embeddings"
            )
        vectors: npt.NDArray[np.float32] = _ask(self._embed, [""] * len(images), images)["embedding"].numpy()
        return vectors

    def _check_labels(self) -> None:
        classes = self._predict.structured_outputs["scores"].shape[-1]
        if classes != len(self.labels):
            raise OptionError(f"model {self.path} has {len(self.labels)} labels for {classes} scores: export it again")


def find_model(path: str) -> str:
    """Returns the directory of a model's version: `path` itself, or its newest version (the highest number).

    Raises:
        OptionError: there is none.
    """
    if files.exists(files.join(path, MODEL_FILE)):
        return path
    names = files.list_directory(path)
    for version in sorted((name for name in names if _is_version(name)), key=int, reverse=True):
        found = files.join(path, version)
        if files.exists(files.join(found, MODEL_FILE)):
            return found
    there = f"it has {_in_words(names)}" if names else "nothing is there"
    raise OptionError(
        f"{path} is no model, {there}: give the directory of a SavedModel, which has a file {MODEL_FILE}, "
        "or the one that has its versions, such as trainer.export leaves"
    )


def read_model_info(path: str) -> Mapping[str, Any]:
    """Returns what its export says of the model in the directory `path`, local or gs://, without TensorFlow.

    Returns:
        `assets/model.json`; empty if another program made the model.

    Raises:
        OptionError: the file is damaged.
    """
    try:
        info = files.read_json(files.join(path, INFO_ASSET))
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise OptionError(f"{files.join(path, INFO_ASSET)} is damaged ({error}): export the model again") from error
    return info if isinstance(info, dict) else {}


def load_model(path: str, *, threads: int = 0) -> Model:
    """Loads a model (imports TensorFlow).

    Args:
        path: of a version, or of the directory of its versions; local or gs://.
        threads: that TensorFlow works on, where this process has not used it yet; 0 for as many as there are cores.

    Raises:
        OptionError: there is no such model, or it is not one that takes pictures and gives labels.
    """
    found = find_model(path)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    verbose = _LOGGER.isEnabledFor(logging.DEBUG)
    with _local_copy(found) as directory, contextlib.nullcontext() if verbose else native_messages_held_back():
        labels, info = _read_labels(found, directory), read_model_info(directory)
        return Model(found, _load_signatures(found, directory, threads=threads), labels=labels, info=info)


def batches_of(
    items: Iterable[_Item], *, size: int, max_pixels: int, pixels: Callable[[_Item], int]
) -> Iterator[list[_Item]]:
    """Yields `items` in their order, in batches whose pictures fit into memory together.

    Args:
        items: read no further than the batch that is yielded, and the item after it.
        size: the most items of a batch.
        max_pixels: the most pixels of a batch; an item that has more of them goes alone.
        pixels: of an item.
    """
    batch: list[_Item] = []
    held = 0
    for item in items:
        weight = pixels(item)
        if batch and (len(batch) == size or held + weight > max_pixels):
            yield batch
            batch, held = [], 0
        batch.append(item)
        held += weight
    if batch:
        yield batch


def model_fingerprint(path: str) -> str:
    """Returns a short hash of all that decides what the model in the directory `path` says; local or gs://."""
    digest = hashlib.sha256()
    for name in files.list_files(path):
        if name.startswith(_FINGERPRINTED):
            with files.open_to_read(files.join(path, name)) as file:
                digest.update(f"{name}\0{sha256_of(file)}\n".encode())
    return digest.hexdigest()[:16]


def _is_version(name: str) -> bool:
    return name.isascii() and name.isdigit() and int(name) > 0


def _in_words(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


@contextlib.contextmanager
def _local_copy(path: str) -> Iterator[str]:
    """Gives a directory of this machine that has the files of a model; all are read when the model is loaded."""
    if not files.is_remote(path):
        yield path
        return
    with tempfile.TemporaryDirectory() as folder:
        for name in files.list_files(path):
            target = os.path.join(folder, name)
            os.makedirs(os.path.dirname(target), exist_ok=True)
            with files.open_to_read(files.join(path, name)) as source, open(target, "wb") as copy:
                shutil.copyfileobj(source, copy)
        yield folder


def _read_labels(path: str, directory: str) -> list[str]:
    try:
        return list(files.read_lines(os.path.join(directory, LABELS_ASSET)))
    except FileNotFoundError as error:
        raise OptionError(f"model {path} has no {LABELS_ASSET}: give a model of trainer.export") from error


def _load_signatures(path: str, directory: str, *, threads: int) -> Mapping[str, Any]:
    import tensorflow as tf

    if threads:
        with contextlib.suppress(RuntimeError):  # this process has used TensorFlow before
            tf.config.threading.set_intra_op_parallelism_threads(threads)
            tf.config.threading.set_inter_op_parallelism_threads(threads)
    try:
        signatures: Mapping[str, Any] = tf.saved_model.load(directory).signatures
    except (OSError, ValueError, KeyError, RuntimeError, tf.errors.OpError) as error:
        first_line = (str(error).splitlines() or [type(error).__name__])[0]
        raise OptionError(f"model {path} cannot be loaded: {first_line}") from error
    return signatures


def _checked(path: str, name: str, signatures: Mapping[str, Any]) -> Any:
    """Returns a signature if it takes pictures and gives what is expected of it."""
    if name not in signatures:
        there = _in_words(sorted(signatures)) or "none"
        raise OptionError(f"model {path} has no signature {name} (it has {there}): give a model of trainer.export")
    signature = signatures[name]
    taken = {argument: spec.dtype.name for argument, spec in signature.structured_input_signature[1].items()}
    given = {output: spec.dtype.name for output, spec in signature.structured_outputs.items()}
    for what, found, expected in (("takes", taken, _INPUTS), ("gives", given, _OUTPUTS[name])):
        if found != expected:
            raise OptionError(
                f"the signature {name} of model {path} {what} {_typed(found)} instead of {_typed(expected)}: "
                "give a model of trainer.export"
            )
    return signature


def _typed(tensors: Mapping[str, str]) -> str:
    return ", ".join(f"{name} ({dtype})" for name, dtype in sorted(tensors.items())) or "nothing"


def _ask(signature: Any, keys: Sequence[str], images: Sequence[bytes]) -> Mapping[str, Any]:
    import tensorflow as tf

    answer: Mapping[str, Any] = signature(
        key=tf.constant([key.encode("utf-8", "surrogatepass") for key in keys], tf.string, [len(keys)]),
        image_bytes=tf.constant(list(images), tf.string, [len(images)]),
    )
    return answer
