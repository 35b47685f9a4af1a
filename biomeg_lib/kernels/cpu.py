"""The kernels on a CPU in fp32, from `cpu.c`; the C compiler runs once for each processor and version of the file.

What is notable: the shared object is kept in the user's cache under a name that hashes the source, the compiler and the
processor, so that machines which share a home folder do not run each other's instructions. Without a compiler, or where
its result does not give what plain PyTorch gives, `library` says why, and plain PyTorch does the work.

Attention is ours here, because PyTorch's on a CPU has neither dropout nor sequences without padding, and copies its
gradient together. So is the whole step from one sub-layer to the next (bias, dropout, residual sum, LayerNorm), which
elsewhere takes a dozen passes over memory. What each gives: docs/performance.md.
"""

import ctypes
import functools
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from biomeg_lib import files, sums
from biomeg_lib.kernels.layout import Packed, Tie

SOURCE = Path(__file__).with_name("cpu.c")
CHUNKS = 64  # as in cpu.c
# strict C would not contract a * b + c into one instruction, which halves the speed of matrix products
_FLAGS = (
    "-std=gnu11",
    "-O3",
    "-march=native",
    "-ffp-contract=fast",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-fno-signed-zeros",
)
_LINK = ("-fopenmp", "-fPIC", "-shared", "-lm")
_LOGITS = 80 << 20  # bytes of logits at a time
_I64, _INT, _FLOAT, _DOUBLE, _U64 = ctypes.c_int64, ctypes.c_int, ctypes.c_float, ctypes.c_double, ctypes.c_uint64
_POINTER = ctypes.c_void_p
LANES = 16  # the size of a head is a multiple of this
_ATTENTION = (_POINTER, _I64, _POINTER, _I64, *[_POINTER] * 3, _I64, _I64, _I64)
_SIGNATURES: dict[str, tuple[Any, ...]] = {
    "column_sum": (_POINTER, _I64, _I64, _POINTER, _POINTER, _INT),
    "bias_gelu_forward": (*[_POINTER] * 3, _I64, _I64, _INT, _INT),
    "bias_gelu_backward": (*[_POINTER] * 6, _I64, _I64, _INT, _INT),
    "residual_norm_forward": (*[_POINTER] * 9, _I64, _I64, _DOUBLE, _U64, _FLOAT, _INT),
    "residual_norm_backward": (*[_POINTER] * 10, _I64, _I64, _DOUBLE, _U64, _INT),
    "dropout": (_POINTER, _POINTER, _I64, _I64, _DOUBLE, _U64, _INT),
    "cross_entropy": (*[_POINTER] * 4, _I64, _I64, _FLOAT, _INT, _INT),
    "attention_forward": (*_ATTENTION, *[_POINTER] * 2, _DOUBLE, _U64, _INT),
    "attention_backward": (*_ATTENTION, *[_POINTER] * 4, _DOUBLE, _U64, _INT),
}


class Unavailable(Exception):
    """Why there are no kernels for this CPU, in one line."""


_scratch: list[tempfile.TemporaryDirectory] = []  # with what could not be kept, until the process ends


@functools.cache
def _load() -> ctypes.CDLL | str:
    try:
        library = ctypes.CDLL(str(_compiled()))
    except (Unavailable, OSError) as error:
        return str(error)
    for name, arguments in _SIGNATURES.items():
        getattr(library, name).argtypes = arguments
    return library


def reason() -> str | None:
    """Why these kernels cannot be used here, in one line; None if they can."""
    found = _load()
    return found if isinstance(found, str) else None


def cache_folder() -> Path:
    """Where compiled kernels are kept: `BIOMEG_CACHE`, else the user's cache folder."""
    own = os.environ.get("BIOMEG_CACHE")
    return Path(own) if own else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "biomeg"


