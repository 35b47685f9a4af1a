"""NeMo archives, written by the format's rules from models of `transformers`, read to the same numbers as theirs."""

import copy
import json

import pytest
import torch
from megatron_files import core_names, flat_names, interleaved, random_bert, shard
from nemo_files import (
    CONFIG,
    HASH,
    NAMES,
    PIECES,
    TASK,
    VOCABULARY,
    assert_same_logits,
    assert_same_states,
    packed,
    read,
    weights,
)

from biomeg_lib.vocab import Vocabulary

# Megatron's BERT


@pytest.mark.parametrize("mode", ["w", "w:gz"])
@pytest.mark.parametrize("prefix", ["model.", "model.module."])
def test_logits_equal_those_of_transformers(mode, prefix, bert, tmp_path):
    path = packed(tmp_path / "bert.nemo", CONFIG | VOCABULARY, weights(bert, prefix=prefix), NAMES, mode)
    checkpoint = read(path)
    assert checkpoint.missing == ()
    assert checkpoint.vocabulary.pieces == PIECES
    assert checkpoint.vocabulary.lowercase
    assert (checkpoint.config.gelu, checkpoint.config.norm, checkpoint.config.norm_eps) == ("tanh", "pre", 1e-5)
    assert checkpoint.origin == "NeMo MegatronBertModel"
    assert_same_logits(checkpoint, bert)


def test_gelu_and_epsilon_are_those_of_the_configuration(tmp_path):
    theirs = random_bert(act="gelu", eps=1e-2)
    config = CONFIG | {"bias_gelu_fusion": False, "layernorm_epsilon": 1e-2}
    checkpoint = read(packed(tmp_path / "bert.nemo", config, weights(theirs)))
    assert (checkpoint.config.gelu, checkpoint.config.norm_eps) == ("erf", 1e-2)
    assert not any("GeLU" in note or "epsilon" in note for note in checkpoint.notes)
    assert_same_logits(checkpoint, theirs)


def test_what_the_configuration_does_not_say_is_assumed_and_noted(bert, tmp_path):
    config = {key: value for key, value in CONFIG.items() if key not in ("bias_gelu_fusion", "layernorm_epsilon")}
    checkpoint = read(packed(tmp_path / "bert.nemo", config, weights(bert)))
    assert any("no bias_gelu_fusion: NeMo's default" in note for note in checkpoint.notes)
    assert any("no layernorm_epsilon: NeMo's default, 1e-5" in note for note in checkpoint.notes)
    assert any("masked-LM head, too, where NeMo has the exact one" in note for note in checkpoint.notes)
    assert_same_logits(checkpoint, bert)


def test_legacy_rows_of_query_key_value_are_those_of_version_0(bert, tmp_path):
    config = CONFIG | {"megatron_legacy": True}
    assert_same_logits(read(packed(tmp_path / "bert.nemo", config, weights(bert, 0))), bert)


@pytest.mark.parametrize("names", ["mp_rank_{:02d}", "tp_rank_{:02d}_pp_rank_000"])
@pytest.mark.parametrize("legacy", [False, True])
def test_tensor_parallel_shards_are_joined(names, legacy, bert, tmp_path):
    config = CONFIG | {"tensor_model_parallel_size": 2, "megatron_legacy": legacy}
    states = {
        f"{names.format(rank)}/model_weights.ckpt": weights(bert, 0 if legacy else 3.0, 2, rank) for rank in range(2)
    }
    checkpoint = read(packed(tmp_path / "bert.nemo", config, states))
    assert checkpoint.origin == "NeMo MegatronBertModel, 2 shards"
    assert_same_logits(checkpoint, bert)


@pytest.mark.parametrize("fused", [False, True])
def test_names_of_megatron_core_are_read(fused, bert, tmp_path):
    """Transformer Engine holds a LayerNorm within the projection that follows it."""
    renamed = {
        ".input_layernorm.": ".self_attention.linear_qkv.layer_norm_",
        ".pre_mlp_layernorm.": ".mlp.linear_fc1.layer_norm_",
    }
    state = {}
    for name, value in core_names(shard(bert, 0, 1, 3.0)).items():
        for old, new in renamed.items() if fused else ():
            name = name.replace(old, new)
        state[f"model.module.{name}"] = value
    state["model.module.encoder.layers.0.mlp.linear_fc1._extra_state"] = torch.zeros(7, dtype=torch.uint8)
    config = CONFIG | {"mcore_bert": True, "bias_activation_fusion": True}
    config.pop("bias_gelu_fusion")
    assert_same_logits(read(packed(tmp_path / "bert.nemo", config, state)), bert)


