"""The shape of a model, and the named shapes of the paper.

Notable: the vocabulary size in here is the padded one (a multiple of 128 x tensor-parallel size), since it is what the
weights have; what is written to disk is `to_dict`, and `from_dict` refuses what it does not know.
"""

import dataclasses
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from biomeg_lib.errors import BiomegError

NORMS = ("pre", "post")
GELUS = ("tanh", "erf")
_COUNTS = 2**63  # what torch counts with ends below it


@dataclass(frozen=True)
class ModelConfig:
    """Everything the weights and the arithmetic of an encoder depend on.

    Args:
        layers, hidden, heads: depth, width and attention heads; `heads` divides `hidden`.
        vocab_size: rows of the word embedding, padding rows included.
        max_length: rows of the position embedding, the longest sequence in tokens.
        token_types: rows of the token-type (segment) embedding.
        norm: "pre", LayerNorm before each sub-layer and once at the end, as Megatron; or "post", LayerNorm after the
            embeddings and after each residual sum, as BERT.
        gelu: "tanh", the approximation of Megatron and of the original BERT; or "erf", the exact function, which
            BERT-family checkpoints are run with today.
        intermediate: width of the feed-forward layer; 4 x `hidden` unless given.
        dropout: after the embeddings and after each sub-layer.
        attention_dropout: on the attention probabilities.
        norm_eps: LayerNorm's epsilon; unless given 1e-5 for "pre" and 1e-12 for "post".
        init_std: standard deviation of the initial weights.

    Raises:
        BiomegError: a value that makes no model.
    """

    layers: int
    hidden: int
    heads: int
    vocab_size: int
    max_length: int = 512
    token_types: int = 2
    norm: str = "pre"
    gelu: str = "tanh"
    intermediate: int | None = None
    dropout: float = 0.1
    attention_dropout: float = 0.1
    norm_eps: float | None = None
    init_std: float = 0.02

    def __post_init__(self) -> None:
        if self.norm not in NORMS:
            raise BiomegError(f"model: norm must be one of {', '.join(NORMS)}, found {_brief(self.norm)}")
        if self.gelu not in GELUS:
            raise BiomegError(f"model: gelu must be one of {', '.join(GELUS)}, found {_brief(self.gelu)}")
        for name in ("layers", "hidden", "heads", "vocab_size", "max_length", "token_types"):
            _check_count(name, getattr(self, name))
        if self.intermediate is None:
            object.__setattr__(self, "intermediate", 4 * self.hidden)
        if self.norm_eps is None:
            object.__setattr__(self, "norm_eps", 1e-5 if self.norm == "pre" else 1e-12)
        _check_count("intermediate", self.intermediate)
        for name in ("dropout", "attention_dropout"):
            check_dropout(name, getattr(self, name))
        for name in ("norm_eps", "init_std"):
            value = getattr(self, name)
            if not _is_number(value) or value <= 0:
                raise BiomegError(f"model: {name} must be a number above 0, found {_brief(value)}")
        if self.hidden % self.heads:
            raise BiomegError(f"model: heads must divide hidden, found hidden {self.hidden} and heads {self.heads}")

    @property
    def head_size(self) -> int:
        """Width of one attention head."""
        return self.hidden // self.heads

    def to_dict(self) -> dict[str, Any]:
        """All fields, defaults filled in, as plain JSON values."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "ModelConfig":
        """The inverse of `to_dict`; fields that are absent take their defaults.

        Raises:
            BiomegError: an unknown or missing field, or a value that makes no model.
        """
        fields = dataclasses.fields(cls)
        unknown = sorted(set(values) - {field.name for field in fields})
        if unknown:
            raise BiomegError(f"model: unknown field {unknown[0]!r}, expected {', '.join(f.name for f in fields)}")
        missing = [f.name for f in fields if f.default is dataclasses.MISSING and f.name not in values]
        if missing:
            raise BiomegError(f"model: field {missing[0]!r} is missing")
        return cls(**values)


def _is_number(value: Any) -> bool:
    """Whether it is a number that a float holds; `math.isfinite` fails for integers that none does."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max


