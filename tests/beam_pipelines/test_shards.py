import contextlib
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from beam_pipelines import files
from beam_pipelines.dataset import Feature, Shard
from beam_pipelines.images import Picture
from beam_pipelines.plan_files import Account, PlanFiles, WrittenPicture, read_account
from beam_pipelines.rejects import Reason, RejectedError
from beam_pipelines.shards import ShardWriter, read_content
from beam_pipelines.tfrecords import decode_example, read_records
from tests.beam_pipelines.builders import Museum, artwork, content, fake_shrink, killed_at, planned, uri, write_rows

SHARD = Shard("train", 0, 1)
# Keys as folders may have them: line ends, file names that are no UTF-8, other scripts, what CSV and JSON treat apart.
ODD_KEYS = ["new\nline", os.fsdecode(b"\xff\xfe.jpg"), "雪舟/1", 'quote"comma,', "", " ", "\u2028", "a" * 300]


@contextlib.contextmanager
def writing(plan: PlanFiles, museum: Museum, *, threads: int = 2) -> Iterator[ShardWriter]:
    writer = ShardWriter(plan, fetch=museum.fetch, shrink=fake_shrink, threads=threads)
    try:
        yield writer
    finally:
        writer.close()


def ensure(plan: PlanFiles, museum: Museum, *, threads: int = 2, retry_rejected: bool = False) -> Account:
    with writing(plan, museum, threads=threads) as writer:
        return writer.ensure(SHARD, retry_rejected=retry_rejected)


def drop_duplicates(plan: PlanFiles, keys: set[str]) -> Account:
    with writing(plan, Museum({})) as writer:
        return writer.drop_duplicates(SHARD, keys)


def keys_in(plan: PlanFiles) -> list[str]:
    with files.open_to_read(plan.shard(SHARD)) as file:
        examples = [decode_example(record) for record in read_records(file)]
    return [example[Feature.KEY][0].decode("utf-8", "surrogatepass") for example in examples]


def state(plan: PlanFiles) -> tuple[bytes, bytes]:
    return files.read_bytes(plan.shard(SHARD)), files.read_bytes(plan.account(SHARD))


@pytest.fixture
def plan(tmp_path: Path) -> PlanFiles:
    return PlanFiles(str(tmp_path / "data"))


@pytest.fixture
def museum(plan: PlanFiles) -> Museum:
    """Six pictures, of which `b` is not there and `d` fails for a passing reason; planned in one shard."""
    write_rows(plan, SHARD, planned(*(artwork(key, uri=uri(key)) for key in "abcdef")))
    pictures = content(list("abcdef"))
    pictures[uri("b")] = RejectedError(Reason.NOT_FOUND, "404")
    pictures[uri("d")] = RejectedError(Reason.TIMED_OUT)
    return Museum(pictures)


def test_a_shard_has_its_pictures_in_the_order_of_the_plan(plan: PlanFiles, museum: Museum) -> None:
    """The first picture comes last: it waits until the last one is asked for."""
    last_asked = threading.Event()
    museum.before = lambda asked: last_asked.set() if asked == uri("f") else None

    def shrink_after_the_last(data: bytes) -> Picture:
        if data == b"picture a":
            assert last_asked.wait(30)
        return fake_shrink(data)

    writer = ShardWriter(plan, fetch=museum.fetch, shrink=shrink_after_the_last, threads=2)
    account = writer.ensure(SHARD)
    writer.close()
    assert keys_in(plan) == list("acef")
    assert [picture.key for picture in account.written] == list("acef")


def test_every_row_is_accounted_for(plan: PlanFiles, museum: Museum) -> None:
    told = []
    writer = ShardWriter(
        plan, fetch=museum.fetch, shrink=fake_shrink, threads=2, on_outcome=lambda *counts: told.append(counts)
    )
    account = writer.ensure(SHARD)
    assert [(row.dropped.key, row.dropped.reason, row.dropped.detail) for row in account.dropped] == [
        ("b", Reason.NOT_FOUND, "404"),
        ("d", Reason.TIMED_OUT, ""),
    ]
    assert read_account(plan.account(SHARD)) == account
    assert [sum(numbers) for numbers in zip(*told, strict=True)] == [6, 2]
    counters = writer.take_counters()
    writer.close()
    assert (counters["fetch/ok"], counters["rejected/not_found"], counters["rejected/timed_out"]) == (4, 1, 1)
    assert counters["fetch/bytes"] == 4 * len(b"picture a")
    read = read_content(plan, SHARD)
    assert (read.examples, read.size, read.sha256, read.labels) == (4, account.size, account.sha256, {0: 4})


