"""The ingest command on a museum that misbehaves in every way it knows."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from beam_pipelines.dataset import Feature
from beam_pipelines.rejects import Reason
from beam_pipelines.verify import verify
from tests.beam_pipelines.ingest_command import (
    QUICK,
    content,
    information,
    keys_of,
    read_examples,
    rejected_reasons,
    run_ingest,
    write_manifest,
)
from tests.hostile_server import CASES, HostileServer

pytestmark = pytest.mark.slow

_GOOD = 40
_MAX_BYTES = 4 << 20


class Hostile:
    """A data set made from every case of the hostile server and some good pictures."""

    def __init__(self, server: HostileServer, folder: Path) -> None:
        self.server = server
        self.output = folder / "dataset"
        self.expected = {
            server.url(case.path): case.outcome for case in CASES.values() if not case.needs_private_refused
        }
        good = [server.url(f"/picture/{seed}.jpg?width=90&height=70") for seed in range(_GOOD)]
        rows = [(uri, "good" if number % 2 else "fine") for number, uri in enumerate([*self.expected, *good])]
        self.rows = len(rows)
        self.arguments = [
            "--source", "manifest", "--input", write_manifest(folder / "list.csv", rows),
            "--output", self.output, "--allow_private_addresses", "--max_reject_fraction", "1", "--image_size", "64",
            "--max_image_bytes", _MAX_BYTES, "--max_retries", "2", *QUICK,
        ]  # fmt: skip


@pytest.fixture(scope="module")
def server() -> Iterator[HostileServer]:
    with HostileServer() as server:
        yield server


@pytest.fixture(scope="module")
def hostile(server: HostileServer, tmp_path_factory: pytest.TempPathFactory) -> Hostile:
    hostile = Hostile(server, tmp_path_factory.mktemp("hostile"))
    code, output = run_ingest(*hostile.arguments)
    assert code == 0, output
    return hostile


def test_every_case_ends_in_its_outcome(hostile: Hostile) -> None:
    rejected, written = rejected_reasons(hostile.output), keys_of(hostile.output)
    ended = {uri: "written" if uri in written else rejected.get(uri, "missing") for uri in hostile.expected}
    double = {uri for uri in hostile.expected if ended[uri] == "missing"}
    assert {hostile.expected[uri] for uri in double} <= {"written"}
    assert {uri: ended[uri] for uri in hostile.expected if uri not in double} == {
        uri: str(outcome) for uri, outcome in hostile.expected.items() if uri not in double
    }
    assert len(hostile.expected) >= 30


def test_every_row_has_one_outcome(hostile: Hostile) -> None:
    info = information(hostile.output)
    assert info["read"] == hostile.rows
    assert info["read"] == info["written"] + sum(info["filtered"].values()) + sum(info["rejected"].values())
    assert info["written"] == len(read_examples(hostile.output))
    assert sum(info["rejected"].values()) == len((hostile.output / "rejected.jsonl").read_text().splitlines())


def test_equal_pictures_are_not_on_both_sides(hostile: Hostile) -> None:
    sides = [
        {example[Feature.SHA256][0] for example in read_examples(hostile.output, split)}
        for split in ("train", "validation")
    ]
    assert all(sides)
    assert not sides[0] & sides[1]
    assert information(hostile.output)["filtered"]["duplicate_content"] > 0


def test_rejected_lines_are_sorted_and_name_the_stage(hostile: Hostile) -> None:
    lines = (hostile.output / "rejected.jsonl").read_text().splitlines()
    assert lines == sorted(lines)
    for line in map(json.loads, lines):
        assert line["stage"] == Reason(line["reason"]).stage
        assert list(line) == ["key", "uri", "stage", "reason", "detail"]


def test_the_data_set_verifies(hostile: Hostile) -> None:
    assert list(verify(str(hostile.output))) == []


def test_agent_is_honest(hostile: Hostile) -> None:
    assert all("museum-image-classifier" in agent for agent in hostile.server.user_agents)


def test_second_run_has_nothing_to_do(hostile: Hostile) -> None:
    before, visits = content(hostile.output), sum(hostile.server.visits.values())
    code, output = run_ingest(*hostile.arguments)
    assert (code, content(hostile.output)) == (0, before)
    assert "nothing to do" in output
    assert sum(hostile.server.visits.values()) == visits


def test_other_options_are_refused(hostile: Hostile) -> None:
    before = content(hostile.output)
    code, output = run_ingest(*hostile.arguments, "--image_size", 65)
    assert code == 2
    assert "holds another data set" in output
    assert content(hostile.output) == before


def test_what_failed_in_passing_is_tried_again(server: HostileServer, tmp_path: Path) -> None:
    uris = [server.url(f"/picture/{seed}.jpg?width=90&height=70&retry") for seed in range(30)]
    passing = [server.url(f"{CASES['server_error_then_good'].path}?{number}") for number in range(5)]
    missing = [server.url(f"{CASES['not_found'].path}?retry")]
    rows = [(uri, "one") for uri in [*uris, *passing, *missing]]
    first = [
        "--source", "manifest", "--input", write_manifest(tmp_path / "list.csv", rows),
        "--validation_fraction", 0, "--num_shards", 3, "--allow_private_addresses", "--max_retries", 0, *QUICK,
    ]  # fmt: skip
    tried, undisturbed = tmp_path / "tried", tmp_path / "undisturbed"
    assert run_ingest(*first, "--output", tried)[0] == 0
    assert information(tried)["rejected"] == {"not_found": 1, "server_error": 5}
    visits = dict(server.visits)
    code, output = run_ingest(*first, "--output", tried, "--retry_rejected")
    assert code == 0, output
    assert information(tried)["rejected"] == {"not_found": 1}
    new = {path: count - visits.get(path, 0) for path, count in server.visits.items() if count != visits.get(path, 0)}
    assert sum(new.values()) == len(passing)
    assert run_ingest(*first, "--output", undisturbed)[0] == 0
    assert content(tried) == content(undisturbed)
    assert "nothing was rejected for a passing reason" in run_ingest(*first, "--output", tried, "--retry_rejected")[1]


def test_any_parallelism_gives_the_same_bytes(server: HostileServer, tmp_path: Path) -> None:
    rows = [(server.url(f"/picture/{seed}.jpg?width=90&height=70&same"), f"label {seed % 3}") for seed in range(220)]
    arguments = [
        "--source", "manifest", "--input", write_manifest(tmp_path / "list.csv", rows), "--allow_private_addresses",
        "--num_shards", 5, "--max_images_per_label", 60, "--max_images", 170,
    ]  # fmt: skip
    one, two = tmp_path / "one", tmp_path / "two"
    for output, threads, workers in ((one, 1, 1), (two, 16, 2)):
        code, printed = run_ingest(
            *arguments, "--output", output, "--fetch_threads", threads, "--direct_num_workers", workers
        )
        assert code == 0, printed
    assert content(one) == content(two)
    assert information(one)["written"] == 170
    assert information(one)["filtered"] == {"over_max_images": 10, "over_max_images_per_label": 40}


def test_plan_only_fetches_nothing(server: HostileServer, tmp_path: Path) -> None:
    rows = [(server.url(f"/picture/{seed}.jpg?plan"), "one") for seed in range(20)]
    visits = sum(server.visits.values())
    code, output = run_ingest(
        "--source", "manifest", "--input", write_manifest(tmp_path / "list.csv", rows), "--output", tmp_path / "out",
        "--plan_only", "--max_requests_per_second", "127.0.0.1=0.01",
    )  # fmt: skip
    assert code == 0, output
    assert "20 rows read, 20 pictures planned" in output
    assert "127.0.0.1: 20 pictures, at most 0.01/s" in output
    assert sum(server.visits.values()) == visits
    assert not (tmp_path / "out" / "COMPLETED").exists()


def test_private_addresses_are_refused_and_too_many_rejects_fail(server: HostileServer, tmp_path: Path) -> None:
    rows = [(server.url(f"/picture/{seed}.jpg?private"), "one") for seed in range(20)]
    visits = sum(server.visits.values())
    code, output = run_ingest(
        "--source", "manifest", "--input", write_manifest(tmp_path / "list.csv", rows), "--output", tmp_path / "out"
    )
    assert code == 1
    assert "no picture could be used (refused_address 20)" in output.splitlines()[-1]
    assert sum(server.visits.values()) == visits
    assert not (tmp_path / "out" / "COMPLETED").exists()
