"""Publishing a data set: proves that every row has one outcome, then writes what people and programs read of it."""

import collections
import dataclasses
import importlib.metadata
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from beam_pipelines import files
from beam_pipelines.dataset import CHECK_INFO_FILE, COMPLETED_FILE, INFO_FILE, REJECTED_FILE, REPORT_FILE, SPLITS, Shard
from beam_pipelines.errors import RunError
from beam_pipelines.options import FORMAT_VERSION, DatasetOptions
from beam_pipelines.plan_files import Account, PlanFiles, planned_shards, read_account, rejected_line
from beam_pipelines.reason_examples import as_dropped, merge_examples
from beam_pipelines.rejects import Kind, Reason
from beam_pipelines.report.contact_sheet import Thumbnail
from beam_pipelines.report.page import render_report
from beam_pipelines.report.sizes import PictureSizes
from beam_pipelines.thumbnails import read_thumbnails

_LOGGER = logging.getLogger(__name__)

_NAMED_REASONS = 3
_MEND = "then run again with --retry_rejected, or with a larger fraction"
# What decides the bytes in a data set, besides the options and what the plan was made with.
_VERSIONS_OF = ("museum-image-classifier", "pillow")


def publish(options: DatasetOptions, output: str, *, max_reject_fraction: float) -> dict[str, Any]:
    """Writes `rejected.jsonl`, `dataset_info.json`, `report.html` and, last, `COMPLETED`; returns the information.

    Raises:
        RunError: the rows do not add up, nothing was written, or too much was rejected.
    """
    plan = PlanFiles(output)
    info, outcomes = account_for_rows(options.to_json(), output, plan.account, files.read_json(plan.counted))
    check_outcome(info, max_reject_fraction=max_reject_fraction, mend=_MEND)
    warn_of_empty_classes(info)
    files.write_json(files.join(output, INFO_FILE), info)
    thumbnails = read_thumbnails(plan, outcomes.shards, list(info["labels"]))
    _write_report(output, info, outcomes, thumbnails)
    files.remove(files.join(output, CHECK_INFO_FILE))
    mark_completed(output, info)
    return info


def publish_check(options: DatasetOptions, output: str, *, max_reject_fraction: float) -> dict[str, Any]:
    """Writes `rejected.jsonl`, `check_info.json` and `report.html` of pictures that were only checked.

    Raises:
        RunError: as `publish`.
    """
    plan = PlanFiles(output)
    info, outcomes = account_for_rows(options.to_json(), output, plan.check, files.read_json(plan.check_counted))
    info["checked_only"] = True
    check_outcome(info, max_reject_fraction=max_reject_fraction, mend=_MEND)
    files.write_json(files.join(output, CHECK_INFO_FILE), info)
    _write_report(output, info, outcomes, [])
    return info


def mark_completed(output: str, info: Mapping[str, Any]) -> None:
    """Writes `COMPLETED`, the last file of a data set."""
    files.write_bytes(files.join(output, COMPLETED_FILE), f"{info['fingerprint']}\n".encode())


def warn_of_empty_classes(info: Mapping[str, Any]) -> None:
    """Logs the classes that ended with no picture."""
    for label in info["empty_labels"]:
        _LOGGER.warning("the class %r ended with no picture", label)


@dataclasses.dataclass
class Outcomes:
    """What the accounts of all shards come to."""

    shards: list[Shard]
    reasons: collections.Counter[Reason] = dataclasses.field(default_factory=collections.Counter)
    examples: dict[str, list[list[str]]] = dataclasses.field(default_factory=dict)
    shorter_sides: collections.Counter[int] = dataclasses.field(default_factory=collections.Counter)
    aspect_ratios: collections.Counter[float] = dataclasses.field(default_factory=collections.Counter)
    kilobytes: collections.Counter[int] = dataclasses.field(default_factory=collections.Counter)

    def add(self, account: Account) -> None:
        """Adds what became of the pictures of a shard."""
        dropped = [picture.dropped for picture in account.dropped]
        self.reasons.update(row.reason for row in dropped)
        self.examples = merge_examples([self.examples], dropped)
        for picture in account.written:
            self.shorter_sides[min(picture.width, picture.height)] += 1
            self.aspect_ratios[round(picture.width / picture.height, 1)] += 1
            self.kilobytes[round(picture.size / 1000)] += 1


