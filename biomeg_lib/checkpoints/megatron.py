"""Megatron-LM's BERT checkpoints, as `save_checkpoint` of Megatron-LM leaves them and as NVIDIA ships them.

    latest_checkpointed_iteration.txt     "release", or the number of the last iteration
    release/ or iter_0001000/
        mp_rank_00/model_optim_rng.pt     one folder a tensor-parallel shard; mp_rank_00_000 with pipeline stages
        mp_rank_01/model_optim_rng.pt

Read is any of these levels, or a file on its own. The shape is taken from the tensors; heads, GeLU and epsilon from the
args that files have had since 2020. Older ones have none: heads are then taken to be 64 wide, as in all that NVIDIA
has published, and GeLU to be the tanh approximation, as Megatron's was; a note says so.
"""

import math
import re
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from biomeg_lib.checkpoints.archives import DAMAGE
from biomeg_lib.checkpoints.checkpoint import Checkpoint, check_sharing
from biomeg_lib.checkpoints.megatron_names import (
    POSITION,
    TOKEN_TYPE,
    VERSIONS,
    WORD,
    flatten,
    from_megatron,
    join,
    plain_name,
)
from biomeg_lib.checkpoints.pickles import brief
from biomeg_lib.checkpoints.tensors import read_torch
from biomeg_lib.errors import BiomegError, InputError
from biomeg_lib.model import ModelConfig
from biomeg_lib.vocab import Vocabulary

TRACKER = "latest_checkpointed_iteration.txt"
_WEIGHTS = ("model_optim_rng.pt", "model_rng.pt")  # the second beside a distributed optimiser, 2022 to 2023
_LONGEST_TRACKER = 100  # characters
_RANK = re.compile(r"mp_rank_(\d{2,3})((?:_\d{3})*)")
_ITERATION = re.compile(r"release|iter_\d{7,}")
_MARKS = (b"language_model", b"checkpoint_version")  # one of them is in the pickle of each of Megatron's files
_LOOKED_AT = 1 << 24  # bytes of it
_HEAD_SIZE = 64
_TASK_HEADS = ("classification_head.", "multichoice_head.")
_LOWERS = {"BertWordPieceLowerCase": True, "BertWordPieceCase": False}  # tokenizer_type

# What makes another model of it, when its arg is set.
_FOREIGN = {
    "apply_residual_connection_post_layernorm": "residual connections that start after LayerNorm",
    "swiglu": "SwiGLU",
    "squared_relu": "squared ReLU",
    "use_rotary_position_embeddings": "rotary positions",
    "apply_layernorm_1p": "LayerNorm weights less 1",
    "untie_embeddings_and_output_weights": "a decoder of its own",
    "group_query_attention": "grouped-query attention",
    "disable_bias_linear": "projections without bias",
    "num_experts": "a mixture of experts",
}


def is_megatron(path: Path) -> bool:
    """Whether a file or folder is Megatron-LM's, a BERT or not. Of a file only the first megabytes are looked at."""
    if path.is_dir():
        return (
            (path / TRACKER).is_file()
            or _RANK.fullmatch(path.name) is not None
            or any(path.glob("mp_rank_*"))
            or any(_ITERATION.fullmatch(inner.parent.name) for inner in path.glob("*/mp_rank_*"))
            or any(map(_has_mark, path.glob("*.pt")))
        )
    return path.is_file() and _has_mark(path)


def looks_like_megatron(loaded: Any) -> bool:
    """Whether what a file of PyTorch's holds has the form of Megatron-LM's checkpoints, of a BERT or not."""
    if not isinstance(loaded, Mapping):
        return False
    model = loaded.get("model", loaded)
    return "checkpoint_version" in loaded or (isinstance(model, Mapping) and "language_model" in model)


