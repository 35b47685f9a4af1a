"""Intervals against scipy's own routines, a hand-computed case, and their coverage in simulation."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from biomeg_lib.errors import BiomegError
from biomeg_lib.metrics.statistics import (
    Interval,
    PairedDifference,
    holm,
    mean_interval,
    paired_difference,
    seeds_needed,
    stratified_difference,
)

VALUES = st.lists(st.floats(-100, 100), min_size=2, max_size=10).filter(lambda values: np.std(values) > 1e-3)


def test_by_hand():
    interval = mean_interval([1.0, 2.0, 3.0])
    assert interval.mean == 2.0
    assert interval.high - 2.0 == pytest.approx(4.302653 / math.sqrt(3), rel=1e-6)  # t(0.975, 2) of printed tables
    assert 2.0 - interval.low == pytest.approx(interval.high - 2.0)
    assert interval.n == 3


@settings(max_examples=100, deadline=None)
@given(VALUES, st.floats(0.5, 0.999))
def test_mean_against_scipy(values, confidence):
    interval = mean_interval(values, confidence)
    low, high = stats.t.interval(confidence, len(values) - 1, loc=np.mean(values), scale=stats.sem(values))
    assert (interval.low, interval.high) == pytest.approx((low, high))
    assert interval.mean == pytest.approx(np.mean(values))


@settings(max_examples=100, deadline=None)
@given(VALUES, st.integers(0, 100), st.floats(0.5, 0.999))
def test_differences_against_scipy(values, seed, confidence):
    a, b = np.array(values), np.random.default_rng(seed).normal(size=len(values))
    found = paired_difference(a.tolist(), b.tolist(), confidence)
    expected = stats.ttest_rel(a, b)
    bounds = expected.confidence_interval(confidence)
    assert found.p_value == pytest.approx(expected.pvalue, abs=1e-12)
    assert (found.low, found.high) == pytest.approx((bounds.low, bounds.high))
    assert found.mean == pytest.approx(np.mean(a - b))
    turned = paired_difference(b.tolist(), a.tolist(), confidence)
    assert (turned.low, turned.high) == pytest.approx((-found.high, -found.low))
    # The interval leaves out 0 exactly where the test rejects at its level.
    if abs(found.p_value - (1 - confidence)) > 1e-9:
        assert (found.low > 0 or found.high < 0) == (found.p_value < 1 - confidence)


def test_coverage():
    draws = np.random.default_rng(20).normal(3.0, 2.0, size=(2000, 3))
    intervals = [mean_interval(draw) for draw in draws]
    covered = np.mean([interval.low <= 3.0 <= interval.high for interval in intervals])
    assert covered == pytest.approx(0.95, abs=0.015)  # three standard errors


def test_false_alarms_of_the_paired_test():
    draws = np.random.default_rng(21).normal(size=(2000, 2, 4))
    rejected = np.mean([paired_difference(a, b).p_value < 0.05 for a, b in draws])
    assert rejected == pytest.approx(0.05, abs=0.015)


def test_one_value_has_no_interval():
    assert mean_interval([0.7]) == Interval(0.7, None, None, 1)
    assert paired_difference([0.7], [0.5]) == PairedDifference(pytest.approx(0.2), None, None, 1, None)


def test_equal_differences():
    assert paired_difference([1.0, 2.0], [1.0, 2.0]) == PairedDifference(0.0, 0.0, 0.0, 2, 1.0)
    assert paired_difference([1.5, 2.5], [1.0, 2.0]) == PairedDifference(0.5, 0.5, 0.5, 2, 0.0)


def test_errors():
    for values in ([], [float("nan")], [1.0, float("inf")]):
        with pytest.raises(BiomegError, match="finite"):
            mean_interval(values)
    for confidence in (0, 1, 95):
        with pytest.raises(BiomegError, match="confidence"):
            mean_interval([1.0, 2.0], confidence)
    with pytest.raises(BiomegError, match="found 2 and 1"):
        paired_difference([1.0, 2.0], [1.0])


def test_one_stratum_is_the_paired_test():
    values = [0.3, 1.2, -0.4, 0.8]
    paired, stratified = paired_difference(values, [0.0] * 4), stratified_difference([values])
    assert (stratified.mean, stratified.low, stratified.high) == pytest.approx((paired.mean, paired.low, paired.high))
    assert stratified.p_value == pytest.approx(paired.p_value)


def test_two_strata_are_welchs_test():
    # the mean of two means is half the difference of one and the negative other
    first, second = [1.0, 2.0, 2.5, 1.2], [0.2, 3.0, -0.5]
    welch = stats.ttest_ind(first, [-value for value in second], equal_var=False)
    found = stratified_difference([first, second])
    assert found.p_value == pytest.approx(welch.pvalue)
    interval = welch.confidence_interval()
    assert (found.low, found.high) == pytest.approx((interval.low / 2, interval.high / 2))


def test_strata_of_one_difference_have_no_interval_and_none_is_refused():
    assert stratified_difference([[1.0], [2.0, 3.0]]).low is None
    with pytest.raises(BiomegError, match="at least one setting"):
        stratified_difference([])


def test_strata_without_spread():
    found = stratified_difference([[1.0, 1.0], [2.0, 2.0]])
    assert (found.low, found.high, found.p_value) == (1.5, 1.5, 0.0)


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


def test_seeds_needed_is_the_least_number():
    strata = [[1.0, -0.5, 0.7, 0.4], [0.2, 0.9, -0.1, 0.3]]
    needed = seeds_needed(strata, 0.3)
    assert seeds_needed(strata, 0.6) < needed
    assert seeds_needed(strata, 0.3, significance=0.001) > needed
    assert seeds_needed(strata, 0.0) is None
    assert seeds_needed([[1.0], [2.0]], 0.5) is None
    assert seeds_needed(strata, 1e-9) is None
    assert seeds_needed([[1.0, 1.0]], 0.5) == 2
