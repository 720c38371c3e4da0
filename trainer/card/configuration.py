"""How the model was trained: its options, those chosen first. Imports no TensorFlow."""

from collections.abc import Mapping
from typing import Any

from trainer.options import PLACES, TrainingOptions, resolve

_LENGTHS = ("epochs", "steps", "examples")
# The defaults of other options depend on these.
_DECIDING = ("optimizer", "weights", "learning_rate", *_LENGTHS)


def chosen_options(options: TrainingOptions) -> dict[str, Any]:
    """Returns the options that are not what training takes by itself for such a model, besides the model and the data.

    A default that follows from another option, as the momentum from the optimizer, is none that was chosen.
    """
    told = {name: getattr(options, name) for name in ("model", *PLACES)}
    deciding = {name: value for name in _DECIDING if (value := getattr(options, name))}
    plain, derived = resolve(told), resolve({**told, **deciding})
    return {
        name: value
        for name, value in vars(options).items()
        if value != getattr(plain if name in _DECIDING else derived, name) and (value or name not in _LENGTHS)
    }


def versions_table(columns: Mapping[str, Mapping[str, str]]) -> tuple[list[str], dict[str, list[str]]]:
    """Returns the stages of which versions are known, and by package the version in each; empty where none is.

    Args:
        columns: by stage, versions by package.
    """
    stages = [stage for stage, versions in columns.items() if versions]
    packages = dict.fromkeys(name for stage in stages for name in columns[stage])
    return stages, {name: [columns[stage].get(name, "") for stage in stages] for name in sorted(packages)}