def read_megatron(path: str | Path) -> Checkpoint:
    """The checkpoint at a path: a file, or the folder above it, above its shards, or above the iterations.

    A vocabulary is taken from the folders on the way: `vocab.txt`, another `*vocab*.txt`, or `*.model`.

    Raises:
        InputError: what is there is no BERT of Megatron-LM, or not all of it.
    """
    path = Path(path)
    files = _files(path)
    shards = [_read_shard(file) for file in files]
    first, count = shards[0], len(shards)
    for file, shard in zip(files, shards, strict=True):
        if shard.version != first.version:
            raise InputError(file, f"expected checkpoint version {first.version}, as rank 0, found {shard.version}")
    expected = _count(first.args, "tensor_model_parallel_size") or _count(first.args, "model_parallel_size") or count
    if expected != count:
        raise InputError(path, f"expected {expected} tensor-parallel shards, as its args say, found {count}")
    notes: list[str] = []
    _check_kind(path, first)
    heads = _heads(path, first, notes)
    _check_count(path, first.state, count)
    check_sharing(path, *(shard.state for shard in shards))
    state = join(path, [shard.state for shard in shards], first.version, heads)
    if TOKEN_TYPE not in state and WORD in state:
        state[TOKEN_TYPE] = state[WORD].new_zeros(2, state[WORD].shape[1])
        notes.append("trained without token types: their embedding is zero")
    notes += [f"a head of a task is left out: {name.split('.')[0]}" for name in first.others if name.endswith("weight")]
    config = _config(path, state, first.args, heads, notes)
    vocabulary = _vocabulary(files[0], first.args, notes)
    origin = f"Megatron-LM, checkpoint version {first.version}" + (f", {count} shards" if count > 1 else "")
    return Checkpoint.checked(path, config, state, vocabulary, origin, notes)


@dataclass(frozen=True)
class _Shard:
    """One file: weights under our names, in the file's order; names that are not BERT's; all names; args, if any."""

    state: dict[str, Tensor]
    others: list[str]
    names: list[str]
    version: float
    args: dict[str, Any]


def _read_shard(file: Path) -> _Shard:
    loaded = read_torch(file)
    if not looks_like_megatron(loaded):
        raise InputError(file, "expected a checkpoint of Megatron-LM, found other contents")
    if "model0" in loaded:
        raise InputError(file, "expected one pipeline stage, found several (virtual ones); merge them with Megatron-LM")
    version, args = loaded.get("checkpoint_version", 0), loaded.get("args")
    if isinstance(version, bool) or not isinstance(version, int | float) or version not in VERSIONS:
        known = ", ".join(map(str, VERSIONS))
        raise InputError(file, f"expected checkpoint version {known}, found '{brief(version)}'")
    model = loaded.get("model", loaded)
    weights = flatten(model) if isinstance(model, Mapping) else {}
    state, others = from_megatron(weights)
    return _Shard(state, others, [*weights], float(version), args if isinstance(args, dict) else {})


def _files(path: Path) -> list[Path]:
    """The file of each tensor-parallel rank, in order."""
    if path.is_file():
        path = path.resolve()
        if path.name not in _WEIGHTS or _RANK.fullmatch(path.parent.name) is None:
            return [path]
        folder = path.parent.parent
    elif _RANK.fullmatch(path.resolve().name):
        folder = path.resolve().parent
    else:
        folder = _iteration(path)
    found: dict[int, Path] = {}
    for inner in sorted(folder.glob("mp_rank_*")):
        if (match := _RANK.fullmatch(inner.name)) is None:
            continue
        rank = int(match[1])
        if rank in found or match[2].strip("_0"):
            raise InputError(folder, f"expected one pipeline stage, found {inner.name}; merge them with Megatron-LM")
        if (file := next((inner / name for name in _WEIGHTS if (inner / name).is_file()), None)) is None:
            raise InputError(inner, f"expected {' or '.join(_WEIGHTS)}, found neither")
        found[rank] = file
    if not found:
        if len(alone := [file for file in sorted(folder.glob("*.pt")) if _has_mark(file)]) == 1:
            return alone
        raise InputError(folder, "expected the folders mp_rank_*, or one file of Megatron-LM's, found neither")
    if missing := [rank for rank in range(max(found)) if rank not in found]:
        raise InputError(folder, f"expected tensor-parallel shards 0 to {max(found)}, found none of rank {missing[0]}")
    return [found[rank] for rank in sorted(found)]


