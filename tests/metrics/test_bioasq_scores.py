"""BioASQ scores against what the official tool printed for the same answers, scikit-learn and hand counts."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, f1_score

from biomeg_lib.metrics.bioasq import Factoid, ListAnswer, factoid_scores, list_scores, yes_no_scores

# Synonyms end with their item's number, so that items share none and both cases of a letter are one answer.
ITEM = st.integers(0, 3)
ANSWER = st.tuples(st.sampled_from("abcABC"), ITEM).map(lambda pair: f"{pair[0]}{pair[1]}")
ITEMS = st.lists(ITEM, min_size=1, max_size=4, unique=True).map(lambda ns: [[f"{c}{n}" for c in "aBb"] for n in ns])


def factoid(synonyms, ranked):
    return factoid_scores({"q": synonyms}, {"q": ranked}).by_question["q"]


def list_answer(items, answers):
    return list_scores({"q": items}, {"q": answers}).by_question["q"]


def test_golden_scores_of_the_official_tool():
    """The numbers are what the Java tool (commit 8c8e689, -e 5, 8 and 9 alike) printed for these gold and answers."""
    scores = factoid_scores(
        {"1": ["BRCA1", "breast cancer 1"], "2": ["p53"], "3": ["Aspirin"], "4": ["insulin"], "5": ["zinc"]},
        {
            "1": ["tp53", "Breast Cancer 1", "brca1"],
            "2": ["P53", "x"],
            "3": ["aspirin ", "x", "x", "x", "ASPIRIN"],
            "4": [],
        },
    )
    printed = (0.2, 0.6, 0.33999999999999997)
    assert (scores.strict_accuracy, scores.lenient_accuracy, scores.mean_reciprocal_rank) == pytest.approx(printed)
    lists = list_scores(
        {"1": [["a", "alpha"], ["b"], ["c"]], "2": [["a"], ["a", "b"]], "3": [["x"]], "4": [["y"], ["z"]]},
        {"1": ["ALPHA", "a", "B", "q"], "2": ["a", "c"], "3": []},
    )
    printed = (0.25, 0.41666666666666663, 0.30952380952380953)
    assert (lists.precision, lists.recall, lists.f1) == pytest.approx(printed)
    answers = yes_no_scores(
        {"1": True, "2": True, "3": True, "4": False, "5": False}, {"1": True, "2": False, "3": True, "4": False}
    )
    printed = (0.6, 0.5833333333333333, 0.6666666666666666, 0.5)
    assert (answers.accuracy, answers.macro_f1, answers.f1_yes, answers.f1_no) == pytest.approx(printed)


@pytest.mark.parametrize(
    ("synonyms", "ranked", "expected"),
    [
        (["a", "b"], ["B"], (1.0, 1.0, 1.0)),
        (["a"], ["x", "x", "A"], (0.0, 1.0, 1 / 3)),  # the repeated answer takes up a rank
        (["a"], ["a", "a"], (1.0, 1.0, 1.0)),
        (["a"], ["v", "w", "x", "y", "a"], (0.0, 1.0, 1 / 5)),
        (["a"], ["v", "w", "x", "y", "z", "a"], (0.0, 0.0, 0.0)),  # the sixth
        (["a"], ["", "a"], (0.0, 1.0, 1 / 2)),
        (["a b"], ["a-b", "a  b", " a b"], (0.0, 0.0, 0.0)),  # nothing but case is normalised
        (["ÉΣ"], ["éς"], (1.0, 1.0, 1.0)),  # a final sigma, as Java's lower case has it too
        (["a"], [], (0.0, 0.0, 0.0)),
    ],
)
def test_factoid_by_hand(synonyms, ranked, expected):
    assert factoid(synonyms, ranked) == Factoid(*expected)


@pytest.mark.parametrize(
    ("items", "answers", "expected"),
    [
        ([["a", "b"], ["c"]], ["C", "B"], (1.0, 1.0, 1.0)),
        ([["a", "b"], ["c"]], ["a", "b"], (0.5, 0.5, 0.5)),  # two synonyms of one item
        ([["a"]], ["a", "a", "x", "y"], (0.25, 1.0, 0.4)),
        ([["a"], ["a", "b"]], ["a"], (1.0, 1.0, 1.0)),  # the shared synonym spares the second item
        ([["a"], ["a"]], ["a", "a"], (1.0, 1.0, 1.0)),
        ([["a", "b"], ["a"], ["c"]], ["a"], (1.0, 1 / 2, 2 / 3)),
        ([["a"], ["a"], ["a"]], ["a"], (1.0, 1 / 2, 2 / 3)),  # and spares but one
        ([["a"], []], ["a"], (1.0, 1.0, 1.0)),  # an item without a synonym is none
        ([["a"]], ["x"], (0.0, 0.0, 0.0)),
        ([["a"]], [], (0.0, 0.0, 0.0)),
    ],
)
def test_list_by_hand(items, answers, expected):
    assert list_answer(items, answers) == ListAnswer(*(pytest.approx(value) for value in expected))


@settings(max_examples=200, deadline=None)
@given(ITEMS, st.lists(ANSWER, max_size=6))
def test_list_of_items_that_share_nothing(items, answers):
    gold = {item[0][1:] for item in items}
    # What an answer names is its number, unless it is the letter c, which no item has.
    found = {answer[1:] for answer in answers if answer[0].lower() != "c"} & gold
    score = list_answer(items, answers)
    assert score.precision == pytest.approx(len(found) / len(answers) if answers else 0)
    assert score.recall == pytest.approx(len(found) / len(gold))
    assert score.f1 == pytest.approx(2 * len(found) / (len(gold) + len(answers)))


@settings(max_examples=200, deadline=None)
@given(st.lists(ANSWER, min_size=1, max_size=3), st.lists(ANSWER, max_size=8))
def test_factoid_measures_are_those_of_the_first_right_rank(synonyms, ranked):
    rank = next((rank for rank in range(1, 6) if any(a.upper() in map(str.upper, synonyms) for a in ranked[:rank])), 0)
    assert factoid(synonyms, ranked) == Factoid(float(rank == 1), float(rank > 0), 1 / rank if rank else 0.0)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=12))
def test_yes_no_against_scikit_learn(pairs):
    gold, answers = ({str(n): pair[side] for n, pair in enumerate(pairs)} for side in (0, 1))
    right, guess = list(gold.values()), list(answers.values())
    scores = yes_no_scores(gold, answers)
    by_label = f1_score(right, guess, labels=[True, False], average=None, zero_division=0)
    assert [scores.f1_yes, scores.f1_no] == pytest.approx(by_label.tolist())
    macro = f1_score(right, guess, labels=[True, False], average="macro", zero_division=0)
    assert scores.macro_f1 == pytest.approx(macro)
    assert scores.accuracy == pytest.approx(accuracy_score(right, guess))
    assert list(scores.by_question.values()) == [a == b for a, b in pairs]


def test_no_answer_is_wrong():
    assert factoid_scores({"q": ["a"], "r": ["b"]}, {"r": ["b"]}).strict_accuracy == 0.5
    assert list_scores({"q": [["a"]], "r": [["b"]]}, {"r": ["b"]}).f1 == 0.5
    gold = {"q": False, "r": True, "s": False}
    # Silence counts as the opposite answer.
    assert yes_no_scores(gold, {"r": True, "s": False}) == yes_no_scores(gold, {"q": True, "r": True, "s": False})
    assert yes_no_scores(gold, {"r": True, "s": False}).by_question == {"q": False, "r": True, "s": True}


def test_other_questions_are_ignored():
    assert factoid_scores({"q": ["a"]}, {"q": ["a"], "r": ["b"]}) == factoid_scores({"q": ["a"]}, {"q": ["a"]})
    assert list_scores({"q": [["a"]]}, {"q": ["a"], "r": ["b"]}) == list_scores({"q": [["a"]]}, {"q": ["a"]})
    assert yes_no_scores({"q": True}, {"q": True, "r": True}) == yes_no_scores({"q": True}, {"q": True})


def test_questions_without_gold_are_left_out():
    assert factoid_scores({"q": [], "r": ["b"]}, {"q": ["a"], "r": ["b"]}) == factoid_scores({"r": ["b"]}, {"r": ["b"]})
    lists = list_scores({"q": [], "r": [["b"]], "s": [[]]}, {"q": ["a"], "r": ["b"], "s": ["a"]})
    assert lists == list_scores({"r": [["b"]]}, {"r": ["b"]})


def test_nothing_to_score():
    scores, lists, answers = factoid_scores({}, {}), list_scores({}, {}), yes_no_scores({}, {})
    assert (scores.strict_accuracy, scores.lenient_accuracy, scores.mean_reciprocal_rank) == (0, 0, 0)
    assert (lists.precision, lists.recall, lists.f1) == (0, 0, 0)
    assert (answers.accuracy, answers.f1_yes, answers.f1_no, answers.macro_f1) == (0, 0, 0, 0)


def test_questions_keep_the_order_of_the_gold():
    assert list(factoid_scores({"b": ["x"], "a": ["x"]}, {"a": ["x"]}).by_question) == ["b", "a"]
