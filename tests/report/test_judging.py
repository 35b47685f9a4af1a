"""Verdicts: rules on intervals and corrected p values, tried on differences made by hand."""

import numpy as np
import pytest
from scipy import stats

from biomeg_lib.report.findings.judging import Claim, judge, part, resampled

CLEAR = [[2.0, 2.2, 1.8, 2.1], [1.9, 2.3, 2.0, 2.1]]
NONE = [[0.1, -0.1, 0.05, -0.05], [0.02, -0.03, 0.0, 0.01]]
NOISY = [[5.0, -4.0, 3.0, -1.0]]


def claim(*parts, **more) -> Claim:
    return Claim("C0", "vocab", "It is so", "+1", "vocab.html#x", list(parts), **more)


@pytest.mark.parametrize(
    ("kind", "strata", "verdict"),
    [
        ("above", CLEAR, "supported"),
        ("below", CLEAR, "contradicted"),
        ("differs", CLEAR, "supported"),
        ("under", CLEAR, "contradicted"),
        ("over", CLEAR, "supported"),
        ("above", NONE, "contradicted"),  # shown to be less than a point
        ("differs", NONE, "contradicted"),
        ("under", NONE, "supported"),
        ("over", NONE, "supported"),
        ("above", NOISY, "inconclusive"),
        ("differs", NOISY, "inconclusive"),
        ("under", NOISY, "inconclusive"),
    ],
)
def test_one_part_decides_by_its_kind(kind, strata, verdict):
    (found,) = judge([claim(part("a minus b", kind, strata))])
    assert found.verdict == verdict


def test_all_parts_have_to_hold_and_one_that_fails_is_enough():
    holds, fails, noisy = part("x", "above", CLEAR), part("y", "below", CLEAR), part("z", "above", NOISY)
    verdicts = [one.verdict for one in judge([claim(holds, holds), claim(holds, noisy), claim(noisy, fails), claim()])]
    assert verdicts == ["supported", "inconclusive", "contradicted", "inconclusive"]


def test_a_counted_condition_that_is_not_met_contradicts():
    holds = part("x", "above", CLEAR)
    (met, unmet) = judge([claim(holds, fixed=("Counted.", True)), claim(holds, fixed=("Counted.", False))])
    assert (met.verdict, unmet.verdict) == ("supported", "contradicted")
    assert met.evidence.startswith("Counted.")


def test_p_values_are_corrected_for_all_parts_of_all_claims():
    weak = [[1.0, 0.2, 0.9, 0.5]]
    alone = part("x", "above", weak)
    p_value = stats.ttest_1samp(weak[0], 0).pvalue
    assert 0.01 < p_value < 0.05
    assert alone.difference.p_value == pytest.approx(p_value)
    assert judge([claim(alone)])[0].verdict == "supported"
    crowd = judge([claim(alone), *(claim(part("n", "above", NOISY)) for _ in range(11))])
    assert crowd[0].p_values[0] == pytest.approx(12 * p_value)
    assert crowd[0].verdict == "inconclusive"


def test_the_p_value_of_a_margin_is_that_of_the_distance_to_it():
    one = part("x", "under", [[0.5, 0.4, 0.6, 0.3]])
    assert one.difference.p_value == pytest.approx(stats.ttest_1samp([0.5, 0.4, 0.6, 0.3], 1.0).pvalue)
    assert one.difference.mean == pytest.approx(0.45)


def test_an_open_part_says_how_many_seeds_would_decide_it():
    (found,) = judge([claim(part("x", "above", NOISY))])
    assert found.verdict == "inconclusive"
    assert "seeds a setting would probably decide" in found.evidence


def test_seeds_with_a_power_of_80_percent_by_simulation():
    strata = [[1.0, -1.0, 2.0, 0.4]]
    needed = part("x", "above", strata).needed(1)
    effect, spread = np.mean(strata[0]), np.std(strata[0], ddof=1)
    draws = np.random.default_rng(1).normal(effect, spread, size=(4000, needed))
    share = (stats.ttest_1samp(draws, 0, axis=1).pvalue < 0.05).mean()
    assert 0.77 < share < 0.84


def test_one_seed_decides_nothing():
    (found,) = judge([claim(part("x", "above", [[3.0], [2.0]]))])
    assert found.verdict == "inconclusive"
    record = found.record()
    assert record["effect"] == 2.5
    assert record["ci_low"] is None


def test_a_counted_effect_has_the_interval_of_its_draws():
    draws = np.random.default_rng(0).normal(1.0, 0.1, 2000)
    one = resampled("rate", "above", draws, 1.0, "pieces a word", 500)
    assert one.difference.low == pytest.approx(np.quantile(draws, 0.025))
    assert judge([claim(one)])[0].verdict == "supported"
    around = resampled("rate", "above", draws - 1.0, 0.0, "pieces a word", 500)
    assert around.difference.p_value > 0.5
