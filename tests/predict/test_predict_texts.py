"""Text as it is in its file, and words and sentences that cover it: by example, by property and on the benchmarks."""

import gzip
import itertools
import json
import re
import time
import unicodedata

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from biomeg_lib.benchmarks.iob import entity_spans, read_iob
from biomeg_lib.errors import InputError
from biomeg_lib.predict.texts import Document, read_texts, sentences, words

# --- reading --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text", ["", "\ufeffAspirin\r\nhelps\rpain\t.\n", "a\u2028b\x0b\x1c\x00", "é e\u0301 👩\u200d⚕️"]
)
def test_plain_text_is_one_document_to_the_character(tmp_path, text):
    path = tmp_path / "my.notes.txt"
    path.write_bytes(text.encode())
    assert list(read_texts(path)) == [Document("my.notes", text)]
    assert next(read_texts(path)).text.encode() == path.read_bytes()


def test_gzipped_input(tmp_path):
    (tmp_path / "notes.txt.gz").write_bytes(gzip.compress(b"Aspirin\r\n"))
    assert list(read_texts(tmp_path / "notes.txt.gz")) == [Document("notes", "Aspirin\r\n")]
    (tmp_path / "notes.jsonl.gz").write_bytes(gzip.compress(b'{"id": "a", "text": "b"}'))
    assert list(read_texts(tmp_path / "notes.jsonl.gz")) == [Document("a", "b")]


def test_json_lines(tmp_path):
    path = tmp_path / "notes.jsonl"
    lines = ['\ufeff{"id": "x/y", "text": "\\ufeffA\\r\\n\\tB", "more": 1}', "  ", '{"text": "", "id": 17}']
    path.write_text("\r\n".join(lines), encoding="utf-8", newline="")
    assert list(read_texts(path)) == [Document("x/y", "\ufeffA\r\n\tB"), Document("17", "")]


BAD_LINES = [
    (b"nonsense", "expected a JSON object on the line, found an error"),
    (b"[1]", "found list"),
    (b"[" * 100_000, "expected a JSON object on the line, found an error"),
    (b'{"text": "b"}', "expected a string or whole number as `id`, found NoneType"),
    (b'{"id": "", "text": "b"}', "found an empty one"),
    (b'{"id": true, "text": "b"}', "found bool"),
    (b'{"id": "b"}', "expected a string as `text`, found NoneType"),
    (b'{"id": "b", "text": ["b"]}', "found list"),
    (b'{"id": "b", "text": "\\ud83d"}', "half of a surrogate pair"),
    (b'{"id": "b", "text": "\xff"}', "expected UTF-8, found invalid start byte at byte 22"),
    (b'{"id": "good", "text": "b"}', "an id that no earlier line has, found 'good'"),
]


@pytest.mark.parametrize(("line", "message"), BAD_LINES)
def test_bad_lines_stop_or_are_skipped(tmp_path, line, message):
    path = tmp_path / "notes.jsonl"
    path.write_bytes(b'{"id": "good", "text": "a"}\n' + line + b'\n{"id": "last", "text": "z"}\n')
    with pytest.raises(InputError, match=f"notes.jsonl:2: .*{re.escape(message)}") as raised:
        list(read_texts(path))
    assert "\n" not in str(raised.value)
    skipped = []
    assert [document.id for document in read_texts(path, skipped)] == ["good", "last"]
    assert skipped == [str(raised.value)]


def test_a_file_without_any_document_is_refused_even_when_skipping(tmp_path):
    path = tmp_path / "notes.jsonl"
    path.write_bytes("Just text.\nAnd more.\n".encode("utf-16"))
    skipped = []
    with pytest.raises(InputError, match=r"at least one document, found only bad lines: .*notes.jsonl:1: "):
        list(read_texts(path, skipped))
    assert len(skipped) == 3
    path.write_bytes(b"\n")
    with pytest.raises(InputError, match="at least one document, found none"):
        list(read_texts(path, skipped))


def test_a_plain_text_in_another_encoding_is_refused_with_its_line(tmp_path):
    path = tmp_path / "notes.txt"
    path.write_bytes(b"Aspirin\r\nM\xfcller\n")
    with pytest.raises(InputError, match=r"notes.txt:2: expected UTF-8, found invalid start byte at byte 2"):
        list(read_texts(path, []))
    with pytest.raises(InputError, match=r"none.txt: expected a readable file"):
        list(read_texts(tmp_path / "none.txt"))


# --- words and sentences --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("IL-2 (0.5 mg/kg), x_y", "IL - 2 ( 0 . 5 mg / kg ) , x _ y"),
        ("naïve nai\u0308ve β-blocker 37°C 10µg H₂O", "naïve nai\u0308ve β - blocker 37 ° C 10µg H₂O"),
        ("\ufeffAspi\u00adrin\u200b \u200b\u200dhelps", "Aspi\u00adrin helps"),
        ("a\u200b\u200c\u200db\ufeff", "a\u200b\u200c\u200db"),
        ("A-\u200bB", "A - B"),
        ("\u0301a x \u0301\u0302 ≠=\u0338", "\u0301 a x \u0301\u0302 ≠ =\u0338"),
        ("👩\u200d⚕️👍🏽🇩🇪1️⃣", "👩 ⚕️ 👍 🏽 🇩 🇪 1️⃣"),
        ("a\tb\r\nc\u00a0d\u2028e\x85f\x00\x07", "a b c d e f"),
        (" \u200b\ufeff\u2060\x00 ", ""),
        ("हिन्दी ภาษา", "हिन्दी ภาษา"),
    ],
)
def test_words_by_example(text, expected):
    assert [text[start:end] for start, end in words(text)] == expected.split()


