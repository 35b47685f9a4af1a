"""Megatron's BERT and ours: the names of the weights, the orders of query, key and value, and how shards are cut.

Names: those of Megatron-LM 1.x ("transformer", "attention"), of 2.x on ("encoder", "self_attention") and of Megatron
core ("linear_qkv"), nested or with dots, with or without what NeMo puts in front.

The 3H rows of the query-key-value projection (A heads of D) have changed with `checkpoint_version`, see
`fix_query_key_value_ordering` in Megatron-LM:

    0          [3, A, D]     ours, if there is one shard: each shard has the three of its own heads
    1.0        [A, D, 3]
    2.0, 3.0   [A, 3, D]

Tensor-parallel shards have rows of what is parallel by column, and of the vocabulary; columns of what is parallel by
row; and all of everything else.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from biomeg_lib.errors import InputError

VERSIONS = (0.0, 1.0, 2.0, 3.0)
WORD, POSITION, TOKEN_TYPE = (f"encoder.embeddings.{kind}.weight" for kind in ("word", "position", "token_type"))

# Ours: theirs, today's names first; both without ".weight" and ".bias".
_OUTER = {
    "encoder.embeddings.word": ("embedding.word_embeddings", "word_embeddings"),
    "encoder.embeddings.position": ("embedding.position_embeddings", "position_embeddings"),
    "encoder.embeddings.token_type": ("embedding.tokentype_embeddings", "tokentype_embeddings"),
    "encoder.norm": ("encoder.final_layernorm", "transformer.final_layernorm", "final_layernorm"),
    "mlm": ("lm_head", "output_layer"),  # its bias
    "mlm.dense": ("lm_head.dense",),
    "mlm.norm": ("lm_head.layernorm", "lm_head.layer_norm"),
    "pooler.dense": ("pooler.dense",),
    "order": ("binary_head",),
}
_BLOCK = {
    "attention_norm": ("input_layernorm", "self_attention.linear_qkv.layer_norm"),
    "attention.qkv": ("self_attention.query_key_value", "attention.query_key_value", "self_attention.linear_qkv"),
    "attention.output": ("self_attention.dense", "attention.dense", "self_attention.linear_proj"),
    "mlp_norm": ("post_attention_layernorm", "pre_mlp_layernorm", "mlp.linear_fc1.layer_norm"),
    "mlp.up": ("mlp.dense_h_to_4h", "mlp.linear_fc1"),
    "mlp.down": ("mlp.dense_4h_to_h", "mlp.linear_fc2"),
}
_OURS_OUTER = {name: ours for ours, names in _OUTER.items() for name in names}
_OURS_BLOCK = {name: ours for ours, names in _BLOCK.items() for name in names}
_WRAPPERS = re.compile(r"^(?:(?:module|model|bert_model|language_model)\.)+")
_LAYER = re.compile(r"^(?:(?:encoder|transformer)\.)?layers\.(\d{1,6})\.(.+)$")
_KIND = re.compile(r"^(.+)[._](weight|bias)$")  # `layer_norm_weight` where core fuses it with a projection
_COPIES = ("word_embeddings_for_head.weight", "output_layer.weight")  # of the word embedding
_QKV = re.compile(r"\.attention\.qkv\.(?:weight|bias)$")
_CUT = {  # our names -> the axis that is cut
    re.compile(r"\.(?:attention\.qkv|mlp\.up)\.(?:weight|bias)$|^encoder\.embeddings\.word\.weight$|^mlm\.bias$"): 0,
    re.compile(r"\.(?:attention\.output|mlp\.down)\.weight$"): 1,
}


def flatten(tree: Mapping[Any, Any]) -> dict[str, Tensor]:
    """Dotted name -> tensor, of dictionaries in dictionaries; what is neither is left out."""
    flat: dict[str, Tensor] = {}
    for name, value in tree.items():
        if not isinstance(name, str):
            continue
        if isinstance(value, Tensor):
            flat[name] = value
        elif isinstance(value, Mapping):
            flat |= {f"{name}.{inner}": tensor for inner, tensor in flatten(value).items()}
    return flat


def plain_name(name: str) -> str:
    """A dotted name without what may stand in front of it, such as `module.` and `language_model.`."""
    return _WRAPPERS.sub("", name)


def from_megatron(weights: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
    """Weights of a file under our names, as they are in the file: `join` brings rows into our order.

    Args:
        weights: dotted name -> tensor.

    Returns:
        Our name -> tensor, and the names in the file that are none of BERT's. A copy of the word embedding is neither.
    """
    state: dict[str, Tensor] = {}
    copies: dict[str, Tensor] = {}
    others: list[str] = []
    for name, value in weights.items():
        ours = _our_name(plain_name(name))
        if plain_name(name) in _COPIES:
            copies[name] = value
        elif ours is None or ours in state:
            others.append(name)
        else:
            state[ours] = value
    word = state.get(WORD)
    others += [name for name, value in copies.items() if word is None or not _equal(word, value)]
    return state, [name for name in others if not name.endswith("_extra_state")]


def to_megatron(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Our state under Megatron's names (of 2.x on), dotted, without `language_model.`; values as they are."""
    named: dict[str, Tensor] = {}
    for name, value in state.items():
        part, _, kind = name.rpartition(".")
        if part.startswith("encoder.blocks."):
            number, within = part.removeprefix("encoder.blocks.").split(".", 1)
            named[f"encoder.layers.{number}.{_BLOCK[within][0]}.{kind}"] = value
        else:
            named[f"{_OUTER[part][0]}.{kind}"] = value
    return named


