"""Plans made by a pipeline in this process, without a model."""

import json
from pathlib import Path
from typing import Any

import pytest

from beam_pipelines import files
from beam_pipelines.errors import OptionError, RunError
from beam_pipelines.fetch.fetcher import FetchLimits
from beam_pipelines.plan_files import PlanFiles
from beam_pipelines.prediction.options import PredictionOptions
from beam_pipelines.prediction.plan import describe_plan, is_planned, make_plan, planned_rows
from beam_pipelines.prediction.rows import PlannedRow
from beam_pipelines.runners import beam_options
from beam_pipelines.sources import ReadOptions

MODEL = "0123456789abcdef"


@pytest.fixture
def model(tmp_path: Path) -> str:
    (tmp_path / "model" / "1").mkdir(parents=True)
    (tmp_path / "model" / "1" / "saved_model.pb").touch()
    return str(tmp_path / "model")


class Planned:
    """A plan, read."""

    def __init__(self, options: PredictionOptions, output: Path) -> None:
        self.plan = PlanFiles(str(output))
        make_plan(options, str(output), model=MODEL, reading=ReadOptions(), beam_options=beam_options([]))
        self.summary: dict[str, Any] = files.read_json(self.plan.summary)

    def rows(self) -> list[list[PlannedRow]]:
        return [
            [PlannedRow.from_line(line) for line in files.read_lines(self.plan.rows(shard))]
            for shard in planned_rows(self.summary)
        ]

    def rejected(self) -> list[tuple[str, str]]:
        lines = map(json.loads, files.read_lines(self.plan.rejected))
        return [(line["key"], line["reason"]) for line in lines]


def manifest(folder: Path, *lines: str) -> str:
    path = folder / "list.csv"
    path.write_text("".join(f"{line}\n" for line in lines))
    return str(path)


def of_all(planned: Planned) -> list[tuple[str, str, tuple[str, ...]]]:
    return sorted((row.key, row.uri, row.labels) for rows in planned.rows() for row in rows)


def test_every_row_is_planned_and_rows_of_one_address_or_key_are_rows_of_their_own(model: str, tmp_path: Path) -> None:
    path = manifest(
        tmp_path,
        "key,uri,label",
        "a,http://m/1.jpg,hat",
        "a,http://m/1.jpg,cap",
        "a,http://m/1.jpg,hat",
        "b,http://m/1.jpg,",
        "a,gs://b/2.jpg,hat",
        "c,,hat",
    )
    planned = Planned(PredictionOptions(source="manifest", input=path, model=model), tmp_path / "out")
    assert of_all(planned) == [
        ("a", "gs://b/2.jpg", ("hat",)),
        ("a", "http://m/1.jpg", ("cap",)),
        ("a", "http://m/1.jpg", ("hat",)),
        ("a", "http://m/1.jpg", ("hat",)),
        ("b", "http://m/1.jpg", ()),
    ]
    assert planned.rejected() == [("list.csv:7", "bad_row")]
    assert (planned.summary["read"], planned.summary["rejected"]) == (6, {"bad_row": 1})
    assert planned.summary["with_labels"] is True
    assert describe_plan(planned.summary, FetchLimits()).splitlines() == [
        "6 rows read, 5 pictures planned in 1 shards",
        "  rejected: bad_row 1",
        "  m: 4 pictures, no rate limit",
        "  gs://b: 1 pictures, no rate limit",
    ]


def test_labels_are_optional(model: str, tmp_path: Path) -> None:
    path = manifest(tmp_path, "uri,culture", "http://m/1.jpg,Japan")
    planned = Planned(PredictionOptions(source="manifest", input=path, model=model), tmp_path / "none")
    assert of_all(planned) == [("http://m/1.jpg", "http://m/1.jpg", ())]
    assert planned.summary["with_labels"] is False
    asked = PredictionOptions(source="manifest", input=path, model=model, attribute="culture")
    assert of_all(Planned(asked, tmp_path / "asked"))[0][2] == ("Japan",)


def test_pictures_directly_in_a_folder_have_no_label(model: str, tmp_path: Path) -> None:
    for name in ("pictures/a.jpg", "pictures/hat/b.jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    options = PredictionOptions(source="directory", input=str(tmp_path / "pictures"), model=model)
    assert [(key, labels) for key, _, labels in of_all(Planned(options, tmp_path / "out"))] == [
        ("a.jpg", ()),
        ("hat/b.jpg", ("hat",)),
    ]


def test_what_a_source_or_a_choice_leaves_out_stands_in_rejected(model: str, tmp_path: Path) -> None:
    path = tmp_path / "catalogue.csv"
    cells = ["1,True,Japan", "2,False,Japan", "3,True,Iran", "4,True,Japan", "x,True,Japan"]
    path.write_text("\n".join(["Object ID,Is Public Domain,Culture", *cells]))
    (tmp_path / "exclude.txt").write_text("4\n")
    options = PredictionOptions(
        source="open_access_csv",
        input=str(path),
        model=model,
        filter=("culture=japan",),
        exclude_file=str(tmp_path / "exclude.txt"),
    )
    planned = Planned(options, tmp_path / "out")
    assert [key for key, _, _ in of_all(planned)] == ["1/0"]
    assert planned.rejected() == [
        ("2", "not_public_domain"),
        ("3/0", "not_matching"),
        ("4/0", "excluded"),
        ("catalogue.csv:6", "bad_row"),
    ]
    assert planned.summary["read"] == 5


def test_rows_are_dealt_out_by_their_keys_and_empty_shards_are_there(model: str, tmp_path: Path) -> None:
    path = manifest(tmp_path, *(f"http://m/{number}.jpg,hat" for number in range(5)))
    options = PredictionOptions(source="manifest", input=path, model=model, num_shards=20)
    planned = Planned(options, tmp_path / "out")
    rows = planned.rows()
    assert list(map(len, rows)) == planned.summary["rows"]
    assert (len(rows), sum(map(len, rows))) == (20, 5)
    assert Planned(options, tmp_path / "again").rows() == rows


def test_another_model_or_other_options_are_refused(model: str, tmp_path: Path) -> None:
    path, output = manifest(tmp_path, "http://m/1.jpg,hat"), tmp_path / "out"
    options = PredictionOptions(source="manifest", input=path, model=model)
    assert not is_planned(options, str(output), model=MODEL)
    Planned(options, output)
    assert is_planned(options, str(output), model=MODEL)
    for changed, fingerprint in (
        (options, "fedcba9876543210"),
        (PredictionOptions(source="manifest", input=path, model=model, all_scores=True), MODEL),
    ):
        with pytest.raises(OptionError, match="holds other predictions"):
            is_planned(changed, str(output), model=fingerprint)
    by_version = PredictionOptions(source="manifest", input=path, model=f"{model}/1")
    assert is_planned(by_version, str(output), model=MODEL)


def test_a_folder_of_something_else_is_refused(model: str, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "letter.txt").touch()
    options = PredictionOptions(source="manifest", input="list.csv", model=model)
    with pytest.raises(OptionError, match=r"is not empty and no predictions of this program: it has 'letter\.txt'"):
        is_planned(options, str(tmp_path / "out"), model=MODEL)


def test_no_row_at_all_is_told(model: str, tmp_path: Path) -> None:
    path = manifest(tmp_path, "uri,label", ",hat")
    with pytest.raises(RunError, match=r"^no picture is left of 1 rows \(bad_row 1\)$"):
        Planned(PredictionOptions(source="manifest", input=path, model=model), tmp_path / "out")
