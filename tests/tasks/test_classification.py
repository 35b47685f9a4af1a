"""Examples to features: nothing longer than allowed, and no mention lost."""

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from biomeg_lib.benchmarks.pairs import SentencePair, read_mrpc
from biomeg_lib.benchmarks.relations import CATEGORIES, NEGATIVE, Relation, read_chemprot, read_chemprot_jsonl
from biomeg_lib.errors import BiomegError
from biomeg_lib.tasks.classification import Example, build, pair_examples, relation_examples
from biomeg_lib.vocab import Vocabulary
from biomeg_lib.vocab.vocabulary import Encoding

LABELS = (NEGATIVE, *CATEGORIES)


class Letters:
    """A vocabulary whose pieces are single characters; blanks have none, as in the real ones."""

    cls_id, sep_id = 1, 2

    def encode(self, text):
        places = [place for place, character in enumerate(text) if character != " "]
        return Encoding([ord(text[place]) for place in places], places, [(place, place + 1) for place in places])


def shown(feature):
    return "".join({1: "^", 2: "|"}.get(token, chr(token)) for token in feature.tokens)


def one(example, max_length):
    (feature,) = build([example], Letters(), max_length, [example.label])
    return shown(feature)


def test_single_text_and_pair():
    examples = [Example("a", "ab c", None, "x"), Example("b", "d", "ef", "y")]
    single, pair = build(examples, Letters(), 9, ["y", "x"])
    assert (shown(single), single.types, single.label, single.example) == ("^abc|", [0] * 5, 1, 0)
    assert (shown(pair), pair.types, pair.label, pair.example) == ("^d|ef|", [0, 0, 0, 1, 1, 1], 0, 1)


@pytest.mark.parametrize(
    ("room", "keep", "expected"),
    [
        (4, (), "abcd"),
        (4, ((5, 6), (7, 8)), "fghi"),
        (5, ((5, 6), (7, 8)), "efghi"),
        (6, ((5, 6), (7, 8)), "efghij"),
        (6, ((0, 1),), "abcdef"),
        (6, ((1, 2),), "abcdef"),
        (6, ((11, 12),), "ghijkl"),
        (3, ((2, 3), (9, 10)), "bcj"),  # too far apart: what is nearest to the two
        (4, ((2, 3), (9, 10)), "bcdj"),
        (6, ((2, 3), (9, 10)), "bcdijk"),
        (2, ((2, 3), (9, 10)), "cj"),
        (4, ((0, 6), (6, 12)), "abgh"),  # too long themselves: their beginnings
        (3, ((2, 8), (4, 6)), "cde"),
    ],
)
def test_windows_around_the_mentions(room, keep, expected):
    assert one(Example("a", "abcdefghijkl", None, "x", keep), room + 2) == f"^{expected}|"


@pytest.mark.parametrize("length", [10, 11])
@pytest.mark.parametrize(("first", "second"), [(1, 9), (9, 1), (4, 4), (5, 5), (9, 9), (3, 5), (0, 9), (9, 0), (9, 4)])
def test_pairs_are_cut_as_in_bert(length, first, second):
    """Against the loop that takes a piece of the longer one, of the second where there is no longer one."""
    a, b = list("a" * first), list("b" * second)
    while len(a) + len(b) > length - 3:
        (a if len(a) > len(b) else b).pop()
    assert one(Example("p", "a" * first, "b" * second, "x"), length) == f"^{''.join(a)}|{''.join(b)}|"


@st.composite
def examples(draw):
    text = draw(st.text("abc d", max_size=30))
    span = st.tuples(st.integers(0, len(text)), st.integers(0, len(text))).map(sorted).map(tuple)
    keep = draw(st.lists(span, max_size=2).map(tuple))
    return Example("e", text, draw(st.none() | st.text("xy ", max_size=12)), "1", keep)


