"""The labels command as a user runs it."""

import collections
import csv
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from tests.beam_pipelines.ingest_command import QUICK, content, information, run_ingest
from tests.hostile_server import CASES, HostileServer

pytestmark = pytest.mark.slow

# As `python -m beam_pipelines.labels`, and says which heavy modules it came to need.
_PROGRAM = """
import sys
from beam_pipelines.labels import main
code = main(sys.argv[1:])
print("loaded:", *sorted({"apache_beam", "matplotlib", "tensorflow"} & set(sys.modules)))
sys.exit(code)
"""
_HEADER = "Object ID,Is Public Domain,Title,Culture,Tags"
_CULTURES = ("Japan", "France|Italy", "Italy| France|Italy", "China", "Iran", "", " Iran ")


def run_labels(*arguments: object) -> tuple[int, str]:
    """Runs the command to its end; returns its exit code and what it printed."""
    command = [sys.executable, "-c", _PROGRAM, *map(str, arguments)]
    ended = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=240)
    return ended.returncode, ended.stdout


@pytest.fixture(scope="module")
def server() -> Iterator[HostileServer]:
    with HostileServer() as server:
        yield server


def test_counts_of_a_catalogue_are_those_of_a_plain_loop(tmp_path: Path) -> None:
    draw = random.Random(1)
    works = [(number, draw.random() < 0.7, draw.choice(_CULTURES)) for number in range(900)]
    catalogue, images = tmp_path / "MetObjects.csv", tmp_path / "images.csv"
    lines = (f'{number},{free},"A\nvase","{culture}",' for number, free, culture in works)
    catalogue.write_text("\ufeff" + "\r\n".join([_HEADER, *lines, "1,True,short", ""]), newline="")
    images.write_text("object_id,image_uri\n" + "".join(f"{number},http://a/{number % 500}\n" for number, *_ in works))
    expected: dict[str, set[int]] = collections.defaultdict(set)
    for number, free, culture in works:
        if free:
            for value in filter(None, map(str.strip, culture.split("|"))):
                expected[value].add(number % 500)
    output = tmp_path / "counts.csv"
    code, printed = run_labels(
        "--source", "open_access_csv", "--input", catalogue, "--attribute", "culture", "--split_values", "|",
        "--images_input", images, "--output", output,
    )  # fmt: skip
    assert code == 0, printed
    with output.open(newline="") as file:
        rows = list(csv.reader(file))
    counts = sorted(
        ((value, str(len(found))) for value, found in expected.items()), key=lambda row: (-int(row[1]), row)
    )
    assert rows == [["value", "count"], *map(list, counts)]
    with Image.open(tmp_path / "counts.png") as chart:
        assert chart.format == "PNG"
    assert "loaded: apache_beam matplotlib\n" in printed


def test_what_is_wrong_is_told_in_one_line(tmp_path: Path) -> None:
    pictures, output = tmp_path / "list.csv", tmp_path / "counts.csv"
    pictures.write_text("uri,year,label\na.jpg,1894,x\n")
    code, printed = run_labels("--source", "manifest", "--input", pictures, "--output", output, "--attribute", "nay")
    error = f"error: unknown attribute 'nay' in {pictures}: choose one of year, label\n"
    assert (code, printed) == (2, f"{error}loaded: apache_beam\n")
    code, printed = run_labels("--source", "manifest", "--input", pictures)
    assert code == 2
    assert printed.startswith("error: nothing to do")
    assert printed.endswith("loaded:\n")
    assert os.listdir(tmp_path) == ["list.csv"]


def test_the_list_of_works_makes_the_same_data_set(server: HostileServer, tmp_path: Path) -> None:
    pictures, works = tmp_path / "list.csv", tmp_path / "works.csv"
    uris = [server.url(f"/picture/{seed}.jpg?width=90&height=70&works") for seed in range(40)]
    uris += [server.url(CASES["space"].path), server.url(CASES["not_found"].path)]
    lines = ["key,group,split,title,uri,label"]
    for number, uri in enumerate([*uris, *uris[:5]]):
        split = "validation" if number % 9 == 0 else ""
        lines.append(f'k{number},g{number // 3},{split},"=a ""title"", {number}",{uri},{"xyz"[number % 3]},often')
    pictures.write_text("\n".join(lines) + "\n")
    code, printed = run_labels("--source", "manifest", "--input", pictures, "--works_output", works)
    assert code == 0, printed
    assert "--split_values '|'" in printed
    ingested = [
        "--source", "manifest", "--multi_label", "--min_images_per_label", 2, "--allow_private_addresses",
        "--image_size", 64, "--num_shards", 4, *QUICK,
    ]  # fmt: skip
    one, two = tmp_path / "one", tmp_path / "two"
    for arguments in (
        ["--input", pictures, "--output", one],
        ["--input", works, "--split_values", "|", "--output", two],
    ):
        code, printed = run_ingest(*ingested, *arguments)
        assert code == 0, printed
    same = [name for name in content(one) if name == "labels.txt" or name.endswith(".tfrecord")]
    assert len(same) == 5
    assert {name: content(one)[name] for name in same} == {name: content(two)[name] for name in same}
    assert information(one)["written"] == information(two)["written"] == 41
