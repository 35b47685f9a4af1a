"""NeMo archives that are refused, each in one line."""

import gzip

import pytest
import torch
from nemo_files import (
    CONFIG,
    HASH,
    PIECES,
    TASK,
    VOCABULARY,
    packed,
    refusal,
    weights,
)

from biomeg_lib.checkpoints.archives import unpacked
from biomeg_lib.checkpoints.nemo import is_nemo


def test_a_vocabulary_that_is_named_and_missing_is_an_error(bert, tmp_path):
    path = packed(tmp_path / "bert.nemo", CONFIG | VOCABULARY, weights(bert))
    assert f"expected the vocabulary 'nemo:{HASH}_vocab.txt' in the archive" in refusal(path)


def test_a_vocabulary_larger_than_the_embedding_is_an_error(bert, tmp_path):
    files = {f"{HASH}_vocab.txt": "\n".join([*PIECES, *(f"more{i}" for i in range(12))]).encode()}
    path = packed(tmp_path / "bert.nemo", CONFIG | VOCABULARY, weights(bert), files)
    assert "expected an embedding row for each of the vocabulary's 97 pieces, found 96" in refusal(path)


def test_members_that_lead_out_are_refused(bert, tmp_path):
    path = packed(tmp_path / "bert.nemo", CONFIG, weights(bert), {"../../escaped": b"x"})
    assert "found one that leads elsewhere" in refusal(path)
    assert not list(tmp_path.rglob("escaped"))


def test_without_configuration_or_weights_the_line_says_what_is_missing(bert, tmp_path):
    assert "model_config.yaml: expected the configuration" in refusal(packed(tmp_path / "a.nemo", None, weights(bert)))
    assert "model_weights.ckpt: expected the weights" in refusal(packed(tmp_path / "b.nemo", CONFIG, None))
    with unpacked(packed(tmp_path / "c.nemo", None, None, {"readme.txt": b"x"})) as folder:
        assert not is_nemo(folder)


