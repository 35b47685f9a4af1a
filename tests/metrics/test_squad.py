"""SQuAD scores against cases by hand, and against slow counts written from the definitions.

The official scripts are not here. What is asserted of edge cases is what they answer for the same input.
"""

import itertools
import math
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from biomeg_lib.errors import BiomegError
from biomeg_lib.metrics.squad import Agreement, Best, exact, normalise, overlap, squad_scores

WORD = st.sampled_from(["a", "An", "THE", "gene", "Gene.", "p-53", "p53", "kinase,", "β", "“kinase”", "...", "the_"])
TEXT = st.lists(WORD, max_size=5).map(" ".join) | st.text(max_size=8)
GOLDS = st.lists(TEXT, min_size=1, max_size=3)


def slow_normalise(text):
    """Letter by letter: a word to leave out is a run of letters and digits between others."""
    kept = [letter for letter in text.lower() if not ("!" <= letter <= "~" and not letter.isalnum())]
    runs = ["".join(run) for _, run in itertools.groupby(kept, str.isalnum)]
    return " ".join("".join(" " if run in ("a", "an", "the") else run for run in runs).split())


def slow_overlap(prediction, gold, of_nothing):
    """F1 by crossing out tokens in pairs."""
    left, right = slow_normalise(prediction).split(), slow_normalise(gold).split()
    if not left + right:
        return of_nothing
    rest, same = list(right), 0
    for token in left:
        if token in rest:
            rest.remove(token)
            same += 1
    return Fraction(2 * same, len(left) + len(right))


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("The Gene", "gene"),
        ("an  aspirin\ta day\n", "aspirin day"),
        ("theatre Anna", "theatre anna"),  # articles are whole words
        ("p-53, (BRCA1)", "p53 brca1"),  # punctuation goes without leaving a space
        ("a.n", ""),  # ... and may leave an article
        ("the-rapy", "therapy"),
        ("“quoted” ± β", "“quoted” ± β"),  # only ASCII punctuation goes
        ("“The”", "“ ”"),  # other punctuation bounds a word
        ("\u00a0x\u2003y\u00a0", "x y"),  # any white space
        ("...", ""),
        ("", ""),
    ],
)
def test_normalise_by_hand(text, normal):
    assert normalise(text) == normal == slow_normalise(text)


@pytest.mark.parametrize(
    ("prediction", "golds", "em", "f1"),
    [
        ("the Gene.", ["gene"], 1, 1),
        ("p53 kinase", ["p53"], 0, Fraction(2, 3)),
        ("p53", ["the p53 kinase domain"], 0, Fraction(1, 2)),
        ("kinase p53", ["p53 kinase"], 0, 1),  # order counts for exact match alone
        ("p53 p53 p53", ["p53 p53 kinase"], 0, Fraction(2, 3)),  # a token is matched as often as it is there
        ("p53 p53", ["p53"], 0, Fraction(2, 3)),
        ("mdm2", ["p53"], 0, 0),
        ("p53 kinase", ["mdm2", "p53", "kinase p53 x"], 0, Fraction(4, 5)),  # the best of several
        ("p53", ["mdm2", "p53", "p53"], 1, 1),
        ("", ["p53"], 0, 0),
        ("The", ["p53"], 0, 0),
    ],
)
@pytest.mark.parametrize("version", ["1.1", "2.0"])
def test_one_answer_by_hand(prediction, golds, em, f1, version):
    assert exact(prediction, golds, version) == em
    assert overlap(prediction, golds, version) == pytest.approx(float(f1))


@pytest.mark.parametrize(
    ("prediction", "golds", "first", "second"),
    [
        ("", ["the"], (1, 0), (1, 1)),  # nothing against nothing
        ("a", ["an", "p53"], (1, 0), (0, 0)),  # v2.0 drops gold answers that are nothing ...
        ("p53", ["an", "p53"], (1, 1), (1, 1)),
        ("p53", ["an"], (0, 0), (0, 0)),  # ... and then wants nothing
    ],
)
def test_versions_part_where_nothing_is_left(prediction, golds, first, second):
    assert (exact(prediction, golds, "1.1"), overlap(prediction, golds, "1.1")) == first
    assert (exact(prediction, golds, "2.0"), overlap(prediction, golds, "2.0")) == second