def test_without_token_types_their_embedding_is_zero(tmp_path):
    theirs = copy.deepcopy(random_bert())
    theirs.bert.embeddings.token_type_embeddings.weight.data.zero_()
    gone = ("tokentype", "pooler", "binary_head")
    state = {name: value for name, value in weights(theirs).items() if not any(word in name for word in gone)}
    checkpoint = read(packed(tmp_path / "bert.nemo", CONFIG | {"bert_binary_head": False}, state))
    assert checkpoint.missing == ("pooler", "order")
    assert any("without token types" in note for note in checkpoint.notes)
    assert_same_states(checkpoint, theirs.bert)


@pytest.mark.parametrize("core", [False, True])
def test_post_ln_encoders_are_read(core, post_bert, tmp_path):
    """The names are those that NeMo's own converter gives to a BERT of Hugging Face."""
    theirs, prefix = post_bert.bert.state_dict(), "model." if core else "model.language_model."
    attention, up, down = (
        ("linear_qkv linear_proj", "linear_fc1", "linear_fc2")
        if core
        else ("query_key_value dense", "dense_h_to_4h", "dense_4h_to_h")
    )
    norms = ("post_att_layernorm", "post_mlp_layernorm") if core else ("input_layernorm", "post_attention_layernorm")
    state = {
        f"{prefix}embedding.word_embeddings.weight": theirs["embeddings.word_embeddings.weight"],
        f"{prefix}embedding.position_embeddings.weight": theirs["embeddings.position_embeddings.weight"],
        f"{prefix}embedding.tokentype_embeddings.weight": theirs["embeddings.token_type_embeddings.weight"],
    }
    for kind in ("weight", "bias"):
        state[f"{prefix}encoder.initial_layernorm.{kind}"] = theirs[f"embeddings.LayerNorm.{kind}"]
        for i in range(2):
            old, new = f"encoder.layer.{i}.", f"{prefix}encoder.layers.{i}."
            three = [theirs[f"{old}attention.self.{name}.{kind}"] for name in ("query", "key", "value")]
            qkv, output = attention.split()
            state[f"{new}self_attention.{qkv}.{kind}"] = interleaved(three, range(4), 8, 3.0)
            state[f"{new}self_attention.{output}.{kind}"] = theirs[f"{old}attention.output.dense.{kind}"]
            state[f"{new}{norms[0]}.{kind}"] = theirs[f"{old}attention.output.LayerNorm.{kind}"]
            state[f"{new}mlp.{up}.{kind}"] = theirs[f"{old}intermediate.dense.{kind}"]
            state[f"{new}mlp.{down}.{kind}"] = theirs[f"{old}output.dense.{kind}"]
            state[f"{new}{norms[1]}.{kind}"] = theirs[f"{old}output.LayerNorm.{kind}"]
    own = {"transformer_block_type": "post_ln", "mcore_bert": core, "layernorm_epsilon": 1e-12}
    own |= {"bias_gelu_fusion": False, "bias_activation_fusion": False, "normalization": "layernorm"}
    checkpoint = read(packed(tmp_path / "bert.nemo", CONFIG | own, state))
    assert checkpoint.config.norm == "post"
    assert_same_states(checkpoint, post_bert.bert)


# Task models


@pytest.mark.parametrize("version", [0, 3.0, None])
def test_archives_of_before_1_5_have_older_names_and_their_version_in_a_file(version, tmp_path):
    theirs = random_bert(act="gelu")
    nested = {"language_model": shard(theirs, 0, 1, version or 0, "transformer")["language_model"]}
    nested["language_model"].pop("pooler")
    state = {f"bert_model.{name}": value for name, value in flat_names(nested).items()}
    state["classifier.mlp.layer0.weight"] = torch.zeros(3, 32)
    shape = {"num_layers": 2, "hidden_size": 32, "num_attention_heads": 4, "max_position_embeddings": 24}
    files = {f"{HASH}_megatron-bert_encoder_config.json": json.dumps(shape).encode()}
    if version is not None:
        body = json.dumps({"checkpoint_version": version}).encode()
        files[f"{HASH}_megatron_checkpoint_version.json"] = body
    config = {"target": TASK, "language_model": {"config_file": f"nemo:{HASH}_megatron-bert_encoder_config.json"}}
    checkpoint = read(packed(tmp_path / "ner.nemo", config, state, files))
    assert checkpoint.missing == ("mlm", "pooler", "order")
    assert "a head of a task is left out: classifier" in checkpoint.notes
    assert any("exact one, as in NeMo before 1.5, is assumed" in note for note in checkpoint.notes)
    assert_same_states(checkpoint, theirs.bert)


def test_a_task_model_without_a_configuration_of_its_encoder_gets_heads_of_64(tmp_path):
    theirs = random_bert(hidden=128, heads=2)
    nested = {"language_model": shard(theirs, 0, 1, 3.0)["language_model"]}
    state = {f"bert_model.model.{name}": value for name, value in flat_names(nested).items()}
    config = {"target": TASK, "language_model": {"pretrained_model_name": "biomegatron345m_biovocab_30k_cased"}}
    checkpoint = read(packed(tmp_path / "ner.nemo", config, state))
    assert any("2 heads of 64 are assumed" in note for note in checkpoint.notes)
    assert_same_states(checkpoint, theirs.bert)


