"""Publishing a data set: proves that every row has one outcome, then writes what people and programs read of it."""

import collections
import dataclasses
import importlib.metadata
import logging
from collections.abc import Iterator
from typing import Any

from beam_pipelines import files
from beam_pipelines.dataset import COMPLETED_FILE, INFO_FILE, REJECTED_FILE, REPORT_FILE, SPLITS, Shard
from beam_pipelines.errors import RunError
from beam_pipelines.options import FORMAT_VERSION, DatasetOptions
from beam_pipelines.plan_files import PlanFiles, planned_shards, read_account, rejected_line
from beam_pipelines.rejects import Kind
from beam_pipelines.report import render_report

_LOGGER = logging.getLogger(__name__)

_NAMED_REASONS = 3
# What decides the bytes in a data set, besides the options.
_VERSIONS_OF = ("museum-image-classifier", "pillow", "tensorflow-transform")


def publish(options: DatasetOptions, output: str, *, max_reject_fraction: float) -> dict[str, Any]:
    """Writes `rejected.jsonl`, `dataset_info.json`, `report.html` and, last, `COMPLETED`; returns the information.

    Raises:
        RunError: the rows do not add up, nothing was written, or too much was rejected.
    """
    plan = PlanFiles(output)
    summary = files.read_json(plan.summary)
    shards = planned_shards(summary)
    files.write_lines(files.join(output, REJECTED_FILE), files.sorted_lines(_rejected_lines(plan, shards)))
    info = _information(options, summary, plan, shards)
    _check(info, max_reject_fraction=max_reject_fraction)
    for label in info["empty_labels"]:
        _LOGGER.warning("the class %r ended with no picture", label)
    files.write_json(files.join(output, INFO_FILE), info)
    files.write_bytes(files.join(output, REPORT_FILE), render_report(info).encode())
    files.remove_tree(plan.progress)
    files.write_bytes(files.join(output, COMPLETED_FILE), f"{info['fingerprint']}\n".encode())
    return info


def describe(info: dict[str, Any]) -> str:
    """Returns a short summary of a data set, in lines for people."""
    lines = [
        f"{info['read']:,} rows read: {info['written']:,} written, {sum(info['filtered'].values()):,} filtered, "
        f"{sum(info['rejected'].values()):,} rejected",
        *(
            f"  {split}: {value['examples']:,} examples in {len(value['shards'])} shards"
            for split, value in info["splits"].items()
        ),
        f"  {len(info['labels'])} classes",
    ]
    for kind in Kind:
        lines += [f"  {kind}: {reason} {count:,}" for reason, count in _commonest(info[kind])]
    return "\n".join(lines)


def _rejected_lines(plan: PlanFiles, shards: list[Shard]) -> Iterator[str]:
    yield from files.read_lines(plan.rejected)
    for shard in shards:
        account = read_account(plan, shard)
        yield from map(rejected_line, account.rejected() if account else ())


def _information(
    options: DatasetOptions, summary: dict[str, Any], plan: PlanFiles, shards: list[Shard]
) -> dict[str, Any]:
    """Returns what is known of the data set: counts of what lies in the shards, reasons from their accounts."""
    counted = {value["shard"]: value for value in files.read_json(plan.counted)}
    reasons = {kind: collections.Counter(summary[kind]) for kind in Kind}
    for shard in shards:
        account = read_account(plan, shard)
        for picture in account.dropped if account else ():
            reasons[picture.dropped.reason.kind][picture.dropped.reason.value] += 1
    splits = {
        split: _split_information(summary["labels"], [counted[shard.name] for shard in shards if shard.split == split])
        for split in SPLITS
    }
    labels = {label: sum(split["labels"].get(label, 0) for split in splits.values()) for label in summary["labels"]}
    return {
        "format": FORMAT_VERSION,
        "fingerprint": summary["fingerprint"],
        "options": dataclasses.asdict(options),
        "versions": {name: importlib.metadata.version(name) for name in _VERSIONS_OF},
        "read": summary["read"],
        "written": sum(split["examples"] for split in splits.values()),
        "filtered": dict(sorted(reasons[Kind.FILTERED].items())),
        "rejected": dict(sorted(reasons[Kind.REJECTED].items())),
        "splits": splits,
        "labels": labels,
        "empty_labels": [label for label, count in labels.items() if not count],
    }


def _split_information(labels: list[str], counted: list[dict[str, Any]]) -> dict[str, Any]:
    by_class: collections.Counter[str] = collections.Counter()
    for value in counted:
        by_class.update(value["labels"])
    return {
        "examples": sum(value["examples"] for value in counted),
        "labels": {label: by_class[str(number)] for number, label in enumerate(labels) if by_class[str(number)]},
        "shards": [
            {"name": Shard.parse(value["shard"]).file_name, "examples": value["examples"], "sha256": value["sha256"]}
            for value in counted
        ],
    }


def _check(info: dict[str, Any], *, max_reject_fraction: float) -> None:
    filtered, rejected = sum(info["filtered"].values()), sum(info["rejected"].values())
    ended = info["written"] + filtered + rejected
    if info["read"] != ended:
        raise RunError(
            f"the rows do not add up: {info['read']} read, but {info['written']} written + {filtered} filtered + "
            f"{rejected} rejected = {ended}"
        )
    commonest = ", ".join(f"{reason} {count}" for reason, count in _commonest(info["rejected"])[:_NAMED_REASONS])
    if not info["written"]:
        raise RunError(f"no picture could be used ({commonest}): see {REJECTED_FILE}")
    fraction = rejected / (info["written"] + rejected)
    if fraction > max_reject_fraction:
        raise RunError(
            f"{rejected} of {info['written'] + rejected} pictures were rejected ({commonest}), more than "
            f"--max_reject_fraction {max_reject_fraction:g} allows: see {REJECTED_FILE}; then run again with "
            "--retry_rejected, or with a larger fraction"
        )


def _commonest(reasons: dict[str, int]) -> list[tuple[str, int]]:
    return sorted(reasons.items(), key=lambda item: (-item[1], item[0]))
