"""IOB columns: what is read, what is refused with which line, and the conlleval reading of tags."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from seqeval.metrics.sequence_labeling import get_entities

from biomeg_lib.benchmarks.iob import Sentence, entity_spans, read_iob, to_iob2, write_iob
from biomeg_lib.errors import BiomegError, InputError

TAGS = st.lists(st.sampled_from(["O", "B-X", "I-X", "B-Y", "I-Y", "B-Z-1", "I-Z-1"]), max_size=12)
WORDS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\t\r\n\ufeff"), min_size=1, max_size=6)


def write(tmp_path, content):
    path = tmp_path / "set.tsv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def test_two_sentences(tmp_path):
    path = write(tmp_path, "Oral\tO\nsodium\tB-Chemical\nchloride\tI-Chemical\n\nNone\tO\n")
    assert read_iob(path) == [
        Sentence(("Oral", "sodium", "chloride"), ("O", "B-Chemical", "I-Chemical")),
        Sentence(("None",), ("O",)),
    ]


@pytest.mark.parametrize(
    "content",
    [
        b"a\tO\r\nb\tB-X\r\n\r\nc\tO\r\n",
        b"\xef\xbb\xbfa\tO\nb\tB-X\n\nc\tO\n",
        b"a\tO\nb\tB-X\n\n\n\nc\tO\n",
        b"\n\na\tO\nb\tB-X\n \nc\tO\n\n\n",
        b"a\tO\nb\tB-X\n\nc\tO",
        b"a\tO\r\nb\tB-X\r\n\r\nc\tO\r",
        b"a\tO\nb\tI-X\n\nc\tO\n",
    ],
    ids=["windows", "byte-order-mark", "empty-sentence", "blank-around", "no-last-newline", "cut-in-crlf", "I-after-O"],
)
def test_accepted_variants(tmp_path, content):
    assert read_iob(write(tmp_path, content)) == [Sentence(("a", "b"), ("O", "B-X")), Sentence(("c",), ("O",))]


@pytest.mark.parametrize(
    ("format", "content", "line", "text"),
    [
        ("iob", b"a\tO\nb\n", 2, "2 columns"),
        ("iob", b"a\tO\n\nb\tB-X\tO\n", 3, "found 3"),
        ("iob", b"a\tO\nb\t\tO\n", 2, "found 3"),
        ("iob", b"a\tO\t\n", 1, "found 3"),
        ("iob", b"a O\n", 1, "found 1"),
        ("iob", b"a\tX\n", 1, "found 'X'"),
        ("iob", b"a\tb-X\n", 1, "found 'b-X'"),
        ("iob", b"a\tB-\n", 1, "found 'B-'"),
        ("iob", b"a\tB\n", 1, "found 'B'"),
        ("iob", b"a\tS-X\n", 1, "found 'S-X'"),
        ("iob", b"a\tO \n", 1, "found 'O '"),
        ("iob", b"a\t\n", 1, "found ''"),
        ("iob", b"a\tO\n\tO\n", 2, "expected a word"),
        ("iob", b" \tO\n", 1, "expected a word"),
        ("iob", b"a\tO\n\nm\xe9decin\tO\n", 3, "byte 0xe9 at byte 2"),
        ("iob", "a\tO\n".encode("utf-16"), 1, "UTF-8"),
        ("iob", b"a\tO\rb\tO\r", 1, "CR inside"),
        ("iob", b"a" * 5000 + b"\n", 1, "aaa..."),
        ("conll", b"EU NNP I-NP I-ORG\nrejects VBZ O\n", 2, "expected 4 columns"),
        ("conll", b"EU NNP  I-ORG\nrejects VBZ O\n", 2, "expected 4 columns"),
        ("conll", b"EU\n", 1, "at least 2 columns"),
        ("conll", b"EU NNP I-NP ORG\n", 1, "found 'ORG'"),
        ("conll", b"EU NNP I-NP I-ORG \n", 1, "found ''"),
    ],
)
def test_bad_lines_are_named(tmp_path, format, content, line, text):
    path = write(tmp_path, content)
    with pytest.raises(InputError, match=re.escape(text)) as caught:
        read_iob(path, format)
    assert str(caught.value).startswith(f"{path}:{line}: expected ")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < len(str(path)) + 250


@pytest.mark.parametrize("content", [b"", b"\n\n", b"\xef\xbb\xbf", b"-DOCSTART- -X- O O\n\n"])
def test_no_sentence(tmp_path, content):
    with pytest.raises(InputError, match="at least one sentence"):
        read_iob(write(tmp_path, content), "conll")


def test_unreadable_and_unknown(tmp_path):
    with pytest.raises(InputError, match="No such file"):
        read_iob(tmp_path / "absent.tsv")
    with pytest.raises(InputError, match="directory"):
        read_iob(tmp_path)
    with pytest.raises(BiomegError, match="iob or conll"):
        read_iob(write(tmp_path, "a\tO\n"), "xml")


def test_conll_columns(tmp_path):
    content = (
        "-DOCSTART- -X- O O\nEU NNP I-NP I-ORG\nBonn NNP I-NP B-ORG\nsays\tVBZ\tI-VP\tO\n"
        "-DOCSTART- -X-\nX NN I-NP I-PER\n"
    )
    assert read_iob(write(tmp_path, content), "conll") == [
        Sentence(("EU", "Bonn", "says"), ("B-ORG", "B-ORG", "O")),
        Sentence(("X",), ("B-PER",)),
    ]


def test_only_newlines_end_lines(tmp_path):
    words = ("a\u2028b", "c\x85d", "e\x0bf", "g\u00a0h", "\u200b")
    path = write(tmp_path, "".join(f"{word}\tO\n" for word in words))
    assert read_iob(path) == [Sentence(words, ("O",) * 5)]


@pytest.mark.parametrize(
    ("tags", "spans"),
    [
        ("B-X I-X O", [("X", 0, 2)]),
        ("B-X B-X", [("X", 0, 1), ("X", 1, 2)]),
        ("O I-X I-X", [("X", 1, 3)]),
        ("B-X I-Y I-Y", [("X", 0, 1), ("Y", 1, 3)]),
        ("I-X I-X B-X I-Y O", [("X", 0, 2), ("X", 2, 3), ("Y", 3, 4)]),
        ("", []),
    ],
)
def test_spans_by_hand(tags, spans):
    assert entity_spans(tags.split()) == spans


@settings(max_examples=300, deadline=None)
@given(TAGS)
def test_spans_equal_seqeval_and_survive_iob2(tags):
    assert entity_spans(tags) == [(kind, first, last + 1) for kind, first, last in get_entities(tags)]
    converted = to_iob2(tags)
    assert entity_spans(converted) == entity_spans(tags)
    assert sum(tag.startswith("B-") for tag in converted) == len(entity_spans(tags))
    assert to_iob2(converted) == converted


@settings(max_examples=100, deadline=None)
@given(st.lists(st.lists(st.tuples(WORDS, st.sampled_from(["O", "B-X", "I-X"])), min_size=1), min_size=1, max_size=4))
def test_what_is_written_reads_back(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("iob") / "predictions.tsv"
    sentences = [Sentence(*map(tuple, zip(*sentence, strict=True))) for sentence in rows]
    if any(not word.strip(" ") for sentence in sentences for word in sentence.words):
        with pytest.raises(BiomegError, match=r"found ' +'"):
            write_iob(path, sentences)
    else:
        write_iob(path, sentences)
        assert read_iob(path) == [Sentence(sentence.words, to_iob2(sentence.tags)) for sentence in sentences]


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=60) | st.text("ab-OBIX \t\r\n\ufeff", max_size=60).map(str.encode))
def test_any_bytes_are_read_or_refused(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("iob") / "any.tsv"
    path.write_bytes(content)
    for format in ("iob", "conll"):
        message = ""
        try:
            sentences = read_iob(path, format)
        except InputError as error:
            message = str(error)
        assert len(message.splitlines()) == 1 if message else all(sentence.words for sentence in sentences)


def test_writing_keeps_tags_and_never_leaves_half_a_file(tmp_path):
    path = tmp_path / "predictions.tsv"
    write_iob(path, [Sentence(("a", "b"), ("O", "I-X"))])
    assert path.read_bytes() == b"a\tO\nb\tI-X\n\n"
    with pytest.raises(BiomegError, match="tabs"):
        write_iob(path, [Sentence(("c",), ("O",)), Sentence(("a\tb",), ("O",))])
    assert path.read_bytes() == b"a\tO\nb\tI-X\n\n"
    assert list(tmp_path.iterdir()) == [path]


def test_words_and_tags_must_match():
    with pytest.raises(BiomegError, match="2 words and 1 tags"):
        Sentence(("a", "b"), ("O",))


@pytest.mark.parametrize(
    ("name", "format", "sentences", "entities"),
    [
        ("bc5cdr-chem/train.tsv", "iob", 4560, 5203),
        ("bc5cdr-disease/test.tsv", "iob", 4797, 4424),
        ("conll2003/eng.train", "conll", 14041, 23499),  # the counts published with the shared task
        ("conll2003/eng.testa", "conll", 3250, 5942),
        ("conll2003/eng.testb", "conll", 3453, 5648),
    ],
)
def test_real_files(shared_data, name, format, sentences, entities):
    found = read_iob(shared_data / "benchmarks" / "ner" / name, format)
    assert len(found) == sentences
    assert sum(tag.startswith("B-") for sentence in found for tag in sentence.tags) == entities
