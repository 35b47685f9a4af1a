"""The names of BERT's weights in Hugging Face's `transformers` and here: one table, read in both directions.

`Bert` is post-LN, `MegatronBert` pre-LN. Theirs have query, key and value apart, ours has them as one projection, in
this order. The decoder of the masked-LM head is the word embedding, which they store twice or not at all.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

DECODER = "cls.predictions.decoder.weight"
_QUERY_KEY_VALUE = ("query", "key", "value")
_EMBEDDINGS = {
    "encoder.embeddings.word": "bert.embeddings.word_embeddings",
    "encoder.embeddings.position": "bert.embeddings.position_embeddings",
    "encoder.embeddings.token_type": "bert.embeddings.token_type_embeddings",
}
_OUTER_NORM = {
    "pre": {"encoder.norm": "bert.encoder.ln"},
    "post": {"encoder.embeddings.norm": "bert.embeddings.LayerNorm"},
}
_BLOCK = {"attention.output": "attention.output.dense", "mlp.up": "intermediate.dense", "mlp.down": "output.dense"}
_BLOCK_NORMS = {
    "pre": {"attention_norm": "attention.ln", "mlp_norm": "ln"},
    "post": {"attention_norm": "attention.output.LayerNorm", "mlp_norm": "output.LayerNorm"},
}
_HEADS = {
    "mlm.dense": "cls.predictions.transform.dense",
    "mlm.norm": "cls.predictions.transform.LayerNorm",
    "pooler.dense": "bert.pooler.dense",
    "order": "cls.seq_relationship",
}


def to_hugging_face(state: Mapping[str, Tensor], norm: str) -> dict[str, Tensor]:
    """Our state dict of an encoder and the parts on it under their names, prefix `bert.` included.

    Args:
        state: names of `PretrainingModel`; parts may be missing; others, of classifiers, are an error.
        norm: "pre" for MegatronBert, "post" for Bert.
    """
    outer = _EMBEDDINGS | _OUTER_NORM[norm] | _HEADS
    inner = _BLOCK | _BLOCK_NORMS[norm]
    result: dict[str, Tensor] = {}
    for name, value in state.items():
        part, _, kind = name.rpartition(".")
        if name == "mlm.bias":
            result |= {"cls.predictions.bias": value, "cls.predictions.decoder.bias": value}
        elif part.startswith("encoder.blocks."):
            number, within = part.removeprefix("encoder.blocks.").split(".", 1)
            layer = f"bert.encoder.layer.{number}"
            if within == "attention.qkv":
                for own, rows in zip(_QUERY_KEY_VALUE, value.chunk(3), strict=True):
                    result[f"{layer}.attention.self.{own}.{kind}"] = rows
            else:
                result[f"{layer}.{inner[within]}.{kind}"] = value
        else:
            result[f"{outer[part]}.{kind}"] = value
    if "mlm.bias" in state:
        result[DECODER] = state["encoder.embeddings.word.weight"]
    return result


def from_hugging_face(state: Mapping[str, Tensor], norm: str) -> tuple[dict[str, Tensor], list[str]]:
    """The inverse, for names with the prefix `bert.`.

    Returns:
        Our names, and those of theirs that are none of an encoder's or of the parts on it, in order.
    """
    outer = {theirs: ours for ours, theirs in (_EMBEDDINGS | _OUTER_NORM[norm] | _HEADS).items()}
    inner = {theirs: ours for ours, theirs in (_BLOCK | _BLOCK_NORMS[norm]).items()}
    result: dict[str, Tensor] = {}
    apart: dict[str, dict[str, Tensor]] = {}  # our name of a projection -> query, key and value
    others: list[str] = []
    for name, value in state.items():
        part, _, kind = name.rpartition(".")
        layer, _, within = part.removeprefix("bert.encoder.layer.").partition(".")
        if name == "cls.predictions.bias":
            result["mlm.bias"] = value
        elif part in outer:
            result[f"{outer[part]}.{kind}"] = value
        elif not part.startswith("bert.encoder.layer.") or not layer.isdigit():
            others.append(name)
        elif within in inner:
            result[f"encoder.blocks.{layer}.{inner[within]}.{kind}"] = value
        elif within.removeprefix("attention.self.") in _QUERY_KEY_VALUE and within.startswith("attention.self."):
            own = within.removeprefix("attention.self.")
            apart.setdefault(f"encoder.blocks.{layer}.attention.qkv.{kind}", {})[own] = value
        else:
            others.append(name)
    for name, three in apart.items():
        if len(three) == len(_QUERY_KEY_VALUE):  # else it is missing, and named so by who checks
            result[name] = torch.cat([three[own] for own in _QUERY_KEY_VALUE])
    return result, others
