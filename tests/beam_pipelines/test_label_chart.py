"""The chart can be drawn of any counts, without a word."""

import warnings
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from beam_pipelines.drawing import clipped
from beam_pipelines.label_chart import draw_label_chart
from tests.beam_pipelines.builders import hostile_text


def size_of_chart(counts: Mapping[str, int], path: Path, *, threshold: int = 10) -> tuple[int, int]:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        draw_label_chart(counts, str(path), attribute="culture", threshold=threshold)
    with Image.open(path, formats=["PNG"]) as picture:
        picture.load()
        return picture.size


@pytest.mark.parametrize(
    "counts",
    [
        {},
        {"Japan": 1},
        {"$\\frac{1}{$": 3, "x_1$^2$": 2, "": 1},
        {"日本": 30, "ქართული": 12, "عربى": 3, "🏺": 2, "\udc80\a\u202e": 1},
        {f"{'a long name ' * 9}{number}": 600 - number for number in range(600)},
    ],
)
def test_any_counts_can_be_drawn(tmp_path: Path, counts: dict[str, int]) -> None:
    width, height = size_of_chart(counts, tmp_path / "chart.png")
    assert width > 1000
    assert height > 300


def test_only_the_commonest_are_named(tmp_path: Path) -> None:
    sizes = [
        size_of_chart({str(number): 9 for number in range(count)}, tmp_path / "chart.png") for count in (39, 40, 600)
    ]
    assert sizes[0][1] < sizes[1][1] == sizes[2][1]


def test_the_same_counts_give_the_same_bytes(tmp_path: Path) -> None:
    charts = [tmp_path / name for name in ("one.png", "two.png", "another.png")]
    for path, threshold in zip(charts, (10, 10, 20), strict=True):
        size_of_chart({"Japan": 30, "China": 15}, path, threshold=threshold)
    one, two, another = (path.read_bytes() for path in charts)
    assert one == two != another


@given(hostile_text | st.text(min_size=60))
def test_names_are_short_and_can_be_drawn(label: str) -> None:
    name = clipped(label)
    assert 0 < len(name) <= 40
    assert name.isprintable()
