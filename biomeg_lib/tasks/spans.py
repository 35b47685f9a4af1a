"""Extractive question answering: questions to features in windows, logits per token back to ranked pieces of text.

What is notable:

- A context longer than the model's input is read in overlapping windows. `stride` is the distance in tokens between the
  starts of two windows (doc_stride of BERT's SQuAD script), not their overlap. The last window ends where the context
  ends and may be short. Where the stride is larger than a window, windows follow each other without a gap.
- A context is encoded once, however many questions and windows share it, and a feature only points into it: COVID-QA
  asks up to dozens of questions about one article of 15,000 tokens.
- A span is read from one window only: from the one that gives its first token the most context, as in BERT's script.
  Where that window ends before the span does, the script loses the span; here the next window that holds all of it
  counts, so that a long answer is found wherever some window holds it.
- Decoding looks at all pairs of a start and an end, not only at those among the n best starts and the n best ends.
- An answer is cut from the context by characters, so it is an exact part of it, blanks and capitals included.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from biomeg_lib.benchmarks.questions import Question
from biomeg_lib.errors import BiomegError
from biomeg_lib.vocab import Vocabulary


class Context:
    """An encoded context of N pieces: `ids` int32[N], and the characters [`starts`, `ends`) of each, int32[N]."""

    __slots__ = ("ends", "ids", "starts")

    def __init__(self, text: str, vocabulary: Vocabulary):
        encoding = vocabulary.encode(text)
        self.ids = np.array(encoding.ids, dtype=np.int32)
        self.starts, self.ends = np.array(encoding.offsets, dtype=np.int32).reshape(-1, 2).T.copy()

    def covering(self, start: int, end: int) -> tuple[int, int] | None:
        """The first and the last piece that share a character with [start, end); None where no piece does."""
        first = int(np.searchsorted(self.ends, start, side="right"))
        last = int(np.searchsorted(self.starts, end, side="left")) - 1
        return (first, last) if first <= last else None


@dataclass(frozen=True, slots=True, eq=False)
class SpanFeature:
    """A question and a window of its context, as the model takes them: [CLS] question [SEP] window [SEP].

    Attributes:
        start, end: positions in `tokens` of the answer's first and last token; both 0, which is [CLS], if this window
            does not hold all of it, or there is none.
        question: index of the question.
        begin, stop: the window is the pieces begin ... stop - 1 of the context; it is empty for a context without any.
        best: the tokens that this window gives the most context, counted from the window's first token.
        fresh: the first token that no earlier window holds, counted alike.
        head: int32, [CLS] question [SEP]; one array for all windows of a question.
        context: the whole context; one object for all questions about it.
    """

    start: int
    end: int
    question: int
    begin: int
    stop: int
    best: range
    fresh: int
    head: np.ndarray = field(repr=False)
    context: Context = field(repr=False)

    def __len__(self) -> int:
        """How many tokens there are."""
        return len(self.head) + self.stop - self.begin + 1

    @property
    def first(self) -> int:
        """Position in `tokens` of the window's first token."""
        return len(self.head)

    @property
    def tokens(self) -> np.ndarray:
        """int32[len(self)], ids."""
        return np.concatenate((self.head, self.context.ids[self.begin : self.stop], self.head[-1:]))

    @property
    def types(self) -> np.ndarray:
        """int32[len(self)]: 0 for [CLS] question [SEP], 1 for the window and its [SEP]."""
        return (np.arange(len(self)) >= self.first).astype(np.int32)

    @property
    def offsets(self) -> np.ndarray:
        """int32[stop - begin, 2]: for each token of the window, the (start, end) characters of the context."""
        return np.stack(
            (self.context.starts[self.begin : self.stop], self.context.ends[self.begin : self.stop]), axis=1
        )


@dataclass(frozen=True, slots=True)
class Span:
    """A piece of a context: its characters [start, end), and its score, which is start logit + end logit."""

    text: str
    start: int
    end: int
    score: float


@dataclass(frozen=True, slots=True)
class Prediction:
    """What was found for a question.

    Attributes:
        spans: the best spans, best first, of distinct texts; none for a context without tokens.
        null: the score of there being no answer: the least start + end logit of [CLS] over all windows.
    """

    spans: tuple[Span, ...]
    null: float


def build(
    questions: Sequence[Question], vocabulary: Vocabulary, max_length: int, stride: int, max_question: int
) -> list[SpanFeature]:
    """Features of all windows of all questions, in order; at least one for each question.

    The gold span is that of the first answer without the blanks around it: all tokens that share a character with it.

    Args:
        max_length: tokens a feature may have, at least max_question + 4.
        stride: tokens between the starts of two windows.
        max_question: tokens of a question that are kept; the rest of a longer one is left out.

    Raises:
        BiomegError: a stride or max_question below 1, or a max_length without room for a token of the context.
    """
    if stride < 1 or max_question < 1:
        raise BiomegError(f"expected stride and max_question of at least 1, found {stride} and {max_question}")
    if max_length < max_question + 4:
        needed = f"{max_question + 4} (a question of {max_question}, three special tokens, one of the context)"
        raise BiomegError(f"expected max_length of at least {needed}, found {max_length}")
    contexts: dict[str, Context] = {}
    features: list[SpanFeature] = []
    for number, question in enumerate(questions):
        if (context := contexts.get(question.context)) is None:
            context = contexts[question.context] = Context(question.context, vocabulary)
        ids = vocabulary.encode(question.question).ids[:max_question]
        head = np.array([vocabulary.cls_id, *ids, vocabulary.sep_id], dtype=np.int32)
        gold = gold_pieces(question, context)
        for begin, stop, best, fresh in _windows(len(context.ids), max_length - len(head) - 1, stride):
            start = end = 0
            if gold and begin <= gold[0] and gold[1] < stop:
                start, end = (len(head) + piece - begin for piece in gold)
            features.append(SpanFeature(start, end, number, begin, stop, best, fresh, head, context))
    return features


