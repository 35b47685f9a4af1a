"""Entity-level precision, recall and F1 as conlleval counts them (the paper, section 5), with seqeval.

What is notable: an entity is right when its type, first and last word are. Tags are read leniently, as seqeval's
default mode and conlleval do: an `I-X` after `O` or after another type opens an entity, so predictions need no repair.
All scores are fractions in [0, 1]; where nothing was predicted, or nothing is there to find, the score is 0.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from seqeval.metrics.sequence_labeling import get_entities

from biomeg_lib.errors import BiomegError


@dataclass(frozen=True, slots=True)
class EntityScores:
    """Scores over all types (micro average), or of one type.

    Attributes:
        precision, recall, f1: fractions in [0, 1].
        true_positive, predicted, gold: numbers of entities.
        by_type: scores of each type that was predicted or is in the gold tags, sorted by name; empty for a single type.
    """

    precision: float
    recall: float
    f1: float
    true_positive: int
    predicted: int
    gold: int
    by_type: dict[str, "EntityScores"] = field(default_factory=dict)


def entity_scores(gold: Sequence[Sequence[str]], predicted: Sequence[Sequence[str]]) -> EntityScores:
    """Compare predicted with gold tags, sentence by sentence.

    Args:
        gold, predicted: for each sentence a tag (`O`, `B-TYPE`, `I-TYPE`) for each word.

    Raises:
        BiomegError: another number of sentences or of words in a sentence, or something that is not such a tag.
    """
    if len(gold) != len(predicted):
        raise BiomegError(f"expected predictions for {len(gold)} sentences, found {len(predicted)}")
    for number, (right, guess) in enumerate(zip(gold, predicted, strict=True)):
        if len(right) != len(guess):
            raise BiomegError(f"expected {len(right)} predicted tags in sentence {number}, found {len(guess)}")
    gold_entities, predicted_entities = _entities(gold), _entities(predicted)
    found = Counter(kind for kind, _, _ in gold_entities & predicted_entities)
    guessed = Counter(kind for kind, _, _ in predicted_entities)
    there = Counter(kind for kind, _, _ in gold_entities)
    by_type = {kind: _scores(found[kind], guessed[kind], there[kind]) for kind in sorted(there | guessed)}
    return _scores(found.total(), guessed.total(), there.total(), by_type)


def _entities(sentences: Sequence[Sequence[str]]) -> set[tuple[str, int, int]]:
    """(type, first, last) of all entities; positions count through all sentences."""
    # seqeval only warns of a tag that it does not know, and then reads its first letter as the position in the entity.
    for tag in {tag for sentence in sentences for tag in sentence}:
        if tag != "O" and (tag[:2] not in ("B-", "I-") or len(tag) == 2):
            raise BiomegError(f"expected tags O, B-TYPE or I-TYPE, found {tag!r}")
    return set(get_entities([list(sentence) for sentence in sentences]))


def _scores(
    true_positive: int, predicted: int, gold: int, by_type: dict[str, EntityScores] | None = None
) -> EntityScores:
    """Scores from counts. F1 is 2 TP / (predicted + gold), which equals the harmonic mean."""
    return EntityScores(
        precision=true_positive / predicted if predicted else 0.0,
        recall=true_positive / gold if gold else 0.0,
        f1=2 * true_positive / (predicted + gold) if predicted + gold else 0.0,
        true_positive=true_positive,
        predicted=predicted,
        gold=gold,
        by_type=by_type or {},
    )