def test_an_example_says_what_the_picture_is(plan: PlanFiles) -> None:
    write_rows(plan, SHARD, planned(artwork("a", labels=["Japan", "Sèvres"], uri="http://h/é")))
    account = ensure(plan, Museum({"http://h/é": b"abc"}))
    with files.open_to_read(plan.shard(SHARD)) as file:
        (example,) = map(decode_example, read_records(file))
    assert example == {
        Feature.ENCODED: [b"cba"],
        Feature.FORMAT: [b"jpeg"],
        Feature.HEIGHT: [1],
        Feature.WIDTH: [3],
        Feature.LABEL: [0, 1],
        Feature.TEXT: [b"Japan", "Sèvres".encode()],
        Feature.KEY: [b"a"],
        Feature.URI: ["http://h/é".encode()],
        Feature.SHA256: [b"ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"],
    }
    assert account.written == (WrittenPicture("a", example[Feature.SHA256][0].decode(), width=6, height=2, size=3),)


def test_an_empty_shard_is_a_shard(plan: PlanFiles) -> None:
    write_rows(plan, SHARD, [])
    account = ensure(plan, Museum({}))
    assert (account.size, account.written, account.dropped) == (0, (), ())
    assert read_content(plan, SHARD).examples == 0


@pytest.mark.parametrize("threads", [1, 16])
def test_the_number_of_threads_does_not_change_a_byte(plan: PlanFiles, threads: int) -> None:
    keys = [*ODD_KEYS, *map(str, range(60))]
    write_rows(plan, SHARD, planned(*(artwork(key, uri=uri(key)) for key in keys)))
    pictures = content(keys)
    pictures[uri("7")] = RejectedError(Reason.EMPTY)
    ensure(plan, Museum(pictures), threads=threads)
    assert keys_in(plan) == [key for key in keys if key != "7"]
    assert read_content(plan, SHARD).sha256 == "447b991ad6eca5c63ea866bea8d74be847c1b55c85417b9be8cff2e1ac1ddd2f"


def test_nothing_is_fetched_when_all_is_there(plan: PlanFiles, museum: Museum) -> None:
    account = ensure(plan, museum)
    before = state(plan)
    museum.take_asked()
    assert ensure(plan, museum) == account
    assert museum.take_asked() == []
    assert state(plan) == before


def test_odd_keys_are_found_again(plan: PlanFiles) -> None:
    write_rows(plan, SHARD, planned(*(artwork(key, uri=uri(key)) for key in ODD_KEYS)))
    museum = Museum(content(ODD_KEYS))
    ensure(plan, museum)
    before = state(plan)
    files.write_bytes(plan.shard(SHARD), before[0][:-1])
    museum.take_asked()
    ensure(plan, museum)
    assert museum.take_asked() == [uri(ODD_KEYS[-1])]
    assert state(plan) == before


def cut(data: bytes) -> bytes:
    return data[:-3]


def flip_last(data: bytes) -> bytes:
    return data[:-30] + bytes([data[-30] ^ 1]) + data[-29:]


@pytest.mark.parametrize("damage", [cut, flip_last])
def test_a_damaged_shard_is_mended_by_fetching_what_is_missing(
    plan: PlanFiles, museum: Museum, damage: Callable[[bytes], bytes]
) -> None:
    ensure(plan, museum)
    before = state(plan)
    museum.take_asked()
    files.write_bytes(plan.shard(SHARD), damage(before[0]))
    ensure(plan, museum)
    assert museum.take_asked() == [uri("f")]
    assert state(plan) == before


