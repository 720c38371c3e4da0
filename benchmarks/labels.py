"""Compares the labels command with pandas, in one run on this machine, and prints a table.

Both count the values of one column of the same drawn catalogue of 485,000 rows and 54 columns (see
`benchmarks.catalogue`), works that are not in the public domain included:

  ours     python -m beam_pipelines.labels --attribute culture --include_restricted
  pandas   pandas.read_csv(PATH)["Culture"].value_counts()

They take turns, over several rounds, each on ten rows, on a tenth of the rows and on all of them. What ten rows take is
the start-up: Beam's imports, pandas' imports. Ratios are taken within a round, of CPU time (user and system, all
processes), with the start-up of both and without that of either; the table has medians. Answers that differ end the
run. Ours must take at most three times the CPU time of pandas, start-up apart, and its memory must not grow with the
rows: with all of them at most 64 MB more than with a tenth, for 8 bytes a picture and what a pipeline has in flight.

Ends with 0 if the goals are met, 1 if one is missed or something fails, 2 if an option is wrong.
"""

import argparse
import csv
import dataclasses
import pathlib
import statistics
import sys
import tempfile
from collections.abc import Callable, Sequence

from beam_pipelines.errors import RunError
from benchmarks import catalogue, processes
from benchmarks.command import end_when_told, exit_code, make_parser, positive
from benchmarks.figures import aligned
from benchmarks.processes import Usage

