"""LayerNorm and scaled masked softmax as Triton kernels: a row is read once, held in registers and written once.

Notable: a program has several rows where they are short, so that it always has some thousand elements in flight. The
gradients of LayerNorm's weight and bias are summed in two stages in fp32, in a fixed order: no atomics.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

_TILE = 2048  # elements of a tile, where a row is not longer
_MAX_STRIPS = 1024  # programs of LayerNorm's backward, each with a row of partial sums
_STRIP = 32  # rows of such a program, at least


def layer_norm(x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    """LayerNorm over the last dimension: float[..., H], float[H], float[H] -> float[..., H] of x's dtype."""
    return _LayerNorm.apply(x, weight, bias, eps)


def masked_softmax(scores: Tensor, mask: Tensor | None, scale: float) -> Tensor:
    """softmax(scores * scale) over the keys that take part.

    Args:
        scores: float[B, A, T, S].
        mask: bool, any shape that expands to [B, 1, T, S], True where a key takes part; None: everywhere.

    Returns:
        float[B, A, T, S] of scores' dtype; 0 where masked, and in all of a row with nothing to attend to.
    """
    return _MaskedSoftmax.apply(scores, mask, scale)


class _LayerNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
        x, weight, bias = x.contiguous(), weight.contiguous(), bias.contiguous()
        columns = weight.numel()
        rows = x.numel() // columns
        tile, block, warps = _tile(columns)
        out = torch.empty_like(x)
        mean, inverse = x.new_empty((2, rows), dtype=torch.float32)
        grid = (triton.cdiv(rows, tile),)
        arguments = (x, weight, bias, out, mean, inverse, rows, columns, eps)
        _layer_norm[grid](*arguments, TILE=tile, BLOCK=block, num_warps=warps)
        ctx.save_for_backward(x, weight, mean, inverse)
        ctx.bias_dtype = bias.dtype
        return out

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        x, weight, mean, inverse = ctx.saved_tensors
        gradient, out = gradient.contiguous(), torch.empty_like(x)
        columns, rows = weight.numel(), mean.numel()
        tile, block, warps = _tile(columns)
        strip = max(_STRIP, triton.cdiv(triton.cdiv(rows, _MAX_STRIPS), tile) * tile)
        strips = triton.cdiv(rows, strip)
        sums = x.new_empty((2, strips, columns), dtype=torch.float32)
        arguments = (gradient, x, weight, mean, inverse, out, sums, rows, columns, strip)
        _layer_norm_backward[(strips,)](*arguments, TILE=tile, BLOCK=block, num_warps=warps)
        by_weight, by_bias = sums.sum(1)
        return out, by_weight.to(weight.dtype), by_bias.to(ctx.bias_dtype), None


class _MaskedSoftmax(torch.autograd.Function):
    @staticmethod
    def forward(ctx, scores: Tensor, mask: Tensor | None, scale: float) -> Tensor:
        scores, out = scores.contiguous(), torch.empty_like(scores, memory_format=torch.contiguous_format)
        batch, heads, queries, keys = scores.shape
        rows = batch * heads * queries
        tile, block, warps = _tile(keys)
        strides, allowed = (0, 0, 0), scores  # any pointer: it is not read
        if mask is not None:
            allowed = mask.expand(batch, 1, queries, keys).view(torch.uint8)
            strides = (allowed.stride(0), allowed.stride(2), allowed.stride(3))
        grid = (triton.cdiv(rows, tile),)
        arguments = (scores, allowed, out, rows, keys, heads * queries, queries, *strides, scale)
        _masked_softmax[grid](*arguments, MASKED=mask is not None, TILE=tile, BLOCK=block, num_warps=warps)
        ctx.save_for_backward(out)
        ctx.scale = scale
        return out

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None, None]:
        (chances,) = ctx.saved_tensors
        gradient, out = gradient.contiguous(), torch.empty_like(chances)
        keys = chances.shape[-1]
        rows = chances.numel() // keys
        tile, block, warps = _tile(keys)
        grid = (triton.cdiv(rows, tile),)
        arguments = (gradient, chances, out, rows, keys, ctx.scale)
        _masked_softmax_backward[grid](*arguments, TILE=tile, BLOCK=block, num_warps=warps)
        return out, None, None


