"""What is known of drawn data sets, and their pages."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from beam_pipelines.options import DatasetOptions
from beam_pipelines.rejects import Dropped
from beam_pipelines.report.contact_sheet import Thumbnail
from beam_pipelines.report.page import render_report
from beam_pipelines.report.sizes import PictureSizes

SIZES = PictureSizes(shorter_sides={100: 1, 320: 2, 4000: 3}, aspect_ratios={0.7: 5, 1.0: 1}, kilobytes={0: 2, 700: 4})
NO_SIZES = PictureSizes(shorter_sides={}, aspect_ratios={}, kilobytes={})


def info(**changes: Any) -> dict[str, Any]:
    """Returns what is known of a small data set."""
    values: dict[str, Any] = {
        "format": 2,
        "fingerprint": "0123456789abcdef",
        "options": DatasetOptions(source="manifest", input="list.csv").to_json(),
        "versions": {"pillow": "12.3"},
        "read": 5010,
        "written": 5001,
        "filtered": {"duplicate_uri": 4},
        "rejected": {"not_found": 3, "timed_out": 2},
        "splits": {
            "train": {
                "examples": 4001,
                "labels": {"Japan": 3001, "Iran": 1000},
                "shards": [{"name": "train-00000-of-00001.tfrecord", "examples": 4001, "sha256": "0a1b"}],
            },
            "validation": {
                "examples": 1000,
                "labels": {"Japan": 1000},
                "shards": [{"name": "validation-00000-of-00001.tfrecord", "examples": 1000, "sha256": "2c3d"}],
            },
        },
        "labels": {"Japan": 4001, "Iran": 1000, "China": 0},
        "empty_labels": ["China"],
    }
    return {**values, **changes}


def sized(sizes: Mapping[str, int], **changes: Any) -> dict[str, Any]:
    """Returns what is known of a data set of classes of these sizes, all of it for training."""
    number = sum(sizes.values())
    splits = {
        "train": {"examples": number, "labels": {label: size for label, size in sizes.items() if size}, "shards": []},
        "validation": {"examples": 0, "labels": {}, "shards": []},
    }
    empty = [label for label, size in sizes.items() if not size]
    return info(
        read=number,
        written=number,
        filtered={},
        rejected={},
        splits=splits,
        labels=sizes,
        empty_labels=empty,
        **changes,
    )


def thumbnail(label: str = "Japan", **changes: Any) -> Thumbnail:
    """Returns a thumbnail of a museum's work."""
    made = Thumbnail(
        key="17/0",
        uri="https://museum.example/17.jpg",
        split="train",
        label=label,
        jpeg=b"\xff\xd8 a JPEG",
        width=128,
        height=96,
        attributes={"title": "Wave", "artist": "Hokusai", "date": "1831", "credit_line": "Rogers Fund"},
    )
    return dataclasses.replace(made, **changes)


def render(
    values: Mapping[str, Any] | None = None,
    *,
    sizes: PictureSizes = SIZES,
    examples: Mapping[str, Sequence[Dropped]] | None = None,
    thumbnails: Sequence[Thumbnail] = (),
) -> str:
    """Returns the page, by default of the small data set."""
    return render_report(values or info(), sizes=sizes, examples=examples or {}, thumbnails=thumbnails)
