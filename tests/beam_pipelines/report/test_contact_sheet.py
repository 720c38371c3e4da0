import base64

from beam_pipelines.report.classes import class_rows
from beam_pipelines.report.contact_sheet import sheets
from tests.beam_pipelines.html_pages import Page, text_of
from tests.beam_pipelines.report.data_sets import info, render, sized, thumbnail


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


def test_many_classes_fold_and_stay_small() -> None:
    labels = {f"class {number} " + "x" * 180: 600 - number for number in range(600)}
    page = render(sized(labels), thumbnails=[thumbnail(label, jpeg=bytes(3000)) for label in labels for _ in range(2)])
    assert len(page) < 7_000_000
    assert page.count('<details class="sheet"') == 600
    assert page.count(" data-named open>") == 5
    assert "560 smaller classes" in text_of(page)
    assert all(label in page for label in labels)
