"""The one place where it is decided which implementation of an operation runs.

    bias_gelu(x, bias, kind)                                 gelu(x + bias)
    dropout(x, p)                                            zeros with probability p
    bias_dropout_add(x, bias, residual, p)                   residual + dropout(x + bias, p)
    bias_dropout_add_norm(x, bias, residual, p, norm)        the same sum, and its LayerNorm
    layer_norm(x, norm)                                      over the last dimension
    embedding(tokens, weight)                                rows of a weight
    masked_softmax(scores, mask, scale)                      softmax(scores * scale), masked keys 0
    linear_cross_entropy(hidden, weight, bias, labels)       mean cross-entropy of a vocabulary projection
    adam(groups, lr, betas, eps)                             the optimiser
    attention(qkv, bias, packed, heads, p)                   self-attention of sequences without padding

`use` chooses for the whole process, by the params' `kernels`:

- `auto`: Triton on CUDA, our C on a CPU, where they can be had; else plain PyTorch. The C is for fp32
  (other types: plain), Triton for any floating type.
- `torch`: plain PyTorch everywhere, the oracle of the tests.
- `triton`: Triton's, or an error that says why not. On a CPU this is Triton's interpreter, for tests.
- `apex`: NVIDIA's apex for LayerNorm, softmax and Adam, Triton's for the rest; or an error.

Notable: a dropout mask is a function of a seed and the element's place, computed again in the backward pass. The seed
is drawn from PyTorch's CPU generator, so `torch.manual_seed` decides everything and drawing it never waits for a GPU.
"""

import functools
from types import ModuleType
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from biomeg_lib.errors import BiomegError
from biomeg_lib.kernels import cpu, plain
from biomeg_lib.kernels.layout import Packed, Tie

Choice = Literal["auto", "torch", "triton", "apex"]

_choice: Choice = "auto"


def use(choice: Choice) -> None:
    """Choose the kernels of this process.

    Raises:
        BiomegError: they cannot be had here; it says why.
    """
    global _choice
    if choice not in get_args(Choice):
        raise BiomegError(f"kernels: expected one of {', '.join(get_args(Choice))}, found {choice!r}")
    why = {"triton": _triton_reason, "apex": _apex_reason}.get(choice, lambda: None)()
    if why:
        raise BiomegError(f"kernels: {choice} cannot be used here: {why}")
    _choice = choice


def resolved(device: torch.device) -> str:
    """What runs on a device: `cpu` (our C), `torch`, `triton` or `apex`."""
    if _choice == "auto" or (_choice != "torch" and device.type == "cpu" and torch.cuda.is_available()):
        if device.type == "cpu":
            return "torch" if cpu.reason() else "cpu"
        return "torch" if _triton_reason() else "triton"
    return _choice


def describe(device: torch.device) -> str:
    """One line on what runs on a device and, where it is plain PyTorch for want of better, why."""
    name = resolved(device)
    if _choice != "auto" or name != "torch":
        return f"kernels: {name}"
    return f"kernels: torch ({cpu.reason() if device.type == 'cpu' else _triton_reason()})"


@functools.cache
def _triton_reason() -> str | None:
    try:
        from biomeg_lib.kernels import triton_backend
    except ImportError as error:
        return f"{error}"
    return triton_backend.reason()


@functools.cache
def _apex_reason() -> str | None:
    from biomeg_lib.kernels import apex_backend

    return apex_backend.reason()


def _backend(x: Tensor) -> ModuleType:
    """The module whose functions take `x`."""
    name = resolved(x.device)
    if name == "cpu":
        usable = x.dtype == torch.float32 and not torch.is_autocast_enabled("cpu") and not torch.compiler.is_compiling()
        return cpu if usable else plain
    if name == "triton":
        from biomeg_lib.kernels import triton_backend

        return triton_backend
    if name == "apex":
        from biomeg_lib.kernels import apex_backend

        return apex_backend
    return plain


def _seed(p: float) -> int:
    # what is compiled has plain kernels, whose dropout is PyTorch's own
    return int(torch.randint(2**62, ())) if p > 0 and not torch.compiler.is_compiling() else 0


def bias_gelu(x: Tensor, bias: Tensor, kind: str) -> Tensor:
    """gelu(x + bias), `kind` "tanh" or "erf".

    Args:
        x: float[..., F].
        bias: float[F].
    """
    return _backend(x).bias_gelu(x, bias, kind)


def dropout(x: Tensor, p: float) -> Tensor:
    """Set elements of float[..., H] to 0 with probability `p`, scale the others by 1 / (1 - p)."""
    if p > 0 and _backend(x) is cpu:
        return cpu.dropout(x, p, _seed(p))
    return plain.dropout(x, p)


def bias_dropout_add(x: Tensor, bias: Tensor, residual: Tensor, p: float) -> Tensor:
    """residual + dropout(x + bias, p); 0 for `p` in evaluation.

    Args:
        x, residual: float[..., H].
        bias: float[H].
    """
    return _backend(x).bias_dropout_add(x, bias, residual, p, _seed(p))


