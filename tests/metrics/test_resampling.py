"""Resampling against loops with the same draws, exact enumeration, scipy's routines, and coverage in simulation."""

import itertools
import tracemalloc

import numpy as np
import pytest
from scipy import stats

from biomeg_lib.errors import BiomegError
from biomeg_lib.metrics import resampling
from biomeg_lib.metrics.resampling import approximate_randomisation, bootstrap, mean, micro_f1, paired_bootstrap


def counts(seeds, items, skill, seed):
    """float64[S, N, 3]: true positives, predicted and gold of items with up to four entities."""
    random = np.random.default_rng(seed)
    gold = np.broadcast_to(random.integers(0, 5, size=items), (seeds, items))
    right = random.binomial(gold, skill)
    return np.stack([right, right + random.integers(0, 2, size=(seeds, items)), gold], axis=-1).astype(np.float64)


def values(numbers):
    """float64[S, N, 2] of numbers[S, N], for `mean`."""
    numbers = np.asarray(numbers, dtype=np.float64)
    return np.stack([numbers, np.ones_like(numbers)], axis=-1)


def f1_of(rows):
    """Micro F1 of rows[N, 3], from precision and recall."""
    true_positive, predicted, gold = rows.sum(axis=0)
    precision, recall = (true_positive / n if n else 0 for n in (predicted, gold))
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def drawn_by_a_loop(systems, resamples, seed):
    """For each resample the score of each of the systems, from the documented draws: items, then seeds, with generators
    of their own."""
    item_random, seed_random = np.random.default_rng(seed).spawn(2)
    seeds, n, _ = systems[0].shape
    for _ in range(resamples):
        picked = item_random.integers(n, size=n)
        runs = seed_random.integers(seeds, size=seeds)
        yield [np.mean([f1_of(system[run][picked]) for run in runs]) for system in systems]


def test_statistics():
    assert micro_f1(np.array([3.0, 4.0, 5.0])) == pytest.approx(2 * 3 / 4 * 3 / 5 / (3 / 4 + 3 / 5))
    assert micro_f1(np.array([[0.0, 0.0, 0.0], [0.0, 1.0, 0.0]])).tolist() == [0, 0]
    assert mean(np.array([[6.0, 4.0], [0.0, 0.0]])).tolist() == [1.5, 0]


@pytest.mark.parametrize("seeds", [1, 3])
def test_against_a_loop_with_the_same_draws(seeds):
    a, b = counts(seeds, 12, 0.8, 1), counts(seeds, 12, 0.6, 2)
    drawn = np.array(list(drawn_by_a_loop([a, b], 150, 7)))
    one = bootstrap(a, micro_f1, 150, 7, 0.9)
    assert one.estimate == pytest.approx(np.mean([f1_of(run) for run in a]))
    assert (one.low, one.high) == pytest.approx(tuple(np.percentile(drawn[:, 0], [5, 95])))
    two = paired_bootstrap(a, b, micro_f1, 150, 7, 0.9)
    differences = drawn[:, 0] - drawn[:, 1]
    assert two.estimate == pytest.approx(np.mean([f1_of(x) - f1_of(y) for x, y in zip(a, b, strict=True)]))
    assert (two.low, two.high) == pytest.approx(tuple(np.percentile(differences, [5, 95])))
    assert two.p_value == pytest.approx(2 * (1 + min(sum(differences <= 0), sum(differences >= 0))) / 151)


@pytest.mark.parametrize("seeds", [1, 2])
def test_chunks_do_not_change_what_is_drawn(seeds, monkeypatch):
    a, b = counts(seeds, 30, 0.8, 1), counts(seeds, 30, 0.7, 2)

    def results():
        return (
            bootstrap(a, micro_f1, 101, 3),
            paired_bootstrap(a, b, micro_f1, 101, 3),
            approximate_randomisation(a, b, micro_f1, 101, 3),
        )

    together = results()
    for cells in (1, 30 * 7):
        monkeypatch.setattr(resampling, "_CELLS", cells)
        assert results() == together


