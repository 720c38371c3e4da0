import base64
import hashlib
import re
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from beam_pipelines.artwork import CARRIED_ATTRIBUTES
from beam_pipelines.rejects import Dropped, Kind, Reason
from beam_pipelines.report.contact_sheet import Thumbnail
from beam_pipelines.report.page import account
from beam_pipelines.report.reasons import EXPLANATIONS
from tests.beam_pipelines.builders import hostile_text
from tests.beam_pipelines.html_pages import ATTACK, Page, policy, text_of
from tests.beam_pipelines.report.data_sets import info, render, sized, thumbnail


def test_the_head_accounts_for_every_row() -> None:
    text = text_of(render())
    assert "5,010 rows read = 5,001 written + 4 filtered + 5 rejected" in text
    assert "5,001 pictures in 3 classes" in text
    assert [(part.name, part.count) for part in account(info())] == [
        ("written", 5001),
        ("filtered", 4),
        ("rejected", 5),
    ]


def test_every_number_and_every_option_of_the_information_is_on_the_page() -> None:
    values = info()
    text = text_of(render(values, thumbnails=[thumbnail()]))
    for split in values["splits"].values():
        for count in (split["examples"], *split["labels"].values()):
            assert f"{count:,}" in text
        for shard in split["shards"]:
            assert f"{shard['name']} {shard['examples']:,} {shard['sha256']}" in text
    for label, count in values["labels"].items():
        assert f"{label} {count:,}" in text  # the index of classes
    for kind in Kind:
        for reason, count in values[kind].items():
            assert f"{reason} {count:,} {EXPLANATIONS[Reason(reason)]}" in text
    for name, value in values["options"].items():
        assert name in text
        assert not isinstance(value, str) or value in text
    for text_of_value in ("pillow", "12.3", values["fingerprint"]):
        assert text_of_value in text


def test_that_nothing_was_left_out_is_shown_too() -> None:
    page = render(info(read=5001, filtered={}, rejected={}))
    assert {"filtered", "rejected"} <= set(Page(page).values("id"))
    assert {"#filtered", "#rejected"} <= set(Page(page).values("href"))
    assert text_of(page).count("0 rows of 5,001.") == 2


def test_a_page_of_pictures_that_were_only_checked_says_so() -> None:
    checked = text_of(render(info(checked_only=True)))
    assert "no data set was written" in checked
    assert "5,001 would be written" in checked
    assert "no data set was written" not in text_of(render())
    assert "Contact sheet" not in checked


def test_the_same_values_give_the_same_page() -> None:
    assert render(thumbnails=[thumbnail()]) == render(thumbnails=[thumbnail()])


@pytest.mark.parametrize("classes", [2, 50])
def test_the_policy_allows_the_pages_own_styles_and_scripts_and_nothing_else(classes: int) -> None:
    values = sized({f"class {number}": 1 for number in range(classes)})
    page = render(values, thumbnails=[thumbnail("class 0")])
    allowed = policy(page)
    assert allowed["default-src"] == ["'none'"]
    assert allowed["img-src"] == ["data:"]
    for tag in ("style", "script"):
        texts = re.findall(rf"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
        hashes = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in texts]
        assert allowed[f"{tag}-src"] == ([f"'sha256-{value}'" for value in hashes] or ["'none'"])
    assert not any(name == "style" or name.startswith("on") for name in {name for _, name in Page(page).kinds()})


def test_nothing_is_loaded_from_anywhere() -> None:
    page = render(thumbnails=[thumbnail()])
    assert not {"link", "iframe", "object", "embed", "base", "form", "use", "image"} & set(Page(page).tags)
    assert all(value and value.startswith("data:image/jpeg;base64,") for value in Page(page).values("src"))
    assert not re.search(r"@import|url\(|fetch\(|XMLHttpRequest", page)


def test_the_page_is_light_and_dark() -> None:
    page = render()
    assert "color-scheme: light dark" in page
    assert "@media (prefers-color-scheme: dark)" in page


def test_every_column_of_a_table_has_a_header() -> None:
    page = Page(render(thumbnails=[thumbnail()]))
    assert page.tags.count("th") == len([1 for tag, name, _ in page.attributes if (tag, name) == ("th", "scope")])


def everywhere(text: str) -> tuple[dict[str, Any], dict[str, list[Dropped]], list[Thumbnail]]:
    """Returns a data set, examples and thumbnails with `text` wherever text comes from outside."""
    values = sized(
        {text: 3, "other": 0},
        options={**info()["options"], "input": text, "attribute": text, "filter": [text], text: text},
        versions={text: text},
        fingerprint=text,
    )
    values.update(read=4, rejected={"not_found": 1})
    dropped = Dropped(key=text, uri=text, reason=Reason.NOT_FOUND, detail=text)
    attributes = dict.fromkeys(CARRIED_ATTRIBUTES, text)
    shown = [thumbnail(text, key=text, uri=text, attributes=attributes), thumbnail(text, uri=f"http://a{text}")]
    return values, {"not_found": [dropped]}, shown


def shape(text: str) -> tuple[list[str], set[tuple[str, str]]]:
    """Returns the elements and kinds of attributes of a page with `text` everywhere, links aside."""
    values, examples, thumbnails = everywhere(text)
    page = render(values, examples=examples, thumbnails=thumbnails)
    page.encode()
    parsed = Page(page)
    assert all(re.match(r"#[a-z]|https?://", value or "") for value in parsed.values("href"))
    assert all((value or "").startswith("data:image/jpeg;base64,") for value in parsed.values("src"))
    kept = {kind for kind in parsed.kinds() if kind[0] != "a"}
    assert {name for tag, name in parsed.kinds() if tag == "a"} <= {"href", "rel"}
    return [tag for tag in parsed.tags if tag != "a"], kept


def test_texts_from_outside_stay_texts() -> None:
    assert shape(ATTACK) == shape("plain")
    values, examples, thumbnails = everywhere(ATTACK)
    text = "".join(Page(render(values, examples=examples, thumbnails=thumbnails)).texts)
    assert text.count(ATTACK) >= 15


@settings(max_examples=50, deadline=None)
@given(st.sampled_from(["", "javascript:", "</style>", "http://", '" onload=', "</title><b>"]), hostile_text)
def test_no_text_changes_the_page_around_it(start: str, text: str) -> None:
    if (hostile := start + text) not in ("", "other"):
        assert shape(hostile) == shape("plain")


def test_thumbnails_can_be_made_without_jinja() -> None:
    code = "import sys; sys.modules['jinja2'] = None; import beam_pipelines.thumbnails, beam_pipelines.report.page"
    subprocess.run([sys.executable, "-c", code], check=True)
