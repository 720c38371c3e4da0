"""Publishing predictions: every row accounted for, what people and programs read of them, and a table in BigQuery."""

import collections
import importlib.metadata
from collections.abc import Iterator, Mapping
from typing import Any

from beam_pipelines import files
from beam_pipelines.artwork import clean_text
from beam_pipelines.dataset import COMPLETED_FILE, REJECTED_FILE
from beam_pipelines.errors import RunError
from beam_pipelines.plan_files import PlanFiles, rejected_line
from beam_pipelines.prediction.bigquery_table import load_table
from beam_pipelines.prediction.options import FORMAT_VERSION, PredictionOptions
from beam_pipelines.prediction.plan import planned_rows
from beam_pipelines.prediction.rows import read_account
from beam_pipelines.rejects import Kind, Reason
from beam_pipelines.sources.bigquery_sql import Table
from beam_pipelines.text_tables import aligned
from serving.model import LABELS_ASSET, read_model_info

SUMMARY_FILE = "summary.json"

_SHOWN_LABELS = 20
_LABEL_CHARACTERS = 60
_NAMED_REASONS = 3
# Of what its export says of the model.
_TOLD_OF_THE_MODEL = ("run", "step", "checkpoint", "multi_label", "data")
# What decides the predictions, besides the options and the model.
_VERSIONS_OF = ("museum-image-classifier", "tensorflow")


def publish_predictions(
    options: PredictionOptions,
    output: str,
    *,
    model: str,
    max_reject_fraction: float,
    table: Table | None,
    project: str,
) -> dict[str, Any]:
    """Writes `rejected.jsonl`, `summary.json`, the table and, last, `COMPLETED`.

    Args:
        options: what is predicted.
        output: the directory, with all shards and their counts.
        model: the directory of the model's version.
        max_reject_fraction: how many of the pictures may be rejected.
        table: to load the predictions into; None for none.
        project: the Google Cloud project that pays for that.

    Returns:
        the summary.

    Raises:
        RunError: the rows do not add up, none was predicted, too many were rejected, or the table cannot be loaded.
    """
    plan = PlanFiles(output)
    planned = files.read_json(plan.summary)
    reasons: collections.Counter[str] = collections.Counter(planned["rejected"])

    def rejected_lines() -> Iterator[str]:
        yield from files.read_lines(plan.rejected)
        for shard in planned_rows(planned):
            account = read_account(plan.account(shard))
            for row in account.rejected if account else ():
                reasons[row.dropped.reason.value] += 1
                yield rejected_line(row.dropped)

    files.write_lines(files.join(output, REJECTED_FILE), files.sorted_lines(rejected_lines()))
    summary = _summary(options, planned, files.read_json(plan.counted), reasons, model=model)
    _check_outcome(summary, max_reject_fraction=max_reject_fraction)
    files.write_json(files.join(output, SUMMARY_FILE), summary)
    if table:
        load_predictions(output, summary, table, project=project)
    files.remove_tree(plan.progress)
    files.write_bytes(files.join(output, COMPLETED_FILE), f"{summary['fingerprint']}\n".encode())
    return summary


def load_predictions(output: str, summary: dict[str, Any], table: Table, *, project: str) -> None:
    """Loads the predictions in `output` into a table and notes in their summary that it has them.

    Raises:
        RunError: as `load_table`.
    """
    planned = files.read_json(PlanFiles(output).summary)
    load_table(
        table,
        [files.join(output, shard.file_name) for shard in planned_rows(planned)],
        rows=summary["predicted"],
        with_labels=planned["with_labels"],
        all_scores=summary["options"]["all_scores"],
        project=project,
    )
    summary["bigquery_table"] = str(table)
    files.write_json(files.join(output, SUMMARY_FILE), summary)


def read_labels(model: str) -> tuple[str, ...]:
    """Returns the labels of the model in a directory, in the order of their ids."""
    return tuple(files.read_lines(files.join(model, LABELS_ASSET)))


def describe(summary: Mapping[str, Any]) -> str:
    """Returns what was predicted, in lines for people: rows, reasons, the commonest labels, and how many are right."""
    rejected = sum(summary["rejected"].values())
    lines = [
        f"{summary['read']:,} rows read: {summary['predicted']:,} predicted, {rejected:,} rejected",
        *(f"  rejected: {reason} {count:,}" for reason, count in _commonest(summary["rejected"])),
        *_label_table(summary),
    ]
    if known := summary["accuracy"]:
        lines.append(f"accuracy {known['accuracy']:.4f} of {known['rows']:,} rows with a label that the model knows")
    if summary["bigquery_table"]:
        lines.append(f"BigQuery has them as {summary['bigquery_table']}")
    return "\n".join(lines)


