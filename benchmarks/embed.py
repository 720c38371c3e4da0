"""Compares embed with its backbone alone, with a bare loop and with one picture at a time, and prints a table.

Drawn pictures of 320 pixels on the shorter side are ingested once; all embed them with the same backbone, whose weights
are random ones, in the same TensorFlow function (see `benchmarks.embed_loops`):

  ours     python -m beam_pipelines.embed
  ready    the backbone alone, on batches of 32 that lie in memory as pixels
  bare     the limit: read, decode and resize on a thread a core, the backbone on batches of 32, vectors thrown away
  single   one picture after the other: decode, resize, the backbone on a batch of one
  decode   as bare, without the backbone

They take turns, over several rounds. Each is run on few and on many pictures: the difference gives the running rate
and the CPU time a picture, what is left is the start-up. The time of ours ends when all shards are written and counted,
by `.plan/counted.json`; `whole run` is the whole command on many pictures, with publishing, which is in its CPU time
and in its memory (of all processes together) too. The report shows about 2,000 pictures, each of which costs a
thumbnail: with as many or more in both runs, that is start-up. Ratios are taken within a round; the table has medians.

Ours must come to 95 % of `ready` and of `bare`. Where the cores that decode are those that embed, no program comes to
95 % of `ready` with a small backbone: `bare` / `ready` and the share of decoding in the CPU time say what is to be had.

Ends with 0 if all goals are met, 1 if one is missed or something fails, 2 if an option is wrong.
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
import time
from collections.abc import Iterator, Mapping, Sequence

from beam_pipelines.dataset import INFO_FILE
from beam_pipelines.errors import RunError
from beam_pipelines.plan_files import PlanFiles
from benchmarks import contestants, nginx, pictures, processes
from benchmarks.command import end_when_told, exit_code, machine, make_parser, positive
from benchmarks.contestants import Job
from benchmarks.embed_loops import LOOPS
from benchmarks.figures import Round, aligned, figures, medians, verdict
from benchmarks.pictures import SMALL
from benchmarks.processes import Usage
from trainer.models import check_backbone

OURS = "ours"
CONTESTANTS = (OURS, *LOOPS)

_GOALS: Mapping[str, float | None] = {"ready": 0.95, "bare": 0.95, "single": None}
_IMAGE_SIZE = 320
_PICTURES = {"inception_v3": 800, "mobilenet_v3_small": 8000}
_DEFAULT_PICTURES = 800
_FEWER = 4
_LEAST_FEW = 64
# As ingest does by itself.
_PICTURES_A_SHARD = 500


@dataclasses.dataclass(frozen=True, kw_only=True)
class Measurement:
    """What a contestant took for pictures: as far as its rate counts, and the whole command."""

    embedding: Usage
    whole: Usage


@dataclasses.dataclass(frozen=True, kw_only=True)
class Bench:
    """One backbone, a folder to write to, and data sets by the number of their pictures."""

    backbone: str
    folder: pathlib.Path
    datasets: Mapping[int, pathlib.Path]

    def run(self, name: str, pictures: int) -> Measurement:
        """Runs a contestant on a data set of so many pictures.

        Raises:
            RunError: it failed, or did not embed each of them.
        """
        output, log = self.folder / "embeddings", self.folder / "log.txt"
        command = _ours(self, pictures, output) if name == OURS else _loop(self, name, pictures)
        os.sync()
        started = time.time()
        try:
            whole = processes.measure(command, log=log)
            if name == OURS:
                written = json.loads((output / INFO_FILE).read_text())["written"]
                counted = pathlib.Path(PlanFiles(str(output)).counted).stat().st_mtime
                embedding = dataclasses.replace(whole, wall=counted - started)
            else:
                written, embedding = int(log.read_text().splitlines()[-1]), whole
        finally:
            shutil.rmtree(output, ignore_errors=True)
        if written != pictures:
            raise RunError(f"{name} embedded {written} of {pictures} pictures")
        print(
            f"  {name}: {pictures} pictures, {embedding.wall:.1f} s, CPU {whole.cpu:.1f} s,"
            f" {whole.peak_memory / 1e6:.0f} MB",
            flush=True,
        )
        return Measurement(embedding=embedding, whole=whole)


def _ours(bench: Bench, pictures: int, output: pathlib.Path) -> list[str]:
    return [
        *(sys.executable, "-m", "beam_pipelines.embed"),
        *("--dataset", str(bench.datasets[pictures])),
        *("--output", str(output)),
        *("--backbone", bench.backbone),
        *("--weights", "none"),
    ]


def _loop(bench: Bench, name: str, pictures: int) -> list[str]:
    return [
        *(sys.executable, "-m", "benchmarks.embed_loops", name),
        *("--dataset", str(bench.datasets[pictures])),
        *("--backbone", bench.backbone),
        *("--pictures", str(pictures)),
    ]


def run_round(bench: Bench, counts: tuple[int, int]) -> dict[str, Round]:
    """Runs all contestants in turn, on few and on many pictures; returns what each took by its name."""
    few, many = ({name: bench.run(name, count) for name in CONTESTANTS} for count in counts)
    return {
        name: Round(
            running=figures(few[name].embedding, many[name].embedding, counts=counts), whole=many[name].whole.wall
        )
        for name in CONTESTANTS
    }


def table(rounds: Sequence[Mapping[str, Round]]) -> str:
    """Returns a row a contestant with its medians."""
    rows = [("", "images/s", "CPU ms/image", "start-up s", "whole run s", "peak MB")]
    for name in CONTESTANTS:
        middle = medians([found[name].running for found in rounds])
        whole = statistics.median(found[name].whole for found in rounds)
        rows.append(
            (
                name,
                f"{middle.rate:.1f}",
                f"{middle.cpu * 1e3:.2f}",
                f"{middle.start_up:.1f}",
                f"{whole:.1f}",
                f"{middle.peak_memory / 1e6:.0f}",
            )
        )
    return aligned(rows)


def verdicts(rounds: Sequence[Mapping[str, Round]]) -> list[tuple[str, bool]]:
    """Returns lines that compare ours with the others, each with whether its goal is met."""
    lines = [
        verdict(
            f"ours / {name}, images/s",
            [found[OURS].running.rate / found[name].running.rate for found in rounds],
            goal=goal,
        )
        for name, goal in _GOALS.items()
    ]
    bounds = [found["bare"].running.rate / found["ready"].running.rate for found in rounds]
    shares = [found["decode"].running.cpu / found["bare"].running.cpu for found in rounds]
    lines.append(verdict("bare / ready, images/s", bounds, goal=None))
    lines.append(verdict("decode / bare, CPU time", shares, goal=None))
    return lines


def compare(backbone: str, *, pictures: int, rounds: int) -> bool:
    """Compares all contestants with one backbone and prints what came of it; returns whether all goals are met."""
    counts = (max(_LEAST_FEW, pictures // _FEWER), pictures)
    with _bench(backbone, counts) as bench:
        print("Rehearsal: once, so that files and programs are in memory", flush=True)
        bench.run(OURS, counts[0])
        found = []
        for number in range(rounds):
            print(f"Round {number + 1} of {rounds}, {backbone}", flush=True)
            found.append(run_round(bench, counts))
    print(f"\n{backbone}\n{table(found)}\n")
    told = verdicts(found)
    for line, _ in told:
        print(line)
    return all(met for _, met in told)


def compare_all(options: argparse.Namespace) -> bool:
    """Compares all contestants with each backbone in turn; returns whether all goals are met."""
    for backbone in options.backbones:
        check_backbone(backbone)
    met = [
        compare(
            backbone, pictures=options.pictures or _PICTURES.get(backbone, _DEFAULT_PICTURES), rounds=options.rounds
        )
        for backbone in options.backbones
    ]
    return all(met)


@contextlib.contextmanager
def _bench(backbone: str, counts: Sequence[int]) -> Iterator[Bench]:
    """Ingests data sets of so many pictures; gives them with a folder that is removed in the end."""
    root = pictures.drawn((SMALL,))
    with tempfile.TemporaryDirectory(prefix="benchmark-embed-") as name:
        folder = pathlib.Path(name)
        with nginx.serve(root) as base:
            datasets = {count: _ingested(folder, base, count) for count in counts}
        yield Bench(backbone=backbone, folder=folder, datasets=datasets)


def _ingested(folder: pathlib.Path, base: str, count: int) -> pathlib.Path:
    job = Job(
        manifest=folder / "pictures.csv", count=count, output=folder / f"pictures-{count}", image_size=_IMAGE_SIZE
    )
    print(f"Ingesting {count} pictures", flush=True)
    pictures.write_manifest(job.manifest, SMALL.addresses(base, count))
    ingest = contestants.ours(num_shards=-(-count // _PICTURES_A_SHARD))
    processes.measure(ingest.command(job), log=folder / "log.txt", environment=ingest.environment)
    contestants.check_output(ingest, job, SMALL)
    return job.output


def _many(text: str) -> int:
    value = int(text)
    if value < 2 * _LEAST_FEW:
        raise argparse.ArgumentTypeError(f"{value} is below {2 * _LEAST_FEW}")
    return value


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Parses the command line."""
    parser = make_parser("benchmarks.embed", __doc__)
    parser.add_argument("--backbones", nargs="+", metavar="NAME", default=list(_PICTURES), help="in turn (%(default)s)")
    parser.add_argument(
        "--pictures",
        type=_many,
        help=f"many; few are a quarter ({_DEFAULT_PICTURES}, {_PICTURES['mobilenet_v3_small']} for mobilenet_v3_small)",
    )
    parser.add_argument("--rounds", type=positive, default=3, help="how often everyone takes a turn (%(default)s)")
    return parser.parse_args(arguments)


def main() -> int:
    """Runs the command; returns its exit code."""
    end_when_told()
    options = parse()
    print(machine())
    return exit_code(lambda: compare_all(options))


if __name__ == "__main__":
    raise SystemExit(main())
