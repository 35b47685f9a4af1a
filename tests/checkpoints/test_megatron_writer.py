"""Our checkpoints in Megatron-LM's layout: read back they are what was written, and the files are as Megatron's own."""

import argparse
import dataclasses

import pytest
import torch
from megatron_files import args_of, flat_names, random_bert, shard, write

from biomeg_lib.checkpoints.checkpoint import Checkpoint
from biomeg_lib.checkpoints.megatron import is_megatron, read_megatron
from biomeg_lib.checkpoints.megatron_writer import write_megatron
from biomeg_lib.errors import BiomegError
from biomeg_lib.model import ModelConfig, PretrainingModel
from biomeg_lib.vocab import Vocabulary

SHAPE = {"layers": 2, "hidden": 32, "heads": 4, "vocab_size": 96, "max_length": 24, "intermediate": 48}
PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "Cell", "##s", "gene"]


def checkpoint_of(vocabulary=None, **changes) -> Checkpoint:
    """Random weights, LayerNorms and biases too."""
    config = ModelConfig(**(SHAPE | changes))
    generator = torch.Generator().manual_seed(2)
    state = PretrainingModel(config).state_dict()
    state = {name: torch.randn(value.shape, generator=generator) for name, value in state.items()}
    return Checkpoint.checked("made", config, state, vocabulary, "made here")


def saved(folder, rank=0) -> dict:
    """A file with the objects that Megatron gets."""
    return torch.load(folder / "release" / f"mp_rank_{rank:02d}" / "model_optim_rng.pt", weights_only=False)


@pytest.mark.parametrize("gelu", ["tanh", "erf"])
@pytest.mark.parametrize("count", [1, 2, 4])
def test_what_is_read_back_is_bit_identical(count, gelu, tmp_path):
    made = checkpoint_of(gelu=gelu, norm_eps=1e-6, dropout=0.2, attention_dropout=0.0, init_std=0.01)
    write_megatron(made, tmp_path / "out", count)
    assert is_megatron(tmp_path / "out")
    again = read_megatron(tmp_path / "out")
    assert again.config == made.config
    assert again.state.keys() == made.state.keys()
    assert all(torch.equal(again.state[name], made.state[name]) for name in made.state)
    assert again.notes == ()
    assert sorted(path.name for path in (tmp_path / "out" / "release").iterdir()) == [
        f"mp_rank_{rank:02d}" for rank in range(count)
    ]


@pytest.mark.parametrize("count", [1, 2])
def test_what_is_written_is_what_megatron_would_have_written(count, tmp_path):
    theirs = random_bert()
    write_megatron(read_megatron(write(tmp_path / "in", theirs, 0, 1, args=args_of(theirs))), tmp_path / "out", count)
    for rank in range(count):
        found, wanted = saved(tmp_path / "out", rank), shard(theirs, rank, count, 3.0)
        assert found["checkpoint_version"] == 3.0
        assert found["model"].keys() == wanted.keys()
        assert found["model"]["language_model"].keys() == wanted["language_model"].keys()
        assert found["model"]["language_model"]["embedding"].keys() == wanted["language_model"]["embedding"].keys()
        found, wanted = flat_names(found["model"]), flat_names(wanted)
        assert found.keys() == wanted.keys()
        assert all(torch.equal(found[name], wanted[name]) for name in wanted)
        assert all(value.untyped_storage().nbytes() == value.nbytes for value in found.values())
    assert (tmp_path / "out" / "latest_checkpointed_iteration.txt").read_text().strip() == "release"


def test_args_are_what_megatrons_loader_compares(tmp_path):
    write_megatron(checkpoint_of(), tmp_path / "out", 2)
    values = saved(tmp_path / "out")
    args = values["args"]
    assert isinstance(args, argparse.Namespace)
    assert values["iteration"] == 0
    wanted = {
        "num_layers": 2,
        "hidden_size": 32,
        "ffn_hidden_size": 48,
        "num_attention_heads": 4,
        "kv_channels": 8,
        "max_position_embeddings": 24,
        "padded_vocab_size": 96,
        "tensor_model_parallel_size": 2,
        "pipeline_model_parallel_size": 1,
        "add_position_embedding": True,
        "data_parallel_random_init": False,
        "bert_binary_head": True,
        "tokenizer_type": None,
    }
    assert {name: getattr(args, name) for name in wanted} == wanted


