"""Walks the whole way through the project on a collection that it draws: `python -m demo`."""

import argparse
import dataclasses
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType

from beam_pipelines.errors import OptionError, RunError, UserError
from demo import draw
from demo.serve import serve

MARK = ".drawn-by-the-demo"
PAGES = {
    "cultures.png": "how many pictures there are of each culture",
    "dataset/report.html": "the data set",
    "embeddings/report.html": "the vectors",
    "run/evaluation/evaluation.html": "how good the small network is",
    "head-run/evaluation/evaluation.html": "how good the head is",
    "comparison.html": "the two side by side",
    "model/1/model_card.html": "the exported model",
    "similar.html": "works that are like a new one",
}
UNSEEN_WORKS = 80


@dataclasses.dataclass(frozen=True)
class Step:
    """One command of the walk.

    Attributes:
        purpose: what it shows, in a line.
        command: the words a user types; the first is `python`.
    """

    purpose: str
    command: tuple[str, ...]


def walk(output: Path, *, unseen: Path) -> list[Step]:
    """Returns the commands that are run, in order.

    Args:
        output: what was drawn.
        unseen: a picture of a work that is not in the catalogue, in a folder of the folder of all such works.
    """
    dataset = str(output / "dataset")
    catalogue = (
        *("--source", "open_access_csv"),
        *("--input", str(output / "MetObjects.csv")),
    )
    images = ("--images_input", str(output / "images.csv"))
    labels = ("python", "-m", "beam_pipelines.labels", *catalogue)
    ingest = (
        *("python", "-m", "beam_pipelines.ingest"),
        *catalogue,
        *images,
        *("--attribute", "culture"),
        *("--min_images_per_label", "10"),
        *("--image_size", "160"),
        *("--num_shards", "8"),
        "--allow_private_addresses",
        *("--output", dataset),
    )
    embeddings = str(output / "embeddings")
    embed = (
        *("python", "-m", "beam_pipelines.embed"),
        *("--dataset", dataset),
        *("--backbone", "mobilenet_v3_small"),
        *("--weights", "none"),
        *("--output", embeddings),
    )
    train = ("python", "-m", "trainer.task")
    run, head_run = str(output / "run"), str(output / "head-run")
    small_cnn = (*train, "--dataset", dataset, "--model", "small_cnn", "--output", run)
    head = (*train, "--dataset", embeddings, "--model", "head", "--output", head_run)
    evaluate = ("python", "-m", "trainer.evaluate", "--run")
    compare = ("python", "-m", "trainer.compare", run, head_run, "--output", str(output / "comparison.html"))
    export = ("python", "-m", "trainer.export", "--run")
    model, head_model = str(output / "model" / "1"), str(output / "head-model" / "1")
    predict = (
        *("python", "-m", "beam_pipelines.batch_predict"),
        *("--model", model),
        *("--source", "directory"),
        *("--input", str(unseen.parent.parent)),
        *("--output", str(output / "predictions")),
    )
    similar = (
        *("python", "-m", "serving.similar"),
        *("--embeddings", embeddings),
        *("--model", head_model),
        *("--output", str(output / "similar.html")),
        str(unseen),
    )
    return [
        Step("See what the catalogue offers as labels", (*labels, "--list_attributes")),
        Step(
            "Count the pictures of each culture",
            (*labels, *images, "--attribute", "culture", "--output", str(output / "cultures.csv")),
        ),
        Step("Fetch the pictures, check them and write the data set", ingest),
        Step("Ask for the same again: nothing is left to do", ingest),
        Step("Check the data set from what lies on the disk", ("python", "-m", "beam_pipelines.verify", dataset)),
        Step("Train a small network on the pictures", small_cnn),
        Step("Turn the pictures into the vectors of a backbone, here of random weights to need no download", embed),
        Step("Train a new head on the vectors", head),
        Step("Say how good the small network is, and what it takes for what", (*evaluate, run)),
        Step("Say the same of the head", (*evaluate, head_run)),
        Step("Hold the two side by side", compare),
        Step(
            "Make the small network one SavedModel, from the bytes of a picture to its label",
            (*export, run, "--output", model),
        ),
        Step("Make the head one, with its backbone", (*export, head_run, "--output", head_model)),
        Step(
            "Ask for the culture of a work that nobody has seen",
            ("python", "-m", "serving.classify", "--model", model, str(unseen)),
        ),
        Step("Ask for works of the collection that are like it", similar),
        Step("Predict the cultures of many such works, of which two are no pictures", predict),
    ]