def _iteration(folder: Path) -> Path:
    """The folder of the iteration to read: of the root the one that the tracker names, else the only one."""
    if (folder / TRACKER).is_file():
        try:
            with open(folder / TRACKER, encoding="ascii") as stream:
                said = stream.read(_LONGEST_TRACKER).strip()
            inner = folder / ("release" if said == "release" else f"iter_{int(said):07d}")
        except ValueError:
            raise InputError(folder / TRACKER, "expected 'release' or a number, found something else") from None
        if not inner.is_dir():
            raise InputError(folder / TRACKER, f"expected the folder {inner.name} beside it, found none")
        if (inner / ".metadata").is_file():
            raise InputError(inner, "expected mp_rank_* folders, found a distributed checkpoint; save it as torch")
        return inner
    inside = [inner for inner in sorted(folder.glob("*")) if _ITERATION.fullmatch(inner.name) and inner.is_dir()]
    if len(inside) > 1:
        raise InputError(folder, f"expected {TRACKER} to choose by, found {inside[0].name} and others without it")
    return inside[0] if inside else folder


def _has_mark(file: Path) -> bool:
    try:
        if not zipfile.is_zipfile(file):  # PyTorch before 1.6
            with file.open("rb") as stream:
                start = stream.read(_LOOKED_AT)
        else:
            with zipfile.ZipFile(file) as archive:
                record = next((record for record in archive.infolist() if record.filename.endswith("data.pkl")), None)
                if record is None or record.compress_type != zipfile.ZIP_STORED:
                    return False
                with archive.open(record) as stream:
                    start = stream.read(_LOOKED_AT)
    except (OSError, *DAMAGE):
        return False
    return any(mark in start for mark in _MARKS)


def _check_kind(path: Path, shard: _Shard) -> None:
    """Raise InputError unless it is a BERT, and one of the kind that we have."""
    names = [plain_name(name) for name in shard.names]
    if any(name.startswith("decoder.") or ".inter_attention." in name for name in names):
        both = any(name.startswith("encoder.") for name in names)
        raise InputError(path, f"expected a BERT, found {'a T5: encoder and decoder' if both else 'a GPT: a decoder'}")
    if not any(name == TOKEN_TYPE or name.startswith(("mlm.", "pooler.")) for name in shard.state):
        found = "a GPT: no token types, no pooler, no masked-LM head" if WORD in shard.state else "no word embedding"
        raise InputError(path, f"expected a BERT, found {found}")
    strange = [name for name in shard.others if not plain_name(name).startswith(_TASK_HEADS)]
    if strange:
        raise InputError(path, f"expected the weights of a BERT, found {strange[0]!r}")
    args = shard.args
    for name, title in _FOREIGN.items():
        if isinstance(args.get(name), int) and args[name]:
            raise InputError(path, f"expected the BERT of Megatron-LM, found one with {title} ({name})")
    if args.get("add_bias_linear") is False:
        raise InputError(path, "expected the BERT of Megatron-LM, found one with projections without bias")
    for name, known in {"normalization": "LayerNorm", "position_embedding_type": "learned_absolute"}.items():
        if isinstance(args.get(name), str) and args[name] != known:
            raise InputError(path, f"expected the {name} {known}, found {args[name]!r}")


def _heads(path: Path, shard: _Shard, notes: list[str]) -> int:
    if heads := _count(shard.args, "num_attention_heads"):
        return heads
    hidden = shard.state[WORD].shape[-1] if WORD in shard.state and shard.state[WORD].dim() == 2 else 0
    if not hidden or hidden % _HEAD_SIZE:
        raise InputError(path, f"expected args that tell the number of heads, found none, and {hidden} columns")
    heads = hidden // _HEAD_SIZE
    notes.append(f"the file has no args: {heads} heads of {_HEAD_SIZE}, tanh GeLU and epsilon 1e-5 are assumed")
    return heads


