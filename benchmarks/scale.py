"""Measures how ingest scales on a Flink cluster, or says what a large collection takes, by a formula.

A cluster of two TaskManagers with one slot each is started, each pinned to a core of its own, so that they stand for
two machines of one core. Both fetch the same drawn 3000 x 2250 JPEGs from an nginx on this machine. Ingest, which finds
its plan made, runs on one of them (--parallelism 1) and on both, on few and on many pictures: the difference is the
running rate, what is left is start-up. Two TaskManagers must reach 1.7 times the running rate of one.

With --runner direct the local runner is measured instead, on one worker process and on two, with all cores free.

With --model nothing is run: hours, bytes shuffled, requests and money of the whole Met and of 400 million pictures are
printed for the rates and prices given.

Ends with 0 if the goal is met, 1 if it is missed or something fails, 2 if an option is wrong.
"""

import argparse
import contextlib
import dataclasses
import os
import pathlib
import statistics
import tempfile
from collections.abc import Iterator, Sequence

from beam_pipelines.errors import RunError
from benchmarks import contestants, nginx, pictures, processes
from benchmarks.command import end_when_told, exit_code, make_parser
from benchmarks.contestants import Contestant, Job
from benchmarks.pictures import LARGE
from deploy.flink.cluster import LocalCluster, Settings
from deploy.flink.installation import get_installation
from deploy.flink.processes import find

_GOAL = 1.7
_COUNTS = (200, 2000)
_NUM_SHARDS = 32
_IMAGE_SIZE = 299
_SETTINGS = Settings(port=28081, rpc_port=26123, slots=1)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Collection:
    """What is to be ingested: pictures, their mean size in megabytes, and requests a second that its hosts bear."""

    name: str
    pictures: float
    megabytes: float
    requests_per_second: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Prices:
    """What a runner takes, in dollars: for a core an hour, for a GB of memory an hour, for a GB shuffled."""

    name: str
    core_hour: float
    gigabyte_hour: float
    gigabyte_shuffled: float


# Whole numbers for people to replace. 57,600 requests an hour are 16 a second to the Met's own host.
COLLECTIONS = (
    Collection(name="the Met, its own host", pictures=485e3, megabytes=1.4, requests_per_second=16),
    Collection(name="the Met, from the mirror", pictures=485e3, megabytes=1.4, requests_per_second=float("inf")),
    Collection(name="400 million from the web", pictures=400e6, megabytes=0.2, requests_per_second=float("inf")),
)


def hours_of(collection: Collection, *, cores: int, rate: float) -> float:
    """Returns how long the pictures take: as long as the cores do, or as the hosts ask for.

    Args:
        collection: what is ingested.
        cores: of all workers together.
        rate: pictures a second that one core fetches, checks, shrinks and writes.
    """
    return max(collection.pictures / (cores * rate), collection.pictures / collection.requests_per_second) / 3600


def cost_of(
    collection: Collection, prices: Prices, *, cores: int, rate: float, memory_gb: float, shuffled_bytes: float
) -> float:
    """Returns dollars: hours x cores x (core price + memory a core x its price) + gigabytes shuffled x their price.

    Args:
        collection: what is ingested.
        prices: of the runner.
        cores: of all workers together.
        rate: pictures a second of a core.
        memory_gb: gigabytes of memory for each core.
        shuffled_bytes: of each picture.
    """
    hours = hours_of(collection, cores=cores, rate=rate)
    machines = hours * cores * (prices.core_hour + memory_gb * prices.gigabyte_hour)
    return machines + collection.pictures * shuffled_bytes / 1e9 * prices.gigabyte_shuffled


def model(options: argparse.Namespace) -> str:
    """Returns the table of what the collections take on Flink and on Dataflow."""
    runners = (
        Prices(name="Flink", core_hour=options.core_hour, gigabyte_hour=0.0, gigabyte_shuffled=0.0),
        Prices(
            name="Dataflow",
            core_hour=options.dataflow_core_hour,
            gigabyte_hour=options.dataflow_gigabyte_hour,
            gigabyte_shuffled=options.dataflow_gigabyte_shuffled,
        ),
    )
    rows = [("", "runner", "cores", "hours", "requests/s", "MB/s", "GB shuffled", "dollars")]
    for collection in COLLECTIONS:
        rate = options.large_rate if collection.megabytes > 1 else options.small_rate
        for prices in runners:
            hours = hours_of(collection, cores=options.cores, rate=rate)
            dollars = cost_of(
                collection,
                prices,
                cores=options.cores,
                rate=rate,
                memory_gb=options.memory_gb,
                shuffled_bytes=options.shuffled_bytes,
            )
            requests = collection.pictures / hours / 3600
            rows.append(
                (
                    collection.name,
                    prices.name,
                    f"{options.cores}",
                    f"{hours:.1f}",
                    f"{requests:,.0f}",
                    f"{requests * collection.megabytes:,.0f}",
                    f"{collection.pictures * options.shuffled_bytes / 1e9:.1f}",
                    f"{dollars:,.0f}",
                )
            )
    return _aligned(rows)


def _aligned(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join([row[0].ljust(widths[0]), row[1].ljust(widths[1]), *map(str.rjust, row[2:], widths[2:])])
        for row in rows
    )


