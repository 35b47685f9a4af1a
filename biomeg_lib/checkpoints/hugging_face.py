"""Checkpoints in Hugging Face's layout: a folder, or a file of weights alone; BERT and MegatronBERT.

Read are safetensors and `.bin`, whole or in parts with an index; names with and without the prefix `bert.`, old
`gamma` and `beta`; without pooler or masked-LM head; the folders of sentence-transformers. Whether LayerNorm comes
before or after is told by the weights; GeLU variant and epsilon by config.json, and a note says where there is none.
"""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from biomeg_lib.checkpoints.checkpoint import Checkpoint, check_sharing
from biomeg_lib.checkpoints.hugging_face_names import DECODER, from_hugging_face
from biomeg_lib.checkpoints.pickles import shown
from biomeg_lib.checkpoints.side_files import read_side_file
from biomeg_lib.checkpoints.tensors import read_state
from biomeg_lib.checkpoints.vocabularies import vocabulary_beside
from biomeg_lib.errors import BiomegError, InputError
from biomeg_lib.model import ModelConfig
from biomeg_lib.vocab import Vocabulary

WEIGHTS = ("model.safetensors", "pytorch_model.bin")  # the first that is there is read
CONFIG = "config.json"
_GELUS = {
    "gelu": "erf",
    "gelu_python": "erf",
    "gelu_new": "tanh",
    "gelu_fast": "tanh",
    "gelu_pytorch_tanh": "tanh",
}
_KINDS = {"bert": "post", "megatron-bert": "pre"}  # model_type -> where LayerNorm is
_WORD = "embeddings.word_embeddings.weight"
_HEAD_SIZE = 64  # of BERT and Megatron-BERT in all published sizes
# Weights that only another architecture has, and its name.
_FOREIGN = {
    r"(^|\.)wte\.weight$|\.attn\.c_attn\.": "GPT-2",
    r"(^|\.)(q_lin|sa_layer_norm)\.": "DistilBERT",
    r"(^|\.)albert_layer_groups\.": "ALBERT",
    r"(^|\.)SelfAttention\.q\.": "T5",
    r"(^|\.)self_attn\.(q_proj|k_proj)\.": "a decoder such as LLaMA or OPT",
    r"(^|\.)(query_proj|rel_embeddings)\.": "DeBERTa",
    r"(^|\.)attn\.Wqkv\.": "ModernBERT",
}


def is_hugging_face(folder: Path) -> bool:
    """Whether a folder has weights, or an index of them, under the usual names, or is one of sentence-transformers."""
    names = [name for weights in WEIGHTS for name in (weights, f"{weights}.index.json")]
    return any((folder / name).is_file() for name in [*names, "modules.json"])


def read_folder(folder: Path) -> Checkpoint:
    """A checkpoint's folder.

    Raises:
        InputError: what is there is not a BERT encoder, or is damaged.
    """
    folder = _transformer_of(folder)
    path = next((folder / name for name in WEIGHTS if (folder / name).is_file()), None)
    if path is not None:
        return read_file(path)
    for name in WEIGHTS:
        index = folder / f"{name}.index.json"
        if index.is_file():
            return _with_config(index, _read_parts(index), f"{_format(name)} in parts")
    raise InputError(folder, f"expected {' or '.join(WEIGHTS)}, found neither")


def read_file(path: Path, state: Any = None) -> Checkpoint:
    """A file of weights, with config.json and vocabulary from beside it, if they are there.

    Args:
        state: what the file holds, if it has been read.
    """
    return _with_config(path, read_state(path) if state is None else state, _format(path.name))


