import dataclasses
import math
from pathlib import Path
from typing import Any

import pytest
from apache_beam.options.pipeline_options import DirectOptions, StandardOptions

from beam_pipelines.errors import OptionError
from beam_pipelines.label_choice import LabelChoice, read_labels_file
from beam_pipelines.options import DatasetOptions, RunOptions, make_parser, parse_arguments
from beam_pipelines.row_options import parse_rates
from beam_pipelines.runners import beam_options, is_local, local_workers
from beam_pipelines.sources import API_IMAGES, IMAGES_FROM, MET_API, MET_MIRROR, SOURCE_NAMES, ReadOptions

NEEDED = ["--source=manifest", "--input=list.csv", "--output=data"]
MET_RATES = (("collectionapi.metmuseum.org", 4.0), ("images.metmuseum.org", 16.0))


def dataset(**changes: Any) -> DatasetOptions:
    return DatasetOptions(**{"source": "manifest", "input": "list.csv", **changes})


def refused(*arguments: str) -> str:
    with pytest.raises(OptionError) as caught:
        parse_arguments([*NEEDED, *arguments])
    return str(caught.value)


def test_defaults_of_the_data_set() -> None:
    options, _, _ = parse_arguments(NEEDED)
    assert dataclasses.asdict(options) == {
        "source": "manifest",
        "input": "list.csv",
        "validation_input": "",
        "attribute": "label",
        "split_values": "",
        "bin": 0,
        "filter": (),
        "exclude_file": "",
        "images_from": "mirror",
        "api_images": "small",
        "api_address": MET_API,
        "images_input": "",
        "image_uri_template": MET_MIRROR,
        "include_restricted": False,
        "labels_file": "",
        "default_label": "",
        "multi_label": False,
        "min_images_per_label": 10,
        "max_labels": 0,
        "max_images_per_label": 0,
        "max_images": 0,
        "validation_fraction": 0.25,
        "num_shards": 0,
        "image_size": 320,
        "jpeg_quality": 90,
        "min_image_side": 16,
        "max_image_pixels": 100_000_000,
        "max_image_bytes": 32 << 20,
    }
    assert options == dataset()


def test_defaults_of_a_run() -> None:
    _, run, rest = parse_arguments(NEEDED)
    assert run == RunOptions(output="data")
    assert (run.plan_only, run.retry_rejected, run.max_reject_fraction, run.fetch_threads, run.verbose) == (
        (False, False, 0.5, 16, False)
    )
    assert run.fetch.requests_per_second == MET_RATES
    assert not run.fetch.allow_private_addresses
    assert (run.fetch.connect_timeout, run.fetch.read_timeout, run.fetch.total_timeout) == (10, 30, 120)
    assert (run.fetch.max_retries, run.fetch.backoff, run.fetch.max_redirects) == (3, 1, 5)
    assert rest == []


def test_every_field_can_be_given() -> None:
    """An option that is parsed but left behind would be silently ignored."""
    values = {action.dest: action for action in make_parser()._actions}
    options, run = dataset(), RunOptions(output="data")
    for given in (options, run):
        for field in dataclasses.fields(given):
            assert field.name in values or field.name == "fetch"
    for name, value in dataclasses.asdict(options).items():
        given_value = other(value)
        text = given_value[0] if isinstance(given_value, tuple) else given_value
        parsed, _, _ = parse_arguments([*NEEDED, f"--{name}" if isinstance(value, bool) else f"--{name}={text}"])
        assert getattr(parsed, name) == given_value


