"""How classes are chosen from labels: by how many pictures they have, or as a file lists them."""

import dataclasses

from beam_pipelines import files
from beam_pipelines.artwork import clean_labels
from beam_pipelines.errors import OptionError
from beam_pipelines.options import DatasetOptions


@dataclasses.dataclass(frozen=True, kw_only=True)
class LabelChoice:
    """Which labels become classes.

    Attributes:
        min_images: labels of fewer pictures are left out.
        max_labels: at most so many, the commonest; 0 for all.
        fixed: the classes in the order of their ids, instead of a choice by counts.
        multi_label: whether a picture may have several.
    """

    min_images: int = 10
    max_labels: int = 0
    fixed: tuple[str, ...] = ()
    multi_label: bool = False

    @classmethod
    def from_options(cls, options: DatasetOptions, *, class_names: tuple[str, ...] = ()) -> "LabelChoice":
        """Returns the choice that the options ask for; reads the labels file if there is one.

        Args:
            options: of the data set.
            class_names: the labels in the order of their ids, if the source has such an order.
        """
        fixed = () if options.max_labels else class_names
        if options.labels_file:
            fixed = read_labels_file(options.labels_file, default_label=options.default_label)
        return cls(
            min_images=options.min_images_per_label,
            max_labels=options.max_labels,
            fixed=fixed,
            multi_label=options.multi_label,
        )


def read_labels_file(path: str, *, default_label: str = "") -> tuple[str, ...]:
    """Returns the labels in a file, one a line, and the default label last if it is not among them.

    Raises:
        OptionError: the file cannot be read, is empty, or has a label twice.
    """
    try:
        lines = files.read_bytes(path).decode("utf-8-sig", "replace").splitlines()
    except OSError as error:
        raise OptionError(f"cannot read --labels_file {path}: {error.strerror or 'there is no such file'}") from error
    labels = [label for line in lines for label in clean_labels([line])]
    if not labels:
        raise OptionError(f"--labels_file {path} has no labels")
    twice = sorted({label for label in labels if labels.count(label) > 1})
    if twice:
        raise OptionError(f"--labels_file {path} has {twice[0]!r} more than once")
    return tuple(labels if not default_label or default_label in labels else [*labels, default_label])
