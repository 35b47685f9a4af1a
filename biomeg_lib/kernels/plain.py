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


class _CPUDropout(torch.autograd.Function):
    """Dropout from 16 random bits an element, drawn 64 at a time: PyTorch draws its own slowly, 7 ns an element."""

    @staticmethod
    def forward(ctx, x: Tensor, p: float) -> Tensor:
        bits = torch.empty((x.numel() + 3) // 4, dtype=torch.int64).random_(-(2**63), None)
        keep = bits.view(torch.int16)[: x.numel()].view(x.shape) >= round(p * 2**16) - 2**15
        ctx.save_for_backward(keep)
        ctx.scale = 1 / (1 - p)
        return (x * keep).mul_(ctx.scale)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None]:
        (keep,) = ctx.saved_tensors
        return (gradient * keep).mul_(ctx.scale), None


def dropout(x: Tensor, p: float) -> Tensor:
    """Elements set to 0 with probability `p` (on a CPU to the nearest 2**-16), the others scaled by 1 / (1 - p)."""
    if p == 0:
        return x
    own = x.device.type == "cpu" and not torch.compiler.is_compiling()
    return _CPUDropout.apply(x, p) if own else F.dropout(x, p)


def bias_dropout_add(x: Tensor, bias: Tensor, residual: Tensor, p: float, seed: int) -> Tensor:
    """See `kernels`; not `seed` but PyTorch's generator of the device decides."""
    return residual + dropout(x + bias, p)


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
