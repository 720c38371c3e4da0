"""The files that TensorBoard's embedding projector reads: `tensorboard --logdir OUTPUT/projector`.

Formats: https://www.tensorflow.org/tensorboard/tensorboard_projector_plugin and
https://github.com/tensorflow/tensorboard/blob/master/tensorboard/plugins/projector/projector_plugin.py

Vectors are written as text. TensorBoard can read float32 bytes as well, but only takes a file for bytes if its first
line cannot be decoded as UTF-8, which vectors with many zeros may be.
"""

from collections.abc import Sequence

from beam_pipelines import files
from beam_pipelines.embedding_samples import Sample
from beam_pipelines.normalization import Vectors
from beam_pipelines.pages import visible
from beam_pipelines.sprite import Sprite

PROJECTOR_DIRECTORY = "projector"

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


def write_projector(samples: Sequence[Sample], vectors: Vectors, sprite: Sprite, *, output: str) -> None:
    """Writes `projector/` anew, its configuration last.

    Args:
        samples: at least one.
        vectors: of the samples, finite, float32 [samples, width]; five digits of each number are written.
        sprite: of the samples' small pictures.
        output: the data set directory, on any file system.
    """
    directory = files.join(output, PROJECTOR_DIRECTORY)
    files.remove_tree(directory)
    row = "\t".join(["%.5g"] * vectors.shape[1])
    files.write_lines(files.join(directory, "vectors.tsv"), (row % tuple(vector) for vector in vectors.tolist()))
    header = "label\tkey\tsplit"
    files.write_lines(files.join(directory, "metadata.tsv"), [header, *map(_metadata_line, samples)])
    files.write_bytes(files.join(directory, "sprite.png"), sprite.as_png())
    config = _CONFIG.format(rows=len(vectors), width=vectors.shape[1], side=sprite.side)
    files.write_bytes(files.join(directory, "projector_config.pbtxt"), config.encode())


def _metadata_line(sample: Sample) -> str:
    """Returns a line of three columns, none of them empty, since TensorBoard trims lines before it parts them.

    What would break the line, and other characters that do not show, is escaped.
    """
    columns = (", ".join(sample.labels), sample.key, sample.split)
    return "\t".join(str(visible(column)).strip() or _EMPTY for column in columns)
