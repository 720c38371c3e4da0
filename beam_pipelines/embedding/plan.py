"""The plan of a data set of embeddings: which pictures and which backbone; fixed before any picture is embedded."""

import importlib.metadata
import logging
from collections.abc import Mapping
from typing import Any

from beam_pipelines import files
from beam_pipelines.commands import native_messages_held_back
from beam_pipelines.dataset import BACKBONE_WEIGHTS_FILE, LABELS_FILE, PLAN_DIRECTORY, TRANSFORM_DIRECTORIES
from beam_pipelines.embedding.options import EmbeddingOptions
from beam_pipelines.embedding.source import read_label_file
from beam_pipelines.outcomes import sha256_of
from beam_pipelines.outputs import another_data_set, check_only_ours
from beam_pipelines.plan_files import PlanFiles
from trainer.models import check_backbone

_LOGGER = logging.getLogger(__name__)

# What a run that was killed while it planned may have left.
_OURS = frozenset({PLAN_DIRECTORY, LABELS_FILE, BACKBONE_WEIGHTS_FILE, *TRANSFORM_DIRECTORIES})
# What decides the vectors and the graph, besides the options.
_VERSIONS_OF = ("keras", "tensorflow", "tensorflow-transform")


def is_planned(options: EmbeddingOptions, output: str, source: Mapping[str, Any]) -> bool:
    """Tells whether the directory has the whole plan of these embeddings, and their backbone.

    Args:
        options: what the embeddings are.
        output: their directory.
        source: `dataset_info.json` of the pictures' data set.

    Raises:
        OptionError: the directory has something else.
    """
    plan = PlanFiles(output)
    if not files.exists(plan.summary):
        check_only_ours(output, _OURS)
        return False
    summary = files.read_json(plan.summary)
    sha256 = summary.get("backbone", {}).get("weights_sha256", "")
    if summary["fingerprint"] != options.fingerprint(weights_sha256=sha256, source=source):
        raise another_data_set(output)
    if summary["weights_from"] != _weights_from(options):
        raise another_data_set(output)
    return files.exists(files.join(output, BACKBONE_WEIGHTS_FILE))


def make_plan(options: EmbeddingOptions, output: str, source: Mapping[str, Any]) -> None:
    """Builds the backbone once, and writes its weights, the labels and the plan to `output`.

    Args:
        options: what the embeddings are.
        output: their directory.
        source: `dataset_info.json` of the pictures' data set.

    Raises:
        OptionError: the weights cannot be had, or are not those of this backbone.
    """
    _warn_of_small_pictures(options, source)
    plan = PlanFiles(output)
    _LOGGER.info("building %s", options.backbone)
    with native_messages_held_back():
        from trainer import models  # TensorFlow is only needed, and only paid for, here

        backbone = models.build_backbone(options.backbone, weights=options.weights)
    told = {
        "name": options.backbone,
        "weights": options.weights,
        "weights_sha256": models.weights_sha256(backbone),
        "input_size": check_backbone(options.backbone).input_size,
        "width": int(backbone.output_shape[-1]),
    }
    models.save_backbone_weights(backbone, files.join(output, BACKBONE_WEIGHTS_FILE))
    files.write_bytes(files.join(output, LABELS_FILE), read_label_file(options.dataset))
    files.write_lines(plan.rejected, [])
    files.write_json(plan.summary, _summary(options, source, told))


def _summary(options: EmbeddingOptions, source: Mapping[str, Any], backbone: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "fingerprint": options.fingerprint(weights_sha256=backbone["weights_sha256"], source=source),
        "options": options.to_json(),
        "backbone": backbone,
        "weights_from": _weights_from(options),
        "normalize": options.normalize,
        "dataset": {
            "path": options.dataset,
            "fingerprint": source["fingerprint"],
            "options": source["options"],
        },
        "labels": list(source["labels"]),
        "read": source["written"],
        "splits": {
            split: {"pictures": told["examples"], "shards": len(told["shards"]), "sources": told["shards"]}
            for split, told in source["splits"].items()
        },
        "filtered": {},
        "rejected": {},
        "versions": {name: importlib.metadata.version(name) for name in _VERSIONS_OF},
        "split_given": int(source["split_given"]),
        "examples": {},
    }


def _weights_from(options: EmbeddingOptions) -> str:
    """Returns what the weights come from, in words that are other for another file."""
    path = options.weights_path()
    if not path:
        return options.weights
    with files.open_to_read(path) as file:
        return f"sha256 {sha256_of(file)}"


def _warn_of_small_pictures(options: EmbeddingOptions, source: Mapping[str, Any]) -> None:
    wanted, have = check_backbone(options.backbone).input_size, source["options"].get("image_size", 0)
    if 0 < have < wanted:
        _LOGGER.warning(
            "%s takes pictures of %d pixels, those of %s have at most %d on their shorter side: it sees more with "
            "--image_size %d at ingest",
            options.backbone, wanted, options.dataset, have, wanted,
        )  # fmt: skip