def test_what_a_fetch_may_take_reaches_it() -> None:
    _, run, _ = parse_arguments(
        [
            *NEEDED,
            *("--max_requests_per_second=5", "--max_requests_per_second=a.example=2.5", "--allow_private_addresses"),
            *("--contact=me@museum.example", "--connect_timeout=1", "--read_timeout=2", "--total_timeout=3"),
            *("--max_retries=0", "--backoff=0.1", "--max_redirects=1", "--max_image_bytes=1000", "--fetch_threads=3"),
        ]
    )
    assert run.fetch.requests_per_second == (("", 5.0), ("a.example", 2.5), *MET_RATES)
    assert run.fetch.allow_private_addresses
    assert run.fetch.contact == "me@museum.example"
    assert (run.fetch.connect_timeout, run.fetch.read_timeout, run.fetch.total_timeout) == (1, 2, 3)
    assert (run.fetch.max_retries, run.fetch.backoff, run.fetch.max_redirects) == (0, 0.1, 1)
    assert run.fetch.max_bytes == 1000
    assert run.fetch_threads == 3


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        *(
            (f"--{name}=-1", f"--{name} -1 is negative")
            for name in ("max_labels", "max_images_per_label", "max_images", "num_shards")
        ),
        *(
            (f"--{name}=0", f"--{name} 0 is not positive")
            for name in ("min_images_per_label", "image_size", "min_image_side", "max_image_pixels", "max_image_bytes")
        ),
        (
            "--source=flickr",
            "unknown source 'flickr': choose one of bigquery, directory, idx, jsonl, manifest, object_list, "
            "open_access_csv, tfrecord",
        ),
        (
            "--max_labels=3 --labels_file=dict.txt",
            "--labels_file names the classes, --max_labels 3 counts them: give one",
        ),
        ("--num_shards=100000", "--num_shards 100000 is more than 99999"),
        ("--num_shards=1", "--num_shards 1 leaves no shard for validation: give 2 or --validation_fraction 0"),
        ("--jpeg_quality=0", "--jpeg_quality 0 is not between 1 and 95"),
        ("--jpeg_quality=96", "--jpeg_quality 96 is not between 1 and 95"),
        ("--validation_fraction=1", "--validation_fraction 1.0 is not at least 0 and below 1"),
        ("--validation_fraction=-0.1", "--validation_fraction -0.1 is not at least 0 and below 1"),
        ("--validation_fraction=nan", "--validation_fraction nan is not at least 0 and below 1"),
        ("--max_reject_fraction=1.1", "--max_reject_fraction 1.1 is not between 0 and 1"),
        ("--max_reject_fraction=nan", "--max_reject_fraction nan is not between 0 and 1"),
        ("--fetch_threads=0", "--fetch_threads 0 is not positive"),
        ("--max_requests_per_second=fast", "--max_requests_per_second 'fast': give a number, or HOST=NUMBER"),
        ("--max_requests_per_second=0", "--max_requests_per_second '0': give a number greater than 0"),
        ("--max_requests_per_second=h=-1", "--max_requests_per_second 'h=-1': give a number greater than 0"),
        ("--max_requests_per_second=nan", "--max_requests_per_second 'nan': give a number greater than 0"),
    ],
)
def test_a_value_out_of_range_is_named_with_what_to_type(argument: str, message: str) -> None:
    assert refused(*argument.split()) == message


@pytest.mark.parametrize("argument", ["--connect_timeout=0", "--max_retries=-1", "--backoff=nan", "--contact=é"])
def test_limits_of_fetch_are_checked_before_any_work(argument: str) -> None:
    name, value = argument.removeprefix("--").split("=")
    message = refused(argument)
    assert name in message
    assert value in message


def test_one_shard_is_enough_without_validation() -> None:
    options, _, _ = parse_arguments([*NEEDED, "--num_shards=1", "--validation_fraction=0"])
    assert options.num_shards == 1
    with pytest.raises(OptionError, match="--num_shards 1 leaves no shard"):
        dataset(num_shards=1, validation_fraction=0.0, validation_input="more.csv")


