"""The kernels in plain PyTorch: on every device, in every type, and what the fused ones are tested against."""

import torch
import torch.nn.functional as F
from torch import Tensor


def gelu(x: Tensor, kind: str) -> Tensor:
    """GeLU, "tanh" or "erf" as in `ModelConfig.gelu`."""
    return F.gelu(x, approximate="tanh" if kind == "tanh" else "none")


def bias_gelu(x: Tensor, bias: Tensor, kind: str) -> Tensor:
    """See `kernels`."""
    return gelu(x + bias, kind)


def bias_dropout_add(x: Tensor, bias: Tensor, residual: Tensor, p: float, seed: int) -> Tensor:
    """See `kernels`; not `seed` but PyTorch's generator of the device decides."""
    return residual + F.dropout(x + bias, p)


def layer_norm(x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    """See `kernels`."""
    return F.layer_norm(x, x.shape[-1:], weight, bias, eps)


def masked_softmax(scores: Tensor, mask: Tensor | None, scale: float) -> Tensor:
    """See `kernels`."""
    scores = scores * scale
    if mask is None:
        return scores.softmax(-1)
    # not -inf: a row with nothing to attend to would have no gradient but NaN
    scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
    return scores.softmax(-1).masked_fill(~mask, 0)


def linear_cross_entropy(hidden: Tensor, weight: Tensor, bias: Tensor, labels: Tensor) -> Tensor:
    """See `kernels`; this one keeps the logits."""
    return F.cross_entropy(F.linear(hidden, weight, bias).float(), labels, reduction="sum")
