"""Against peers: `tokenizers` on every character, transformers' BERT tokeniser, the paper's break-out rate."""

import re
import unicodedata
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from vocab_cases import SENTENCES, TEXT, pre_tokenised, wordpiece_lines

from biomeg_lib.vocab import Vocabulary, break_out_rate
from biomeg_lib.vocab.characters import CHARACTERS


@pytest.mark.parametrize("lowercase", [False, True])
def test_every_character_is_treated_as_by_the_tokenizers_library(lowercase):
    # All characters but for letters without case (CJK, Hangul) and the unassigned: of these some.
    codes = [c for c in range(0x110000) if unicodedata.category(chr(c)) not in ("Cn", "Co", "Cs", "Lo") or c % 61 == 0]
    codes = [c for c in codes if not 0xD800 <= c <= 0xDFFF]
    for start in range(0, len(codes), 20_000):
        # Each character within a word of its own line, so that nothing but its own rule applies.
        text = "".join(f"a{chr(code)}b x " for code in codes[start : start + 20_000])
        assert text.translate(CHARACTERS[lowercase]).split() == pre_tokenised(text, lowercase)


@pytest.fixture(scope="module", params=[False, True], ids=["cased", "uncased"])
def pair(request, vocabularies, tmp_path_factory):
    transformers = pytest.importorskip("transformers")
    path = tmp_path_factory.mktemp("peer") / "vocab.txt"
    path.write_text("\n".join(wordpiece_lines(request.param)) + "\n", encoding="utf-8")
    return vocabularies["wordpiece", request.param], peer_of(transformers, path, request.param)


class TestAgainstTransformers:
    def test_sentences(self, pair):
        for sentence in SENTENCES:
            assert_equal(pair, sentence)

    @settings(max_examples=300, deadline=None)
    @given(text=TEXT)
    def test_any_text(self, pair, text):
        assert_equal(pair, re.sub("[\ud800-\udfff]", "", text))

    @pytest.mark.parametrize("lowercase", [False, True], ids=["cased", "uncased"])
    def test_published_vocabulary(self, shared_data, lowercase):
        transformers = pytest.importorskip("transformers")
        path = shared_data / "vocab" / f"bert-base-{'uncased' if lowercase else 'cased'}-vocab.txt"
        vocab = Vocabulary.load(path)
        assert vocab.lowercase == lowercase
        blocks = (
            (shared_data / "benchmarks" / "ner" / "ncbi-disease" / "devel.tsv")
            .read_text(encoding="utf-8")
            .split("\n\n")
        )
        for block in blocks[:60]:
            assert_equal(
                (vocab, peer_of(transformers, path, lowercase)),
                " ".join(row.split("\t")[0] for row in block.split("\n")),
            )


def peer_of(transformers, path, lowercase):
    pieces = path.read_text(encoding="utf-8").removesuffix("\n").split("\n")
    table = {piece: number for number, piece in enumerate(pieces)}
    return transformers.BertTokenizer(vocab=table, do_lower_case=lowercase)


def assert_equal(pair, text):
    vocab, peer = pair
    theirs = peer(text, add_special_tokens=False, return_offsets_mapping=True, split_special_tokens=True)
    ours = vocab.encode(text)
    assert (ours.ids, ours.offsets, ours.words) == (theirs["input_ids"], theirs["offset_mapping"], theirs.word_ids())


def test_break_out_rate(vocabularies):
    vocab = vocabularies["wordpiece", False]
    sentences = [
        SimpleNamespace(
            words=["Selegiline", "induced", "Xab", "disease"], tags=["B-Chemical", "O", "B-Disease", "I-Disease"]
        ),
        SimpleNamespace(words=["the"], tags=["O"]),
    ]
    assert break_out_rate(vocab, sentences) == (5, 3, 5 / 3)
    assert break_out_rate(vocab, iter(sentences[1:])) == (0, 0, 0.0)


@pytest.mark.parametrize(("benchmark", "expected"), [("bc5cdr-chem", 3.010), ("bc5cdr-disease", 2.401)])
def test_break_out_rate_of_bert_on_real_entities(shared_data, benchmark, expected):
    """The paper's Table 3 has 3.012 and 2.42."""
    vocab = Vocabulary.load(shared_data / "vocab" / "bert-base-cased-vocab.txt")
    text = (shared_data / "benchmarks" / "ner" / benchmark / "train.tsv").read_text(encoding="utf-8")
    rows = [row.split("\t") for row in text.splitlines() if row]
    sentences = [SimpleNamespace(words=[row[0] for row in rows], tags=[row[1] for row in rows])]
    assert break_out_rate(vocab, sentences).rate == pytest.approx(expected, abs=5e-4)
