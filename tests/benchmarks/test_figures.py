import pytest

from beam_pipelines.errors import RunError
from benchmarks.figures import aligned, figures, medians, verdict
from benchmarks.processes import Usage


def usage(*, wall: float, cpu: float, peak_memory: int = 0) -> Usage:
    return Usage(exit_code=0, wall=wall, cpu=cpu, peak_memory=peak_memory, largest_process=0)


def test_start_up_is_told_from_running() -> None:
    found = figures(usage(wall=7, cpu=5, peak_memory=3), usage(wall=25, cpu=14, peak_memory=2), counts=(20, 200))
    assert (found.rate, found.cpu, found.start_up, found.start_up_cpu, found.peak_memory) == (10, 0.05, 5, 4, 3)


@pytest.mark.parametrize("many", [usage(wall=7, cpu=14), usage(wall=25, cpu=5)])
def test_where_more_take_no_longer_there_is_no_rate(many: Usage) -> None:
    with pytest.raises(RunError, match="200 pictures took no longer than 20"):
        figures(usage(wall=7, cpu=5), many, counts=(20, 200))


def test_medians_are_taken_of_each_figure() -> None:
    rounds = [
        figures(usage(wall=1, cpu=1), usage(wall=1 + wall, cpu=1 + cpu), counts=(0, 12))
        for wall, cpu in ((1, 12), (2, 6), (3, 24))
    ]
    assert (medians(rounds).rate, medians(rounds).cpu) == (6, 1)


@pytest.mark.parametrize(("goal", "told", "met"), [(2, ", goal 2: met", True), (2.5, ", goal 2.5: missed", False)])
def test_the_median_is_held_against_the_goal(goal: float, told: str, met: bool) -> None:
    assert verdict("ours / other", [1, 4, 2], goal=goal) == (f"ours / other: 2.00 (1.00 to 4.00{told})", met)
    assert verdict("ours / other", [1, 4, 2], goal=None) == ("ours / other: 2.00 (1.00 to 4.00)", True)


def test_columns_are_aligned() -> None:
    assert aligned([("", "images/s"), ("ours", "7")]) == "      images/s\nours         7"
