"""Compares the trainer with Keras' own `fit`, with itself without input, and on two workers, and prints tables.

Everything is drawn: pictures of 320 pixels on the shorter side, and 50,000 embeddings of width 2,048, in ten TFRecords
each. Contestants are processes of their own that take turns, over several rounds. The pace is that between a step after
the first ones, for which TensorFlow compiles, and the last one; checkpoints and start-up lie outside. Ratios are taken
within a round; the tables have medians.

  fit      examples/s of `python -m trainer.task` against `model.fit` with the same model, batch, order of magnitude of
           shuffling and way to make pixels, on one device; `fit` as Keras has it by itself, and with as many steps a
           call (`steps_per_execution`) as ours. Ours must be no slower.
  input    how much of a step is lost to input: our loop with its input against our loop on one batch that is repeated.
           At most 5 % may be, besides what decoding takes of the cores where these are the cores that train too.
  workers  two workers of one core each, on loopback, against one worker of the two cores, with the same batch. They
           must come to 85 %.
  head     a head on all embeddings: examples/s, whole epochs a minute with their evaluation and checkpoint, memory.

Ends with 0 if all goals are met, 1 if one is missed or something fails, 2 if an option is wrong.
"""

import argparse
import concurrent.futures
import dataclasses
import json
import os
import pathlib
import shutil
import socket
import statistics
import sys
import tempfile
from collections.abc import Mapping, Sequence

from beam_pipelines.errors import RunError
from benchmarks import processes, train_data
from benchmarks.command import end_when_told, exit_code, machine, make_parser, positive
from benchmarks.figures import aligned, verdict
from benchmarks.processes import Usage
from benchmarks.train_marks import Pace, marks_of_run, pace, read_marks
from trainer.options import HEAD, SMALL_CNN, model_defaults

OURS, FIT, FIT_AS_OURS, REPEATED, INPUT = "ours", "fit", "fit as ours", "repeated", "input"
TABLES = ("fit", "input", "workers", "head")

_FIT_GOAL = 1.0
_INPUT_GOAL = 0.95
_WORKERS_GOAL = 0.85

# Those for which TensorFlow compiles, and in which tf.data finds out how many threads it needs: one line of metrics.
_FIRST_STEPS = 20
_WORKERS_STEPS = 200
_WORKERS_BATCH_SIZE = 64
_EMBEDDINGS = 50_000
_VALIDATION_EMBEDDINGS = 5_000
_EPOCHS = 5


@dataclasses.dataclass(frozen=True, kw_only=True)
class Task:
    """A model to train, in how many steps; the first ones are not counted among them."""

    model: str
    arguments: tuple[str, ...]
    steps: int

    @property
    def examples(self) -> int:
        """All that are taken: within one epoch, if there are as many."""
        return (_FIRST_STEPS + self.steps) * model_defaults(self.model).batch_size


