"""What to measure embed against: the same pixels, the same backbone, and nothing else.

  ready    the backbone alone, on batches of pixels that lie in memory
  bare     read the shards, decode and resize on threads ahead, the backbone on batches; vectors are thrown away
  single   read the shards, decode and resize one picture, the backbone on it, then the next picture
  decode   as bare, without the backbone

No Beam, no checks but those of the records, nothing written. Weights are random ones of a fixed seed.
"""

import concurrent.futures
import functools
import itertools
import os
import pathlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from beam_pipelines import dataset, tfrecords
from beam_pipelines.commands import native_messages_held_back
from beam_pipelines.embedding.model import BackboneEmbedder
from beam_pipelines.picture_threads import in_order
from benchmarks.command import make_parser
from benchmarks.contestants import cores

# Of pixels in memory: enough that the processor's caches do not keep them.
_READY_BATCHES = 4
_BATCHES_AHEAD = 2


def read_jpegs(folder: pathlib.Path) -> Iterator[bytes]:
    """Yields the pictures of a data set's shards, in order."""
    for path in sorted(folder.glob("*.tfrecord")):
        with path.open("rb") as file:
            for record in tfrecords.read_records(file):
                yield tfrecords.decode_example(record)[dataset.Feature.ENCODED][0]


def ready(embedder: BackboneEmbedder, folder: pathlib.Path, *, pictures: int, batch_size: int) -> int:
    """Embeds batches of the data set's first pictures again and again; returns how many vectors came."""
    jpegs = itertools.islice(read_jpegs(folder), _READY_BATCHES * batch_size)
    made = _batches(map(embedder.pixels, jpegs), batch_size)
    batches = itertools.cycle([embedder.batch(batch) for batch in made if len(batch) == batch_size])
    vectors = 0
    while vectors < pictures:
        vectors += len(embedder.embed_batch(next(batches)[: pictures - vectors]))
    return vectors


def bare(embedder: BackboneEmbedder, folder: pathlib.Path, *, pictures: int, batch_size: int) -> int:
    """Embeds the data set's first pictures in batches; returns how many vectors came."""
    pixels = _pixels_ahead(embedder, folder, pictures=pictures, window=_BATCHES_AHEAD * batch_size)
    return sum(len(embedder.embed(batch)) for batch in _batches(pixels, batch_size))


def single(embedder: BackboneEmbedder, folder: pathlib.Path, *, pictures: int, batch_size: int) -> int:
    """Embeds the data set's first pictures one after the other; returns how many vectors came."""
    jpegs = itertools.islice(read_jpegs(folder), pictures)
    return sum(len(embedder.embed([embedder.pixels(jpeg)])) for jpeg in jpegs)


def decode(embedder: BackboneEmbedder, folder: pathlib.Path, *, pictures: int, batch_size: int) -> int:
    """Makes pixels of the data set's first pictures; returns of how many."""
    return sum(1 for _ in _pixels_ahead(embedder, folder, pictures=pictures, window=_BATCHES_AHEAD * batch_size))


LOOPS: dict[str, Callable[..., int]] = {"ready": ready, "bare": bare, "single": single, "decode": decode}


def _pixels_ahead(embedder: BackboneEmbedder, folder: pathlib.Path, *, pictures: int, window: int) -> Iterator[Any]:
    """Yields the pixels of the data set's first pictures, in order, made on a thread a core."""
    with concurrent.futures.ThreadPoolExecutor(cores()) as pool:
        jpegs = itertools.islice(read_jpegs(folder), pictures)
        yield from in_order((pool.submit(embedder.pixels, jpeg) for jpeg in jpegs), window=window)


def _batches(pixels: Iterator[Any], size: int) -> Iterator[Sequence[Any]]:
    while batch := list(itertools.islice(pixels, size)):
        yield batch


def main() -> int:
    """Runs one loop and prints how many pictures went through it; returns 0."""
    parser = make_parser("benchmarks.embed_loops", __doc__)
    parser.add_argument("loop", choices=list(LOOPS))
    parser.add_argument("--dataset", type=pathlib.Path, required=True, help="of ingest, at least one batch of pictures")
    parser.add_argument("--backbone", required=True, help="one of trainer.models")
    parser.add_argument("--pictures", type=int, required=True, help="how many go through the loop")
    parser.add_argument("--batch_size", type=int, default=32, help="(%(default)s)")
    options = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with native_messages_held_back():
        from trainer.models import build_backbone, check_backbone

        embedder = BackboneEmbedder(
            functools.partial(build_backbone, options.backbone, weights="none"),
            input_size=check_backbone(options.backbone).input_size,
        )
    loop = LOOPS[options.loop]
    print(loop(embedder, options.dataset, pictures=options.pictures, batch_size=options.batch_size))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