def test_a_shard_that_is_gone_is_fetched_anew(plan: PlanFiles, museum: Museum) -> None:
    ensure(plan, museum)
    before = state(plan)
    files.remove(plan.shard(SHARD))
    museum.take_asked()
    ensure(plan, museum)
    assert museum.take_asked() == [uri(key) for key in "abcdef"]
    assert state(plan) == before


def test_the_account_comes_before_the_shard(plan: PlanFiles, museum: Museum) -> None:
    """Killed between them, the shard is not there; so its presence always means that it is done."""
    with killed_at(2):
        ensure(plan, museum)
    assert files.exists(plan.account(SHARD))
    assert not files.exists(plan.shard(SHARD))


@pytest.mark.parametrize("replace", [1, 2])
def test_killed_while_writing_and_run_again(plan: PlanFiles, museum: Museum, tmp_path: Path, replace: int) -> None:
    undisturbed = PlanFiles(str(tmp_path / "undisturbed"))
    files.copy_tree(plan.directory, undisturbed.directory)
    ensure(undisturbed, museum)
    with killed_at(replace):
        ensure(plan, museum)
    ensure(plan, museum)
    assert state(plan) == state(undisturbed)
    assert files.list_files(plan.directory) == files.list_files(undisturbed.directory)


def test_only_what_failed_for_a_passing_reason_is_tried_again(plan: PlanFiles, museum: Museum) -> None:
    ensure(plan, museum)
    museum.take_asked()
    museum.pictures.update(content(list("abcdef")))
    for key in "acef":
        museum.pictures[uri(key)] = b"another picture by now"
    account = ensure(plan, museum, retry_rejected=True)
    assert museum.take_asked() == [uri("d")]
    assert [picture.key for picture in account.written] == keys_in(plan) == list("acdef")
    assert [row.dropped.key for row in account.dropped] == ["b"]
    with files.open_to_read(plan.shard(SHARD)) as file:
        encoded = [decode_example(record)[Feature.ENCODED][0][::-1] for record in read_records(file)]
    assert encoded == [b"picture " + key.encode() for key in "acdef"]
    assert ensure(plan, museum, retry_rejected=True) == account
    assert museum.take_asked() == []


@pytest.mark.parametrize("replace", [1, 2])
@pytest.mark.parametrize("retry_again", [True, False])
def test_killed_while_trying_again(plan: PlanFiles, museum: Museum, replace: int, retry_again: bool) -> None:
    """When the account is newer than the shard, the plain run completes what the retry had found."""
    ensure(plan, museum)
    museum.pictures[uri("d")] = b"picture d"
    with killed_at(replace):
        ensure(plan, museum, retry_rejected=True)
    account = ensure(plan, museum, retry_rejected=retry_again)
    assert len(account.written) + len(account.dropped) == 6
    assert keys_in(plan) == [picture.key for picture in account.written]
    expected = "acdef" if retry_again or replace == 2 else "acef"
    assert keys_in(plan) == list(expected)
    assert read_content(plan, SHARD).sha256 == account.sha256


def test_duplicates_are_dropped_and_stay_dropped(plan: PlanFiles, museum: Museum) -> None:
    hashes = {picture.key: picture.sha256 for picture in ensure(plan, museum).written}
    account = drop_duplicates(plan, {"a", "e"})
    assert keys_in(plan) == [picture.key for picture in account.written] == list("cf")
    assert [(row.dropped.key, row.dropped.reason.value, row.sha256) for row in account.dropped] == [
        ("a", "duplicate_content", hashes["a"]),
        ("b", "not_found", ""),
        ("d", "timed_out", ""),
        ("e", "duplicate_content", hashes["e"]),
    ]
    assert account.dropped[0].dropped.uri == uri("a")
    assert {row.key for row in account.rejected()} == {"b", "d"}
    museum.take_asked()
    assert ensure(plan, museum) == account
    assert drop_duplicates(plan, {"a", "e"}) == account
    assert museum.take_asked() == []


