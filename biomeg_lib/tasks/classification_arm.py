"""Relations and sentence pairs as arms: micro F1 over the classes that count (paper section 5.2, Table 1)."""

import dataclasses
from collections import Counter
from collections.abc import Sequence
from typing import Any, ClassVar

import pandas as pd
import torch
from torch import nn

from biomeg_lib.benchmarks.pairs import SentencePair, read_mrpc
from biomeg_lib.benchmarks.relations import CATEGORIES, NEGATIVE, Relation, read_chemprot, read_chemprot_jsonl
from biomeg_lib.grids import ClassificationGrid
from biomeg_lib.inputs import benchmark_files
from biomeg_lib.metrics.classes import class_scores
from biomeg_lib.metrics.scores import Scores, score_record
from biomeg_lib.model import ModelConfig, TextClassifier
from biomeg_lib.schema import Benchmark
from biomeg_lib.study import Study
from biomeg_lib.tasks.arms import Arm, criterion_for
from biomeg_lib.tasks.batching import TokenBatch, evaluation_batches, evaluation_tokens, pad, real_tokens
from biomeg_lib.tasks.classification import TextFeature, build, pair_examples, relation_examples
from biomeg_lib.tasks.splits import of_records, subset, with_held_out
from biomeg_lib.vocab import Vocabulary

PAIR_LABELS = ("0", "1")


@dataclasses.dataclass(frozen=True)
class ClassificationData:
    """A benchmark, read.

    Attributes:
        splits: its relations or sentence pairs.
        labels: by index.
        excluded: labels that micro F1 leaves out: pairs without a relation, sentences that do not mean the same.
        skipped: split -> what was left out of it as not right.
        crossing: split -> evaluated relations between different sentences, which are not among the examples.
    """

    splits: dict[str, list[Relation]] | dict[str, list[SentencePair]]
    labels: list[str]
    excluded: tuple[str, ...]
    skipped: dict[str, list[str]]
    crossing: dict[str, int]
    _features: dict[tuple, list[TextFeature]] = dataclasses.field(default_factory=dict)

    def features(self, split: str, vocabulary: Vocabulary, marking: str | None, length: int) -> list[TextFeature]:
        """The features of a split, made once for all runs of a job that need the same."""
        key = (split, vocabulary.fingerprint, marking, length)
        if key not in self._features:
            self._features[key] = features_of(self.splits[split], vocabulary, marking, length, self.labels)
        return self._features[key]


def load_classification(study: Study, benchmark: Benchmark) -> ClassificationData:
    """Read the files of a benchmark of relations or of sentence pairs."""
    skipped: dict[str, list[str]] = {}
    crossing: dict[str, int] = {}
    splits: dict[str, Any] = {}
    for split, files in benchmark_files(study, benchmark).items():
        bad: list[str] | None = [] if benchmark.skip_bad else None
        if benchmark.format == "chemprot":
            across: list[str] = []
            splits[split] = read_chemprot(files, bad, across)
            crossing[split] = len(across)
        else:
            (path,) = files
            splits[split] = (read_mrpc if benchmark.format == "mrpc" else read_chemprot_jsonl)(path, bad)
        skipped[split] = bad or []
    if benchmark.format == "mrpc":
        labels, excluded = list(PAIR_LABELS), PAIR_LABELS[:1]
        splits = with_held_out(splits, key=lambda pair: pair.first, share=benchmark.held_out)
    else:
        labels, excluded = [NEGATIVE, *CATEGORIES], (NEGATIVE,)
        splits = with_held_out(splits, key=lambda relation: relation.text, share=benchmark.held_out)
    return ClassificationData(splits, labels, excluded, skipped, crossing)


def features_of(
    records: Sequence[Relation] | Sequence[SentencePair],
    vocabulary: Vocabulary,
    marking: str | None,
    length: int,
    labels: Sequence[str],
) -> list[TextFeature]:
    """One feature a record; `marking` is None for sentence pairs."""
    examples = pair_examples(records) if marking is None else relation_examples(records, marking)
    return build(examples, vocabulary, length, labels)


