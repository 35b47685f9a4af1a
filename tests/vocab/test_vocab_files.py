"""Vocabularies on disk: ours, BERT's, third parties' and broken ones."""

import json
import os

import pytest
import sentencepiece
from hypothesis import given, settings
from vocab_cases import SENTENCES, TEXT, assert_aligned, pre_tokenised, wordpiece_lines

from biomeg_lib.errors import InputError
from biomeg_lib.vocab import SPECIALS, Vocabulary


class TestFiles:
    def test_round_trip(self, vocab, tmp_path):
        vocab.save(tmp_path / "v")
        vocab.save(tmp_path / "v")
        again = Vocabulary.load(tmp_path / "v")
        assert again.fingerprint == vocab.fingerprint
        assert again.lowercase == vocab.lowercase
        assert [again.encode(s) for s in SENTENCES] == [vocab.encode(s) for s in SENTENCES]
        assert sorted(path.name for path in tmp_path.iterdir()) == ["v"]
        with pytest.raises(InputError, match="lowercase"):
            Vocabulary.load(tmp_path / "v", not vocab.lowercase)

    def test_windows_line_ends_and_byte_order_mark(self, vocabularies, tmp_path):
        text = "\r\n".join(wordpiece_lines(False))
        (tmp_path / "vocab.txt").write_bytes(b"\xef\xbb\xbf" + text.encode())
        loaded = Vocabulary.load(tmp_path / "vocab.txt")
        assert not loaded.lowercase
        assert loaded.fingerprint == vocabularies["wordpiece", False].fingerprint

    def test_lowercase_is_found_out(self, tmp_path):
        for lowercase in (False, True):
            (tmp_path / "vocab.txt").write_text("\n".join(wordpiece_lines(lowercase)), encoding="utf-8")
            assert Vocabulary.load(tmp_path / "vocab.txt").lowercase == lowercase

    @pytest.mark.parametrize(
        ("content", "line", "says"),
        [
            ("{specials}\nab\ncd\nab\n", 8, "expected each piece once, found 'ab' also on line 6"),
            ("{specials}\n\nab\n", 6, "expected one piece a line, found an empty line"),
            ("{specials}\nab\n\n", 7, "expected one piece a line, found an empty line"),
            ("", 1, "expected one piece a line, found an empty line"),
            ("[PAD]\n[UNK]\n[CLS]\n[SEP]\nab\n", None, r"expected the special token \[MASK\]"),
            (b"[PAD]\n[UNK]\n\xff\n", 3, "expected UTF-8 text, found the byte 0xff"),
        ],
    )
    def test_broken_vocab_txt(self, tmp_path, content, line, says):
        path = tmp_path / "vocab.txt"
        path.write_bytes(
            content if isinstance(content, bytes) else content.format(specials="\n".join(SPECIALS)).encode()
        )
        with pytest.raises(InputError, match=says) as caught:
            Vocabulary.load(path)
        assert caught.value.line == line
        assert str(caught.value).startswith(str(path))
        assert "\n" not in str(caught.value)

    def test_no_model(self, vocabularies, tmp_path):
        vocabularies["bpe", False].save(tmp_path / "v")
        whole = (tmp_path / "v" / "spm.model").read_bytes()
        for content in (b"", b"abc", whole[:300], whole[:-3], b"\x0a\x05abc", json.dumps({}).encode()):
            (tmp_path / "x.model").write_bytes(content)
            with pytest.raises(InputError, match=r"x\.model: expected [^\n]*$"):
                Vocabulary.load(tmp_path / "x.model")

    def test_no_file(self, tmp_path):
        for path in (tmp_path / "vocab.txt", tmp_path / "spm.model", tmp_path):
            with pytest.raises(InputError, match="expected a vocabulary, found no file to read"):
                Vocabulary.load(path)

    def test_no_regular_file(self):
        with pytest.raises(InputError, match="/dev/zero: expected a vocabulary, found no regular file"):
            Vocabulary.load("/dev/zero")

    def test_a_file_without_end(self, tmp_path):
        (tmp_path / "vocab.txt").touch()
        os.truncate(tmp_path / "vocab.txt", (16 << 20) + 1)
        with pytest.raises(InputError, match="expected a vocabulary of at most 16,777,216 bytes, found 16,777,217"):
            Vocabulary.load(tmp_path / "vocab.txt")

    @pytest.mark.parametrize(
        "content", ["[" * 100_000, "", "[]", "{}", '{"kind": "magic", "lowercase": true}', '{"kind": "wordpiece"}']
    )
    def test_broken_description(self, tmp_path, content):
        (tmp_path / "vocab.json").write_text(content)
        with pytest.raises(InputError, match=r'vocab\.json: expected "kind"'):
            Vocabulary.load(tmp_path)


def train_elsewhere(path, **options):
    options = {"vocab_size": 100, "model_type": "bpe", "minloglevel": 2, "pad_id": 3} | options
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(SENTENCES * 3), model_writer=path.open("wb"), **options
    )


@pytest.fixture(scope="module")
def third_party(tmp_path_factory):
    path = tmp_path_factory.mktemp("third") / "bytes.model"
    train_elsewhere(path, control_symbols=["[MASK]"], byte_fallback=True, vocab_size=400)
    return Vocabulary.load(path)


class TestThirdParty:
    def test_other_names_and_a_normalisation_of_its_own(self, tmp_path):
        train_elsewhere(tmp_path / "a.model", control_symbols=["<mask>"])
        vocab = Vocabulary.load(tmp_path / "a.model", lowercase=False)
        names = [vocab.pieces[i] for i in (vocab.pad_id, vocab.unk_id, vocab.cls_id, vocab.sep_id, vocab.mask_id)]
        assert names == ["<pad>", "<unk>", "<s>", "</s>", "<mask>"]
        text = "The dose ½ induced ﬁne <mask>"
        encoding = vocab.encode(text)
        assert vocab.mask_id not in encoding.ids
        # "ﬁ" becomes two letters in this model: the pieces of the word get the whole word.
        assert {text[a:b] for (a, b), word in zip(encoding.offsets, encoding.words, strict=True) if word == 4} == {
            "ﬁne"
        }
        assert encoding.ids == vocab.encode_ids([text])[0].tolist()

    @settings(max_examples=100, deadline=None)
    @given(text=TEXT)
    def test_any_text(self, third_party, text):
        encoding = third_party.encode(text)
        assert encoding.ids == third_party.encode_ids([text])[0].tolist()
        assert sorted(set(encoding.words)) == list(range(len(pre_tokenised(text, False))))
        assert_aligned(third_party, encoding, len(text))

    @pytest.mark.parametrize(
        ("options", "says"),
        [
            ({}, r"special token \[MASK\]"),
            ({"pad_id": -1}, r"special token \[PAD\]"),
            ({"control_symbols": ["[MASK]"], "add_dummy_prefix": False}, "marks the start of words"),
        ],
    )
    def test_unfit_models(self, tmp_path, options, says):
        train_elsewhere(tmp_path / "a.model", **options)
        with pytest.raises(InputError, match=rf"a\.model: expected .*{says}"):
            Vocabulary.load(tmp_path / "a.model")
