"""What several seeds say together: means and paired differences with Student t intervals.

What is notable: the paper has one run a cell; the study has a few, so intervals use the t distribution with n - 1
degrees of freedom, not the normal one, which for three seeds would be less than half as wide. One run has no interval:
its bounds are None, never a number (and never not-a-number, which JSON cannot hold).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from biomeg_lib.errors import BiomegError


@dataclass(frozen=True, slots=True)
class Interval:
    """The mean of `n` values and its confidence interval, in the values' unit; low and high are None for n = 1."""

    mean: float
    low: float | None
    high: float | None
    n: int


@dataclass(frozen=True, slots=True)
class PairedDifference(Interval):
    """The mean of n differences a - b, and the two-sided p value of the paired t test that it is 0 (None for n = 1)."""

    p_value: float | None


def mean_interval(values: Sequence[float], confidence: float = 0.95) -> Interval:
    """The mean, with bounds mean +- t(1 - (1 - confidence) / 2, n - 1) * s / sqrt(n), s the sample standard deviation.

    Raises:
        BiomegError: no value, a value that is not finite, or a confidence outside (0, 1).
    """
    array = _checked(values, confidence)
    mean, n = float(array.mean()), len(array)
    if n == 1:
        return Interval(mean, None, None, n)
    half = float(stats.t.ppf((1 + confidence) / 2, n - 1) * array.std(ddof=1) / np.sqrt(n))
    return Interval(mean, mean - half, mean + half, n)


def paired_difference(a: Sequence[float], b: Sequence[float], confidence: float = 0.95) -> PairedDifference:
    """The mean difference of pairs (the same seed with and without a change), its t interval and p value.

    Where all differences are the same, the interval has no width, and p is 1 if they are 0 and 0 otherwise.

    Raises:
        BiomegError: the numbers of values differ, or what `mean_interval` raises.
    """
    first, second = _checked(a, confidence), _checked(b, confidence)
    if len(first) != len(second):
        raise BiomegError(f"expected pairs of values, found {len(first)} and {len(second)}")
    differences = first - second
    interval = mean_interval(differences, confidence)
    p_value = None
    if interval.n > 1:
        error = float(differences.std(ddof=1) / np.sqrt(interval.n))
        if error > 0:
            p_value = float(2 * stats.t.sf(abs(interval.mean) / error, interval.n - 1))
        else:
            p_value = float(interval.mean == 0)
    return PairedDifference(interval.mean, interval.low, interval.high, interval.n, p_value)


def _checked(values: Sequence[float], confidence: float) -> np.ndarray:
    """The values as float64[n], n >= 1, all finite."""
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or len(array) == 0 or not np.isfinite(array).all():
        raise BiomegError(f"expected at least one finite number, found {array.tolist()}")
    if not 0 < confidence < 1:
        raise BiomegError(f"expected a confidence above 0 and below 1, found {confidence}")
    return array
