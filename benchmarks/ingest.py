"""Compares ingest with img2dataset and with a bare loop, in one run on this machine, and prints a table.

All of them fetch the same drawn JPEGs from an nginx of the benchmark's own over loopback and write them with a shorter
side of 299 pixels at JPEG quality 90:

  ours         python -m beam_pipelines.ingest
  img2dataset  pinned, in an environment of its own in the user's cache
  bare         the limit: the same fetch and the same pixels on 16 threads a process, no Beam and no accounting

They take turns, over several rounds. Each is run on few and on many pictures: the difference gives the running rate
and the CPU time a picture, what is left is the start-up. Ratios are taken within a round; the table has medians.
A contestant that writes another number of pictures, or other sizes, ends the run.

With --memory, ours alone runs on 1,000 and on many tiny pictures, and the peak memory of all its processes must stay.

Ends with 0 if all goals are met, 1 if one is missed or something fails, 2 if an option is wrong.
"""

import argparse
import contextlib
import dataclasses
import os
import pathlib
import shutil
import tempfile
from collections.abc import Iterator, Sequence

from benchmarks import contestants, nginx, pictures, processes
from benchmarks.command import end_when_told, exit_code, machine, make_parser, positive
from benchmarks.contestants import Contestant, Job
from benchmarks.figures import Figures, aligned, figures, medians, verdict
from benchmarks.pictures import LARGE, SMALL, TINY, Kind
from benchmarks.processes import Usage

_KINDS = {kind.name: kind for kind in (LARGE, SMALL)}
_CONTESTANTS = ("ours", "img2dataset", "bare")
_COUNTS = {LARGE: (200, 1800), SMALL: (1000, 9000)}
_QUICK_COUNTS = {LARGE: (40, 440), SMALL: (300, 3300)}
_GOALS = {LARGE: {"img2dataset": 2.5, "bare": 0.85}, SMALL: {"img2dataset": 1.1, "bare": 0.85}}

_IMAGE_SIZE = 299
_TINY_IMAGE_SIZE = 64
_MEMORY_PICTURES = 1000
_MEMORY_LIMIT = 1e9
_MEMORY_GROWTH = 1.15