def _brief(value: Any) -> str:
    """A value that may come from anybody's file, cut to what a line has room for."""
    try:
        return repr(value)[:60]
    except (ValueError, RecursionError):  # integers of thousands of digits, lists within lists
        return "one too large to show"


def _check_count(name: str, value: Any) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 < value < _COUNTS:
        raise BiomegError(f"model: {name} must be a whole number above 0 and below 2**63, found {_brief(value)}")


def check_dropout(name: str, value: Any) -> None:
    """Raise BiomegError unless `value` is a probability below 1."""
    if not _is_number(value) or not 0 <= value < 1:
        raise BiomegError(f"model: {name} must be at least 0 and below 1, found {_brief(value)}")


def check_mesh(config: ModelConfig, data: int, tensor: int, batch: int) -> None:
    """Raise BiomegError, with the numbers, where a mesh does not divide what it is to share.

    Args:
        data, tensor: ranks of the mesh in each dimension.
        batch: sequences a step (or a micro-batch of it), of all data ranks together.
    """
    for what, size in (
        ("heads", config.heads),
        ("the width of the MLP", config.intermediate),
        ("the padded vocabulary", config.vocab_size),
    ):
        if size % tensor:
            raise BiomegError(f"parallel: tensor {tensor} does not divide {what}, {size:,}")
    if batch % data:
        raise BiomegError(f"parallel: {data} data ranks do not divide a batch of {batch}")


@dataclass(frozen=True)
class Preset:
    """A named shape, and where it is from; the vocabulary comes with the corpus, so it is not in here."""

    layers: int
    hidden: int
    heads: int
    source: str
    norm: str = "pre"
    gelu: str = "tanh"


PRESETS: dict[str, Preset] = {
    "tiny": Preset(2, 128, 2, "this study: laptop stand-in for the smallest size"),
    "mini": Preset(4, 256, 4, "this study: laptop stand-in for the middle size"),
    "small": Preset(4, 512, 8, "this study: laptop stand-in for the largest size"),
    "110m": Preset(12, 768, 12, "BERT-base, as BioBERT and PubMedBERT: post-LN", norm="post", gelu="erf"),
    "345m": Preset(24, 1024, 16, "Megatron-BERT 345m (Shoeybi et al. 2019), BioMegatron 345m (Shin et al. 2020)"),
    "800m": Preset(24, 1600, 20, "assumption of this study: Shin et al. 2020 give no shape for BioMegatron 800m"),
    "1.2b": Preset(24, 2048, 32, "Megatron-BERT 1.3b (Shoeybi et al. 2019): 1.21 billion parameters in its blocks"),
    "3.9b": Preset(48, 2560, 40, "Megatron-BERT 3.9b (Shoeybi et al. 2019)"),
    "8.3b": Preset(72, 3072, 24, "Megatron-LM 8.3b (Shoeybi et al. 2019), their GPT-2 shape as an encoder"),
}


def config_for(preset: str, vocab_size: int) -> ModelConfig:
    """The configuration of a named model.

    Args:
        preset: a key of `PRESETS`.
        vocab_size: the padded vocabulary size.

    Raises:
        BiomegError: no such name, with the names there are.
    """
    if preset not in PRESETS:
        raise BiomegError(f"model: unknown name {preset!r}, expected one of {', '.join(PRESETS)}")
    shape = dataclasses.asdict(PRESETS[preset])
    del shape["source"]
    return ModelConfig(vocab_size=vocab_size, **shape)


def count_parameters(config: ModelConfig) -> int:
    """Exact number of parameters of the pre-training model: heads and pooler included, the tied decoder counted once.

    Nothing is allocated: the model is built on PyTorch's meta device.
    """
    import torch  # here, since the modules of the model import this one

    from biomeg_lib.model.heads import PretrainingModel

    with torch.device("meta"):
        model = PretrainingModel(config)
    return sum(parameter.numel() for parameter in model.parameters())
