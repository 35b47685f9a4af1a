"""Megatron-LM's files, made by its rules from models of `transformers`, read to the same logits as theirs."""

import shutil
from argparse import Namespace

import pytest
import torch
from megatron_files import HEADS, HIDDEN, args_of, core_names, flat_names, random_bert, shard, write

from biomeg_lib.checkpoints.megatron import is_megatron, looks_like_megatron, read_megatron
from biomeg_lib.errors import InputError
from biomeg_lib.model import PretrainingModel

VERSIONS = (0, 1.0, 2.0, 3.0)
SMALL_VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "cell", "##s", "gene"]


@pytest.fixture(scope="module")
def bert():
    return random_bert()


def assert_same_logits(checkpoint, theirs) -> None:
    ours = PretrainingModel(checkpoint.config).eval()
    ours.load_state_dict(checkpoint.state)
    generator = torch.Generator().manual_seed(5)
    mask = torch.arange(24) < torch.tensor([24, 17, 9])[:, None]
    tokens = torch.randint(1, theirs.config.vocab_size, (3, 24), generator=generator) * mask
    types = (torch.arange(24) > 5).long() * mask
    with torch.no_grad():
        expected = theirs(input_ids=tokens, token_type_ids=types, attention_mask=mask.long())
        logits, order = ours(tokens, types, mask)
    assert expected.prediction_logits.std() > 0.3  # of a size at which 1e-5 means something
    torch.testing.assert_close(logits[mask], expected.prediction_logits[mask], atol=1e-5, rtol=0)
    torch.testing.assert_close(order, expected.seq_relationship_logits, atol=1e-5, rtol=0)


@pytest.mark.parametrize("count", [1, 2, 4])
@pytest.mark.parametrize("names", ["transformer", "encoder"])
@pytest.mark.parametrize("version", VERSIONS)
def test_logits_equal_those_of_transformers(version, names, count, bert, tmp_path):
    checkpoint = read_megatron(write(tmp_path, bert, version, count, names, args_of(bert, count, version)))
    assert checkpoint.config.heads == HEADS
    assert checkpoint.missing == ()
    assert checkpoint.vocabulary is None
    assert f"version {float(version)}" in checkpoint.origin
    assert_same_logits(checkpoint, bert)


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("version", VERSIONS)
def test_without_args_heads_are_64_wide_and_a_note_says_so(version, count, tmp_path):
    theirs = random_bert(hidden=128, heads=2)
    checkpoint = read_megatron(write(tmp_path, theirs, version, count, "transformer"))
    assert (checkpoint.config.heads, checkpoint.config.gelu, checkpoint.config.norm_eps) == (2, "tanh", 1e-5)
    assert any("2 heads of 64" in note for note in checkpoint.notes)
    assert_same_logits(checkpoint, theirs)


def test_without_args_other_widths_are_refused(bert, tmp_path):
    with pytest.raises(InputError, match=f"number of heads, found none, and {HIDDEN} columns"):
        read_megatron(write(tmp_path, bert, 0))


@pytest.mark.parametrize("version", [0, 3.0])
def test_names_with_dots_alone_are_read(version, bert, tmp_path):
    file = tmp_path / "weights.pt"
    for prefix in ("", "module.", "bert_model."):
        weights = {f"{prefix}{name}": value for name, value in flat_names(shard(bert, 0, 1, version)).items()}
        torch.save({"checkpoint_version": version, "model": weights, "args": args_of(bert)}, file)
        assert_same_logits(read_megatron(file), bert)


@pytest.mark.parametrize("fused", [False, True])
def test_names_of_megatron_core_are_read(fused, bert, tmp_path):
    weights = core_names(shard(bert, 0, 1, 3.0))
    if fused:  # Transformer Engine's layers hold the LayerNorm before them
        fusions = {"input_layernorm.": "self_attention.linear_qkv.", "pre_mlp_layernorm.": "mlp.linear_fc1."}
        for old, new in fusions.items():
            weights = {name.replace(old, f"{new}layer_norm_"): value for name, value in weights.items()}
        weights["encoder.layers.0.mlp.linear_fc1._extra_state"] = torch.zeros(1)
    torch.save({"checkpoint_version": 3.0, "model": weights, "args": args_of(bert)}, tmp_path / "core.pt")
    assert_same_logits(read_megatron(tmp_path / "core.pt"), bert)


