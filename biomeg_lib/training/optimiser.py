"""The optimiser and its step: AdamW, weight decay on matrices, gradients clipped within the optimiser's own pass."""

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor, nn

from biomeg_lib import kernels


def make_optimizer(
    parameters: Iterable[nn.Parameter], learning_rate: float, weight_decay: float
) -> torch.optim.Optimizer:
    """Fused AdamW; weight decay on matrices only."""
    wanted = [p for p in parameters if p.requires_grad]
    matrices, vectors = [p for p in wanted if p.dim() > 1], [p for p in wanted if p.dim() <= 1]
    groups = [{"params": matrices, "weight_decay": weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    return kernels.adam(groups, learning_rate, (0.9, 0.999), 1e-8)


def total_norm(tensors: Sequence[Tensor]) -> Tensor:
    """float[], the Euclidean norm of all elements of all tensors."""
    if tensors[0].device.type == "cpu":  # a scalar product is faster than a norm there, and 20 times as exact
        return torch.stack([torch.dot(flat, flat) for flat in (x.flatten() for x in tensors)]).sum().sqrt()
    return nn.utils.get_total_norm(tensors)


def optimise(
    parameters: Iterable[nn.Parameter],
    optimizer: torch.optim.Optimizer,
    clip_norm: float,
    norm_of: Callable[[Sequence[Tensor]], Tensor] = total_norm,
) -> Tensor:
    """Step with gradients of a total norm of at most `clip_norm`, as `clip_grad_norm_` and `optimizer.step()` would.

    The gradients may be scaled in place, or may not be: they are of no use afterwards.

    Args:
        norm_of: their norm, where they are not all of the gradients.

    Returns:
        float[], the norm before clipping, on the device.
    """
    gradients = [p.grad for p in parameters if p.grad is not None]
    norm = norm_of(gradients)
    excess = ((norm + 1e-6) / clip_norm).clamp(min=1.0).float()
    if optimizer.defaults.get("fused"):
        # PyTorch's fused kernels divide by this on their way, for the sake of its GradScaler: no pass of its own.
        optimizer.grad_scale = excess
    else:
        torch._foreach_div_(gradients, excess)
    optimizer.step()
    return norm
