"""How sure a score is, by resampling: bootstrap intervals, paired differences and approximate randomisation.

What is notable: every metric of the study is a function of sums over test items (micro F1 of summed counts, a mean of
summed values), so a system is an array items[seed, item, count], and a resample is a weight for each item. The sums of
all resamples are then one matrix product, and no model runs again.

Two things make a score vary: which items are in the test set, and which seed a model was trained with. Items are drawn
once a resample and shared by all seeds, since a hard item is hard for every seed. Of several seeds, as many are drawn
as there are. Few seeds understate their own part, whose resampled variance is (S - 1) / S of what it should be: none
at all for one seed, whose interval speaks of that trained model only.

Sources: Efron and Tibshirani, An Introduction to the Bootstrap (1993), chapter 13 (percentile intervals) and section
15.4 (tests from intervals); Koehn (2004), Statistical significance tests for machine translation evaluation (the paired
bootstrap); Noreen, Computer-Intensive Methods for Testing Hypotheses (1989), approximate randomisation.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from biomeg_lib.errors import BiomegError

Statistic = Callable[[np.ndarray], np.ndarray]  # sums over items, float64[..., K], to scores, float64[...]

RESAMPLES = 2000
_CELLS = 1_000_000  # weights (resamples x items) held at once; bounds the memory, not what is drawn
_ROUNDING = 1e-12  # differences that are equal but for rounding are this close, as a part of the two scores


@dataclass(frozen=True, slots=True)
class Resampling:
    """What was resampled, and how.

    Attributes:
        estimate: the statistic of the data as they are, averaged over seeds; of two systems, that of a minus that of b.
        method: what was drawn, in words.
        resamples, seed: how often, and the seed of the random generator.
        items, seeds: numbers of test items and of training seeds.
    """

    estimate: float
    method: str
    resamples: int
    seed: int
    items: int
    seeds: int


@dataclass(frozen=True, slots=True)
class BootstrapInterval(Resampling):
    """Beyond low and beyond high lie (1 - confidence) / 2 of the resampled estimates each; both None for one item."""

    confidence: float
    low: float | None
    high: float | None


@dataclass(frozen=True, slots=True)
class BootstrapDifference(BootstrapInterval):
    """An interval of a difference, and the p value that goes with it (`paired_bootstrap`); None for one item."""

    p_value: float | None


@dataclass(frozen=True, slots=True)
class RandomisationTest(Resampling):
    """A difference and its p value (`approximate_randomisation`)."""

    p_value: float


def micro_f1(sums: np.ndarray) -> np.ndarray:
    """2 TP / (predicted + gold) of sums[..., (true positive, predicted, gold)]; 0 if nothing is predicted or gold."""
    return _ratio(2 * sums[..., 0], sums[..., 1] + sums[..., 2])


def mean(sums: np.ndarray) -> np.ndarray:
    """Value / weight of sums[..., (value, weight)]; 0 without weight. Weight 1 for each item makes it the mean."""
    return _ratio(sums[..., 0], sums[..., 1])


def bootstrap(
    items: np.ndarray, statistic: Statistic, resamples: int = RESAMPLES, seed: int = 0, confidence: float = 0.95
) -> BootstrapInterval:
    """Percentile interval of a score over test items and, if there are several, over seeds.

    Args:
        items: float64[S seeds, N items, K counts], the counts whose sums over items the statistic takes.
        statistic: vectorised function of such sums, for instance `micro_f1` or `mean`.

    Raises:
        BiomegError: items of another shape, empty or not finite; a resamples, seed or confidence out of range; a
            statistic that returns another shape, or a number that is not finite.
    """
    items = _checked(items, resamples, seed, confidence)
    drawn = np.concatenate([_score(*draw, items, statistic) for draw in _draws(items, resamples, seed)])
    low, high = _percentiles(drawn, items, confidence)
    return BootstrapInterval(
        _estimate(items, statistic), _method("bootstrap", items), *_size(items, resamples, seed), confidence, low, high
    )


def paired_bootstrap(
    a: np.ndarray,
    b: np.ndarray,
    statistic: Statistic,
    resamples: int = RESAMPLES,
    seed: int = 0,
    confidence: float = 0.95,
) -> BootstrapDifference:
    """Percentile interval of the difference of two systems, a - b, drawing the same items and seeds for both.

    The p value is that of the two-sided test which rejects no difference where the interval leaves out 0: twice the
    lesser of the shares of resamples where a is not better than b, and not worse, at most 1; each share is
    (count + 1) / (resamples + 1), so it is never 0. Koehn's test is the one-sided share. It is not the test of
    Berg-Kirkpatrick et al. (2012), who move the resampled differences to a mean of 0 first.

    Args:
        a, b: as `items` of `bootstrap`, of one shape: the same items and seeds, in the same order.

    Raises:
        BiomegError: a and b differ in shape, or what `bootstrap` raises.
    """
    a, b = _checked_pair(a, b, resamples, seed, confidence)
    drawn = np.concatenate(
        [_score(*draw, a, statistic) - _score(*draw, b, statistic) for draw in _draws(a, resamples, seed)]
    )
    low, high = _percentiles(drawn, a, confidence)
    p_value = None
    if low is not None:
        tie = _tie(a, b, statistic)
        least = min(int((drawn <= tie).sum()), int((drawn >= -tie).sum()))
        p_value = min(1.0, 2 * (least + 1) / (resamples + 1))
    difference = _estimate(a, statistic) - _estimate(b, statistic)
    method = _method("paired bootstrap", a)
    return BootstrapDifference(difference, method, *_size(a, resamples, seed), confidence, low, high, p_value)


def approximate_randomisation(
    a: np.ndarray, b: np.ndarray, statistic: Statistic, resamples: int = RESAMPLES, seed: int = 0
) -> RandomisationTest:
    """Two-sided test that two systems differ by chance: each item is swapped between them with probability 1/2.

    The p value is (count + 1) / (resamples + 1) with the count of resamples where the difference is at least as far
    from 0 as it was. An item is swapped for all its seeds at once, as what it gives with one seed tells of the others.
    Seeds are not drawn: the test is about these trained models.

    Args:
        a, b, statistic, resamples, seed: as in `paired_bootstrap`.

    Raises:
        BiomegError: a and b differ in shape, or what `bootstrap` raises.
    """
    a, b = _checked_pair(a, b, resamples, seed)
    difference = _estimate(a, statistic) - _estimate(b, statistic)
    bound = abs(difference) - _tie(a, b, statistic)
    sums_a, sums_b, change = a.sum(axis=1), b.sum(axis=1), b - a
    random = np.random.default_rng(seed)
    count = 0
    for size in _chunks(a, resamples):
        swapped = (random.random((size, a.shape[1])) < 0.5).astype(np.float64)
        moved = np.tensordot(swapped, change, axes=(1, 1))
        differences = _scores(sums_a + moved, statistic) - _scores(sums_b - moved, statistic)
        count += int((np.abs(differences.mean(axis=1)) >= bound).sum())
    p_value = (count + 1) / (resamples + 1)
    method = "approximate randomisation of test items"
    return RandomisationTest(difference, method, *_size(a, resamples, seed), p_value)


def _ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """numerator / denominator, 0 where the denominator is."""
    return np.divide(numerator, denominator, out=np.zeros_like(numerator), where=denominator != 0)


def _draws(items: np.ndarray, resamples: int, seed: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Chunks of resamples: how often each item was drawn, [c, N], and each seed, [c, S].

    Items and seeds have generators of their own, so that draws do not depend on the size of a chunk.
    """
    item_random, seed_random = np.random.default_rng(seed).spawn(2)
    for size in _chunks(items, resamples):
        yield _counts(item_random, size, items.shape[1]), _counts(seed_random, size, items.shape[0])