_FEW = 10
_CPU_GOAL = 3.0
_GROWTH_GOAL = 64e6
_PANDAS = """
import sys, warnings
warnings.simplefilter("ignore")
import pandas
pandas.read_csv(sys.argv[1])["Culture"].value_counts().to_csv(sys.argv[2])
"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Contestant:
    """One way to count: its name, and the command line for a catalogue and the CSV of counts to be written."""

    name: str
    command: Callable[[pathlib.Path, pathlib.Path], list[str]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Round:
    """What one contestant took in one round: on ten rows, on a tenth of the rows, and on all of them."""

    few: Usage
    tenth: Usage
    all: Usage

    @property
    def cpu_once_running(self) -> float:
        """Seconds of CPU time on all rows, without the start-up."""
        return self.all.cpu - self.few.cpu


def _ours(path: pathlib.Path, output: pathlib.Path) -> list[str]:
    return [
        *(sys.executable, "-m", "beam_pipelines.labels", "--source", "open_access_csv", "--input", str(path)),
        *("--attribute", "culture", "--include_restricted", "--output", str(output), "--no_chart"),
    ]


def _pandas(path: pathlib.Path, output: pathlib.Path) -> list[str]:
    return [sys.executable, "-c", _PANDAS, str(path), str(output)]


OURS = Contestant(name="ours", command=_ours)
PANDAS = Contestant(name="pandas", command=_pandas)


def read_counts(path: pathlib.Path) -> dict[str, int]:
    """Returns the counts in a CSV file with a header."""
    with path.open(encoding="utf-8", newline="") as file:
        return {value: int(count) for value, count in list(csv.reader(file))[1:]}


def run(contestant: Contestant, rows: int, folder: pathlib.Path) -> tuple[Usage, dict[str, int]]:
    """Runs a contestant on so many rows; returns what it took and what it counted."""
    output = folder / f"{contestant.name}.csv"
    usage = processes.measure(contestant.command(catalogue.drawn(rows), output), log=folder / "log.txt")
    print(
        f"  {contestant.name}: {rows:,} rows, {usage.wall:.1f} s, CPU {usage.cpu:.2f} s,"
        f" {usage.peak_memory / 1e6:.0f} MB",
        flush=True,
    )
    return usage, read_counts(output)


def run_round(rows: int, folder: pathlib.Path) -> tuple[Round, Round]:
    """Runs both on everything, in turn; returns what ours and what pandas took.

    Raises:
        RunError: they counted differently.
    """
    usages: dict[str, list[Usage]] = {OURS.name: [], PANDAS.name: []}
    for size in (_FEW, rows // 10, rows):
        answers = []
        for contestant in (OURS, PANDAS):
            usage, counts = run(contestant, size, folder)
            usages[contestant.name].append(usage)
            answers.append(counts)
        if answers[0] != answers[1]:
            different = sorted(dict(answers[0].items() ^ answers[1].items()))
            raise RunError(f"{len(different)} values of {size} rows are counted differently, such as {different[0]!r}")
    ours, pandas = (Round(few=few, tenth=tenth, all=every) for few, tenth, every in usages.values())
    return ours, pandas


def table(ours: Sequence[Round], pandas: Sequence[Round], *, rows: int) -> str:
    """Returns a row a contestant with its medians."""
    lines: list[tuple[str, ...]] = [
        (
            "",
            "start-up CPU s",
            "CPU s",
            "CPU s once running",
            "wall s",
            f"MB, {rows // 10:,} rows",
            f"MB, {rows:,} rows",
        )
    ]
    for name, rounds in ((OURS.name, ours), (PANDAS.name, pandas)):
        figures = (
            [one.few.cpu for one in rounds],
            [one.all.cpu for one in rounds],
            [one.cpu_once_running for one in rounds],
            [one.all.wall for one in rounds],
        )
        memory = ([one.tenth.largest_process for one in rounds], [one.all.largest_process for one in rounds])
        lines.append(
            (
                name,
                *(f"{statistics.median(values):.2f}" for values in figures),
                *(f"{statistics.median(values) / 1e6:.0f}" for values in memory),
            )
        )
    return aligned(lines)


def verdict(what: str, values: Sequence[float], *, goal: float | None = None) -> tuple[str, bool]:
    """Returns a line with the median and the range of `values`, and whether it is at most the goal, if there is one."""
    median = statistics.median(values)
    met = goal is None or median <= goal
    aim = "" if goal is None else f", goal at most {goal:g}: {'met' if met else 'missed'}"
    return f"{what}: {median:.2f} ({min(values):.2f} to {max(values):.2f}{aim})", met


def compare(*, rows: int, rounds: int) -> bool:
    """Runs all rounds and prints what came of them; returns whether the goals are met."""
    for size in (_FEW, rows // 10, rows):
        catalogue.drawn(size)
    with tempfile.TemporaryDirectory(prefix="benchmark-labels-") as folder:
        found = []
        for number in range(rounds):
            print(f"Round {number + 1} of {rounds}", flush=True)
            found.append(run_round(rows, pathlib.Path(folder)))
    ours, pandas = [pair[0] for pair in found], [pair[1] for pair in found]
    print(f"\n{table(ours, pandas, rows=rows)}\n")
    growth = [(one.all.largest_process - one.tenth.largest_process) / 1e6 for one in ours]
    verdicts = (
        verdict(
            "CPU time, ours / pandas, start-up apart",
            [mine.cpu_once_running / its.cpu_once_running for mine, its in found],
            goal=_CPU_GOAL,
        ),
        verdict("CPU time, ours / pandas, start-up included", [mine.all.cpu / its.all.cpu for mine, its in found]),
        verdict("memory, MB more for ten times the rows", growth, goal=_GROWTH_GOAL / 1e6),
    )
    for line, _ in verdicts:
        print(line)
    return all(met for _, met in verdicts)


def _rows(text: str) -> int:
    value = int(text)
    if value < 10 * _FEW:
        raise argparse.ArgumentTypeError(f"{value} is below {10 * _FEW}")
    return value


def main() -> int:
    """Runs the command; returns its exit code."""
    end_when_told()
    parser = make_parser("benchmarks.labels", __doc__)
    parser.add_argument("--rows", type=_rows, default=485_000, help="of the catalogue (%(default)s)")
    parser.add_argument("--rounds", type=positive, default=3, help="how often both take a turn (%(default)s)")
    options = parser.parse_args()
    return exit_code(lambda: compare(rows=options.rows, rounds=options.rounds))


if __name__ == "__main__":
    raise SystemExit(main())
