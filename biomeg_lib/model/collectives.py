"""What ranks that share a tensor say to each other, with the gradients that belong to it (Shoeybi et al. 2019).

`copied` and `summed` are Megatron's f and g (section 3 there): around a column-parallel layer and the row-parallel one
behind it, each rank works on its own part, and one sum a direction brings the parts together.
"""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd import Function


class _Copied(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, group: dist.ProcessGroup) -> Tensor:
        ctx.group = group
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        gradient = gradient.contiguous()
        dist.all_reduce(gradient, group=ctx.group)
        return gradient, None


class _Summed(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, group: dist.ProcessGroup) -> Tensor:
        x = x.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(x, group=group)
        return x

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient, None


def copied(x: Tensor, group: dist.ProcessGroup | None) -> Tensor:
    """The same tensor; its gradient is the sum over the group. None is a group of one."""
    return x if group is None else _Copied.apply(x, group)


def summed(x: Tensor, group: dist.ProcessGroup | None) -> Tensor:
    """The sum over the group; its gradient is that of the sum. None is a group of one."""
    return x if group is None else _Summed.apply(x, group)
