"""Label bias by hand, against exact fractions, and against counts that are made the long way."""

from fractions import Fraction

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from biomeg_lib.errors import BiomegError
from biomeg_lib.metrics.bias import (
    answer_bias,
    bias_of_tags,
    distribution,
    label_bias,
    majority_label,
    tag_counts,
)

COUNTS = st.dictionaries(st.sampled_from("abcdef"), st.integers(0, 10**6), min_size=1)
PAIRS = st.lists(st.tuples(st.sampled_from(["who", "when", "where"]), st.sampled_from(["x", "y"])), min_size=1)


@pytest.mark.parametrize(
    ("counts", "majority", "ratio"),
    [
        ({"yes": 10, "no": 5}, None, 0.5),
        ({"yes": 5, "no": 10}, None, 0.5),
        ({"yes": 5, "no": 10}, "yes", 2.0),  # the label known beforehand need not be the largest
        ({"a": 4, "b": 3, "c": 2}, None, 1.25),  # all minorities are summed
        ({"a": 7}, None, 0.0),
        ({"a": 7, "b": 7}, None, 1.0),
        ({"a": 7, "b": 0}, None, 0.0),
        ({"0": 1194, "1": 2474}, None, 1194 / 2474),
    ],
)
def test_label_bias_by_hand(counts, majority, ratio):
    assert label_bias(counts, majority) == pytest.approx(ratio, abs=0)


@given(COUNTS, st.integers(1, 50))
def test_label_bias_is_that_of_the_sorted_counts_and_no_matter_of_scale(counts, factor):
    *minority, majority = sorted(counts.values())
    assume(majority > 0)
    ratio = sum(minority) / Fraction(majority)
    assert label_bias(counts) == pytest.approx(float(ratio), rel=1e-15)
    assert label_bias({label: n * factor for label, n in counts.items()}) == pytest.approx(float(ratio), rel=1e-15)
    assert counts[majority_label(counts)] == majority


def test_of_equal_labels_the_first_by_name_is_the_majority():
    assert majority_label({"b": 2, "a": 2, "c": 1}) == "a"


@pytest.mark.parametrize(
    ("counts", "majority", "message"),
    [
        ({}, None, "at least one label, found none"),
        ({}, "O", "'O' above 0, found {}"),
        ({"a": 0}, None, "'a' above 0"),
        ({"a": 3, "b": -1}, None, "expected numbers of samples"),
        ({"I": 3}, "O", "'O' above 0"),
    ],
)
def test_no_ratio_without_samples(counts, majority, message):
    with pytest.raises(BiomegError, match=message):
        label_bias(counts, majority)


def test_words_inside_to_words_outside():
    tags = [["B-X", "I-X", "O", "O"], [], ["I-Y", "O", "B-X", "O"], ["O"]]
    assert tag_counts(tags) == {"I": 4, "O": 5}
    assert bias_of_tags(tags) == pytest.approx(0.8, abs=0)
    assert bias_of_tags(iter(tags)) == pytest.approx(0.8, abs=0)
    with pytest.raises(BiomegError, match="'O' above 0"):
        bias_of_tags([["B-X"]])


@given(st.lists(st.lists(st.sampled_from(["O", "B-O", "I-O", "B-X"]))))
def test_tags_are_counted_one_by_one(tags):
    text = " ".join(tag for sentence in tags for tag in sentence).split()
    assert (tag_counts(tags)["O"], tag_counts(tags)["I"]) == (text.count("O"), len(text) - text.count("O"))


def test_repeats_by_hand():
    counts = {("who", "ann"): 3, ("who", "bob"): 1, ("when", "now"): 1}
    assert answer_bias(counts) == pytest.approx(1 / 3, abs=0)
    assert distribution(counts) == {1: 2, 3: 1}
    assert answer_bias({"a": 2, "b": 88}) == pytest.approx(2 / 88, abs=0)
    assert answer_bias({"a": 5}) == 1


@given(PAIRS)
def test_repeats_against_counting_every_pair(pairs):
    each = [pairs.count(pair) for pair in pairs]
    counts = dict(zip(pairs, each, strict=True))
    assert answer_bias(counts) == pytest.approx(min(each) / max(each), abs=0)
    table = distribution(counts)
    assert table == {n: each.count(n) // n for n in sorted(set(each))}
    assert list(table) == sorted(table)


def test_no_pairs_have_no_ratio():
    assert distribution({}) == {}
    with pytest.raises(BiomegError, match="at least one pair"):
        answer_bias({})
    with pytest.raises(BiomegError, match="one 0 times"):
        answer_bias({"a": 0, "b": 2})
