"""Entity-level precision, recall and F1 as conlleval counts them (the paper, section 5), with seqeval.

What is notable: an entity is right when its type, first and last word are. Tags are read leniently, as seqeval's
default mode and conlleval do: an `I-X` after `O` or after another type opens an entity, so predictions need no repair.
"""

from collections import Counter
from collections.abc import Sequence

from seqeval.metrics.sequence_labeling import get_entities

from biomeg_lib.errors import BiomegError
from biomeg_lib.metrics.scores import Scores, typed_scores


def entity_scores(gold: Sequence[Sequence[str]], predicted: Sequence[Sequence[str]]) -> Scores:
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
    return typed_scores(found, guessed, there)


def _entities(sentences: Sequence[Sequence[str]]) -> set[tuple[str, int, int]]:
    """(type, first, last) of all entities; positions count through all sentences."""
    # seqeval only warns of a tag that it does not know, and then reads its first letter as the position in the entity.
    for tag in {tag for sentence in sentences for tag in sentence}:
        if tag != "O" and (tag[:2] not in ("B-", "I-") or len(tag) == 2):
            raise BiomegError(f"expected tags O, B-TYPE or I-TYPE, found {tag!r}")
    return set(get_entities([list(sentence) for sentence in sentences]))