def gold_characters(question: Question) -> tuple[int, int] | None:
    """The characters of the context that the first answer spans without blanks around it; None without an answer."""
    if question.impossible or not question.answers or not (text := question.answers[0].text.strip()):
        return None
    start = question.answers[0].start + question.answers[0].text.index(text)
    return start, start + len(text)


def gold_pieces(question: Question, context: Context) -> tuple[int, int] | None:
    """The first and last piece of the context that touch the first answer; None where there are none."""
    characters = gold_characters(question)
    return characters and context.covering(*characters)


def decode(
    features: Sequence[SpanFeature],
    starts: Sequence[npt.ArrayLike],
    ends: Sequence[npt.ArrayLike],
    questions: Sequence[Question],
    n_best: int = 20,
    max_answer: int = 30,
) -> list[Prediction]:
    """The best spans of each question over all its windows, and the score of its having no answer.

    Spans have at most `max_answer` tokens and at least one character. Of spans with the same text the best one counts;
    of equal scores the earlier one, then the shorter one.

    Args:
        features: as from `build` for these questions, in any order.
        starts, ends: for each feature an array of logits, one for each of its tokens; padding may follow.
        questions: those given to `build`; only their contexts are used.

    Raises:
        BiomegError: the logits do not match the features or are not numbers, a question has no feature, or a bound is
            below 1.
    """
    if n_best < 1 or max_answer < 1:
        raise BiomegError(f"expected n_best and max_answer of at least 1, found {n_best} and {max_answer}")
    if not len(features) == len(starts) == len(ends):
        raise BiomegError(f"expected logits for {len(features)} features, found {len(starts)} and {len(ends)}")
    own: list[list[int]] = [[] for _ in questions]
    for index, feature in enumerate(features):
        own[feature.question].append(index)
    predictions = []
    for indices, question in zip(own, questions, strict=True):
        if not indices:
            raise BiomegError(f"expected features of every question, found none of {question.id}")
        windows = [_Window.make(features[index], starts[index], ends[index]) for index in indices]
        spans = _best_spans(windows, question.context, n_best, max_answer)
        predictions.append(Prediction(tuple(spans), min(window.null for window in windows)))
    return predictions


def best_answer(prediction: Prediction, threshold: float | None) -> str:
    """The best span's text, or "" for no answer.

    Args:
        threshold: how far the score of no answer may exceed the best span's (null_score_diff_threshold of BERT's
            script); None never refuses to answer, as SQuAD 1.1 wants it.
    """
    if not prediction.spans or (threshold is not None and prediction.null - prediction.spans[0].score > threshold):
        return ""
    return prediction.spans[0].text


def merge(predictions: Sequence[Prediction], count: int = 5) -> list[tuple[str, float]]:
    """Ranked answers to one question from the predictions for its snippets: at most `count` (text, probability).

    Probabilities are a softmax of the scores of all spans of all snippets, and not of one snippet at a time: that would
    give as much weight to a snippet without an answer, where all spans score low, as to one that has it. Answers that
    differ only in capitals and blanks are one, with the sum of their probabilities and the spelling of the best of
    them. Of equal probabilities the first found is first. The score of no answer takes no part.
    """
    spans = [span for prediction in predictions for span in prediction.spans]
    if not spans:
        return []
    weights = np.exp(np.array([span.score for span in spans]) - max(span.score for span in spans))
    total: dict[str, float] = {}
    best: dict[str, Span] = {}
    for span, weight in zip(spans, (weights / weights.sum()).tolist(), strict=True):
        key = " ".join(span.text.lower().split())
        total[key] = total.get(key, 0.0) + weight
        best[key] = max(best.get(key, span), span, key=lambda span: span.score)
    return [(best[key].text, total[key]) for key in sorted(total, key=total.__getitem__, reverse=True)[:count]]


_Candidate = tuple[float, int, int, int, int]  # -score, first and last piece of the context, start and end characters


class _Window(NamedTuple):
    """A feature's logits, float64[window] each, what [CLS] scores, and a bound on what its spans score."""

    feature: SpanFeature
    starts: np.ndarray
    ends: np.ndarray
    null: float
    bound: float

    @classmethod
    def make(cls, feature: SpanFeature, start_row: npt.ArrayLike, end_row: npt.ArrayLike) -> "_Window":
        starts, ends = _logits(feature, start_row), _logits(feature, end_row)
        bound = float(starts[1:].max() + ends[1:].max()) if len(starts) > 1 else -math.inf
        return cls(feature, starts[1:], ends[1:], float(starts[0] + ends[0]), bound)


