"""What to measure batch_predict against: the same SavedModel in a loop, and nothing else.

  memory   its signature, on batches of files that lie in memory, again and again
  files    read the files of a batch, the signature on it, then the next batch

No Beam, no checks, nothing written. `model` makes the model that is measured where none is given: a
mobilenet_v3_small with random weights of a fixed seed and a head of ten classes, in the graph of trainer.export.
"""

import itertools
import os
import pathlib
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

from beam_pipelines.commands import native_messages_held_back
from benchmarks.command import make_parser
from serving.model import Predictions, load_model

_BACKBONE = "mobilenet_v3_small"
_LABELS = tuple(f"class {number}" for number in range(10))
_SEED = 7
_MAX_IMAGE_PIXELS = 100_000_000
# Of files in memory: enough that the processor's caches do not keep them.
_BATCHES_IN_MEMORY = 8


class Classifier(Protocol):
    """Says what pictures show."""

    def predict(self, keys: Sequence[str], images: Sequence[bytes]) -> Predictions:
        """Returns what it says of a batch of pictures."""


def memory(model: Classifier, folder: pathlib.Path, *, pictures: int, batch_size: int) -> int:
    """Predicts batches of the folder's first pictures again and again; returns how many answers came."""
    images = (path.read_bytes() for path in itertools.islice(_paths(folder), _BATCHES_IN_MEMORY * batch_size))
    batches = itertools.cycle(list(_batches(images, batch_size)))
    answers = 0
    while answers < pictures:
        answers += _predicted(model, next(batches)[: pictures - answers])
    return answers


def files(model: Classifier, folder: pathlib.Path, *, pictures: int, batch_size: int) -> int:
    """Predicts the folder's first pictures, each batch read when its turn comes; returns how many answers came."""
    images = (path.read_bytes() for path in itertools.islice(_paths(folder), pictures))
    return sum(_predicted(model, batch) for batch in _batches(images, batch_size))


LOOPS: dict[str, Callable[..., int]] = {"memory": memory, "files": files}


def write_model(directory: pathlib.Path) -> None:
    """Writes the version of a model that is measured where none is given."""
    with native_messages_held_back():
        import keras
        import tensorflow as tf

        from trainer.models import build_backbone, check_backbone
        from trainer.serving_graph import ServedParts, build_served_module, save_served_model

        keras.utils.set_random_seed(_SEED)
        backbone = build_backbone(_BACKBONE, weights="none")
        head = keras.Sequential([keras.Input(backbone.output_shape[1:]), keras.layers.Dense(len(_LABELS))])
        parts = ServedParts(
            image_size=check_backbone(_BACKBONE).input_size,
            labels=_LABELS,
            multi_label=False,
            backbone=lambda images: backbone(images, training=False),
            transform=tf.identity,
            head=head,
            variables=[variable.value for variable in (*backbone.variables, *head.variables)],
        )
        module = build_served_module(parts, max_image_pixels=_MAX_IMAGE_PIXELS)
        save_served_model(module, str(directory), info={"labels": list(_LABELS)})


def _paths(folder: pathlib.Path) -> Iterator[pathlib.Path]:
    return iter(sorted(path for path in folder.rglob("*") if path.is_file()))


def _batches(images: Iterator[bytes], size: int) -> Iterator[list[bytes]]:
    while batch := list(itertools.islice(images, size)):
        yield batch


def _predicted(model: Classifier, images: Sequence[bytes]) -> int:
    return len(model.predict([""] * len(images), images).labels)


def main() -> int:
    """Runs one loop and prints how many pictures went through it, or makes the model; returns 0."""
    parser = make_parser("benchmarks.predict_loops", __doc__)
    parser.add_argument("what", choices=[*LOOPS, "model"])
    parser.add_argument("--model", type=pathlib.Path, required=True, help="the directory of a version")
    parser.add_argument("--folder", type=pathlib.Path, help="of pictures")
    parser.add_argument("--pictures", type=int, default=0, help="how many go through the loop")
    parser.add_argument("--batch_size", type=int, default=32, help="(%(default)s)")
    options = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    if options.what == "model":
        write_model(options.model)
        return 0
    loop = LOOPS[options.what]
    model = load_model(str(options.model))
    print(loop(model, options.folder, pictures=options.pictures, batch_size=options.batch_size))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
