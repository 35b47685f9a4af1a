"""Entities of a document: from tags of words to spans of characters.

What is notable: an entity reaches from the first character of its first word to the last of its last one, with whatever
stands between (blanks, a line end, a soft hyphen). It never has a blank or an invisible character at an end.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from biomeg_lib.benchmarks.iob import entity_spans
from biomeg_lib.errors import BiomegError
from biomeg_lib.predict.texts import Span


@dataclass(frozen=True, slots=True)
class Entity:
    """An entity of a document: its type, its characters start ... end - 1, and these characters."""

    kind: str
    start: int
    end: int
    text: str


def entities_of(
    text: str, spans_per_sentence: Sequence[Sequence[Span]], tags_per_sentence: Sequence[Sequence[str]]
) -> list[Entity]:
    """The entities of a document, in order.

    Args:
        text: the document.
        spans_per_sentence: the words of each sentence, as from `texts.sentences`.
        tags_per_sentence: a tag (`O`, `B-TYPE` or `I-TYPE`) for each word, read as `iob.entity_spans` reads them.

    Raises:
        BiomegError: another number of sentences, or of tags in a sentence.
    """
    if len(spans_per_sentence) != len(tags_per_sentence):
        raise BiomegError(f"expected tags for {len(spans_per_sentence)} sentences, found {len(tags_per_sentence)}")
    entities: list[Entity] = []
    for number, (spans, tags) in enumerate(zip(spans_per_sentence, tags_per_sentence, strict=True)):
        if len(spans) != len(tags):
            raise BiomegError(f"expected {len(spans)} tags in sentence {number}, found {len(tags)}")
        if tags.count("O") == len(tags):  # as in most sentences
            continue
        for kind, first, stop in entity_spans(tags):
            start, end = spans[first][0], spans[stop - 1][1]
            entities.append(Entity(kind, start, end, text[start:end]))
    return entities
