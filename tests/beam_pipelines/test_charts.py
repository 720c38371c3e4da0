import itertools
import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from beam_pipelines.charts import binned, columns, edge_ticks, half_octaves, ranked, round_steps, stacked

counts = st.lists(st.integers(min_value=0, max_value=10**9), min_size=1, max_size=50).filter(any)


def test_parts_of_a_bar_follow_each_other() -> None:
    parts = stacked({"written": 5, "filtered": 3, "rejected": 2}, whole=20)
    assert [(part.name, part.start, part.width) for part in parts] == [
        ("written", 0, 25),
        ("filtered", 25, 15),
        ("rejected", 40, 10),
    ]


def test_a_bar_of_nothing_has_no_width() -> None:
    assert [part.width for part in stacked({"written": 0}, whole=0)] == [0]


def test_the_highest_column_fills_the_chart() -> None:
    bars = columns(["a", "b"], [4, 1])
    assert [(bar.name, bar.count, bar.start, bar.width, bar.height) for bar in bars] == [
        ("a", 4, 0, 50, 100),
        ("b", 1, 50, 50, 25),
    ]


def test_a_value_on_an_edge_opens_a_bin_and_values_outside_go_to_the_outermost() -> None:
    assert binned({1: 1, 9: 2, 10: 4, 19: 8, 20: 16, 99: 32}, [5, 10, 20, 40]) == [3, 12, 48]


@given(st.integers(1, 5000), st.integers(1, 20_000), st.integers(0, 20_000))
def test_half_octaves_enclose_what_they_are_for_and_part_at_the_origin(origin: int, lowest: int, more: int) -> None:
    edges = half_octaves(origin, lowest=lowest, highest=lowest + more)
    assert edges == sorted(set(edges))
    assert origin in edges
    assert edges[0] <= lowest
    assert lowest + more < edges[-1]
    assert len(edges) >= 2


def test_half_octaves_are_two_to_a_doubling() -> None:
    assert half_octaves(320, lowest=150, highest=700) == [113, 160, 226, 320, 453, 640, 905]


@pytest.mark.parametrize(
    ("lowest", "highest", "edges"),
    [(0, 0, [0, 1]), (3, 12, [2, 5, 10, 20]), (20, 20, [20, 50])],
)
def test_round_steps_enclose_what_they_are_for(lowest: int, highest: int, edges: list[int]) -> None:
    assert round_steps(lowest=lowest, highest=highest) == edges


def test_ranks_fall_from_the_largest_on_a_logarithmic_scale() -> None:
    chart = ranked([10, 1000, 100, 100])
    assert [tick.text for tick in chart.sizes] == ["10", "100", "1,000"]
    heights = [float(height) for height in re.findall(r"V([\d.]+)H", chart.outline)]
    assert heights[0] == 0
    assert heights[1] - heights[0] == pytest.approx(heights[2] - heights[1], abs=0.02)
    assert re.findall(r"H([\d.]+)", chart.outline) == ["25", "75", "100"]
    assert [tick.text for tick in chart.ranks] == ["1", "2", "3", "4"]


def test_classes_without_pictures_take_up_room_without_height() -> None:
    assert ranked([8, 0]).outline.endswith("H50V100Z")


def test_nothing_to_rank_is_an_error() -> None:
    with pytest.raises(ValueError, match="nothing"):
        ranked([0])


@given(counts)
@example([1_000_001])
def test_a_rank_chart_stays_inside_and_never_rises(sizes: list[int]) -> None:
    chart = ranked(sizes)
    heights = [float(height) for height in re.findall(r"V([\d.]+)H", chart.outline)]
    assert all(0 <= upper < lower < 100 for upper, lower in itertools.pairwise([*heights, 99.99]) if upper != lower)
    assert heights == sorted(heights)
    assert all(0 <= tick.at <= 100 for tick in [*chart.sizes, *chart.ranks])
    assert 1 <= len(chart.ranks) <= 8
    assert chart.sizes


def test_edges_without_a_name_have_no_tick() -> None:
    ticks = edge_ticks({1: "1", 2: "", 4: "4"})
    assert [(tick.at, tick.text) for tick in ticks] == [(0, "1"), (100, "4")]
