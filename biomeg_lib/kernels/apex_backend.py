"""NVIDIA's apex where it has a kernel: LayerNorm, masked softmax, Adam. The rest is Triton's, or plain PyTorch's.

Notable: PyPI's `apex` is another project, so apex is known by its submodules and compiled extensions, not by its name.
Its masked softmax is called by the extension, which outlived `apex.transformer`; it is for fp16 and bf16 alone, counts
True as masked, rounds the scale to the type of the scores, and gives masked keys a score of -10,000, so that scaled
scores must stay well above that. What is outside its limits goes the way of the rest. Rows with nothing to attend to
are 0 since apex of August 2022.
"""

import functools
import importlib
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from biomeg_lib.kernels import plain, triton_backend

_LONGEST = 2048  # keys of the softmax kernel in every version; later ones take more


def reason() -> str | None:
    """None where apex can run, otherwise one line that says why it cannot."""
    if _module("apex.normalization.fused_layer_norm") is None:
        return "NVIDIA's apex is not installed (PyPI's apex is another project)"
    if _module("fused_layer_norm_cuda") is None:
        return "apex was built without its CUDA extensions"
    return None if torch.cuda.is_available() else "there is no CUDA device"


def bias_gelu(x: Tensor, bias: Tensor, kind: str) -> Tensor:
    """gelu(x + bias); apex has no such kernel."""
    return _rest().bias_gelu(x, bias, kind)


def bias_dropout_add(x: Tensor, bias: Tensor, residual: Tensor, p: float, seed: int) -> Tensor:
    """residual + dropout(x + bias); apex has no such kernel."""
    return _rest().bias_dropout_add(x, bias, residual, p, seed)


def linear_cross_entropy(hidden: Tensor, weight: Tensor, bias: Tensor, labels: Tensor) -> Tensor:
    """The sum of the cross-entropies of hidden @ weight.T + bias; apex has no such kernel."""
    return _rest().linear_cross_entropy(hidden, weight, bias, labels)


def layer_norm(x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    """LayerNorm over the last dimension: float[..., H], float[H], float[H] -> float[..., H] of x's dtype."""
    norms = _module("apex.normalization.fused_layer_norm")
    kinds = (x.dtype, weight.dtype, bias.dtype)
    if norms is None or not _on_gpu(x) or torch.float64 in kinds:
        return _rest().layer_norm(x, weight, bias, eps)
    shape = list(weight.shape)
    with torch.autocast(x.device.type, enabled=False):  # under it, apex would round the weights
        if len(set(kinds)) == 1:
            return norms.fused_layer_norm_affine(x, weight, bias, shape, eps)
        if weight.dtype == bias.dtype == torch.float32:  # the result is of the weights' type
            return norms.mixed_dtype_fused_layer_norm_affine(x, weight, bias, shape, eps).to(x.dtype)
    return _rest().layer_norm(x, weight, bias, eps)


def masked_softmax(scores: Tensor, mask: Tensor | None, scale: float) -> Tensor:
    """softmax(scores * scale) over the keys that take part, see `triton_rows.masked_softmax`."""
    if mask is None or not _takes(scores, mask, scale):
        return _rest().masked_softmax(scores, mask, scale)
    batch, _, queries, keys = scores.shape
    return _MaskedSoftmax.apply(scores, (~mask).expand(batch, 1, queries, keys).contiguous(), scale)


def adam(
    groups: list[dict[str, Any]], lr: float, betas: tuple[float, float], eps: float
) -> torch.optim.Optimizer | None:
    """apex's AdamW over parameter groups with a `weight_decay` each; None where apex lacks it or one is not on CUDA."""
    optimizers = _module("apex.optimizers")
    on_gpu = all(_on_gpu(parameter) for group in groups for parameter in group["params"])
    if optimizers is None or _module("amp_C") is None or not on_gpu:
        return None

    class Adam(optimizers.FusedAdam):
        def zero_grad(self, set_to_none: bool = True) -> None:  # apex's takes no argument, and sets to None
            super().zero_grad()

    return Adam(groups, lr=lr, betas=betas, eps=eps)


class _MaskedSoftmax(torch.autograd.Function):
    @staticmethod
    def forward(ctx, scores: Tensor, masked: Tensor, scale: float) -> Tensor:
        chances = _module("scaled_masked_softmax_cuda").forward(scores.contiguous(), masked, scale)
        ctx.save_for_backward(chances)
        ctx.scale = scale
        return chances

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None, None]:
        (chances,) = ctx.saved_tensors
        kernel = _module("scaled_masked_softmax_cuda")
        return kernel.backward(gradient.contiguous(), chances, ctx.scale), None, None


def _takes(scores: Tensor, mask: Tensor, scale: float) -> bool:
    """Whether apex's softmax is built, and right for these scores."""
    kernel = _module("scaled_masked_softmax_cuda")
    if kernel is None or not _on_gpu(scores) or scores.dtype not in (torch.float16, torch.bfloat16):
        return False
    batch, heads, queries, keys = scores.shape
    if mask.dim() != 4 or mask.shape[1] != 1 or not 16 < keys <= _LONGEST or keys % 4 or queries < 2:
        return False
    exact = float(torch.tensor(scale, dtype=scores.dtype)) == scale
    return exact and queries % kernel.get_batch_per_block(queries, keys, batch, heads) == 0


def _on_gpu(x: Tensor) -> bool:
    return x.is_cuda


@functools.cache
def _module(name: str) -> ModuleType | None:
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


@functools.cache
def _rest() -> ModuleType:
    """The module that has what apex has not."""
    return plain if triton_backend.reason() else triton_backend