@pytest.mark.parametrize("within", [False, True])
def test_task_models_on_an_encoder_of_hugging_face_are_read(within, post_bert, tmp_path):
    state = {f"bert_model.{name}": value for name, value in post_bert.bert.state_dict().items()}
    state |= {"classifier.mlp.layer0.weight": torch.zeros(3, 32), "classifier.mlp.layer0.bias": torch.zeros(3)}
    values = {**post_bert.config.to_dict(), "layer_norm_eps": 1e-12}
    file = f"{HASH}_bert-base_encoder_config.json"
    described = {"config": values} if within else {"config": None, "config_file": f"nemo:{file}"}
    config = {"target": TASK, "language_model": described, "tokenizer": {"tokenizer_name": "bert-base-cased"}}
    config["tokenizer"]["vocab_file"] = f"nemo:{HASH}_vocab.txt"
    files = NAMES | ({} if within else {file: json.dumps(values).encode()})
    checkpoint = read(packed(tmp_path / "ner.nemo", config, state, files))
    assert not checkpoint.vocabulary.lowercase
    assert checkpoint.origin.endswith("in a NeMo archive of TokenClassificationModel")
    assert "a head of a task is left out: classifier" in checkpoint.notes
    assert_same_states(checkpoint, post_bert.bert)


def test_the_heads_of_nemos_own_pretraining_are_read(post_bert, tmp_path):
    theirs = post_bert.state_dict()
    state = {f"bert_model.{name.removeprefix('bert.')}": value for name, value in theirs.items() if "bert." in name}
    for name in ("weight", "bias"):
        state[f"bert_model.pooler.dense.{name}"] = torch.randn_like(theirs[f"bert.pooler.dense.{name}"])  # has no part
        state[f"mlm_classifier.dense.{name}"] = theirs[f"cls.predictions.transform.dense.{name}"]
        state[f"mlm_classifier.norm.{name}"] = theirs[f"cls.predictions.transform.LayerNorm.{name}"]
        state[f"nsp_classifier.mlp.layer0.{name}"] = theirs[f"bert.pooler.dense.{name}"]
        state[f"nsp_classifier.mlp.layer2.{name}"] = theirs[f"cls.seq_relationship.{name}"]
    state["mlm_classifier.mlp.layer0.weight"] = theirs["bert.embeddings.word_embeddings.weight"]
    state["mlm_classifier.mlp.layer0.bias"] = theirs["cls.predictions.bias"]
    config = {"target": "nemo.collections.nlp.models.BERTLMModel", "tokenizer": None}
    config["language_model"] = {"config": post_bert.config.to_dict()}
    checkpoint = read(packed(tmp_path / "lm.nemo", config, state))
    assert checkpoint.missing == ()
    assert_same_logits(checkpoint, post_bert)


# Vocabularies


@pytest.mark.parametrize("key", ["model", "tokenizer_model"])
def test_a_sentencepiece_vocabulary_is_read(key, bert, tmp_path):
    vocabulary = Vocabulary.train(["gene cell protein kinase of the mouse"] * 5, 48)
    vocabulary.save(tmp_path / "vocabulary")
    files = {f"{HASH}_bio.model": (tmp_path / "vocabulary" / "spm.model").read_bytes()}
    config = CONFIG | {"tokenizer": {"library": "sentencepiece", "type": None, key: f"nemo:{HASH}_bio.model"}}
    checkpoint = read(packed(tmp_path / "bert.nemo", config, weights(bert), files))
    assert checkpoint.vocabulary.pieces == vocabulary.pieces


@pytest.mark.parametrize(
    "config",
    [
        {"vocab_file": f"nemo:{HASH}_vocab.txt"},  # NeMo 1.7
        {"tokenizer": {"vocab_file": f"/raid/of/somebody/{HASH}_vocab.txt", "type": "BertWordPieceCase"}},
    ],
)
def test_a_vocabulary_is_found_where_older_archives_name_it(config, bert, tmp_path):
    checkpoint = read(packed(tmp_path / "bert.nemo", CONFIG | config, weights(bert), NAMES))
    assert checkpoint.vocabulary.pieces == PIECES
    assert checkpoint.vocabulary.lowercase == ("tokenizer" not in config)


def test_without_a_vocabulary_a_note_says_so(bert, tmp_path):
    config = CONFIG | {"tokenizer": {"type": "megatron-bert-345m-cased", "vocab_file": "/raid/vocab.txt"}}
    checkpoint = read(packed(tmp_path / "bert.nemo", config, weights(bert)))
    assert checkpoint.vocabulary is None
    assert "the archive holds no vocabulary, only the name '/raid/vocab.txt'" in checkpoint.notes
