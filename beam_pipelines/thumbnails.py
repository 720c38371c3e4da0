"""The small pictures that a data set's report shows: made where a shard is counted, kept beside its account."""

import base64
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from beam_pipelines import files
from beam_pipelines.choice import key_rank
from beam_pipelines.dataset import Feature, Shard
from beam_pipelines.images import thumbnail
from beam_pipelines.plan_files import PlanFiles
from beam_pipelines.report.contact_sheet import Thumbnail
from beam_pipelines.shards import read_rows

_SIDE = 128
_MOST = 1_200
_MOST_PER_CLASS = 12


def thumbnails_per_class(classes: int) -> int:
    """Returns how many pictures of each class are shown, so that a page has about 1,200 at most."""
    return max(1, min(_MOST_PER_CLASS, _MOST // max(1, classes)))


class ShardThumbnails:
    """Collects the small pictures of one shard.

    Args:
        samples: by class id, the ranks of the pictures to show.
    """

    def __init__(self, samples: Mapping[int, Sequence[int]]) -> None:
        self._wanted = {(class_id, rank) for class_id, ranks in samples.items() if class_id < _MOST for rank in ranks}
        self._found: dict[str, dict[str, Any]] = {}

    def add(self, example: Mapping[str, Sequence[Any]]) -> None:
        """Makes the small picture of an example, if it is to be shown."""
        key = example[Feature.KEY][0].decode("utf-8", "surrogatepass")
        rank = key_rank(key)
        classes = [class_id for class_id in example[Feature.LABEL] if (class_id, rank) in self._wanted]
        if classes:
            small = thumbnail(example[Feature.ENCODED][0], side=_SIDE)
            self._found[key] = {
                "classes": classes,
                "rank": rank,
                "jpeg": base64.b64encode(small.jpeg).decode(),
                "width": small.width,
                "height": small.height,
            }

    def write(self, plan: PlanFiles, shard: Shard) -> None:
        """Keeps what was collected beside the shard's account, with what the plan knows of each picture."""
        found = []
        for row in read_rows(plan, shard) if self._found else ():
            work = row.artwork
            if work.key in self._found:
                found.append(
                    {
                        "key": work.key,
                        "uri": work.image_uri,
                        "attributes": dict(work.attributes),
                        **self._found[work.key],
                    }
                )
        files.write_json(plan.thumbnails(shard), found)


def read_thumbnails(plan: PlanFiles, shards: Sequence[Shard], labels: Sequence[str]) -> list[Thumbnail]:
    """Returns the small pictures of all shards, by class id and then by rank."""
    found = sorted(_read(plan, shards), key=lambda shown: shown[:3])
    return [
        Thumbnail(
            key=value["key"],
            uri=value["uri"],
            split=shard.split,
            label=labels[class_id],
            jpeg=base64.b64decode(value["jpeg"]),
            width=value["width"],
            height=value["height"],
            attributes=value["attributes"],
        )
        for class_id, _, _, shard, value in found
    ]


def _read(plan: PlanFiles, shards: Sequence[Shard]) -> Iterator[tuple[int, int, str, Shard, dict[str, Any]]]:
    for shard in shards:
        for value in files.read_json(plan.thumbnails(shard)):
            for class_id in value["classes"]:
                yield class_id, value["rank"], value["key"], shard, value
