"""What several seeds say together: means and paired differences with Student t intervals, over one setting or several.

What is notable: the paper has one run a cell; the study has a few, so intervals use the t distribution with n - 1
degrees of freedom, not the normal one, which for three seeds would be less than half as wide. One run has no interval:
its bounds are None, never a number (and never not-a-number, which JSON cannot hold).
"""

import math
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


def stratified_difference(strata: Sequence[Sequence[float]], confidence: float = 0.95) -> PairedDifference:
    """The mean over settings of their mean differences: an average effect over these very settings (benchmarks, say),
    each with seeds of its own.

    With m settings of n_i differences and variances s_i^2, the standard error is sqrt(sum s_i^2 / n_i) / m, and the t
    distribution has the degrees of freedom of Welch and Satterthwaite. For one setting it is the paired t interval. `n`
    is the number of differences. Where no setting has two differences, there is no interval.

    Raises:
        BiomegError: no setting, or what `mean_interval` raises.
    """
    arrays = [_checked(values, confidence) for values in strata]
    if not arrays:
        raise BiomegError("expected differences of at least one setting, found none")
    mean, n = float(np.mean([array.mean() for array in arrays])), sum(map(len, arrays))
    if any(len(array) < 2 for array in arrays):
        return PairedDifference(mean, None, None, n, None)
    error, freedom = _error([float(array.var(ddof=1)) for array in arrays], [len(array) for array in arrays])
    if not error:
        return PairedDifference(mean, mean, mean, n, float(mean == 0))
    half = float(stats.t.ppf((1 + confidence) / 2, freedom)) * error
    return PairedDifference(mean, mean - half, mean + half, n, float(2 * stats.t.sf(abs(mean) / error, freedom)))


def _error(variances: Sequence[float], counts: Sequence[int]) -> tuple[float, float]:
    """Standard error of a mean of means, and its degrees of freedom (Welch-Satterthwaite); both 0 without variance."""
    parts = [variance / count for variance, count in zip(variances, counts, strict=True)]
    total = sum(parts)
    if not total:
        return 0.0, 0.0
    freedom = total**2 / sum(part**2 / (count - 1) for part, count in zip(parts, counts, strict=True))
    return math.sqrt(total) / len(parts), freedom


def seeds_needed(
    strata: Sequence[Sequence[float]], effect: float, power: float = 0.8, significance: float = 0.05, most: int = 10_000
) -> int | None:
    """How many seeds a setting would take to tell `effect` from none, if the spread stays what it is in `strata`.

    The least n for which the two-sided test of `stratified_difference` at `significance` rejects an effect of 0 with
    probability `power` when the effect is `effect` (non-central t distribution). None where `most` are not enough, the
    effect is 0, or no setting has two differences to tell the spread by.
    """
    arrays = [np.asarray(values, dtype=np.float64) for values in strata]
    if not effect or not arrays or any(len(array) < 2 for array in arrays):
        return None
    variances = [float(array.var(ddof=1)) for array in arrays]

    def enough(n: int) -> bool:
        error, freedom = _error(variances, [n] * len(variances))
        if not error:
            return True
        critical, shift = stats.t.ppf(1 - significance / 2, freedom), abs(effect) / error
        if shift > 30:  # the power is 1, and scipy's tail of so large a shift may not be a number
            return True
        return bool(stats.nct.sf(critical, freedom, shift) >= power)

    if not enough(most):
        return None
    low, high = 1, most  # enough(high), not enough(low): one seed has no spread
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def holm(p_values: Sequence[float]) -> list[float]:
    """p values adjusted for their number (Holm 1979), in the order given: with these, the chance that any of several
    true hypotheses is rejected stays below the level."""
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    adjusted = [0.0] * len(p_values)
    largest = 0.0
    for rank, i in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[i]))
        adjusted[i] = largest
    return adjusted


def _checked(values: Sequence[float], confidence: float) -> np.ndarray:
    """The values as float64[n], n >= 1, all finite."""
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or len(array) == 0 or not np.isfinite(array).all():
        raise BiomegError(f"expected at least one finite number, found {array.tolist()}")
    if not 0 < confidence < 1:
        raise BiomegError(f"expected a confidence above 0 and below 1, found {confidence}")
    return array
