"""What goes wrong before or while ingest works is told in one line, with an exit code."""

import resource
from pathlib import Path

import pytest

from beam_pipelines.locks import only_run_in
from tests.beam_pipelines.ingest_command import run_ingest, write_manifest
from tests.hostile_server import jpeg

pytestmark = pytest.mark.slow


def folder_of_pictures(folder: Path, *, count: int = 12, side: int = 64) -> Path:
    for label in ("cat", "dog"):
        (folder / label).mkdir(parents=True)
        for number in range(count):
            (folder / label / f"{number}.jpg").write_bytes(jpeg(number, width=side, height=side))
    return folder


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--source", "nowhere"],
            "unknown source 'nowhere': choose one of bigquery, directory, idx, jsonl, manifest, object_list, "
            "open_access_csv, tfrecord",
        ),
        (["--attribute", "culture"], "unknown attribute 'culture'"),
        (["--input", "missing-folder"], "cannot read missing-folder: there is no such directory"),
        (["--runner", "NoSuchRunner"], "unknown --runner 'NoSuchRunner'"),
        (["--imgae_size", "3"], "unknown option '--imgae_size'"),
        (["--image_size", "0"], "--image_size 0 is not positive"),
        (["--min_images_per_label", "50"], "no label has 50 pictures; the commonest, 'cat', has 12"),
    ],
)
def test_one_clear_line(tmp_path: Path, arguments: list[str], message: str) -> None:
    pictures, output = folder_of_pictures(tmp_path / "pictures"), tmp_path / "out"
    code, printed = run_ingest("--source", "directory", "--input", pictures, "--output", output, *arguments)
    last = printed.splitlines()[-1]
    assert code == (1 if "no label has" in message else 2)
    assert last.startswith(f"error: {message}")
    assert "Traceback" not in printed
    assert not list(output.glob("*.tfrecord"))


def test_empty_input(tmp_path: Path) -> None:
    empty = write_manifest(tmp_path / "list.csv", [])
    code, printed = run_ingest("--source", "manifest", "--input", empty, "--output", tmp_path / "out")
    assert code == 1
    assert printed.splitlines()[-1].startswith("error: no picture has a label")


def test_directory_with_other_things_is_left_alone(tmp_path: Path) -> None:
    output = tmp_path / "home"
    output.mkdir()
    (output / "thesis.txt").write_text("precious")
    pictures = folder_of_pictures(tmp_path / "pictures")
    code, printed = run_ingest("--source", "directory", "--input", pictures, "--output", output)
    assert code == 2
    assert "is not empty and no data set of this program: it has 'thesis.txt'" in printed
    assert [path.name for path in output.iterdir()] == ["thesis.txt"]


def test_two_runs_in_one_directory_are_refused(tmp_path: Path) -> None:
    pictures, output = folder_of_pictures(tmp_path / "pictures"), tmp_path / "out"
    with only_run_in(str(output)):
        code, printed = run_ingest("--source", "directory", "--input", pictures, "--output", output)
    assert code == 2
    assert printed == f"error: another run is at work in {output}: wait for it, or stop it first\n"
    assert not output.exists()


def test_no_space_stops_the_run_and_the_next_goes_on(tmp_path: Path) -> None:
    """A limit on file size stands in for a full disk: both reach the writer as an OSError from `write`."""
    pictures, output = folder_of_pictures(tmp_path / "pictures", side=256), tmp_path / "out"
    arguments = ["--source", "directory", "--input", pictures, "--output", output, "--num_shards", 2]

    def at_most_100_kilobytes() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))

    assert run_ingest(*arguments, "--plan_only")[0] == 0
    code, printed = run_ingest(*arguments, preexec=at_most_100_kilobytes)
    assert code == 1
    assert printed.splitlines()[-1].startswith("error: File too large: ")
    assert "Traceback" not in printed
    assert not list(output.glob("train-*"))
    code, printed = run_ingest(*arguments)
    assert code == 0, printed


def test_wrong_options_need_no_beam(tmp_path: Path) -> None:
    code, printed = run_ingest("--source", "directory")
    assert code == 2
    assert "--input, --output" in printed