def test_bootstrap_against_scipy():
    items = counts(1, 80, 0.7, 4)
    found = bootstrap(items, micro_f1, 20_000, 1)
    expected = stats.bootstrap(
        tuple(items[0].T),
        lambda tp, predicted, gold, axis: 2 * tp.sum(axis) / (predicted.sum(axis) + gold.sum(axis)),
        paired=True,
        vectorized=True,
        method="percentile",
        n_resamples=20_000,
        batch=1000,
        rng=np.random.default_rng(2),
    ).confidence_interval
    width = found.high - found.low
    assert found.low == pytest.approx(expected.low, abs=0.03 * width)
    assert found.high == pytest.approx(expected.high, abs=0.03 * width)


def test_paired_bootstrap_against_scipy():
    random = np.random.default_rng(5)
    a, b = random.normal(0.3, 1, size=60), random.normal(0, 1, size=60)
    found = paired_bootstrap(values([a]), values([b]), mean, 20_000, 1)
    result = stats.bootstrap(
        (a, b),
        lambda x, y, axis: x.mean(axis) - y.mean(axis),
        paired=True,
        vectorized=True,
        method="percentile",
        n_resamples=20_000,
        batch=1000,
        rng=np.random.default_rng(2),
    )
    width = found.high - found.low
    assert found.estimate == pytest.approx(a.mean() - b.mean())
    assert found.low == pytest.approx(result.confidence_interval.low, abs=0.03 * width)
    assert found.high == pytest.approx(result.confidence_interval.high, abs=0.03 * width)
    shares = [np.mean(result.bootstrap_distribution <= 0), np.mean(result.bootstrap_distribution >= 0)]
    assert found.p_value == pytest.approx(2 * min(shares), abs=0.01)


@pytest.mark.parametrize("seed", range(4))
def test_paired_bootstrap_against_all_draws(seed):
    a, b = counts(1, 5, 0.7, seed), counts(1, 5, 0.5, seed + 10)
    rows = [list(draw) for draw in itertools.product(range(5), repeat=5)]
    differences = np.array([f1_of(a[0][draw]) - f1_of(b[0][draw]) for draw in rows])
    shares = [np.mean(differences <= 1e-12), np.mean(differences >= -1e-12)]
    assert paired_bootstrap(a, b, micro_f1, 20_000).p_value == pytest.approx(min(1, 2 * min(shares)), abs=0.02)


@pytest.mark.parametrize("seeds", [1, 3])
@pytest.mark.parametrize("seed", range(3))
def test_randomisation_against_all_swaps(seed, seeds):
    a, b = counts(seeds, 7, 0.8, seed), counts(seeds, 7, 0.5, seed + 10)
    differences = []
    for swaps in itertools.product([False, True], repeat=7):
        first, second = a.copy(), b.copy()
        first[:, swaps], second[:, swaps] = b[:, swaps], a[:, swaps]
        differences.append(np.mean([f1_of(x) - f1_of(y) for x, y in zip(first, second, strict=True)]))
    exact = np.mean(np.abs(differences) >= abs(differences[0]) - 1e-12)
    found = approximate_randomisation(a, b, micro_f1, 20_000)
    assert found.estimate == pytest.approx(differences[0])
    assert found.p_value == pytest.approx(exact, abs=0.015)  # four standard errors


