"""Odd and long texts from a corpus to token shards: none is lost, joined or changed; see `odd_texts`."""

import json

import pytest
from odd_texts import LONE_SURROGATE, ODD, TOKEN

from biomeg_lib.corpus import documents
from biomeg_lib.corpus.indexed import IndexedReader
from biomeg_lib.corpus.sentences import split_sentences
from biomeg_lib.corpus.shards import build_shards
from biomeg_lib.corpus.text import fold
from biomeg_lib.errors import InputError
from biomeg_lib.vocab import Vocabulary

PLAIN = "A patient was given 5 mg of aspirin daily, with ibuprofen. The study of it was good."


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """A folder with the corpus of all of them, and of plain ones to learn from."""
    folder = tmp_path_factory.mktemp("odd")
    texts = [*ODD.values(), *(f"{PLAIN} {number}" for number in range(50))]
    lines = (json.dumps({"id": str(n), "paragraphs": [text]}) for n, text in enumerate(texts))
    (folder / "odd.jsonl").write_text("\n".join(lines) + "\n")
    documents.build_corpus([folder / "odd.jsonl"], "jsonl", folder / "corpus")
    return folder / "corpus"


def test_texts_come_out_as_they_went_in(corpus):
    found = {document.id: document for document in documents.stream(corpus)}
    for number, text in enumerate(ODD.values()):
        if fold(text):
            assert found[str(number)].paragraphs == (fold(text),)
        else:
            assert str(number) not in found


@pytest.mark.parametrize("name", ODD)
def test_sentences_leave_nothing_out(name):
    text, end = ODD[name], 0
    for start, stop in split_sentences(text):
        assert not text[end:start].strip()
        assert start < stop
        end = stop
    assert not text[end:].strip()


@pytest.mark.parametrize("algorithm", ["bpe", "unigram"])
def test_learned_encoded_and_sharded(corpus, tmp_path, algorithm):
    paragraphs = (paragraph for document in documents.stream(corpus) for paragraph in document.paragraphs)
    vocabulary = Vocabulary.train(paragraphs, 300, algorithm=algorithm)
    assert vocabulary.decode(vocabulary.encode("the patient was given aspirin").ids) == "the patient was given aspirin"
    for text in ODD.values():
        encoding = vocabulary.encode(text)
        assert list(encoding.ids) == vocabulary.encode_ids([text])[0].tolist()
        ends = [0, *(end for _, end in encoding.offsets)]
        assert all(0 <= start <= end <= len(text) for start, end in encoding.offsets)
        assert ends == sorted(ends)
    counts = build_shards(corpus, vocabulary, tmp_path / "shards", 0.2)
    assert sum(counts[split]["documents"] for split in ("train", "heldout")) >= 50
    for split in ("train", "heldout"):
        reader = IndexedReader(tmp_path / "shards" / split)
        assert sum(len(reader[number]) for number in range(len(reader))) == counts[split]["tokens"]
    assert sum(counts[split]["tokens"] for split in ("train", "heldout")) > len(TOKEN) / 20


def test_half_a_surrogate_pair_is_one_line(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps({"text": "fine"}) + "\n" + json.dumps({"text": LONE_SURROGATE}) + "\n")
    with pytest.raises(InputError, match=r"a\.jsonl:2: .*surrogate"):
        documents.build_corpus([path], "jsonl", tmp_path / "corpus")
    assert not (tmp_path / "corpus").exists()