def test_unanswerable_by_hand():
    for prediction, score in (("", 1), ("the.", 1), ("p53", 0)):
        assert exact(prediction, []) == overlap(prediction, []) == score


@settings(max_examples=400, deadline=None)
@given(TEXT, GOLDS)
def test_one_answer_against_slow_counts(prediction, golds):
    assert normalise(prediction) == slow_normalise(prediction)
    assert exact(prediction, golds, "1.1") == max(slow_normalise(prediction) == slow_normalise(g) for g in golds)
    assert overlap(prediction, golds, "1.1") == pytest.approx(max(slow_overlap(prediction, g, 0) for g in golds))
    golds = [gold for gold in golds if slow_normalise(gold)] or [""]
    assert exact(prediction, golds) == max(slow_normalise(prediction) == slow_normalise(gold) for gold in golds)
    assert overlap(prediction, golds) == pytest.approx(max(slow_overlap(prediction, gold, 1) for gold in golds))


def test_golden_version_1():
    gold = {"q1": ["the p53 gene"], "q2": ["mdm2", "p53 kinase"], "q3": ["p53"], "q4": ["p53"]}
    scores = squad_scores(gold, {"q1": "p53 gene", "q2": "p53", "q3": "", "other": "p53"}, "1.1")
    assert scores.items == {"q1": (1, 1), "q2": (0, pytest.approx(2 / 3)), "q3": (0, 0), "q4": (0, 0)}
    assert (scores.exact, scores.f1) == pytest.approx((1 / 4, 5 / 12))
    assert (scores.total, scores.missing) == (4, 1)
    assert scores.answerable is scores.unanswerable is scores.best is None


def test_golden_version_2():
    gold = {"q1": ["p53"], "q2": ["p53 kinase"], "q3": [], "q4": [], "q5": ["p53"], "q6": []}
    predictions = {"q1": "P53", "q2": "kinase", "q3": "", "q4": "p53"}
    scores = squad_scores(gold, predictions, "2.0")
    assert scores.items == {"q1": (1, 1), "q2": (0, pytest.approx(2 / 3)), "q3": (1, 1), "q4": (0, 0)}
    assert (scores.exact, scores.f1) == pytest.approx((2 / 4, 2 / 3))
    assert (scores.total, scores.missing) == (4, 2)
    assert scores.answerable == Agreement(1 / 2, pytest.approx(5 / 6), 2)
    assert scores.unanswerable == Agreement(1 / 2, 1 / 2, 2)
    assert scores.best is None


def test_no_unanswerable_questions():
    scores = squad_scores({"q": ["p53"]}, {"q": "p53"}, "2.0")
    assert (scores.answerable, scores.unanswerable) == (Agreement(1, 1, 1), None)
    assert squad_scores({"q": []}, {"q": ""}, "2.0").answerable is None


def test_best_threshold_by_hand():
    gold = {"q1": ["p53"], "q2": ["p53 kinase"], "q3": [], "q4": ["mdm2"], "q5": []}
    predictions = {"q1": "p53", "q2": "p53", "q3": "p53", "q4": "mdm2", "q5": "x"}
    no_answer = {"q5": 9.0, "q4": 3.5, "q3": 2.0, "q2": 1.5, "q1": -1.0, "other": 0.0}
    # exact, giving answers from the lowest score on: 2 (withheld all), 3, 3, 2, 3, 2
    # F1: 2, 3, 3 2/3, 2 2/3, 3 2/3, 2 2/3
    best = squad_scores(gold, predictions, "2.0", no_answer).best
    assert best == Best(pytest.approx(3 / 5), -1.0, pytest.approx(11 / 15), 1.5)


def test_best_threshold_where_withholding_all_is_best():
    scores = squad_scores({"q1": [], "q2": ["x"]}, {"q1": "p53", "q2": "p53"}, "2.0", {"q1": -2.0, "q2": -1.0})
    assert scores.best == Best(1 / 2, 0.0, 1 / 2, 0.0)