def _tile(columns: int) -> tuple[int, int, int]:
    """Rows of a tile (a power of two, at most 32), its columns (the power of two that holds a row), and warps."""
    block = max(16, triton.next_power_of_2(columns))
    return min(32, max(1, _TILE // block)), block, min(16, max(4, block // 512))


@triton.jit
def _place(first, rows, columns, TILE: tl.constexpr, BLOCK: tl.constexpr):
    """Rows from `first` on: their numbers int64[TILE], the offset int64[] of the first, those of their elements from
    there, int32[TILE, BLOCK], and which of these are real."""
    row = tl.arange(0, TILE)
    column = tl.arange(0, BLOCK)
    real = (first + row < rows)[:, None] & (column < columns)[None, :]
    return first + row, first * columns, row[:, None] * columns + column[None, :], real


@triton.jit
def _layer_norm(x, weight, bias, out, mean, inverse, rows, columns, eps, TILE: tl.constexpr, BLOCK: tl.constexpr):
    row, offset, at, real = _place(tl.program_id(0).to(tl.int64) * TILE, rows, columns, TILE, BLOCK)
    column = tl.arange(0, BLOCK)
    values = tl.load(x + offset + at, mask=real, other=0.0).to(tl.float32)
    w = tl.load(weight + column, mask=column < columns, other=0.0).to(tl.float32)
    b = tl.load(bias + column, mask=column < columns, other=0.0).to(tl.float32)
    centre = tl.sum(values, 1) / columns
    values = tl.where(real, values - centre[:, None], 0.0)
    scale = tl.rsqrt(tl.sum(values * values, 1) / columns + eps)
    tl.store(mean + row, centre, mask=row < rows)
    tl.store(inverse + row, scale, mask=row < rows)
    y = values * scale[:, None] * w[None, :] + b[None, :]
    tl.store(out + offset + at, y.to(out.dtype.element_ty), mask=real)


@triton.jit
def _layer_norm_backward(
    gradient, x, weight, mean, inverse, out, sums, rows, columns, strip, TILE: tl.constexpr, BLOCK: tl.constexpr
):
    column = tl.arange(0, BLOCK)
    w = tl.load(weight + column, mask=column < columns, other=0.0).to(tl.float32)
    by_weight = tl.zeros((TILE, BLOCK), tl.float32)
    by_bias = tl.zeros((TILE, BLOCK), tl.float32)
    program = tl.program_id(0).to(tl.int64)
    for start in range(0, strip, TILE):
        row, offset, at, real = _place(program * strip + start, rows, columns, TILE, BLOCK)
        g = tl.load(gradient + offset + at, mask=real, other=0.0).to(tl.float32)
        values = tl.load(x + offset + at, mask=real, other=0.0).to(tl.float32)
        scale = tl.load(inverse + row, mask=row < rows, other=0.0)
        centre = tl.load(mean + row, mask=row < rows, other=0.0)
        values = tl.where(real, (values - centre[:, None]) * scale[:, None], 0.0)
        by_weight += g * values
        by_bias += g
        g *= w[None, :]
        along = tl.sum(g * values, 1) / columns
        level = tl.sum(g, 1) / columns
        y = (g - level[:, None] - values * along[:, None]) * scale[:, None]
        tl.store(out + offset + at, y.to(out.dtype.element_ty), mask=real)
    at = program * columns + column
    tl.store(sums + at, tl.sum(by_weight, 0), mask=column < columns)
    at += tl.num_programs(0).to(tl.int64) * columns
    tl.store(sums + at, tl.sum(by_bias, 0), mask=column < columns)


@triton.jit
def _masked_softmax(
    scores,
    allowed,
    out,
    rows,
    keys,
    rows_of_sequence,
    queries,
    by_sequence,
    by_query,
    by_key,
    scale,
    MASKED: tl.constexpr,
    TILE: tl.constexpr,
    BLOCK: tl.constexpr,
):
    row, offset, at, real = _place(tl.program_id(0).to(tl.int64) * TILE, rows, keys, TILE, BLOCK)
    x = tl.load(scores + offset + at, mask=real, other=0.0).to(tl.float32) * scale
    takes_part = real
    if MASKED:
        start = row // rows_of_sequence * by_sequence + row % queries * by_query
        where = start[:, None] + (tl.arange(0, BLOCK) * by_key)[None, :]
        takes_part = tl.load(allowed + where, mask=real, other=0) != 0
    x = tl.where(takes_part, x, float("-inf"))
    top = tl.max(x, 1)
    # a row with nothing to attend to: finite numbers, so that no NaN arises, which sum to 0 and are divided by 1
    top = tl.where(top == float("-inf"), 0.0, top)
    x = tl.exp(x - top[:, None])
    total = tl.sum(x, 1)
    x /= tl.where(total == 0.0, 1.0, total)[:, None]
    tl.store(out + offset + at, x.to(out.dtype.element_ty), mask=real)


@triton.jit
def _masked_softmax_backward(gradient, chances, out, rows, keys, scale, TILE: tl.constexpr, BLOCK: tl.constexpr):
    _, offset, at, real = _place(tl.program_id(0).to(tl.int64) * TILE, rows, keys, TILE, BLOCK)
    g = tl.load(gradient + offset + at, mask=real, other=0.0).to(tl.float32)
    p = tl.load(chances + offset + at, mask=real, other=0.0).to(tl.float32)
    y = scale * p * (g - tl.sum(g * p, 1)[:, None])
    tl.store(out + offset + at, y.to(out.dtype.element_ty), mask=real)