def run_steps(steps: Sequence[Step]) -> None:
    """Runs each command, after showing it, with its output on the screen.

    Raises:
        RunError: a command failed; those after it are not run.
    """
    for number, step in enumerate(steps, start=1):
        print(f"\n{number}. {step.purpose}\n$ {shlex.join(step.command)}", flush=True)
        done = subprocess.run([sys.executable, *step.command[1:]], check=False)  # noqa: S603 - our own words
        if done.returncode:
            raise RunError(f"step {number} ended with exit code {done.returncode}: {shlex.join(step.command)}")


def clean_directory(output: Path) -> None:
    """Makes `output` an empty directory, with the mark of the demo.

    Raises:
        OptionError: it is something else than a directory of the demo, which stays as it is.
    """
    mark = output / MARK
    if output.exists() and not (output.is_dir() and (mark.is_file() or not any(output.iterdir()))):
        raise OptionError(f"--output {output} is not a directory that the demo made: name another, or remove it")
    output.mkdir(parents=True, exist_ok=True)
    mark.touch()
    for path in output.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif path != mark:
            path.unlink()


def run(*, output: Path, works: int, seed: int) -> None:
    """Draws the collection into `output`, serves it, runs the commands and shows what they left.

    Raises:
        UserError: a step failed, or `output` cannot be used.
    """
    clean_directory(output)
    pictures = output / "pictures"
    pictures.mkdir()
    collection = draw.plan_collection(works=works, seed=seed)
    print(f"Drawing {works} works into {output}, seed {seed}", flush=True)
    draw.write_pictures(collection, pictures)
    draw.write_catalogue(collection, output / "MetObjects.csv")
    others = draw.plan_collection(works=draw.MIN_WORKS, seed=seed + 1)
    unseen, *_ = draw.write_unseen(others, output / "unseen", works=UNSEEN_WORKS)
    with serve(pictures) as address:
        draw.write_image_list(collection, output / "images.csv", address=address)
        print(f"Serving {len(collection.listings)} addresses at {address}, some of them bad on purpose")
        run_steps(walk(output, unseen=unseen))
    print(f"\n{output / 'dataset'} holds")
    print("\n".join(describe_files(output / "dataset")))
    print("\nLook at")
    width = max(len(str(output / page)) for page in PAGES)
    print("\n".join(f"  {output / page!s:{width}}  {what}" for page, what in PAGES.items()))
    print(f"and, while `make tensorboard RUN={output}` runs, at http://localhost:6006")


def describe_files(directory: Path) -> Iterator[str]:
    """Yields a line with size in bytes and name for each file in `directory`, hidden ones aside."""
    for path in sorted(directory.rglob("*")):
        name = path.relative_to(directory)
        if path.is_file() and not any(part.startswith(".") for part in name.parts):
            yield f"{path.stat().st_size:>12,}  {name}"


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Returns the options of the command line."""
    parser = argparse.ArgumentParser(prog="python -m demo", description=__doc__)
    parser.add_argument("--output", type=Path, default=Path("demo-output"), help="directory to draw into, made anew")
    parser.add_argument("--works", type=int, default=300, help=f"how many works to draw, at least {draw.MIN_WORKS}")
    parser.add_argument("--seed", type=int, default=1, help="the same seed draws the same works")
    options = parser.parse_args(arguments)
    if options.works < draw.MIN_WORKS:
        parser.error(f"--works {options.works} is too few for five cultures: give {draw.MIN_WORKS} or more")
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the demo; returns the exit code."""
    options = parse_arguments(arguments)
    signal.signal(signal.SIGTERM, _end)
    try:
        run(output=options.output, works=options.works, seed=options.seed)
    except UserError as error:
        print(f"demo: {error}", file=sys.stderr)
        return 2 if isinstance(error, OptionError) else 1
    except KeyboardInterrupt:
        print("demo: interrupted", file=sys.stderr)
        return 130
    return 0


def _end(number: int, frame: FrameType | None) -> None:
    """Leaves by way of an exception, so that the server and the running command are ended."""
    raise SystemExit(128 + number)


if __name__ == "__main__":
    sys.exit(main())
