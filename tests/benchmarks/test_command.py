import pytest

from beam_pipelines.errors import OptionError, RunError, UserError
from benchmarks.command import exit_code, make_parser, positive


@pytest.mark.parametrize(("met", "code"), [(True, 0), (False, 1)])
def test_a_goal_that_is_missed_is_told_by_the_exit_code(met: bool, code: int) -> None:
    assert exit_code(lambda: met) == code


@pytest.mark.parametrize(("error", "code"), [(RunError("no nginx"), 1), (OptionError("no nginx"), 2)])
def test_what_fails_is_told_in_one_line(error: UserError, code: int, capsys: pytest.CaptureFixture[str]) -> None:
    def compare() -> bool:
        raise error

    assert exit_code(compare) == code
    assert capsys.readouterr().err == "error: no nginx\n"


def test_help_shows_what_a_benchmark_does_as_it_is_written(capsys: pytest.CaptureFixture[str]) -> None:
    parser = make_parser("benchmarks.one", "Compares.\n\n  ours   this\n  other  that\n")
    parser.add_argument("--rounds", type=positive)
    text = parser.format_help()
    assert text.startswith("usage: python -m benchmarks.one")
    assert "  ours   this\n  other  that\n" in text
    with pytest.raises(SystemExit):
        parser.parse_args(["--rounds", "0"])
    assert "0 is below 1" in capsys.readouterr().err