def test_randomisation_against_scipy():
    random = np.random.default_rng(6)
    a = random.random(10)
    b = a + random.normal(0.05, 0.1, size=10)
    exact = stats.permutation_test(
        (a, b),
        lambda x, y, axis: x.mean(axis) - y.mean(axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=np.inf,
    )
    found = approximate_randomisation(values([a]), values([b]), mean, 20_000)
    assert found.estimate == pytest.approx(exact.statistic)
    assert found.p_value == pytest.approx(exact.pvalue, abs=0.015)


def test_rounding_does_not_part_equal_differences():
    """Of 64 swaps, no item and all items give the observed difference, but all give it in sums of rounded tenths."""
    a, b = values([np.full(6, 0.7)]), values([np.full(6, 0.6)])
    found = approximate_randomisation(a, b, mean, 20_000)
    assert found.p_value == pytest.approx(2 / 64, abs=0.005)


def test_items_are_swapped_for_all_seeds_at_once():
    """Seeds that repeat one run tell nothing new."""
    a, b = counts(1, 40, 0.75, 1), counts(1, 40, 0.65, 2)
    once = approximate_randomisation(a, b, micro_f1, 500)
    thrice = approximate_randomisation(np.repeat(a, 3, axis=0), np.repeat(b, 3, axis=0), micro_f1, 500)
    assert thrice.p_value == once.p_value
    assert thrice.estimate == pytest.approx(once.estimate)


def test_spread_over_items_and_seeds_is_that_of_theory():
    """Of a sum of an item's and a seed's part, the resampled variance is var(items) / N + var(seeds) / S."""
    random = np.random.default_rng(8)
    item_part, seed_part = random.normal(0, 1, size=50), random.normal(0, 0.2, size=5)
    found = bootstrap(values(item_part + seed_part[:, None]), mean, 20_000, confidence=0.6827)
    spread = np.sqrt(item_part.var() / 50 + seed_part.var() / 5)
    assert (found.high - found.low) / 2 == pytest.approx(spread, rel=0.05)
    # What items share cancels in a paired difference; what is left is that of seeds.
    difference = paired_bootstrap(
        values(item_part + seed_part[:, None]), values(item_part + 0 * seed_part[:, None]), mean, 5000
    )
    assert difference.low >= seed_part.min()
    assert difference.high <= seed_part.max()
    assert difference.high - difference.low == pytest.approx(2 * 1.96 * seed_part.std() / np.sqrt(5), rel=0.15)


def test_coverage():
    random = np.random.default_rng(9)
    gold = random.integers(1, 4, size=(400, 60))
    right = random.binomial(gold, 0.7)
    items = np.stack([right, gold, gold], axis=-1).astype(np.float64)
    intervals = [bootstrap(item[None], micro_f1, 400, number) for number, item in enumerate(items)]
    covered = np.mean([found.low <= 0.7 <= found.high for found in intervals])
    assert covered == pytest.approx(0.945, abs=0.03)  # the interval of 60 items is a little narrow; 2.6 standard errors


def test_coverage_over_seeds():
    """With seeds that differ, the interval over items alone is too narrow, and that over both is nearly right."""
    random = np.random.default_rng(10)
    item_part, seed_part = random.normal(0, 1, size=(300, 1, 50)), random.normal(0, 0.2, size=(300, 10, 1))
    systems = item_part + seed_part
    both = [bootstrap(values(system), mean, 300) for system in systems]
    items = [bootstrap(values(system[:1]), mean, 300) for system in systems]
    covered = [np.mean([found.low <= 0 <= found.high for found in each]) for each in (both, items)]
    assert covered[0] == pytest.approx(0.94, abs=0.04)
    assert covered[1] < 0.85


@pytest.mark.parametrize("test", [paired_bootstrap, approximate_randomisation])
def test_false_alarms_and_power(test):
    random = np.random.default_rng(11)
    systems = random.normal(size=(400, 2, 1, 50)) + random.normal(size=(400, 1, 1, 50))
    alarms = np.mean([test(values(a), values(b), mean, 300).p_value < 0.05 for a, b in systems])
    assert alarms == pytest.approx(0.05, abs=0.03)
    found = np.mean([test(values(a + 1), values(b), mean, 300).p_value < 0.05 for a, b in systems[:50]])
    assert found > 0.95


@pytest.mark.parametrize("seeds", [1, 2])
def test_identical_systems(seeds):
    for items, statistic in [
        (counts(seeds, 20, 0.7, 1), micro_f1),
        (values(np.random.default_rng(1).random((seeds, 20))), mean),
    ]:
        found = paired_bootstrap(items, items.copy(), statistic, 200)
        assert (found.estimate, found.low, found.high, found.p_value) == (0, 0, 0, 1)
        assert approximate_randomisation(items, items.copy(), statistic, 200).p_value == 1


def test_turned_systems():
    a, b = counts(2, 30, 0.75, 1), counts(2, 30, 0.65, 2)
    one, other = paired_bootstrap(a, b, micro_f1, 300), paired_bootstrap(b, a, micro_f1, 300)
    assert (one.estimate, one.low, one.high) == pytest.approx((-other.estimate, -other.high, -other.low))
    assert one.p_value == other.p_value
    swapped = approximate_randomisation(b, a, micro_f1, 300)
    assert approximate_randomisation(a, b, micro_f1, 300).p_value == swapped.p_value


def test_no_p_value_is_0():
    a, b = values(np.ones((1, 30))), values(np.zeros((1, 30)))
    assert paired_bootstrap(a, b, mean, 99).p_value == pytest.approx(0.02)
    assert approximate_randomisation(a, b, mean, 99).p_value == pytest.approx(0.01)


def test_one_item_has_no_interval():
    a, b = values([[0.8], [0.6]]), values([[0.5], [0.5]])
    found = bootstrap(a, mean, 50)
    assert (found.estimate, found.low, found.high) == (pytest.approx(0.7), None, None)
    found = paired_bootstrap(a, b, mean, 50)
    assert (found.estimate, found.low, found.high, found.p_value) == (pytest.approx(0.2), None, None, None)
    assert approximate_randomisation(a, b, mean, 50).p_value == 1  # the one swap turns the difference round


def test_results_record_what_was_done():
    a, b = counts(3, 20, 0.7, 1), counts(3, 20, 0.6, 2)
    results = bootstrap(a, micro_f1, 60, 5, 0.9), paired_bootstrap(a, b, micro_f1, 60, 5, 0.9)
    for found in results:
        assert {type(number) for number in (found.estimate, found.low, found.high)} == {float}  # plain, for JSON
        assert (found.resamples, found.seed, found.confidence, found.items, found.seeds) == (60, 5, 0.9, 20, 3)
    assert [found.method for found in results] == [
        "bootstrap over test items and seeds",
        "paired bootstrap over test items and seeds",
    ]
    test = approximate_randomisation(a, b, micro_f1, 60, 5)
    assert (test.resamples, test.seed, test.items, test.seeds) == (60, 5, 20, 3)
    assert type(results[1].p_value) is type(test.p_value) is type(test.estimate) is float
    assert test.method == "approximate randomisation of test items"
    assert bootstrap(a[:1], micro_f1, 60).method == "bootstrap over test items"
    assert bootstrap(a, micro_f1, 60, 5, 0.9) == results[0] != bootstrap(a, micro_f1, 60, 6, 0.9)


def test_memory_is_bounded():
    a, b = counts(3, 5000, 0.7, 1), counts(3, 5000, 0.6, 2)
    tracemalloc.start()
    try:
        bootstrap(a, micro_f1)
        paired_bootstrap(a, b, micro_f1)
        approximate_randomisation(a, b, micro_f1)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 100e6


def test_errors():
    items = counts(1, 4, 0.7, 1)
    for wrong in (items[0], np.empty((1, 0, 3)), np.empty((0, 4, 3))):
        with pytest.raises(BiomegError, match="seeds, items, counts"):
            bootstrap(wrong, micro_f1)
    with pytest.raises(BiomegError, match="finite counts"):
        bootstrap(np.full((1, 2, 2), np.nan), mean)
    for confidence in (0, 1, 95):
        with pytest.raises(BiomegError, match="confidence"):
            bootstrap(items, micro_f1, confidence=confidence)
    for numbers in ({"resamples": 0}, {"seed": -1}):
        for test in (paired_bootstrap, approximate_randomisation):
            with pytest.raises(BiomegError, match="at least 1 resample and a seed from 0"):
                test(items, items, micro_f1, **numbers)
    for other in (counts(1, 5, 0.7, 1), counts(2, 4, 0.7, 1)):
        for test in (paired_bootstrap, approximate_randomisation):
            with pytest.raises(BiomegError, match="one shape"):
                test(items, other, micro_f1)
    with pytest.raises(BiomegError, match="statistic of shape"):
        bootstrap(items, lambda sums: sums)
    with pytest.raises(BiomegError, match="finite statistic"):
        bootstrap(items, lambda sums: np.full(sums.shape[:-1], np.inf))
