"""Exact match and token F1 of SQuAD v1.1 (Rajpurkar et al. 2016) and v2.0 (2018), as the official scripts count them.

What is notable: the two versions part in what has nothing to compare.

- A question without a prediction scores 0 in v1.1 and is left out of v2.0's averages; `missing` counts them. (The
  official v2.0 script warns of it, and then fails at the break-down; here that too is over the questions that remain.)
- A prediction and a gold answer that both normalise to nothing have an F1 of 0 in v1.1 and of 1 in v2.0.
- Gold answers that normalise to nothing are no answers in v2.0; where none is left, only an empty prediction is right.

Predictions of questions that are not in the gold are ignored. Scores are fractions in [0, 1], not per cent.
"""

import math
import re
import string
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from biomeg_lib.errors import BiomegError

Version = Literal["1.1", "2.0"]

_PUNCTUATION = str.maketrans("", "", string.punctuation)
_ARTICLE = re.compile(r"\b(?:a|an|the)\b")


@dataclass(frozen=True, slots=True)
class Agreement:
    """Mean exact match and mean F1, fractions in [0, 1], over `total` questions."""

    exact: float
    f1: float
    total: int


@dataclass(frozen=True, slots=True)
class Best:
    """The highest scores that withholding answers can reach, each with the no-answer score above which to withhold.

    As in the official script, a threshold of 0 also stands for withholding all answers, and of questions with equal
    no-answer scores some may count as answered and others as withheld.
    """

    exact: float
    exact_threshold: float
    f1: float
    f1_threshold: float


@dataclass(frozen=True, slots=True)
class SquadScores(Agreement):
    """Scores over all questions, and what they are made of.

    Attributes:
        missing: number of questions without a prediction.
        answerable, unanswerable: v2.0 only (the official HasAns and NoAns): scores of the questions with and without
            gold answers; None where there are none.
        best: v2.0 with no-answer scores only.
        items: (exact match, F1) of each question that `total` counts, in the order of the gold; `exact` and `f1` are
            their means.
    """

    missing: int
    answerable: Agreement | None
    unanswerable: Agreement | None
    best: Best | None
    items: dict[str, tuple[float, float]]


def normalise(text: str) -> str:
    """The text in lower case, without ASCII punctuation and the words a, an, the; single spaces part its tokens."""
    return " ".join(_ARTICLE.sub(" ", text.lower().translate(_PUNCTUATION)).split())


def exact(prediction: str, golds: Sequence[str], version: Version = "2.0") -> float:
    """1 if the normalised prediction is one of the normalised gold answers, else 0.

    Raises:
        BiomegError: v1.1 without a gold answer.
    """
    return float(normalise(prediction) in _normalised(golds, version))


def overlap(prediction: str, golds: Sequence[str], version: Version = "2.0") -> float:
    """The highest F1 with a gold answer, of precision and recall over normalised tokens, each as often as it occurs.

    Raises:
        BiomegError: v1.1 without a gold answer.
    """
    tokens = normalise(prediction).split()
    return max(_token_f1(tokens, gold.split(), version) for gold in _normalised(golds, version))


def squad_scores(
    gold: Mapping[str, Sequence[str]],
    predictions: Mapping[str, str],
    version: Version,
    no_answer: Mapping[str, float] | None = None,
) -> SquadScores:
    """Scores of the predictions as they are.

    Args:
        gold: the accepted answers of each question, by its id; none if it cannot be answered (v2.0).
        predictions: the answer to each question, "" to withhold one.
        no_answer: for v2.0, how much each question looks unanswerable, in any unit. It does not change the predictions,
            which for `best` are best given without withholding any.

    Raises:
        BiomegError: no such version; no question to score; v1.1 with a question without gold answers or with no-answer
            scores; a predicted question without a no-answer score, or with one that is not a number.
    """
    if version not in get_args(Version):
        raise BiomegError(f"expected SQuAD version 1.1 or 2.0, found {version!r}")
    items = {}
    for question, golds in gold.items():
        if version == "1.1" and not golds:
            raise BiomegError(f"expected gold answers to every question of SQuAD 1.1, found none to {question!r}")
        if question in predictions:
            prediction = predictions[question]
            items[question] = exact(prediction, golds, version), overlap(prediction, golds, version)
        elif version == "1.1":
            items[question] = 0.0, 0.0
    if not items:
        raise BiomegError(f"expected a question with a prediction, found {len(gold)} questions without")
    answerable = unanswerable = best = None
    if version == "2.0":
        answerable = _mean([item for question, item in items.items() if gold[question]])
        unanswerable = _mean([item for question, item in items.items() if not gold[question]])
    if no_answer is not None:
        if version == "1.1":
            raise BiomegError("expected no-answer scores for SQuAD 2.0 only, found some for 1.1")
        for question in items:
            if math.isnan(no_answer.get(question, math.nan)):
                found = no_answer.get(question)
                raise BiomegError(
                    f"expected a no-answer score of every predicted question, found {found} of {question!r}"
                )
        best = Best(
            *_best(gold, predictions, no_answer, {question: match for question, (match, _) in items.items()}),
            *_best(gold, predictions, no_answer, {question: f1 for question, (_, f1) in items.items()}),
        )
    overall = _mean(list(items.values()))
    return SquadScores(
        exact=overall.exact,
        f1=overall.f1,
        total=overall.total,
        missing=sum(question not in predictions for question in gold),
        answerable=answerable,
        unanswerable=unanswerable,
        best=best,
        items=items,
    )


def _normalised(golds: Sequence[str], version: Version) -> list[str]:
    """What a prediction is compared with, at least one text."""
    texts = [normalise(gold) for gold in golds]
    if version == "2.0":
        return [text for text in texts if text] or [""]
    if not texts:
        raise BiomegError("expected a gold answer, found none")
    return texts


def _token_f1(prediction: list[str], gold: list[str], version: Version) -> float:
    """F1 of two token multisets."""
    if not prediction and not gold:
        return float(version == "2.0")
    same = (Counter(prediction) & Counter(gold)).total()
    if not same:
        return 0.0
    # Written as the harmonic mean, so that it rounds as the official F1 does and `_best` sees the same ties.
    precision, recall = same / len(prediction), same / len(gold)
    return 2 * precision * recall / (precision + recall)


def _mean(items: Sequence[tuple[float, float]]) -> Agreement | None:
    """The means of the items' values, None of no items."""
    if not items:
        return None
    exacts, f1s = zip(*items, strict=True)
    return Agreement(sum(exacts) / len(items), sum(f1s) / len(items), len(items))


def _best(
    gold: Mapping[str, Sequence[str]],
    predictions: Mapping[str, str],
    no_answer: Mapping[str, float],
    values: Mapping[str, float],
) -> tuple[float, float]:
    """The best mean over all thresholds of values that the questions have when answered, and its threshold.

    All answers are withheld at first, which is right for the unanswerable questions. Then they are given one by one,
    the least likely to be unanswerable first.
    """
    score = best = float(sum(not gold[question] for question in values))
    threshold = 0.0
    for question in sorted(no_answer, key=no_answer.__getitem__):
        if question not in values:
            continue
        if gold[question]:
            score += values[question]
        elif predictions[question]:
            score -= 1
        if score > best:
            best, threshold = score, no_answer[question]
    return best / len(values), threshold