@pytest.mark.parametrize("lowercase", [True, False])
def test_the_vocabulary_and_its_case_come_back(lowercase, tmp_path):
    (tmp_path / "vocab.txt").write_text("\n".join(PIECES))
    vocabulary = Vocabulary.load(tmp_path / "vocab.txt", lowercase)
    write_megatron(checkpoint_of(vocabulary), tmp_path / "out")
    for path in (tmp_path / "out", tmp_path / "out" / "release" / "mp_rank_00"):
        assert read_megatron(path).vocabulary.fingerprint == vocabulary.fingerprint
    assert saved(tmp_path / "out")["args"].tokenizer_type == f"BertWordPiece{'LowerCase' if lowercase else 'Case'}"


def test_a_sentencepiece_vocabulary_comes_back(tmp_path):
    texts = ["the cell divides and the gene is expressed in cells of the liver", "proteins bind the receptor"] * 5
    vocabulary = Vocabulary.train(texts, size=60)
    write_megatron(checkpoint_of(vocabulary), tmp_path / "out")
    assert read_megatron(tmp_path / "out").vocabulary.fingerprint == vocabulary.fingerprint
    assert saved(tmp_path / "out")["args"].tokenizer_type == "SentencePieceTokenizer"


@pytest.mark.parametrize(("rows", "count"), [(128, 1), (256, 2), (256, 1), (8, 2), (96, 4)])
def test_megatron_pads_the_vocabulary_to_our_rows(rows, count, tmp_path):
    (tmp_path / "vocab.txt").write_text("\n".join(PIECES))
    write_megatron(checkpoint_of(Vocabulary.load(tmp_path / "vocab.txt"), vocab_size=rows), tmp_path / "out", count)
    args = saved(tmp_path / "out")["args"]
    padded, multiple = len(PIECES), args.make_vocab_size_divisible_by * count
    while padded % multiple:  # as Megatron's tokenizer does
        padded += 1
    assert padded == rows == args.padded_vocab_size
    assert (args.make_vocab_size_divisible_by == 128) == (rows == 128 * count)


@pytest.mark.parametrize("count", [0, 3, 8])
def test_what_cannot_be_cut_is_refused_with_what_can(count, tmp_path):
    with pytest.raises(BiomegError, match="possible: 1, 2, 4") as error:
        write_megatron(checkpoint_of(), tmp_path / "out", count)
    assert "\n" not in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_rows_that_cannot_be_cut_are_refused(tmp_path):
    with pytest.raises(BiomegError, match=r"97 rows of the word embedding.*possible: 1$"):
        write_megatron(checkpoint_of(vocab_size=97), tmp_path / "out", 2)


def test_layernorm_after_is_refused(tmp_path):
    with pytest.raises(BiomegError, match="LayerNorm before each sub-layer, this model has it after"):
        write_megatron(checkpoint_of(norm="post"), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_missing_part_is_refused_by_name(tmp_path):
    whole = checkpoint_of()
    state = {name: value for name, value in whole.state.items() if not name.startswith(("pooler", "order"))}
    with pytest.raises(BiomegError, match="no pooler and no sentence-order head"):
        write_megatron(dataclasses.replace(whole, state=state), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_nothing_that_exists_is_replaced(tmp_path):
    write_megatron(checkpoint_of(), tmp_path / "out")
    before = (tmp_path / "out" / "release" / "mp_rank_00" / "model_optim_rng.pt").read_bytes()
    with pytest.raises(BiomegError, match="expected a new folder"):
        write_megatron(checkpoint_of(gelu="erf"), tmp_path / "out")
    assert (tmp_path / "out" / "release" / "mp_rank_00" / "model_optim_rng.pt").read_bytes() == before
    (tmp_path / "empty").mkdir()
    write_megatron(checkpoint_of(), tmp_path / "empty")
    assert is_megatron(tmp_path / "empty")


def test_nothing_is_left_when_writing_fails(tmp_path, monkeypatch):
    def full(*_):
        raise OSError("disk full")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OSError, match="disk full"):
        write_megatron(checkpoint_of(), tmp_path / "out")
    assert list(tmp_path.iterdir()) == []
