"""The files that TensorBoard's embedding projector reads: `tensorboard --logdir DIRECTORY`.

Formats: https://www.tensorflow.org/tensorboard/tensorboard_projector_plugin and
https://github.com/tensorflow/tensorboard/blob/master/tensorboard/plugins/projector/projector_plugin.py

Vectors are written as text. TensorBoard can read float32 bytes as well, but only takes a file for bytes if its first
line cannot be decoded as UTF-8, which vectors with many zeros may be.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from beam_pipelines import files
from beam_pipelines.pages import visible
from beam_pipelines.sprite import Sprite

_EMPTY = "-"

_CONFIG = """embeddings {{
  tensor_name: "embedding"
  tensor_path: "vectors.tsv"
  tensor_shape: {rows}
  tensor_shape: {width}
  metadata_path: "metadata.tsv"
  sprite {{
    image_path: "sprite.png"
    single_image_dim: {side}
    single_image_dim: {side}
  }}
}}
"""


def write_projector(
    metadata: Mapping[str, Sequence[str]], vectors: NDArray[np.float32], sprite: Sprite, *, directory: str
) -> None:
    """Writes the files into `directory`, beside what is there; the configuration last.

    Args:
        metadata: at least two columns by name, each with a text for every vector.
        vectors: at least one, finite, float32 [vectors, width]; five digits of each number are written.
        sprite: of a small picture for each vector.
        directory: on any file system.
    """
    config_path = files.join(directory, "projector_config.pbtxt")
    files.remove(config_path)
    row = "\t".join(["%.5g"] * vectors.shape[1])
    files.write_lines(files.join(directory, "vectors.tsv"), (row % tuple(vector) for vector in vectors.tolist()))
    lines = map(_metadata_line, zip(*metadata.values(), strict=True))
    files.write_lines(files.join(directory, "metadata.tsv"), [_metadata_line(tuple(metadata)), *lines])
    files.write_bytes(files.join(directory, "sprite.png"), sprite.as_png())
    config = _CONFIG.format(rows=len(vectors), width=vectors.shape[1], side=sprite.side)
    files.write_bytes(config_path, config.encode())


def _metadata_line(columns: Sequence[str]) -> str:
    """Returns a line of columns, none of them empty, since TensorBoard trims lines before it parts them.

    What would break the line, and other characters that do not show, is escaped.
    """
    return "\t".join(str(visible(column)).strip() or _EMPTY for column in columns)
