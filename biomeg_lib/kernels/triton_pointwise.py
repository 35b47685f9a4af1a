"""Bias + GeLU and bias + dropout + residual as Triton kernels, one pass over memory each way.

Notable: a program has a tile of 4 rows, all of its threads side by side along the columns. So the sum over rows that a
bias gradient needs stays inside a thread, and one call of Philox serves the 4 elements of a column in the tile; one
call an element would cost more time than the memory traffic. The mask is thus a function of seed, row, column and the
number of columns, whatever the device and the data type. Gradients of biases are summed in two stages in fp32, in a
fixed order: no atomics, the same bits each time.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

ROWS = tl.constexpr(4)
_MAX_STRIPS = 1024  # programs along the rows in backward, each with one row of partial sums
_STRIP = 32  # rows of a program in backward, at least
_PHILOX_ROUNDS = tl.constexpr(7)  # the fewest that pass BigCrush (Salmon et al. 2011); Triton's default of 10 is slower


def bias_gelu(x: Tensor, bias: Tensor, kind: str) -> Tensor:
    """gelu(x + bias): float[..., F] and float[F] -> float[..., F] of x's dtype; kind "tanh" or "erf"."""
    return _BiasGelu.apply(x, bias, kind)


def bias_dropout_add(x: Tensor, bias: Tensor, residual: Tensor, p: float, seed: int) -> Tensor:
    """residual + dropout(x + bias): float[..., H], float[H] and float[..., H] -> float[..., H].

    Args:
        p: the probability of 0, 0 <= p < 1, to the nearest 2**-32; other elements are scaled by 1 / (1 - p).
        seed: 0 <= seed < 2**63; not used where p is 0.

    Returns:
        Of the wider of the dtypes of x and residual, as addition does.
    """
    return _BiasDropoutAdd.apply(x, bias, residual, p, seed)


class _BiasGelu(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, bias: Tensor, kind: str) -> Tensor:
        x, bias = x.contiguous(), bias.contiguous()
        ctx.save_for_backward(x, bias)
        ctx.kind = kind
        out = torch.empty_like(x)
        columns = bias.numel()
        rows = x.numel() // columns
        block, warps = _width(columns)
        grid = (triton.cdiv(rows, ROWS.value) * triton.cdiv(columns, block),)
        _bias_gelu[grid](x, bias, out, rows, columns, TANH=kind == "tanh", BLOCK=block, num_warps=warps)
        return out

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, Tensor, None]:
        x, bias = ctx.saved_tensors
        gradient, out = gradient.contiguous(), torch.empty_like(x)
        columns = bias.numel()
        rows = x.numel() // columns
        block, warps = _width(columns)
        strip, strips = _strips(rows)
        sums = x.new_empty((strips, columns), dtype=torch.float32)
        grid = (strips * triton.cdiv(columns, block),)
        _bias_gelu_backward[grid](
            gradient, x, bias, out, sums, rows, columns, strip, TANH=ctx.kind == "tanh", BLOCK=block, num_warps=warps
        )
        return out, sums.sum(0).to(bias.dtype), None


class _BiasDropoutAdd(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, bias: Tensor, residual: Tensor, p: float, seed: int) -> Tensor:
        ctx.threshold, ctx.scale, ctx.seed = round(p * 2**32) - 2**31, 1 / (1 - p), seed
        ctx.dtypes, ctx.drop = (x.dtype, bias.dtype, residual.dtype), p > 0
        x, bias, residual = x.contiguous(), bias.contiguous(), residual.contiguous()
        out = torch.empty_like(x, dtype=torch.promote_types(x.dtype, residual.dtype))
        columns = bias.numel()
        rows = x.numel() // columns
        block, warps = _width(columns)
        grid = (triton.cdiv(rows, ROWS.value) * triton.cdiv(columns, block),)
        arguments = (x, bias, residual, out, rows, columns, seed, ctx.threshold, ctx.scale)
        _bias_dropout_add[grid](*arguments, DROP=ctx.drop, BLOCK=block, num_warps=warps)
        return out

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None]:
        x_dtype, bias_dtype, residual_dtype = ctx.dtypes
        columns = gradient.shape[-1]
        if not ctx.drop:
            summed = gradient.reshape(-1, columns).sum(0, dtype=torch.float32).to(bias_dtype)
            return gradient.to(x_dtype), summed, gradient.to(residual_dtype), None, None
        gradient = gradient.contiguous()
        out = torch.empty_like(gradient, dtype=x_dtype)
        rows = gradient.numel() // columns
        block, warps = _width(columns)
        strip, strips = _strips(rows)
        sums = gradient.new_empty((strips, columns), dtype=torch.float32)
        grid = (strips * triton.cdiv(columns, block),)
        arguments = (gradient, out, sums, rows, columns, strip, ctx.seed, ctx.threshold, ctx.scale)
        _bias_dropout_backward[grid](*arguments, BLOCK=block, num_warps=warps)
        return out, sums.sum(0).to(bias_dtype), gradient.to(residual_dtype), None, None


def _width(columns: int) -> tuple[int, int]:
    """Columns of a tile, and warps: 8 columns a thread, 16 bytes of bf16; none idle where 256 divides the columns."""
    block = min(1024, max(256, columns & -columns))
    return block, block // 256


def _strips(rows: int) -> tuple[int, int]:
    """Rows of a program in backward, a multiple of 4, and how many programs that makes."""
    strip = max(_STRIP, triton.cdiv(triton.cdiv(rows, _MAX_STRIPS), ROWS.value) * ROWS.value)
    return strip, triton.cdiv(rows, strip)


