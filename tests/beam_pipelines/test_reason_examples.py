from pathlib import Path

import apache_beam as beam
from apache_beam.testing.test_pipeline import TestPipeline

from beam_pipelines import files
from beam_pipelines.choice import key_rank
from beam_pipelines.reason_examples import PER_REASON, WriteReasonExamples, as_dropped, merge_examples
from beam_pipelines.rejects import Dropped, Reason
from beam_pipelines.runners import LocalRunner

ROWS = [
    *(Dropped(key=f"k{number}", uri=f"u{number}", reason=Reason.NO_LABEL, detail="d") for number in range(200)),
    Dropped(key="only", uri="u", reason=Reason.BAD_ROW),
]
FEW = sorted((f"k{number}" for number in range(200)), key=key_rank)[:PER_REASON]
EXPECTED = {"bad_row": [["only", "u", ""]], "no_label": [[key, f"u{key[1:]}", "d"] for key in FEW]}


def write(folder: Path, name: str, rows: list[Dropped]) -> str:
    path = str(folder / name)
    with TestPipeline(runner=LocalRunner()) as pipeline:
        _ = pipeline | beam.Create(rows, reshuffle=False).with_output_types(Dropped) | WriteReasonExamples(path)
    return path


def test_a_few_rows_of_each_reason_by_hash(tmp_path: Path) -> None:
    forth, back = write(tmp_path, "forth", ROWS), write(tmp_path, "back", ROWS[::-1])
    assert files.read_json(forth) == EXPECTED
    assert files.read_bytes(forth) == files.read_bytes(back)


def test_no_rows_no_examples(tmp_path: Path) -> None:
    assert files.read_json(write(tmp_path, "none", [])) == {}


def test_parts_are_merged_as_if_they_were_one() -> None:
    parts = [merge_examples([], ROWS[start::3]) for start in range(3)]
    assert merge_examples(parts) == merge_examples(parts[:2], ROWS[2::3]) == merge_examples([], ROWS) == EXPECTED


def test_as_rows() -> None:
    assert as_dropped(EXPECTED)["bad_row"] == [ROWS[-1]]