def _check_count(path: Path, state: Mapping[str, Tensor], count: int) -> None:
    """Raise InputError if the rows of a projection show that there are more shards, or fewer."""
    norm, bias = state.get("encoder.norm.weight"), state.get("encoder.blocks.0.attention.qkv.bias")
    if norm is None or bias is None or not bias.numel() or (3 * norm.numel()) % bias.numel():
        return  # what is wrong with it, others say
    expected = 3 * norm.numel() // bias.numel()
    if expected != count:
        raise InputError(path, f"expected {expected} tensor-parallel shards, as its shapes say, found {count}")


def _config(
    path: Path, state: Mapping[str, Tensor], args: Mapping[str, Any], heads: int, notes: list[str]
) -> ModelConfig:
    """What the tensors show, and of the rest what the args say."""
    needed = (WORD, POSITION, TOKEN_TYPE, "encoder.blocks.0.mlp.up.weight")
    for name in needed:
        if name not in state or state[name].dim() != 2:
            raise InputError(path, f"expected the whole encoder, but {name!r} is missing or no matrix")
    word, position, types, up = (state[name].shape for name in needed)
    values = {
        "layers": 1 + max(int(name.split(".")[2]) for name in state if name.startswith("encoder.blocks.")),
        "hidden": word[1],
        "vocab_size": word[0],
        "max_length": position[0],
        "token_types": types[0],
        "intermediate": up[0],
    }
    said = {
        "layers": "num_layers",
        "hidden": "hidden_size",
        "vocab_size": "padded_vocab_size",
        "max_length": "max_position_embeddings",
        "intermediate": "ffn_hidden_size",
    }
    for name, arg in said.items():
        if (wanted := _count(args, arg)) and wanted != values[name]:
            raise InputError(path, f"expected {arg} {wanted}, as its args say, found {values[name]} in its tensors")
    if (channels := _count(args, "kv_channels")) and channels * heads != word[1]:
        raise InputError(path, f"expected heads of {word[1]} / {heads} columns, found kv_channels {channels}")
    options = {
        "norm_eps": ("layernorm_epsilon", "norm_epsilon"),
        "dropout": ("hidden_dropout",),
        "attention_dropout": ("attention_dropout",),
        "init_std": ("init_method_std",),
    }
    for name, alternatives in options.items():
        found = [float(args[arg]) for arg in alternatives if isinstance(args.get(arg), int | float)]
        if found and math.isfinite(found[0]):
            values[name] = found[0]
    try:
        return ModelConfig(heads=heads, norm="pre", gelu=_gelu(args, notes), **values)
    except BiomegError as error:
        raise InputError(path, str(error)) from None


def _gelu(args: Mapping[str, Any], notes: list[str]) -> str:
    """As Megatron decides: the fused kernel and OpenAI's function are the tanh approximation, else it is exact."""
    if not args or args.get("openai_gelu"):
        return "tanh"
    if not args.get("bias_gelu_fusion"):
        return "erf"
    notes.append("GeLU is the tanh approximation, in the masked-LM head, too, where Megatron has the exact one")
    return "tanh"


def _vocabulary(file: Path, args: Mapping[str, Any], notes: list[str]) -> Vocabulary | None:
    """The vocabulary in the first of the folders from the file's up to the checkpoint's that holds one."""
    folders = [file.parent]
    if _RANK.fullmatch(file.parent.name):
        folders.append(file.parent.parent)
        if _ITERATION.fullmatch(file.parent.parent.name):
            folders.append(file.parent.parent.parent)
    kind = args.get("tokenizer_type")
    lowercase = _LOWERS.get(kind) if isinstance(kind, str) else None
    for folder in folders:
        if (folder / "vocabulary" / "vocab.json").is_file():
            return Vocabulary.load(folder / "vocabulary")
        for pattern in ("vocab.txt", "*vocab*.txt", "*.model"):
            found = [entry for entry in sorted(folder.glob(pattern)) if entry.is_file()]
            if len(found) > 1:
                names = ", ".join(entry.name for entry in found)
                notes.append(f"more than one vocabulary is beside it, none is taken: {names}")
                return None
            if found:
                return Vocabulary.load(found[0], lowercase)
    return None


def _count(args: Mapping[str, Any], name: str) -> int | None:
    """A whole number above 0 of the args, if they have it."""
    value = args.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None
