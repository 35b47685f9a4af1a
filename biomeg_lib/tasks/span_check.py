"""What windows and sub-tokens cost in question answering before any model errs: gold answers to features and back.

What is notable: the logits are perfect (10 at the gold start and end, and at [CLS] where a window does not hold the
answer), so whatever does not score 100 was lost on the way. Each such question is listed with its reason; a reason
follows from the answer's characters and tokens alone, so that an error of the way itself shows as `UNEXPLAINED`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from biomeg_lib.benchmarks.questions import Question
from biomeg_lib.metrics.squad import squad_scores
from biomeg_lib.tasks.spans import SpanFeature, best_answer, build, decode, gold_characters, gold_pieces
from biomeg_lib.vocab import Vocabulary

NO_TOKEN = "the answer has no token"
LONG = "the answer is longer than a window"
DIVIDED = "the answer fits into a window, but each window cuts it"
INSIDE = "the answer begins or ends inside a token"
DROPPED = "the answer begins or ends with characters that the vocabulary drops"
UNEXPLAINED = "unexplained"


@dataclass(frozen=True, slots=True)
class SpanCheck:
    """How gold answers survive.

    Attributes:
        exact, f1: SQuAD's scores over all questions, fractions in [0, 1].
        questions, windows: how many there were.
        remainder: for each reason that occurred, the ids of the questions that do not score 1.
    """

    exact: float
    f1: float
    questions: int
    windows: int
    remainder: dict[str, list[str]]


def check(
    questions: Sequence[Question], vocabulary: Vocabulary, max_length: int, stride: int, max_question: int
) -> SpanCheck:
    """Push the gold answers of at least one question, with ids of their own, through `build` and `decode`.

    Raises:
        BiomegError: as `build` does, or there is no question.
    """
    features = build(questions, vocabulary, max_length, stride, max_question)
    starts, ends = _perfect(features, max_length)
    longest = max((feature.end - feature.start + 1 for feature in features), default=1)
    predictions = decode(features, starts, ends, questions, n_best=1, max_answer=longest)
    answers = {
        question.id: best_answer(prediction, 0.0) for question, prediction in zip(questions, predictions, strict=True)
    }
    gold = {
        question.id: [] if question.impossible else [answer.text for answer in question.answers]
        for question in questions
    }
    # Not version 1.1, which scores an answer of articles and punctuation 0 even if it is found.
    scores = squad_scores(gold, answers, "2.0")
    remainder: dict[str, list[str]] = {}
    held = {feature.question for feature in features if feature.start}
    for feature in features:
        question = questions[feature.question]
        if feature.begin == 0 and scores.items[question.id] != (1.0, 1.0):
            reason = _reason(question, feature, max_length, feature.question in held)
            remainder.setdefault(reason, []).append(question.id)
    return SpanCheck(scores.exact, scores.f1, len(questions), len(features), remainder)


def _perfect(features: Sequence[SpanFeature], max_length: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Start and end logits; the windows without the answer, which are most, share one row."""
    rows = np.zeros((max_length, max_length), dtype=np.float32)
    np.fill_diagonal(rows, 10)
    return [rows[feature.start] for feature in features], [rows[feature.end] for feature in features]


def _reason(question: Question, feature: SpanFeature, max_length: int, held: bool) -> str:
    """Why the answer is not found: from any of its features, and whether one of them holds the answer."""
    characters, pieces = gold_characters(question), gold_pieces(question, feature.context)
    if not characters or not pieces:
        return NO_TOKEN
    if pieces[1] - pieces[0] + 1 > max_length - feature.first - 1:
        return LONG
    if not held:
        return DIVIDED
    start, end = feature.context.starts[pieces[0]], feature.context.ends[pieces[1]]
    if start < characters[0] or end > characters[1]:
        return INSIDE
    return DROPPED if (start, end) != characters else UNEXPLAINED
