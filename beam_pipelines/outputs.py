"""What a command finds in its output directory before it begins."""

from collections.abc import Collection

from beam_pipelines import files
from beam_pipelines.errors import OptionError


def another_data_set(output: str) -> OptionError:
    """Returns the error of an output that has the plan of something else."""
    return OptionError(f"{output} holds another data set, made with other options: name another --output, or delete it")


def check_only_ours(output: str, ours: Collection[str], *, what: str = "data set") -> None:
    """Raises OptionError if the directory has files that a run which was killed while it planned does not leave.

    Args:
        output: the directory; it need not be there.
        ours: names that such a run may leave.
        what: it makes.
    """
    strangers = [name for name in files.list_directory(output) if not files.is_unfinished(name) and name not in ours]
    if strangers:
        raise OptionError(f"{output} is not empty and no {what} of this program: it has {strangers[0]!r}")
