"""Options of the labels command are checked before any work."""

import pytest

from beam_pipelines.errors import OptionError
from beam_pipelines.labels_options import LabelsOptions, parse_arguments

_SOURCE = ["--source", "manifest", "--input", "list.csv"]


def parsed(*arguments: str) -> LabelsOptions:
    return parse_arguments([*_SOURCE, *arguments])[0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "nothing to do: give --output"),
        (["--output", "o.csv", "--min_images_per_label", "0"], "--min_images_per_label 0 is not positive"),
        (["--output", "o.csv", "--chart", "c.png", "--no_chart"], "--chart c.png and --no_chart"),
        (["--works_output", "w.csv", "--chart", "c.png"], "--chart c.png shows counts"),
        (["--output", "o.csv", "--list_attributes", "--chart", "c.png"], "--chart c.png shows counts"),
        (["--list_attributes", "--works_output", "w.csv"], "--works_output w.csv: give one"),
        (["--output", "o.csv", "--works_output", "o.csv"], "o.csv is to be two files"),
        (["--output", "o.png"], "o.png is to be two files"),
        (["--output", "o.csv", "--source", "nowhere"], "unknown source 'nowhere'"),
        (["--output", "o.csv", "--bin", "-1"], "--bin -1 is negative"),
        (["--output", "o.csv", "--max_bytes_billed", "-1"], "--max_bytes_billed -1 is negative"),
    ],
)
def test_wrong_options_are_named(arguments: list[str], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        parsed(*arguments)


@pytest.mark.parametrize(
    ("arguments", "outputs"),
    [
        (["--output", "gs://bucket/a.b/counts.csv"], ["gs://bucket/a.b/counts.csv", "gs://bucket/a.b/counts.png"]),
        (["--output", "counts"], ["counts", "counts.png"]),
        (["--output", "counts.csv", "--no_chart"], ["counts.csv"]),
        (["--output", "counts.csv", "--chart", "c.png"], ["counts.csv", "c.png"]),
        (["--output", "a.csv", "--list_attributes"], ["a.csv"]),
        (["--list_attributes"], []),
        (["--works_output", "works.csv"], ["works.csv"]),
        (["--output", "a.csv", "--works_output", "w.csv"], ["a.csv", "a.png", "w.csv"]),
    ],
)
def test_what_is_written(arguments: list[str], outputs: list[str]) -> None:
    assert parsed(*arguments).outputs() == outputs


def test_other_options_are_beams_and_the_readers() -> None:
    options, reading, beam = parse_arguments(
        [*_SOURCE, "--output", "o.csv", "--filter", "a=b", "--filter", "a=c", "--max_retries", "7", "--runner=Flink"]
    )
    assert options.attribute == "label"
    assert options.filter == ("a=b", "a=c")
    assert reading.fetch.max_retries == 7
    assert beam == ["--runner=Flink"]
