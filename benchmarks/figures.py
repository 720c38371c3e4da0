"""What runs on few and on many pictures tell: the running rate apart from the start-up, medians, tables, verdicts."""

import dataclasses
import statistics
from collections.abc import Sequence

from beam_pipelines.errors import RunError
from benchmarks.processes import Usage


@dataclasses.dataclass(frozen=True, kw_only=True)
class Figures:
    """One contestant in one round, start-up and running apart.

    Attributes:
        rate: pictures a second, once running.
        cpu: seconds of CPU time a picture, once running.
        start_up: seconds before, and after, pictures flow.
        start_up_cpu: seconds of CPU time of that.
        peak_memory: bytes, all processes together.
        largest_process: bytes.
    """

    rate: float
    cpu: float
    start_up: float
    start_up_cpu: float
    peak_memory: float
    largest_process: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Round:
    """A contestant in one round.

    Attributes:
        running: without the start-up.
        whole: seconds of its whole command on many pictures.
    """

    running: Figures
    whole: float


def figures(few: Usage, many: Usage, *, counts: tuple[int, int]) -> Figures:
    """Returns the line through two runs on `counts` pictures: its slope is the running, its intercept the start-up.

    Raises:
        RunError: more pictures took no longer, so that there is no such line.
    """
    more = counts[1] - counts[0]
    if many.wall <= few.wall or many.cpu <= few.cpu:
        raise RunError(
            f"{counts[1]} pictures took no longer than {counts[0]}: too few to tell running from start-up;"
            " give more, on a machine that does nothing else"
        )
    rate, cpu = more / (many.wall - few.wall), (many.cpu - few.cpu) / more
    return Figures(
        rate=rate,
        cpu=cpu,
        start_up=few.wall - counts[0] / rate,
        start_up_cpu=few.cpu - counts[0] * cpu,
        peak_memory=max(few.peak_memory, many.peak_memory),
        largest_process=max(few.largest_process, many.largest_process),
    )


def medians(rounds: Sequence[Figures]) -> Figures:
    """Returns the median of each figure."""
    names = [field.name for field in dataclasses.fields(Figures)]
    return Figures(**{name: statistics.median(getattr(figures, name) for figures in rounds) for name in names})


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """Returns rows of cells as lines: the first column to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]).rstrip() for row in rows
    )


def verdict(what: str, values: Sequence[float], *, goal: float | None) -> tuple[str, bool]:
    """Returns a line with the median and the range of `values`, and whether it is up to the goal, if there is one."""
    median = statistics.median(values)
    met = goal is None or median >= goal
    aim = "" if goal is None else f", goal {goal:g}: {'met' if met else 'missed'}"
    return f"{what}: {median:.2f} ({min(values):.2f} to {max(values):.2f}{aim})", met