@dataclasses.dataclass(frozen=True, kw_only=True)
class Ratio:
    """How many times better ours is than another in each round: in pictures a second, in CPU time a picture."""

    rates: tuple[float, ...]
    cpus: tuple[float, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Site:
    """Where pictures are served from, and where contestants may write."""

    base: str
    folder: pathlib.Path

    def run(self, contestant: Contestant, kind: Kind, count: int, *, image_size: int = _IMAGE_SIZE) -> Usage:
        """Runs `contestant` on `count` pictures and returns what it took.

        Raises:
            RunError: it failed, or did not write `count` pictures of the expected size.
        """
        job = Job(
            manifest=self.folder / "pictures.csv", count=count, output=self.folder / "output", image_size=image_size
        )
        pictures.write_manifest(job.manifest, kind.addresses(self.base, count))
        os.sync()
        try:
            usage = processes.measure(
                contestant.command(job), log=self.folder / "log.txt", environment=contestant.environment
            )
            contestants.check_output(contestant, job, kind)
        finally:
            shutil.rmtree(job.output, ignore_errors=True)
        print(
            f"  {contestant.name}: {count} {kind.name}, {usage.wall:.1f} s, CPU {usage.cpu:.1f} s,"
            f" {usage.peak_memory / 1e6:.0f} MB",
            flush=True,
        )
        return usage


def ratio(ours: Sequence[Figures], other: Sequence[Figures]) -> Ratio:
    """Returns how many times better ours is than the other, round by round."""
    return Ratio(
        rates=tuple(mine.rate / its.rate for mine, its in zip(ours, other, strict=True)),
        cpus=tuple(its.cpu / mine.cpu for mine, its in zip(ours, other, strict=True)),
    )


def compare(
    site: Site, kind: Kind, chosen: Sequence[Contestant], *, counts: tuple[int, int], rounds: int
) -> dict[str, list[Figures]]:
    """Runs all of `chosen` in turn, `rounds` times on few and on many pictures; returns name -> figures of rounds."""
    found: dict[str, list[Figures]] = {contestant.name: [] for contestant in chosen}
    for number in range(rounds):
        print(f"Round {number + 1} of {rounds}, {kind.name} pictures", flush=True)
        few = [site.run(contestant, kind, counts[0]) for contestant in chosen]
        many = [site.run(contestant, kind, counts[1]) for contestant in chosen]
        for contestant, less, more in zip(chosen, few, many, strict=True):
            found[contestant.name].append(figures(less, more, counts=counts))
    return found


def table(found: dict[str, list[Figures]]) -> str:
    """Returns a row a contestant with its medians."""
    rows = [("", "images/s", "CPU ms/image", "start-up s", "start-up CPU s", "peak MB", "largest process MB")]
    for name, rounds in found.items():
        middle = medians(rounds)
        rows.append(
            (
                name,
                f"{middle.rate:.1f}",
                f"{middle.cpu * 1e3:.2f}",
                f"{middle.start_up:.1f}",
                f"{middle.start_up_cpu:.1f}",
                f"{middle.peak_memory / 1e6:.0f}",
                f"{middle.largest_process / 1e6:.0f}",
            )
        )
    return aligned(rows)


def print_comparison(kind: Kind, found: dict[str, list[Figures]]) -> bool:
    """Prints the table of one kind of picture and ours against the others; returns whether all goals are met."""
    print(f"\n{table(found)}\n")
    all_met = True
    for name in found:
        if name == "ours" or "ours" not in found:
            continue
        against, goal = ratio(found["ours"], found[name]), _GOALS[kind][name]
        for what, values, aim in (
            ("images/s", against.rates, goal),
            ("CPU time", against.cpus, goal if name == "img2dataset" else None),
        ):
            line, met = verdict(f"ours / {name}, {what}", values, goal=aim)
            all_met &= met
            print(line)
    return all_met


def run_comparison(options: argparse.Namespace) -> bool:
    """Compares the chosen contestants on the chosen kinds; returns whether all goals are met."""
    chosen = [_contestant(name, options) for name in dict.fromkeys(options.contestants)]
    kinds = [_KINDS[name] for name in dict.fromkeys(options.kinds)]
    all_met = True
    with _site(tuple(kinds)) as (site, root):
        print("Rehearsal: everything once, so that files and programs are in memory", flush=True)
        for contestant in chosen:
            site.run(contestant, kinds[0], 8 * contestants.cores())
        for kind in kinds:
            counts = (_QUICK_COUNTS if options.quick else _COUNTS)[kind]
            size = pictures.mean_bytes(root / kind.name) / 1e3
            print(f"\n{kind.width} x {kind.height} JPEGs of {size:.0f} kB, {counts[0]} and {counts[1]} of them")
            found = compare(site, kind, chosen, counts=counts, rounds=options.rounds)
            all_met &= print_comparison(kind, found)
    return all_met


def run_memory(options: argparse.Namespace) -> bool:
    """Runs ours on few and on many tiny pictures; returns whether its memory stays flat and below the limit."""
    contestant = _contestant("ours", options)
    with _site((TINY,)) as (site, _):
        few, many = (
            site.run(contestant, TINY, count, image_size=_TINY_IMAGE_SIZE)
            for count in (_MEMORY_PICTURES, options.memory_pictures)
        )
    growth = many.peak_memory / few.peak_memory
    met = growth <= _MEMORY_GROWTH and many.peak_memory < _MEMORY_LIMIT
    print(
        f"\nPeak memory of all processes: {few.peak_memory / 1e6:.0f} MB for {_MEMORY_PICTURES:,} pictures,"
        f" {many.peak_memory / 1e6:.0f} MB for {options.memory_pictures:,}: {growth:.2f} times"
        f" (goal at most {_MEMORY_GROWTH:g} and below {_MEMORY_LIMIT / 1e6:.0f} MB: {'met' if met else 'missed'})"
    )
    return met


@contextlib.contextmanager
def _site(kinds: tuple[Kind, ...]) -> Iterator[tuple[Site, pathlib.Path]]:
    """Draws and serves `kinds`; gives the site and the folder of the pictures."""
    root = pictures.drawn(kinds)
    with nginx.serve(root) as base, tempfile.TemporaryDirectory(prefix="benchmark-ingest-") as folder:
        print(machine())
        yield Site(base=base, folder=pathlib.Path(folder)), root


def _contestant(name: str, options: argparse.Namespace) -> Contestant:
    if name == "ours":
        return contestants.ours(num_shards=options.num_shards)
    return contestants.img2dataset() if name == "img2dataset" else contestants.bare(processes=options.bare_processes)


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Parses the command line."""
    parser = make_parser("benchmarks.ingest", __doc__)
    parser.add_argument("--quick", action="store_true", help="few pictures and one round: minutes, but rough")
    parser.add_argument("--rounds", type=positive, help="how often everyone takes a turn (3; 1 with --quick)")
    parser.add_argument("--kinds", nargs="+", choices=list(_KINDS), default=list(_KINDS), help="of pictures (both)")
    parser.add_argument("--contestants", nargs="+", choices=_CONTESTANTS, default=list(_CONTESTANTS), help="(all)")
    parser.add_argument("--num_shards", type=positive, default=8, help="of ours (%(default)s)")
    parser.add_argument(
        "--bare_processes",
        type=positive,
        default=contestants.cores(),
        help="of the bare loop, 16 threads each: one a core (%(default)s) uses the whole machine",
    )
    parser.add_argument("--memory", action="store_true", help="measure the memory of ours on many pictures instead")
    parser.add_argument("--memory_pictures", type=positive, default=100_000, help="how many (%(default)s)")
    options = parser.parse_args(arguments)
    options.rounds = options.rounds or (1 if options.quick else 3)
    return options


def main() -> int:
    """Runs the command; returns its exit code."""
    end_when_told()
    options = parse()
    return exit_code(lambda: run_memory(options) if options.memory else run_comparison(options))


if __name__ == "__main__":
    raise SystemExit(main())
