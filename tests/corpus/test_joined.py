"""Many shards read as one: the same samples as from one large one, in whatever pieces, kills or none."""

import json
import shutil

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from killing import killed_at

from biomeg_lib.corpus import parts, shards
from biomeg_lib.corpus.documents import build_corpus
from biomeg_lib.corpus.indexed import IndexedReader, IndexedWriter
from biomeg_lib.corpus.joined import JoinedReader, open_dataset, write_list
from biomeg_lib.corpus.samples import PretrainingSamples
from biomeg_lib.corpus.shards import build_shards, open_split
from biomeg_lib.errors import InputError
from biomeg_lib.vocab import Vocabulary

LETTERS = "abcdefghijklmnopqrstuvwxyz"


@pytest.fixture(scope="module")
def vocabulary(tmp_path_factory):
    path = tmp_path_factory.mktemp("vocabulary") / "vocab.txt"
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", ".", *LETTERS, *(f"##{letter}" for letter in LETTERS)]
    path.write_text("\n".join(pieces) + "\n", encoding="utf-8")
    return Vocabulary.load(path)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """A corpus of some fifteen blocks."""
    folder, rng = tmp_path_factory.mktemp("corpus"), np.random.default_rng(0)
    with open(folder / "raw.jsonl", "w") as lines:
        for number in range(400):
            words = ["".join(rng.choice(list(LETTERS), 3)) for _ in range(int(rng.integers(5, 60)))]
            print(json.dumps({"id": f"D{number}", "text": f"{' '.join(words)}. Then some more."}), file=lines)
    before, parts.BATCH = parts.BATCH, 5_000
    try:
        build_corpus([folder / "raw.jsonl"], "jsonl", folder / "corpus")
    finally:
        parts.BATCH = before
    return folder / "corpus"


@pytest.fixture(scope="module")
def large(corpus, vocabulary, tmp_path_factory):
    folder = tmp_path_factory.mktemp("shards") / "large"
    return folder, build_shards(corpus, vocabulary, folder, 0.1)


