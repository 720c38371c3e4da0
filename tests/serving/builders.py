"""What several tests of serving build: pictures of one colour, models that were never trained, data sets of vectors."""

import io
import json
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from beam_pipelines.dataset import EMBEDDING, Feature
from beam_pipelines.images import ImageHeader
from beam_pipelines.tfrecords import encode_example, frame
from serving.collection import Collection
from serving.model import Predictions
from serving.pictures import Picture

BLACK, GREY, WHITE = (0, 0, 0), (128, 128, 128), (255, 255, 255)


def png(colour: tuple[int, int, int], *, width: int = 24, height: int = 20) -> bytes:
    """Returns a picture of one colour."""
    file = io.BytesIO()
    Image.new("RGB", (width, height), colour).save(file, "PNG")
    return file.getvalue()


def noisy_png(*, seed: int, side: int) -> bytes:
    """Returns a picture that cannot be packed."""
    file = io.BytesIO()
    Image.frombytes("RGB", (side, side), random.Random(seed).randbytes(3 * side * side)).save(file, "PNG")
    return file.getvalue()


def picture(key: str, data: bytes = b"bytes", *, width: int = 10, height: int = 10) -> Picture:
    """Returns a picture as it is when it has been read."""
    return Picture(key=key, data=data, header=ImageHeader("JPEG", width, height))


class LengthModel:
    """Stands in for a model: its class is the number of bytes, -1 for 3 of them; it remembers its batches."""

    labels = ("none", "one", "two")

    def __init__(self) -> None:
        self.batches: list[list[str]] = []

    def predict(self, keys: Sequence[str], images: Sequence[bytes]) -> Predictions:
        self.batches.append(list(keys))
        ids = np.array([len(data) if len(data) < 3 else -1 for data in images], np.int64)
        scores = np.zeros((len(images), 3), np.float32)
        for row, class_id in enumerate(ids):
            if class_id >= 0:
                scores[row] = 0.125
                scores[row, class_id] = 0.75
        return Predictions(ids, tuple("" if class_id < 0 else self.labels[class_id] for class_id in ids), scores)

    def embed(self, images: Sequence[bytes]) -> npt.NDArray[np.float32]:
        return np.array([[len(data), 1.0] if len(data) < 3 else [0.0, 0.0] for data in images], np.float32)


def embedding_example(key: str, vector: Sequence[float], *, labels: Sequence[str] = ("hat",), uri: str = "") -> bytes:
    """Returns an example as embed writes it."""
    return encode_example(
        {
            EMBEDDING: [float(value) for value in vector],
            Feature.LABEL: list(range(len(labels))),
            Feature.TEXT: [label.encode() for label in labels],
            Feature.KEY: key.encode("utf-8", "surrogatepass"),
            Feature.URI: (uri or f"http://museum.example/{key}").encode("utf-8", "surrogatepass"),
            Feature.SHA256: b"0" * 64,
        }
    )


def write_collection(
    directory: Path,
    shards: Mapping[str, Sequence[bytes]],
    *,
    width: int,
    backbone: str = "mean_colour",
    weights_sha256: str = "0" * 64,
    made_from: Mapping[str, Any] | None = None,
) -> Collection:
    """Writes a finished data set of embeddings of serialized examples.

    Args:
        directory: where to.
        shards: the examples by the shard's name without its ending.
        width: of the vectors.
        backbone: its name.
        weights_sha256: of the backbone.
        made_from: path and fingerprint of the data set of pictures.
    """
    directory.mkdir(parents=True)
    splits: dict[str, Any] = {"train": {"shards": []}, "validation": {"shards": []}}
    for name, examples in shards.items():
        (directory / f"{name}.tfrecord").write_bytes(b"".join(map(frame, examples)))
        shard = {"name": f"{name}.tfrecord", "examples": len(examples), "sha256": ""}
        splits[name.split("-")[0]]["shards"].append(shard)
    info = {
        "backbone": {"name": backbone, "weights_sha256": weights_sha256, "width": width, "input_size": 16},
        "splits": splits,
        "dataset": dict(made_from or {}),
    }
    (directory / "dataset_info.json").write_text(json.dumps(info))
    (directory / "COMPLETED").write_text("")
    return Collection(
        directory=str(directory),
        backbone=backbone,
        weights_sha256=weights_sha256,
        width=width,
        works=sum(map(len, shards.values())),
        shards=tuple(f"{name}.tfrecord" for name, examples in shards.items() if examples),
    )
