"""Our checkpoints in Megatron-LM's layout, so that its tools can go on from them.

    latest_checkpointed_iteration.txt              "release": weights without a state of training
    release/mp_rank_00/model_optim_rng.pt          one a tensor-parallel rank, checkpoint version 3.0
    vocabulary/                                    as `Vocabulary.save` leaves it; Megatron's --vocab-file is in it

The names are those of Megatron-LM 2.x on, its `legacy` models since 2024. The args hold what `check_checkpoint_args`
and `load_args_from_checkpoint` of Megatron-LM look for. GeLU: our tanh approximation is its openai_gelu, which, unlike
bias_gelu_fusion, holds for the masked-LM head, too.
"""

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from biomeg_lib.checkpoints.checkpoint import PARTS, Checkpoint
from biomeg_lib.checkpoints.megatron import TRACKER
from biomeg_lib.checkpoints.megatron_names import cut, to_megatron
from biomeg_lib.errors import BiomegError
from biomeg_lib.files import atomic_directory, read_json
from biomeg_lib.model import ModelConfig
from biomeg_lib.vocab import Vocabulary

_DIVISIBLE_BY = 128  # make_vocab_size_divisible_by, Megatron's default


def write_megatron(checkpoint: Checkpoint, folder: str | Path, tensor_parallel: int = 1) -> None:
    """Write the folder, whole or not at all.

    Args:
        folder: a new one: who trained with Megatron has much to lose in an old one.
        tensor_parallel: how many shards; divides heads, rows of the word embedding, and the feed-forward layer.

    Raises:
        BiomegError: Megatron has no such model or cannot load it, or it cannot be cut so, or `folder` is not empty.
            Megatron's BERT is pre-LN, and its loader wants all the heads that we have.
    """
    folder, config = Path(folder), checkpoint.config
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise BiomegError(f"{folder}: expected a new folder to write to, found something there")
    if config.norm != "pre":
        raise BiomegError("Megatron-LM: its BERT has LayerNorm before each sub-layer, this model has it after")
    if checkpoint.missing:
        lacks = " and no ".join(PARTS[part] for part in checkpoint.missing)
        raise BiomegError(f"Megatron-LM: its loader wants the whole model, this one has no {lacks}")
    _check_parallel(config, tensor_parallel)
    with atomic_directory(folder) as new:
        kind = None
        if checkpoint.vocabulary is not None:
            checkpoint.vocabulary.save(new / "vocabulary")
            kind = read_json(new / "vocabulary" / "vocab.json")["kind"]
        args = _args(config, checkpoint.vocabulary, kind, tensor_parallel)
        for rank, state in enumerate(cut(checkpoint.state, tensor_parallel, config.heads)):
            values = {"args": args, "checkpoint_version": 3.0, "iteration": 0, "model": _nested(to_megatron(state))}
            shard = new / "release" / f"mp_rank_{rank:02d}"
            shard.mkdir(parents=True)
            torch.save(values, shard / "model_optim_rng.pt")
        (new / TRACKER).write_text("release\n", encoding="ascii")


def _check_parallel(config: ModelConfig, count: int) -> None:
    sizes = {
        "heads": config.heads,
        "rows of the word embedding": config.vocab_size,
        "feed-forward columns": config.intermediate,
    }
    if count < 1 or any(size % count for size in sizes.values()):
        shown = ", ".join(f"{size:,} {name}" for name, size in sizes.items())
        possible = [n for n in range(1, config.heads + 1) if not any(size % n for size in sizes.values())]
        raise BiomegError(
            f"Megatron-LM: tensor parallelism of {count} does not divide {shown}; "
            f"possible: {', '.join(map(str, possible))}"
        )


def _args(config: ModelConfig, vocabulary: Vocabulary | None, kind: str | None, count: int) -> argparse.Namespace:
    """What Megatron's loader compares with its own args, and what tells a model from others of the same shapes."""
    values: dict[str, Any] = {
        "num_layers": config.layers,
        "encoder_num_layers": config.layers,
        "hidden_size": config.hidden,
        "ffn_hidden_size": config.intermediate,
        "num_attention_heads": config.heads,
        "kv_channels": config.head_size,
        "seq_length": config.max_length,
        "max_position_embeddings": config.max_length,
        "add_position_embedding": True,
        "position_embedding_type": "learned_absolute",
        "padded_vocab_size": config.vocab_size,
        "make_vocab_size_divisible_by": _divisor(config.vocab_size, vocabulary, count),
        "tokenizer_type": _tokenizer_type(vocabulary, kind),
        "tensor_model_parallel_size": count,
        "pipeline_model_parallel_size": 1,
        "virtual_pipeline_model_parallel_size": None,
        "data_parallel_random_init": False,
        "bert_binary_head": True,
        "layernorm_epsilon": config.norm_eps,
        "norm_epsilon": config.norm_eps,  # its name since 2023
        "normalization": "LayerNorm",
        "hidden_dropout": config.dropout,
        "attention_dropout": config.attention_dropout,
        "init_method_std": config.init_std,
        "openai_gelu": config.gelu == "tanh",
        "bias_gelu_fusion": False,
        "onnx_safe": None,
        "swiglu": False,
        "squared_relu": False,
        "add_bias_linear": True,
        "apply_layernorm_1p": False,
        "apply_residual_connection_post_layernorm": False,
        "untie_embeddings_and_output_weights": False,
        "use_rotary_position_embeddings": False,
        "rotary_percent": 1.0,
        "consumed_train_samples": 0,
        "consumed_valid_samples": 0,
    }
    return argparse.Namespace(**values)


def _divisor(rows: int, vocabulary: Vocabulary | None, count: int) -> int:
    """With which Megatron, that pads the vocabulary to a multiple of it times `count`, comes to our rows."""
    size = rows if vocabulary is None else vocabulary.size
    return _DIVISIBLE_BY if -(-size // (_DIVISIBLE_BY * count)) * _DIVISIBLE_BY * count == rows else rows // count


def _tokenizer_type(vocabulary: Vocabulary | None, kind: str | None) -> str | None:
    if vocabulary is None or kind == "sentencepiece":
        return None if vocabulary is None else "SentencePieceTokenizer"
    return "BertWordPieceLowerCase" if vocabulary.lowercase else "BertWordPieceCase"


def _nested(weights: Mapping[str, Tensor]) -> dict[str, Any]:
    """As Megatron nests them: dictionaries down to modules of the language model, within these dots."""
    language_model: dict[str, Any] = {"embedding": {}, "encoder": {}, "pooler": {}}
    model: dict[str, Any] = {"language_model": language_model, "lm_head": {}, "binary_head": {}}
    for name, value in weights.items():
        outer, _, inner = name.partition(".")
        if outer == "embedding":
            part, _, kind = inner.partition(".")
            language_model[outer].setdefault(part, {})[kind] = value
        else:
            (language_model if outer in language_model else model)[outer][inner] = value
    return model
