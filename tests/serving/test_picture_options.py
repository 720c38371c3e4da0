import argparse
from pathlib import Path
from typing import Any

import pytest

from beam_pipelines.errors import OptionError
from beam_pipelines.fetch.fetcher import FetchLimits
from beam_pipelines.images import ImageLimits
from beam_pipelines.option_parser import OptionParser
from serving.picture_options import PictureOptions, add_picture_arguments, picture_options


def parse(*arguments: str) -> PictureOptions:
    parser = OptionParser(prog="p", allow_abbrev=False)
    parser.add_argument("--json", action="store_true")
    add_picture_arguments(parser)
    return picture_options(parser.parse_options(arguments))


def test_defaults_are_those_of_ingest() -> None:
    options = parse("a.jpg")
    assert options == PictureOptions(addresses=("a.jpg",))
    assert options.fetch == FetchLimits()
    assert options.limits == ImageLimits(min_side=1, max_pixels=100_000_000)


def test_pictures_may_stand_anywhere_among_the_options() -> None:
    options = parse("a.jpg", "--json", "-", "--contact", "me@example.org", "--max_image_bytes=9", "b c.jpg")
    assert options.addresses == ("a.jpg", "-", "b c.jpg")
    assert (options.fetch.contact, options.fetch.max_bytes) == ("me@example.org", 9)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("", "arguments are required: PICTURE"),
        ("a.jpg --max_image_pixels 0", "--max_image_pixels 0 is not positive"),
        ("a.jpg --max_image_bytes 0", "--max_image_bytes 0 is not positive"),
        ("a.jpg --fetch_threads 0", "--fetch_threads 0 is not positive"),
        ("a.jpg --max_requests_per_second fast", "--max_requests_per_second 'fast': give a number"),
        ("a.jpg --read_timeout 0", "read_timeout is 0.0; give a number above 0"),
        ("- a.jpg -", "standard input, which is one picture"),
        ("gs://bucket/folder/", "gs://bucket/folder/ is a directory: name its pictures"),
        ("a.jpg --fetch_thread 3", "unknown option '--fetch_thread': did you mean --fetch_threads?"),
    ],
)
def test_what_is_wrong_is_named(arguments: str, message: str) -> None:
    with pytest.raises(OptionError) as caught:
        parse(*arguments.split())
    assert message in str(caught.value)


def test_a_directory_is_for_batch_prediction(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=r"have all of them predicted with python -m beam_pipelines.batch_predict"):
        parse(str(tmp_path))


@pytest.mark.parametrize(("model", "bound"), [({}, 50), ({"max_image_pixels": 9}, 9), ({"max_image_pixels": 99}, 50)])
def test_a_model_may_take_smaller_pictures_only(model: dict[str, Any], bound: int) -> None:
    options = PictureOptions(addresses=("a.jpg",), max_image_pixels=50)
    assert options.within(model).limits.max_pixels == bound


def test_help_can_be_shown() -> None:
    parser = argparse.ArgumentParser()
    add_picture_arguments(parser)
    assert "--allow_private_addresses" in parser.format_help()