def _chunks(items: np.ndarray, resamples: int) -> Iterator[int]:
    """Numbers of resamples to do at once."""
    largest = max(1, _CELLS // items.shape[1])
    for start in range(0, resamples, largest):
        yield min(largest, resamples - start)


def _counts(random: np.random.Generator, size: int, n: int) -> np.ndarray:
    """For each of `size` resamples, how often each of n came up in n draws with replacement; float64[size, n]."""
    drawn = random.integers(n, size=(size, n)) + n * np.arange(size)[:, None]
    return np.bincount(drawn.ravel(), minlength=size * n).reshape(size, n).astype(np.float64)


def _score(item_counts: np.ndarray, seed_counts: np.ndarray, items: np.ndarray, statistic: Statistic) -> np.ndarray:
    """The statistic of each resample, averaged over the seeds drawn; float64[c]."""
    sums = np.tensordot(item_counts, items, axes=(1, 1))
    return np.average(_scores(sums, statistic), axis=1, weights=seed_counts)


def _scores(sums: np.ndarray, statistic: Statistic) -> np.ndarray:
    """The statistic of sums[c, S, K], checked; float64[c, S]."""
    scores = np.asarray(statistic(sums), dtype=np.float64)
    if scores.shape != sums.shape[:-1]:
        raise BiomegError(f"expected a statistic of shape {sums.shape[:-1]}, found shape {scores.shape}")
    if not np.isfinite(scores).all():
        raise BiomegError("expected a finite statistic, found one that is not")
    return scores


def _estimate(items: np.ndarray, statistic: Statistic) -> float:
    return float(_scores(items.sum(axis=1)[None], statistic).mean())


def _tie(a: np.ndarray, b: np.ndarray, statistic: Statistic) -> float:
    """How far apart two differences may be and count as one."""
    return _ROUNDING * (abs(_estimate(a, statistic)) + abs(_estimate(b, statistic)))


def _percentiles(drawn: np.ndarray, items: np.ndarray, confidence: float) -> tuple[float | None, float | None]:
    """Low and high; None for one item, of which every draw is the same, so that nothing is known of its spread."""
    if items.shape[1] == 1:
        return None, None
    low, high = np.quantile(drawn, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def _method(name: str, items: np.ndarray) -> str:
    return f"{name} over test items" + (" and seeds" if items.shape[0] > 1 else "")


def _size(items: np.ndarray, resamples: int, seed: int) -> tuple[int, int, int, int]:
    """The fields of `Resampling` from resamples on."""
    return resamples, seed, items.shape[1], items.shape[0]


def _checked_pair(
    a: np.ndarray, b: np.ndarray, resamples: int, seed: int, confidence: float = 0.95
) -> tuple[np.ndarray, np.ndarray]:
    first, second = (_checked(items, resamples, seed, confidence) for items in (a, b))
    if first.shape != second.shape:
        raise BiomegError(f"expected two systems of one shape, found {first.shape} and {second.shape}")
    return first, second


def _checked(items: np.ndarray, resamples: int, seed: int, confidence: float) -> np.ndarray:
    """The items as float64[S, N, K], not empty, all finite."""
    items = np.asarray(items, dtype=np.float64)
    if items.ndim != 3 or items.size == 0:
        raise BiomegError(f"expected counts of shape [seeds, items, counts], found shape {items.shape}")
    if not np.isfinite(items).all():
        raise BiomegError("expected finite counts, found some that are not")
    if resamples < 1 or seed < 0:
        raise BiomegError(f"expected at least 1 resample and a seed from 0, found {resamples} and {seed}")
    if not 0 < confidence < 1:
        raise BiomegError(f"expected a confidence above 0 and below 1, found {confidence}")
    return items
