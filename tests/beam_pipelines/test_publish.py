import logging
from pathlib import Path
from typing import Any

import pytest

from beam_pipelines import files
from beam_pipelines.dataset import Shard
from beam_pipelines.errors import RunError
from beam_pipelines.options import DatasetOptions
from beam_pipelines.plan_files import Account, DroppedPicture, PlanFiles, WrittenPicture
from beam_pipelines.publish import describe, publish
from beam_pipelines.rejects import Dropped, Reason

OPTIONS = DatasetOptions(source="manifest", input="list.csv")
SHARDS = [Shard("train", 0, 2), Shard("train", 1, 2), Shard("validation", 0, 1)]


def account(written: int, *reasons: Reason) -> Account:
    dropped = [Dropped(key=f"{reason}/{n}", uri="u", reason=reason) for n, reason in enumerate(reasons)]
    return Account(
        size=10 * written,
        sha256=f"{written:064x}",
        written=tuple(WrittenPicture(f"w{number}", "00" * 32, 300, 400, 5_000) for number in range(written)),
        dropped=tuple(DroppedPicture(dropped=row) for row in dropped),
    )


def write_run(folder: Path, accounts: list[Account], *, read: int, labels: tuple[str, ...] = ("Japan",)) -> None:
    """Writes what the earlier phases leave: 2 filtered and 1 rejected row of the plan, and these shards."""
    plan = PlanFiles(str(folder))
    rejected = '{"key": "z.csv:3", "uri": "", "stage": "source", "reason": "bad_row", "detail": ""}'
    files.write_lines(plan.rejected, [rejected])
    summary = {
        "fingerprint": OPTIONS.fingerprint(),
        "labels": list(labels),
        "read": read,
        "splits": {"train": {"shards": 2}, "validation": {"shards": 1}},
        "filtered": {"duplicate_uri": 2},
        "rejected": {"bad_row": 1},
        "hosts": {},
        "split_given": 0,
        "versions": {"tensorflow-transform": "1.21.0"},
        "examples": {"bad_row": [["z.csv:3", "", ""]], "duplicate_uri": [["1/0", "u", ""], ["2/0", "u", ""]]},
    }
    files.write_json(plan.summary, summary)
    counted: list[dict[str, Any]] = []
    for shard, of_shard in zip(SHARDS, accounts, strict=True):
        files.write_json(plan.account(shard), of_shard.to_json())
        files.write_json(plan.thumbnails(shard), [])
        examples = len(of_shard.written)
        counted.append(
            {"shard": shard.name, "examples": examples, "sha256": of_shard.sha256, "labels": {"0": examples}}
        )
    files.write_json(plan.counted, counted)


def publish_in(folder: Path, *, max_reject_fraction: float = 0.5) -> dict[str, Any]:
    return publish(OPTIONS, str(folder), max_reject_fraction=max_reject_fraction)


GOOD = [account(5, Reason.NOT_FOUND), account(0), account(3, Reason.DUPLICATE_CONTENT, Reason.TIMED_OUT)]


def test_a_run_that_adds_up_is_complete(tmp_path: Path) -> None:
    write_run(tmp_path, GOOD, read=14)
    info = publish_in(tmp_path)
    assert (info["read"], info["written"]) == (14, 8)
    assert info["filtered"] == {"duplicate_content": 1, "duplicate_uri": 2}
    assert info["rejected"] == {"bad_row": 1, "not_found": 1, "timed_out": 1}
    assert info["labels"] == {"Japan": 8}
    assert [split["examples"] for split in info["splits"].values()] == [5, 3]
    assert info["splits"]["train"]["shards"][1] == {
        "name": "train-00001-of-00002.tfrecord",
        "examples": 0,
        "sha256": "0" * 64,
    }
    assert files.read_json(str(tmp_path / "dataset_info.json")) == info
    assert (tmp_path / "COMPLETED").read_text() == f"{OPTIONS.fingerprint()}\n"
    assert "14 rows read" in (tmp_path / "report.html").read_text()