def content(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def same(one, other):
    assert all(torch.equal(value, getattr(other, name)) for name, value in vars(one).items())


@pytest.mark.parametrize("size", [1, 12_000, 40_000])
def test_the_samples_of_many_shards_are_those_of_one(corpus, vocabulary, large, tmp_path, monkeypatch, size):
    monkeypatch.setattr(shards, "SHARD", size)
    counts = build_shards(corpus, vocabulary, tmp_path / "many", 0.1)
    assert counts == large[1] == json.loads((tmp_path / "many" / "shards.json").read_text())
    assert len(list((tmp_path / "many").glob("0*"))) > 1
    for split in ("train", "heldout"):
        prefixes = [open_split(folder, split, vocabulary) for folder in (large[0], tmp_path / "many")]
        one, many = (PretrainingSamples(prefix, vocabulary, 24, 5, whole_word=True) for prefix in prefixes)
        assert len(one) == len(many)
        for step in range(2 * len(one) // 32 + 2):
            same(one.batch(step, 32), many.batch(step, 32))
        for batch, other in zip(one.evaluation(16), many.evaluation(16), strict=True):
            same(batch, other)
        joined = b"".join(
            (tmp_path / "many" / f"{n:04}" / f"{split}.bin").read_bytes()
            for n in range(1, 100)
            if (tmp_path / "many" / f"{n:04}").exists()
        )
        assert joined == (large[0] / f"{split}.bin").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["many"]


@settings(deadline=None, max_examples=40)
@given(st.lists(st.lists(st.lists(st.integers(1, 4), max_size=3), max_size=3), min_size=1, max_size=5))
def test_every_number_is_looked_up_right(tmp_path_factory, pieces):
    """Datasets of documents of sequences, any of them empty, against one with all of it."""
    folder = tmp_path_factory.mktemp("pieces")
    token = 0
    with IndexedWriter(folder / "whole", "uint16") as whole:
        for number, documents in enumerate(pieces):
            with IndexedWriter(folder / f"{number}", "uint16") as piece:
                for sizes in documents:
                    sequences = [np.arange(token := token + size, token + size) for size in sizes]
                    whole.add_document(sequences)
                    piece.add_document(sequences)
    write_list(folder / "all", [f"{number}" for number in range(len(pieces))])
    one, many = open_dataset(folder / "whole"), open_dataset(folder / "all")
    assert (type(one), type(many), len(one)) == (IndexedReader, JoinedReader, len(many))
    assert one.document_sizes().tolist() == many.document_sizes().tolist()
    for name, count in (("document_starts", len(one.documents)), ("starts", len(one) + 1), ("take", len(one.tokens))):
        numbers = np.arange(count).reshape(1, -1)
        assert getattr(one, name)(numbers).tolist() == getattr(many, name)(numbers).tolist()


def test_killed_anywhere_and_gone_on_with(corpus, vocabulary, tmp_path, monkeypatch):
    monkeypatch.setattr(shards, "SHARD", 25_000)
    build_shards(corpus, vocabulary, tmp_path / "undisturbed", 0.1, 1)
    expected, point, folder, found = content(tmp_path / "undisturbed"), 1, tmp_path / "shards", []
    refuse_empty = shards._refuse_empty

    def build():
        build_shards(corpus, vocabulary, folder, 0.1, 1)

    def finishing(*arguments):  # all shards are there, and have not been moved yet
        found.append({path: path.stat().st_mtime_ns for path in tmp_path.glob("shards.parts/0*/shard.json")})
        refuse_empty(*arguments)

    monkeypatch.setattr(shards, "_refuse_empty", finishing)
    while killed_at(point, build):
        before = {path: path.stat().st_mtime_ns for path in tmp_path.glob("shards.parts/0*/shard.json")}
        assert not folder.exists()
        build()
        assert before.items() <= found[-1].items()
        assert content(folder) == expected
        shutil.rmtree(folder)
        point += 3
    assert point > 12
    assert content(folder) == expected


def test_a_damaged_shard_is_made_again(corpus, vocabulary, tmp_path, monkeypatch):
    monkeypatch.setattr(shards, "SHARD", 25_000)
    build_shards(corpus, vocabulary, tmp_path / "shards", 0.1)
    expected = content(tmp_path / "shards")
    (tmp_path / "shards").rename(tmp_path / "shards.parts")
    damaged = tmp_path / "shards.parts" / "0002" / "train.bin"
    data = bytearray(damaged.read_bytes())
    data[5] ^= 1
    damaged.write_bytes(data)
    (tmp_path / "shards.parts" / "0001" / "shard.json").write_text("{")
    (tmp_path / "shards.parts" / "0003" / "heldout.idx").unlink()
    (tmp_path / "shards.parts" / ".0003.x.part").mkdir()
    (tmp_path / "shards.parts" / ".train.json.x.part").write_text("")
    before = {path.parent.name: path.stat().st_mtime_ns for path in tmp_path.rglob("shard.json")}
    build_shards(corpus, vocabulary, tmp_path / "shards", 0.1, 2)
    assert content(tmp_path / "shards") == expected
    after = {path.parent.name: path.stat().st_mtime_ns for path in tmp_path.rglob("shard.json")}
    assert {name for name in after if before[name] != after[name]} == {"0001", "0002", "0003"}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["shards"]


def test_a_corpus_without_a_table_of_blocks_gives_the_same_shards(corpus, vocabulary, large, tmp_path):
    shutil.copytree(corpus, tmp_path / "older")
    (tmp_path / "older" / "blocks.npy").unlink()
    build_shards(tmp_path / "older", vocabulary, tmp_path / "shards", 0.1)
    assert content(tmp_path / "shards") == content(large[0])
    (tmp_path / "older" / "blocks.npy").write_bytes(b"damaged")
    with pytest.raises(InputError, match=r"blocks\.npy: expected what was written there, found damage"):
        build_shards(tmp_path / "older", vocabulary, tmp_path / "shards", 0.1)


def test_a_damaged_corpus_is_one_line(corpus, vocabulary, tmp_path):
    shutil.copytree(corpus, tmp_path / "corpus")
    file = tmp_path / "corpus" / "documents.jsonl.gz"
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    with pytest.raises(
        InputError, match=r"documents\.jsonl\.gz: expected what was written there, found damage at byte"
    ):
        build_shards(tmp_path / "corpus", vocabulary, tmp_path / "shards", 0.1)


@pytest.mark.parametrize(
    "value", [[], {}, {"datasets": []}, {"datasets": [1]}, {"datasets": ["../a"]}, {"datasets": ["/a"]}]
)
def test_a_wrong_list_is_one_line(tmp_path, value):
    (tmp_path / "train.json").write_text(json.dumps(value))
    with pytest.raises(InputError, match=r"train\.json: expected `datasets`") as caught:
        open_dataset(tmp_path / "train")
    assert "\n" not in str(caught.value)


def test_datasets_that_do_not_fit_together_or_are_not_there(tmp_path):
    for name, dtype in (("a", "uint16"), ("b", "int32")):
        with IndexedWriter(tmp_path / name, dtype) as writer:
            writer.add_document([np.arange(3)])
    write_list(tmp_path / "train", ["a", "b"])
    with pytest.raises(
        InputError, match=r"train\.json: expected datasets with tokens of one type, found int32, uint16"
    ):
        open_dataset(tmp_path / "train")
    write_list(tmp_path / "train", ["a", "c"])
    with pytest.raises(InputError, match=r"c\.idx: expected one file of an indexed dataset"):
        open_dataset(tmp_path / "train")
    with pytest.raises(InputError, match=r"absent\.idx: expected one file of an indexed dataset"):
        open_dataset(tmp_path / "absent")
