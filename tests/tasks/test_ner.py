"""NER features and decoding: golden labels, and gold labels that survive the way there and back."""

import itertools
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from biomeg_lib.benchmarks.iob import Sentence, read_iob
from biomeg_lib.errors import BiomegError
from biomeg_lib.metrics.entities import entity_scores
from biomeg_lib.tasks.ner import LABELLINGS, NO_LABEL, build, decode, labels_of, tags_of
from biomeg_lib.tasks.splits import of_records
from biomeg_lib.vocab import Vocabulary


class Toy:
    """A vocabulary that cuts words at `|` and numbers pieces as it meets them."""

    def __init__(self):
        self.pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
        self.cls_id, self.sep_id = 2, 3

    def encode_words(self, words):
        pieces = [(piece, word) for word, text in enumerate(words) for piece in text.split("|")]
        self.pieces += [piece for piece in dict(pieces) if piece not in self.pieces]
        return SimpleNamespace(
            ids=[self.pieces.index(piece) for piece, _ in pieces], words=[word for _, word in pieces]
        )


@pytest.fixture(scope="module")
def vocabularies(shared_data):
    return [Vocabulary.load(shared_data / "vocab" / f"bert-base-{kind}-vocab.txt") for kind in ("cased", "uncased")]


SENTENCE = Sentence(("In", "hepato|cellular", "car|cin|oma", "pa|tients"), ("O", "B-Disease", "I-Disease", "O"))
LABELS = ["O", "B-Disease", "I-Disease"]


@pytest.mark.parametrize(
    ("labelling", "expected"),
    [
        ("word", "- O B-Disease - I-Disease - - O - -"),
        ("piece", "- O B-Disease I-Disease I-Disease I-Disease I-Disease O O -"),
    ],
)
def test_labels_of_a_two_word_entity(labelling, expected):
    """The two label rows of the paper's Figure 1, under a vocabulary that breaks both words of the entity."""
    vocabulary = Toy()
    (feature,) = build([SENTENCE], vocabulary, labelling, 128, LABELS)
    pieces = "[CLS] In hepato cellular car cin oma pa tients [SEP]"
    assert " ".join(vocabulary.pieces[token] for token in feature.tokens) == pieces
    assert " ".join("-" if label == NO_LABEL else LABELS[label] for label in feature.labels) == expected
    assert feature.first == [1, 2, 4, 7]
    assert (feature.sentence, feature.start) == (0, 0)


def test_long_sentences_are_cut_between_words():
    vocabulary = Toy()
    features = build([SENTENCE, SENTENCE], vocabulary, "piece", 6, LABELS)
    texts = [" ".join(vocabulary.pieces[token] for token in feature.tokens[1:-1]) for feature in features]
    assert texts == ["In hepato cellular", "car cin oma", "pa tients"] * 2
    assert [(feature.sentence, feature.start) for feature in features] == [
        (0, 0),
        (0, 2),
        (0, 3),
        (1, 0),
        (1, 2),
        (1, 3),
    ]


def test_a_word_longer_than_a_window_keeps_its_first_pieces():
    vocabulary = Toy()
    features = build([SENTENCE], vocabulary, "piece", 4, LABELS)
    texts = [" ".join(vocabulary.pieces[token] for token in feature.tokens[1:-1]) for feature in features]
    assert texts == ["In", "hepato cellular", "car cin", "pa tients"]
    assert decode(features, [feature.labels for feature in features], LABELS, [SENTENCE]) == [list(SENTENCE.tags)]


def test_labels_are_o_then_types_in_order():
    sentences = [Sentence(("a", "b"), ("B-Y", "O")), Sentence(("c", "d"), ("B-A", "I-A"))]
    assert labels_of(sentences) == ["O", "B-A", "I-A", "B-Y", "I-Y"]
    assert labels_of([]) == ["O"]


def test_decode_takes_first_pieces_as_they_are_predicted():
    (feature,) = build([SENTENCE], Toy(), "word", 128, LABELS)
    prediction = torch.tensor([0, 2, 0, 1, 2, 0, 0, 1, 0, 0, 7, 7])  # [CLS], 8 pieces, [SEP], then padding
    assert decode([feature], [prediction], LABELS, [SENTENCE]) == [["I-Disease", "O", "I-Disease", "B-Disease"]]


def test_empty_sentences_pass_through():
    sentences = [Sentence((), ()), SENTENCE]
    features = build(sentences, Toy(), "word", 128, LABELS)
    assert [feature.sentence for feature in features] == [1]
    assert decode(features, [features[0].labels], LABELS, sentences) == [[], list(SENTENCE.tags)]