@pytest.mark.parametrize(
    ("changes", "gelu"),
    [
        ({"bias_gelu_fusion": True, "openai_gelu": False}, "tanh"),
        ({"bias_gelu_fusion": False, "openai_gelu": True}, "tanh"),
        ({"bias_gelu_fusion": False, "openai_gelu": False}, "erf"),
        ({"bias_gelu_fusion": False, "onnx_safe": True}, "erf"),
    ],
)
def test_gelu_epsilon_and_dropout_are_those_of_the_args(changes, gelu, tmp_path):
    theirs = random_bert(act="gelu" if gelu == "erf" else "gelu_pytorch_tanh", eps=1e-3)
    args = args_of(theirs, hidden_dropout=0.2, attention_dropout=0.3, **changes)
    checkpoint = read_megatron(write(tmp_path, theirs, args=args))
    config = checkpoint.config
    assert (config.gelu, config.norm_eps, config.dropout, config.attention_dropout) == (gelu, 1e-3, 0.2, 0.3)
    assert any("exact" in note for note in checkpoint.notes) == changes["bias_gelu_fusion"]
    assert_same_logits(checkpoint, theirs)


def test_half_precision_becomes_float32(bert, tmp_path):
    half = {name: value.half() for name, value in flat_names(shard(bert, 0, 1, 3.0)).items()}
    torch.save({"checkpoint_version": 3.0, "model": half, "args": args_of(bert)}, tmp_path / "half.pt")
    state = read_megatron(tmp_path / "half.pt").state
    assert {value.dtype for value in state.values()} == {torch.float32}
    torch.testing.assert_close(state["order.weight"], half["binary_head.weight"].float(), atol=0, rtol=0)


def test_each_level_of_the_folders_is_read(bert, tmp_path):
    root = write(tmp_path / "root", bert, count=2, args=args_of(bert, 2))
    ranks = [root / "release" / f"mp_rank_{rank:02d}" for rank in range(2)]
    for path in (root, root / "release", *ranks, ranks[0] / "model_optim_rng.pt", ranks[1] / "model_optim_rng.pt"):
        assert is_megatron(path)
        assert_same_logits(read_megatron(path), bert)


def test_the_tracker_chooses_the_iteration(bert, tmp_path):
    other = random_bert(seed=1)
    root = write(tmp_path / "a", bert, args=args_of(bert))
    (root / "release").rename(root / "iter_0001000")
    (write(tmp_path / "b", other, args=args_of(other)) / "release").rename(root / "iter_0002000")
    (root / "latest_checkpointed_iteration.txt").write_text("1000\n")
    assert_same_logits(read_megatron(root), bert)
    (root / "latest_checkpointed_iteration.txt").write_text("3000\n")
    with pytest.raises(InputError, match="expected the folder iter_0003000"):
        read_megatron(root)
    (root / "latest_checkpointed_iteration.txt").write_text("../..")
    with pytest.raises(InputError, match="expected 'release' or a number"):
        read_megatron(root)
    (root / "latest_checkpointed_iteration.txt").unlink()
    with pytest.raises(InputError, match="to choose by, found iter_0001000 and others"):
        read_megatron(root)
    shutil.rmtree(root / "iter_0001000")
    assert_same_logits(read_megatron(root), other)


def test_one_pipeline_stage_is_read_and_more_are_refused(bert, tmp_path):
    root = write(tmp_path, bert, args=args_of(bert))
    (root / "release" / "mp_rank_00").rename(root / "release" / "mp_rank_00_000")
    assert_same_logits(read_megatron(root), bert)
    shutil.copytree(root / "release" / "mp_rank_00_000", root / "release" / "mp_rank_00_001")
    with pytest.raises(InputError, match="one pipeline stage, found mp_rank_00_001"):
        read_megatron(root)
    shutil.rmtree(root / "release" / "mp_rank_00_000")  # the last stage alone is no model either
    with pytest.raises(InputError, match="one pipeline stage, found mp_rank_00_001"):
        read_megatron(root)


