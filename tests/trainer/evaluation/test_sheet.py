from PIL import Image

from tests.trainer.evaluation.shown import judged, picture
from trainer.evaluation.figures import Judged
from trainer.evaluation.sheet import caption, draw_sheet

TEAL, RUST = (0x16, 0x65, 0x5D), (0xB4, 0x49, 0x0A)


def colours(sheet: Image.Image) -> set[object]:
    return {colour for _, colour in sheet.getcolors(1 << 24) or []}


def sheet_of(*examples: Judged) -> Image.Image:
    return draw_sheet(examples, {"17/0": picture()})


def test_right_and_wrong_have_frames_of_their_own() -> None:
    assert TEAL in colours(sheet_of(judged("pants")))
    assert RUST not in colours(sheet_of(judged("pants")))
    assert RUST in colours(sheet_of(judged("hat")))
    assert TEAL not in colours(sheet_of(judged("hat")))


def test_what_is_written_differs_not_by_colour_alone() -> None:
    assert caption(judged("pants")) == ["✓ 75% pants"]
    assert caption(judged("hat", "gloves")) == ["✗ 75% pants", "is hat, gloves"]
    assert caption(Judged(key="", labels=(), top=(("hat", 0.5),))) == ["✗ 50% hat", "is nothing"]


def test_the_label_is_written_where_it_is_another_one() -> None:
    sheets = {sheet_of(judged(label)).tobytes() for label in ("hat", "gloves")}
    assert len(sheets) == 2


def test_pictures_stand_in_rows() -> None:
    one, nine = sheet_of(judged()), sheet_of(*[judged()] * 9)
    assert nine.width > 7 * one.width
    assert nine.height > 1.5 * one.height
    assert nine.size == sheet_of(*[judged()] * 16).size


def test_an_example_without_a_picture_has_an_empty_frame() -> None:
    empty, full = sheet_of(judged(key="absent")), sheet_of(judged())
    assert empty.size == full.size
    assert len(colours(full)) > len(colours(empty))


def test_any_label_can_be_written() -> None:
    for label in ("漢字" * 60, "עברית", "a\nb\0\udc80", ""):
        assert sheet_of(judged(label, top=[(label, 1.0), ("x", 0.0)])).size == sheet_of(judged()).size