def bias_dropout_add_norm(
    x: Tensor, bias: Tensor, residual: Tensor, p: float, norm: nn.LayerNorm
) -> tuple[Tensor, Tensor]:
    """`bias_dropout_add` and the LayerNorm of its result, both float[..., H]."""
    backend = _backend(x)
    if backend is cpu:
        return cpu.bias_dropout_add_norm(x, bias, residual, p, _seed(p), norm.weight, norm.bias, norm.eps)
    total = bias_dropout_add(x, bias, residual, p)
    return total, backend.layer_norm(total, norm.weight, norm.bias, norm.eps)


def layer_norm(x: Tensor, norm: nn.LayerNorm) -> Tensor:
    """LayerNorm of float[..., H] over H."""
    return _backend(x).layer_norm(x, norm.weight, norm.bias, norm.eps)


def masked_softmax(scores: Tensor, mask: Tensor | None, scale: float) -> Tensor:
    """softmax(scores * scale) over the last dimension; 0 where masked, and in rows where all is masked.

    Args:
        scores: float[B, A, T, S].
        mask: bool, broadcastable to `scores`, True where a key takes part; None for everywhere.
    """
    backend = _backend(scores)
    return (plain if backend is cpu else backend).masked_softmax(scores, mask, scale)


def embedding(tokens: Tensor, weight: Tensor, tie: Tie | None = None) -> Tensor:
    """Rows int64[N] of a weight float[V, H] -> float[N, H]; see `Tie`."""
    if tie is not None and _backend(weight) is cpu:
        return cpu.embedding(tokens, weight, tie)
    return nn.functional.embedding(tokens, weight)


def linear_cross_entropy(
    hidden: Tensor, weight: Tensor, bias: Tensor, labels: Tensor, tie: Tie | None = None
) -> Tensor:
    """Mean cross-entropy in nats of `hidden @ weight.T + bias`; 0 for no rows. Few logits are alive at a time.

    Args:
        hidden: float[M, H].
        weight: float[V, H].
        bias: float[V].
        labels: int64[M], each from 0 to V - 1.
        tie: for a weight that is also the `embedding` of the same loss.

    Returns:
        fp32 scalar.
    """
    if not len(labels):
        return (hidden.sum() + weight[:0].sum() + bias[:0].sum()).float() * 0
    backend = _backend(hidden)
    if backend is cpu:
        return cpu.linear_cross_entropy(hidden, weight, bias, labels, tie)
    return backend.linear_cross_entropy(hidden, weight, bias, labels) / len(labels)


def packs(x: Tensor, head_size: int, p: float) -> bool:
    """Whether `attention` can be had for tensors like `x`, heads of this size and attention dropout `p`."""
    if resolved(x.device) == "cpu":
        return _backend(x) is cpu and head_size % cpu.LANES == 0
    if x.device.type != "cuda" or resolved(x.device) == "torch" or p > 0:
        return False
    half = torch.is_autocast_enabled("cuda") or x.dtype in (torch.float16, torch.bfloat16)
    return half and head_size % 8 == 0 and head_size <= 256 and torch.cuda.get_device_capability(x.device) >= (8, 0)


def attention(qkv: Tensor, bias: Tensor, packed: Packed, heads: int, p: float, queries: Tensor | None = None) -> Tensor:
    """Scaled dot-product self-attention where `packs` is true.

    Args:
        qkv: float[N, 3H], all queries, all keys, all values, each of them head after head, without their bias.
        bias: float[3H].
        packed: where sequences begin and end.
        heads: how many.
        p: dropout of the attention probabilities.
        queries: float[R, H], for `packed.query_bounds`; then `qkv` is float[N, 2H] without them.

    Returns:
        float[N, H], or float[R, H].
    """
    if qkv.device.type == "cpu":
        return cpu.attention(queries, qkv, bias, packed, heads, p, _seed(p))
    from torch.nn.attention.varlen import varlen_attn

    hidden, asked = len(bias) // 3, packed.bounds if packed.query_bounds is None else packed.query_bounds
    bias = bias.to(qkv.dtype)
    if queries is None:
        query, key, value = (qkv + bias).split(hidden, dim=1)
    else:
        query = queries + bias[:hidden]
        key, value = (qkv + bias[hidden:]).split(hidden, dim=1)
    parts = (part.unflatten(1, (heads, -1)) for part in (query, key, value))
    return varlen_attn(*parts, asked, packed.bounds, packed.longest, packed.longest).flatten(1)


def adam(groups: list[dict[str, Any]], lr: float, betas: tuple[float, float], eps: float) -> torch.optim.Optimizer:
    """AdamW over parameter groups that have a `weight_decay` each: apex's where chosen, else PyTorch's fused one."""
    if _choice == "apex":
        from biomeg_lib.kernels import apex_backend

        optimizer = apex_backend.adam(groups, lr, betas, eps)
        if optimizer is not None:
            return optimizer
    return torch.optim.AdamW(groups, lr=lr, betas=betas, eps=eps, fused=True)
