import base64
import dataclasses
import hashlib
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from html.parser import HTMLParser
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from beam_pipelines.artwork import CARRIED_ATTRIBUTES
from beam_pipelines.options import DatasetOptions
from beam_pipelines.rejects import Dropped, Kind, Reason
from beam_pipelines.report import (
    EXPLANATIONS,
    PictureSizes,
    Thumbnail,
    account,
    address,
    class_facts,
    class_rows,
    histograms,
    long_tail,
    measured_facts,
    reason_rows,
    render_report,
    sheets,
)
from tests.beam_pipelines.builders import hostile_text

ATTACK = """"><script>alert('&"')</script><img src=x onerror=alert(1)>{{ 7 * 7 }}"""
SIZES = PictureSizes(shorter_sides={100: 1, 320: 2, 4000: 3}, aspect_ratios={0.7: 5, 1.0: 1}, kilobytes={0: 2, 700: 4})
NO_SIZES = PictureSizes(shorter_sides={}, aspect_ratios={}, kilobytes={})


def info(**changes: Any) -> dict[str, Any]:
    """Returns what is known of a small data set."""
    values: dict[str, Any] = {
        "format": 2,
        "fingerprint": "0123456789abcdef",
        "options": DatasetOptions(source="manifest", input="list.csv").to_json(),
        "versions": {"pillow": "12.3"},
        "read": 5010,
        "written": 5001,
        "filtered": {"duplicate_uri": 4},
        "rejected": {"not_found": 3, "timed_out": 2},
        "splits": {
            "train": {
                "examples": 4001,
                "labels": {"Japan": 3001, "Iran": 1000},
                "shards": [{"name": "train-00000-of-00001.tfrecord", "examples": 4001, "sha256": "0a1b"}],
            },
            "validation": {
                "examples": 1000,
                "labels": {"Japan": 1000},
                "shards": [{"name": "validation-00000-of-00001.tfrecord", "examples": 1000, "sha256": "2c3d"}],
            },
        },
        "labels": {"Japan": 4001, "Iran": 1000, "China": 0},
        "empty_labels": ["China"],
    }
    return {**values, **changes}


def sized(sizes: Mapping[str, int], **changes: Any) -> dict[str, Any]:
    """Returns what is known of a data set of classes of these sizes, all of it for training."""
    number = sum(sizes.values())
    splits = {
        "train": {"examples": number, "labels": {label: size for label, size in sizes.items() if size}, "shards": []},
        "validation": {"examples": 0, "labels": {}, "shards": []},
    }
    empty = [label for label, size in sizes.items() if not size]
    return info(
        read=number,
        written=number,
        filtered={},
        rejected={},
        splits=splits,
        labels=sizes,
        empty_labels=empty,
        **changes,
    )


def thumbnail(label: str = "Japan", **changes: Any) -> Thumbnail:
    """Returns a thumbnail of a museum's work."""
    made = Thumbnail(
        key="17/0",
        uri="https://museum.example/17.jpg",
        split="train",
        label=label,
        jpeg=b"\xff\xd8 a JPEG",
        width=128,
        height=96,
        attributes={"title": "Wave", "artist": "Hokusai", "date": "1831", "credit_line": "Rogers Fund"},
    )
    return dataclasses.replace(made, **changes)


def render(
    values: Mapping[str, Any] | None = None,
    *,
    sizes: PictureSizes = SIZES,
    examples: Mapping[str, Sequence[Dropped]] | None = None,
    thumbnails: Sequence[Thumbnail] = (),
) -> str:
    """Returns the page, by default of the small data set."""
    return render_report(values or info(), sizes=sizes, examples=examples or {}, thumbnails=thumbnails)


def text_of(page: str) -> str:
    """Returns what can be read on a page, on one line, with a space between elements."""
    return " ".join(" ".join(Page(page).texts).split())