@pytest.mark.parametrize("missing", range(3))
def test_what_must_be_given(missing: int, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        parse_arguments(NEEDED[:missing] + NEEDED[missing + 1 :])
    assert caught.value.code == 2
    assert NEEDED[missing].split("=")[0] in capsys.readouterr().err


def test_rates_by_host() -> None:
    assert parse_rates([]) == MET_RATES
    assert parse_rates(["0.5"]) == (("", 0.5), *MET_RATES)
    assert parse_rates(["images.metmuseum.org=4", "b.example=3", "b.example=2"]) == (
        ("b.example", 2.0),
        MET_RATES[0],
        ("images.metmuseum.org", 4.0),
    )
    assert parse_rates(["inf"])[0] == ("", math.inf)


def test_arguments_of_beam_are_left_over_whole() -> None:
    _, _, rest = parse_arguments([*NEEDED, "--runner=DirectRunner", "--direct_num_workers", "3", "--inputs=x"])
    assert rest == ["--runner=DirectRunner", "--direct_num_workers", "3", "--inputs=x"]


def other(value: Any) -> Any:
    """Returns another value that is in range."""
    for several in (SOURCE_NAMES, IMAGES_FROM, API_IMAGES):
        if value in several:
            return next(name for name in several if name != value)
    if value == ():
        return ("culture=Japan",)
    if isinstance(value, bool):
        return not value
    return f"{value}x" if isinstance(value, str) else value + (0.125 if isinstance(value, float) else 2)


def test_another_value_of_any_option_is_another_data_set() -> None:
    first = dataset()
    found = {first.fingerprint()}
    for field in dataclasses.fields(first):
        changed = dataclasses.replace(first, **{field.name: other(getattr(first, field.name))})
        assert changed.fingerprint() not in found
        found.add(changed.fingerprint())
    assert len(found) == len(dataclasses.fields(first)) + 1


def test_the_fingerprint_stays_the_same() -> None:
    """If it changes on purpose, data sets that were begun earlier cannot go on."""
    assert dataset().fingerprint() == "6be5230ce32f49f9"


def test_how_a_run_goes_about_it_makes_no_other_data_set() -> None:
    arguments = ["--output=other", "--plan_only", "--retry_rejected", "--max_reject_fraction=1", "--fetch_threads=2"]
    arguments += ["--max_requests_per_second=1", "--backoff=9", "--verbose", "--runner=FlinkRunner"]
    assert parse_arguments([*NEEDED, *arguments])[0].fingerprint() == parse_arguments(NEEDED)[0].fingerprint()


def test_a_given_validation_is_a_second_source() -> None:
    (only,) = dataset(attribute="culture").sources(ReadOptions())
    assert (only.input, only.split, only.attribute) == ("list.csv", "", "culture")
    train, validation = dataset(validation_input="more.csv", attribute="culture").sources(ReadOptions())
    assert (train.input, train.split) == ("list.csv", "train")
    assert (validation.input, validation.split, validation.attribute) == ("more.csv", "validation", "culture")


def labels_file(folder: Path, content: str, **options: str) -> tuple[str, ...]:
    (folder / "dict.txt").write_text(content, encoding="utf-8-sig", newline="")
    return read_labels_file(str(folder / "dict.txt"), **options)


def test_a_labels_file_keeps_its_order_and_has_the_default_label_last(tmp_path: Path) -> None:
    content = "tulip\r\n\r\n  French,  Paris \r\ndaisy"
    assert labels_file(tmp_path, content) == ("tulip", "French, Paris", "daisy")
    assert labels_file(tmp_path, content, default_label="other") == ("tulip", "French, Paris", "daisy", "other")
    assert labels_file(tmp_path, content, default_label="tulip") == ("tulip", "French, Paris", "daisy")


def test_a_labels_file_that_fixes_no_classes(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=r"--labels_file .*dict\.txt has 'tulip' more than once"):
        labels_file(tmp_path, "tulip\ndaisy\n tulip\n")
    with pytest.raises(OptionError, match=r"--labels_file .*dict\.txt has no labels"):
        labels_file(tmp_path, "\n \n", default_label="other")
    with pytest.raises(OptionError, match=r"cannot read --labels_file .*no\.txt: there is no such file"):
        read_labels_file(str(tmp_path / "no.txt"))


def test_how_classes_are_chosen_follows_from_the_options(tmp_path: Path) -> None:
    (tmp_path / "dict.txt").write_text("b\na\n")
    options = dataset(labels_file=str(tmp_path / "dict.txt"), default_label="c", multi_label=True)
    assert LabelChoice.from_options(options) == LabelChoice(min_images=10, fixed=("b", "a", "c"), multi_label=True)
    assert LabelChoice.from_options(dataset(max_labels=5)) == LabelChoice(min_images=10, max_labels=5)


def test_an_option_that_nobody_knows() -> None:
    for unknown in ("--colour=red", "--max_label=3", "--direct_num_worker=3", "stray"):
        with pytest.raises(OptionError, match=rf"unknown option '{unknown}': see --help"):
            beam_options([unknown])


def test_a_runner_that_nobody_knows() -> None:
    with pytest.raises(OptionError, match="unknown --runner 'SparkleRunner': use DirectRunner, FlinkRunner or"):
        beam_options(["--runner=SparkleRunner"])


def test_options_of_beam() -> None:
    options = beam_options(["--direct_num_workers=3"])
    assert options.view_as(DirectOptions).direct_num_workers == 3
    assert is_local(options)
    assert not is_local(beam_options(["--runner=FlinkRunner"]))
    assert options.view_as(StandardOptions).runner is None


def test_workers_of_the_local_runner() -> None:
    assert local_workers(beam_options(["--direct_num_workers=3"]), bundles=100) == 3
    assert local_workers(beam_options(["--direct_num_workers=3"]), bundles=2) == 2
    assert local_workers(beam_options([]), bundles=1) == 1
    assert local_workers(beam_options([]), bundles=0) == 1
