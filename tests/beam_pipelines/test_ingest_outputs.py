"""What ingest leaves besides shards: a check alone, pictures as files, a cache, the report."""

import re
import urllib.parse
from collections.abc import Iterator
from pathlib import Path

import pytest

from beam_pipelines.dataset import Feature
from beam_pipelines.verify import verify
from tests.beam_pipelines.ingest_command import (
    QUICK,
    content,
    information,
    read_examples,
    rejected_reasons,
    run_ingest,
    write_manifest,
)
from tests.hostile_server import CASES, HostileServer

pytestmark = pytest.mark.slow

_GOOD = 40


@pytest.fixture(scope="module")
def server() -> Iterator[HostileServer]:
    with HostileServer() as server:
        yield server


def arguments(server: HostileServer, folder: Path) -> list[object]:
    """Returns options for good pictures of two classes, two equal ones on both sides of the split, and three bad."""
    rows = [
        (server.url(f"/picture/{number}.jpg?width=400&height=300"), f"class {number % 2}") for number in range(_GOOD)
    ]
    # Equal bytes under forty more addresses, so that some stand on each side of the split.
    rows += [(server.url(f"/picture/7.jpg?width=400&height=300&again={number}"), "class 1") for number in range(40)]
    rows += [(server.url(CASES[name].path), "class 0") for name in ("not_found", "html_as_png", "truncated_jpeg")]
    return [
        "--source", "manifest", "--input", write_manifest(folder / "list.csv", rows),
        "--allow_private_addresses", "--max_retries", 0, "--num_shards", 4, *QUICK,
    ]  # fmt: skip


def test_a_check_alone_and_then_the_data_set_from_the_cache(server: HostileServer, tmp_path: Path) -> None:
    cached = [*arguments(server, tmp_path), "--cache_dir", tmp_path / "cache"]
    checked, plain = tmp_path / "checked", tmp_path / "plain"
    code, output = run_ingest(*cached, "--output", checked, "--check_only")
    assert code == 0, output
    assert "is checked" in output
    assert not list(checked.glob("*.tfrecord"))
    assert not (checked / "COMPLETED").exists()
    told = information(checked, "check_info.json")
    assert "checked" in (checked / "report.html").read_text()

    visits = sum(server.visits.values())
    images = tmp_path / "images"
    code, output = run_ingest(*cached, "--output", checked, "--write_images", images)
    assert code == 0, output
    assert sum(server.visits.values()) - visits == len(rejected_reasons(checked)) == 3
    assert list(verify(str(checked))) == []
    info = information(checked)
    same = ("read", "written", "filtered", "rejected", "labels", "empty_labels")
    assert {name: told[name] for name in same} == {name: info[name] for name in same}
    assert info["filtered"]["duplicate_content"] > 0
    assert not (checked / "check_info.json").exists()

    code, output = run_ingest(*arguments(server, tmp_path), "--output", plain)
    assert code == 0, output
    without_checks = {name: data for name, data in content(checked).items() if "/check" not in name}
    assert without_checks == content(plain)

    found = {
        (urllib.parse.unquote(path.parent.name), urllib.parse.unquote(path.stem)): path.read_bytes()
        for path in images.rglob("*.jpg")
    }
    assert found == {
        (example[Feature.TEXT][0].decode(), example[Feature.KEY][0].decode()): example[Feature.ENCODED][0]
        for example in read_examples(plain)
    }

    code, output = run_ingest(*arguments(server, tmp_path), "--output", plain, "--write_images", tmp_path / "later")
    assert code == 0, output
    later = {path.relative_to(tmp_path / "later"): path.read_bytes() for path in (tmp_path / "later").rglob("*.jpg")}
    assert later == {path.relative_to(images): path.read_bytes() for path in images.rglob("*.jpg")}
    assert without_checks == content(plain)


def test_the_cache_stays_within_its_bound(server: HostileServer, tmp_path: Path) -> None:
    cached = [*arguments(server, tmp_path), "--cache_dir", tmp_path / "cache", "--cache_bytes", 200_000]
    code, output = run_ingest(*cached, "--output", tmp_path / "data")
    assert code == 0, output
    sizes = [path.stat().st_size for path in (tmp_path / "cache").rglob("*") if path.is_file()]
    assert 0 < sum(sizes) <= 200_000


def test_the_report_shows_pictures_and_reasons(server: HostileServer, tmp_path: Path) -> None:
    code, output = run_ingest(*arguments(server, tmp_path), "--output", tmp_path / "data")
    assert code == 0, output
    page = (tmp_path / "data" / "report.html").read_text()
    assert len(re.findall(r"data:image/jpeg;base64,", page)) == 2 * 12
    for text in ("duplicate_content", "not_found", "html_page", server.url(CASES["not_found"].path), "400"):
        assert text in page