def from_state(
    path: str | Path,
    state: Mapping[str, Any],
    values: Mapping[str, Any] | None,
    vocabulary: Vocabulary | None,
    file_format: str,
    notes: Iterable[str] = (),
) -> Checkpoint:
    """A checkpoint from weights under Hugging Face's names.

    Args:
        path: for errors.
        values: of config.json; None where there is none, so that what weights do not show is assumed and noted.
        file_format: of the weights, for people.
    """
    notes = list(notes)
    named = _plain_names(path, state)
    check_sharing(path, named)
    norm = "pre" if "bert.encoder.ln.weight" in named else "post"
    if values is None:
        values, assumed = _guessed(path, named)
        notes.append(assumed)
    kind = "MegatronBert" if norm == "pre" else "Bert"
    config = _config(path, values, norm, named)
    try:
        ours, others = from_hugging_face(named, norm)
    except RuntimeError:
        raise InputError(path, "expected query, key and value of one kind and shape, found others") from None
    heads = [name for name in others if not name.startswith("bert.")]
    strange = [name for name in others if name.startswith("bert.")]
    if strange:
        raise InputError(path, f"expected the weights of a {kind}, found {strange[0]!r}: another architecture?")
    if (decoder := named.get(DECODER)) is not None and not _same(decoder, named[f"bert.{_WORD}"]):
        ours = {name: value for name, value in ours.items() if not name.startswith("mlm.")}
        notes.append("the masked-LM head has a decoder of its own, not the word embedding, and is left out")
    if "classifier.weight" in named and _is_identity(ours.get("pooler.dense.weight")):
        # `biomeg export` puts one before the classifier, where their class wants a pooler and ours has none
        ours = {name: value for name, value in ours.items() if not name.startswith("pooler.")}
    if left := sorted({name.split(".")[0] for name in heads if not name.startswith("cls.predictions.decoder.")}):
        notes.append(f"a head of a task is left out: {', '.join(left)}")
    architecture = values.get("architectures")
    name = architecture[0] if isinstance(architecture, list) and architecture else f"{kind}Model"
    return Checkpoint.checked(path, config, ours, vocabulary, f"Hugging Face {name}, {file_format}", notes)


def _with_config(path: Path, state: Any, file_format: str) -> Checkpoint:
    values = read_side_file(path.parent / CONFIG) if (path.parent / CONFIG).is_file() else None
    if values is not None and not isinstance(values, dict):
        raise InputError(path.parent / CONFIG, "expected a mapping of names to values")
    if not isinstance(state, dict):
        raise InputError(path, f"expected a mapping of names to tensors, found {type(state).__name__}")
    return from_state(path, state, values, vocabulary_beside(path), file_format)


def _transformer_of(folder: Path) -> Path:
    """The folder of the encoder: of sentence-transformers' modules, that of the first one."""
    if not (folder / "modules.json").is_file():
        return folder
    modules = read_side_file(folder / "modules.json")
    try:
        inside = next(module["path"] for module in modules if module["type"].endswith(".Transformer"))
        if not isinstance(inside, str) or not re.fullmatch(r"[\w-]*", inside):
            raise TypeError
    except (StopIteration, KeyError, TypeError, AttributeError):
        raise InputError(
            folder / "modules.json", "expected modules of sentence-transformers, a Transformer in a folder among them"
        ) from None
    return folder / inside


def _read_parts(index: Path) -> dict[str, Tensor]:
    """The weights that an index points to, from all its files.

    Raises:
        InputError: a file is missing, or one lacks a weight that the index puts there.
    """
    values = read_side_file(index)
    places = values.get("weight_map") if isinstance(values, dict) else None
    if not isinstance(places, dict) or not all(isinstance(name, str) for name in places.values()):
        raise InputError(index, 'expected a "weight_map" of names to files')
    state: dict[str, Tensor] = {}
    wanted: dict[str, list[str]] = {}
    for name, file in places.items():
        wanted.setdefault(file, []).append(name)
    for file in sorted(wanted):
        if Path(file).name != file:
            raise InputError(index, f"expected names of files beside it, found {shown(file)}")
        part = read_state(index.parent / file)
        if not isinstance(part, dict):
            raise InputError(index.parent / file, f"expected names and tensors, found {type(part).__name__}")
        for name in wanted[file]:
            if name not in part:
                raise InputError(index.parent / file, f"expected {name!r} in it, as {index.name} says")
            state[name] = part[name]
    return state


def _plain_names(path: str | Path, state: Mapping[str, Any]) -> dict[str, Tensor]:
    """Weights with today's names and the prefix `bert.`, without buffers.

    Raises:
        InputError: these are no weights of a BERT.
    """
    prefixes = [name.removesuffix(_WORD) for name in state if isinstance(name, str) and name.endswith(_WORD)]
    if len(prefixes) != 1 or "roberta." in prefixes[0]:
        raise InputError(path, f"expected the weights of a BERT encoder, found {_foreign(state)}")
    prefix = prefixes[0]
    outside = prefix.removesuffix("bert.")  # of what is not the encoder's, such as `module.`
    named: dict[str, Tensor] = {}
    for name, value in state.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            continue  # counters and names that old checkpoints have beside the weights
        own = name.removeprefix(prefix) if name.startswith(prefix) else None
        if prefix in ("", outside):  # the encoder's names have no prefix of their own
            heads = own is not None and own.split(".")[0] in ("cls", "classifier", "qa_outputs")
            name = name if own is None or heads else f"bert.{own}"
        else:
            name = name.removeprefix(outside) if own is None else f"bert.{own}"
        name = re.sub(r"\.gamma$", ".weight", re.sub(r"\.beta$", ".bias", name))
        if not name.endswith(("position_ids", "embeddings.token_type_ids")):
            named[name] = value
    return named


