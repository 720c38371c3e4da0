"""Publishing embeddings: every picture accounted for, the transform graph, and what people and programs read."""

from typing import Any

from beam_pipelines import files
from beam_pipelines.commands import native_messages_held_back
from beam_pipelines.dataset import INFO_FILE
from beam_pipelines.embedding.options import EmbeddingOptions
from beam_pipelines.embedding.report import publish_projection
from beam_pipelines.plan_files import PlanFiles
from beam_pipelines.publish import account_for_rows, check_outcome, mark_completed, warn_of_empty_classes

_MEND = "mend the data set of pictures, or give a larger fraction"
_TOLD_BY_THE_PLAN = ("backbone", "normalize", "dataset")


def publish_embeddings(options: EmbeddingOptions, output: str, *, max_reject_fraction: float) -> dict[str, Any]:
    """Writes the transform graph, `rejected.jsonl`, `dataset_info.json`, the report and, last, `COMPLETED`.

    Args:
        options: what the embeddings are.
        output: their directory, with all shards and their counts.
        max_reject_fraction: how many of the pictures may be rejected.

    Returns:
        the information.

    Raises:
        RunError: the pictures do not add up, none was embedded, or too many were rejected.
    """
    plan = PlanFiles(output)
    info, outcomes = account_for_rows(options.to_json(), output, plan.account, files.read_json(plan.counted))
    summary = files.read_json(plan.summary)
    info.update({name: summary[name] for name in _TOLD_BY_THE_PLAN})
    check_outcome(info, max_reject_fraction=max_reject_fraction, mend=_MEND)
    warn_of_empty_classes(info)
    with native_messages_held_back():
        from beam_pipelines.embedding.normalization import fit  # TensorFlow Transform is only needed here

        fit(plan, outcomes.shards, width=info["backbone"]["width"], normalize=options.normalize, output=output)
    files.write_json(files.join(output, INFO_FILE), info)
    publish_projection(plan, outcomes.shards, info, output=output)
    files.remove_tree(plan.progress)
    mark_completed(output, info)
    return info