def split_heads(rows: Tensor, version: float, heads: int) -> Tensor:
    """Rows of a query-key-value projection, [3 * heads * D, ...], in a version's order -> [3, heads, D, ...]."""
    rest = rows.shape[1:]
    if version == 0:
        return rows.reshape(3, heads, -1, *rest)
    if version == 1:
        return rows.reshape(heads, -1, 3, *rest).movedim(2, 0)
    return rows.reshape(heads, 3, -1, *rest).transpose(0, 1)


def join(path: str | Path, shards: Sequence[Mapping[str, Tensor]], version: float, heads: int) -> dict[str, Tensor]:
    """One state of ours from those of the tensor-parallel shards, in the order of their ranks; from a single one, too.

    Args:
        path: what they were read from, for errors.
        shards: as `from_megatron` returns them.
        version: one of `VERSIONS`.
        heads: of the whole model.

    Raises:
        InputError: the shards are not of one model, or heads and shapes do not fit.
    """
    count = len(shards)
    if heads % count:
        raise InputError(path, f"expected heads that divide among the {count} shards, found {heads}")
    joined: dict[str, Tensor] = {}
    for name in dict.fromkeys(name for shard in shards for name in shard):
        parts = [shard[name] for shard in shards if name in shard]
        if len(parts) < count:
            raise InputError(path, f"expected shards with the same weights, found {name!r} in {len(parts)} of {count}")
        shapes = [list(part.shape) for part in parts]
        if odd := next((shape for shape in shapes if shape != shapes[0]), None):
            rank = shapes.index(odd)
            raise InputError(
                path, f"expected shards of one shape, found {name!r} {shapes[0]} in rank 0 and {odd} in rank {rank}"
            )
        axis = _axis(name)
        if not (axis or 0) < parts[0].dim() <= 2 or not parts[0].numel():
            raise InputError(path, f"expected {name!r} to be a vector or a matrix, found shape {shapes[0]}")
        if _QKV.search(name):
            if len(parts[0]) % (3 * heads // count):
                found = f"{len(parts[0])} rows in a shard"
                raise InputError(path, f"expected queries, keys and values of {heads // count} heads, found {found}")
            local = [split_heads(part, version, heads // count) for part in parts]
            joined[name] = torch.cat(local, dim=1).flatten(0, 2)
        elif axis is not None:
            joined[name] = torch.cat(parts, dim=axis)
        elif different := [rank for rank, part in enumerate(parts) if not _equal(part, parts[0])]:
            raise InputError(path, f"expected shards of one model, found another {name!r} in rank {different[0]}")
        else:
            joined[name] = parts[0]
    return joined


def cut(state: Mapping[str, Tensor], count: int, heads: int) -> list[dict[str, Tensor]]:
    """The inverse of `join` for version 3.0: the shard of each rank, under our names; sizes divide by `count`."""
    shards: list[dict[str, Tensor]] = [{} for _ in range(count)]
    for name, value in state.items():
        if _QKV.search(name):
            value = value.unflatten(0, (3, heads, -1)).transpose(0, 1).flatten(0, 2)
        axis = _axis(name)
        parts = [value] * count if axis is None else value.chunk(count, dim=axis)
        for shard, part in zip(shards, parts, strict=True):
            # a view would be saved with all it is a view of
            shard[name] = part if axis is None else part.clone(memory_format=torch.contiguous_format)
    return shards


def _our_name(name: str) -> str | None:
    if (match := _KIND.match(name)) is None:
        return None
    part, kind = match.groups()
    if (layer := _LAYER.match(part)) is not None:
        within = _OURS_BLOCK.get(layer[2])
        return None if within is None else f"encoder.blocks.{int(layer[1])}.{within}.{kind}"
    ours = _OURS_OUTER.get(part)
    return None if ours is None else f"{ours}.{kind}"


def _axis(name: str) -> int | None:
    return next((axis for pattern, axis in _CUT.items() if pattern.search(name)), None)


def _equal(first: Tensor, second: Tensor) -> bool:
    return first.shape == second.shape and torch.equal(first, second)
