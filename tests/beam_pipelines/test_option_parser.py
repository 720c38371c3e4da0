import argparse

import pytest

from beam_pipelines.errors import OptionError
from beam_pipelines.option_parser import OptionParser, comma_separated


@pytest.fixture
def parser() -> OptionParser:
    parser = OptionParser(prog="p", allow_abbrev=False, argument_default=argparse.SUPPRESS)
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--device")
    return parser


def test_what_is_not_given_is_not_there(parser: OptionParser) -> None:
    assert parser.parse_options(["--epochs=3"]) == {"epochs": 3}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--epoch=3", "unknown option '--epoch=3': did you mean --epochs? see --help"),
        ("--devic cpu", "unknown option '--devic': did you mean --device? see --help"),
        ("--seed=3", "unknown option '--seed=3': see --help"),
        ("stray", "unknown option 'stray': see --help"),
        ("--epochs=few", "argument --epochs: invalid int value: 'few': see --help"),
        ("--epochs", "argument --epochs: expected one argument: see --help"),
    ],
)
def test_what_is_wrong_is_told_in_one_line(parser: OptionParser, arguments: str, message: str) -> None:
    with pytest.raises(OptionError) as caught:
        parser.parse_options(arguments.split())
    assert str(caught.value) == message


def test_a_list_is_parted_by_commas() -> None:
    assert comma_separated("a, b*,,c ") == ("a", "b*", "c")
    assert comma_separated(",") == ()


@pytest.fixture
def parser_of_files() -> OptionParser:
    parser = OptionParser(prog="p", allow_abbrev=False)
    parser.add_argument("files", nargs="+")
    parser.add_argument("--top", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    return parser


@pytest.mark.parametrize(
    "arguments", ["a - --top 3 --json", "--top 3 a - --json", "a --top=3 - --json", "a --json - --top 3"]
)
def test_files_may_stand_anywhere(parser_of_files: OptionParser, arguments: str) -> None:
    assert parser_of_files.parse_options(arguments.split()) == {"files": ["a", "-"], "top": 3, "json": True}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--top 3", "the following arguments are required: files: see --help"),
        ("a --topp 3 b", "unknown option '--topp': did you mean --top? see --help"),
        ("a --top b", "argument --top: invalid int value: 'b': see --help"),
    ],
)
def test_what_is_wrong_with_files_among_options_is_told(
    parser_of_files: OptionParser, arguments: str, message: str
) -> None:
    with pytest.raises(OptionError) as caught:
        parser_of_files.parse_options(arguments.split())
    assert str(caught.value) == message