@pytest.mark.parametrize("replace", [1, 2])
def test_killed_while_dropping_duplicates(plan: PlanFiles, museum: Museum, tmp_path: Path, replace: int) -> None:
    ensure(plan, museum)
    undisturbed = PlanFiles(str(tmp_path / "undisturbed"))
    files.copy_tree(plan.directory, undisturbed.directory)
    drop_duplicates(undisturbed, {"a"})
    with killed_at(replace):
        drop_duplicates(plan, {"a"})
    museum.take_asked()
    ensure(plan, museum)
    drop_duplicates(plan, {"a"})
    assert museum.take_asked() == []
    assert state(plan) == state(undisturbed)


def test_what_is_no_rejection_is_a_defect_and_shows(plan: PlanFiles, museum: Museum) -> None:
    museum.pictures[uri("c")] = ZeroDivisionError("a defect")
    with pytest.raises(ZeroDivisionError, match="a defect"):
        ensure(plan, museum)
    assert not files.exists(plan.shard(SHARD))
    assert not files.exists(plan.account(SHARD))


def test_the_pictures_in_flight_are_bounded(plan: PlanFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    """A row is taken up only while fewer than four a thread wait for their outcome or their place in the file."""
    keys = [f"{number:03d}" for number in range(100)]
    write_rows(plan, SHARD, planned(*(artwork(key, uri=uri(key)) for key in keys)))
    done: list[int] = []
    waiting: list[int] = []
    read_lines = files.read_lines

    def watched_lines(path: str) -> Iterator[str]:
        for number, line in enumerate(read_lines(path)):
            waiting.append(number - len(done))
            yield line

    monkeypatch.setattr(files, "read_lines", watched_lines)
    writer = ShardWriter(
        plan,
        fetch=Museum(content(keys)).fetch,
        shrink=fake_shrink,
        threads=2,
        on_outcome=lambda count, rejected: done.append(count),
    )
    writer.ensure(SHARD)
    writer.close()
    assert (len(done), len(waiting), max(waiting)) == (100, 100, 7)


def check(plan: PlanFiles, museum: Museum, *, retry_rejected: bool = False) -> Account:
    with writing(plan, museum) as writer:
        return writer.check(SHARD, retry_rejected=retry_rejected)


def test_a_check_accounts_for_every_row_and_writes_no_shard(plan: PlanFiles, museum: Museum) -> None:
    account = check(plan, museum)
    assert [picture.key for picture in account.written] == list("acef")
    assert [row.dropped.key for row in account.dropped] == ["b", "d"]
    assert (account.size, account.sha256) == (0, "")
    assert not files.exists(plan.shard(SHARD))
    assert not files.exists(plan.account(SHARD))
    written = ensure(plan, museum)
    assert (account.written, account.dropped) == (written.written, written.dropped)


def test_a_check_is_done_once(plan: PlanFiles, museum: Museum) -> None:
    first = check(plan, museum)
    museum.take_asked()
    assert check(plan, museum) == first
    assert museum.take_asked() == []
    museum.pictures[uri("d")] = b"picture d"
    again = check(plan, museum, retry_rejected=True)
    assert museum.take_asked() == [uri("d")]
    assert [picture.key for picture in again.written] == list("acdef")
    assert [row.dropped.key for row in again.dropped] == ["b"]


def test_only_pictures_that_can_be_used_are_kept(plan: PlanFiles, museum: Museum) -> None:
    kept: dict[str, bytes] = {}

    def shrink_some(data: bytes) -> Picture:
        if data == b"picture c":
            raise RejectedError(Reason.HTML_PAGE)
        return fake_shrink(data)

    writer = ShardWriter(plan, fetch=museum.fetch, shrink=shrink_some, threads=2, keep=kept.__setitem__)
    writer.ensure(SHARD)
    writer.close()
    assert kept == {uri(key): f"picture {key}".encode() for key in "aef"}


def test_a_shard_without_its_account_is_written_anew(plan: PlanFiles, museum: Museum) -> None:
    first = ensure(plan, museum)
    files.remove(plan.account(SHARD))
    museum.take_asked()
    assert ensure(plan, museum) == first
    assert len(museum.take_asked()) == 6