def test_rejected_rows_of_the_plan_and_of_every_shard_stand_in_one_sorted_file(tmp_path: Path) -> None:
    write_run(tmp_path, GOOD, read=14)
    publish_in(tmp_path)
    lines = (tmp_path / "rejected.jsonl").read_text().splitlines()
    assert lines == sorted(lines)
    assert [line.split('"reason": ')[1].split('"')[1] for line in lines] == ["not_found", "timed_out", "bad_row"]


def test_rows_that_do_not_add_up_fail_the_run(tmp_path: Path) -> None:
    write_run(tmp_path, GOOD, read=15)
    with pytest.raises(RunError, match="15 read, but 8 written \\+ 3 filtered \\+ 3 rejected = 14"):
        publish_in(tmp_path)
    assert not (tmp_path / "COMPLETED").exists()
    assert not (tmp_path / "dataset_info.json").exists()


def test_what_lies_in_the_shards_counts_and_not_what_their_accounts_say(tmp_path: Path) -> None:
    write_run(tmp_path, GOOD, read=14)
    counted = files.read_json(PlanFiles(str(tmp_path)).counted)
    counted[0]["examples"] -= 1
    files.write_json(PlanFiles(str(tmp_path)).counted, counted)
    with pytest.raises(RunError, match="the rows do not add up: 14 read, but 7 written"):
        publish_in(tmp_path)


def test_nothing_written_names_the_commonest_reasons(tmp_path: Path) -> None:
    rejected = [Reason.NOT_FOUND, Reason.TIMED_OUT, Reason.NOT_FOUND, Reason.EMPTY, Reason.TOO_SMALL]
    write_run(tmp_path, [account(0, *rejected), account(0), account(0)], read=8)
    with pytest.raises(RunError) as caught:
        publish_in(tmp_path, max_reject_fraction=1)
    assert str(caught.value) == "no picture could be used (not_found 2, bad_row 1, empty 1): see rejected.jsonl"


def test_too_much_rejected_names_the_commonest_reasons_and_the_mend(tmp_path: Path) -> None:
    write_run(tmp_path, [account(3, Reason.NOT_FOUND, Reason.NOT_FOUND), account(0), account(0)], read=8)
    with pytest.raises(RunError) as caught:
        publish_in(tmp_path, max_reject_fraction=0.4)
    assert str(caught.value).startswith(
        "3 of 6 pictures were rejected (not_found 2, bad_row 1), more than --max_reject_fraction 0.4 allows: see "
        "rejected.jsonl; then run again with --retry_rejected"
    )
    assert (tmp_path / "rejected.jsonl").exists()
    assert not (tmp_path / "COMPLETED").exists()
    assert publish_in(tmp_path, max_reject_fraction=0.5)["written"] == 3


def test_a_class_without_a_picture_is_kept_and_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_run(tmp_path, GOOD, read=14, labels=("Japan", "Iran"))
    with caplog.at_level(logging.WARNING, "beam_pipelines"):
        info = publish_in(tmp_path)
    assert info["labels"] == {"Japan": 8, "Iran": 0}
    assert info["empty_labels"] == ["Iran"]
    assert "the class 'Iran' ended with no picture" in caplog.text
    assert "Iran" in (tmp_path / "report.html").read_text()


def test_a_summary_for_people(tmp_path: Path) -> None:
    write_run(tmp_path, GOOD, read=14)
    assert describe(publish_in(tmp_path)).splitlines() == [
        "14 rows read: 8 written, 3 filtered, 3 rejected",
        "  train: 5 examples in 2 shards",
        "  validation: 3 examples in 1 shards",
        "  1 classes",
        "  filtered: duplicate_uri 2",
        "  filtered: duplicate_content 1",
        "  rejected: bad_row 1",
        "  rejected: not_found 1",
        "  rejected: timed_out 1",
    ]


def test_publishing_again_gives_the_same_bytes(tmp_path: Path) -> None:
    write_run(tmp_path, GOOD, read=14)
    publish_in(tmp_path)
    first = {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    publish_in(tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()} == first
