"""Makes one SavedModel of a checkpoint, from bytes of pictures to labels and scores: `python -m trainer.export --help`.

saved_model.pb, variables/, fingerprint.pb   the graph and its numbers
assets/labels.txt                            the classes, one a line
assets/model.json                            what is known of the model
model_card.html                              the same and more, to look at

The directory is a version, MODEL/1, as TensorFlow Serving expects; it appears whole or not at all. TensorFlow is
imported when everything that can be said without it has been said.
"""

import contextlib
import logging
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from beam_pipelines import files
from beam_pipelines.commands import native_messages_held_back, run_command
from trainer.exporting.model_info import model_info
from trainer.exporting.options import ExportOptions, parse_arguments
from trainer.exporting.source import Source, find_source
from trainer.exporting.versions import MODEL_FILE, check_version, new_version
from trainer.model_card import write_model_card
from trainer.saved_run import SavedRun, choose_checkpoint, read_saved_run

# Named, because this module is `__main__` where it is the command.
_LOGGER = logging.getLogger("trainer.export")

_NAMED_LABELS = 5


def main(arguments: Sequence[str]) -> int:
    """Runs the command.

    Returns:
        its exit code: 0 done, 1 failed, 2 wrong options.
    """
    verbose = "--verbose" in arguments
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "0" if verbose else "3")
    return run_command(lambda: _export(arguments), verbose=verbose)


def _export(arguments: Sequence[str]) -> None:
    options = parse_arguments(arguments)
    saved = read_saved_run(options.run)
    if options.skip_existing and _is_exported(options, saved):
        print(f"{options.output} is complete, there is nothing to do")  # noqa: T201
        return
    check_version(options.output)
    source = find_source(saved, dataset=options.dataset)
    with new_version(options.output) as directory:
        info = _write(options, saved, source, directory)
        write_model_card(saved, step=info["step"], directory=directory, model_info=info)
        size = sum(entry.size for entry in files.list_entries(directory))
    print(describe(info, options.output, size=size))  # noqa: T201


def _is_exported(options: ExportOptions, saved: SavedRun) -> bool:
    """Tells whether the version is there and is of that checkpoint."""
    if not files.exists(files.join(options.output, MODEL_FILE)):
        return False
    with contextlib.nullcontext() if options.verbose else native_messages_held_back():
        from trainer.serving_graph import ASSETS_DIRECTORY, MODEL_INFO_FILE

        step = choose_checkpoint(saved, options.checkpoint)
    info = files.read_json(files.join(options.output, ASSETS_DIRECTORY, MODEL_INFO_FILE))
    return (info["run"], info["step"]) == (saved.directory.path, step)


def describe(info: Mapping[str, Any], output: str, *, size: int) -> str:
    """Returns what was exported and how to go on, in lines for people.

    Args:
        info: as `model.json` has it.
        output: where it lies.
        size: of all its files, in bytes.
    """
    labels, embedding = info["labels"], info["embedding"]
    named = ", ".join(labels[:_NAMED_LABELS]) + (", …" if len(labels) > _NAMED_LABELS else "")
    vectors = f"{embedding['width']:,} numbers, of {embedding['backbone']}" if embedding else "none"
    facts = {
        "model": f"{info['model']}, step {info['step']:,} of {info['run']} ({info['checkpoint']})",
        "classes": f"{len(labels):,}: {named}",
        "vectors": vectors,
        "size": f"{size / 1e6:,.1f} MB",
    }
    lines = [f"{output} is complete", *(f"{name:7}  {value}" for name, value in facts.items())]
    lines += [f"try it: python -m serving.classify --model {output} picture.jpg"]
    return "\n".join(lines)


def _write(options: ExportOptions, saved: SavedRun, source: Source, directory: str) -> dict[str, Any]:
    """Writes the SavedModel, tries it, and returns what its `model.json` says."""
    with contextlib.nullcontext() if options.verbose else native_messages_held_back():
        from trainer.exporting.parts import assemble
        from trainer.exporting.trial import LOW_PRECISION_TOLERANCE, TOLERANCE, check_exported
        from trainer.restoring import restore_classifier
        from trainer.serving_graph import build_served_module, save_served_model
        from trainer.strategy import prepare_devices

    prepare_devices("cpu", strategy="one_device")
    step = choose_checkpoint(saved, options.checkpoint)
    _LOGGER.info("%s at step %s of %s", saved.options.model, f"{step:,}", options.run)
    assembled = assemble(saved, restore_classifier(saved, step), source.embeddings)
    info = model_info(
        saved,
        source,
        assembled.embedding,
        step=step,
        checkpoint=options.checkpoint,
        image_size=assembled.parts.image_size,
        max_image_pixels=options.max_image_pixels,
    )
    module = build_served_module(assembled.parts, max_image_pixels=options.max_image_pixels)
    with contextlib.nullcontext() if options.verbose else native_messages_held_back():
        save_served_model(module, directory, info=info)
        tolerance = TOLERANCE if saved.options.dtype_policy == "float32" else LOW_PRECISION_TOLERANCE
        check_exported(directory, assembled.parts, max_image_pixels=options.max_image_pixels, tolerance=tolerance)
    return info


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
