"""The data set directory: names of files and features, and how to read them. Imports neither Beam nor TensorFlow.

labels.txt                               one label a line; the line number, from 0, is the class id
transform_fn/, transformed_metadata/     the TensorFlow Transform graph: label -> class id
train-00000-of-00006.tfrecord …          examples, uncompressed; some shards may be empty
rejected.jsonl                           one line a rejected row, sorted
dataset_info.json, report.html           what was asked for and what came of it
COMPLETED                                written last
.plan/                                   what was decided before the first fetch, and the account of every shard

A data set of embeddings is the same, made from one of pictures: its examples have the backbone's vector instead of the
picture, its graph normalises that vector, and `backbone.weights.h5` is the backbone that gave it.
"""

import dataclasses
import enum
import re
from typing import Any

TRAIN = "train"
VALIDATION = "validation"
SPLITS = (TRAIN, VALIDATION)

LABELS_FILE = "labels.txt"
TRANSFORM_DIRECTORIES = ("transform_fn", "transformed_metadata")
REJECTED_FILE = "rejected.jsonl"
INFO_FILE = "dataset_info.json"
REPORT_FILE = "report.html"
# Instead of INFO_FILE where the pictures were only checked.
CHECK_INFO_FILE = "check_info.json"
COMPLETED_FILE = "COMPLETED"

PLAN_DIRECTORY = ".plan"
# Written last of the plan, so that its presence says that the plan is whole.
PLAN_FILE = "plan.json"

# The feature of an embedding, float32 [width] as the backbone gave it; also its name on both sides of the graph.
EMBEDDING = "embedding"
BACKBONE_WEIGHTS_FILE = "backbone.weights.h5"

# The name of the label column on both sides of the TensorFlow Transform graph: string in, int64 class id out.
LABEL_COLUMN = "label"


class Feature(enum.StrEnum):
    """Features of an image example, named as TF-Slim's readers expect, and the picture's identity."""

    ENCODED = "image/encoded"
    FORMAT = "image/format"
    HEIGHT = "image/height"
    WIDTH = "image/width"
    LABEL = "image/class/label"
    TEXT = "image/class/text"
    KEY = "image/key"
    URI = "image/uri"
    SHA256 = "image/sha256"


@dataclasses.dataclass(frozen=True, order=True)
class Shard:
    """One file of examples: `train-00003-of-00032`."""

    split: str
    index: int
    count: int

    @property
    def name(self) -> str:
        """The name without an ending."""
        return f"{self.split}-{self.index:05d}-of-{self.count:05d}"

    @property
    def file_name(self) -> str:
        """The name of its file in the data set directory."""
        return f"{self.name}.tfrecord"

    @classmethod
    def parse(cls, name: str) -> "Shard":
        """Returns the shard of that name, with or without the ending; raises ValueError for any other name."""
        match = re.fullmatch(r"(train|validation)-(\d{5})-of-(\d{5})(\.tfrecord)?", name)
        if not match:
            raise ValueError(f"not the name of a shard: {name!r}")
        return cls(match[1], int(match[2]), int(match[3]))


def shards_of(counts: dict[str, int]) -> list[Shard]:
    """Returns every shard of a data set that has `counts[split]` of them in each split."""
    return [Shard(split, index, counts[split]) for split in SPLITS for index in range(counts.get(split, 0))]


def feature_spec(*, multi_label: bool = False) -> dict[str, Any]:
    """Returns the `tf.io.parse_example` specification of the image examples (imports TensorFlow).

    Labels are int64 [batch], or a sparse int64 [batch, labels] if `multi_label`; everything else is [batch].
    """
    import tensorflow as tf

    return {
        Feature.ENCODED.value: tf.io.FixedLenFeature([], tf.string),
        Feature.FORMAT.value: tf.io.FixedLenFeature([], tf.string),
        Feature.HEIGHT.value: tf.io.FixedLenFeature([], tf.int64),
        Feature.WIDTH.value: tf.io.FixedLenFeature([], tf.int64),
        **_identity_spec(multi_label=multi_label),
    }


def embedding_spec(width: int, *, multi_label: bool = False) -> dict[str, Any]:
    """Returns the `tf.io.parse_example` specification of the embedding examples (imports TensorFlow).

    The embedding is float32 [batch, width], labels are as in `feature_spec`, everything else is [batch].
    """
    import tensorflow as tf

    return {EMBEDDING: tf.io.FixedLenFeature([width], tf.float32), **_identity_spec(multi_label=multi_label)}


def _identity_spec(*, multi_label: bool) -> dict[str, Any]:
    import tensorflow as tf

    def labels(dtype: tf.DType) -> tf.io.VarLenFeature | tf.io.FixedLenFeature:
        return tf.io.VarLenFeature(dtype) if multi_label else tf.io.FixedLenFeature([], dtype)

    return {
        Feature.LABEL.value: labels(tf.int64),
        Feature.TEXT.value: labels(tf.string),
        Feature.KEY.value: tf.io.FixedLenFeature([], tf.string),
        Feature.URI.value: tf.io.FixedLenFeature([], tf.string),
        Feature.SHA256.value: tf.io.FixedLenFeature([], tf.string),
    }
