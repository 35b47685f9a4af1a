"""Vocabulary projection and cross-entropy without the logits of all rows: one chunk of them is alive at a time.

Notable: the gradients are computed in forward, while a chunk's logits are there, and are only scaled in backward; to
compute the logits again would be another third of the arithmetic. The matrix products are PyTorch's, in the dtype of
the activations (under autocast in autocast's); the kernel reads logits, writes the loss of each row, and overwrites the
logits by their gradient, softmax - onehot. Loss and sums over chunks are fp32.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

CHUNK_BYTES = 128 * 2**20  # of logits; with 30,592 words in bf16 about 2,200 rows


def linear_cross_entropy(hidden: Tensor, weight: Tensor, bias: Tensor, labels: Tensor) -> Tensor:
    """The sum of the cross-entropies of hidden @ weight.T + bias, in nats.

    Args:
        hidden: float[M, H]; M may be 0.
        weight, bias: float[V, H] and float[V].
        labels: int64[M], each of them 0 <= label < V.

    Returns:
        fp32[].
    """
    device = hidden.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else hidden.dtype
    wanted = [torch.is_grad_enabled() and tensor.requires_grad for tensor in (hidden, weight, bias)]
    return _LinearCrossEntropy.apply(hidden, weight, bias, labels, dtype, wanted)


class _LinearCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx, hidden: Tensor, weight: Tensor, bias: Tensor, labels: Tensor, dtype: torch.dtype, wanted: list[bool]
    ) -> Tensor:
        count, words = len(hidden), len(weight)
        losses = hidden.new_empty(count, dtype=torch.float32)
        by_hidden = torch.empty_like(hidden) if wanted[0] else None
        by_weight = torch.zeros_like(weight, dtype=torch.float32) if wanted[1] else None
        by_bias = torch.zeros_like(bias, dtype=torch.float32) if wanted[2] else None
        narrow, offsets, labels = weight.to(dtype), bias.contiguous(), labels.contiguous()
        chunks = triton.cdiv(count * words * narrow.element_size(), CHUNK_BYTES)
        rows = triton.cdiv(count, max(1, min(chunks, count)))
        logits = hidden.new_empty((rows, words), dtype=dtype)
        block, warps = _width(words)
        for start in range(0, count, max(1, rows)):
            part = hidden[start : start + rows].to(dtype)
            scores = logits[: len(part)]
            torch.mm(part, narrow.t(), out=scores)
            _cross_entropy[(len(part),)](
                scores, offsets, labels[start:], losses[start:], words, GRADIENT=any(wanted), BLOCK=block,
                num_warps=warps,
            )  # fmt: skip
            if by_hidden is not None:
                by_hidden[start : start + rows] = scores @ narrow
            if by_weight is not None:
                by_weight += scores.t() @ part
            if by_bias is not None:
                by_bias += scores.sum(0, dtype=torch.float32)
        ctx.save_for_backward(by_hidden, by_weight, by_bias)
        ctx.dtypes = (hidden.dtype, weight.dtype, bias.dtype)
        return losses.sum()

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor | None, ...]:
        parts = zip(ctx.saved_tensors, ctx.dtypes, strict=True)
        scaled = [None if part is None else (part * gradient).to(dtype) for part, dtype in parts]
        return *scaled, None, None, None


def _width(words: int) -> tuple[int, int]:
    """Words read at a time, and warps: many, so that few rows are under way and the second reading is from a cache."""
    block = min(4096, max(256, triton.next_power_of_2(words)))
    return block, block // 256


@triton.jit
def _cross_entropy(logits, bias, labels, losses, words, GRADIENT: tl.constexpr, BLOCK: tl.constexpr):
    """One row a program: its loss, and with GRADIENT its logits overwritten by softmax - onehot."""
    row = tl.program_id(0).to(tl.int64)
    logits += row * words
    label = tl.load(labels + row)
    word = tl.arange(0, BLOCK)
    # maximum and sum of each lane, so that threads meet once a row; the least number, not -inf: no inf - inf
    top = tl.full((BLOCK,), -3.4e38, tl.float32)
    total = tl.zeros((BLOCK,), tl.float32)
    found = tl.zeros((BLOCK,), tl.float32)
    for start in range(0, words, BLOCK):
        real = start + word < words
        x = tl.load(logits + start + word, mask=real, other=float("-inf")).to(tl.float32)
        x += tl.load(bias + start + word, mask=real, other=0.0).to(tl.float32)
        higher = tl.maximum(top, x)
        total = total * tl.exp(top - higher) + tl.exp(x - higher)
        top = higher
        found += tl.where(start + word == label, x, 0.0)
    highest = tl.max(top, 0)
    summed = tl.sum(total * tl.exp(top - highest), 0)
    tl.store(losses + row, tl.log(summed) + highest - tl.sum(found, 0))
    if GRADIENT:
        for start in range(0, words, BLOCK):
            real = start + word < words
            x = tl.load(logits + start + word, mask=real, other=float("-inf")).to(tl.float32)
            x += tl.load(bias + start + word, mask=real, other=0.0).to(tl.float32)
            y = tl.exp(x - highest) / summed - tl.where(start + word == label, 1.0, 0.0)
            tl.store(logits + start + word, y.to(logits.dtype.element_ty), mask=real)
