"""Question answering as an arm: SQuAD by exact match and F1, BioASQ factoid by its three measures (section 5.3).

What is notable: a BioASQ question is asked of each of its snippets as if that were a SQuAD paragraph. Training takes
the snippets that hold an answer; prediction takes all of them, and merges what was found into five ranked answers.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import pandas as pd
import torch
from torch import nn

from biomeg_lib.benchmarks.bioasq import BioasqQuestion, of_question, read_bioasq, to_questions
from biomeg_lib.benchmarks.factoids import as_factoids
from biomeg_lib.benchmarks.questions import Question, read_squad
from biomeg_lib.errors import InputError
from biomeg_lib.grids import QuestionGrid
from biomeg_lib.inputs import benchmark_files
from biomeg_lib.metrics.bioasq import FactoidScores, factoid_scores
from biomeg_lib.metrics.squad import SquadScores, squad_scores
from biomeg_lib.model import ModelConfig, SpanClassifier
from biomeg_lib.schema import Benchmark
from biomeg_lib.study import Study
from biomeg_lib.tasks.arms import Arm
from biomeg_lib.tasks.batching import SpanBatch, evaluation_batches, evaluation_tokens, pad, real_tokens
from biomeg_lib.tasks.spans import Prediction, SpanFeature, best_answer, build, decode, merge
from biomeg_lib.tasks.splits import of_records, subset, with_held_out
from biomeg_lib.vocab import Vocabulary


@dataclasses.dataclass(frozen=True)
class QuestionData:
    """A benchmark, read.

    Attributes:
        splits: for BioASQ one question a snippet.
        factoids: for BioASQ, split -> synonyms of the answer to each question with one; None for SQuAD.
        version: of SQuAD: "2.0" where any question has no answer.
        skipped: split -> what was left out of it as not right.
    """

    splits: dict[str, list[Question]]
    factoids: dict[str, dict[str, tuple[str, ...]]] | None
    version: str
    skipped: dict[str, list[str]]
    _features: dict[tuple, list[SpanFeature]] = dataclasses.field(default_factory=dict)

    def features(self, split: str, vocabulary: Vocabulary, grid: QuestionGrid) -> list[SpanFeature]:
        """The windows of a split, made once for all runs of a job that need the same."""
        key = (split, vocabulary.fingerprint, grid.length, grid.stride, grid.max_question)
        if key not in self._features:
            self._features[key] = build(self.splits[split], vocabulary, grid.length, grid.stride, grid.max_question)
        return self._features[key]


def load_questions(study: Study, benchmark: Benchmark) -> QuestionData:
    """Read the files of a benchmark of questions."""
    skipped: dict[str, list[str]] = {}
    splits: dict[str, Any] = {}
    for split, (path,) in benchmark_files(study, benchmark).items():
        bad: list[str] | None = [] if benchmark.skip_bad else None
        splits[split] = _read_factoids(path, bad) if benchmark.format == "bioasq" else read_squad(path, bad)
        skipped[split] = bad or []
        if benchmark.factoids is not None:
            made = as_factoids(splits[split], benchmark.factoids.answer_words, benchmark.factoids.snippet_words)
            splits[split] = made
    if benchmark.format == "squad" and benchmark.factoids is None:
        splits = with_held_out(splits, key=lambda question: question.context, share=benchmark.held_out)
        impossible = any(question.impossible for questions in splits.values() for question in questions)
        return QuestionData(splits, None, "2.0" if impossible else "1.1", skipped)
    key = (lambda q: q.id) if benchmark.factoids is None else (lambda q: q.snippets[0].document)
    splits = with_held_out(splits, key=key, share=benchmark.held_out)
    factoids = {name: {q.id: q.exact[0] for q in questions} for name, questions in splits.items()}
    asked = {
        name: [one for question in questions for one in to_questions(question)] for name, questions in splits.items()
    }
    return QuestionData(asked, factoids, "1.1", skipped)


def _read_factoids(path: Path, skipped: list[str] | None) -> list[BioasqQuestion]:
    """The factoid questions that have a gold answer.

    Raises:
        InputError: there are none, as in the challenge's test sets, which would all be scored 0.
    """
    found = [q for q in read_bioasq(path, skipped) if q.kind == "factoid" and q.exact]
    if not found:
        raise InputError(path, "expected factoid questions with an exact answer, found none")
    return found


class QuestionArm(Arm):
    """See the module.

    `optimum` is F1 for SQuAD (the best over all thresholds for 2.0) and the mean reciprocal rank for BioASQ.
    """

    optimum: ClassVar[str] = "optimum"
    data: QuestionData
    threshold: float | None = None

    def training_features(self) -> list[SpanFeature]:
        questions = self.data.splits["train"]
        possible = [i for i, question in enumerate(questions) if self.data.factoids is None or question.answers]
        chosen = subset(possible, self.cell.fraction, self.seed)
        self.training = [questions[i] for i in chosen]
        features = self.data.features("train", self.vocabulary, self.grid)
        return of_records(features, chosen, lambda feature: feature.question)

    def copies(self) -> list[float]:
        return [1.0] * len(self.features)  # questions have no classes to balance

    def make_model(self, config: ModelConfig, point: dict[str, Any], grid: QuestionGrid) -> SpanClassifier:
        return span_classifier(config, point, grid.fc_dropout)

    def batch(self, indices: Sequence[int]) -> SpanBatch:
        return span_batch([self.features[i] for i in indices], self.vocabulary.pad_id)

    def predict(self, model: nn.Module, split: str) -> list[Prediction]:
        features = self.data.features(split, self.vocabulary, self.grid)
        return predict_spans(model, features, self.vocabulary.pad_id, self.data.splits[split], self.grid)

    def calibrate(self, model: nn.Module) -> None:
        """For SQuAD 2.0: how much likelier no answer must be, by what gives the best F1 on the development set."""
        if self.data.version == "2.0":
            predictions = self.predict(model, "devel")
            scores = self._squad("devel", predictions, None)
            unanswerable = sum(not question.answers for question in self.data.splits["devel"]) / scores.total
            self.threshold = scores.best.f1_threshold
            if scores.best.f1 <= unanswerable:  # the scorer's threshold of 0 then stands for answering nothing
                self.threshold = min(map(no_answer_score, predictions)) - 1

    def _squad(self, split: str, predictions: list[Prediction], threshold: float | None) -> SquadScores:
        questions = self.data.splits[split]
        gold = {q.id: [answer.text for answer in q.answers] for q in questions}
        answers = {q.id: best_answer(p, threshold) for q, p in zip(questions, predictions, strict=True)}
        no_answer = None
        if self.data.version == "2.0":
            no_answer = {q.id: no_answer_score(p) for q, p in zip(questions, predictions, strict=True)}
        return squad_scores(gold, answers, self.data.version, no_answer)

    def _bioasq(self, split: str, predictions: list[Prediction]) -> FactoidScores:
        ranked = ranked_answers(self.data.splits[split], predictions)
        return factoid_scores(self.data.factoids[split], {id: [text for text, _ in r] for id, r in ranked.items()})

    def figures(self, split: str, predictions: list[Prediction]) -> dict[str, Any]:
        if self.data.factoids is not None:
            scores = self._bioasq(split, predictions)
            return {
                "strict_accuracy": scores.strict_accuracy,
                "lenient_accuracy": scores.lenient_accuracy,
                "mean_reciprocal_rank": scores.mean_reciprocal_rank,
                "optimum": scores.mean_reciprocal_rank,
            }
        squad = self._squad(split, predictions, self.threshold)
        # Before a threshold is chosen, what the best one would give.
        scores = squad if squad.best is None or self.threshold is not None else squad.best
        return {"exact": scores.exact, "f1": scores.f1, "optimum": scores.f1}

    def details(self, split: str, predictions: list[Prediction]) -> dict[str, Any]:
        if self.data.version != "2.0":
            return {}
        squad = self._squad(split, predictions, self.threshold)
        parts = {"answerable": squad.answerable, "unanswerable": squad.unanswerable}
        return {name: dataclasses.asdict(part) for name, part in parts.items() if part is not None}

    def items(self, split: str, predictions: list[Prediction]) -> pd.DataFrame:
        if self.data.factoids is not None:
            found = self._bioasq(split, predictions).by_question
            rows = [(id, one.strict, one.lenient, one.reciprocal_rank) for id, one in found.items()]
            return pd.DataFrame(rows, columns=["id", "strict_accuracy", "lenient_accuracy", "mean_reciprocal_rank"])
        items = self._squad(split, predictions, self.threshold).items
        return pd.DataFrame([(id, *pair) for id, pair in items.items()], columns=["id", "exact", "f1"])

    def description(self) -> dict[str, Any]:
        skipped = {split: len(lines) for split, lines in self.data.skipped.items() if lines}
        return {
            "questions": len(self.training),
            "windows": len(self.features),
            "threshold": self.threshold,
            **({"skipped": skipped} if skipped else {}),
        }


def span_classifier(config: ModelConfig, point: dict[str, Any], fc_dropout: float = 0.0) -> SpanClassifier:
    """The span classifier of a point of the search grid."""
    return SpanClassifier(config, point["num_fc_layers"], point["fc_hidden"], fc_dropout)


def span_batch(features: Sequence[SpanFeature], pad_id: int) -> SpanBatch:
    """The tensors of some windows."""
    rows = [feature.tokens for feature in features]
    ends = (torch.tensor([getattr(feature, name) for feature in features]) for name in ("start", "end"))
    return SpanBatch(pad(rows, pad_id), pad([f.types for f in features], 0), real_tokens(rows), *ends)


def predict_spans(
    model: nn.Module,
    features: Sequence[SpanFeature],
    pad_id: int,
    questions: Sequence[Question],
    grid: QuestionGrid,
) -> list[Prediction]:
    """The best spans of each question; the model is in evaluation mode and gradients are off."""
    place = next(model.parameters()).device
    starts: list[Any] = [None] * len(features)
    ends: list[Any] = [None] * len(features)
    lengths = [len(feature) for feature in features]
    for indices in evaluation_batches(lengths, evaluation_tokens(place, lengths)):
        batch = span_batch([features[i] for i in indices], pad_id)
        logits = model(batch.tokens.to(place), batch.types.to(place), batch.mask.to(place)).cpu().numpy()
        for i, (start, end) in zip(indices, logits, strict=True):
            starts[i], ends[i] = start, end
    return decode(features, starts, ends, questions, grid.n_best, grid.max_answer)


def no_answer_score(prediction: Prediction) -> float:
    """How much more likely no answer is than the best one, in logits."""
    return prediction.null - prediction.spans[0].score if prediction.spans else float("inf")


def ranked_answers(
    questions: Sequence[Question], predictions: Sequence[Prediction]
) -> dict[str, list[tuple[str, float]]]:
    """BioASQ id -> at most five (answer, probability), from what was found in each of its snippets."""
    by_question: dict[str, list[Prediction]] = {}
    for question, prediction in zip(questions, predictions, strict=True):
        by_question.setdefault(of_question(question.id), []).append(prediction)
    return {id: merge(found) for id, found in by_question.items()}
