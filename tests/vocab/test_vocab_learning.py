"""Learning vocabularies, against SentencePiece on the running text."""

import io
import random
import re
from collections import Counter

import pytest
import sentencepiece
from vocab_cases import SENTENCES, pre_tokenised

from biomeg_lib.errors import BiomegError
from biomeg_lib.vocab import Vocabulary, learning


class TestLearning:
    @pytest.mark.parametrize("lowercase", [False, True])
    def test_bpe_equals_sentencepiece_on_the_running_text(self, vocabularies, lowercase):
        stream = io.BytesIO()
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter([" ".join(pre_tokenised(sentence, lowercase)) for sentence in SENTENCES * 4]),
            model_writer=stream, vocab_size=129, model_type="bpe", normalization_rule_name="identity", minloglevel=2,
            pad_id=0, unk_id=1, bos_id=2, eos_id=3,
        )  # fmt: skip
        theirs = sentencepiece.SentencePieceProcessor(model_proto=stream.getvalue())
        assert vocabularies["bpe", lowercase].pieces[5:] == [theirs.id_to_piece(i) for i in range(4, 129)]

    @pytest.mark.parametrize("algorithm", ["bpe", "unigram"])
    def test_repeats_whatever_the_order(self, vocabularies, algorithm):
        words = " ".join(SENTENCES * 4).split()
        random.Random(0).shuffle(words)
        again = Vocabulary.train(iter([" ".join(words)]), 130, algorithm, False)
        assert again.pieces == vocabularies[algorithm, False].pieces
        same = Vocabulary.train(SENTENCES * 4, 130, algorithm, False)
        assert same.fingerprint == vocabularies[algorithm, False].fingerprint

    @pytest.mark.parametrize("algorithm", ["bpe", "unigram"])
    def test_long_lines_and_reserved_characters_lose_no_text(self, algorithm):
        text = "needle " * 2000 + "\u2581 a\u2585b \0 " + "x" * 5000 + " haystack" * 2000
        vocab = Vocabulary.train([text], 19, algorithm)
        assert vocab.size == 19
        assert set("needlhaystack") <= set("".join(vocab.pieces))
        assert not {"x", "\u2585"} & set("".join(vocab.pieces[5:]))

    @pytest.mark.parametrize("algorithm", ["bpe", "unigram"])
    def test_too_large_a_size_says_which_is_possible(self, algorithm):
        with pytest.raises(BiomegError, match=r"^vocabulary of 5000 pieces: .*largest size possible is \d+$") as caught:
            Vocabulary.train(SENTENCES, 5000, algorithm)
        most = int(re.search(r"(\d+)$", str(caught.value))[1])
        assert Vocabulary.train(SENTENCES, most, algorithm).size == most

    @pytest.mark.parametrize("size", [-1, 0, 5, 20])
    def test_too_small_a_size(self, size):
        with pytest.raises(BiomegError, match=f"^vocabulary of {size} pieces: [^\n]*$"):
            Vocabulary.train(SENTENCES, size)

    def test_nothing_to_learn_from(self):
        with pytest.raises(BiomegError, match="expected texts with words"):
            Vocabulary.train([" ", "\0"], 100)

    def test_unknown_algorithm(self):
        with pytest.raises(BiomegError, match="expected bpe or unigram, found 'char'"):
            Vocabulary.train(SENTENCES, 100, "char")

    def test_counting(self, monkeypatch):
        texts = SENTENCES * 3 + ["rare"]
        counts = learning.count_words(texts, True)
        assert counts == Counter(word for text in texts for word in pre_tokenised(text, True))
        monkeypatch.setattr(learning, "_COUNTED_CHUNKS", 3)
        assert learning.count_words(texts, True) == counts
        monkeypatch.setattr(learning, "_COUNTED_WORDS", 30)
        assert len(learning.count_words(texts, True)) < len(counts)
