import dataclasses

from hypothesis import given
from hypothesis import strategies as st

from beam_pipelines.report.sizes import PictureSizes, histograms, measured_facts
from tests.beam_pipelines.html_pages import text_of
from tests.beam_pipelines.report.data_sets import NO_SIZES, SIZES, render


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
