"""What the study measures of a vocabulary on a benchmark: the break-out rate."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple, Protocol

from biomeg_lib.vocab.vocabulary import Vocabulary


class BreakOut(NamedTuple):
    """How far the words of entities are broken up: `rate` is pieces / words, and 0.0 where there is no entity."""

    pieces: int
    words: int
    rate: float


class TaggedSentence(Protocol):
    """What is needed of a sentence: its words, and for each its tag ("O" outside entities)."""

    @property
    def words(self) -> Sequence[str]: ...
    @property
    def tags(self) -> Sequence[str]: ...


def break_out_rate(vocabulary: Vocabulary, sentences: Iterable[TaggedSentence]) -> BreakOut:
    """Pieces a word over the words inside named entities (paper, Table 3: #tokens / #words)."""
    pieces = words = 0
    for sentence in sentences:
        inside = [word for word, tag in zip(sentence.words, sentence.tags, strict=True) if tag != "O"]
        pieces += len(vocabulary.encode_words(inside).ids)
        words += len(inside)
    return BreakOut(pieces, words, pieces / words if words else 0.0)