def account_for_rows(
    options: Mapping[str, Any], output: str, account_path: Callable[[Shard], str], counted: list[dict[str, Any]]
) -> tuple[dict[str, Any], Outcomes]:
    """Writes `rejected.jsonl`; returns what is known of the data set, and what its accounts come to.

    Args:
        options: what was asked for, as JSON values.
        output: the data set directory, with its whole plan.
        account_path: where the account of each shard lies.
        counted: what was counted in each shard.
    """
    plan = PlanFiles(output)
    summary = files.read_json(plan.summary)
    outcomes = Outcomes(planned_shards(summary), examples=summary["examples"])

    def rejected_lines() -> Iterator[str]:
        yield from files.read_lines(plan.rejected)
        for shard in outcomes.shards:
            account = read_account(account_path(shard))
            if account:
                outcomes.add(account)
                yield from map(rejected_line, account.rejected())

    files.write_lines(files.join(output, REJECTED_FILE), files.sorted_lines(rejected_lines()))
    return _information(options, summary, outcomes, counted), outcomes


def _write_report(output: str, info: dict[str, Any], outcomes: Outcomes, thumbnails: Sequence[Thumbnail]) -> None:
    sizes = PictureSizes(
        shorter_sides=outcomes.shorter_sides, aspect_ratios=outcomes.aspect_ratios, kilobytes=outcomes.kilobytes
    )
    page = render_report(info, sizes=sizes, examples=as_dropped(outcomes.examples), thumbnails=thumbnails)
    files.write_bytes(files.join(output, REPORT_FILE), page.encode())
    files.remove_tree(PlanFiles(output).progress)


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


def _information(
    options: Mapping[str, Any], summary: dict[str, Any], outcomes: Outcomes, counted_shards: list[dict[str, Any]]
) -> dict[str, Any]:
    """Returns what is known of the data set: counts of what lies in the shards, reasons from their accounts."""
    counted = {value["shard"]: value for value in counted_shards}
    shards = outcomes.shards
    reasons = {kind: collections.Counter(summary[kind]) for kind in Kind}
    for reason, count in outcomes.reasons.items():
        reasons[reason.kind][reason.value] += count
    splits = {
        split: _split_information(summary["labels"], [counted[shard.name] for shard in shards if shard.split == split])
        for split in SPLITS
    }
    labels = {label: sum(split["labels"].get(label, 0) for split in splits.values()) for label in summary["labels"]}
    return {
        "format": FORMAT_VERSION,
        "fingerprint": summary["fingerprint"],
        "options": dict(options),
        "versions": {**{name: importlib.metadata.version(name) for name in _VERSIONS_OF}, **summary["versions"]},
        "read": summary["read"],
        "written": sum(split["examples"] for split in splits.values()),
        "filtered": dict(sorted(reasons[Kind.FILTERED].items())),
        "rejected": dict(sorted(reasons[Kind.REJECTED].items())),
        "split_given": summary["split_given"] > 0,
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


def check_outcome(info: Mapping[str, Any], *, max_reject_fraction: float, mend: str) -> None:
    """Checks that every row has one outcome and that not too many were rejected.

    Args:
        info: of the data set.
        max_reject_fraction: how many of the pictures may be rejected.
        mend: what to do where more were.

    Raises:
        RunError: the rows do not add up, nothing was written, or too much was rejected.
    """
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
            f"--max_reject_fraction {max_reject_fraction:g} allows: see {REJECTED_FILE}; {mend}"
        )


def _commonest(reasons: dict[str, int]) -> list[tuple[str, int]]:
    return sorted(reasons.items(), key=lambda item: (-item[1], item[0]))
