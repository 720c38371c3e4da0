import pytest
from hypothesis import given
from markupsafe import Markup

from beam_pipelines.pages import percent, thousands, visible
from tests.beam_pipelines.builders import hostile_text


@pytest.mark.parametrize(
    ("part", "whole", "text"),
    [(0, 0, "0%"), (0, 9, "0%"), (1, 3, "33.3%"), (9, 9, "100%"), (1, 10**6, "0.1%"), (999_999, 10**6, "99.9%")],
)
def test_a_share_is_nothing_or_all_only_if_it_is(part: int, whole: int, text: str) -> None:
    assert percent(part, whole) == text


def test_thousands_are_parted() -> None:
    assert thousands(1234567) == "1,234,567"


@pytest.mark.parametrize(
    ("text", "shown"),
    [("plain é 画", "plain é 画"), ("a\u202eb", "a\\u202eb"), ("\0\n", "\\x00\\n"), ("\udc80", "\\udc80")],
)
def test_characters_that_do_not_show_are_written_out(text: str, shown: str) -> None:
    assert visible(text) == shown


def test_markup_and_numbers_are_left_alone() -> None:
    assert visible(Markup("<b>\n</b>")) == "<b>\n</b>"
    assert visible(3) == 3


@given(hostile_text)
def test_what_is_visible_can_be_encoded(text: str) -> None:
    assert visible(text).isprintable()
    visible(text).encode()