@pytest.mark.parametrize("name", ["vocab.txt", "bert-large-uncased-vocab.txt"])
def test_the_vocabulary_comes_from_the_folders_and_its_case_from_the_args(name, bert, tmp_path):
    root = write(tmp_path, bert, args=args_of(bert, tokenizer_type="BertWordPieceCase"))
    (root / name).write_text("\n".join(SMALL_VOCABULARY) + "\n")
    for path in (root, root / "release", root / "release" / "mp_rank_00" / "model_optim_rng.pt"):
        vocabulary = read_megatron(path).vocabulary
        assert vocabulary.pieces == SMALL_VOCABULARY
        assert not vocabulary.lowercase
    write(tmp_path, bert, args=args_of(bert, tokenizer_type="BertWordPieceLowerCase"))
    assert read_megatron(root).vocabulary.lowercase
    (root / "other-vocab.txt").write_text("\n".join(SMALL_VOCABULARY))
    several = read_megatron(root)
    if name == "vocab.txt":
        assert several.vocabulary is not None
    else:
        assert several.vocabulary is None
        assert any("other-vocab.txt" in note for note in several.notes)


def test_a_vocabulary_of_another_size_is_refused(bert, tmp_path):
    root = write(tmp_path, bert, args=args_of(bert))
    (root / "vocab.txt").write_text("\n".join(SMALL_VOCABULARY + [f"w{i}" for i in range(100)]))
    with pytest.raises(InputError, match="108 pieces, found 96"):
        read_megatron(root)


def test_a_file_and_a_vocabulary_alone_in_a_folder_are_read(bert, tmp_path):
    model = shard(bert, 0, 1, 0, "transformer")
    torch.save({"model": model, "args": args_of(bert, version=0)}, tmp_path / "MegatronBERT.pt")
    (tmp_path / "vocab.txt").write_text("\n".join(SMALL_VOCABULARY))
    for path in (tmp_path, tmp_path / "MegatronBERT.pt"):
        assert is_megatron(path)
        checkpoint = read_megatron(path)
        assert_same_logits(checkpoint, bert)
        assert checkpoint.vocabulary.size == len(SMALL_VOCABULARY)


def test_absent_parts_are_missing(bert, tmp_path):
    model = shard(bert, 0, 1, 3.0)
    del model["binary_head"], model["lm_head"]
    model["classification_head"] = {"weight": torch.zeros(3, HIDDEN), "bias": torch.zeros(3)}
    torch.save({"checkpoint_version": 3.0, "model": model, "args": args_of(bert)}, tmp_path / "a.pt")
    checkpoint = read_megatron(tmp_path / "a.pt")
    assert checkpoint.missing == ("mlm", "order")
    assert any("classification_head" in note for note in checkpoint.notes)


def test_without_token_types_their_embedding_is_zero(bert, tmp_path):
    model = shard(bert, 0, 1, 3.0)
    del model["binary_head"], model["language_model"]["pooler"]
    del model["language_model"]["embedding"]["tokentype_embeddings"]
    torch.save({"checkpoint_version": 3.0, "model": model, "args": args_of(bert)}, tmp_path / "a.pt")
    checkpoint = read_megatron(tmp_path / "a.pt")
    assert checkpoint.missing == ("pooler", "order")
    assert checkpoint.state["encoder.embeddings.token_type.weight"].eq(0).all()
    assert any("token types" in note for note in checkpoint.notes)


def test_a_copy_of_the_word_embedding_must_be_one(bert, tmp_path):
    model = shard(bert, 0, 1, 3.0)
    copy = model["language_model"]["embedding"]["word_embeddings"]["weight"].clone()
    model["word_embeddings_for_head"] = {"weight": copy}
    values = {"checkpoint_version": 3.0, "model": model, "args": args_of(bert)}
    torch.save(values, tmp_path / "a.pt")
    assert_same_logits(read_megatron(tmp_path / "a.pt"), bert)
    copy[3, 3] += 1
    torch.save(values, tmp_path / "a.pt")
    with pytest.raises(InputError, match="word_embeddings_for_head"):
        read_megatron(tmp_path / "a.pt")