def test_errors():
    with pytest.raises(BiomegError, match="piece or word"):
        build([SENTENCE], Toy(), "entity", 128, LABELS)
    with pytest.raises(BiomegError, match="at least 3"):
        build([SENTENCE], Toy(), "word", 2, LABELS)
    with pytest.raises(BiomegError, match="found B-Disease"):
        build([SENTENCE], Toy(), "word", 128, ["O", "B-Chemical", "I-Chemical"])
    features = build([SENTENCE], Toy(), "word", 6, LABELS)
    rows = [feature.labels for feature in features]
    with pytest.raises(BiomegError, match="3 features, found 2"):
        decode(features, rows[:2], LABELS, [SENTENCE])
    with pytest.raises(BiomegError, match="without a prediction"):
        decode(features[:2], rows[:2], LABELS, [SENTENCE])
    with pytest.raises(BiomegError, match="each of 5 tokens"):
        decode(features, [row[:-1] for row in rows], LABELS, [SENTENCE])
    with pytest.raises(BiomegError, match="label indices from 0 to 2"):
        decode(features, [[3] * len(row) for row in rows], LABELS, [SENTENCE])
    with pytest.raises(BiomegError, match="label indices"):
        decode(features, [[NO_LABEL] * len(row) for row in rows], LABELS, [SENTENCE])


WORD = st.lists(st.sampled_from("abc"), min_size=1, max_size=9).map("|".join)
SENTENCES = st.lists(
    st.lists(st.tuples(WORD, st.sampled_from(["O", "B-X", "I-X", "B-Y", "I-Y"])), min_size=1, max_size=8).map(
        lambda rows: Sentence(*map(tuple, zip(*rows, strict=True)))
    ),
    max_size=4,
)


@settings(max_examples=100, deadline=None)
@given(SENTENCES, st.sampled_from(LABELLINGS), st.integers(3, 14))
def test_gold_labels_come_back(sentences, labelling, max_length):
    labels = ["O", "B-X", "I-X", "B-Y", "I-Y"]
    features = build(sentences, Toy(), labelling, max_length, labels)
    assert all(len(feature.tokens) == len(feature.labels) <= max_length for feature in features)
    assert sum(len(feature.first) for feature in features) == sum(len(sentence.words) for sentence in sentences)
    decoded = decode(features, [feature.labels for feature in features], labels, sentences)
    assert decoded == [list(sentence.tags) for sentence in sentences]


NER_FILES = [
    *(f"{name}/{split}.tsv" for name in ("bc5cdr-chem", "ncbi-disease") for split in ("train", "devel", "test")),
    *(f"bc5cdr-disease/{split}.tsv" for split in ("train", "devel", "test")),
    *(f"conll2003/eng.{split}" for split in ("train", "testa", "testb")),
]


@pytest.mark.parametrize("name", NER_FILES)
def test_gold_labels_score_one_hundred_on_real_files(shared_data, vocabularies, name):
    """Every vocabulary and labelling, in windows of 128 and 16, each on an eighth of the file: together all of it."""
    sentences = read_iob(shared_data / "benchmarks" / "ner" / name, "conll" if "conll" in name else "iob")
    labels = labels_of(sentences)
    for number, (vocabulary, labelling, length) in enumerate(itertools.product(vocabularies, LABELLINGS, (128, 16))):
        part = sentences[number::8]
        features = build(part, vocabulary, labelling, length, labels)
        assert max(len(feature.tokens) for feature in features) <= length
        decoded = decode(features, [feature.labels for feature in features], labels, part)
        assert decoded == [list(sentence.tags) for sentence in part]
        scores = entity_scores([sentence.tags for sentence in part], decoded)
        assert 100 * scores.f1 == 100.0
        assert scores.gold == scores.true_positive > 0


WORDS = st.lists(st.sampled_from(["a", "b|c", "d|e|f", "g|h|i|j|k|l"]), min_size=1, max_size=9)


@settings(max_examples=100, deadline=None)
@given(st.lists(WORDS, min_size=1, max_size=6), st.data(), st.sampled_from(LABELLINGS), st.integers(3, 12))
def test_features_of_some_sentences_are_those_among_all(words, data, labelling, length):
    """What a run trains on is the same, whether it is made of its sentences or chosen from the features of all."""
    sentences = [Sentence(tuple(row), tuple(data.draw(st.sampled_from(LABELS)) for _ in row)) for row in words]
    chosen = sorted(data.draw(st.sets(st.integers(0, len(words) - 1), min_size=1)))
    toy = Toy()
    among = of_records(build(sentences, toy, labelling, length, LABELS), chosen, lambda feature: feature.sentence)
    alone = build([sentences[number] for number in chosen], toy, labelling, length, LABELS)
    assert [(f.tokens, f.labels, f.first, f.start) for f in among] == [
        (f.tokens, f.labels, f.first, f.start) for f in alone
    ]
    assert [f.sentence for f in among] == [chosen[f.sentence] for f in alone]


def test_labels_of_words_become_tags_whatever_the_order_of_the_features():
    sentences = [Sentence(("a", "b|c", "d"), ("O",) * 3), Sentence(("e",), ("O",))]
    features = build(sentences, Toy(), "piece", 4, LABELS)
    assert [(f.sentence, f.start, len(f.first)) for f in features] == [(0, 0, 1), (0, 1, 1), (0, 2, 1), (1, 0, 1)]
    chosen = [[1], [2], [0], [1]]
    expected = [["B-Disease", "I-Disease", "O"], ["B-Disease"]]
    for order in itertools.permutations(range(4)):
        assert tags_of([features[i] for i in order], [chosen[i] for i in order], LABELS, sentences) == expected
    with pytest.raises(BiomegError, match="cover sentence 0"):
        tags_of([features[i] for i in (0, 2, 3)], [chosen[i] for i in (0, 2, 3)], LABELS, sentences)
