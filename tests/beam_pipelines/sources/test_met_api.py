import json
import logging
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import apache_beam as beam
import pytest

from beam_pipelines.artwork import Artwork
from beam_pipelines.errors import OptionError, RunError
from beam_pipelines.fetch.fetcher import FetchLimits
from beam_pipelines.rejects import Dropped, Reason, RejectedError
from beam_pipelines.rows import DroppedRow, drop
from beam_pipelines.runners import LocalRunner, run_pipeline
from beam_pipelines.sources import ReadOptions, SourceOptions
from beam_pipelines.sources.met_api import AskApi, CollectionApi, Patience, check_api, to_pictures
from beam_pipelines.sources.met_objects import MetObject
from tests.beam_pipelines.builders import FakeTime, outcome, run_rows
from tests.met_api_server import BLOCK, PAGE, MetApiServer, Reply, met_object

RATE_LIMITED = Reply(status=429, body=b"", content_type="text/plain")
BROKEN = Reply(status=500, body=b"{}")


def limits(**changes: Any) -> FetchLimits:
    chosen: dict[str, Any] = {
        "max_retries": 0,
        "backoff": 0.0,
        "allow_private_addresses": True,
        "requests_per_second": (),
    }
    return FetchLimits(**(chosen | changes))


class Client:
    """An API's client that never really waits; its answers are kept in a folder."""

    def __init__(self, server: MetApiServer, folder: Path, *, patience: Patience | None = None, **fetch: Any) -> None:
        self.time = FakeTime()
        self.api = CollectionApi(
            server.address,
            fetch=limits(**fetch),
            answers=str(folder / "answers"),
            patience=patience or Patience(),
            clock=self.time.clock,
            sleep=self.time.sleep,
        )

    def ask(self, object_id: int) -> MetObject | None:
        return self.api.ask(str(object_id))

    def failure(self, object_id: int) -> str:
        with pytest.raises(RejectedError) as caught:
            self.ask(object_id)
        assert caught.value.reason is Reason.API_FAILED
        return caught.value.detail

    def end(self, object_id: int) -> str:
        with pytest.raises(RunError) as caught:
            self.ask(object_id)
        return str(caught.value)


@pytest.fixture
def server() -> Iterator[MetApiServer]:
    with MetApiServer({number: met_object(number) for number in range(1, 201)}) as running:
        yield running


def waits(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if "blocks us" in record.getMessage()]


def test_an_object_is_asked_for_as_json_and_once_for_all_runs(server: MetApiServer, tmp_path: Path) -> None:
    for _ in range(2):
        client = Client(server, tmp_path)
        assert [client.ask(7), client.ask(8), client.ask(7)] == [met_object(7), met_object(8), met_object(7)]
    assert server.asked == ["7", "8"]
    assert server.accepted == {"application/json"}


def test_an_object_that_is_not_there_is_asked_for_once(server: MetApiServer, tmp_path: Path) -> None:
    server.objects[9] = {"objectID": 0}
    for _ in range(2):
        client = Client(server, tmp_path)
        assert [client.ask(404_404), client.ask(9)] == [None, None]
    assert server.asked == ["404404", "9"]


def test_other_apis_have_other_answers(server: MetApiServer, tmp_path: Path) -> None:
    with MetApiServer({7: met_object(7, title="Another")}) as other:
        found = [Client(museum, tmp_path).ask(7) for museum in (server, other)]
    assert [value and value["title"] for value in found] == ["Under the Wave off Kanagawa", "Another"]


def test_the_api_is_asked_no_faster_than_its_rate(server: MetApiServer, tmp_path: Path) -> None:
    client = Client(server, tmp_path, requests_per_second=(("127.0.0.1", 4.0),))
    for number in range(1, 10):
        client.ask(number)
    assert client.time.now == 102.0
    client.ask(1)
    assert client.time.now == 102.0