def test_other_files_are_not_taken_for_megatrons(bert, tmp_path):
    torch.save(bert.state_dict(), tmp_path / "pytorch_model.bin")
    (tmp_path / "notes.txt").write_text("no weights")
    (tmp_path / "empty").mkdir()
    for name in ("pytorch_model.bin", "notes.txt", "empty", "absent"):
        assert not is_megatron(tmp_path / name)
    assert not is_megatron(tmp_path)
    assert not looks_like_megatron(bert.state_dict())
    assert not looks_like_megatron([1])
    assert looks_like_megatron({"model": shard(bert, 0, 1, 0)})


def test_files_of_old_pytorch_are_recognised(bert, tmp_path):
    values = {"model": shard(bert, 0, 1, 0, "transformer"), "args": args_of(bert, version=0)}
    torch.save(values, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    assert is_megatron(tmp_path / "old.pt")
    assert_same_logits(read_megatron(tmp_path / "old.pt"), bert)


def one_line(error) -> str:
    text = str(error.value)
    assert "\n" not in text
    return text


def test_a_missing_shard_is_told(bert, tmp_path):
    root = write(tmp_path, bert, count=4, args=args_of(bert, 4))
    shutil.rmtree(root / "release" / "mp_rank_03")
    with pytest.raises(InputError, match="expected 4 tensor-parallel shards, as its args say, found 3") as error:
        read_megatron(root)
    one_line(error)
    shutil.rmtree(root / "release" / "mp_rank_01")
    with pytest.raises(InputError, match="shards 0 to 2, found none of rank 1"):
        read_megatron(root)


def test_a_missing_shard_is_told_by_the_shapes_alone(tmp_path):
    theirs = random_bert(hidden=128, heads=2)
    root = write(tmp_path, theirs, version=0, count=2)
    shutil.rmtree(root / "release" / "mp_rank_01")
    with pytest.raises(InputError, match="expected 2 tensor-parallel shards, as its shapes say, found 1"):
        read_megatron(root)


def broken(root, rank, change) -> None:
    file = root / "release" / f"mp_rank_{rank:02d}" / "model_optim_rng.pt"
    values = torch.load(file, weights_only=False)
    change(values)
    torch.save(values, file)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda v: v.update(checkpoint_version=2.0), "expected checkpoint version 3.0, as rank 0, found 2.0"),
        (lambda v: v["model"]["lm_head"].update(bias=torch.zeros(7)), r"one shape, found 'mlm.bias' \[48\] in rank 0"),
        (lambda v: v["model"]["lm_head"].pop("bias"), "same weights, found 'mlm.bias' in 1 of 2"),
        (lambda v: v["model"]["binary_head"]["bias"].add_(1), "one model, found another 'order.bias' in rank 1"),
    ],
)
def test_shards_that_do_not_fit_are_refused(change, message, bert, tmp_path):
    root = write(tmp_path, bert, count=2, args=args_of(bert, 2))
    broken(root, 1, change)
    with pytest.raises(InputError, match=message) as error:
        read_megatron(root)
    one_line(error)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda v: v.update(checkpoint_version=4.0), "expected checkpoint version 0.0, 1.0, 2.0, 3.0, found '4.0'"),
        (lambda v: v.update(checkpoint_version="new"), "found 'new'"),
        (lambda v: v.update(model0=v.pop("model")), "one pipeline stage"),
        (lambda v: v.update(model=[1]), "no word embedding"),
        (lambda v: v["model"]["language_model"]["encoder"].pop("final_layernorm.bias"), "'encoder.norm.bias'"),
        (lambda v: v["model"]["language_model"]["encoder"].pop("layers.1.input_layernorm.bias"), "blocks.1.attention"),
        (lambda v: v["model"]["language_model"].update(strange={"weight": torch.zeros(1)}), "strange.weight"),
        (lambda v: setattr(v["args"], "num_layers", 24), "num_layers 24, as its args say, found 2"),
        (lambda v: setattr(v["args"], "num_attention_heads", 5), "keys and values of 5 heads"),
        (lambda v: setattr(v["args"], "kv_channels", 16), "kv_channels 16"),
        (lambda v: setattr(v["args"], "layernorm_epsilon", -1.0), "norm_eps"),
        (lambda v: setattr(v["args"], "swiglu", True), r"SwiGLU \(swiglu\)"),
        (lambda v: setattr(v["args"], "use_rotary_position_embeddings", True), "rotary positions"),
        (lambda v: setattr(v["args"], "normalization", "RMSNorm"), "normalization LayerNorm, found 'RMSNorm'"),
        (lambda v: setattr(v["args"], "position_embedding_type", "rope"), "found 'rope'"),
        (lambda v: setattr(v["args"], "add_bias_linear", False), "without bias"),
        (lambda v: setattr(v["args"], "num_experts", 8), "mixture of experts"),
        (lambda v: setattr(v["args"], "apply_residual_connection_post_layernorm", True), "after LayerNorm"),
    ],
)
def test_what_is_no_bert_of_ours_is_refused_in_one_line(change, message, bert, tmp_path):
    root = write(tmp_path, bert, args=args_of(bert))
    broken(root, 0, change)
    with pytest.raises(InputError, match=message) as error:
        read_megatron(root)
    one_line(error)


