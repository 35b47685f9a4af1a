"""Files as Megatron-LM writes them, made from a MegatronBERT of `transformers` by the rules of the format alone.

Nothing of the library is used, and the rules are those of Megatron's modules rather than of its converters: each order
of query, key and value is built head by head, row by row.
"""

from argparse import Namespace
from pathlib import Path

import torch
from torch import Tensor

HIDDEN, HEADS, LAYERS, ROWS = 32, 4, 2, 96
COLUMN = ("query_key_value.weight", "query_key_value.bias", "dense_h_to_4h.weight", "dense_h_to_4h.bias")
ROW = ("attention.dense.weight", "dense_4h_to_h.weight")


def random_bert(seed: int = 0, hidden: int = HIDDEN, heads: int = HEADS, act: str = "gelu_pytorch_tanh", eps=1e-5):
    """A tiny MegatronBertForPreTraining, every weight random, LayerNorms and biases too."""
    from transformers import MegatronBertConfig, MegatronBertForPreTraining

    config = MegatronBertConfig(
        vocab_size=ROWS,
        hidden_size=hidden,
        num_hidden_layers=LAYERS,
        num_attention_heads=heads,
        intermediate_size=2 * hidden,
        max_position_embeddings=24,
        hidden_act=act,
        layer_norm_eps=eps,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        attn_implementation="eager",
    )
    model = MegatronBertForPreTraining(config).eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn(weight.shape, generator=generator) * 0.1)
    return model


def args_of(model, count: int = 1, version: float = 3.0, **changes) -> Namespace:
    """The args that Megatron would have had."""
    config = model.config
    parallel = "tensor_model_parallel_size" if version >= 3 else "model_parallel_size"
    values = {
        "num_layers": config.num_hidden_layers,
        "hidden_size": config.hidden_size,
        "num_attention_heads": config.num_attention_heads,
        "ffn_hidden_size": config.intermediate_size,
        "max_position_embeddings": config.max_position_embeddings,
        "padded_vocab_size": config.vocab_size,
        "layernorm_epsilon": config.layer_norm_eps,
        "bias_gelu_fusion": config.hidden_act != "gelu",
        "openai_gelu": False,
        "tokenizer_type": "BertWordPieceLowerCase",
        parallel: count,
    }
    return Namespace(**(values | changes))