class ClassificationArm(Arm):
    """See the module."""

    optimum: ClassVar[str] = "f1"
    data: ClassificationData

    def training_features(self) -> list[TextFeature]:
        records = self.data.splits["train"]
        chosen = subset(range(len(records)), self.cell.fraction, self.seed)
        self.training = [records[i] for i in chosen]
        features = self.data.features("train", self.vocabulary, self.cell.marking, self.grid.length)
        return of_records(features, chosen, lambda feature: feature.example)

    def _counts(self) -> Counter[int]:
        return Counter(feature.label for feature in self.features)

    def copies(self) -> list[float]:
        """Each label that occurs is shown as often as the most frequent one."""
        counts = self._counts()
        return [max(counts.values()) / counts[feature.label] for feature in self.features]

    def make_model(self, config: ModelConfig, point: dict[str, Any], grid: ClassificationGrid) -> TextClassifier:
        counts = self._counts()
        criterion = criterion_for(self.cell.remedy, [counts[i] for i in range(len(self.data.labels))])
        return text_classifier(config, self.data.labels, point, grid.fc_dropout, criterion)

    def batch(self, indices: Sequence[int]) -> TokenBatch:
        return text_batch([self.features[i] for i in indices], self.vocabulary.pad_id)

    def predict(self, model: nn.Module, split: str) -> list[str]:
        features = self.data.features(split, self.vocabulary, self.cell.marking, self.grid.length)
        found = predict_labels(model, features, self.vocabulary.pad_id, self.data.labels)
        return [label for label, _ in found]

    def _scores(self, split: str, predictions: list[str]) -> Scores:
        return class_scores([record.label for record in self.data.splits[split]], predictions, self.data.excluded)

    def figures(self, split: str, predictions: list[str]) -> dict[str, float]:
        return score_record(self._scores(split, predictions))

    def details(self, split: str, predictions: list[str]) -> dict[str, Any]:
        scores = self._scores(split, predictions)
        return {"by_type": {kind: score_record(part) for kind, part in scores.by_type.items()}}

    def items(self, split: str, predictions: list[str]) -> pd.DataFrame:
        rows = []
        for record, label in zip(self.data.splits[split], predictions, strict=True):
            predicted, gold = label not in self.data.excluded, record.label not in self.data.excluded
            rows.append((record.id, int(gold and label == record.label), int(predicted), int(gold)))
        return pd.DataFrame(rows, columns=["id", "true_positive", "predicted", "gold"])

    def description(self) -> dict[str, Any]:
        skipped = {split: len(lines) for split, lines in self.data.skipped.items() if lines}
        return {
            "labels": self.data.labels,
            "examples": len(self.training),
            **({"skipped": skipped} if skipped else {}),
            **({"crossing": self.data.crossing} if self.data.crossing else {}),
        }


def text_classifier(
    config: ModelConfig,
    labels: Sequence[str],
    point: dict[str, Any],
    fc_dropout: float = 0.0,
    criterion: nn.Module | None = None,
) -> TextClassifier:
    """The text classifier of a point of the search grid."""
    return TextClassifier(config, len(labels), point["num_fc_layers"], point["fc_hidden"], fc_dropout, criterion)


def text_batch(features: Sequence[TextFeature], pad_id: int) -> TokenBatch:
    """The tensors of some features."""
    rows = [feature.tokens for feature in features]
    labels = torch.tensor([feature.label for feature in features])
    return TokenBatch(pad(rows, pad_id), pad([f.types for f in features], 0), real_tokens(rows), labels)


def predict_labels(
    model: nn.Module, features: Sequence[TextFeature], pad_id: int, labels: Sequence[str]
) -> list[tuple[str, float]]:
    """The likeliest label of each feature, and its probability; in evaluation mode, without gradients."""
    place = next(model.parameters()).device
    found = [("", 0.0)] * len(features)
    lengths = [len(feature.tokens) for feature in features]
    for indices in evaluation_batches(lengths, evaluation_tokens(place, lengths)):
        batch = text_batch([features[i] for i in indices], pad_id)
        logits = model(batch.tokens.to(place), batch.types.to(place), batch.mask.to(place))
        chances, chosen = logits.float().softmax(-1).max(-1)
        for i, label, chance in zip(indices, chosen.tolist(), chances.tolist(), strict=True):
            found[i] = labels[label], chance
    return found