def test_sentences_hold_the_words_of_each_line_and_sentence():
    text = "Aspirin helps. So does IL-2!\r\n\ufeff\r\nTitle\tline\n"
    assert [[text[start:end] for start, end in sentence] for sentence in sentences(text)] == [
        ["Aspirin", "helps", "."],
        ["So", "does", "IL", "-", "2", "!"],
        ["Title", "line"],
    ]
    assert sentences(" \ufeff\n") == []


# Much of what can go wrong is rare among all of Unicode: it is drawn on purpose.
TEXT = st.text(
    st.one_of(
        st.sampled_from("aZ0é.,-(_ \t\n\r. A"),
        st.sampled_from(
            "\u0301\u0338\u200b\u200c\u200d\ufeff\u00ad\ufe0f\u20e3\U0001f469\U0001f3fd\x00\x1c\x85\u2028\ud800"
        ),
        st.characters(),
    ),
    max_size=60,
)


@settings(max_examples=500, deadline=None)
@given(TEXT)
@example("a\u200b\u0301b")
def test_words_are_ordered_visible_and_cover_the_text(text):
    spans = words(text)
    flat = [offset for span in spans for offset in span]
    assert flat == sorted(flat)
    inside = set()
    for start, end in spans:
        assert 0 <= start < end <= len(text)
        inside.update(range(start, end))
        assert not any(character.isspace() for character in text[start:end])
        for edge in (text[start], text[end - 1]):
            assert unicodedata.category(edge) not in ("Cc", "Cf", "Cs")
        assert end == len(text) or not unicodedata.category(text[end]).startswith("M")
    for position, character in enumerate(text):
        visible = not character.isspace() and unicodedata.category(character) not in ("Cc", "Cf", "Cs")
        assert position in inside or not visible
    assert [span for sentence in sentences(text) for span in sentence] == spans
    assert all(sentences(text))


@pytest.mark.parametrize("unit", ["Aspirin 5 mg. ", "a", "\u200b", "a\u200b", "e\u0301", "\u200b\u0301", "-", "\n"])
def test_time_is_linear(unit):
    """A megabyte of anything take well under what a quadratic rule would (hours)."""
    text = unit * (1_000_000 // len(unit))
    start = time.process_time()
    assert sum(map(len, sentences(text))) == len(words(text))
    assert time.process_time() - start < 5


# --- the benchmarks' own words and sentences ------------------------------------------------------------------------

FILES = [
    *(f"{name}/{split}.tsv" for name in ("bc5cdr-chem", "ncbi-disease") for split in ("train", "devel", "test")),
    *(f"conll2003/eng.{split}" for split in ("train", "testa", "testb")),
]


@pytest.mark.parametrize("name", FILES)
def test_words_are_those_of_the_benchmarks(shared_data, name):
    """BC5CDR and NCBI-disease: in every sentence, and from blanks alone or without those around punctuation.

    CoNLL-2003 keeps `U.S.`, `6-4` and `'s` whole: 46 to 51 % of its sentences and 94 % of its words come back. Cutting
    finer loses no entity: each one begins and ends where a word does.
    """
    conll = name.startswith("conll")
    same = glued_same = entities = representable = 0
    benchmark = read_iob(shared_data / "benchmarks" / "ner" / name, "conll" if conll else "iob")
    for sentence in benchmark:
        text = " ".join(sentence.words)
        found = words(text)
        same += tuple(text[start:end] for start, end in found) == sentence.words
        glued = re.sub(r" ?([^A-Za-z0-9 ]) ?", r"\1", text)
        glued_same += tuple(glued[start:end] for start, end in words(glued)) == sentence.words
        starts, ends = {start for start, _ in found}, {end for _, end in found}
        begins = [0, *itertools.accumulate(len(word) + 1 for word in sentence.words)]
        for _, first, stop in entity_spans(sentence.tags):
            entities += 1
            representable += begins[first] in starts and begins[stop] - 1 in ends
    assert representable == entities > 700
    if conll:
        assert 0.45 < same / len(benchmark) < 0.6
    else:
        assert same == glued_same == len(benchmark)


@pytest.mark.parametrize("name", ["bc5cdr-chem/test.tsv", "ncbi-disease/test.tsv"])
def test_sentences_are_nearly_those_of_the_benchmarks(shared_data, name):
    """Five benchmark sentences in a row, with usual spacing. Found: precision 0.98 and 0.99, recall 0.99 and 0.97."""
    benchmark = read_iob(shared_data / "benchmarks" / "ner" / name)
    found = right = there = 0
    for number in range(0, len(benchmark), 5):
        parts = [" ".join(sentence.words) for sentence in benchmark[number : number + 5]]
        parts = [re.sub(r" ([.,;:)?!])", r"\1", re.sub(r"(\d) \. (\d)", r"\1.\2", part)) for part in parts]
        text = " ".join(parts)
        gold = {len(" ".join(parts[:count])) for count in range(1, len(parts))}
        ends = {sentence[-1][1] for sentence in sentences(text)} - {len(text)}
        found, right, there = found + len(ends), right + len(ends & gold), there + len(gold)
    assert right / found > 0.97
    assert right / there > 0.96


def test_json_input_is_what_json_says(tmp_path):
    """Whatever text JSON can write comes back as it is."""
    path = tmp_path / "notes.jsonl"
    texts = ["a\u2028b", '"\\\u0000', "👩\u200d⚕️", "\r\n", "\x85"]
    for ascii_only in (False, True):
        lines = [json.dumps({"id": n, "text": text}, ensure_ascii=ascii_only) for n, text in enumerate(texts)]
        path.write_text("\n".join(lines), encoding="utf-8", newline="")
        assert [document.text for document in read_texts(path)] == texts
