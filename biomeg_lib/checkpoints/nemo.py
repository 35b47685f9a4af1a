"""NeMo archives (`.nemo`), unpacked: Megatron's BERT, and task models on a Megatron or Hugging Face encoder.

An archive is a tar, packed or not, of

    model_config.yaml           the model's configuration; files of the archive are named in it as `nemo:NAME`
    model_weights.ckpt          the state dict, a PyTorch file; with tensor parallelism one in each `mp_rank_XX`
    <32 hexadecimal digits>_*   what the configuration names: vocabulary, an encoder's config.json

Notable, from NeMo's sources of 1.0 to 2.4:

- The rows of query, key and value are in the order of Megatron's checkpoint version 3.0; with `megatron_legacy`, and in
  archives of before 1.5, which have the version in a file of their own or not at all, in that of version 0.
- Feed-forward layers run the tanh approximation of GeLU where bias and GeLU are fused, which is the default; the
  masked-LM head runs the exact one all the same. Here a model has one GeLU, that of its layers, and a note says so.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from biomeg_lib.checkpoints import hugging_face, megatron_names
from biomeg_lib.checkpoints.checkpoint import Checkpoint, check_sharing
from biomeg_lib.checkpoints.pickles import brief, shown
from biomeg_lib.checkpoints.side_files import read_side_file, read_yaml_file
from biomeg_lib.checkpoints.tensors import read_torch
from biomeg_lib.errors import BiomegError, InputError
from biomeg_lib.model import ModelConfig
from biomeg_lib.vocab import Vocabulary

CONFIG, WEIGHTS = "model_config.yaml", "model_weights.ckpt"
_HEAD_SIZE = 64  # of Megatron-BERT in all published sizes
_RANK = re.compile(r"(?:mp_rank_(\d{2,4})|tp_rank_(\d{2,4})_pp_rank_(\d{3,4}))")
_TOKEN_TYPES = 2
# Names that NeMo gives to post-LN encoders alone: theirs -> those of `megatron_names`.
_POST_NAMES = {".post_att_layernorm.": ".input_layernorm.", ".post_mlp_layernorm.": ".post_attention_layernorm."}
_EMBEDDING_NORM = "encoder.initial_layernorm."
# `BERTLMModel`'s heads -> Hugging Face's.
_LM_HEADS = {
    "mlm_classifier.dense.": "cls.predictions.transform.dense.",
    "mlm_classifier.norm.": "cls.predictions.transform.LayerNorm.",
    "mlm_classifier.mlp.layer0.weight": "cls.predictions.decoder.weight",
    "mlm_classifier.mlp.layer0.bias": "cls.predictions.bias",
}
_ORDER_HEADS = {
    "nsp_classifier.mlp.layer0.": "bert_model.pooler.dense.",
    "nsp_classifier.mlp.layer2.": "cls.seq_relationship.",
}


def is_nemo(folder: Path) -> bool:
    """Whether a folder holds what a NeMo archive does, or a part of it."""
    return (folder / CONFIG).is_file() or (folder / WEIGHTS).is_file()


def read_nemo(folder: Path) -> Checkpoint:
    """The checkpoint in an unpacked archive.

    Raises:
        InputError: a file is missing or damaged, configuration and weights disagree, or the model is no BERT.
    """
    values = _read_config(folder / CONFIG)
    shards = _read_weights(folder, values)
    vocabulary, notes = _read_vocabulary(folder, values)
    if "bert_model.embeddings.word_embeddings.weight" in shards[0]:
        if len(shards) > 1:
            raise InputError(folder, f"expected one file of weights for this encoder, found {len(shards)} shards")
        encoder = _encoder_values(folder, values)
        kind = f"in a NeMo archive of {_class_name(values) or 'a task model'}"
        state = _with_heads(shards[0])
        return hugging_face.from_state(folder / WEIGHTS, state, encoder or None, vocabulary, kind, notes)
    return _from_megatron(folder, values, shards, vocabulary, notes)


def _read_config(path: Path) -> dict[str, Any]:
    values = read_yaml_file(path)
    if isinstance(values, dict) and isinstance(values.get("model"), dict):
        values = values["model"]  # the params of a whole experiment
    if not isinstance(values, dict):
        raise InputError(path, "expected a mapping of names to values")
    return values


def _read_weights(folder: Path, values: Mapping[str, Any]) -> list[dict[str, Tensor]]:
    """The state dict of each tensor-parallel rank; one if there is no parallelism."""
    ranks: dict[int, Path] = {}
    for path in sorted(folder.glob(f"*/{WEIGHTS}")):
        if (match := _RANK.fullmatch(path.parent.name)) is None:
            continue
        if int(match[3] or 0):
            raise InputError(folder, "expected a model in one piece or tensor-parallel shards, found pipeline stages")
        ranks[int(match[1] or match[2])] = path
    if (folder / WEIGHTS).is_file():
        ranks = {0: folder / WEIGHTS}
    elif (folder / "model_weights").is_dir():
        raise InputError(folder / "model_weights", f"expected {WEIGHTS}, found a distributed checkpoint: save it whole")
    elif not ranks:
        raise InputError(folder / WEIGHTS, "expected the weights of a NeMo model, found none")
    else:
        size = _number(folder, values, "tensor_model_parallel_size", int) or len(ranks)
        absent = next((rank for rank in range(size) if rank not in ranks), None)
        if absent is not None or len(ranks) != size:
            lacking = "" if absent is None else f" without rank {absent}"
            raise InputError(folder, f"expected {size} tensor-parallel shards, found {len(ranks)}{lacking}")
    shards = []
    for rank in sorted(ranks):
        state = read_torch(ranks[rank])
        if not isinstance(state, dict):
            raise InputError(ranks[rank], f"expected a mapping of names to tensors, found {type(state).__name__}")
        shards.append(megatron_names.flatten(state))
    check_sharing(folder, *shards)
    return shards


def _read_vocabulary(folder: Path, values: Mapping[str, Any]) -> tuple[Vocabulary | None, list[str]]:
    tokenizer = values.get("tokenizer")
    tokenizer = tokenizer if isinstance(tokenizer, dict) else {}
    named = [
        place.get(key)
        for place in (tokenizer, values)  # at the top in NeMo 1.7 and before
        for key in ("vocab_file", "model", "tokenizer_model")
    ]
    named = [name for name in named if isinstance(name, str) and name]
    paths = [path for name in named if (path := _member(folder, name)) is not None]
    if paths:
        return Vocabulary.load(paths[0], _lowercase(tokenizer)), []
    missing = [name for name in named if name.startswith("nemo:")]
    if missing:
        raise InputError(folder / CONFIG, f"expected the vocabulary {missing[0]!r} in the archive, found none")
    return None, ["the archive holds no vocabulary" + (f", only the name {named[0]!r}" if named else "")]


def _member(folder: Path, name: str) -> Path | None:
    """A file that the configuration names, if the archive has it; older ones name it by where it once was."""
    path = folder / Path(name.removeprefix("nemo:")).name
    return path if path.is_file() else None


def _lowercase(tokenizer: Mapping[str, Any]) -> bool | None:
    """Whether the tokeniser's name says that it lowers the case; None if it says nothing."""
    for key in ("type", "tokenizer_name"):
        name = tokenizer.get(key)
        name = name.lower() if isinstance(name, str) else ""
        if "uncased" in name or "lowercase" in name:
            return True
        if "cased" in name or name.endswith("case"):
            return False
    return None


