"""What the model card says of the data: the data set that the run was trained on, if it is still what it was.

Imports neither Beam nor TensorFlow.
"""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any

from beam_pipelines import files
from beam_pipelines.dataset import INFO_FILE, SPLITS, TRAIN, VALIDATION, Shard
from beam_pipelines.options import DatasetOptions
from beam_pipelines.picture_lookup import picture_data_set
from beam_pipelines.plan_files import PlanFiles
from beam_pipelines.rejects import Kind
from beam_pipelines.report.reasons import ReasonRow, reason_rows
from beam_pipelines.shards import read_rows
from trainer.card.optional import optional
from trainer.card.sample import HashSample
from trainer.data_files import read_data_set
from trainer.evaluation.figures import Judged
from trainer.evaluation.page import option_text
from trainer.run_directory import read_config
from trainer.saved_run import SavedRun

# Sources of the catalogue of the Metropolitan Museum of Art.
_OF_THE_MET = ("bigquery", "object_list", "open_access_csv")
# What is told of a data set in words.
_TOLD = ("source", "input", "attribute", "multi_label")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Embeddings:
    """What embeddings were made with; empty or 0 for what is not known."""

    backbone: str
    weights: str
    weights_sha256: str
    width: int
    normalize: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Account:
    """What became of the rows that were read, and why some are not in the data set."""

    read: int
    written: int
    reasons: tuple[ReasonRow, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class DataFacts:
    """The data that a run was trained on.

    Attributes:
        place: its directory, or the first pattern of foreign TFRecords, as the run was told.
        state: `known`; `foreign` for TFRecords that are no data set; `changed` where another one lies in its place;
            `gone` where there is none. Below, only totals and fingerprint are known unless it is `known`.
        fingerprint: of the examples and the labels.
        totals: examples by split.
        counts: examples of each class, by split.
        source: of the metadata; empty if it is not known.
        input: of the source.
        attribute: that the labels are of.
        choices: options of the data set that are not the default, by name, for people.
        options: all of them.
        options_fingerprint: of those options.
        account: of the rows.
        embeddings: None where the model takes pictures.
        rights: `open_access`, `mixed` for works of the Met of which some may be protected, or empty.
        versions: of what made it.
    """

    place: str
    state: str
    fingerprint: str
    totals: Mapping[str, int]
    counts: Mapping[str, Mapping[str, int]] = dataclasses.field(default_factory=dict)
    source: str = ""
    input: str = ""
    attribute: str = ""
    choices: Mapping[str, str] = dataclasses.field(default_factory=dict)
    options: Mapping[str, str] = dataclasses.field(default_factory=dict)
    options_fingerprint: str = ""
    account: Account | None = None
    embeddings: Embeddings | None = None
    rights: str = ""
    versions: Mapping[str, str] = dataclasses.field(default_factory=dict)


def read_data_facts(saved: SavedRun) -> DataFacts:
    """Returns what can be found of the data of a run."""
    place = saved.options.dataset
    state, info = ("foreign", None) if not place else _read_own(place, saved)
    known = optional(f"what {INFO_FILE} of {place} has", lambda: _known(info, place)) if info else None
    return DataFacts(
        place=place or next(iter(saved.options.train_data_paths), ""),
        state=state if known or not info else "gone",
        fingerprint=saved.data_fingerprint,
        totals=optional("the number of examples", lambda: _totals(saved)) or {},
        **(known or {}),
    )


def sampled_examples(directory: str, labels: Sequence[str]) -> tuple[Judged, ...]:
    """Returns pictures of a data set, chosen by hash from its plan, of which nothing is said; none without a plan.

    Args:
        directory: of a data set of pictures, local or gs://; empty for none.
        labels: the classes in the order of their ids.
    """
    if not directory:
        return ()
    return optional(f"pictures of {directory}", functools.partial(_sample, directory, labels)) or ()


def rights_of(options: Mapping[str, Any]) -> str:
    """Returns what is known of the rights in the pictures, as `DataFacts.rights` has it."""
    if options.get("source") not in _OF_THE_MET:
        return ""
    return "mixed" if options.get("include_restricted") else "open_access"


def _read_own(place: str, saved: SavedRun) -> tuple[str, dict[str, Any] | None]:
    """Returns whether the data set is there, and what it says of itself if it is what the run was trained on."""
    data = optional(f"the data set {place}", lambda: read_data_set(place, []))
    if data is None:
        return "gone", None
    if data.fingerprint != saved.data_fingerprint:
        return "changed", None
    info: dict[str, Any] | None = optional(INFO_FILE, lambda: files.read_json(files.join(place, INFO_FILE)))
    return ("known" if info else "gone"), info


def _known(info: Mapping[str, Any], place: str) -> dict[str, Any]:
    backbone = info.get("backbone")
    of_pictures = info.get("dataset", {}) if backbone else info
    options = of_pictures.get("options", {})
    return {
        "counts": {split: dict(info["splits"][split]["labels"]) for split in SPLITS},
        "source": str(options.get("source", "")),
        "input": str(options.get("input", "")),
        "attribute": str(options.get("attribute", "")),
        "choices": {name: option_text(value) for name, value in _changed(options).items()},
        "options": {name: option_text(value) for name, value in options.items()},
        "options_fingerprint": str(info.get("fingerprint", "")),
        "account": optional("the account of the rows", lambda: _account(_of_pictures(info, place))),
        "embeddings": _embeddings(info, backbone) if backbone else None,
        "rights": rights_of(options),
        "versions": {str(name): str(version) for name, version in info.get("versions", {}).items()},
    }


def _changed(options: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the options that are not ingest's default, without those that are told in words."""
    defaults = {field.name: field.default for field in dataclasses.fields(DatasetOptions)}
    return {
        name: value
        for name, value in options.items()
        if name not in _TOLD and (tuple(value) if isinstance(value, list) else value) != defaults.get(name)
    }


def _of_pictures(info: Mapping[str, Any], place: str) -> Mapping[str, Any]:
    """Returns what the data set of pictures says of itself that embeddings were made of, if it is still there."""
    directory = picture_data_set(place) if info.get("backbone") else ""
    made_from: Mapping[str, Any] = files.read_json(files.join(directory, INFO_FILE)) if directory else info
    return made_from


def _account(info: Mapping[str, Any]) -> Account:
    reasons = [row for kind in Kind for row in reason_rows(info[kind.value], kind, {})]
    return Account(
        read=int(info["read"]),
        written=int(info["written"]),
        reasons=tuple(sorted(reasons, key=lambda row: (-row.count, row.reason.value))),
    )


def _embeddings(info: Mapping[str, Any], backbone: Mapping[str, Any]) -> Embeddings:
    return Embeddings(
        backbone=str(backbone["name"]),
        weights=str(backbone.get("weights", "")),
        weights_sha256=str(backbone.get("weights_sha256", "")),
        width=int(backbone["width"]),
        normalize=str(info.get("normalize", "")),
    )


def _totals(saved: SavedRun) -> dict[str, int]:
    config = read_config(saved.directory, option="run") or {"data": {}}
    found = {split: config["data"].get(f"{split}_examples") for split in (TRAIN, VALIDATION)}
    return {split: count for split, count in found.items() if isinstance(count, int)}


def _sample(directory: str, labels: Sequence[str]) -> tuple[Judged, ...]:
    """Returns pictures planned for validation, or where there are none, for training."""
    shards = [shard for name in files.list_directory(directory) for shard in _named(name)]
    split = VALIDATION if any(shard.split == VALIDATION for shard in shards) else TRAIN
    sample = HashSample(labels)
    for shard in shards:
        for row in read_rows(PlanFiles(directory), shard) if shard.split == split else ():
            sample.add(Judged(key=row.artwork.key, labels=row.artwork.labels, top=()))
    return sample.examples()


def _named(name: str) -> list[Shard]:
    """Returns the shard of a file's name; none for another file."""
    try:
        return [Shard.parse(name)]
    except ValueError:
        return []