TASKS = {
    task.model: task
    for task in (
        Task(model=SMALL_CNN, arguments=("--augmentation", "none"), steps=200),
        Task(
            model="mobilenet_v3_small",
            arguments=("--weights", "none", "--unfreeze_at", "never", "--augmentation", "none"),
            steps=100,
        ),
        Task(model=HEAD, arguments=(), steps=360),
    )
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Bench:
    """A folder to write to, and the trainer's options that name the pictures and the embeddings in it."""

    folder: pathlib.Path
    pictures: Sequence[str]
    embeddings: Sequence[str]

    def run(self, name: str, task: Task) -> Pace:
        """Runs a contestant of `fit` or `input`; raises RunError if it fails."""
        output, marks, log = (self.folder / name for name in ("run", "marks.json", "log.txt"))
        arguments = self.arguments(task, output, steps=_FIRST_STEPS + task.steps)
        os.sync()
        try:
            processes.measure(_command(name, arguments, marks), log=log, environment={"TF_CONFIG": ""})
            found = marks_of_run(output) if name == OURS else read_marks(marks)
        finally:
            shutil.rmtree(output, ignore_errors=True)
        paced = pace(found, after=_FIRST_STEPS, batch_size=model_defaults(task.model).batch_size)
        _say(task.model, name, f"{paced.rate:.1f} examples/s")
        return paced

    def arguments(self, task: Task, output: pathlib.Path, *, steps: int) -> list[str]:
        """Returns the trainer's command line."""
        data = self.embeddings if task.model == HEAD else self.pictures
        return ["--model", task.model, *task.arguments, *data, "--output", str(output), "--steps", str(steps)]


def _command(name: str, arguments: Sequence[str], marks: pathlib.Path) -> list[str]:
    if name == OURS:
        return [*_trainer(), *arguments]
    of_keras = ("--steps_per_execution", "1") if name == FIT else ()
    loop = "fit" if name == FIT_AS_OURS else name
    return [sys.executable, "-m", "benchmarks.train_loops", loop, "--marks", str(marks), *arguments, *of_keras]


def _trainer() -> list[str]:
    return [sys.executable, "-m", "trainer.task"]


def _say(*words: str) -> None:
    print(f"  {', '.join(words)}", flush=True)


def contestants_of(tables: Sequence[str], task: Task) -> list[str]:
    """Returns who takes turns; `fit as ours` is `fit` where the trainer comes back to Python after every step."""
    of_fit = [FIT, *([FIT_AS_OURS] if model_defaults(task.model).steps_per_execution > 1 else [])]
    return [OURS, *(of_fit if "fit" in tables else []), *([REPEATED, INPUT] if "input" in tables else [])]


Round = Mapping[str, Pace]


def rate_table(rounds: Mapping[str, Sequence[Round]]) -> str:
    """Returns a row a model with the medians of all contestants' examples a second."""
    names = [
        name for name in (OURS, FIT, FIT_AS_OURS, REPEATED, INPUT) if any(name in found[0] for found in rounds.values())
    ]
    rows = [("examples/s", *names)]
    for model, found in rounds.items():
        cells = (
            f"{statistics.median(paces[name].rate for paces in found):.1f}" if name in found[0] else ""
            for name in names
        )
        rows.append((model, *cells))
    return aligned(rows)


def fit_verdicts(model: str, rounds: Sequence[Round]) -> list[tuple[str, bool]]:
    """Returns lines that compare ours with `fit`."""
    return [
        verdict(
            f"{model}: ours / {name}, examples/s",
            [found[OURS].rate / found[name].rate for found in rounds],
            goal=_FIT_GOAL,
        )
        for name in (FIT, FIT_AS_OURS)
        if name in rounds[0]
    ]


def input_verdicts(model: str, rounds: Sequence[Round]) -> list[tuple[str, bool]]:
    """Returns lines on what input costs: of the time, of the CPU time, and of the time besides the latter.

    The goal is met if the input costs no more than it may, or no more besides what it takes of the cores.
    """
    kept = [found[OURS].rate / found[REPEATED].rate for found in rounds]
    shares = [found[INPUT].cpu / (found[INPUT].cpu + found[REPEATED].cpu) for found in rounds]
    besides = [rate / (1 - share) for rate, share in zip(kept, shares, strict=True)]
    whole, met = verdict(f"{model}: ours / repeated, examples/s", kept, goal=_INPUT_GOAL)
    share, _ = verdict(f"{model}: share of the input in the CPU time of both", shares, goal=None)
    rest, met_besides = verdict(f"{model}: ours / what that share leaves of repeated", besides, goal=_INPUT_GOAL)
    return [(whole, met or met_besides), (share, True), (rest, met or met_besides)]


def compare_loops(bench: Bench, tasks: Sequence[Task], tables: Sequence[str], *, rounds: int) -> bool:
    """Prints the tables of `fit` and `input`; returns whether all goals are met."""
    found: dict[str, list[Round]] = {task.model: [] for task in tasks}
    for number in range(rounds):
        print(f"Round {number + 1} of {rounds}", flush=True)
        for task in tasks:
            names = contestants_of(tables, task)
            turn = number % len(names)
            paces = {name: bench.run(name, task) for name in (*names[turn:], *names[:turn])}
            found[task.model].append(paces)
    print(f"\n{rate_table(found)}\n")
    told: list[tuple[str, bool]] = []
    for model, of_model in found.items():
        told += fit_verdicts(model, of_model) if "fit" in tables else []
        told += input_verdicts(model, of_model) if "input" in tables else []
    return _print_verdicts(told)


def compare_workers(bench: Bench, *, steps: int, rounds: int) -> bool:
    """Prints the ratio of two workers of one core to one of two; returns whether it is up to the goal.

    Raises:
        RunError: there is one core alone.
    """
    available = sorted(os.sched_getaffinity(0))[:2]
    if len(available) < 2:
        raise RunError("two workers need two cores to be compared with one")
    task = dataclasses.replace(TASKS[SMALL_CNN], steps=steps)
    ratios = []
    rows = [("examples/s", "one worker of two cores", "two of one core")]
    for number in range(rounds):
        one = _group_rate(bench, task, [available])
        two = _group_rate(bench, task, [[core] for core in available])
        _say(task.model, f"one worker {one:.1f}", f"two workers {two:.1f} examples/s")
        rows.append((f"round {number + 1}", f"{one:.1f}", f"{two:.1f}"))
        ratios.append(two / one)
    print(f"\n{aligned(rows)}\n")
    return _print_verdicts([verdict(f"{task.model}: two workers / one, examples/s", ratios, goal=_WORKERS_GOAL)])


def _group_rate(bench: Bench, task: Task, hands: Sequence[Sequence[int]]) -> float:
    """Returns the examples a second of a worker for each of the hands of cores, all in one run."""
    output = bench.folder / "run"
    arguments = bench.arguments(task, output, steps=_FIRST_STEPS + task.steps)
    command = [*_trainer(), *arguments, "--batch_size", str(_WORKERS_BATCH_SIZE), "--device", "cpu"]
    addresses = [f"127.0.0.1:{port}" for port in _free_ports(len(hands))]

    def work(rank: int) -> None:
        config = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": rank}}
        processes.measure(
            ["taskset", "--cpu-list", ",".join(map(str, hands[rank])), *command],
            log=bench.folder / f"worker-{rank}.txt",
            environment={"TF_CONFIG": json.dumps(config) if len(hands) > 1 else ""},
        )

    os.sync()
    try:
        with concurrent.futures.ThreadPoolExecutor(len(hands)) as pool:
            list(pool.map(work, range(len(hands))))
        return pace(marks_of_run(output), after=_FIRST_STEPS, batch_size=_WORKERS_BATCH_SIZE).rate
    finally:
        shutil.rmtree(output, ignore_errors=True)


def _free_ports(count: int) -> list[int]:
    listeners = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [listener.getsockname()[1] for listener in listeners]
    for listener in listeners:
        listener.close()
    return ports


def train_head(bench: Bench, *, epochs: int) -> None:
    """Prints how a head is trained on all embeddings."""
    output = bench.folder / "run"
    arguments = ["--model", HEAD, *bench.embeddings, "--output", str(output), "--epochs", str(epochs)]
    usage = processes.measure([*_trainer(), *arguments], log=bench.folder / "log.txt", environment={"TF_CONFIG": ""})
    print(f"\n{head_table(output, usage)}")
    shutil.rmtree(output)


def head_table(run: pathlib.Path, usage: Usage) -> str:
    """Returns the figures of a head's run: within epochs, and of whole epochs after the first one."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    walls = {mark.step: mark.wall for mark in marks_of_run(run)}
    ends = [walls[line["step"]] for line in lines if "val_accuracy" in line]
    if len(ends) < 2:
        raise RunError("the head was validated only once: give more epochs")
    rate = statistics.median(line["examples_per_second"] for line in lines[1:])
    rows = [
        ("", "examples/s", "epochs/min", "whole run s", "CPU s", "peak MB"),
        (
            HEAD,
            f"{rate:.0f}",
            f"{60 * (len(ends) - 1) / (ends[-1] - ends[0]):.1f}",
            f"{usage.wall:.1f}",
            f"{usage.cpu:.1f}",
            f"{usage.peak_memory / 1e6:.0f}",
        ),
    ]
    return aligned(rows)


def _print_verdicts(told: Sequence[tuple[str, bool]]) -> bool:
    for line, _ in told:
        print(line, flush=True)
    return all(met for _, met in told)


def run(options: argparse.Namespace) -> bool:
    """Draws what is needed and prints the tables asked for; returns whether all goals are met."""
    tasks = [
        dataclasses.replace(TASKS[model], steps=options.steps or TASKS[model].steps)
        for model in dict.fromkeys(options.models)
    ]
    worker_steps = options.steps or _WORKERS_STEPS
    with tempfile.TemporaryDirectory(prefix="benchmark-train-") as name:
        bench = _bench(pathlib.Path(name), tasks, options, worker_steps=worker_steps)
        met = True
        if {"fit", "input"} & set(options.only):
            met &= compare_loops(bench, tasks, options.only, rounds=options.rounds)
        if "workers" in options.only:
            met &= compare_workers(bench, steps=worker_steps, rounds=options.rounds)
        if "head" in options.only:
            train_head(bench, epochs=_EPOCHS)
    return met


def _bench(folder: pathlib.Path, tasks: Sequence[Task], options: argparse.Namespace, *, worker_steps: int) -> Bench:
    """Writes as many examples as the tables take within one epoch."""
    loops = tasks if {"fit", "input"} & set(options.only) else []
    pictures = [task.examples for task in loops if task.model != HEAD]
    pictures += [(_FIRST_STEPS + worker_steps) * _WORKERS_BATCH_SIZE] if "workers" in options.only else []
    embeddings = [task.examples for task in loops if task.model == HEAD]
    embeddings += [_EMBEDDINGS] if "head" in options.only else []
    print(f"Drawing {max(pictures, default=0):,} pictures and {max(embeddings, default=0):,} embeddings", flush=True)
    return Bench(
        folder=folder,
        pictures=train_data.write_pictures(folder / "pictures", train=max(pictures)) if pictures else [],
        embeddings=train_data.write_embeddings(
            folder / "embeddings",
            train=max(embeddings),
            validation=_VALIDATION_EMBEDDINGS if "head" in options.only else 0,
        )
        if embeddings
        else [],
    )


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Parses the command line."""
    parser = make_parser("benchmarks.train", __doc__)
    parser.add_argument("--only", nargs="+", choices=TABLES, default=list(TABLES), help="tables (all)")
    parser.add_argument("--models", nargs="+", choices=list(TASKS), default=list(TASKS), help="of fit and input (all)")
    parser.add_argument("--rounds", type=positive, default=3, help="how often everyone takes a turn (%(default)s)")
    parser.add_argument("--steps", type=positive, help="that are counted; as many as take about twenty seconds")
    return parser.parse_args(arguments)


def main() -> int:
    """Runs the command; returns its exit code."""
    end_when_told()
    options = parse()
    print(machine())
    return exit_code(lambda: run(options))


if __name__ == "__main__":
    raise SystemExit(main())
