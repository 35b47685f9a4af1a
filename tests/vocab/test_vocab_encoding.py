"""What encodings promise, for any text and every kind of vocabulary."""

import pickle

import numpy as np
import pytest
import sentencepiece
from hypothesis import given, settings
from hypothesis import strategies as st
from vocab_cases import SENTENCES, TEXT, assert_aligned, normalised, pre_tokenised

from biomeg_lib.vocab import SPECIALS, vocabulary


class TestProperties:
    @settings(max_examples=100, deadline=None)
    @given(text=TEXT)
    def test_encode(self, vocab, text):
        encoding = vocab.encode(text)
        assert encoding.ids == vocab.encode_ids([text])[0].tolist()
        assert not {vocab.pad_id, vocab.cls_id, vocab.sep_id, vocab.mask_id} & set(encoding.ids)
        assert_aligned(vocab, encoding, len(text))
        words = pre_tokenised(text, vocab.lowercase)
        assert sorted(set(encoding.words)) == list(range(len(words)))
        for i, word, (start, end) in zip(encoding.ids, encoding.words, encoding.offsets, strict=True):
            piece = vocab.pieces[i].removeprefix("##" if vocab.continues[i] else "\u2581")
            if i != vocab.unk_id:
                cut = normalised(text[start:end], vocab.lowercase)
                assert piece in words[word]
                assert piece in cut

    @settings(max_examples=100, deadline=None)
    @given(words=st.lists(TEXT, max_size=5))
    def test_encode_words(self, vocab, words):
        encoding = vocab.encode_words(words)
        assert sorted(set(encoding.words)) == list(range(len(words)))
        for index, word in enumerate(words):
            own = [n for n, number in enumerate(encoding.words) if number == index]
            alone = vocab.encode(word)
            assert [encoding.ids[n] for n in own] == (alone.ids or [vocab.unk_id])
            assert [encoding.offsets[n] for n in own] == (alone.offsets or [(0, len(word))])

    @settings(max_examples=50, deadline=None)
    @given(texts=st.lists(TEXT, max_size=4))
    def test_batches(self, vocab, texts):
        assert vocab.encode_batch(texts) == [vocab.encode(text) for text in texts]
        ids = vocab.encode_ids(texts)
        assert [array.dtype for array in ids] == [np.int32] * len(texts)
        assert [array.tolist() for array in ids] == [vocab.encode(text).ids for text in texts]
        assert all(isinstance(vocab.decode(array), str) for array in ids)


@pytest.mark.parametrize("kind", ["bpe", "unigram"])
def test_a_text_of_isolated_words_is_cut_as_by_sentencepiece_itself(vocabularies, kind, tmp_path):
    vocab = vocabularies[kind, False]
    vocab.save(tmp_path / "v")
    processor = sentencepiece.SentencePieceProcessor(model_file=str(tmp_path / "v" / "spm.model"))
    for sentence in SENTENCES:
        assert vocab.encode(sentence).ids == processor.encode(" ".join(pre_tokenised(sentence, False)))


def test_offsets_by_hand(vocabularies):
    text = "Zz\u0301 (naïve\u200b)\u2581."
    for kind in ("bpe", "unigram"):
        encoding = vocabularies[kind, True].encode(text)
        cut = [(text[start:end], encoding.words[n]) for n, (start, end) in enumerate(encoding.offsets) if start < end]
        # Accents and zero-width characters belong to no piece; U+2581 is text, and unknown.
        assert "".join(part for part, _ in cut).replace("\u0301", "") == "Zz(naïve)\u2581."
        assert encoding.words[-1] == 5


def test_an_unknown_run_is_one_unknown_piece(vocabularies):
    encoding = vocabularies["bpe", False].encode("an Ωψthe")
    vocab = vocabularies["bpe", False]
    assert encoding.ids.count(vocab.unk_id) == 1
    assert encoding.offsets[encoding.ids.index(vocab.unk_id)] == (3, 5)


def test_the_space_mark_of_sentencepiece_in_a_text_is_an_unknown_character(vocabularies):
    for kind in ("bpe", "unigram"):
        vocab = vocabularies[kind, False]
        encoding = vocab.encode("the\u2581the")
        assert encoding.ids.count(vocab.unk_id) == 1
        assert encoding.offsets[encoding.ids.index(vocab.unk_id)] == (3, 4)
        assert set(encoding.words) == {0}


def test_a_word_of_a_benchmark_may_hold_several_words(vocab):
    encoding = vocab.encode_words(["alpha-methyl", "\u200b", "", "x"])
    assert encoding.words[0] == 0
    assert "".join(
        "alpha-methyl"[a:b] for (a, b), w in zip(encoding.offsets, encoding.words, strict=True) if w == 0
    ) == ("alpha-methyl")
    middle = [n for n, word in enumerate(encoding.words) if word in (1, 2)]
    assert [encoding.ids[n] for n in middle] == [vocab.unk_id] * 2
    assert [encoding.offsets[n] for n in middle] == [(0, 1), (0, 0)]


class TestAttributes:
    def test_special_tokens(self, vocab):
        ids = [vocab.pad_id, vocab.unk_id, vocab.cls_id, vocab.sep_id, vocab.mask_id]
        assert [vocab.pieces[i] for i in ids] == list(SPECIALS)
        assert not vocab.continues[ids].any()

    def test_continues(self, vocab):
        assert vocab.continues.shape == (vocab.size,)
        encoding = vocab.encode("induced induced")
        known = [n for n, i in enumerate(encoding.ids) if i != vocab.unk_id]
        firsts = [n == 0 or encoding.words[n] != encoding.words[n - 1] for n in known]
        assert [not vocab.continues[encoding.ids[n]] for n in known] == firsts

    def test_sizes(self, vocab):
        assert vocab.size == len(vocab.pieces)
        assert vocab.padded_size() % 128 == 0
        assert vocab.size <= vocab.padded_size() < vocab.size + 128
        assert vocab.padded_size(1) == vocab.size

    def test_fingerprints_differ(self, vocabularies):
        assert len({v.fingerprint for v in vocabularies.values()}) == len(vocabularies)

    def test_small_caches_change_nothing(self, vocab, monkeypatch):
        monkeypatch.setattr(vocabulary, "_CACHED", 2)
        fresh = pickle.loads(pickle.dumps(vocab))
        for sentence in SENTENCES:
            assert fresh.encode(sentence) == vocab.encode(sentence)
            assert fresh.encode_ids([sentence])[0].tolist() == vocab.encode(sentence).ids
        assert len(fresh._words) <= 2


def test_decode(vocabularies):
    for lowercase in (False, True):
        vocab = vocabularies["wordpiece", lowercase]
        ids = vocab.encode("not (respond), induced.").ids
        assert vocab.decode([vocab.cls_id, *ids, vocab.mask_id, vocab.sep_id, vocab.pad_id]) == (
            "not (respond), induced. [MASK]"
        )
    for kind in ("bpe", "unigram"):
        vocab = vocabularies[kind, False]
        ids = vocab.encode("not (0.1 respond), induced.").ids
        assert (
            vocab.decode(np.array([vocab.cls_id, vocab.mask_id, *ids, vocab.sep_id]))
            == "[MASK] not (0. 1 respond), induced."
        )
        assert "[UNK]" in vocab.decode(vocab.encode("Ω").ids)
