from html.parser import HTMLParser
from typing import Any

from hypothesis import given

from beam_pipelines.report import render_report
from tests.beam_pipelines.builders import hostile_text

ATTACK = "<script>alert('&\"')</script>"


def info(**changes: Any) -> dict[str, Any]:
    """Returns what is known of a small data set."""
    values: dict[str, Any] = {
        "fingerprint": "0123456789abcdef",
        "options": {"source": "manifest", "input": "list.csv", "multi_label": False},
        "versions": {"pillow": "12.3"},
        "read": 1010,
        "written": 1001,
        "filtered": {"duplicate_uri": 4},
        "rejected": {"not_found": 5},
        "splits": {
            "train": {"examples": 1001, "labels": {"Japan": 1001}, "shards": [{"name": "a"}, {"name": "b"}]},
            "validation": {"examples": 0, "labels": {}, "shards": []},
        },
        "labels": {"Japan": 1001, "China": 0},
        "empty_labels": ["China"],
    }
    return {**values, **changes}


class Page(HTMLParser):
    """The tags and texts of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.texts: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def test_the_page_says_what_was_asked_for_and_what_came_of_it() -> None:
    texts = Page(render_report(info())).texts
    assert "1,010 rows read = 1,001 written + 4 filtered + 5 rejected" in texts
    for text in ("train (2 shards)", "validation (0 shards)", "Japan", "China", "2 classes", "not_found", "list.csv"):
        assert text in texts


def test_a_class_without_a_picture_stands_out() -> None:
    assert "<td class=empty>China</td>" in render_report(info())
    assert "<td class=empty>Japan</td>" not in render_report(info())


def test_texts_from_outside_stay_texts() -> None:
    page = render_report(info(labels={ATTACK: 3}, options={"input": ATTACK, ATTACK: 1}, filtered={}, rejected={}))
    assert "<script" not in page
    assert Page(page).texts.count(ATTACK) == 3
    assert Page(page).tags == Page(render_report(info())).tags


@given(hostile_text)
def test_no_label_changes_the_page_around_it(label: str) -> None:
    page = render_report(info(labels={label: 3}))
    assert Page(page).tags == Page(render_report(info())).tags
