"""The arithmetic of figures: a wrong median would be believed."""

from __future__ import annotations

from benchmarks.figures import at_least, at_most, beside, distribution, figure, percentile


def test_a_ratio_compares_each_round_with_its_neighbour() -> None:
    """A machine that slowed down half-way slows both: the ratio does not see it, a ratio of medians could."""
    found = beside("asks", "1/s", ours=[50.0, 100.0, 25.0], bare=[100.0, 200.0, 50.0], bound=at_least(0.5))

    assert found.ratio == 0.5
    assert found.value == 50.0
    assert found.bare == 100.0
    assert found.kept is True


def test_a_bound_is_on_the_ratio_where_there_is_one_else_on_the_value() -> None:
    """The same word means what can be carried to another machine first."""
    assert beside("asks", "1/s", ours=[10.0], bare=[100.0], bound=at_least(0.5)).kept is False
    assert figure("gap", "ms", [251.0], bound=at_most(250)).kept is False
    assert figure("gap", "ms", [249.0], bound=at_most(250)).kept is True
    assert figure("gap", "ms", [249.0]).kept is None


def test_a_percentile_is_a_value_that_was_seen() -> None:
    """Nothing is interpolated: the 99th of 100 values is the 99th."""
    values = [float(number) for number in range(1, 101)]

    assert [percentile(values, percent) for percent in (50, 99, 100)] == [50.0, 99.0, 100.0]
    assert percentile([7.0], 99) == 7.0


def test_a_distribution_ends_at_one() -> None:
    """All of the values lie below the largest."""
    assert distribution([3.0, 1.0, 2.0, 4.0]) == [(1.0, 0.25), (2.0, 0.5), (3.0, 0.75), (4.0, 1.0)]
