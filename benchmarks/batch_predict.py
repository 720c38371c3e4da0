"""Compares batch_predict with its SavedModel alone in a loop, and prints a table.

All predict the same pictures, by the same signature, in batches of 32 (see `benchmarks.predict_loops`):

  ours     python -m beam_pipelines.batch_predict --source directory
  memory   the SavedModel alone, on files that lie in memory
  files    the SavedModel alone, each batch read when its turn comes

They take turns, over several rounds. Each is run on few and on many pictures: the difference gives the running rate
and the CPU time a picture, what is left is the start-up. `whole run` is the whole command on many pictures. Ratios are
taken within a round; the table has medians. Without --pictures, drawn ones of 500 by 375 pixels are predicted; without
--model, by a mobilenet_v3_small with random weights.

Ours must come to 90 % of `memory`. Ends with 0 if that goal is met, 1 if it is missed or something fails, 2 if an
option is wrong.
"""

import argparse
import contextlib
import dataclasses
import json
import os
import pathlib
import shutil
import statistics
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence

from beam_pipelines.errors import OptionError, RunError
from beam_pipelines.prediction.publish import SUMMARY_FILE
from benchmarks import pictures, processes
from benchmarks.command import end_when_told, exit_code, machine, make_parser, positive
from benchmarks.figures import Round, aligned, figures, medians, verdict
from benchmarks.pictures import SMALL
from benchmarks.predict_loops import LOOPS
from benchmarks.processes import Usage
from serving.model import find_model

OURS = "ours"
CONTESTANTS = (OURS, *LOOPS)

_GOALS: Mapping[str, float | None] = {"memory": 0.9, "files": None}
_FEWER = 4


@dataclasses.dataclass(frozen=True, kw_only=True)
class Bench:
    """One model, a folder to write to, and folders of pictures by their number."""

    model: str
    folder: pathlib.Path
    pictures: Mapping[int, pathlib.Path]

    def run(self, name: str, count: int) -> Usage:
        """Runs a contestant on so many pictures.

        Raises:
            RunError: it failed, or did not predict each of them.
        """
        output, log = self.folder / "predictions", self.folder / "log.txt"
        command = _ours(self, count, output) if name == OURS else _loop(self, name, count)
        os.sync()
        try:
            usage = processes.measure(command, log=log)
            if name == OURS:
                predicted = json.loads((output / SUMMARY_FILE).read_text())["predicted"]
            else:
                predicted = int(log.read_text().splitlines()[-1])
        finally:
            shutil.rmtree(output, ignore_errors=True)
        if predicted != count:
            raise RunError(f"{name} predicted {predicted} of {count} pictures")
        told = f"{usage.wall:.1f} s, CPU {usage.cpu:.1f} s, {usage.peak_memory / 1e6:.0f} MB"
        print(f"  {name}: {count} pictures, {told}", flush=True)
        return usage


def _ours(bench: Bench, count: int, output: pathlib.Path) -> list[str]:
    return [
        *(sys.executable, "-m", "beam_pipelines.batch_predict"),
        *("--model", bench.model),
        *("--source", "directory"),
        *("--input", str(bench.pictures[count])),
        *("--output", str(output)),
    ]


def _loop(bench: Bench, name: str, count: int) -> list[str]:
    return [
        *(sys.executable, "-m", "benchmarks.predict_loops", name),
        *("--model", bench.model),
        *("--folder", str(bench.pictures[count])),
        *("--pictures", str(count)),
    ]


def run_round(bench: Bench, counts: tuple[int, int]) -> dict[str, Round]:
    """Runs all contestants in turn, on few and on many pictures; returns what each took by its name."""
    few, many = ({name: bench.run(name, count) for name in CONTESTANTS} for count in counts)
    return {
        name: Round(running=figures(few[name], many[name], counts=counts), whole=many[name].wall)
        for name in CONTESTANTS
    }