@settings(max_examples=500, deadline=None)
@given(examples(), st.integers(5, 24))
def test_any_example_fits_and_keeps_its_mentions(example, max_length):
    (feature,) = build([example], Letters(), max_length, ["0", "1"])
    segments = shown(feature)[1:-1].split("|")
    text, further = example.first.replace(" ", ""), (example.second or "").replace(" ", "")
    assert shown(feature)[0] == "^"
    assert shown(feature)[-1] == "|"
    assert len(feature.tokens) <= max_length
    assert len(segments) == 1 + (example.second is not None)
    assert feature.types == [0] * (len(segments[0]) + 2) + [1] * (len(feature.tokens) - len(segments[0]) - 2)
    special = 2 if example.second is None else 3
    assert len(feature.tokens) == min(max_length, len(text) + len(further) + special)
    assert further.startswith("".join(segments[1:]))
    pieces = [place for place, character in enumerate(example.first) if character != " "]
    wanted = [place for place in pieces if any(start <= place < end for start, end in example.keep)]
    room = len(segments[0])
    if not wanted:
        assert text.startswith(segments[0])
        return
    first, last = pieces.index(wanted[0]), pieces.index(wanted[-1]) + 1
    windows = range(max(0, last - room), min(first, len(pieces) - room) + 1)
    if windows:  # those that hold all: the one with the most even context, or a neighbour of it, is what came out
        uneven = {start: abs((first - start) - (start + room - last)) for start in windows}
        best = [text[start : start + room] for start in windows if uneven[start] == min(uneven.values())]
        assert segments[0] in best
    elif len(wanted) <= room:
        kept = "".join(example.first[place] for place in wanted)
        remaining = iter(segments[0])
        assert all(character in remaining for character in kept)


def test_mentions_are_kept_with_their_marks():
    sentence = "x" * 50 + " Zinc " + "y" * 50 + " NOS " + "z" * 50
    relation = Relation("1.T1.T2", sentence, (51, 55), (107, 110), "CPR:3", True)
    for marking, expected in (("markers", ("<<Zinc>>", "[[NOS]]")), ("anonymised", ("@CHEMICAL$", "@GENE$"))):
        (example,) = relation_examples([relation], marking)
        assert (example.id, example.second, example.label) == ("1.T1.T2", None, "CPR:3")
        for length in (18, 40, 80):
            assert all(mention in one(example, length) for mention in expected)


def test_pair_examples():
    assert pair_examples([SentencePair("1.2", "A.", "B.", "0")]) == [Example("1.2", "A.", "B.", "0")]


def test_what_is_refused():
    with pytest.raises(BiomegError, match="expected max_length of at least 3, found 2"):
        build([], Letters(), 2, ["x"])
    with pytest.raises(BiomegError, match="expected max_length of at least 5, found 4"):
        build([Example("a", "a", "b", "x")], Letters(), 4, ["x"])
    with pytest.raises(BiomegError, match="e7: expected a label of 0, 1, found 'x'"):
        build([Example("e7", "a", None, "x")], Letters(), 9, ["0", "1"])


def test_the_miniature(mini):
    """With a learned vocabulary, whose space marks often stand alone."""
    examples = relation_examples(read_chemprot((mini / "chemprot").glob("train_*.tsv")), "anonymised")
    vocabulary = Vocabulary.train([example.first for example in examples], 200)
    for length in (30, 128):
        features = build(examples, vocabulary, length, LABELS)
        assert [LABELS[feature.label] for feature in features] == [example.label for example in examples]
        assert any(len(feature.tokens) == length for feature in features) == (length == 30)
        for feature, example in zip(features, examples, strict=True):
            text = vocabulary.decode(feature.tokens).replace(" ", "")
            assert len(feature.tokens) <= length
            assert all(example.first[slice(*span)] in text for span in example.keep)
    pairs = pair_examples(read_mrpc(mini / "mrpc" / "test.txt"))
    features = build(pairs, vocabulary, 64, ["0", "1"])
    assert all(feature.tokens.count(vocabulary.sep_id) == 2 for feature in features)


def test_real_sentences_at_speed(shared_data):
    vocabulary = Vocabulary.load(shared_data / "vocab" / "bert-base-cased-vocab.txt")
    relations = read_chemprot_jsonl(shared_data / "benchmarks" / "re" / "chemprot" / "train.jsonl")
    examples = relation_examples(relations, "markers")
    begin = time.perf_counter()
    features = build(examples, vocabulary, 128, CATEGORIES)
    assert time.perf_counter() - begin < 20  # one second on two idle cores
    assert len(features) == 4169
    marks = [vocabulary.encode(mark).ids for mark in ("<<", ">>", "[[", "]]")]
    cut = 0
    for feature, example in zip(features, examples, strict=True):
        assert len(feature.tokens) <= 128
        cut += len(vocabulary.encode(example.first).ids) > 126
        pairs = list(zip(feature.tokens, feature.tokens[1:], strict=False))
        assert all(tuple(mark) in pairs for mark in marks)
    assert cut > 100
