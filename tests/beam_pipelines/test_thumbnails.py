import io
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from beam_pipelines import files
from beam_pipelines.choice import key_rank
from beam_pipelines.dataset import Feature, Shard
from beam_pipelines.plan_files import PlanFiles
from beam_pipelines.thumbnails import ShardThumbnails, read_thumbnails, thumbnails_per_class
from tests.beam_pipelines.builders import artwork, planned, write_rows
from tests.hostile_server import jpeg

SHARDS = [Shard("train", 0, 2), Shard("train", 1, 2)]


def example(key: str, *, classes: list[int], seed: int = 0) -> dict[str, list[Any]]:
    return {
        Feature.KEY: [key.encode("utf-8", "surrogatepass")],
        Feature.LABEL: classes,
        Feature.ENCODED: [jpeg(seed, width=320, height=480)],
    }


def test_how_many_of_each_class() -> None:
    assert [thumbnails_per_class(classes) for classes in (0, 1, 100, 101, 573, 600, 601, 5_000)] == [
        12, 12, 12, 11, 2, 2, 1, 1,
    ]  # fmt: skip


def test_the_wanted_pictures_are_kept_small_with_what_is_known_of_them(tmp_path: Path) -> None:
    plan = PlanFiles(str(tmp_path))
    rows = [artwork("a", labels=["Japan"], attributes={"title": "The Wave"}), artwork("b"), artwork("\udc80", uri="u")]
    write_rows(plan, SHARDS[0], planned(*rows))
    write_rows(plan, SHARDS[1], planned(artwork("c", labels=["Japan", "x"])))
    samples = {0: [key_rank("a"), key_rank("\udc80"), key_rank("c")], 1: [key_rank("b"), key_rank("c")]}
    first, second = ShardThumbnails(samples), ShardThumbnails(samples)
    for number, key in enumerate(["a", "b", "\udc80"]):
        first.add(example(key, classes=[0], seed=number))
    second.add(example("c", classes=[0, 1], seed=9))
    first.write(plan, SHARDS[0])
    second.write(plan, SHARDS[1])
    found = read_thumbnails(plan, SHARDS, ["Japan", "x"])
    of_japan = sorted(["a", "\udc80", "c"], key=key_rank)
    assert [(shown.key, shown.label) for shown in found] == [*((key, "Japan") for key in of_japan), ("c", "x")]
    shown = next(shown for shown in found if shown.key == "a")
    assert (shown.uri, shown.split) == ("http://museum.example/a.jpg", "train")
    assert (shown.attributes, shown.width, shown.height) == ({"title": "The Wave"}, 85, 128)
    small = Image.open(io.BytesIO(shown.jpeg))
    large = Image.open(io.BytesIO(jpeg(0, width=320, height=480))).resize(small.size)
    assert float(np.abs(np.asarray(small, dtype=float) - np.asarray(large, dtype=float)).mean()) < 10


def test_a_shard_of_which_nothing_is_shown(tmp_path: Path) -> None:
    plan = PlanFiles(str(tmp_path))
    ShardThumbnails({}).write(plan, SHARDS[0])
    assert files.read_json(plan.thumbnails(SHARDS[0])) == []
    assert read_thumbnails(plan, SHARDS[:1], ["Japan"]) == []