@triton.jit
def _place(columns, BLOCK: tl.constexpr):
    """The program's number int64[] along the rows and its columns int32[BLOCK]; programs of the same rows are next to
    each other, so that what runs at one time is close together in memory."""
    across = tl.cdiv(columns, BLOCK)
    program = tl.program_id(0)
    return (program // across).to(tl.int64), program % across * BLOCK + tl.arange(0, BLOCK)


@triton.jit
def _tile(first, column, rows, columns):
    """The tile of row `first` and its next: offset int64[] of that row, offsets of the elements from there, int32[4,
    BLOCK], since 64 bits for each would cost registers, and which of them are real."""
    row = tl.arange(0, ROWS)
    real = (first + row < rows)[:, None] & (column < columns)[None, :]
    return first * columns, row[:, None] * columns + column[None, :], real


@triton.jit
def _read(vector, column, columns):
    """These columns of `vector`, fp32[1, BLOCK]."""
    return tl.load(vector + column, mask=column < columns, other=0.0).to(tl.float32)[None, :]


@triton.jit
def _gelu(u, TANH: tl.constexpr):
    """gelu(u) / u, and the derivative of gelu at u."""
    if TANH:
        # 0.5 (1 + tanh z) is sigmoid(2 z), and 1.5957691 is 2 sqrt(2 / pi); of -|2 z| exp neither overflows nor cancels
        z2 = 1.5957691216057308 * u * (1.0 + 0.044715 * u * u)
        fall = tl.exp(-tl.abs(z2))
        part = 1.0 / (1.0 + fall)
        share = tl.where(z2 < 0, fall * part, part)
        slope = share + u * fall * part * part * 1.5957691216057308 * (1.0 + 0.134145 * u * u)
    else:
        # the normal distribution to 1e-7 (Abramowitz and Stegun 7.1.26): with the library's erf, which is longer, the
        # kernel would wait for arithmetic instead of memory
        fall = tl.exp(-0.5 * u * u)
        t = 1.0 / (1.0 + 0.23164189 * tl.abs(u))
        series = 0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429)))
        tail = 0.5 * t * series * fall
        share = tl.where(u < 0, tail, 1.0 - tail)
        slope = share + u * 0.3989422804014327 * fall
    return share, slope


@triton.jit
def _bias_gelu(x, bias, out, rows, columns, TANH: tl.constexpr, BLOCK: tl.constexpr):
    program, column = _place(columns, BLOCK)
    offset, at, real = _tile(program * ROWS, column, rows, columns)
    u = tl.load(x + offset + at, mask=real, other=0.0).to(tl.float32) + _read(bias, column, columns)
    share, _ = _gelu(u, TANH)
    tl.store(out + offset + at, (u * share).to(out.dtype.element_ty), mask=real)


@triton.jit
def _bias_gelu_backward(gradient, x, bias, out, sums, rows, columns, strip, TANH: tl.constexpr, BLOCK: tl.constexpr):
    program, column = _place(columns, BLOCK)
    b = _read(bias, column, columns)
    total = tl.zeros((ROWS, BLOCK), tl.float32)
    for done in range(0, strip, ROWS):
        offset, at, real = _tile(program * strip + done, column, rows, columns)
        u = tl.load(x + offset + at, mask=real, other=0.0).to(tl.float32) + b
        g = tl.load(gradient + offset + at, mask=real, other=0.0).to(tl.float32)
        _, slope = _gelu(u, TANH)
        g *= slope
        tl.store(out + offset + at, g.to(out.dtype.element_ty), mask=real)
        total += g
    tl.store(sums + program * columns + column, tl.sum(total, 0), mask=column < columns)


@triton.jit
def _keep(first, column, columns, seed, threshold):
    """Which elements stay, bool[4, BLOCK], in the tile whose first row, a multiple of 4, is `first`."""
    a, b, c, d = tl.randint4x(seed, first // ROWS * columns + column, _PHILOX_ROUNDS)
    row = tl.arange(0, ROWS)[:, None]
    # a thread has all rows of its columns, so that the row is known when this is compiled, and nothing is chosen later
    bits = tl.where(row < 2, tl.where(row == 0, a[None, :], b[None, :]), tl.where(row == 2, c[None, :], d[None, :]))
    return bits.to(tl.int32, bitcast=True) >= threshold


@triton.jit(do_not_specialize=["seed", "threshold"])
def _bias_dropout_add(
    x, bias, residual, out, rows, columns, seed, threshold, scale, DROP: tl.constexpr, BLOCK: tl.constexpr
):
    program, column = _place(columns, BLOCK)
    offset, at, real = _tile(program * ROWS, column, rows, columns)
    y = tl.load(x + offset + at, mask=real, other=0.0).to(tl.float32) + _read(bias, column, columns)
    if DROP:
        y = tl.where(_keep(program * ROWS, column, columns, seed, threshold), y * scale, 0.0)
    y += tl.load(residual + offset + at, mask=real, other=0.0).to(tl.float32)
    tl.store(out + offset + at, y.to(out.dtype.element_ty), mask=real)


@triton.jit(do_not_specialize=["seed", "threshold"])
def _bias_dropout_backward(gradient, out, sums, rows, columns, strip, seed, threshold, scale, BLOCK: tl.constexpr):
    program, column = _place(columns, BLOCK)
    total = tl.zeros((ROWS, BLOCK), tl.float32)
    for done in range(0, strip, ROWS):
        first = program * strip + done
        offset, at, real = _tile(first, column, rows, columns)
        g = tl.load(gradient + offset + at, mask=real, other=0.0).to(tl.float32)
        g = tl.where(_keep(first, column, columns, seed, threshold), g * scale, 0.0)
        tl.store(out + offset + at, g.to(out.dtype.element_ty), mask=real)
        total += g
    tl.store(sums + program * columns + column, tl.sum(total, 0), mask=column < columns)
