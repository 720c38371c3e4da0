import subprocess
import sys
from pathlib import Path

import pytest

from beam_pipelines.errors import OptionError
from tests.trainer.comparison.written_runs import write_run
from trainer.compare import parse_arguments

_WITHOUT_TENSORFLOW = """
import runpy, sys
sys.modules["tensorflow"] = sys.modules["keras"] = sys.modules["apache_beam"] = None
runpy.run_module("trainer.compare", run_name="__main__")
"""


def compare(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Runs the command, where TensorFlow, Keras and Beam cannot be imported."""
    command = [sys.executable, "-c", _WITHOUT_TENSORFLOW, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_labels_are_names_and_texts() -> None:
    options = parse_arguments(["a", "b", "--labels", "a=x = y", "--labels", "b= the other "])
    assert options.runs == ("a", "b")
    assert dict(options.labels) == {"a": "x = y", "b": "the other"}


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([], "the following arguments are required: RUN: see --help"),
        (["a", "--labels", "b"], "--labels b is not NAME=TEXT"),
        (["a", "--labels", "b="], "--labels b= is not NAME=TEXT"),
        (["a", "--output", "page"], r"--output page is to be a page: give a name that ends in .html"),
        (["a", "--ouput", "page.html"], "unknown option '--ouput': did you mean --output?"),
    ],
)
def test_wrong_options(arguments: list[str], told: str) -> None:
    with pytest.raises(OptionError) as error:
        parse_arguments(arguments)
    assert told in str(error.value)


def test_a_directory_is_no_page(tmp_path: Path) -> None:
    (tmp_path / "page.html").mkdir()
    with pytest.raises(OptionError, match=r"page\.html is a directory: give the name of a file"):
        parse_arguments(["a", "--output", str(tmp_path / "page.html")])


@pytest.mark.slow
def test_the_command(tmp_path: Path) -> None:
    write_run(tmp_path / "runs" / "a")
    write_run(tmp_path / "runs" / "b", dropout=0.25)
    output = tmp_path / "pages" / "page.html"
    ran = compare(tmp_path / "runs", "--labels", "b=less dropout", "--output", output)
    assert (ran.returncode, ran.stderr) == (0, "")
    header, *lines = ran.stdout.splitlines()
    assert header.startswith("run           accuracy")
    assert lines[1].startswith("less dropout    0.7500")
    assert lines[-1] == f"{output} shows the curves"
    assert '<bdi class="name">less dropout</bdi>' in output.read_text(encoding="utf-8")

    ran = compare(tmp_path / "none")
    assert (ran.returncode, ran.stdout) == (2, "")
    assert ran.stderr.startswith(f"error: {tmp_path}/none is no run, it has no file config.json")