def test_best_threshold_edges():
    # An answer of articles alone is right for an unanswerable question, yet giving it counts as a mistake.
    assert squad_scores({"q": []}, {"q": "the"}, "2.0", {"q": 1.0}).exact == 1
    gold, predictions = {"q1": [], "q2": ["p53"]}, {"q1": "the", "q2": "p53"}
    assert squad_scores(gold, predictions, "2.0", {"q1": 1.0, "q2": 2.0}).best == Best(1 / 2, 0.0, 1 / 2, 0.0)
    assert squad_scores(gold, predictions | {"q1": ""}, "2.0", {"q1": 1.0, "q2": 2.0}).best == Best(1, 2.0, 1, 2.0)
    # Questions without a prediction have no part in it.
    assert squad_scores(gold | {"q3": []}, predictions, "2.0", {"q1": 2.0, "q2": 1.0}).best == Best(1, 1.0, 1, 1.0)


ANSWER = st.lists(st.sampled_from(["gene", "p53", "kinase"]), max_size=3).map(" ".join)
ITEM = st.tuples(st.lists(ANSWER.filter(bool), max_size=2), ANSWER | st.none())


@settings(max_examples=200, deadline=None)
@given(st.lists(ITEM, min_size=1, max_size=8).filter(lambda items: any(answer is not None for _, answer in items)))
def test_averages_against_slow_means(rows):
    gold = {f"q{i}": golds for i, (golds, _) in enumerate(rows)}
    predictions = {f"q{i}": answer for i, (_, answer) in enumerate(rows) if answer is not None}
    scores = squad_scores(gold, predictions, "2.0")
    pairs = {
        question: (
            max(answer == g for g in gold[question] or [""]),
            max(slow_overlap(answer, g, 1) for g in gold[question] or [""]),
        )
        for question, answer in predictions.items()
    }
    parts = {
        "all": (scores, list(pairs)),
        "with answers": (scores.answerable, [question for question in pairs if gold[question]]),
        "without": (scores.unanswerable, [question for question in pairs if not gold[question]]),
    }
    for part, questions in parts.values():
        if not questions:
            assert part is None
            continue
        assert part.total == len(questions)
        for i, value in enumerate((part.exact, part.f1)):
            assert value == pytest.approx(
                float(Fraction(sum(pairs[question][i] for question in questions))) / part.total
            )
    assert scores.missing == len(rows) - len(pairs)
    assert list(scores.items) == [question for question in gold if question in predictions]


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.lists(ANSWER.filter(bool), max_size=2), ANSWER), min_size=1, max_size=7), st.randoms())
def test_best_threshold_against_all_thresholds(rows, random):
    gold = {f"q{i}": golds for i, (golds, _) in enumerate(rows)}
    predictions = {f"q{i}": answer for i, (_, answer) in enumerate(rows)}
    values = random.sample(range(1, 20), len(rows))
    no_answer = dict(zip(gold, values, strict=True))

    def withheld(threshold):
        kept = {q: "" if no_answer[q] > threshold else answer for q, answer in predictions.items()}
        return squad_scores(gold, kept, "2.0")

    best = squad_scores(gold, predictions, "2.0", no_answer).best
    tried = [withheld(threshold) for threshold in (0, *values)]
    assert best.exact == pytest.approx(max(scores.exact for scores in tried))
    assert best.f1 == pytest.approx(max(scores.f1 for scores in tried))
    assert withheld(best.exact_threshold).exact == pytest.approx(best.exact)
    assert withheld(best.f1_threshold).f1 == pytest.approx(best.f1)


def test_errors():
    with pytest.raises(BiomegError, match=r"version 1\.1 or 2\.0, found '2'"):
        squad_scores({"q": ["x"]}, {"q": "x"}, "2")
    with pytest.raises(BiomegError, match=r"gold answers .* none to 'q'"):
        squad_scores({"q": []}, {}, "1.1")
    with pytest.raises(BiomegError, match="expected a gold answer"):
        overlap("x", [], "1.1")
    with pytest.raises(BiomegError, match="found 0 questions without"):
        squad_scores({}, {"q": "x"}, "1.1")
    with pytest.raises(BiomegError, match="found 1 questions without"):
        squad_scores({"q": []}, {}, "2.0")
    with pytest.raises(BiomegError, match=r"for SQuAD 2\.0 only"):
        squad_scores({"q": ["x"]}, {"q": "x"}, "1.1", {"q": 0.5})
    with pytest.raises(BiomegError, match="found None of 'q'"):
        squad_scores({"q": ["x"]}, {"q": "x"}, "2.0", {})
    with pytest.raises(BiomegError, match="found nan of 'q'"):
        squad_scores({"q": ["x"]}, {"q": "x"}, "2.0", {"q": math.nan})
