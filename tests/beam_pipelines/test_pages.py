import base64
import hashlib
import re
from pathlib import Path

import pytest
from hypothesis import given
from markupsafe import Markup

from beam_pipelines.pages import percent, render_page, thousands, visible
from tests.beam_pipelines.builders import hostile_text
from tests.beam_pipelines.html_pages import policy, text_of

TEMPLATE = """{% set styles = ["a.css"] %}{% set scripts = ["a.js"] %}{% extends "base.html" %}
{% from "pieces.html" import pictures %}
{% block title %}Title{% endblock %}
{% block main %}<p>{{ text }}: {{ pictures(1234) }}</p>{% endblock %}"""


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


@pytest.fixture
def other_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Makes a package with a page of its own and returns its name."""
    folder = tmp_path / "package_of_a_page" / "templates"
    folder.mkdir(parents=True)
    (folder.parent / "__init__.py").write_text("")
    for name, content in {"a.html": TEMPLATE, "a.css": "p { color: red; }", "a.js": '"use strict";'}.items():
        (folder / name).write_text(content)
    monkeypatch.syspath_prepend(str(tmp_path))
    return folder.parent.name


def test_a_page_of_another_package_shares_what_all_pages_have(other_package: str) -> None:
    page = render_page("a.html", package=other_package, text="<b>\0")
    assert text_of(page) == "Title <b>\\x00: 1,234 pictures"
    styles, scripts = (re.findall(f"<{tag}>(.*?)</{tag}>", page, re.DOTALL) for tag in ("style", "script"))
    assert [len(styles), scripts] == [2, ['"use strict";']]
    assert styles[1] == "p { color: red; }"
    for directive, sources in (("style-src", styles), ("script-src", scripts)):
        digests = [base64.b64encode(hashlib.sha256(source.encode()).digest()).decode() for source in sources]
        assert policy(page)[directive] == [f"'sha256-{digest}'" for digest in digests]
