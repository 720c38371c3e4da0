from pathlib import Path

import pytest

from beam_pipelines.errors import OptionError
from beam_pipelines.prediction.options import PredictionOptions, PredictRunOptions, make_parser, parse_arguments


@pytest.fixture
def model(tmp_path: Path) -> str:
    (tmp_path / "7").mkdir()
    (tmp_path / "7" / "saved_model.pb").touch()
    return str(tmp_path)


def parsed(model: str, *more: str) -> tuple[PredictionOptions, PredictRunOptions, list[str]]:
    given = ["--source=manifest", "--input=list.csv", f"--model={model}", "--output=out"]
    return parse_arguments([*given, *more])


def test_what_is_not_given_is_as_documented(model: str) -> None:
    options, run, beam_arguments = parsed(model)
    assert options == PredictionOptions(source="manifest", input="list.csv", model=model)
    assert run == PredictRunOptions(output="out")
    assert (options.attribute, run.batch_size, run.fetch_threads) == ("", 32, 16)
    assert beam_arguments == ["--direct_num_workers=1"]


def test_what_is_given_is_taken(model: str) -> None:
    options, run, beam_arguments = parsed(
        model, "--attribute=culture", "--output_format=csv", "--all_scores", "--max_image_bytes=100", "--batch_size=8",
        "--max_requests_per_second=host=2", "--runner=FlinkRunner", "--direct_num_workers=3",
    )  # fmt: skip
    assert (options.attribute, options.output_format, options.all_scores) == ("culture", "csv", True)
    assert (run.batch_size, run.fetch.max_bytes) == (8, 100)
    assert ("host", 2.0) in run.fetch.requests_per_second
    assert beam_arguments == ["--runner=FlinkRunner", "--direct_num_workers=3"]


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("--source=flickr", "unknown source 'flickr'"),
        ("--output_format=parquet", "unknown --output_format 'parquet': choose one of jsonl, csv"),
        ("--num_shards=100000", "--num_shards 100000 is not between 0 and 99999"),
        ("--batch_size=0", "--batch_size 0 is not positive"),
        ("--fetch_threads=-1", "--fetch_threads -1 is not positive"),
        ("--max_image_pixels=0", "--max_image_pixels 0 is not positive"),
        ("--max_reject_fraction=2", "--max_reject_fraction 2.0 is not between 0 and 1"),
        ("--labels_file=names.txt", "--labels_file names the labels of idx files"),
        ("--model=nowhere", "nowhere is no model, nothing is there"),
        ("--output_format=csv --bigquery_table=a.b.c", "--bigquery_table loads JSON lines"),
    ],
)
def test_a_wrong_value_is_named_with_what_to_type(model: str, argument: str, message: str) -> None:
    with pytest.raises(OptionError) as raised:
        parsed(model, *argument.split())
    assert str(raised.value).startswith(message)
    assert "\n" not in str(raised.value)


def test_workers_read_the_model_too(model: str) -> None:
    options, _, _ = parsed(model)
    assert (options.worker_paths()["model"], options.worker_paths()["input"]) == (model, "list.csv")


def test_predictions_are_told_apart_by_what_decides_them(model: str) -> None:
    fingerprint = parsed(model)[0].fingerprint(model="a")
    assert parsed(f"{model}/7")[0].fingerprint(model="a") == fingerprint
    assert parsed(model, "--batch_size=3")[0].fingerprint(model="a") == fingerprint
    others = [
        parsed(model)[0].fingerprint(model="b"),
        *(
            parsed(model, option)[0].fingerprint(model="a")
            for option in ("--all_scores", "--num_shards=2", "--attribute=culture", "--output_format=csv")
        ),
    ]
    assert len({fingerprint, *others}) == 6


def test_every_option_is_explained() -> None:
    assert [action.dest for action in make_parser()._actions if not action.help] == []