@pytest.mark.parametrize("target", ["nemo.models.megatron_gpt_model.MegatronGPTModel", None])
def test_a_gpt_is_refused_though_its_weights_have_the_same_names(target, bert, tmp_path):
    gone = ("tokentype", "pooler", "binary_head", "lm_head")
    state = {name: value for name, value in weights(bert).items() if not any(word in name for word in gone)}
    message = refusal(packed(tmp_path / "gpt.nemo", CONFIG | {"target": target}, state))
    assert "expected a BERT model, found" in message
    assert target is None or message.endswith("found MegatronGPTModel")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_layers": 3}, "'encoder.blocks.2.attention_norm.weight' is missing"),
        ({"num_layers": 1}, "found 'encoder.blocks.1"),
        ({"hidden_size": 64}, "of shape [96, 64], found [96, 32]"),
        ({"ffn_hidden_size": 128}, "of shape [128, 32], found [64, 32]"),
        ({"max_position_embeddings": 512}, "of shape [512, 32], found [24, 32]"),
        ({"num_attention_heads": 5}, "expected queries, keys and values of 5 heads"),
        ({"num_attention_heads": 0}, "num_attention_heads above 0, found 0"),
        ({"num_attention_heads": None}, "expected num_attention_heads, found none for 32 columns"),
        ({"num_layers": "many"}, "expected num_layers to be a number, found 'many'"),
        ({"num_layers": 10**6}, "expected at most"),
        ({"hidden_size": 2**60}, "expected"),
        ({"layernorm_epsilon": -1}, "norm_eps must be a number above 0"),
        ({"activation": "swiglu"}, "expected the activation 'gelu', found 'swiglu'"),
        ({"transformer_block_type": "normformer"}, "expected transformer_block_type to be pre_ln or post_ln"),
        ({"transformer_block_type": ["pre_ln"]}, "expected transformer_block_type to be pre_ln or post_ln"),
        ({"normalization": "layernorm1p"}, "expected normalization to be layernorm"),
        ({"position_embedding_type": "rope"}, "expected position_embedding_type to be learned_absolute, found 'rope'"),
        ({"kv_channels": 16}, "expected kv_channels to be 8, found 16"),
    ],
)
def test_a_configuration_that_the_weights_contradict_is_refused(changes, message, bert, tmp_path):
    assert message in refusal(packed(tmp_path / "bert.nemo", CONFIG | changes, weights(bert)))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"target: !!python/object/apply:os.system ['touch escaped']", "expected YAML, found another thing"),
        (b"- a\n- list", "expected a mapping"),
        (b"a: [" * 5000, "expected YAML"),
        (b"\xff\xfe\x00", "expected YAML"),
        (b"a: &a [x, x]\nb: [*a, *a]", "found an alias"),
        (b"a: &a {k: 1}\nb: {<<: [*a, *a]}", "found an alias"),
        (b'a: !!int ""', "expected YAML, found another thing (IndexError)"),
        (b'a: !!float ""', "expected YAML"),
        (b"a: !!bool x", "expected YAML"),
        (b"a: !!timestamp x", "expected YAML"),
        (b"a: 0x" + b"f" * 5000, "found a number of 5,002 characters"),
        (b"a: 1" + b":1" * 5000, "found a number of 10,001 characters"),
        (b"2305843009213693951000: 1", "found a huge number"),
        (b"a: " + b"x" * (1 << 20), "expected at most 1,048,576 bytes of configuration"),
    ],
)
def test_a_configuration_that_is_none_is_refused(text, message, bert, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = packed(tmp_path / "bert.nemo", None, weights(bert), {"model_config.yaml": text})
    assert message in refusal(path)
    assert not list(tmp_path.rglob("escaped"))


@pytest.mark.parametrize("target", [["a"], 5, {"x": "y"}, "x\n\x1b[31mFORGED"])
def test_a_class_that_is_no_plain_name_is_no_bert(target, bert, tmp_path):
    path = packed(tmp_path / "bert.nemo", CONFIG | {"target": target}, {"encoder.weight": torch.zeros(1)})
    message = refusal(path)
    assert "expected a BERT model, found" in message
    assert message.isprintable()


@pytest.mark.parametrize(
    ("ranks", "size", "message"),
    [
        ([0], 2, "expected 2 tensor-parallel shards, found 1 without rank 1"),
        ([0, 1], 1, "expected 1 tensor-parallel shards, found 2"),
        ([1], None, "without rank 0"),
    ],
)
def test_missing_and_superfluous_shards_are_refused(ranks, size, message, bert, tmp_path):
    states = {f"mp_rank_{rank:02d}/model_weights.ckpt": weights(bert, 3.0, 2, rank) for rank in ranks}
    path = packed(tmp_path / "bert.nemo", CONFIG | {"tensor_model_parallel_size": size}, states)
    assert message in refusal(path)


def test_stages_and_distributed_checkpoints_are_refused(bert, tmp_path):
    states = {f"tp_rank_00_pp_rank_{rank:03d}/model_weights.ckpt": weights(bert) for rank in range(2)}
    assert "found pipeline stages" in refusal(packed(tmp_path / "a.nemo", CONFIG, states))
    path = packed(tmp_path / "b.nemo", CONFIG, None, {"model_weights/metadata.json": b"{}"})
    assert "found a distributed checkpoint" in refusal(path)


def test_weights_of_another_model_are_refused(bert, tmp_path):
    state = weights(bert) | {"model.language_model.encoder.layers.0.inter_attention.dense.weight": torch.zeros(32, 32)}
    message = refusal(packed(tmp_path / "bert.nemo", CONFIG, state))
    assert "expected the weights of a BERT encoder, found 'model.language_model.encoder.layers.0.inter_att" in message
    files = {"model_weights.ckpt": gzip.compress(b"no tensors")}
    assert "model_weights.ckpt: expected" in refusal(packed(tmp_path / "other.nemo", CONFIG, None, files))


def test_an_unknown_checkpoint_version_is_refused(bert, tmp_path):
    files = {f"{HASH}_megatron_checkpoint_version.json": b'{"checkpoint_version": 9}'}
    path = packed(tmp_path / "bert.nemo", CONFIG, weights(bert), files)
    assert 'expected a "checkpoint_version" of 0.0, 1.0, 2.0, 3.0, found 9' in refusal(path)


def test_an_encoder_that_is_no_bert_is_refused(post_bert, tmp_path):
    state = {f"bert_model.{name}": value for name, value in post_bert.bert.state_dict().items()}
    state["bert_model.encoder.albert_layer_groups.0.weight"] = torch.zeros(2)
    config = {"target": TASK, "language_model": {"config": post_bert.config.to_dict()}}
    assert "found 'bert.encoder.albert_layer" in refusal(packed(tmp_path / "ner.nemo", config, state))


def test_a_width_that_is_only_claimed_takes_no_memory(bert, tmp_path):
    state = {name: value for name, value in weights(bert).items() if "tokentype" not in name}
    path = packed(tmp_path / "bert.nemo", CONFIG | {"hidden_size": 4 * 10**11}, state)
    assert "found absurd sizes in its config" in refusal(path)


def test_ranks_that_are_only_claimed_take_no_time(bert, tmp_path):
    state = {f"mp_rank_0{rank}/model_weights.ckpt": weights(bert, count=2, rank=rank) for rank in range(2)}
    path = packed(tmp_path / "bert.nemo", CONFIG | {"tensor_model_parallel_size": 10**15}, state)
    assert "found 2 without rank 2" in refusal(path)
