"""Entity scores against hand counts, seqeval's own scores, and conlleval's token-by-token count written from its
definition."""

import warnings

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from seqeval.metrics import f1_score, precision_score, recall_score

from biomeg_lib.errors import BiomegError
from biomeg_lib.metrics.entities import entity_scores
from biomeg_lib.metrics.scores import Scores

TAG = st.sampled_from(["O", "B-X", "I-X", "B-Y", "I-Y", "B-X-Y", "I-X-Y"])
PAIRS = st.lists(st.lists(st.tuples(TAG, TAG), max_size=10), max_size=5)


def conlleval(gold, predicted):
    """(correct, predicted, gold) chunks in one pass over both columns, as the shared task's script counts them.

    A chunk begins at B, or at I after O or after another type. It has ended when the next tag is O, B or of another
    type. A chunk is correct if both columns begin it at once with one type and end it at once, without parting in
    between.
    """

    def split(tag):
        return tag.partition("-")[::2]

    def begins(before, now):
        return now[0] == "B" or (now[0] == "I" and (before[0] == "O" or before[1] != now[1]))

    def ended(before, now):
        return before[0] != "O" and (now[0] in "OB" or before[1] != now[1])

    correct = guessed = there = 0
    for gold_tags, predicted_tags in zip(gold, predicted, strict=True):
        last_gold = last_predicted = ("O", "")
        together = False
        for gold_tag, predicted_tag in zip([*gold_tags, "O"], [*predicted_tags, "O"], strict=True):
            now_gold, now_predicted = split(gold_tag), split(predicted_tag)
            if together:
                gold_ended, predicted_ended = ended(last_gold, now_gold), ended(last_predicted, now_predicted)
                correct += gold_ended and predicted_ended
                together = not (gold_ended or predicted_ended)
            gold_begins, predicted_begins = begins(last_gold, now_gold), begins(last_predicted, now_predicted)
            there += gold_begins
            guessed += predicted_begins
            if gold_begins and predicted_begins and now_gold[1] == now_predicted[1]:
                together = True
            last_gold, last_predicted = now_gold, now_predicted
    return correct, guessed, there


@pytest.mark.parametrize(
    ("gold", "predicted", "counts"),
    [
        ("B-X I-X O B-X", "B-X I-X O B-X", (2, 2, 2)),
        ("B-X I-X O B-X", "B-X O O B-X", (1, 2, 2)),  # one boundary wrong
        ("B-X I-X O", "B-Y I-Y O", (0, 1, 1)),  # type wrong
        ("O B-X I-X", "O I-X I-X", (1, 1, 1)),  # I- after O opens
        ("B-X I-X", "I-X I-X", (1, 1, 1)),  # and at the start
        ("B-X I-Y", "B-X B-Y", (2, 2, 2)),  # another type opens
        ("B-X B-X", "B-X I-X", (0, 1, 2)),  # touching entities taken for one
        ("B-X I-X I-X", "B-X I-X B-X", (0, 2, 1)),
        ("O O", "O B-X", (0, 1, 0)),
        ("B-X O", "O O", (0, 0, 1)),
        ("O O", "O O", (0, 0, 0)),
    ],
)
def test_by_hand(gold, predicted, counts):
    gold, predicted = [gold.split()], [predicted.split()]
    scores = entity_scores(gold, predicted)
    assert (scores.true_positive, scores.predicted, scores.gold) == counts == conlleval(gold, predicted)


def test_golden_scores():
    gold = [["B-X", "I-X", "O", "B-Y"], ["B-X", "O"], ["B-Y"]]
    predicted = [["B-X", "I-X", "O", "B-X"], ["B-X", "O"], ["O"]]
    assert entity_scores(gold, predicted) == Scores(
        precision=2 / 3,
        recall=2 / 4,
        f1=4 / 7,
        true_positive=2,
        predicted=3,
        gold=4,
        by_type={"X": Scores(2 / 3, 1.0, 4 / 5, 2, 3, 2), "Y": Scores(0.0, 0.0, 0.0, 0, 0, 2)},
    )


def test_entities_do_not_run_over_sentences():
    assert entity_scores([["B-X"], ["I-X"]], [["B-X"], ["I-X"]]).gold == 2


@settings(max_examples=400, deadline=None)
@given(PAIRS)
def test_against_conlleval_and_seqeval(pairs):
    gold = [[right for right, _ in sentence] for sentence in pairs]
    predicted = [[guess for _, guess in sentence] for sentence in pairs]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scores = entity_scores(gold, predicted)
    assert (scores.true_positive, scores.predicted, scores.gold) == conlleval(gold, predicted)
    if scores.gold + scores.predicted:  # seqeval's own scores have no answer for an empty input
        assert scores.precision == pytest.approx(precision_score(gold, predicted, zero_division=0))
        assert scores.recall == pytest.approx(recall_score(gold, predicted, zero_division=0))
        assert scores.f1 == pytest.approx(f1_score(gold, predicted, zero_division=0))
        by_type = f1_score(gold, predicted, average=None, zero_division=0)
        assert [part.f1 for part in scores.by_type.values()] == pytest.approx(by_type.tolist())
    assert sum(part.gold for part in scores.by_type.values()) == scores.gold
    assert sum(part.predicted for part in scores.by_type.values()) == scores.predicted
    assert sum(part.true_positive for part in scores.by_type.values()) == scores.true_positive


def test_nothing_to_score():
    assert entity_scores([], []) == entity_scores([[]], [[]]) == Scores(0.0, 0.0, 0.0, 0, 0, 0)


def test_tuples_are_sentences_too():
    assert entity_scores([("B-X", "O")], [["B-X", "O"]]).f1 == 1.0


@pytest.mark.parametrize("tag", ["X", "S-X", "E-X", "B", "B-", "I", "", "o", "-X"])
def test_other_tags_are_refused(tag):
    with pytest.raises(BiomegError, match="expected tags"):
        entity_scores([["O", "O"]], [["O", tag]])


def test_lengths_must_match():
    with pytest.raises(BiomegError, match="2 sentences, found 1"):
        entity_scores([["O"], ["O"]], [["O"]])
    with pytest.raises(BiomegError, match="2 predicted tags in sentence 1, found 1"):
        entity_scores([["O"], ["O", "O"]], [["O"], ["O"]])
