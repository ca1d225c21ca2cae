"""Welch's test and Holm's method, against worked examples and SciPy."""

import pytest
from scipy import stats

from foveal.ablation.statistics import Sample, holm, welch


def test_the_mean_and_deviation_of_three_values():
    """Of 1, 2, 6: mean 3, squares 4 + 1 + 9 = 14, halved 7."""
    assert Sample.of([1, 2, 6]) == Sample(3, 3.0, pytest.approx(7**0.5))


def test_one_value_has_no_deviation_and_is_not_tested():
    assert Sample.of([98.0]) == Sample(1, 98.0, None)
    assert welch(Sample.of([98.0]), Sample.of([97.0, 96.0])) is None
    assert welch(Sample.of([97.0, 96.0]), Sample.of([98.0])) is None


def test_rows_that_do_not_vary_are_not_tested():
    assert welch(Sample.of([98.0, 98.0]), Sample.of([97.0, 97.0])) is None
    assert welch(Sample.of([98.0, 98.0]), Sample.of([97.0, 96.0])) is not None


def test_welch_by_hand():
    """(0, 2) and (5, 7) have t = -5 / sqrt(2) and two degrees of freedom, where p = 1 - |t| / sqrt(2 + t^2)."""
    t = 5 / 2**0.5
    assert welch(Sample.of([0, 2]), Sample.of([5, 7])) == pytest.approx(1 - t / (2 + t * t) ** 0.5, rel=1e-12)


@pytest.mark.parametrize(
    ("one", "other"),
    [([96.94, 97.21, 97.77], [98.05, 98.33, 98.05]), ([1, 3], [4, 8]), ([5.0, 5.5, 5.0], [1, 2, 3, 4])],
)
def test_welch_agrees_with_scipy(one, other):
    expected = stats.ttest_ind(one, other, equal_var=False).pvalue
    assert welch(Sample.of(one), Sample.of(other)) == pytest.approx(expected, rel=1e-9)


def test_holm_by_hand():
    """Four tests: 0.005 x 4 = 0.02; 0.01 x 3 = 0.03; 0.03 x 2 = 0.06; 0.04 x 1 stays at 0.06 of the one before."""
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


def test_holm_never_exceeds_one_and_leaves_a_single_test_alone():
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([0.04]) == [0.04]
    assert holm([]) == []
