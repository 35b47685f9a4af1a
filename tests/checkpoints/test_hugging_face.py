"""Hugging Face's formats, as `transformers` itself and older releases write them, against its own logits."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from biomeg_lib.checkpoints.checkpoint import Checkpoint
from biomeg_lib.checkpoints.reading import read
from biomeg_lib.errors import InputError
from biomeg_lib.model import PretrainingModel

transformers = pytest.importorskip("transformers")

PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"w{i}" for i in range(83)), *(f"##{i}" for i in range(8))]
KINDS = ["Bert", "MegatronBert"]


def their_model(kind: str, head: str = "ForPreTraining", **changes):
    """A tiny random model whose weights are all far from their defaults, epsilon and GeLU too."""
    config = getattr(transformers, f"{kind}Config")(
        vocab_size=len(PIECES),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=48,
        max_position_embeddings=40,
        hidden_act="gelu_new",
        layer_norm_eps=1e-3,
        **changes,
    )
    torch.manual_seed(1)
    model = getattr(transformers, f"{kind}{head}")(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return model


def write(folder: Path, state: dict, config: dict | None, name: str = "model.safetensors") -> Path:
    """A folder with weights, and with config.json and vocab.txt if there is a config."""
    folder.mkdir(exist_ok=True)
    if name.endswith(".safetensors"):
        save_file({key: value.clone().contiguous() for key, value in state.items()}, folder / name)
    else:
        torch.save(state, folder / name)
    if config is not None:
        (folder / "config.json").write_text(json.dumps(config))
        (folder / "vocab.txt").write_text("".join(f"{piece}\n" for piece in PIECES))
    return folder


def batch():
    generator = torch.Generator().manual_seed(2)
    mask = torch.arange(20) < torch.tensor([20, 13, 5])[:, None]
    tokens = torch.randint(5, 96, (3, 20), generator=generator) * mask
    types = (torch.arange(20) >= 4).long() * mask
    return tokens, types, mask


def outputs_of(checkpoint: Checkpoint) -> tuple[torch.Tensor, torch.Tensor]:
    model = PretrainingModel(checkpoint.config).eval()
    model.load_state_dict(checkpoint.state, strict=False)
    tokens, types, mask = batch()
    with torch.no_grad():
        words, order = model(tokens, types, mask)
    return words[mask], order


def hidden_of(checkpoint: Checkpoint) -> torch.Tensor:
    model = PretrainingModel(checkpoint.config).eval()
    model.load_state_dict(checkpoint.state, strict=False)
    tokens, types, mask = batch()
    with torch.no_grad():
        return model.encoder(tokens, types, mask)[mask]


def expect_outputs(checkpoint: Checkpoint, model) -> None:
    tokens, types, mask = batch()
    with torch.no_grad():
        theirs = model(input_ids=tokens, token_type_ids=types, attention_mask=mask.long())
    words, order = outputs_of(checkpoint)
    torch.testing.assert_close(words, theirs.prediction_logits[mask], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(order, theirs.seq_relationship_logits, rtol=1e-5, atol=1e-5)


def expect_hidden(checkpoint: Checkpoint, model) -> None:
    tokens, types, mask = batch()
    with torch.no_grad():
        theirs = model(input_ids=tokens, token_type_ids=types, attention_mask=mask.long()).last_hidden_state
    torch.testing.assert_close(hidden_of(checkpoint), theirs[mask], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_what_transformers_saves_gives_its_logits(kind, tmp_path):
    model = their_model(kind)
    model.save_pretrained(tmp_path)
    checkpoint = read(tmp_path)
    assert checkpoint.missing == ()
    assert checkpoint.vocabulary is None
    assert (checkpoint.config.gelu, checkpoint.config.norm_eps) == ("tanh", 1e-3)
    assert checkpoint.config.norm == {"Bert": "post", "MegatronBert": "pre"}[kind]
    expect_outputs(checkpoint, model)


@pytest.mark.parametrize("kind", KINDS)
def test_weights_in_parts_with_an_index_are_put_together(kind, tmp_path):
    model = their_model(kind)
    model.save_pretrained(tmp_path, max_shard_size="20KB")
    assert (tmp_path / "model.safetensors.index.json").is_file()
    checkpoint = read(tmp_path)
    assert "in parts" in checkpoint.origin
    expect_outputs(checkpoint, model)


@pytest.mark.parametrize("kind", KINDS)
def test_an_old_bin_file_with_gamma_beta_and_buffers_gives_the_same(kind, tmp_path):
    model = their_model(kind)
    state = {
        name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): value
        for name, value in model.state_dict().items()
        if name != "cls.predictions.decoder.bias"
    }
    state["bert.embeddings.position_ids"] = torch.arange(40)[None]
    assert any(name.endswith("gamma") for name in state)
    write(tmp_path, state, model.config.to_dict(), "pytorch_model.bin")
    checkpoint = read(tmp_path)
    assert checkpoint.vocabulary.pieces == PIECES
    expect_outputs(checkpoint, model)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("prefix", ["", "bert.", "module.bert.", "0.auto_model."])
def test_a_bare_encoder_under_any_prefix_gives_the_same_hidden_states(kind, prefix, tmp_path):
    model = their_model(kind, "Model", hidden_dropout_prob=0.0)
    write(tmp_path, {prefix + name: value for name, value in model.state_dict().items()}, model.config.to_dict())
    checkpoint = read(tmp_path)
    assert checkpoint.missing == ("mlm", "order")
    expect_hidden(checkpoint, model)


def test_heads_beside_an_encoder_without_prefix_are_found(tmp_path):
    model = their_model("Bert")
    state = {name.removeprefix("bert."): value for name, value in model.state_dict().items()}
    write(tmp_path, state, model.config.to_dict())
    expect_outputs(read(tmp_path), model)


def test_a_folder_of_sentence_transformers_is_followed_to_its_transformer(tmp_path):
    model = their_model("Bert", "Model")
    write(tmp_path / "0_Transformer", model.state_dict(), model.config.to_dict())
    kinds = [("0_Transformer", "Transformer"), ("1_Pooling", "Pooling")]
    modules = [{"path": path, "type": f"sentence_transformers.models.{kind}"} for path, kind in kinds]
    (tmp_path / "modules.json").write_text(json.dumps(modules))
    expect_hidden(read(tmp_path), model)


def test_no_pooler_is_told_as_missing(tmp_path):
    model = their_model("Bert", "ForMaskedLM")
    write(tmp_path, model.state_dict(), model.config.to_dict())
    assert read(tmp_path).missing == ("pooler", "order")


def test_a_head_of_a_task_is_left_out_and_told(tmp_path):
    model = their_model("Bert", "ForTokenClassification")
    write(tmp_path, model.state_dict(), model.config.to_dict())
    checkpoint = read(tmp_path)
    assert checkpoint.notes == ("a head of a task is left out: classifier",)
    expect_hidden(checkpoint, model.bert)


def test_the_pooler_of_an_exported_classifier_is_none_and_a_trained_one_is(tmp_path):
    model = their_model("Bert", "ForSequenceClassification")
    write(tmp_path, model.state_dict(), model.config.to_dict())
    assert "pooler" not in read(tmp_path).missing
    with torch.no_grad():
        model.bert.pooler.dense.weight.copy_(2.0**-17 * torch.eye(32))
    write(tmp_path, model.state_dict(), model.config.to_dict())
    assert "pooler" in read(tmp_path).missing


def test_a_decoder_of_its_own_is_left_out_and_told(tmp_path):
    model = their_model("Bert")
    state = {name: value.clone() for name, value in model.state_dict().items()}
    state["cls.predictions.decoder.weight"] += 1
    write(tmp_path, state, model.config.to_dict())
    checkpoint = read(tmp_path)
    assert checkpoint.missing == ("mlm",)
    assert "decoder of its own" in checkpoint.notes[0]


def test_half_a_head_is_left_out_and_told(tmp_path):
    model = their_model("Bert")
    state = {name: value for name, value in model.state_dict().items() if "transform.dense.bias" not in name}
    write(tmp_path, state, model.config.to_dict())
    checkpoint = read(tmp_path)
    assert checkpoint.missing == ("mlm",)
    assert checkpoint.notes == ("the masked-LM head lacks 'mlm.dense.bias' and is left out",)


def test_weights_without_config_show_their_shape_and_the_rest_is_assumed_aloud(tmp_path):
    config = transformers.BertConfig(
        vocab_size=96, hidden_size=128, num_hidden_layers=1, num_attention_heads=2, intermediate_size=256
    )
    model = transformers.BertModel(config).eval()
    write(tmp_path, model.state_dict(), None)
    checkpoint = read(tmp_path / "model.safetensors")
    assert "2 heads of 64" in checkpoint.notes[0]
    expect_hidden(checkpoint, model)


def test_half_precision_is_widened_exactly(tmp_path):
    model = their_model("Bert", "Model").half()
    write(tmp_path, model.state_dict(), model.config.to_dict())
    checkpoint = read(tmp_path)
    assert all(value.dtype == torch.float32 for value in checkpoint.state.values())
    word = checkpoint.state["encoder.embeddings.word.weight"]
    assert torch.equal(word.half(), model.state_dict()["embeddings.word_embeddings.weight"])


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"model_type": "roberta"}, "model_type of bert or megatron-bert"),
        ({"model_type": "megatron-bert"}, "LayerNorms where the other kind"),
        ({"position_embedding_type": "relative_key"}, "absolute positions"),
        ({"hidden_act": "relu"}, "a hidden_act of gelu"),
        ({"vocab_size": 100}, "100 rows of word embeddings"),
        ({"num_hidden_layers": 3}, "'encoder.blocks.2.attention_norm.weight' is missing"),
        ({"num_hidden_layers": 1}, "found 'encoder.blocks.1."),
        ({"num_hidden_layers": 10**12}, "at most 1000 layers"),
        ({"intermediate_size": 2**60}, "absurd|shape"),
        ({"hidden_size": 64}, "of shape"),
        ({"num_attention_heads": 5}, "heads must divide hidden"),
        ({"max_position_embeddings": 50}, "encoder.embeddings.position.weight"),
    ],
)
def test_a_config_of_something_else_is_refused_in_one_line(change, expected, tmp_path):
    model = their_model("Bert", "Model")
    write(tmp_path, model.state_dict(), {**model.config.to_dict(), **change})
    with pytest.raises(InputError, match=expected) as caught:
        read(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("names", "architecture"),
    [
        (["transformer.wte.weight", "transformer.h.0.attn.c_attn.weight"], "GPT-2"),
        (["distilbert.transformer.layer.0.attention.q_lin.weight"], "DistilBERT"),
        (["roberta.embeddings.word_embeddings.weight"], "RoBERTa"),
        (["encoder.block.0.layer.0.SelfAttention.q.weight"], "T5"),
        (["something.else"], "'something.else' and 0 more"),
    ],
)
def test_another_architecture_is_named(names, architecture, tmp_path):
    write(tmp_path, {name: torch.zeros(2, 2) for name in names}, {})
    with pytest.raises(InputError, match=f"weights of a BERT encoder, found .*{architecture}"):
        read(tmp_path)


def test_a_vocabulary_larger_than_the_embedding_is_refused(tmp_path):
    model = their_model("Bert", "Model")
    write(tmp_path, model.state_dict(), model.config.to_dict())
    (tmp_path / "vocab.txt").write_text("".join(f"{piece}\n" for piece in [*PIECES, "one", "more"]))
    with pytest.raises(InputError, match="an embedding row for each of the vocabulary's 98 pieces, found 96"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("index", "expected"),
    [
        ({"weight_map": {"a": "../model.safetensors"}}, "names of files beside it"),
        ({"weight_map": {"a": "absent.safetensors"}}, "expected a file, found none"),
        ({}, "weight_map"),
        ([], "weight_map"),
    ],
)
def test_an_index_that_leads_elsewhere_is_refused(index, expected, tmp_path):
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(InputError, match=expected):
        read(tmp_path)


@pytest.mark.parametrize("path", ["..", "/tmp", "a/b", 3, None])
def test_modules_that_lead_elsewhere_are_refused(path, tmp_path):
    (tmp_path / "modules.json").write_text(json.dumps([{"path": path, "type": "x.Transformer"}]))
    with pytest.raises(InputError, match="modules of sentence-transformers"):
        read(tmp_path)


def test_the_vocabulary_of_a_tokenizer_json_is_read_with_its_case(tmp_path):
    model = their_model("Bert", "Model")
    write(tmp_path, model.state_dict(), model.config.to_dict())
    (tmp_path / "vocab.txt").unlink()
    tokenizer = {"normalizer": {"type": "BertNormalizer", "lowercase": False}}
    tokenizer["model"] = {"type": "WordPiece", "vocab": {piece: i for i, piece in enumerate(PIECES)}}
    (tmp_path / "tokenizer.json").write_text(json.dumps(tokenizer))
    vocabulary = read(tmp_path).vocabulary
    assert vocabulary.pieces == PIECES
    assert not vocabulary.lowercase
