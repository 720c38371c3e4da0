import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.comparison.curves import MAX_POINTS, Line, chart, labels, lying_axis, thinned, upright_axis

values = st.floats(-1e9, 1e9, allow_nan=False).map(lambda value: round(value, 6))


@given(st.lists(st.tuples(st.integers(0, 10**6), values), min_size=1, max_size=200), st.integers(4, 60))
def test_thinned_curves_keep_their_ends_and_extremes(points: list[tuple[int, float]], most: int) -> None:
    places = [(float(x), y) for x, y in sorted(points)]
    kept = thinned(places, most=most)
    assert len(kept) <= max(most, min(len(places), most))
    remaining = iter(places)
    assert all(place in remaining for place in kept), "in order, and none that was not there"
    assert (kept[0], kept[-1]) == (places[0], places[-1])
    assert {min(y for _, y in kept), max(y for _, y in kept)} == {min(y for _, y in places), max(y for _, y in places)}


def test_a_curve_of_few_points_is_left_as_it_is() -> None:
    places = [(float(x), float(-x)) for x in range(MAX_POINTS)]
    assert thinned(places) == places


def test_a_peak_of_one_line_in_a_hundred_thousand_is_kept() -> None:
    places = [(float(x), 9.0 if x == 71_234 else 1.0) for x in range(100_000)]
    assert (71_234.0, 9.0) in thinned(places)


@given(st.lists(values, min_size=1, max_size=20), st.booleans())
def test_all_values_lie_on_the_axis_and_its_ticks_are_few_and_apart(found: list[float], may_be: bool) -> None:
    axis = upright_axis(found, may_be_logarithmic=may_be)
    assert all(-1e-4 <= axis.share(value) <= 1 + 1e-4 for value in found)
    places = [tick.at for tick in axis.ticks]
    assert 2 <= len(places) <= 8
    assert all(-1e-9 <= place <= 100 for place in places)
    assert all(one - other > 5 for one, other in itertools.pairwise(places)), "from the bottom up"


@pytest.mark.parametrize(
    ("found", "texts"),
    [
        ([0.21, 0.757], ["0.2", "0.4", "0.6", "0.8"]),
        ([0.0, 0.0010000000474974513], ["0", "0.0002", "0.0004", "0.0006", "0.0008", "0.001"]),
        ([0.7], ["0.2", "0.4", "0.6", "0.8", "1", "1.2"]),
        ([0.0], ["0", "0.2", "0.4", "0.6", "0.8", "1"]),
        ([3.0, 299.0], ["0", "100", "200", "300"]),
        ([0.0, 1e-7], ["0", "2e-08", "4e-08", "6e-08", "8e-08", "1e-07"]),
    ],
)
def test_upright_ticks(found: list[float], texts: list[str]) -> None:
    assert [tick.text for tick in upright_axis(found).ticks] == texts


def test_an_axis_of_shares_does_not_leave_them() -> None:
    assert [tick.text for tick in upright_axis([0.7], is_share=True).ticks] == ["0.2", "0.4", "0.6", "0.8", "1"]
    assert upright_axis([0.999, 1.0], is_share=True).high == 1


def test_losses_of_very_different_sizes_get_a_logarithmic_axis() -> None:
    axis = upright_axis([0.05, 5.0], may_be_logarithmic=True)
    assert axis.logarithmic
    assert [tick.text for tick in axis.ticks] == ["0.01", "0.1", "1", "10"]
    assert [round(tick.at, 1) for tick in axis.ticks] == [100.0, 66.7, 33.3, 0.0]
    assert not upright_axis([0.05, 4.9], may_be_logarithmic=True).logarithmic
    assert not upright_axis([0.0, 4.9], may_be_logarithmic=True).logarithmic


@pytest.mark.parametrize(
    ("longest", "texts"),
    [
        (1722, ["0", "500", "1,000", "1,500"]),
        (1_600_000, ["0", "500,000", "1M", "1.5M"]),
        (1, ["0", "0.2", "0.4", "0.6", "0.8", "1"]),
        (0, ["0", "0.2", "0.4", "0.6", "0.8", "1"]),
    ],
)
def test_lying_ticks(longest: int, texts: list[str]) -> None:
    assert [tick.text for tick in lying_axis([longest, 0]).ticks] == texts


@given(st.lists(st.tuples(st.floats(0, 100), st.floats(0, 100)), max_size=12))
def test_no_label_covers_another(ends: list[tuple[float, float]]) -> None:
    places = labels(ends)
    assert max(places, default=0) <= 100
    for (x, y), (other_x, other_y) in itertools.combinations(zip((x for x, _ in ends), places, strict=True), 2):
        assert abs(x - other_x) >= 5 or abs(y - other_y) >= 6.49


def test_a_label_that_has_room_stays_beside_its_curve() -> None:
    assert labels([(100, 20.0), (100, 40.0), (30, 20.0)]) == [20.0, 40.0, 20.0]


def test_places_in_a_chart() -> None:
    line = Line(number=1, name="run", places=[(0, 0.5), (50, 1.0), (100, 0.0)], mark=(50, 1.0))
    alone = Line(number=2, name="other", places=[(50, 0.5)])
    made = chart("Accuracy", [line, alone], across=lying_axis([100]), up=upright_axis([0, 1]))
    first, second = made.curves
    assert (first.outline, first.end, first.mark) == ("M0,50L50,0 100,100", (100, 100), (50, 0))
    assert (second.outline, second.end, second.mark) == ("M50,50", (50, 50), None)
