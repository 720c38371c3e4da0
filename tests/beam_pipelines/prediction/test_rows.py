import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beam_pipelines.prediction.rows import (
    PlannedRow,
    PredictionAccount,
    RejectedRow,
    bare_row,
    count_shards,
    in_order,
    shard_index,
)
from beam_pipelines.rejects import Dropped, Reason
from tests.beam_pipelines.builders import artwork, hostile_text


@given(key=hostile_text, uri=hostile_text, labels=st.lists(hostile_text, max_size=2))
def test_a_row_comes_back_from_its_line(key: str, uri: str, labels: list[str]) -> None:
    row = PlannedRow(key, uri, tuple(labels))
    line = row.to_line()
    assert "\n" not in line
    assert PlannedRow.from_line(line.encode().decode()) == row


def test_an_account_comes_back_from_json() -> None:
    dropped = Dropped(key="a", uri="b", reason=Reason.TIMED_OUT, detail="c")
    account = PredictionAccount(size=7, sha256="ab", predicted=3, rejected=(RejectedRow(number=2, dropped=dropped),))
    assert PredictionAccount.from_json(json.loads(json.dumps(account.to_json()))) == account


def test_rows_of_one_key_are_all_there_and_in_one_order() -> None:
    rows = [artwork("a", uri="2"), artwork("a", uri="1"), artwork("a", uri="1"), artwork("b", labels=())]
    ordered = in_order(rows)
    assert ordered == in_order(reversed(rows))
    assert [row.uri for row in ordered if row.key == "a"] == ["1", "1", "2"]
    assert len(ordered) == 4


def test_a_row_belongs_in_one_shard_by_its_key() -> None:
    places = [shard_index(artwork(str(number)), 4) for number in range(400)]
    assert places == [shard_index(artwork(str(number), uri="another"), 4) for number in range(400)]
    assert {places.count(index) > 70 for index in range(4)} == {True}


@pytest.mark.parametrize(
    ("rows", "num_shards", "shards"),
    [(0, 0, 1), (3, 0, 1), (40, 0, 3), (241, 0, 8), (4001, 0, 9), (1_000_000, 0, 2000), (3, 7, 7), (10_000, 1, 1)],
)
def test_how_many_shards(rows: int, num_shards: int, shards: int) -> None:
    assert count_shards(rows, num_shards=num_shards) == shards


def test_only_what_is_planned_travels() -> None:
    row = bare_row(artwork("a", group="g", attributes={"title": "T"}, split="train"))
    assert (row.key, row.labels, row.attributes, row.split) == ("a", ("Japan",), {}, "")
