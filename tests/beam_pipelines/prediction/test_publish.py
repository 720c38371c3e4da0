import json
from pathlib import Path
from typing import Any

import pytest

from beam_pipelines import files
from beam_pipelines.errors import RunError
from beam_pipelines.plan_files import PlanFiles, rejected_line
from beam_pipelines.prediction.options import PredictionOptions
from beam_pipelines.prediction.output import PredictedRow, PredictionShard, output_format
from beam_pipelines.prediction.publish import describe, publish_predictions
from beam_pipelines.prediction.rows import PredictionAccount, RejectedRow
from beam_pipelines.prediction.shards import count_shard
from beam_pipelines.rejects import Dropped, Reason

LABELS = ("hat", "shoe", "sock")
WRITTEN = output_format("jsonl", with_labels=True, all_scores=False)
REJECTED = RejectedRow(
    number=1, dropped=Dropped(key="b", uri="http://m/b", reason=Reason.NOT_FOUND, detail="status 404")
)


@pytest.fixture
def model(tmp_path: Path) -> str:
    folder = tmp_path / "model"
    (folder / "assets").mkdir(parents=True)
    (folder / "saved_model.pb").touch()
    (folder / "assets" / "labels.txt").write_text("".join(f"{label}\n" for label in LABELS))
    (folder / "assets" / "model.json").write_text(json.dumps({"model": "small_cnn", "step": 7, "metrics": {}}))
    return str(folder)


class Finished:
    """Two shards of predictions as workers leave them."""

    def __init__(self, output: Path, model: str) -> None:
        self.plan, self.model = PlanFiles(str(output)), model
        self.options = PredictionOptions(source="manifest", input="list.csv", model=model)
        self.summary: dict[str, Any] = {
            "fingerprint": "f" * 16,
            "options": self.options.to_json(),
            "model_fingerprint": "m" * 16,
            "read": 6,
            "rows": [2, 3],
            "with_labels": True,
            "rejected": {"excluded": 1},
        }
        rows = [
            [PredictedRow("a", 0, "hat", 0.5, ("hat",))],
            [
                PredictedRow("c", 1, "shoe", 0.5, ("hat", "cloak")),
                PredictedRow("d", 1, "shoe", 0.5, ("cloak",)),
                PredictedRow("e", 1, "shoe", 0.5, ("shoe", "sock")),
            ],
        ]
        counted = [self._write(index, found) for index, found in enumerate(rows)]
        files.write_json(self.plan.counted, counted)
        excluded = Dropped(key="x", uri="http://m/x", reason=Reason.EXCLUDED, detail="by its key")
        files.write_lines(self.plan.rejected, [rejected_line(excluded)])

    def _write(self, index: int, rows: list[PredictedRow]) -> dict[str, Any]:
        import hashlib

        shard = PredictionShard(index, 2, "jsonl")
        content = b"".join(map(WRITTEN.encode, rows))
        files.write_bytes(self.plan.shard(shard), content)
        account = PredictionAccount(
            size=len(content),
            sha256=hashlib.sha256(content).hexdigest(),
            predicted=len(rows),
            rejected=() if index else (REJECTED,),
        )
        files.write_json(self.plan.account(shard), account.to_json())
        return count_shard(self.plan, shard, written=WRITTEN, labels=LABELS)

    def publish(self, *, max_reject_fraction: float = 0.5) -> dict[str, Any]:
        files.write_json(self.plan.summary, self.summary)
        return publish_predictions(
            self.options,
            self.plan.directory,
            model=self.model,
            max_reject_fraction=max_reject_fraction,
            table=None,
            project="",
        )


@pytest.fixture
def finished(tmp_path: Path, model: str) -> Finished:
    return Finished(tmp_path / "out", model)


def test_what_lies_there_is_counted_and_told(finished: Finished) -> None:
    summary = finished.publish()
    assert summary == files.read_json(files.join(finished.plan.directory, "summary.json"))
    assert (summary["read"], summary["predicted"]) == (6, 4)
    assert summary["rejected"] == {"excluded": 1, "not_found": 1}
    assert summary["labels"] == {"hat": 1, "shoe": 3}
    assert summary["accuracy"] == {
        "rows": 3,
        "right": 2,
        "accuracy": 2 / 3,
        "labels": {
            "hat": {"examples": 2, "right": 1},
            "shoe": {"examples": 1, "right": 1},
            "sock": {"examples": 1, "right": 0},
        },
    }
    assert (summary["model"]["labels"], summary["model"]["name"]) == (list(LABELS), "small_cnn")
    lines = list(files.read_lines(files.join(finished.plan.directory, "rejected.jsonl")))
    assert [json.loads(line)["key"] for line in lines] == ["b", "x"]
    assert files.read_bytes(files.join(finished.plan.directory, "COMPLETED")) == b"ffffffffffffffff\n"


def test_people_are_told_in_a_few_lines(finished: Finished) -> None:
    assert describe(finished.publish()).splitlines() == [
        "6 rows read: 4 predicted, 2 rejected",
        "  rejected: excluded 1",
        "  rejected: not_found 1",
        "label  predicted  labelled so  of these right",
        "shoe           3            1               1",
        "hat            1            2               1",
        "accuracy 0.6667 of 3 rows with a label that the model knows",
    ]


def test_of_many_labels_the_commonest_are_shown(finished: Finished) -> None:
    summary = finished.publish()
    summary["labels"] = {f"label {number:02d}": number + 1 for number in range(25)}
    summary["accuracy"] = None
    lines = describe(summary).splitlines()
    assert lines[3] == "label     predicted"
    assert lines[4] == "label 24         25"
    assert lines[-1] == "and 5 more labels"
    assert len(lines) == 3 + 1 + 20 + 1


def test_rows_that_do_not_add_up_fail_the_run(finished: Finished) -> None:
    finished.summary["read"] = 7
    with pytest.raises(RunError, match=r"^the rows do not add up: 7 read, but 4 predicted \+ 2 rejected$"):
        finished.publish()
    assert not files.exists(files.join(finished.plan.directory, "COMPLETED"))


def test_too_many_that_could_not_be_had_fail_the_run_those_left_out_by_choice_do_not(finished: Finished) -> None:
    finished.publish(max_reject_fraction=0.2)
    with pytest.raises(RunError, match=r"^1 of 5 pictures were rejected \(excluded 1, not_found 1\), more than"):
        finished.publish(max_reject_fraction=0.19)


def test_a_shard_that_is_not_what_its_account_says_is_told(finished: Finished) -> None:
    shard = PredictionShard(0, 2, "jsonl")
    files.write_bytes(finished.plan.shard(shard), WRITTEN.encode(PredictedRow("a", 0, "hat", 0.25, ("hat",))))
    with pytest.raises(RunError, match="is not what its account says"):
        count_shard(finished.plan, shard, written=WRITTEN, labels=LABELS)