class Page(HTMLParser):
    """The elements, attributes and texts of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str, str | None]] = []
        self.texts: list[str] = []
        self._raw = False
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value) for name, value in attrs]
        self._raw = tag in ("style", "script")

    def handle_endtag(self, tag: str) -> None:
        self._raw = False

    def handle_data(self, data: str) -> None:
        if not self._raw:
            self.texts.append(data)

    def values(self, name: str) -> list[str | None]:
        return [value for _, attribute, value in self.attributes if attribute == name]

    def kinds(self) -> set[tuple[str, str]]:
        return {(tag, name) for tag, name, _ in self.attributes}


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


def test_every_reason_is_explained() -> None:
    assert set(EXPLANATIONS) == set(Reason)
    assert len(set(EXPLANATIONS.values())) == len(Reason)
    for explanation in EXPLANATIONS.values():
        assert explanation.endswith(".")
        assert explanation.count("`") % 2 == 0


def test_explanations_name_only_options_that_there_are() -> None:
    from beam_pipelines.options import make_parser

    named = set(re.findall(r"--\w+", " ".join(EXPLANATIONS.values())))
    assert named
    assert named <= set(make_parser()._option_string_actions)


def test_only_reasons_that_may_pass_say_so() -> None:
    assert text_of(render(info(rejected={"not_found": 5}))).count("--retry_rejected") == 0
    assert text_of(render(info(rejected={"timed_out": 5}))).count("--retry_rejected") == 1


def test_reasons_come_commonest_first_with_their_examples() -> None:
    row = Dropped(key="17/0", uri="http://museum.example/17.jpg", reason=Reason.NOT_FOUND, detail="status 404")
    rows = reason_rows({"empty": 1, "not_found": 3}, Kind.REJECTED, {"not_found": [row]})
    assert [(row.reason, row.count, row.part.width, len(row.examples)) for row in rows] == [
        (Reason.NOT_FOUND, 3, 75, 1),
        (Reason.EMPTY, 1, 25, 0),
    ]
    text = text_of(render(examples={"not_found": [row]}))
    assert "17/0 http://museum.example/17.jpg status 404" in text


def test_classes_keep_their_ids_and_the_largest_is_shown_first() -> None:
    rows = class_rows(sized({"small": 1, "large": 5}))
    assert [(row.number, row.label, row.total) for row in rows] == [(0, "small", 1), (1, "large", 5)]
    assert [part.width for part in rows[0].parts] == [20, 0]
    text = text_of(render(sized({"small": 1, "large": 5})))
    assert text.index("large 5 0 5") < text.index("small 1 0 1")


def test_facts_are_of_the_classes_that_have_pictures() -> None:
    facts = class_facts(class_rows(info()))
    assert (facts.number, facts.empty, facts.labelled, facts.median) == (3, 1, 5001, 2500.5)
    assert facts.largest is not None
    assert facts.smallest is not None
    assert (facts.largest.label, facts.smallest.label, facts.imbalance) == ("Japan", "Iran", 4.001)
    assert facts.missing == {"train": 0, "validation": 1}


def test_the_long_tail_says_how_much_the_largest_classes_hold() -> None:
    tail = long_tail(class_rows(sized({"a": 1, "b": 6, "c": 2, "d": 3})))
    assert tail is not None
    assert tail.covered == {1: 6, 2: 9, 3: 11}
    assert tail.half == 1
    text = text_of(render())
    assert "Half of the pictures are in the largest class." in text
    assert "1 4,001 80.0% 2 5,001 100%" in text


def test_pictures_smaller_than_the_data_sets_are_counted() -> None:
    measured = measured_facts(SIZES, image_size=321)
    assert measured is not None
    assert dataclasses.astuple(measured) == (6, 100, 320, 4000, 3)
    assert "1 picture of 6 (16.7%) is smaller than image_size 320" in text_of(render())


def test_histograms_count_every_picture_and_mark_the_image_size() -> None:
    sides, shape, file_size = histograms(SIZES, image_size=320)
    for chart in (sides, shape, file_size):
        assert sum(column.count for column in chart.columns) == 6
    below = [column for column in sides.columns if sides.mark and column.start < sides.mark.at]
    assert sum(column.count for column in below) == 1
    assert "320" in [tick.text for tick in sides.ticks]
    assert {column.name: column.count for column in shape.columns if column.count} == {"0.7 : 1": 5, "1.0 : 1": 1}
    assert {column.name: column.count for column in file_size.columns if column.count} == {
        "0 kB to 1 kB": 2,
        "500 kB to 1 MB": 4,
    }


@given(st.dictionaries(st.integers(1, 60_000), st.integers(1, 9), min_size=1), st.integers(1, 5000))
def test_histograms_of_any_sizes_lose_no_picture(sides: dict[int, int], image_size: int) -> None:
    ratios: dict[float, int] = {round(side / 320, 1): count for side, count in sides.items()}
    sizes = PictureSizes(shorter_sides=sides, aspect_ratios=ratios, kilobytes={side - 1: 1 for side in sides})
    wholes = (sum(sides.values()), sum(ratios.values()), len(sides))
    for chart, whole in zip(histograms(sizes, image_size=image_size), wholes, strict=True):
        assert sum(column.count for column in chart.columns) == whole
        assert len(chart.ticks) <= 7


def test_sizes_that_are_not_known_are_left_out() -> None:
    assert histograms(NO_SIZES, image_size=320) == []
    assert measured_facts(NO_SIZES, image_size=320) is None
    assert "Picture sizes" not in text_of(render(sizes=NO_SIZES))


def test_a_thumbnail_has_its_caption_and_leads_to_its_picture() -> None:
    page = render(thumbnails=[thumbnail(attributes={**thumbnail().attributes, "rights": "© Museum"})])
    assert "Wave Hokusai 1831 Rogers Fund © Museum" in text_of(page)
    figure = page[page.index("<figure>") : page.index("</figure>")]
    assert 'href="https://museum.example/17.jpg" rel="noreferrer noopener"' in figure
    assert f'src="data:image/jpeg;base64,{base64.b64encode(thumbnail().jpeg).decode()}"' in figure
    assert 'width="128" height="96" alt="Wave (Japan)"' in figure


def test_a_thumbnail_without_a_title_is_known_by_its_key() -> None:
    page = render(thumbnails=[thumbnail(attributes={}, split="validation")])
    figure = Page(page[page.index("<figure>") : page.index("</figure>")])
    assert figure.values("alt") == ["17/0 (Japan)"]
    assert " ".join(figure.texts).split() == ["17/0", "validation"]


def test_every_class_has_a_sheet_even_without_a_picture() -> None:
    rows = class_rows(info())
    made = sheets(rows, [thumbnail("Iran"), thumbnail("Japan"), thumbnail("Japan")])
    assert [(sheet.row.label, len(sheet.tiles)) for sheet in made] == [("Japan", 2), ("Iran", 1), ("China", 0)]
    page = render(thumbnails=[thumbnail()])
    assert "China no picture 0 pictures, 0 shown This class ended with no picture." in text_of(page)
    assert "No picture of this class is shown." in text_of(page)
    assert {"#class-0", "#class-1", "#class-2"} <= set(Page(page).values("href"))
    assert {"class-0", "class-1", "class-2"} <= set(Page(page).values("id"))


def test_a_class_without_a_picture_stands_out() -> None:
    text = text_of(render())
    assert "China no picture 0 0 0 0%" in text
    assert "Iran 1,000 0 1,000 20.0%" in text
    assert "1 without a picture" in text
    assert "1 class has no picture for validation" in text


def test_a_page_of_pictures_that_were_only_checked_says_so() -> None:
    checked = text_of(render(info(checked_only=True)))
    assert "no data set was written" in checked
    assert "5,001 would be written" in checked
    assert "no data set was written" not in text_of(render())
    assert "Contact sheet" not in checked


@pytest.mark.parametrize("sizes", [{}, {"one": 0}, {"one": 7}, {"one": 1, "two": 0}])
def test_few_classes_and_empty_ones_are_shown(sizes: dict[str, int]) -> None:
    text = text_of(render(sized(sizes), sizes=NO_SIZES))
    assert f"in {len(sizes)} class{'' if len(sizes) == 1 else 'es'}" in text


def test_many_classes_fold_and_stay_small() -> None:
    labels = {f"class {number} " + "x" * 180: 600 - number for number in range(600)}
    page = render(sized(labels), thumbnails=[thumbnail(label, jpeg=bytes(3000)) for label in labels for _ in range(2)])
    assert len(page) < 7_000_000
    assert page.count('<details class="sheet"') == 600
    assert page.count(" data-named open>") == 5
    assert "560 smaller classes" in text_of(page)
    assert all(label in page for label in labels)


def test_the_same_values_give_the_same_page() -> None:
    assert render(thumbnails=[thumbnail()]) == render(thumbnails=[thumbnail()])


def policy(page: str) -> dict[str, list[str]]:
    """Returns the page's Content-Security-Policy, by directive."""
    (content,) = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]*)"', page)
    directives = [directive.split() for directive in content.replace("&#39;", "'").split(";")]
    return {name: values for name, *values in directives}


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


@pytest.mark.parametrize(
    ("uri", "is_link"),
    [
        ("http://museum.example/a picture.jpg", True),
        ("HTTPS://museum.example/é.jpg", True),
        ("javascript:alert(1)", False),
        ("JaVaScRiPt://museum.example/%0aalert(1)", False),
        ("data:text/html,<script>alert(1)</script>", False),
        ("gs://bucket/object.jpg", False),
        ("/a/path.jpg", False),
        ("http:///nowhere", False),
        ("http://museum.example/\u202egpj.exe", False),
        ("http://museum.example/" + "x" * 3000, False),
        (" http://museum.example/", False),
        ("", False),
    ],
)
def test_only_addresses_of_the_web_become_links(uri: str, is_link: bool) -> None:
    assert address(uri).link == (uri if is_link else "")
    assert len(address(uri).text) <= 300


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
    code = "import sys; sys.modules['jinja2'] = None; import beam_pipelines.report"
    subprocess.run([sys.executable, "-c", code], check=True)