def _label_table(summary: Mapping[str, Any]) -> list[str]:
    known = summary["accuracy"]
    rows = [("label", "predicted", *(("labelled so", "of these right") if known else ()))]
    labels = [label for label, _ in _commonest(summary["labels"])]
    for label in labels[:_SHOWN_LABELS]:
        counts = known["labels"].get(label, {"examples": 0, "right": 0}) if known else {}
        shown = clean_text(label, max_characters=_LABEL_CHARACTERS)
        rows.append((shown, f"{summary['labels'][label]:,}", *(f"{count:,}" for count in counts.values())))
    more = len(labels) - _SHOWN_LABELS
    return [aligned(rows), *([f"and {more:,} more labels"] if more > 0 else [])]


def _summary(
    options: PredictionOptions,
    planned: Mapping[str, Any],
    counted: list[dict[str, Any]],
    reasons: Mapping[str, int],
    *,
    model: str,
) -> dict[str, Any]:
    """Returns what is known of the predictions: counts of what lies in the files, reasons from their accounts."""
    info = read_model_info(model)
    return {
        "format": FORMAT_VERSION,
        "fingerprint": planned["fingerprint"],
        "options": options.to_json(),
        "model": {
            "path": model,
            "fingerprint": planned["model_fingerprint"],
            "labels": list(read_labels(model)),
            **({"name": info["model"]} if "model" in info else {}),
            **{name: info[name] for name in _TOLD_OF_THE_MODEL if name in info},
        },
        "versions": {name: importlib.metadata.version(name) for name in _VERSIONS_OF},
        "read": planned["read"],
        "predicted": sum(value["rows"] for value in counted),
        "rejected": dict(sorted(reasons.items())),
        "labels": _added(counted, "labels"),
        "accuracy": _accuracy(counted),
        "shards": [{"name": value["shard"], "rows": value["rows"], "sha256": value["sha256"]} for value in counted],
        "bigquery_table": "",
    }


def _accuracy(counted: list[dict[str, Any]]) -> dict[str, Any] | None:
    """Returns how many rows with a label that the model knows are right, in all and by label; None if there is none."""
    rows, right = (sum(value[name] for value in counted) for name in ("labelled", "right"))
    if not rows:
        return None
    examples_of, right_of = _added(counted, "examples_of"), _added(counted, "right_of")
    return {
        "rows": rows,
        "right": right,
        "accuracy": right / rows,
        "labels": {
            label: {"examples": examples, "right": right_of.get(label, 0)} for label, examples in examples_of.items()
        },
    }


def _added(counted: list[dict[str, Any]], name: str) -> dict[str, int]:
    sums: collections.Counter[str] = collections.Counter()
    for value in counted:
        sums.update(value[name])
    return dict(sorted(sums.items()))


def _check_outcome(summary: Mapping[str, Any], *, max_reject_fraction: float) -> None:
    """Raises RunError unless every row has one outcome, some were predicted, and not too many could not be had."""
    rejected, predicted = summary["rejected"], summary["predicted"]
    if summary["read"] != predicted + sum(rejected.values()):
        raise RunError(
            f"the rows do not add up: {summary['read']} read, but {predicted} predicted + {sum(rejected.values())} "
            "rejected"
        )
    commonest = ", ".join(f"{reason} {count}" for reason, count in _commonest(rejected)[:_NAMED_REASONS])
    if not predicted:
        raise RunError(f"no picture could be predicted ({commonest}): see {REJECTED_FILE}")
    failed = sum(count for reason, count in rejected.items() if Reason(reason).kind is Kind.REJECTED)
    if failed > max_reject_fraction * (predicted + failed):
        raise RunError(
            f"{failed} of {predicted + failed} pictures were rejected ({commonest}), more than --max_reject_fraction "
            f"{max_reject_fraction:g} allows: see {REJECTED_FILE}; then run again with --retry_rejected, or with a "
            "larger fraction"
        )


def _commonest(counts: Mapping[str, int]) -> list[tuple[str, int]]:
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))
