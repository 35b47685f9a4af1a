"""Exact answers as BioASQ task b, phase B, scores them: factoid, list and yes/no questions.

Source: the Java tool of the challenge, github.com/BioASQ/Evaluation-Measures at commit 8c8e689, read and run. What it
does in the editions since BioASQ 5 (options -e 5, 8 and 9), and so what is done here:

* An answer is right where it equals a gold synonym once both are in lower case. Nothing else is normalised: blanks,
  hyphens and full stops count. An empty answer is an answer, and wrong.
* Of an answer that a submission gives as several synonyms only the first counts; here an answer is one string.
* Factoid: strict accuracy asks whether the first answer is right, lenient accuracy whether any is; the reciprocal rank
  is that of the first right answer, 0 without one. A repeated answer takes up a rank.
* List: answers are taken in order, and each takes away the first gold item left that has it as a synonym: a true
  positive, or a false positive if there is none, so of a repeated answer the second is wrong. A gold item left at the
  end is a false negative unless one of the answers, each usable once more, is among its synonyms. So where two gold
  items share a synonym, one answer can spare both from being missed. F1 is of each question's own precision and
  recall; all three are averaged over questions.
* Yes/no: F1 of a label counts an answer that is not right as the other label's, even if there is none. F1 of a label
  that is in neither gold nor answers is 0, and still counts in the macro F1, the mean of both.
* Where there is no question of a kind, its scores are 0. Answers to questions without gold are ignored.

What is notable: two things differ from the tool.

* It scores whatever it is given; that a factoid has up to five answers is a rule of the challenge. Here the rest is
  not looked at, so longer rankings give what a submission of their first five would.
* A question without an answer is wrong here. So it is in the tool if the submission has the question (with an empty
  list or no exact answer); if the question itself is missing, it stops with an error (-e 5, 8), or leaves it out of
  the mean (-e 9), which would reward silence.

A gold question or list item without any answer cannot be scored and is left out, as the tool does (-e 9).
All scores are fractions in [0, 1].
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

FACTOID_ANSWERS = 5


@dataclass(frozen=True, slots=True)
class Factoid:
    """One factoid question: `strict` and `lenient` are 0.0 or 1.0, `reciprocal_rank` 0.0 or one of 1 to 1/5."""

    strict: float
    lenient: float
    reciprocal_rank: float


@dataclass(frozen=True, slots=True)
class FactoidScores:
    """Means over the questions of `by_question`, which are those of the gold that have an answer, in its order."""

    strict_accuracy: float
    lenient_accuracy: float
    mean_reciprocal_rank: float
    by_question: dict[str, Factoid]


@dataclass(frozen=True, slots=True)
class ListAnswer:
    """One list question."""

    precision: float
    recall: float
    f1: float


@dataclass(frozen=True, slots=True)
class ListScores:
    """Means over the questions of `by_question`, which are those of the gold that have an item, in its order."""

    precision: float
    recall: float
    f1: float
    by_question: dict[str, ListAnswer]


@dataclass(frozen=True, slots=True)
class YesNoScores:
    """Accuracy, F1 of either label and their mean; `by_question` tells which questions are right, in gold order."""

    accuracy: float
    f1_yes: float
    f1_no: float
    macro_f1: float
    by_question: dict[str, bool]


def factoid_scores(gold: Mapping[str, Sequence[str]], predictions: Mapping[str, Sequence[str]]) -> FactoidScores:
    """Score ranked answers.

    Args:
        gold: for each question id the synonyms of its answer.
        predictions: for each question id its answers, best first; the first five count.
    """
    by_question = {
        question: _factoid(synonyms, predictions.get(question, ())) for question, synonyms in gold.items() if synonyms
    }
    return FactoidScores(
        strict_accuracy=_mean(one.strict for one in by_question.values()),
        lenient_accuracy=_mean(one.lenient for one in by_question.values()),
        mean_reciprocal_rank=_mean(one.reciprocal_rank for one in by_question.values()),
        by_question=by_question,
    )


def list_scores(gold: Mapping[str, Sequence[Sequence[str]]], predictions: Mapping[str, Sequence[str]]) -> ListScores:
    """Score lists of answers.

    Args:
        gold: for each question id its items, and for each item its synonyms.
        predictions: for each question id its answers.
    """
    by_question = {
        question: _list_answer(items, predictions.get(question, ())) for question, items in gold.items() if any(items)
    }
    return ListScores(
        precision=_mean(one.precision for one in by_question.values()),
        recall=_mean(one.recall for one in by_question.values()),
        f1=_mean(one.f1 for one in by_question.values()),
        by_question=by_question,
    )


def yes_no_scores(gold: Mapping[str, bool], predictions: Mapping[str, bool]) -> YesNoScores:
    """Score answers, True for yes.

    Args:
        gold, predictions: the answer for each question id.
    """
    by_question = {question: predictions.get(question) == answer for question, answer in gold.items()}
    # A wrong answer is a miss of one label and a false alarm of the other, so both labels share the errors.
    wrong = sum(not right for right in by_question.values())
    right_yes = sum(right and gold[question] for question, right in by_question.items())
    right_no = len(by_question) - wrong - right_yes
    f1_yes, f1_no = (2 * right / (2 * right + wrong) if right else 0.0 for right in (right_yes, right_no))
    return YesNoScores(
        accuracy=_mean(by_question.values()),
        f1_yes=f1_yes,
        f1_no=f1_no,
        macro_f1=(f1_yes + f1_no) / 2,
        by_question=by_question,
    )


def _factoid(synonyms: Sequence[str], ranked: Sequence[str]) -> Factoid:
    right = {synonym.lower() for synonym in synonyms}
    found = [answer.lower() in right for answer in ranked[:FACTOID_ANSWERS]]
    if not any(found):
        return Factoid(0.0, 0.0, 0.0)
    return Factoid(float(found[0]), 1.0, 1 / (1 + found.index(True)))


def _list_answer(items: Sequence[Sequence[str]], answers: Sequence[str]) -> ListAnswer:
    left = [{synonym.lower() for synonym in item} for item in items if item]
    given = [answer.lower() for answer in answers]
    true_positive = 0
    for answer in given:
        match = next((item for item in left if answer in item), None)
        if match is not None:
            left.remove(match)
            true_positive += 1
    false_negative = 0
    unused = list(given)
    for item in left:
        match = next((answer for answer in unused if answer in item), None)
        if match is None:
            false_negative += 1
        else:
            unused.remove(match)
    if not true_positive:
        return ListAnswer(0.0, 0.0, 0.0)
    precision = true_positive / len(given)
    recall = true_positive / (true_positive + false_negative)
    return ListAnswer(precision, recall, 2 * precision * recall / (precision + recall))


def _mean(values: Iterable[float]) -> float:
    """The mean, 0 of nothing."""
    numbers = list(values)
    return sum(numbers) / len(numbers) if numbers else 0.0