@pytest.mark.parametrize("block", [BLOCK, PAGE, RATE_LIMITED, Reply(body=b"")], ids=["403", "page", "429", "nothing"])
def test_a_block_is_waited_out(
    block: Reply, server: MetApiServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    client = Client(server, tmp_path)
    server.first = [block, block]
    assert client.ask(1) == met_object(1)
    assert client.time.now == 100.0 + 60 + 120
    assert waits(caplog) == [f"the collection API blocks us: waiting {seconds} s" for seconds in (60, 120)]
    server.first = [block]
    assert client.ask(2) == met_object(2)
    assert client.time.now == 280.0 + 60
    assert server.asked == ["1", "1", "1", "2", "2"]


def test_pauses_grow_to_ten_minutes_and_an_end(server: MetApiServer, tmp_path: Path) -> None:
    patience = Patience(blocks=7)
    client = Client(server, tmp_path, patience=patience)
    client.ask(1)
    server.first = [BLOCK] * 7
    assert client.end(2) == (
        "the collection API at 127.0.0.1 does not answer us (it blocks us): wait a while and give the same command "
        "again to go on; 1 answers are kept"
    )
    assert client.time.now == 100.0 + 60 + 120 + 240 + 480 + 600 + 600
    assert len(server.asked) == 8
    assert "it blocks us" in client.end(3)
    assert len(server.asked) == 8


def test_what_was_sent_before_a_block_is_no_block_of_its_own(
    server: MetApiServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    api = CollectionApi(
        server.address,
        fetch=limits(),
        answers=str(tmp_path),
        patience=Patience(blocks=6),
        clock=lambda: 100.0,
        sleep=lambda seconds: None,
    )
    server.first = [BLOCK] * 4
    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(api.ask, map(str, range(1, 9))))
    assert found == [met_object(number) for number in range(1, 9)]
    assert waits(caplog) == ["the collection API blocks us: waiting 60 s"]


def test_an_object_that_is_blocked_while_others_are_answered_is_given_up(server: MetApiServer, tmp_path: Path) -> None:
    client = Client(server, tmp_path, patience=Patience(blocks=3))
    server.instead[5] = BLOCK
    real_sleep = client.time.sleep

    def answered_meanwhile(seconds: float) -> None:
        real_sleep(seconds)
        client.api._sleep = real_sleep
        client.ask(len(server.asked) + 10)
        client.api._sleep = answered_meanwhile

    client.api._sleep = answered_meanwhile
    assert client.failure(5) == "blocked, though others are answered"
    assert server.asked.count("5") == 3
    assert client.ask(1) == met_object(1)


@pytest.mark.parametrize(
    ("reply", "detail"),
    [
        (BROKEN, "server_error: status 500 after 3 tries"),
        (Reply(body=b'{"objectID": 5'), "the answer is broken JSON"),
        (Reply(body=b"[]"), "the answer is no JSON object"),
        (Reply(body=b" " * (5 << 20)), "too_large: more than 4194304 bytes"),
        (Reply(status=302, headers=(("Location", "file:///etc/passwd"),)), "refused_address: redirected to something"),
    ],
    ids=["500", "cut short", "list", "endless", "elsewhere"],
)
def test_one_object_that_fails_is_asked_for_again_by_the_next_run(
    reply: Reply, detail: str, server: MetApiServer, tmp_path: Path
) -> None:
    server.instead[5] = reply
    client = Client(server, tmp_path, max_retries=2)
    assert client.failure(5).startswith(detail)
    assert client.ask(6) == met_object(6)
    del server.instead[5]
    assert Client(server, tmp_path).ask(5) == met_object(5)


def test_many_failures_on_end_are_the_end(server: MetApiServer, tmp_path: Path) -> None:
    server.instead = dict.fromkeys(range(1, 100), BROKEN)
    client = Client(server, tmp_path, patience=Patience(failures=3))
    for number in (1, 2):
        client.failure(number)
    client.ask(150)
    for number in (3, 4):
        client.failure(number)
    assert "does not answer us (server_error: status 500)" in client.end(5)


def test_a_notice_to_search_engines_is_none_to_those_who_ask(server: MetApiServer, tmp_path: Path) -> None:
    body = json.dumps(met_object(5)).encode()
    server.instead[5] = Reply(body=body, headers=(("X-Robots-Tag", "noindex"),))
    assert Client(server, tmp_path).ask(5) == met_object(5)


def test_whoever_waits_is_told_of_the_end(server: MetApiServer, tmp_path: Path) -> None:
    server.first = [BLOCK]
    api = CollectionApi(server.address, fetch=limits(), answers=str(tmp_path), patience=Patience(pause=100.0))
    waiting = threading.Event()
    sleep = api._sleep

    def observed(seconds: float) -> None:
        waiting.set()
        sleep(seconds)

    api._sleep = observed
    with ThreadPoolExecutor(1) as threads:
        asked = threads.submit(api.ask, "1")
        assert waiting.wait(60)
        api.close()
        assert isinstance(asked.exception(60), RunError)


def options(server: MetApiServer, folder: Path, **changes: Any) -> SourceOptions:
    reading = ReadOptions(fetch=limits(), answers=str(folder / "answers"))
    return SourceOptions(**{"input": "", "api_address": server.address, "reading": reading, **changes})


def as_it_is(row: Artwork, _: MetObject) -> Artwork:
    return row


def refuses_sevens(row: Artwork, _: MetObject) -> Artwork | DroppedRow:
    if "7" in row.key:
        return drop(Dropped(key=row.key, uri="", reason=Reason.NOT_MATCHING, detail="sevens"))
    return row


def rows(*numbers: int) -> list[Artwork]:
    return [Artwork(key=str(number), group=str(number), image_uri="", labels=("Japan",)) for number in numbers]


def pictures_of(found: Any, **changes: Any) -> tuple[list[str], list[tuple[str, Reason]]]:
    chosen = SourceOptions(input="", **changes)
    kept, dropped = outcome(
        list(to_pictures(rows(17)[0], found, address="u://17", options=chosen, describe=refuses_sevens))
    )
    assert all((row.group, row.labels) == ("17", ("Japan",)) for row in kept)
    return [row.key for row in kept], [(row.key, row.reason) for row in dropped]


def test_why_an_object_has_no_pictures() -> None:
    described = {"include_restricted": True}
    assert pictures_of(None, **described) == ([], [("17", Reason.NO_OBJECT)])
    assert pictures_of(met_object(17, isPublicDomain=False)) == ([], [("17", Reason.NOT_PUBLIC_DOMAIN)])
    assert pictures_of(met_object(17, isPublicDomain=False), **described) == ([], [("17", Reason.NOT_MATCHING)])


def test_objects_become_rows_of_their_pictures(server: MetApiServer, tmp_path: Path) -> None:
    server.objects[3] = met_object(3, primaryImage="", primaryImageSmall="")
    server.objects[4] = met_object(4, isPublicDomain=False)
    server.instead[5] = BROKEN
    asked = [*range(1, 151), 404, 404, 8, 8, 8]
    kept, dropped = run_rows(
        AskApi(options(server, tmp_path, api_images="all"), describe=refuses_sevens), tmp_path, rows=rows(*asked)
    )
    without = {3, 4, 5, *(number for number in range(1, 151) if "7" in str(number))}
    good = {number for number in range(1, 151) if number not in without}
    assert {(row.key, row.group, row.image_uri) for row in kept if row.group == "8"} == {
        ("8/0", "8", "https://images.metmuseum.example/CRDImages/as/original/DP 8.jpg"),
        ("8/1", "8", "https://images.metmuseum.example/CRDImages/as/original/8b.jpg"),
        ("8/2", "8", "https://images.metmuseum.example/CRDImages/as/original/8c.jpg"),
    }
    assert {row.key for row in kept} == {
        *(f"{number}/{n}" for number in good for n in range(3)),
        *(f"3/{n}" for n in range(2)),
    }
    assert len(kept) == 3 * (len(good) + 3) + 2
    reasons = {row.key: (row.reason.value, row.detail) for row in dropped}
    assert {reasons[key] for key in ("4", "5", "404", "7", "147")} == {
        ("not_public_domain", ""),
        ("api_failed", "server_error: status 500"),
        ("no_object", ""),
        ("not_matching", "sevens"),
    }
    assert len(dropped) == len(without) - 1 + 2
    assert server.take_asked() == sorted(map(str, {*range(1, 151), 404}))


def test_a_run_that_was_stopped_asks_only_for_what_is_missing(
    server: MetApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("beam_pipelines.sources.met_api._THREADS", 1)
    source = AskApi(options(server, tmp_path), describe=as_it_is, patience=Patience(pause=0.0, blocks=2))
    server.instead[101] = BLOCK
    with pytest.raises(Exception, match="100 answers are kept"):
        run_rows(source, tmp_path / "first", rows=rows(*range(1, 201)))
    assert len(server.take_asked()) == 102
    server.instead.clear()
    kept, dropped = run_rows(source, tmp_path / "second", rows=rows(*range(1, 201)))
    assert (len(kept), dropped) == (200, [])
    assert server.take_asked() == sorted(map(str, range(101, 201)))


def test_the_end_reaches_the_user_as_one_line(server: MetApiServer, tmp_path: Path) -> None:
    server.instead = dict.fromkeys(range(1, 201), BLOCK)
    pipeline = beam.Pipeline(runner=LocalRunner())
    asks = AskApi(options(server, tmp_path), describe=as_it_is, patience=Patience(pause=0.0, blocks=3))
    _ = pipeline | beam.Create(rows(*range(1, 201))) | asks
    with pytest.raises(RunError) as caught:
        run_pipeline(pipeline)
    assert str(caught.value) == (
        "the collection API at 127.0.0.1 does not answer us (it blocks us): wait a while and give the same command "
        "again to go on; 0 answers are kept"
    )


def test_progress_is_told_now_and_then(
    server: MetApiServer, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.INFO, logger="beam_pipelines")
    monkeypatch.setattr("beam_pipelines.sources.met_api._LOG_SECONDS", 0.0)
    client = Client(server, tmp_path)
    for number in (1, 2, 2):
        client.ask(number)
    assert caplog.messages[-1].startswith("3 objects asked, 1 from earlier answers, ")
    assert caplog.messages[-1].endswith("/s")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"images_input": "images.csv"}, "--images_input 'images.csv' gives addresses of pictures"),
        ({"api_address": "http://m/objects/"}, "--api_address 'http://m/objects/' lacks the text {object_id}"),
        ({"api_address": "objects/{object_id}"}, "give http:// or https://"),
        ({"api_address": "gs://m/{object_id}"}, "give http:// or https://"),
        ({"api_address": "http:///{object_id}"}, "no host in the address"),
        ({"api_address": "http://me:pass@m/{object_id}"}, "user name or password"),
        ({"reading": ReadOptions()}, "name a directory with --cache_dir"),
    ],
)
def test_what_is_wrong_with_the_options_is_said_before_any_work(
    changes: dict[str, Any], message: str, server: MetApiServer, tmp_path: Path
) -> None:
    with pytest.raises(OptionError) as caught:
        check_api(options(server, tmp_path, **changes))
    assert message in str(caught.value)
    check_api(options(server, tmp_path))
