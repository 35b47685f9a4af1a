"""Class scores against a count cell by cell, scikit-learn where seqeval brought it along, and cases by hand."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from biomeg_lib.errors import BiomegError
from biomeg_lib.metrics.classes import class_scores
from biomeg_lib.metrics.scores import Scores

CLASSES = ["CPR:3", "CPR:4", "CPR:9", "false"]
PAIRS = st.lists(st.tuples(st.sampled_from(CLASSES), st.sampled_from(CLASSES)), max_size=30)
EXCLUDED = st.sets(st.sampled_from(CLASSES))


def test_by_hand():
    # Right twice, another class, a miss, a false alarm, rightly nothing.
    gold = ["CPR:3", "CPR:4", "CPR:3", "CPR:4", "false", "false"]
    predicted = ["CPR:3", "CPR:4", "CPR:4", "false", "CPR:3", "false"]
    assert class_scores(gold, predicted, excluded=["false"]) == Scores(
        precision=2 / 4,
        recall=2 / 4,
        f1=2 / 4,
        true_positive=2,
        predicted=4,
        gold=4,
        by_type={"CPR:3": Scores(0.5, 0.5, 0.5, 1, 2, 2), "CPR:4": Scores(0.5, 0.5, 0.5, 1, 2, 2)},
    )


def test_one_class_of_two():
    gold, predicted = list("11100"), list("11010")
    assert class_scores(gold, predicted, excluded={"0"}).f1 == pytest.approx(2 / 3)
    assert class_scores(gold, predicted, excluded={"0"}).by_type.keys() == {"1"}
    assert class_scores(gold, predicted).f1 == 3 / 5


@settings(max_examples=300, deadline=None)
@given(PAIRS, EXCLUDED)
def test_against_a_count_cell_by_cell(pairs, excluded):
    cells = {(row, column): 0 for row in CLASSES for column in CLASSES}
    for pair in pairs:
        cells[pair] += 1
    found = class_scores([right for right, _ in pairs], [guess for _, guess in pairs], excluded)
    counted = [label for label in CLASSES if label not in excluded]
    assert found.true_positive == sum(cells[label, label] for label in counted)
    assert found.gold == sum(cells[label, other] for label in counted for other in CLASSES)
    assert found.predicted == sum(cells[other, label] for label in counted for other in CLASSES)
    seen = [label for label in counted if any(label in pair for pair in pairs)]
    assert list(found.by_type) == sorted(seen)
    for label, part in found.by_type.items():
        assert part.true_positive == cells[label, label]
        assert part.gold == sum(cells[label, other] for other in CLASSES)
        assert part.predicted == sum(cells[other, label] for other in CLASSES)


@settings(max_examples=150, deadline=None)
@given(PAIRS.filter(bool), EXCLUDED.filter(lambda excluded: len(excluded) < len(CLASSES)))
def test_against_scikit_learn(pairs, excluded):
    metrics = pytest.importorskip("sklearn.metrics")
    gold, predicted = [right for right, _ in pairs], [guess for _, guess in pairs]
    counted = sorted(set(CLASSES) - excluded)
    found = class_scores(gold, predicted, excluded)

    def expected(**how):
        return metrics.precision_recall_fscore_support(gold, predicted, zero_division=0, **how)[:3]

    micro = expected(labels=counted, average="micro")
    assert (found.precision, found.recall, found.f1) == pytest.approx(micro)
    for label, *values in zip(counted, *expected(labels=counted, average=None), strict=True):
        part = found.by_type.get(label, Scores(0.0, 0.0, 0.0, 0, 0, 0))
        assert (part.precision, part.recall, part.f1) == pytest.approx(tuple(values))
    everything = class_scores(gold, predicted)
    accuracy = metrics.accuracy_score(gold, predicted)
    assert (everything.precision, everything.recall, everything.f1) == pytest.approx((accuracy,) * 3)


def test_nothing_to_score():
    nothing = Scores(0.0, 0.0, 0.0, 0, 0, 0)
    assert class_scores([], []) == nothing
    assert class_scores(["false"], ["false"], excluded=["false"]) == nothing


def test_lengths_must_match():
    with pytest.raises(BiomegError, match="2 predicted classes, found 1"):
        class_scores(["a", "b"], ["a"])