def measure(options: argparse.Namespace) -> bool:
    """Runs ingest on one and on two workers in turn; prints the rates; returns whether the goal is met."""
    root = pictures.drawn((LARGE,))
    ratios = []
    with (
        nginx.serve(root) as base,
        tempfile.TemporaryDirectory(prefix="benchmark-scale-") as name,
        _contestants(options.runner, pathlib.Path(name) / "flink") as (one, two),
    ):
        print("Rehearsal: once, so that files and programs are in memory", flush=True)
        _seconds(two, pathlib.Path(name), base, _COUNTS[0])
        for number in range(options.rounds):
            print(f"Round {number + 1} of {options.rounds}", flush=True)
            rates = [_rate(contestant, pathlib.Path(name), base) for contestant in (one, two)]
            ratios.append(rates[1] / rates[0])
            print(f"  running rates: {rates[0]:.1f} and {rates[1]:.1f} pictures/s", flush=True)
    median = statistics.median(ratios)
    met = median >= _GOAL or options.runner == "direct"
    goal = "" if options.runner == "direct" else f", goal {_GOAL:g}: {'met' if met else 'missed'}"
    print(
        f"\n{two.name} / {one.name}, pictures/s once running: {median:.2f} "
        f"({min(ratios):.2f} to {max(ratios):.2f}{goal})"
    )
    return met


@contextlib.contextmanager
def _contestants(runner: str, directory: pathlib.Path) -> Iterator[tuple[Contestant, Contestant]]:
    """Gives ingest on one worker and on two."""
    if runner == "direct":
        yield (
            _ours("1 process", "--direct_num_workers", "1"),
            _ours("2 processes", "--direct_num_workers", "2"),
        )
        return
    with _pinned_cluster(directory) as cluster:
        flink = (
            *("--runner", "FlinkRunner", "--flink_master", cluster.settings().address, "--flink_version", "1.19"),
            *("--flink_job_server_jar", str(get_installation().job_server)),
        )
        yield (
            _ours("parallelism 1", *flink, "--parallelism", "1"),
            _ours("parallelism 2", *flink, "--parallelism", "2"),
        )


@contextlib.contextmanager
def _pinned_cluster(directory: pathlib.Path) -> Iterator[LocalCluster]:
    """Gives a cluster of two TaskManagers, each with the threads and children that it has on a core of its own."""
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        raise RunError("two TaskManagers need two cores to be compared with one")
    cluster = LocalCluster(directory)
    try:
        cluster.up(_SETTINGS, get_installation(), task_managers=2)
        for core, name in zip(cores, cluster.task_managers(), strict=False):
            for process in find(directory):
                if process.name == name:
                    _pin(process.pid, core)
        yield cluster
    finally:
        cluster.down()


def _pin(pid: int, core: int) -> None:
    for task in os.listdir(f"/proc/{pid}/task"):
        with contextlib.suppress(ProcessLookupError):
            os.sched_setaffinity(int(task), {core})


def _ours(name: str, *arguments: str) -> Contestant:
    ours = contestants.ours(num_shards=_NUM_SHARDS)
    return dataclasses.replace(ours, name=name, command=lambda job: [*ours.command(job), *arguments])


def _plan(job: Job, folder: pathlib.Path) -> None:
    command = contestants.ours(num_shards=_NUM_SHARDS).command(job)
    processes.measure([*command, "--plan_only"], log=folder / "log.txt", environment={})


def _rate(contestant: Contestant, folder: pathlib.Path, base: str) -> float:
    """Returns pictures a second once running: the slope between few and many of them."""
    few, many = (_seconds(contestant, folder, base, count) for count in _COUNTS)
    if many <= few:
        raise RunError(f"{_COUNTS[1]} pictures took no longer than {_COUNTS[0]}: measure on a machine at rest")
    return (_COUNTS[1] - _COUNTS[0]) / (many - few)


def _seconds(contestant: Contestant, folder: pathlib.Path, base: str, count: int) -> float:
    output = folder / f"{count}-{os.urandom(4).hex()}"
    job = Job(manifest=folder / "pictures.csv", count=count, output=output, image_size=_IMAGE_SIZE)
    pictures.write_manifest(job.manifest, LARGE.addresses(base, count))
    _plan(job, folder)
    usage = processes.measure(contestant.command(job), log=folder / "log.txt", environment=contestant.environment)
    contestants.check_output(contestant, job, LARGE)
    print(f"  {contestant.name}: {count} pictures, {usage.wall:.1f} s", flush=True)
    return usage.wall


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Parses the command line."""
    parser = make_parser("benchmarks.scale", __doc__)
    parser.add_argument("--rounds", type=int, default=1, help="how often both take a turn (%(default)s)")
    parser.add_argument("--runner", choices=("flink", "direct"), default="flink", help="(%(default)s)")
    parser.add_argument("--model", action="store_true", help="print what large collections take instead")
    for name, value, what in (
        ("cores", 64, "of all workers together"),
        ("large_rate", 45.0, "pictures of 1.4 MB that a core does in a second"),
        ("small_rate", 230.0, "pictures of web size that a core does in a second"),
        ("shuffled_bytes", 900.0, "that a picture's metadata takes through all shuffles"),
        ("memory_gb", 3.75, "of memory for each core"),
        ("core_hour", 0.05, "dollars for a core with its memory an hour, on machines of your own or rented"),
        ("dataflow_core_hour", 0.056, "dollars for a core an hour on Dataflow"),
        ("dataflow_gigabyte_hour", 0.003557, "dollars for a GB of memory an hour on Dataflow"),
        ("dataflow_gigabyte_shuffled", 0.011, "dollars for a GB shuffled on Dataflow"),
    ):
        parser.add_argument(f"--{name}", type=type(value), default=value, help=f"{what} (%(default)s)")
    return parser.parse_args(arguments)


def main() -> int:
    """Runs the command; returns its exit code."""
    end_when_told()
    options = parse()
    if options.model:
        print(model(options))
        return 0
    return exit_code(lambda: measure(options))


if __name__ == "__main__":
    raise SystemExit(main())