def test_an_absurd_number_of_layers_is_refused(bert, tmp_path):
    root = write(tmp_path, bert, args=args_of(bert, num_layers=None))
    odd = {"layers.999999.input_layernorm.weight": torch.zeros(HIDDEN)}
    broken(root, 0, lambda values: values["model"]["language_model"]["encoder"].update(odd))
    with pytest.raises(InputError, match="expected at most 1000 layers, found 1000000"):
        read_megatron(root)


def test_gpt_and_t5_are_called_by_their_names(bert, tmp_path):
    gpt = shard(bert, 0, 1, 3.0)
    del gpt["lm_head"], gpt["binary_head"], gpt["language_model"]["pooler"]
    del gpt["language_model"]["embedding"]["tokentype_embeddings"]
    t5 = shard(bert, 0, 1, 3.0)
    t5["language_model"]["decoder"] = {"layers.0.inter_attention.query.weight": torch.zeros(2, 2)}
    core = {"embedding.word_embeddings.weight": torch.zeros(8, 8), "decoder.final_layernorm.weight": torch.ones(8)}
    file = tmp_path / "a.pt"
    for model, message in ((gpt, "a GPT: no token types"), (core, "a GPT: a decoder"), (t5, "a T5")):
        torch.save({"checkpoint_version": 3.0, "model": model, "args": args_of(bert)}, file)
        assert is_megatron(file)
        with pytest.raises(InputError, match=f"expected a BERT, found {message}") as error:
            read_megatron(file)
        one_line(error)


def test_other_contents_and_no_files_are_told(tmp_path):
    torch.save({"weights": torch.zeros(3)}, tmp_path / "a.pt")
    with pytest.raises(InputError, match="expected a checkpoint of Megatron-LM"):
        read_megatron(tmp_path / "a.pt")
    with pytest.raises(InputError, match="expected the folders mp_rank"):
        read_megatron(tmp_path)
    (tmp_path / "mp_rank_00").mkdir()
    with pytest.raises(InputError, match=r"expected model_optim_rng\.pt or model_rng\.pt"):
        read_megatron(tmp_path)


def test_args_that_are_no_args_are_none(tmp_path):
    theirs = random_bert(hidden=128, heads=2)
    for args in (None, 3, Namespace()):
        torch.save({"model": shard(theirs, 0, 1, 0), "args": args}, tmp_path / "a.pt")
        assert_same_logits(read_megatron(tmp_path / "a.pt"), theirs)
