"""Precision, recall and F1 from counts: what every scorer that finds things has in common.

What is notable: totals over types are micro averages, from the summed counts. All scores are fractions in [0, 1];
where nothing was predicted, or nothing is there to find, the score is 0.
"""

import dataclasses
from collections import Counter
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Scores:
    """Scores over all types (micro average), or of one type.

    Attributes:
        precision, recall, f1: fractions in [0, 1].
        true_positive, predicted, gold: numbers of things found rightly, found, and there to find.
        by_type: scores of each type that was predicted or is in the gold, sorted by name; empty for a single type.
    """

    precision: float
    recall: float
    f1: float
    true_positive: int
    predicted: int
    gold: int
    by_type: dict[str, "Scores"] = field(default_factory=dict)


def scores(true_positive: int, predicted: int, gold: int, by_type: dict[str, Scores] | None = None) -> Scores:
    """Scores from counts. F1 is 2 TP / (predicted + gold), which equals the harmonic mean."""
    return Scores(
        precision=true_positive / predicted if predicted else 0.0,
        recall=true_positive / gold if gold else 0.0,
        f1=2 * true_positive / (predicted + gold) if predicted + gold else 0.0,
        true_positive=true_positive,
        predicted=predicted,
        gold=gold,
        by_type=by_type or {},
    )


def typed_scores(true_positive: Counter[str], predicted: Counter[str], gold: Counter[str]) -> Scores:
    """Scores of each type and over all of them, from counts per type."""
    by_type = {kind: scores(true_positive[kind], predicted[kind], gold[kind]) for kind in sorted(gold | predicted)}
    return scores(true_positive.total(), predicted.total(), gold.total(), by_type)


def score_record(scores: Scores) -> dict[str, Any]:
    """The scores over all types, as JSON values."""
    record = dataclasses.asdict(scores)
    del record["by_type"]
    return record