def _compiled() -> Path:
    """The shared object, compiled if there is none yet.

    Raises:
        Unavailable: no compiler, or it fails.
    """
    compiler = shutil.which(os.environ.get("CC", "gcc"))
    if compiler is None:
        raise Unavailable("no C compiler (gcc) was found")
    try:
        version = subprocess.run([compiler, "--version"], capture_output=True, timeout=60, check=True).stdout
        identity = (SOURCE.read_bytes(), version, " ".join((*_FLAGS, *_LINK)).encode(), _processor().encode())
        name = hashlib.sha256(b"\0".join(identity)).hexdigest()[:20]
        target = cache_folder() / "kernels" / f"cpu-{name}.so"
        if target.is_file() and sums.problem_of(target) is None:
            return target
        scratch = tempfile.TemporaryDirectory(prefix="biomeg-kernels-")
        made = Path(scratch.name) / "cpu.so"
        command = [compiler, *_FLAGS, str(SOURCE), "-o", str(made), *_LINK]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
        if done.returncode:
            first = (done.stderr.strip() or "no message").splitlines()[0]
            raise Unavailable(f"{compiler} does not compile {SOURCE.name}: {first}")
    except (OSError, subprocess.SubprocessError) as error:
        raise Unavailable(f"{compiler}: {error}") from None
    try:
        sums.announce(target, made)
        with files.atomic_open(target, "wb") as stream:
            stream.write(made.read_bytes())
    except OSError:  # no room or no permission there: other kernels would give other last digits
        _scratch.append(scratch)
        return made
    scratch.cleanup()
    return target


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    return next((line for line in lines if line.startswith(("flags", "Features"))), platform.processor())


def _call(name: str, *arguments: Any) -> None:
    """Call a kernel; tensors become pointers, the number of threads is appended."""
    library = _load()
    assert isinstance(library, ctypes.CDLL)
    pointers = (a.data_ptr() if isinstance(a, Tensor) else a for a in arguments)
    if getattr(library, name)(*pointers, torch.get_num_threads()) and name.startswith("attention"):
        raise MemoryError(f"no memory for {name}")


def _partial(width: int) -> Tensor:
    return torch.empty(CHUNKS * width)