def _encoder_values(folder: Path, values: Mapping[str, Any]) -> dict[str, Any]:
    """A task model's configuration of its encoder: within its own, or a file of the archive; empty if there is none."""
    described = values.get("language_model")
    described = described if isinstance(described, dict) else {}
    if isinstance(config := described.get("config"), dict) and config:
        return config
    name = described.get("config_file")
    if not isinstance(name, str) or not name:
        return {}
    path = _member(folder, name)
    if path is None:
        if name.startswith("nemo:"):
            raise InputError(folder / CONFIG, f"expected the encoder's {name!r} in the archive, found none")
        return {}
    config = read_side_file(path)
    if not isinstance(config, dict):
        raise InputError(path, "expected a mapping of names to values")
    return config


def _with_heads(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A state dict with the heads of `BERTLMModel` under Hugging Face's names."""
    names = dict(_LM_HEADS)
    if all(any(name.startswith(head) for name in state) for head in _ORDER_HEADS):
        names |= _ORDER_HEADS  # the encoder's own pooler has had no part in it
        state = {name: value for name, value in state.items() if not name.startswith("bert_model.pooler.")}
    renamed = {}
    for name, value in state.items():
        head = next((head for head in names if name.startswith(head)), None)
        renamed[name if head is None else names[head] + name.removeprefix(head)] = value
    return renamed


def _from_megatron(
    folder: Path,
    values: Mapping[str, Any],
    shards: list[dict[str, Tensor]],
    vocabulary: Vocabulary | None,
    notes: list[str],
) -> Checkpoint:
    _check_kind(folder, values, shards[0])
    on_task = any(name.startswith("bert_model.") for name in shards[0])
    described = {**_encoder_values(folder, values), **values} if on_task else values
    ours = [_our_names(folder, shard, on_task, notes) for shard in shards]
    old = any(re.search(r"\btransformer\.layers\.", name) for name in shards[0])
    version = _version(folder, values, old)
    heads = _number(folder, described, "num_attention_heads", int)
    hidden = _number(folder, described, "hidden_size", int) or _size(folder, ours[0], megatron_names.WORD, 1)
    if heads is None:
        if hidden % _HEAD_SIZE:
            raise InputError(folder / CONFIG, f"expected num_attention_heads, found none for {hidden} columns")
        heads = hidden // _HEAD_SIZE
        notes.append(f"the configuration has no num_attention_heads: {heads} heads of {_HEAD_SIZE} are assumed")
    if heads < 1:
        raise InputError(folder / CONFIG, f"expected num_attention_heads above 0, found {heads}")
    state = megatron_names.join(folder, ours, version, heads)
    if megatron_names.TOKEN_TYPE not in state:
        state[megatron_names.TOKEN_TYPE] = torch.zeros(_TOKEN_TYPES, _size(folder, state, megatron_names.WORD, 1))
        notes.append("trained without token types: their embedding is zero")
    gelu = _gelu(folder, described, old, notes)
    if gelu == "tanh" and "mlm.bias" in state and not described.get("openai_gelu"):
        notes.append("GeLU is the tanh approximation, in the masked-LM head, too, where NeMo has the exact one")
    config = _model_config(folder, described, state, heads, hidden, gelu, notes)
    origin = f"NeMo {_class_name(values) or 'model'}" + (f", {len(shards)} shards" if len(shards) > 1 else "")
    return Checkpoint.checked(folder / WEIGHTS, config, state, vocabulary, origin, notes)


def _check_kind(folder: Path, values: Mapping[str, Any], state: Mapping[str, Tensor]) -> None:
    """Refuse other models, of which NeMo's GPT has the same names of weights."""
    kind = _class_name(values)
    names = [megatron_names.plain_name(name) for name in state]
    is_bert = "bert" in kind.lower() if kind else any(n.startswith(("lm_head.", "binary_head.")) for n in names)
    if not is_bert and not any(name.startswith("bert_model.") for name in state):
        raise InputError(folder / CONFIG, f"expected a BERT model, found {kind or 'a model without its class'}")


def _our_names(folder: Path, state: Mapping[str, Tensor], on_task: bool, notes: list[str]) -> dict[str, Tensor]:
    renamed: dict[str, Tensor] = {}
    for name, value in state.items():
        for theirs, usual in _POST_NAMES.items():
            name = name.replace(theirs, usual)
        renamed[name] = value
    ours, others = megatron_names.from_megatron(renamed)
    for name in list(others):
        plain = megatron_names.plain_name(name)
        if plain.startswith(_EMBEDDING_NORM):
            ours[f"encoder.embeddings.norm.{plain.removeprefix(_EMBEDDING_NORM)}"] = renamed[name]
            others.remove(name)
    heads = [name for name in others if on_task and not name.startswith("bert_model.")]
    if strange := [name for name in others if name not in heads]:
        raise InputError(folder / WEIGHTS, f"expected the weights of a BERT encoder, found {strange[0]!r}")
    if heads:
        note = f"a head of a task is left out: {', '.join(sorted({name.split('.')[0] for name in heads}))}"
        notes += [note] if note not in notes else []
    return ours


def _version(folder: Path, values: Mapping[str, Any], old: bool) -> float:
    """Megatron's checkpoint version, which says how query, key and value are ordered."""
    path = next(iter(sorted(folder.glob("*megatron_checkpoint_version.json"))), None)
    if path is None:
        return 0.0 if old or values.get("megatron_legacy") else 3.0
    stored = read_side_file(path)
    version = stored.get("checkpoint_version") if isinstance(stored, dict) else None
    if version not in megatron_names.VERSIONS:
        known = ", ".join(map(str, megatron_names.VERSIONS))
        raise InputError(path, f'expected a "checkpoint_version" of {known}, found {shown(version)}')
    return float(version)


def _gelu(folder: Path, values: Mapping[str, Any], old: bool, notes: list[str]) -> str:
    activation = values.get("activation", "gelu")
    if activation != "gelu":
        raise InputError(folder / CONFIG, f"expected the activation 'gelu', found {shown(activation)}")
    if values.get("openai_gelu"):
        return "tanh"
    key = "bias_activation_fusion" if values.get("mcore_bert") else "bias_gelu_fusion"
    if isinstance(fused := values.get(key), bool):
        return "tanh" if fused else "erf"
    if old:
        notes.append("the configuration does not say which GeLU: the exact one, as in NeMo before 1.5, is assumed")
        return "erf"
    notes.append(f"the configuration has no {key}: NeMo's default, the tanh approximation of GeLU, is assumed")
    return "tanh"


def _model_config(
    folder: Path,
    values: Mapping[str, Any],
    state: Mapping[str, Tensor],
    heads: int,
    hidden: int,
    gelu: str,
    notes: list[str],
) -> ModelConfig:
    path = folder / CONFIG
    norms = {"pre_ln": "pre", "post_ln": "post"}
    for key, known in (
        ("transformer_block_type", ("pre_ln", *norms)),
        ("normalization", ("layernorm", "LayerNorm")),
        ("position_embedding_type", ("learned_absolute",)),
        ("kv_channels", (None, hidden // heads)),
    ):
        if (found := values.get(key, known[0])) not in known:
            wanted = " or ".join(str(name) for name in dict.fromkeys(known) if name is not None)
            raise InputError(path, f"expected {key} to be {wanted}, found {shown(found)}")
    epsilon = _number(folder, values, "layernorm_epsilon", float)
    if epsilon is None:
        epsilon = 1e-5
        notes.append("the configuration has no layernorm_epsilon: NeMo's default, 1e-5, is assumed")
    numbers = {int(match[1]) for name in state if (match := re.match(r"encoder\.blocks\.(\d+)\.", name))}
    try:
        return ModelConfig(
            layers=_number(folder, values, "num_layers", int) or len(numbers),
            hidden=hidden,
            heads=heads,
            vocab_size=_size(folder, state, megatron_names.WORD, 0),
            max_length=_number(folder, values, "max_position_embeddings", int)
            or _size(folder, state, megatron_names.POSITION, 0),
            token_types=_size(folder, state, megatron_names.TOKEN_TYPE, 0),
            norm=norms[values.get("transformer_block_type", "pre_ln")],
            gelu=gelu,
            intermediate=_number(folder, values, "ffn_hidden_size", int)
            or _size(folder, state, "encoder.blocks.0.mlp.up.weight", 0),
            dropout=_or(_number(folder, values, "hidden_dropout", float), 0.1),
            attention_dropout=_or(_number(folder, values, "attention_dropout", float), 0.1),
            norm_eps=epsilon,
            init_std=_or(_number(folder, values, "init_method_std", float), 0.02),
        )
    except InputError:
        raise
    except BiomegError as error:
        raise InputError(path, str(error)) from None


def _size(folder: Path, state: Mapping[str, Tensor], name: str, axis: int) -> int:
    if name not in state or state[name].dim() != 2:
        raise InputError(folder / WEIGHTS, f"expected the whole encoder, but {name!r} is missing or no matrix")
    return state[name].shape[axis]


def _number(folder: Path, values: Mapping[str, Any], key: str, kind: type) -> Any:
    """A number of the configuration; None if it has none, or one that only NeMo can work out.

    YAML takes 1e-5 for text. `${.encoder_seq_length}` stands for the value of another key.
    """
    value = values.get(key)
    if isinstance(value, str) and (match := re.fullmatch(r"\$\{\.*(?:model\.)?(\w+)\}", value)):
        value = values.get(match[1])
    if value is None or (isinstance(value, str) and "${" in value):
        return None
    try:
        if isinstance(value, bool) or (kind is int and isinstance(value, float) and value != int(value)):
            raise ValueError
        return kind(value)
    except (TypeError, ValueError, OverflowError):
        raise InputError(folder / CONFIG, f"expected {key} to be a number, found {shown(value)}") from None


def _class_name(values: Mapping[str, Any]) -> str:
    """Of the model that was saved: the last part of its full name; empty if it is not said."""
    target = values.get("target")
    name = target.rpartition(".")[2] if isinstance(target, str) else ""
    return brief(name) if name else ""


def _or(value: float | None, default: float) -> float:
    return default if value is None else value