def _logits(feature: SpanFeature, row: npt.ArrayLike) -> np.ndarray:
    """float64[1 + window]: those of [CLS] and of the window's tokens."""
    array = np.asarray(row)
    if array.ndim != 1 or len(array) < len(feature):
        wanted = f"one logit for each of {len(feature)} tokens of question {feature.question}"
        raise BiomegError(f"expected {wanted}, found an array of shape {array.shape}")
    used = np.concatenate((array[:1], array[feature.first : len(feature) - 1])).astype(np.float64)
    if not np.isfinite(used).all():
        raise BiomegError(f"expected finite logits for question {feature.question}, found others")
    return used


def _best_spans(windows: Iterable[_Window], text: str, n_best: int, max_answer: int) -> list[Span]:
    """The best spans of a question; most windows of a long context cannot hold any and are not searched."""
    best: list[tuple[str, _Candidate]] = []
    for window in sorted(windows, key=lambda window: window.bound, reverse=True):
        if len(best) == n_best and window.bound < -best[-1][1][0]:
            break
        candidates = [candidate for _, candidate in best] + _candidates(window, text, n_best, max_answer)
        best = _distinct(sorted(candidates), text, n_best)
    return [Span(part, start, end, -negative) for part, (negative, _, _, start, end) in best]


def _candidates(window: _Window, text: str, n_best: int, max_answer: int) -> list[_Candidate]:
    """The best spans of a window, best first: `n_best` distinct texts and the repetitions met on the way."""
    feature = window.feature
    low = max(0, min(feature.best.start, feature.fresh - max_answer + 1))
    starts, ends = window.starts[low : feature.best.stop], window.ends[low:]
    if not len(starts):
        return []
    # Row: start. Column: tokens after it. A start that an earlier window gives more context keeps fresh ends only.
    width = min(max_answer, len(ends))
    reach = np.concatenate((ends, np.full(width - 1, -np.inf)))
    scores = starts[:, None] + np.lib.stride_tricks.sliding_window_view(reach, width)[: len(starts)]
    shared = np.arange(low, feature.best.start)[:, None]
    scores[: len(shared)][shared + np.arange(width) < feature.fresh] = -np.inf
    flat, wanted = scores.ravel(), n_best
    first_character = feature.context.starts[feature.begin + low :]
    last_character = feature.context.ends[feature.begin + low :]
    while True:
        order = _largest(flat, wanted)
        order = order[flat[order] > -np.inf]
        rows, columns = np.divmod(order, width)
        pieces = rows + feature.begin + low, rows + columns + feature.begin + low
        characters = first_character[rows], last_character[rows + columns]
        columns = (column.tolist() for column in (-flat[order], *pieces, *characters))
        candidates = [row for row in zip(*columns, strict=True) if row[3] < row[4]]
        if wanted >= len(flat) or len(_distinct(candidates, text, n_best)) == n_best:
            return candidates
        wanted *= 4


def _largest(values: np.ndarray, count: int) -> np.ndarray:
    """Indices of the `count` largest values, largest first; of equal values the first come first."""
    if count >= len(values):
        return np.argsort(-values, kind="stable")
    limit = np.partition(values, len(values) - count)[len(values) - count]
    above = np.flatnonzero(values > limit)
    above = above[np.argsort(-values[above], kind="stable")]
    return np.concatenate((above, np.flatnonzero(values == limit)[: count - len(above)]))


def _distinct(candidates: Iterable[_Candidate], text: str, count: int) -> list[tuple[str, _Candidate]]:
    """The first `count` candidates of different text, with their texts."""
    found: dict[str, _Candidate] = {}
    for candidate in candidates:
        found.setdefault(text[candidate[3] : candidate[4]], candidate)
        if len(found) == count:
            break
    return list(found.items())


def _windows(size: int, room: int, stride: int) -> Iterable[tuple[int, int, range, int]]:
    """(begin, stop, best, fresh) of each window of up to `room` pieces, as in `SpanFeature`, for `size` pieces."""
    begin = fresh = low = 0
    while True:
        stop = min(begin + room, size)
        step = min(stride, room)
        if stop == size:
            yield begin, stop, range(low, stop - begin), fresh
            return
        high = _boundary(room, min(room, size - begin - step), step)
        yield begin, stop, range(low, high), fresh
        begin, fresh, low = begin + step, room - step, high - step


@lru_cache(maxsize=4096)
def _boundary(size: int, following: int, step: int) -> int:
    """The first token of a window of `size` tokens that the next, `step` further, gives more context; else `size`.

    Context is the lesser of the tokens before and after, plus a hundredth of the window's size; of equal ones the
    earlier window wins (BERT's script; in whole numbers here).
    """
    for token in range(step, size):
        here = 100 * min(token, size - 1 - token) + size
        there = 100 * min(token - step, step + following - 1 - token) + following
        if there > here:
            return token
    return size
