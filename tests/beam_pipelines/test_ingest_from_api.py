"""Ingest with addresses from the collection API, as a user runs it; also killed while it asks."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from beam_pipelines.cache import ANSWERS, FileCache
from beam_pipelines.dataset import Feature
from tests.beam_pipelines.ingest_command import (
    content,
    information,
    keys_of,
    read_examples,
    rejected_reasons,
    run_ingest,
    start_ingest,
)
from tests.hostile_server import HostileServer
from tests.met_api_server import MetApiServer, Reply, met_object

pytestmark = pytest.mark.slow

_OBJECTS = 48
_POLL_SECONDS = 0.005
# Of the objects: broken, without a picture, no longer free, gone.
_BROKEN, _BARE, _RESTRICTED, _GONE = 45, 46, 47, 48


def tell(museum: HostileServer, number: int) -> dict[str, Any]:
    """Returns what the API tells of an object whose pictures are on the misbehaving museum."""
    return met_object(
        number,
        primaryImage=museum.url(f"/picture/{number}.jpg?width=90&height=120"),
        primaryImageSmall="",
        additionalImages=[museum.url(f"/picture/{1000 + number}.jpg?width=90&height=120")],
        culture="Japan" if number % 2 else "China",
    )


@pytest.fixture
def museum() -> Iterator[HostileServer]:
    with HostileServer() as server:
        yield server


@pytest.fixture
def api(museum: HostileServer) -> Iterator[MetApiServer]:
    objects = {number: tell(museum, number) for number in range(1, _GONE)}
    objects[_BARE].update(primaryImage="", additionalImages=[])
    objects[_RESTRICTED].update(isPublicDomain=False)
    with MetApiServer(objects) as server:
        server.instead[_BROKEN] = Reply(body=b'{"objectID": ')
        yield server


def arguments(api: MetApiServer, *more: object) -> list[object]:
    return [
        "--api_address", api.address, "--allow_private_addresses", "--attribute", "culture", "--num_shards", 4,
        "--direct_num_workers", 1, *more,
    ]  # fmt: skip


def kill_when(output: Path, is_time: Callable[[], bool], *options: object) -> None:
    """Starts the command and kills it as soon as `is_time`; fails if it ends before."""
    process = start_ingest(*options, "--output", output)
    pause = threading.Event()
    while not is_time():
        assert process.poll() is None, f"it ended before it was killed: {process.communicate()[0]}"
        pause.wait(_POLL_SECONDS)
    process.kill()
    process.communicate()


def test_a_catalogue_whose_ingest_is_killed_while_it_asks(api: MetApiServer, tmp_path: Path) -> None:
    catalogue = tmp_path / "MetObjects.csv"
    lines = [f"{number},True,{'Japan' if number % 3 else 'Iran'}" for number in range(1, _OBJECTS + 1)]
    catalogue.write_text("\n".join(["Object ID,Is Public Domain,Culture", *lines, "99,False,Iran"]))
    given = arguments(api, "--source", "open_access_csv", "--input", catalogue, "--images_from", "api")
    undisturbed, output = tmp_path / "undisturbed", tmp_path / "output"
    code, printed = run_ingest(*given, "--output", undisturbed)
    assert code == 0, printed
    every = sorted(map(str, range(1, _OBJECTS + 1)))
    assert api.take_asked() == every
    assert keys_of(undisturbed) == {f"{number}/0" for number in range(1, _BROKEN)}
    assert {example[Feature.TEXT][0] for example in read_examples(undisturbed)} == {b"Iran", b"Japan"}
    assert rejected_reasons(undisturbed) == {str(_BROKEN): "api_failed"}
    assert information(undisturbed)["filtered"] == {"no_image": 1, "no_object": 1, "not_public_domain": 2}

    kept = FileCache(str(output / ".plan" / ANSWERS))

    def ids_kept() -> list[str]:
        return [number for number in every if kept.read(api.address.replace("{object_id}", number)) is not None]

    api.answers_left = 20
    kill_when(output, lambda: len(ids_kept()) >= 18, *given)
    before = ids_kept()
    assert 18 <= len(before) <= 20
    api.answers_left = None
    api.take_asked()
    code, printed = run_ingest(*given, "--output", output)
    assert code == 0, printed
    assert api.take_asked() == sorted(set(every) - set(before))
    assert content(output) == content(undisturbed)


def test_a_list_of_objects_with_all_their_pictures(api: MetApiServer, tmp_path: Path) -> None:
    page = "https://www.metmuseum.org/art/collection/search"
    listed = tmp_path / "objects.txt"
    listed.write_text("\n".join([*(f"{page}/{number}" for number in range(1, 25)), *map(str, range(24, 49)), "?"]))
    given = arguments(api, "--source", "object_list", "--input", listed, "--api_images", "all")
    first, second = tmp_path / "first", tmp_path / "second"
    for output in (first, second):
        code, printed = run_ingest(*given, "--cache_dir", tmp_path / "cache", "--output", output)
        assert code == 0, printed
    assert api.take_asked() == sorted([*map(str, range(1, _OBJECTS + 1)), str(_BROKEN)])
    assert keys_of(first) == {f"{number}/{n}" for number in range(1, _BROKEN) for n in range(2)}
    example = next(found for found in read_examples(first) if found[Feature.KEY] == [b"7/1"])
    assert example[Feature.TEXT] == [b"Japan"]
    assert rejected_reasons(first) == {str(_BROKEN): "api_failed", "objects.txt:50": "bad_row"}
    counted = {"duplicate_uri": 2, "no_image": 1, "no_object": 1, "not_public_domain": 1}
    assert information(first)["filtered"] == counted
    assert content(first) == content(second)
