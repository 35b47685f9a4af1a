"""Embeddings for another vocabulary: shared pieces keep their vectors, others get the mean of theirs."""

import pytest
import torch

from biomeg_lib.checkpoints.checkpoint import Checkpoint
from biomeg_lib.checkpoints.embeddings import with_vocabulary
from biomeg_lib.model import ModelConfig, PretrainingModel
from biomeg_lib.vocab import Vocabulary

SPECIALS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
OLD = [*SPECIALS, "as", "##pirin", "pi", "help", "##s", "s"]
NEW = ["[UNK]", "[PAD]", "[MASK]", "[CLS]", "[SEP]", "help", "##pirin", "aspirin", "helps", "Help", "##as", "zz"]
WORD = "encoder.embeddings.word.weight"


def vocabulary_of(folder, pieces, **options):
    folder.mkdir()
    (folder / "vocab.txt").write_text("\n".join(pieces) + "\n")
    return Vocabulary.load(folder / "vocab.txt", **options)


@pytest.fixture
def old(tmp_path):
    vocabulary = vocabulary_of(tmp_path / "old", OLD, lowercase=True)
    config = ModelConfig(1, 8, 2, 128, max_length=16)
    torch.manual_seed(3)
    model = PretrainingModel(config)
    torch.nn.init.normal_(model.mlm.bias)
    return Checkpoint.checked("here", config, model.state_dict(), vocabulary, "a test")


@pytest.fixture
def new(tmp_path):
    return vocabulary_of(tmp_path / "new", NEW, lowercase=False)


def exchange(old, new, how):
    return with_vocabulary(old, new, how, torch.Generator().manual_seed(1))


def test_pieces_are_carried_over_by_what_they_stand_for(old, new):
    changed, counts = exchange(old, new, "carried")
    rows, before = changed.state[WORD], old.state[WORD]
    assert rows.shape == (128, 8)

    def vectors(*pieces):
        return before[[OLD.index(piece) for piece in pieces]].mean(0)

    expected = {piece: vectors(piece) for piece in [*SPECIALS, "help", "##pirin"]}
    expected |= {"aspirin": vectors("as", "##pirin"), "helps": vectors("help", "##s")}
    expected |= {"Help": vectors("help"), "##as": vectors("as")}  # through the old one's case; at a word's start
    for piece, vector in expected.items():
        assert torch.equal(rows[NEW.index(piece)], vector), piece
        sources = [i for i in range(len(OLD)) if torch.equal(before[i], vector)]
        if sources:
            assert changed.state["mlm.bias"][NEW.index(piece)] == old.state["mlm.bias"][sources[0]]
    assert counts == {"shared": 7, "averaged": 4, "drawn": 1}
    assert not any(torch.equal(rows[NEW.index("zz")], row) for row in before)


def test_all_else_stays_and_the_old_checkpoint_too(old, new):
    before = {name: value.clone() for name, value in old.state.items()}
    changed, _ = exchange(old, new, "carried")
    assert changed.vocabulary is new
    assert changed.config.vocab_size == 128
    for name, value in before.items():
        assert torch.equal(old.state[name], value)
        assert name in (WORD, "mlm.bias") or torch.equal(changed.state[name], value)


def test_new_embeddings_are_drawn_from_the_initial_distribution(old, new):
    changed, counts = exchange(old, new, "new")
    assert counts == {"shared": 0, "averaged": 0, "drawn": len(NEW)}
    assert 0.9 < changed.state[WORD].std() / old.config.init_std < 1.1
    assert not changed.state["mlm.bias"].any()
    again, _ = exchange(old, new, "new")
    assert torch.equal(again.state[WORD], changed.state[WORD])


def test_a_sentencepiece_vocabulary_shares_pieces_with_a_wordpiece_one(old):
    words = ["aspirin helps as a help", "pi as pirin"] * 50
    learned = Vocabulary.train(words, 30)
    changed, counts = exchange(old, learned, "carried")
    shared = learned.pieces.index("▁help")
    assert torch.equal(changed.state[WORD][shared], old.state[WORD][OLD.index("help")])
    assert counts["shared"] >= 6
    assert sum(counts.values()) == learned.size