def shard(model, rank: int, count: int, version: float, names: str = "encoder") -> dict:
    """The nested `model` of one tensor-parallel rank; `names` is "encoder" or, as before 2021, "transformer"."""
    theirs = model.state_dict()
    heads, hidden = model.config.num_attention_heads, model.config.hidden_size
    attention = "self_attention" if names == "encoder" else "attention"

    def column(value: Tensor) -> Tensor:
        size = value.shape[0] // count
        return value[rank * size : (rank + 1) * size].clone()

    def row(value: Tensor) -> Tensor:
        size = value.shape[1] // count
        return value[:, rank * size : (rank + 1) * size].clone()

    blocks = {}
    for i in range(model.config.num_hidden_layers):
        hf, own = f"bert.encoder.layer.{i}.", f"layers.{i}."
        for kind in ("weight", "bias"):
            blocks[f"{own}input_layernorm.{kind}"] = theirs[f"{hf}attention.ln.{kind}"]
            three = [theirs[f"{hf}attention.self.{name}.{kind}"] for name in ("query", "key", "value")]
            own_heads = range(rank * heads // count, (rank + 1) * heads // count)
            blocks[f"{own}{attention}.query_key_value.{kind}"] = interleaved(three, own_heads, hidden // heads, version)
            blocks[f"{own}post_attention_layernorm.{kind}"] = theirs[f"{hf}ln.{kind}"]
            blocks[f"{own}mlp.dense_h_to_4h.{kind}"] = column(theirs[f"{hf}intermediate.dense.{kind}"])
        blocks[f"{own}{attention}.dense.weight"] = row(theirs[f"{hf}attention.output.dense.weight"])
        blocks[f"{own}{attention}.dense.bias"] = theirs[f"{hf}attention.output.dense.bias"]
        blocks[f"{own}mlp.dense_4h_to_h.weight"] = row(theirs[f"{hf}output.dense.weight"])
        blocks[f"{own}mlp.dense_4h_to_h.bias"] = theirs[f"{hf}output.dense.bias"]
    for kind in ("weight", "bias"):
        blocks[f"final_layernorm.{kind}"] = theirs[f"bert.encoder.ln.{kind}"]
    embeddings = "bert.embeddings."
    return {
        "language_model": {
            "embedding": {
                "word_embeddings": {"weight": column(theirs[f"{embeddings}word_embeddings.weight"])},
                "position_embeddings": {"weight": theirs[f"{embeddings}position_embeddings.weight"]},
                "tokentype_embeddings": {"weight": theirs[f"{embeddings}token_type_embeddings.weight"]},
            },
            names: blocks,
            "pooler": {f"dense.{kind}": theirs[f"bert.pooler.dense.{kind}"] for kind in ("weight", "bias")},
        },
        "lm_head": {
            "bias": column(theirs["cls.predictions.bias"]),
            **{f"dense.{kind}": theirs[f"cls.predictions.transform.dense.{kind}"] for kind in ("weight", "bias")},
            **{
                f"layernorm.{kind}": theirs[f"cls.predictions.transform.LayerNorm.{kind}"]
                for kind in ("weight", "bias")
            },
        },
        "binary_head": {kind: theirs[f"cls.seq_relationship.{kind}"] for kind in ("weight", "bias")},
    }


def interleaved(three: list[Tensor], heads: range, size: int, version: float) -> Tensor:
    """Rows of query, key and value, each [A * D, ...], for some heads in the order of a version."""
    if version == 0:
        order = [(part, head, d) for part in range(3) for head in heads for d in range(size)]
    elif version == 1:
        order = [(part, head, d) for head in heads for d in range(size) for part in range(3)]
    else:
        order = [(part, head, d) for head in heads for part in range(3) for d in range(size)]
    return torch.stack([three[part][head * size + d] for part, head, d in order])


def core_names(nested: dict) -> dict:
    """The weights of `shard`, today's names, under those of Megatron core with its local layers: flat, with dots."""
    renamed = {
        "post_attention_layernorm": "pre_mlp_layernorm",
        "query_key_value": "linear_qkv",
        "self_attention.dense": "self_attention.linear_proj",
        "dense_h_to_4h": "linear_fc1",
        "dense_4h_to_h": "linear_fc2",
    }
    flat = flat_names(nested)
    core = {}
    for name, value in flat.items():
        name = name.removeprefix("language_model.").replace("lm_head.layernorm", "lm_head.layer_norm")
        for old, new in renamed.items():
            name = name.replace(old, new)
        core["output_layer.bias" if name == "lm_head.bias" else name] = value
    return core


def flat_names(nested: dict, prefix: str = "") -> dict:
    """The same without dictionaries in it."""
    flat = {}
    for name, value in nested.items():
        if isinstance(value, dict):
            flat |= flat_names(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = value
    return flat


def write(root: Path, model, version: float = 3.0, count: int = 1, names="encoder", args=None, **changes) -> Path:
    """A whole folder as NVIDIA ships it; `changes` are further keys of each file. Returns the folder."""
    for rank in range(count):
        values = {"iteration": 7, "model": shard(model, rank, count, version, names)} | changes
        if version:
            values["checkpoint_version"] = version
        if args is not None:
            values["args"] = args
        file = root / "release" / f"mp_rank_{rank:02d}" / "model_optim_rng.pt"
        file.parent.mkdir(parents=True, exist_ok=True)
        torch.save(values, file)
    (root / "latest_checkpointed_iteration.txt").write_text("release")
    return root