class _BiasGelu(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, bias: Tensor, tanh: bool) -> Tensor:
        x, y = x.contiguous(), torch.empty(x.shape)
        ctx.save_for_backward(x, bias)
        ctx.tanh = tanh
        _call("bias_gelu_forward", x, bias, y, x.numel() // len(bias), len(bias), tanh)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor, Tensor, None]:
        x, bias = ctx.saved_tensors
        dy, dx, dbias, width = dy.contiguous(), torch.empty_like(x), torch.empty_like(bias), len(bias)
        partial = _partial(width)
        _call("bias_gelu_backward", x, bias, dy, dx, dbias, partial, x.numel() // width, width, ctx.tanh)
        return dx, dbias, None


def bias_gelu(x: Tensor, bias: Tensor, kind: str) -> Tensor:
    """See `kernels`."""
    return _BiasGelu.apply(x, bias, kind == "tanh")


class _Dropout(Function):
    @staticmethod
    def forward(ctx, x, p, seed):
        ctx.p, ctx.seed = p, seed
        return _dropped(x, p, seed)

    @staticmethod
    @once_differentiable
    def backward(ctx, dy):
        return _dropped(dy, ctx.p, ctx.seed), None, None


def _dropped(x: Tensor, p: float, seed: int) -> Tensor:
    x, width = x.contiguous(), x.shape[-1]
    y = torch.empty(x.shape)
    _call("dropout", x, y, x.numel() // width, width, p, seed)
    return y


def dropout(x: Tensor, p: float, seed: int) -> Tensor:
    """See `kernels`."""
    return _Dropout.apply(x, p, seed)


class _ResidualNorm(Function):
    """(residual + dropout(x + bias), its LayerNorm); the LayerNorm is left out where `weight` is None."""

    @staticmethod
    def forward(ctx, x, bias, residual, weight, shift, p, seed, eps):
        x, residual = x.contiguous(), residual.contiguous()
        width = residual.shape[-1]
        rows = residual.numel() // width
        total = torch.empty(residual.shape)
        normed = mean = rstd = None
        if weight is not None:
            normed, mean, rstd = torch.empty(residual.shape), torch.empty(rows), torch.empty(rows)
        arguments = (x, bias, residual, weight, shift, total, normed, mean, rstd, rows, width, p, seed, eps or 0.0)
        _call("residual_norm_forward", *arguments)
        ctx.save_for_backward(total if weight is not None else None, weight, mean, rstd)
        ctx.shape, ctx.p, ctx.seed = (rows, width), p, seed
        ctx.set_materialize_grads(False)
        return total, normed

    @staticmethod
    @once_differentiable
    def backward(ctx, dtotal, dnormed):
        total, weight, mean, rstd = ctx.saved_tensors
        rows, width = ctx.shape
        given = dnormed if dnormed is not None else dtotal
        if given is None:
            return (None,) * 8
        dtotal = None if dtotal is None else dtotal.contiguous()
        dnormed = None if dnormed is None else dnormed.contiguous()
        dresidual, sums = torch.empty(given.shape), torch.empty(3, width)
        dx = torch.empty(given.shape) if ctx.p > 0 else None
        arguments = (total, weight, mean, rstd, dtotal, dnormed, dresidual, dx, sums, _partial(3 * width))
        _call("residual_norm_backward", *arguments, rows, width, ctx.p, ctx.seed)
        dweight, dshift = (sums[1], sums[2]) if dnormed is not None else (None, None)
        return (dresidual if dx is None else dx), sums[0], dresidual, dweight, dshift, None, None, None


def bias_dropout_add(x: Tensor, bias: Tensor, residual: Tensor, p: float, seed: int) -> Tensor:
    """See `kernels`."""
    return _ResidualNorm.apply(x, bias, residual, None, None, p, seed, None)[0]


def bias_dropout_add_norm(
    x: Tensor, bias: Tensor, residual: Tensor, p: float, seed: int, weight: Tensor, shift: Tensor, eps: float
) -> tuple[Tensor, Tensor]:
    """See `kernels`."""
    return _ResidualNorm.apply(x, bias, residual, weight, shift, p, seed, eps)


class _LayerNorm(Function):
    @staticmethod
    def forward(ctx, x, weight, shift, eps):
        x, width = x.contiguous(), x.shape[-1]
        rows = x.numel() // width
        y, mean, rstd = torch.empty(x.shape), torch.empty(rows), torch.empty(rows)
        _call("residual_norm_forward", None, None, x, weight, shift, None, y, mean, rstd, rows, width, 0.0, 0, eps)
        ctx.save_for_backward(x, weight, mean, rstd)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx, dy):
        x, weight, mean, rstd = ctx.saved_tensors
        width, dx, dy = x.shape[-1], torch.empty_like(x), dy.contiguous()
        sums = torch.empty(3, width)
        arguments = (x, weight, mean, rstd, None, dy, dx, None, sums, _partial(3 * width), len(mean), width, 0.0, 0)
        _call("residual_norm_backward", *arguments)
        return dx, sums[1], sums[2], None


def layer_norm(x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    """See `kernels`."""
    return _LayerNorm.apply(x, weight, bias, eps)


_kept: list[Tensor] = []


def _workspace(size: int) -> Tensor:
    """float[size] of memory that the next call gets again: fresh memory costs page faults, a tenth of a step."""
    if not _kept or _kept[0].numel() < size:
        with torch.inference_mode(False):  # else no later training step could use it
            _kept[:] = [torch.empty(size)]
    return _kept[0][:size]


class _Embedding(Function):
    """Rows of a weight that is the decoder, too: their gradient goes into the decoder's, which is there already."""

    @staticmethod
    def forward(ctx, weight, tokens, tie):
        ctx.save_for_backward(tokens)
        ctx.shape, ctx.tie = weight.shape, tie
        return weight.index_select(0, tokens)

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient):
        (tokens,) = ctx.saved_tensors
        shared = ctx.tie.take()
        if shared is None:
            return gradient.new_zeros(ctx.shape).index_add_(0, tokens, gradient), None, None
        shared.index_add_(0, tokens, gradient)
        return None, None, None


def embedding(tokens: Tensor, weight: Tensor, tie: Tie) -> Tensor:
    """See `kernels`."""
    return _Embedding.apply(weight, tokens, tie)


class _LinearCrossEntropy(Function):
    """The mean, with its gradients made in forward, chunk by chunk, while the logits are there."""

    @staticmethod
    def forward(ctx, hidden, weight, bias, labels, wanted, tie):
        hidden, weight, labels = hidden.contiguous(), weight.contiguous(), labels.contiguous()
        (count, _), vocabulary = hidden.shape, len(weight)
        rows = min(count, max(1, _LOGITS // (4 * vocabulary)))
        losses, logits = torch.empty(count), _workspace(rows * vocabulary).view(rows, vocabulary)
        if wanted:
            dhidden, dweight = torch.empty_like(hidden), torch.empty_like(weight)
            dbias, part = torch.zeros_like(bias), torch.empty_like(bias)
            partial = _partial(vocabulary)
        for start in range(0, count, rows):
            some = slice(start, min(start + rows, count))
            size = some.stop - some.start
            scores = logits[:size]
            torch.mm(hidden[some], weight.t(), out=scores)
            _call("cross_entropy", scores, bias, labels[some], losses[some], size, vocabulary, 1 / count, wanted)
            if wanted:
                torch.mm(scores, weight, out=dhidden[some])
                torch.addmm(dweight, scores.t(), hidden[some], beta=1 if start else 0, out=dweight)
                _call("column_sum", scores, size, vocabulary, part, partial)
                dbias += part
        if wanted:
            ctx.gradients, ctx.tie = (dhidden, dweight, dbias), tie
        return losses.mean()

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient):
        gradients, ctx.gradients = ctx.gradients, None  # with no other reference, PyTorch keeps them without a copy
        if float(gradient) != 1.0:
            gradients = tuple(part.mul_(gradient) for part in gradients)
        if ctx.tie is not None:
            ctx.tie.give(gradients[1])
        return *gradients, None, None, None


def linear_cross_entropy(
    hidden: Tensor, weight: Tensor, bias: Tensor, labels: Tensor, tie: Tie | None = None
) -> Tensor:
    """See `kernels`; the mean, not the sum, so that its gradients need no pass to be scaled."""
    wanted = torch.is_grad_enabled() and any(x.requires_grad for x in (hidden, weight, bias))
    return _LinearCrossEntropy.apply(hidden, weight, bias, labels, wanted, tie)


class _Attention(Function):
    """`queries` is None where all three are in `keys_values`."""

    @staticmethod
    def forward(ctx, queries, keys_values, bias, packed, heads, p, seed):
        keys_values, hidden = keys_values.contiguous(), len(bias) // 3
        queries = None if queries is None else queries.contiguous()
        asked = packed.bounds if packed.query_bounds is None else packed.query_bounds
        rows = len(keys_values if queries is None else queries)
        out, lse = torch.empty(rows, hidden), torch.empty(heads, rows)
        shape = (len(asked) - 1, heads, hidden // heads)
        ctx.arguments = (bias, asked, packed.bounds, *shape)
        _call("attention_forward", *_places(queries, keys_values), *ctx.arguments, out, lse, p, seed)
        ctx.save_for_backward(queries, keys_values, lse)
        ctx.p, ctx.seed = p, seed
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, dout):
        queries, keys_values, lse = ctx.saved_tensors
        dqueries = None if queries is None else torch.empty_like(queries)
        dkeys_values, dout = torch.empty_like(keys_values), dout.contiguous()
        given, made = _places(queries, keys_values), _places(dqueries, dkeys_values)
        _call("attention_backward", *given, *ctx.arguments, lse, dout, made[0], made[2], ctx.p, ctx.seed)
        parts = [part for part in (dqueries, dkeys_values) if part is not None]
        return dqueries, dkeys_values, torch.cat([_column_sum(part) for part in parts]), None, None, None, None


def _places(queries: Tensor | None, keys_values: Tensor) -> tuple[int, int, int, int]:
    """Addresses of queries and of keys, each with the distance of its rows."""
    width, address = keys_values.shape[1], keys_values.data_ptr()
    if queries is None:
        return address, width, address + 4 * (width // 3), width
    return queries.data_ptr(), queries.shape[1], address, width


def _column_sum(x: Tensor) -> Tensor:
    out = torch.empty(x.shape[1])
    _call("column_sum", x, *x.shape, out, _partial(len(out)))
    return out


def attention(
    queries: Tensor | None, keys_values: Tensor, bias: Tensor, packed: Packed, heads: int, p: float, seed: int
) -> Tensor:
    """See `kernels`."""
    return _Attention.apply(queries, keys_values, bias, packed, heads, p, seed)
