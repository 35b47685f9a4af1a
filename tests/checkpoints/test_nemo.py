"""NeMo archives, written by the format's rules from models of `transformers`, read to the same numbers as theirs."""

import copy
import gzip
import io
import json
import tarfile
from pathlib import Path

import pytest
import torch
import yaml
from megatron_files import core_names, flat_names, interleaved, random_bert, shard
from transformers import BertConfig, BertForPreTraining

from biomeg_lib.checkpoints.archives import unpacked
from biomeg_lib.checkpoints.nemo import is_nemo, read_nemo
from biomeg_lib.errors import InputError
from biomeg_lib.model import PretrainingModel
from biomeg_lib.vocab import Vocabulary

HASH = "0123456789abcdef0123456789abcdef"
PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"gene{i}" for i in range(80))]
TARGET = "nemo.collections.nlp.models.language_modeling.megatron_bert_model.MegatronBertModel"
TASK = "nemo.collections.nlp.models.token_classification.token_classification_model.TokenClassificationModel"
CONFIG = {
    "target": TARGET,
    "nemo_version": "1.8.0",
    "encoder_seq_length": 24,
    "max_position_embeddings": "${.encoder_seq_length}",
    "num_layers": 2,
    "hidden_size": 32,
    "ffn_hidden_size": 64,
    "num_attention_heads": 4,
    "hidden_dropout": 0.1,
    "layernorm_epsilon": "1e-5",  # as OmegaConf writes it; text to YAML
    "make_vocab_size_divisible_by": 96,
    "bert_binary_head": True,
    "bias_gelu_fusion": True,
    "tokenizer": {"library": "megatron", "type": "BertWordPieceLowerCase", "model": None},
}
NAMES = {f"{HASH}_vocab.txt": "\n".join(PIECES).encode()}
VOCABULARY = {"tokenizer": {**CONFIG["tokenizer"], "vocab_file": f"nemo:{HASH}_vocab.txt"}}


@pytest.fixture(scope="module")
def bert():
    return random_bert()


def weights(model, version: float = 3.0, count: int = 1, rank: int = 0, prefix: str = "model.") -> dict:
    """The state dict of NeMo's MegatronBertModel."""
    return {f"{prefix}{name}": value for name, value in flat_names(shard(model, rank, count, version)).items()}


def packed(path: Path, config: dict | None, states: dict | None, files: dict | None = None, mode: str = "w") -> Path:
    """An archive as NeMo's connector makes it: members under `./`, the folder itself first.

    Args:
        states: member -> state dict; or the one state dict.
    """
    members = dict(files or {})
    if config is not None:
        members["model_config.yaml"] = yaml.safe_dump(config).encode()
    states = {} if states is None else states
    for name, state in (states if all("/" in name for name in states) else {"model_weights.ckpt": states}).items():
        if state:
            buffer = io.BytesIO()
            torch.save(state, buffer)
            members[name] = buffer.getvalue()
    with tarfile.open(path, mode) as archive:
        root = tarfile.TarInfo(".")
        root.type, root.mode = tarfile.DIRTYPE, 0o755
        archive.addfile(root)
        for name, body in members.items():
            member = tarfile.TarInfo(f"./{name}")
            member.size = len(body)
            archive.addfile(member, io.BytesIO(body))
    return path


def read(path: Path):
    with unpacked(path) as folder:
        assert is_nemo(folder)
        return read_nemo(folder)


def refusal(path: Path) -> str:
    with pytest.raises(InputError) as caught, unpacked(path) as folder:
        read_nemo(folder)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def batch(rows: int = 96):
    generator = torch.Generator().manual_seed(5)
    mask = torch.arange(24) < torch.tensor([24, 17, 9])[:, None]
    return torch.randint(1, rows, (3, 24), generator=generator) * mask, (torch.arange(24) > 5).long() * mask, mask


def assert_same_logits(checkpoint, theirs, parts: tuple[str, ...] = ("mlm", "order")) -> None:
    ours = PretrainingModel(checkpoint.config).eval()
    ours.load_state_dict(checkpoint.state)
    tokens, types, mask = batch(theirs.config.vocab_size)
    with torch.no_grad():
        expected = theirs(input_ids=tokens, token_type_ids=types, attention_mask=mask.long())
        logits, order = ours(tokens, types, mask)
    assert expected.prediction_logits.std() > 0.3  # of a size at which 1e-5 means something
    if "mlm" in parts:
        torch.testing.assert_close(logits[mask], expected.prediction_logits[mask], atol=1e-5, rtol=0)
    if "order" in parts:
        torch.testing.assert_close(order, expected.seq_relationship_logits, atol=1e-5, rtol=0)


def assert_same_states(checkpoint, theirs) -> None:
    ours = PretrainingModel(checkpoint.config).eval()
    ours.load_state_dict(checkpoint.state, strict=False)
    tokens, types, mask = batch(theirs.config.vocab_size)
    with torch.no_grad():
        expected = theirs(input_ids=tokens, token_type_ids=types, attention_mask=mask.long()).last_hidden_state
        states = ours.encoder(tokens, types, mask)
    assert expected.std() > 0.3
    torch.testing.assert_close(states[mask], expected[mask], atol=1e-5, rtol=0)


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


@pytest.fixture(scope="module")
def post_bert():
    """A tiny BERT of the original kind, every weight random."""
    config = BertConfig(
        vocab_size=96,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=24,
        attn_implementation="eager",
    )
    model = BertForPreTraining(config).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn(weight.shape, generator=generator) * 0.1)
    return model


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


# What is refused


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
        (b"a: " + b"x" * (1 << 20), "expected at most 1,048,576 bytes of configuration"),
    ],
)
def test_a_configuration_that_is_none_is_refused(text, message, bert, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = packed(tmp_path / "bert.nemo", None, weights(bert), {"model_config.yaml": text})
    assert message in refusal(path)
    assert not list(tmp_path.rglob("escaped"))


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
