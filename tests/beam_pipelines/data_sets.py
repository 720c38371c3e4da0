"""Finished data sets of pictures, made as ingest makes them, without its processes."""

import io
import random
from collections.abc import Callable, Mapping, Sequence

from PIL import Image, ImageDraw

from beam_pipelines import files
from beam_pipelines.artwork import Artwork, stable_hash
from beam_pipelines.dataset import LABELS_FILE, SPLITS, Shard
from beam_pipelines.images import shrink
from beam_pipelines.options import DatasetOptions
from beam_pipelines.plan_files import PlanFiles, PlannedPicture
from beam_pipelines.publish import publish
from beam_pipelines.shards import ShardWriter
from beam_pipelines.write_shards import count_shard
from tests.beam_pipelines.builders import write_rows


def drawn_for(uri: str) -> bytes:
    """Returns a JPEG of its own for each address."""
    return drawn(stable_hash(uri))


def write_data_set(
    folder: str,
    rows: Mapping[Shard, Sequence[Artwork]],
    *,
    labels: Sequence[str] = ("Japan",),
    fetch: Callable[[str], bytes] = drawn_for,
) -> None:
    """Writes a data set of the pictures that `fetch` returns, which may raise RejectedError, in these shards."""
    options = DatasetOptions(source="manifest", input="list.csv")
    plan = PlanFiles(folder)
    writer = ShardWriter(plan, fetch=fetch, shrink=shrink, threads=1)
    counted = []
    for shard, artworks in rows.items():
        planned = [
            PlannedPicture(artwork=row, class_ids=tuple(labels.index(label) for label in row.labels))
            for row in artworks
        ]
        write_rows(plan, shard, planned)
        counted.append(count_shard(plan, shard, writer.ensure(shard)))
        files.write_json(plan.thumbnails(shard), [])
    writer.close()
    files.write_json(plan.counted, counted)
    files.write_lines(plan.rejected, [])
    summary = {
        "fingerprint": options.fingerprint(),
        "labels": list(labels),
        "read": sum(map(len, rows.values())),
        "splits": {split: {"shards": sum(shard.split == split for shard in rows)} for split in SPLITS},
        "filtered": {},
        "rejected": {},
        "split_given": 0,
        "versions": {"tensorflow-transform": "1.21.0"},
        "examples": {},
    }
    files.write_json(plan.summary, summary)
    files.write_lines(files.join(folder, LABELS_FILE), labels)
    publish(options, folder, max_reject_fraction=0.5)


def drawn(seed: int, *, width: int = 64, height: int = 48) -> bytes:
    """Returns a JPEG of its own for each seed."""
    numbers = random.Random(seed)
    ground, figure = (tuple(numbers.choices(range(256), k=3)) for _ in range(2))
    image = Image.new("RGB", (width, height), ground)
    left = numbers.randrange(width // 2)
    ImageDraw.Draw(image).ellipse((left, 5, left + width // 3, height - 5), fill=figure)
    file = io.BytesIO()
    image.save(file, "JPEG", quality=90)
    return file.getvalue()