def table(rounds: Sequence[Mapping[str, Round]]) -> str:
    """Returns a row a contestant with its medians."""
    rows: list[tuple[str, ...]] = [("", "images/s", "CPU ms/image", "start-up s", "whole run s", "peak MB")]
    for name in CONTESTANTS:
        middle = medians([found[name].running for found in rounds])
        whole = statistics.median(found[name].whole for found in rounds)
        cells = (middle.rate, middle.cpu * 1e3, middle.start_up, whole, middle.peak_memory / 1e6)
        shown = (f"{cell:.{digits}f}" for cell, digits in zip(cells, (1, 2, 1, 1, 0), strict=True))
        rows.append((name, *shown))
    return aligned(rows)


def verdicts(rounds: Sequence[Mapping[str, Round]]) -> list[tuple[str, bool]]:
    """Returns lines that compare ours with the others, each with whether its goal is met."""
    return [
        verdict(
            f"ours / {name}, images/s",
            [found[OURS].running.rate / found[name].running.rate for found in rounds],
            goal=goal,
        )
        for name, goal in _GOALS.items()
    ]


def compare(options: argparse.Namespace) -> bool:
    """Compares all contestants and prints what came of it; returns whether all goals are met."""
    counts = (options.count // _FEWER, options.count)
    with _bench(options, counts) as bench:
        print("Rehearsal: once, so that files and programs are in memory", flush=True)
        bench.run(OURS, counts[0])
        found = []
        for number in range(options.rounds):
            print(f"Round {number + 1} of {options.rounds}", flush=True)
            found.append(run_round(bench, counts))
    print(f"\n{table(found)}\n")
    told = verdicts(found)
    for line, _ in told:
        print(line)
    return all(met for _, met in told)


@contextlib.contextmanager
def _bench(options: argparse.Namespace, counts: Sequence[int]) -> Iterator[Bench]:
    """Makes what is measured; gives it with a folder that is removed in the end."""
    model = find_model(str(options.model)) if options.model else ""
    originals = sorted(_files_below(options.pictures or pictures.drawn((SMALL,)) / SMALL.name))
    if not originals:
        raise OptionError(f"--pictures {options.pictures} has no file: give a folder of pictures")
    with tempfile.TemporaryDirectory(prefix="benchmark-predict-") as name:
        folder = pathlib.Path(name)
        if not model:
            print("Making a model", flush=True)
            model = str(folder / "model" / "1")
            command = [sys.executable, "-m", "benchmarks.predict_loops", "model", "--model", model]
            processes.measure(command, log=folder / "log.txt")
        yield Bench(
            model=model,
            folder=folder,
            pictures={count: links(originals, folder / f"pictures-{count}", count) for count in counts},
        )


def links(originals: Sequence[pathlib.Path], folder: pathlib.Path, count: int) -> pathlib.Path:
    """Makes a folder of so many files, which are the `originals` in turn; returns it."""
    folder.mkdir(parents=True)
    for number in range(count):
        original = originals[number % len(originals)].resolve()
        (folder / f"{number:06d}{original.suffix}").symlink_to(original)
    return folder


def _files_below(folder: pathlib.Path) -> Iterator[pathlib.Path]:
    return (path for path in folder.rglob("*") if path.is_file())


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Parses the command line."""
    parser = make_parser("benchmarks.batch_predict", __doc__)
    parser.add_argument("--model", type=pathlib.Path, metavar="DIR", help="of a model or of one of its versions")
    parser.add_argument("--pictures", type=pathlib.Path, metavar="DIR", help="that has them, in folders or not")
    parser.add_argument(
        "--count",
        type=positive,
        default=6000,
        help="many; few are a quarter; those there are come in turn (%(default)s)",
    )
    parser.add_argument("--rounds", type=positive, default=3, help="how often everyone takes a turn (%(default)s)")
    options = parser.parse_args(arguments)
    if options.count < _FEWER:
        parser.error(f"--count {options.count} is below {_FEWER}")
    return options


def main() -> int:
    """Runs the command; returns its exit code."""
    end_when_told()
    options = parse()
    print(machine())
    return exit_code(lambda: compare(options))


if __name__ == "__main__":
    raise SystemExit(main())
