import pytest

from beam_pipelines.errors import OptionError
from trainer.exporting.options import ExportOptions, parse_arguments


def test_what_is_not_given() -> None:
    options = parse_arguments(["--run", "run", "--output", "model/1"])
    assert options == ExportOptions(run="run", output="model/1")
    assert (options.checkpoint, options.dataset, options.max_image_pixels) == ("best", "", 100_000_000)


def test_all_that_can_be_given() -> None:
    options = parse_arguments(
        ["--run=run", "--output=model/1", "--checkpoint=120", "--dataset=data", "--max_image_pixels=5000", "--verbose"]
    )
    assert options == ExportOptions(
        run="run", output="model/1", checkpoint="120", dataset="data", max_image_pixels=5_000, verbose=True
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--output", "model/1"], "--run"),
        (["--run", "run"], "--output"),
        (["--run", "", "--output", "model/1"], "--run is empty"),
        (["--run", "run", "--output", ""], "--output is empty: name a version, such as MODEL/1"),
        (["--run", "run", "--output", "model/1", "--checkpoint", "newest"], "--checkpoint 'newest' is no checkpoint"),
        (["--run", "run", "--output", "model/1", "--max_image_pixels", "0"], "--max_image_pixels 0"),
        (["--run", "run", "--output", "model/1", "--max_image_pixel", "9"], "did you mean --max_image_pixels"),
    ],
)
def test_what_is_refused(arguments: list[str], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        parse_arguments(arguments)
