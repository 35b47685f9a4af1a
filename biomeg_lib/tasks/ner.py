"""Named entity recognition: sentences to labelled features, predictions per token back to tags per word.

What is notable: the two labelling schemes that the paper compares (section 5.1, Figure 1).

- `piece`: each sub-token is labelled by itself. The first piece of a `B-` word is `B-` and its further pieces are `I-`;
  all pieces of an `I-` word are `I-`, all pieces of an `O` word `O`.
- `word`: the entity is labelled as a whole, one label a word: the first piece carries it, the others carry none.

Both are decoded from the first piece of each word, so both are scored on the same words and a difference in F1 comes
from the labels in training alone. Scoring pieces would also give each vocabulary another number of entities' ends to
get right.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate, chain
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from biomeg_lib.benchmarks.iob import Sentence
from biomeg_lib.errors import BiomegError
from biomeg_lib.vocab import Vocabulary

Labelling = Literal["piece", "word"]
LABELLINGS: tuple[str, ...] = get_args(Labelling)

NO_LABEL = -100  # the index that torch's cross-entropy ignores


@dataclass(frozen=True, slots=True)
class Feature:
    """A sentence, or a part of one that is too long, as the model takes it.

    Attributes:
        tokens: ids, [CLS] first and [SEP] last, at most `max_length` of them.
        labels: an index into the labels for each token, `NO_LABEL` where there is none ([CLS] and [SEP] never have
            one).
        first: for each word, the position in `tokens` of its first piece.
        sentence: index of the sentence.
        start: index in the sentence of the first word; the words are start ... start + len(first) - 1.
    """

    tokens: list[int]
    labels: list[int]
    first: list[int]
    sentence: int
    start: int


def labels_of(sentences: Iterable[Sentence]) -> list[str]:
    """The labels a model needs: `O`, then `B-` and `I-` of each type, types in order, even where one does not occur."""
    types = {tag[2:] for sentence in sentences for tag in sentence.tags if tag != "O"}
    return ["O", *(f"{prefix}-{kind}" for kind in sorted(types) for prefix in "BI")]


def build(
    sentences: Sequence[Sentence], vocabulary: Vocabulary, labelling: Labelling, max_length: int, labels: Sequence[str]
) -> list[Feature]:
    """Features of IOB2 sentences, in order.

    A sentence of more than `max_length` tokens, [CLS] and [SEP] included, is cut between words into features that do
    not overlap. A single word with more pieces than fit keeps the first ones and has a feature to itself.

    Args:
        labelling: "piece" or "word", see the module.
        max_length: tokens a feature may have, at least 3.
        labels: as from `labels_of`, over all sentences that the model will meet.

    Raises:
        BiomegError: an unknown labelling, a `max_length` below 3, or a tag that is not among the labels.
    """
    if labelling not in LABELLINGS:
        raise BiomegError(f"expected the labelling {' or '.join(LABELLINGS)}, found {labelling!r}")
    if max_length < 3:
        raise BiomegError(f"expected max_length of at least 3 ([CLS], a piece, [SEP]), found {max_length}")
    room = max_length - 2
    index = {label: position for position, label in enumerate(labels)}
    tags = sorted({tag for sentence in sentences for tag in sentence.tags})
    labels_for = {tag: _first_and_further(tag, labelling, index) for tag in tags}
    targets_of = _Targets(labels_for)
    pieces_of = _pieces_of(dict.fromkeys(word for sentence in sentences for word in sentence.words), vocabulary)
    features: list[Feature] = []
    for number, sentence in enumerate(sentences):
        pieces = [pieces_of[word][:room] for word in sentence.words]
        sizes = list(map(len, pieces))
        for start, stop in _windows(sizes, room):
            shown = sizes[start:stop]
            tokens = [vocabulary.cls_id, *chain.from_iterable(pieces[start:stop]), vocabulary.sep_id]
            targets = map(targets_of.__getitem__, zip(sentence.tags[start:stop], shown, strict=True))
            targets = [NO_LABEL, *chain.from_iterable(targets), NO_LABEL]
            first = list(accumulate(shown[:-1], initial=1))
            features.append(Feature(tokens, targets, first, number, start))
    return features


class _Targets(dict):
    """(tag, number of pieces) -> the label of each piece."""

    def __init__(self, labels_for: dict[str, tuple[int, int]]):
        super().__init__()
        self._labels_for = labels_for

    def __missing__(self, key: tuple[str, int]) -> list[int]:
        tag, size = key
        first, further = self._labels_for[tag]
        self[key] = targets = [first] + [further] * (size - 1)
        return targets


def _pieces_of(words: Iterable[str], vocabulary: Vocabulary) -> dict[str, list[int]]:
    """The pieces of each word, found once however often it occurs."""
    words = list(words)
    rows: list[list[int]] = [[] for _ in words]
    encoding = vocabulary.encode_words(words)
    for piece, word in zip(encoding.ids, encoding.words, strict=True):
        rows[word].append(piece)
    return dict(zip(words, rows, strict=True))


def decode(
    features: Sequence[Feature],
    predictions: Sequence[npt.ArrayLike],
    labels: Sequence[str],
    sentences: Sequence[Sentence],
) -> list[list[str]]:
    """Tags per word from predictions per token: each word takes that of its first piece, whatever the labelling was.

    Tags stay as predicted. An `I-` after `O` is left to the scorer, which reads it as the start of an entity.

    Args:
        features: as from `build`, in any order.
        predictions: for each feature an array of label indices, one for each of its tokens; padding may follow.
        sentences: those given to `build`; only the number of their words is used.

    Returns:
        For each sentence, a tag for each word.

    Raises:
        BiomegError: the predictions do not match the features, or the features do not cover the sentences.
    """
    if len(features) != len(predictions):
        raise BiomegError(f"expected predictions for {len(features)} features, found {len(predictions)}")
    chosen = []
    for feature, row in zip(features, predictions, strict=True):
        predicted = np.asarray(row)
        if predicted.ndim != 1 or len(predicted) < len(feature.tokens):
            wanted = f"one prediction for each of {len(feature.tokens)} tokens of sentence {feature.sentence}"
            raise BiomegError(f"expected {wanted}, found an array of shape {predicted.shape}")
        chosen.append(predicted[feature.first].tolist())
        if not all(0 <= label < len(labels) for label in chosen[-1]):
            raise BiomegError(f"expected label indices from 0 to {len(labels) - 1} in sentence {feature.sentence}")
    return tags_of(features, chosen, labels, sentences)


def tags_of(
    features: Sequence[Feature], chosen: Sequence[Sequence[int]], labels: Sequence[str], sentences: Sequence[Sentence]
) -> list[list[str]]:
    """As `decode`, from predictions per word: for each feature, a label index for each of its words.

    Raises:
        BiomegError: the features do not cover the sentences.
    """
    tags: list[list[str]] = [[] for _ in sentences]
    for feature, row in sorted(zip(features, chosen, strict=True), key=lambda pair: pair[0].start):
        if len(tags[feature.sentence]) == feature.start:
            tags[feature.sentence] += [labels[label] for label in row]
    for number, (row, sentence) in enumerate(zip(tags, sentences, strict=True)):
        if len(row) != len(sentence.words):
            raise BiomegError(f"expected features that cover sentence {number}, found words without a prediction")
    return tags


def _windows(sizes: Sequence[int], room: int) -> Iterable[tuple[int, int]]:
    """Ranges of words, as few as can be, whose pieces fit into `room`; a word larger than that is alone."""
    if sizes and sum(sizes) <= room:
        yield 0, len(sizes)
        return
    start, filled = 0, 0
    for word, size in enumerate(sizes):
        if filled + size > room and word > start:
            yield start, word
            start, filled = word, 0
        filled += size
    if start < len(sizes):
        yield start, len(sizes)


def _first_and_further(tag: str, labelling: Labelling, index: dict[str, int]) -> tuple[int, int]:
    """Label indices of the first piece and of each further piece of a word."""
    try:
        first = index[tag]
        further = NO_LABEL if labelling == "word" else index["I-" + tag[2:] if tag != "O" else "O"]
    except KeyError as missing:
        raise BiomegError(f"expected one of the labels {', '.join(index)}, found {missing.args[0]}") from None
    return first, further
