"""Named-entity recognition as an arm: entity F1 over words (paper section 5.1, Table 1)."""

import dataclasses
from collections import Counter
from collections.abc import Sequence
from typing import Any, ClassVar

import pandas as pd
import torch
from torch import nn

from biomeg_lib.benchmarks.iob import Sentence, entity_spans, read_iob
from biomeg_lib.grids import NerGrid
from biomeg_lib.inputs import benchmark_files
from biomeg_lib.metrics.entities import entity_scores
from biomeg_lib.metrics.scores import score_record
from biomeg_lib.model import ModelConfig, TokenClassifier
from biomeg_lib.schema import Benchmark
from biomeg_lib.study import Study
from biomeg_lib.tasks.arms import Arm, criterion_for
from biomeg_lib.tasks.batching import TokenBatch, evaluation_batches, evaluation_tokens, pad, real_tokens
from biomeg_lib.tasks.ner import NO_LABEL, Feature, Labelling, build, labels_of, tags_of
from biomeg_lib.tasks.splits import of_records, subset, with_held_out
from biomeg_lib.vocab import Vocabulary


@dataclasses.dataclass(frozen=True)
class NerData:
    """A benchmark, read: sentences of each split and the labels over all of them."""

    splits: dict[str, list[Sentence]]
    labels: list[str]
    _features: dict[tuple[str, str, str, int], list[Feature]] = dataclasses.field(default_factory=dict)

    def features(self, split: str, vocabulary: Vocabulary, labelling: Labelling, length: int) -> list[Feature]:
        """The features of a split, made once for all runs of a job that need the same."""
        key = (split, vocabulary.fingerprint, labelling, length)
        if key not in self._features:
            self._features[key] = build(self.splits[split], vocabulary, labelling, length, self.labels)
        return self._features[key]


def load_ner(study: Study, benchmark: Benchmark) -> NerData:
    """Read the files of a benchmark."""
    files = benchmark_files(study, benchmark)
    splits = {split: read_iob(path, benchmark.format) for split, (path,) in files.items()}
    splits = with_held_out(splits, key=lambda sentence: " ".join(sentence.words), share=benchmark.held_out)
    return NerData(splits, labels_of(sentence for sentences in splits.values() for sentence in sentences))


class NerArm(Arm):
    """See the module."""

    optimum: ClassVar[str] = "f1"
    data: NerData

    def training_features(self) -> list[Feature]:
        sentences = self.data.splits["train"]
        chosen = subset(range(len(sentences)), self.cell.fraction, self.seed)
        self.training = [sentences[i] for i in chosen]
        features = self.data.features("train", self.vocabulary, self.cell.labelling, self.grid.length)
        return of_records(features, chosen, lambda feature: feature.sentence)

    def copies(self) -> list[float]:
        """A sentence with an entity is shown twice, one without once: words cannot be drawn by themselves."""
        return [2.0 if any(label > 0 for label in feature.labels) else 1.0 for feature in self.features]

    def make_model(self, config: ModelConfig, point: dict[str, Any], grid: NerGrid) -> TokenClassifier:
        counts = Counter(label for feature in self.features for label in feature.labels if label != NO_LABEL)
        criterion = criterion_for(self.cell.remedy, [counts[i] for i in range(len(self.data.labels))])
        return token_classifier(config, self.data.labels, point, grid.fc_dropout, criterion)

    def batch(self, indices: Sequence[int]) -> TokenBatch:
        return token_batch([self.features[i] for i in indices], self.vocabulary.pad_id)

    def predict(self, model: nn.Module, split: str) -> list[list[str]]:
        features = self.data.features(split, self.vocabulary, self.cell.labelling, self.grid.length)
        return predict_tags(model, features, self.vocabulary.pad_id, self.data.labels, self.data.splits[split])

    def figures(self, split: str, predictions: list[list[str]]) -> dict[str, float]:
        return score_record(entity_scores([sentence.tags for sentence in self.data.splits[split]], predictions))

    def details(self, split: str, predictions: list[list[str]]) -> dict[str, Any]:
        scores = entity_scores([sentence.tags for sentence in self.data.splits[split]], predictions)
        return {"by_type": {kind: score_record(part) for kind, part in scores.by_type.items()}}

    def items(self, split: str, predictions: list[list[str]]) -> pd.DataFrame:
        rows = []
        for number, (sentence, tags) in enumerate(zip(self.data.splits[split], predictions, strict=True)):
            gold, predicted = set(entity_spans(sentence.tags)), set(entity_spans(tags))
            rows.append((number, len(gold & predicted), len(predicted), len(gold)))
        return pd.DataFrame(rows, columns=["id", "true_positive", "predicted", "gold"])

    def description(self) -> dict[str, Any]:
        return {"labels": self.data.labels, "sentences": len(self.training)}


def token_classifier(
    config: ModelConfig,
    labels: Sequence[str],
    point: dict[str, Any],
    fc_dropout: float = 0.0,
    criterion: nn.Module | None = None,
) -> TokenClassifier:
    """The token classifier of a point of the search grid."""
    return TokenClassifier(config, len(labels), point["num_fc_layers"], point["fc_hidden"], fc_dropout, criterion)


def token_batch(features: Sequence[Feature], pad_id: int) -> TokenBatch:
    """The tensors of some features."""
    rows = [feature.tokens for feature in features]
    tokens = pad(rows, pad_id)
    labels = pad([feature.labels for feature in features], NO_LABEL)
    return TokenBatch(tokens, torch.zeros_like(tokens), real_tokens(rows), labels)


def predict_tags(
    model: nn.Module, features: Sequence[Feature], pad_id: int, labels: Sequence[str], sentences: Sequence[Sentence]
) -> list[list[str]]:
    """Tags per word for every sentence; the model is in evaluation mode and gradients are off."""
    place = next(model.parameters()).device
    found: list[Any] = [None] * len(features)
    lengths = [len(feature.tokens) for feature in features]
    for indices in evaluation_batches(lengths, evaluation_tokens(place, lengths)):
        some = [features[i] for i in indices]
        batch = token_batch(some, pad_id)
        # the words' first pieces alone
        width = batch.tokens.shape[1]
        first = [row * width + at for row, feature in enumerate(some) for at in feature.first]
        rows = torch.tensor(first, device=place)
        logits = model(batch.tokens.to(place), batch.types.to(place), batch.mask.to(place), rows)
        chosen = logits.argmax(-1).tolist()
        end = 0
        for i, feature in zip(indices, some, strict=True):
            start, end = end, end + len(feature.first)
            found[i] = chosen[start:end]
    return tags_of(features, found, labels, sentences)
