import csv
import io
import json
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beam_pipelines.prediction.options import CSV, JSONL, OUTPUT_FORMATS
from beam_pipelines.prediction.output import PredictedRow, PredictionShard, output_format, significant
from tests.beam_pipelines.builders import hostile_text

ROW = PredictedRow("a/1.jpg", 1, 'a "hat", 帽', 0.8125, ("hat",), (0.1875, 0.8125))

scores = st.floats(min_value=0, max_value=1).map(significant)


def written(name: str, rows: Sequence[PredictedRow], *, labels: bool = True, scores: bool = True) -> bytes:
    made = output_format(name, with_labels=labels, all_scores=scores)
    return made.header() + b"".join(map(made.encode, rows))


def read(name: str, content: bytes) -> list[PredictedRow]:
    lines = io.TextIOWrapper(io.BytesIO(content), encoding="utf-8", newline="\n")
    return list(output_format(name, with_labels=True, all_scores=True).decode(lines))


@st.composite
def rows(draw: st.DrawFn) -> PredictedRow:
    labels, all_scores = draw(st.lists(hostile_text, max_size=2)), draw(st.lists(scores, max_size=3))
    return PredictedRow(draw(hostile_text), 3, draw(hostile_text), draw(scores), tuple(labels), tuple(all_scores))


@pytest.mark.parametrize("name", OUTPUT_FORMATS)
@given(rows=st.lists(rows(), max_size=3))
def test_what_was_read_is_written_as_it_was(name: str, rows: list[PredictedRow]) -> None:
    content = written(name, rows)
    again = read(name, content)
    assert len(again) == len(rows)
    assert written(name, again) == content


@given(rows=st.lists(rows(), max_size=3))
def test_every_line_of_json_lines_is_a_row(rows: list[PredictedRow]) -> None:
    content = written(JSONL, rows)
    values = list(map(json.loads, content.split(b"\n")[:-1]))
    assert [value["key"] for value in values] == [row.key for row in rows]
    assert read(JSONL, content) == rows


def test_json_lines_have_what_was_asked_for() -> None:
    assert written(JSONL, [ROW], labels=False, scores=False).decode() == (
        '{"key": "a/1.jpg", "prediction": 1, "label": "a \\"hat\\", 帽", "score": 0.8125}\n'
    )
    value = json.loads(written(JSONL, [ROW]))
    assert list(value) == ["key", "prediction", "label", "score", "labels", "scores"]
    assert (value["labels"], value["scores"]) == (["hat"], [0.1875, 0.8125])


def test_csv_has_a_header_and_lists_as_json() -> None:
    header, row = csv.reader(io.StringIO(written(CSV, [ROW]).decode()))
    assert header == ["key", "prediction", "label", "score", "labels", "scores"]
    assert row == ["a/1.jpg", "1", 'a "hat", 帽', "0.8125", '["hat"]', "[0.1875, 0.8125]"]
    assert written(CSV, [], labels=False, scores=False) == b"key,prediction,label,score\r\n"


@pytest.mark.parametrize(
    ("score", "kept"), [(0.12345678, 0.123457), (1.0, 1.0), (0.0, 0.0), (3.14159265e-9, 3.14159e-9), (0.9999996, 1.0)]
)
def test_scores_have_six_digits(score: float, kept: float) -> None:
    assert significant(score) == kept


def test_a_shard_has_its_name() -> None:
    shard = PredictionShard(3, 32, "csv")
    assert (shard.name, shard.file_name) == ("predictions-00003-of-00032", "predictions-00003-of-00032.csv")
