"""What a comparison shows: the runs from the best on, what sets them apart, and what they share."""

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from trainer.comparison.runs import Run, data_groups
from trainer.options import PLACES, is_less_better
from trainer.run_directory import shown_option

_MISSING = "–"


@dataclasses.dataclass(frozen=True, kw_only=True)
class SideBySide:
    """Runs from the best on; runs on different data in groups of their own.

    Attributes:
        monitor: the metric by which they are ranked: that of all runs, or accuracy.
        groups: the runs by their data, each from the best on.
        differing: texts of the options and versions that are not alike, in the order of `runs`.
        alike: texts of the others.
    """

    monitor: str
    groups: Sequence[Sequence[Run]]
    differing: Mapping[str, Sequence[str]]
    alike: Mapping[str, str]

    @property
    def runs(self) -> list[Run]:
        """All runs, group after group."""
        return list(itertools.chain.from_iterable(self.groups))


def side_by_side(runs: Sequence[Run]) -> SideBySide:
    """Compares runs, at least one."""
    monitors = {run.options["monitor"] for run in runs}
    monitor = monitors.pop() if len(monitors) == 1 else "accuracy"
    groups = [ranked(group, monitor=monitor) for group in data_groups(runs)]
    texts = _texts([run for group in groups for run in group])
    return SideBySide(
        monitor=monitor,
        groups=groups,
        differing={name: values for name, values in texts.items() if len(set(values)) > 1},
        alike={name: values[0] for name, values in texts.items() if len(set(values)) == 1},
    )


def ranked(runs: Sequence[Run], *, monitor: str) -> list[Run]:
    """Returns the runs from the best on by a metric of validation; those without it come last, in their own order."""
    sign = 1 if is_less_better(monitor) else -1

    def rank(run: Run) -> tuple[bool, float]:
        value = getattr(run.best, monitor, None)
        return value is None, sign * (value or 0.0)

    return sorted(runs, key=rank)


def _texts(runs: Sequence[Run]) -> dict[str, list[str]]:
    """Returns what was asked for and with which versions, by name; where the data lay only if they differ."""
    columns = [{**run.options, **run.config.get("versions", {})} for run in runs]
    names = dict.fromkeys(itertools.chain.from_iterable(columns))
    rows = {
        name: [_text(column[name]) if name in column else _MISSING for column in columns]
        for name in names
        if name not in PLACES
    }
    if len({run.data["fingerprint"] for run in runs}) > 1:
        return {"data": [run.place for run in runs], **rows}
    return rows


def _text(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else shown_option(value)
