"""What a sequence classifier sees: relations and sentence pairs in one form, and as tokens.

What is notable: an example is never parted, so a text that is too long loses a part of itself. For relations that is
never the mentions: whatever stands around them goes first.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from biomeg_lib.benchmarks.pairs import SentencePair
from biomeg_lib.benchmarks.relations import Marking, Relation, Span, marked
from biomeg_lib.errors import BiomegError
from biomeg_lib.vocab import Vocabulary


@dataclass(frozen=True, slots=True)
class Example:
    """A text, or a pair of texts, and its label.

    Attributes:
        keep: characters of `first` that truncation must not lose.
    """

    id: str
    first: str
    second: str | None
    label: str
    keep: tuple[Span, ...] = ()


@dataclass(frozen=True, slots=True)
class TextFeature:
    """An example as the model takes it.

    Attributes:
        tokens: ids: [CLS] first [SEP], or [CLS] first [SEP] second [SEP]; at most `max_length` of them.
        types: for each token, 0 up to the first [SEP], 1 after it.
        label: index into the labels.
        example: index of the example.
    """

    tokens: list[int]
    types: list[int]
    label: int
    example: int


def relation_examples(relations: Iterable[Relation], marking: Marking) -> list[Example]:
    """Marked sentences whose mentions are kept; see `relations.marked` for the markings and errors."""
    examples = []
    for relation in relations:
        text, spans = marked(relation, marking)
        examples.append(Example(relation.id, text, None, relation.label, spans))
    return examples


def pair_examples(pairs: Iterable[SentencePair]) -> list[Example]:
    """Both sentences of each pair, in the order of the file."""
    return [Example(pair.id, pair.first, pair.second, pair.label) for pair in pairs]


def build(
    examples: Sequence[Example], vocabulary: Vocabulary, max_length: int, labels: Sequence[str]
) -> list[TextFeature]:
    """One feature an example, in order.

    A text that is too long is cut as follows. Of a pair, the longer text (the second, where they are equally long)
    loses pieces until both fit, as in BERT. A text without `keep` loses its end. With `keep` it becomes the window
    that holds all kept spans and as much context before as after them, but more on one side where the other has too
    little. Where the kept spans lie too far apart for a window, it becomes the pieces in and nearest to them, so that
    something between them is left out. Kept spans that by themselves are too long keep their beginnings, equally many
    pieces each.

    Args:
        max_length: tokens a feature may have: at least 3, for pairs 5.
        labels: the labels by index.

    Raises:
        BiomegError: a `max_length` that is too small, or a label that is not among the labels.
    """
    least = 5 if any(example.second is not None for example in examples) else 3
    if max_length < least:
        raise BiomegError(f"expected max_length of at least {least}, found {max_length}")
    index = {label: position for position, label in enumerate(labels)}
    features: list[TextFeature] = []
    for number, example in enumerate(examples):
        if example.label not in index:
            raise BiomegError(f"{example.id}: expected a label of {', '.join(labels)}, found {example.label!r}")
        encoding = vocabulary.encode(example.first)
        first, further = encoding.ids, []
        room = max_length - 2
        if example.second is not None:
            second = vocabulary.encode(example.second).ids
            room -= 1
            second = second[: max(room // 2, room - len(first))]
            room -= len(second)
            further = [*second, vocabulary.sep_id]
        if len(first) > room:
            first = [first[place] for place in _chosen(encoding.offsets, example.keep, room)]
        first = [vocabulary.cls_id, *first, vocabulary.sep_id]
        types = [0] * len(first) + [1] * len(further)
        features.append(TextFeature(first + further, types, index[example.label], number))
    return features


def _chosen(offsets: Sequence[Span], keep: Iterable[Span], room: int) -> Sequence[int]:
    """Which `room` of the pieces, more than that, stay."""
    kept = [span for span in (_pieces_of(offsets, characters) for characters in keep) if span is not None]
    if not kept:
        return range(room)
    start, end = min(first for first, _ in kept), max(last for _, last in kept)
    spare = room - (end - start)
    if spare >= 0:
        before = min(start, max(spare // 2, spare - (len(offsets) - end)))
        return range(start - before, start - before + room)

    def distance(piece: int) -> tuple[int, int]:
        """To the nearest kept span, and inside of one to its beginning."""
        return min(
            (0, piece - first) if first <= piece < last else (max(first - piece, piece - last + 1), 0)
            for first, last in kept
        )

    return sorted(sorted(range(len(offsets)), key=distance)[:room])


def _pieces_of(offsets: Sequence[Span], characters: Span) -> Span | None:
    """The pieces, from the first to one past the last, that stand for any of the characters."""
    start, end = characters
    # A space mark alone has no character: it belongs to the one that it is before.
    inside = [place for place, (first, last) in enumerate(offsets) if first < end and max(last, first + 1) > start]
    return (inside[0], inside[-1] + 1) if inside else None