def _foreign(state: Mapping[str, Any]) -> str:
    """What weights without BERT's embedding are, in words."""
    names = [name for name in state if isinstance(name, str)]
    for pattern, architecture in _FOREIGN.items():
        if any(re.search(pattern, name) for name in names):
            return f"those of {architecture}"
    if any("roberta." in name for name in names):
        return "those of RoBERTa"
    return f"{names[0]!r} and {len(names) - 1} more" if names else "nothing"


def _config(path: str | Path, values: Mapping[str, Any], norm: str, named: Mapping[str, Tensor]) -> ModelConfig:
    kind = values.get("model_type", "bert" if norm == "post" else "megatron-bert")
    if not isinstance(kind, str) or kind not in _KINDS:
        raise InputError(path, f"expected a model_type of {' or '.join(_KINDS)}, found {shown(kind)}")
    if _KINDS[kind] != norm:
        raise InputError(path, f"expected weights of a {kind}, found LayerNorms where the other kind has them")
    if values.get("position_embedding_type", "absolute") != "absolute":
        raise InputError(path, f"expected absolute positions, found {shown(values['position_embedding_type'])}")
    activation = values.get("hidden_act", "gelu")
    if not isinstance(activation, str) or activation not in _GELUS:
        raise InputError(path, f"expected a hidden_act of {', '.join(_GELUS)}, found {shown(activation)}")
    rows = named[f"bert.{_WORD}"].shape[0] if named[f"bert.{_WORD}"].dim() else 0
    if "vocab_size" in values and values["vocab_size"] != rows:
        wanted = shown(values["vocab_size"])
        raise InputError(path, f"expected {wanted} rows of word embeddings, as config says, found {rows}")
    try:
        return ModelConfig(
            layers=values.get("num_hidden_layers", 12),
            hidden=values.get("hidden_size", 768),
            heads=values.get("num_attention_heads", 12),
            vocab_size=rows,
            max_length=values.get("max_position_embeddings", 512),
            token_types=values.get("type_vocab_size", 2),
            norm=norm,
            gelu=_GELUS[activation],
            intermediate=values.get("intermediate_size", 3072),
            dropout=values.get("hidden_dropout_prob", 0.1),
            attention_dropout=values.get("attention_probs_dropout_prob", 0.1),
            norm_eps=values.get("layer_norm_eps", 1e-12),
            init_std=values.get("initializer_range", 0.02),
        )
    except BiomegError as error:
        raise InputError(path, str(error)) from None


def _guessed(path: str | Path, named: Mapping[str, Tensor]) -> tuple[dict[str, Any], str]:
    """What weights alone show of a config, and a note about what they do not."""
    word, position, types, up = (
        named.get(f"bert.{name}")
        for name in (
            _WORD,
            "embeddings.position_embeddings.weight",
            "embeddings.token_type_embeddings.weight",
            "encoder.layer.0.intermediate.dense.weight",
        )
    )
    if any(value is None or value.dim() != 2 for value in (word, position, types, up)):
        raise InputError(path, "expected embeddings and layers of a BERT encoder, found only a part of them")
    hidden = word.shape[1]
    if hidden % _HEAD_SIZE:
        raise InputError(path, f"expected {CONFIG} beside it: of {hidden} columns nothing shows the attention heads")
    layers = {match[1] for name in named if (match := re.match(r"bert\.encoder\.layer\.(\d+)\.", name))}
    values = {
        "num_hidden_layers": len(layers),
        "hidden_size": hidden,
        "num_attention_heads": hidden // _HEAD_SIZE,
        "max_position_embeddings": position.shape[0],
        "type_vocab_size": types.shape[0],
        "intermediate_size": up.shape[0],
    }
    assumed = f"no {CONFIG}: {hidden // _HEAD_SIZE} heads of {_HEAD_SIZE}, exact GeLU and epsilon 1e-12 are assumed"
    return values, assumed


def _same(first: Tensor, second: Tensor) -> bool:
    return first.shape == second.shape and torch.equal(first, second)


def _is_identity(weight: Tensor | None) -> bool:
    """Whether a square matrix is a multiple of the identity, as no trained one is."""
    if weight is None or weight.dim() != 2 or weight.shape[0] != weight.shape[1] or not len(weight):
        return False
    return torch.equal(weight, weight[0, 0] * torch.eye(len(weight), dtype=weight.dtype))


def _format(name: str) -> str:
    return "safetensors" if name.endswith(".safetensors") else "PyTorch"
