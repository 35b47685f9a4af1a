"""Single kernels on a CUDA GPU: ours against PyTorch as it is, `torch.compile` and apex; and against a copy.

A round is forward and backward in bf16. What a kernel has to move is counted once: forward reads and writes its arrays
of full size, backward reads the gradient and what it needs of forward, and writes the gradient of the input; biases and
weights are small beside them. `linear-cross-entropy` is bound by arithmetic, so it is compared with its peers alone.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from biomeg_lib import kernels
from biomeg_lib.bench.side import Side
from biomeg_lib.errors import BiomegError

P = 0.1  # of dropout
COPY = 1 << 30  # bytes
# Tokens, hidden size, width of the MLP; sequences, heads, length; scored tokens, vocabulary. Arrays of 134 MB, larger
# than a GPU's caches.
FULL = {"tokens": 65_536, "hidden": 1024, "rows": 16, "heads": 16, "length": 512, "scored": 8192, "words": 30_592}
SMALL = {"tokens": 96, "hidden": 64, "rows": 2, "heads": 2, "length": 32, "scored": 40, "words": 500}
PASSES = {"bias-gelu": 5, "bias-dropout-add": 5, "layer-norm": 5, "masked-softmax": 5}  # arrays read or written
APEX = ("layer-norm", "masked-softmax")

Function = Callable[..., Tensor]


def make(which: str, settings: Mapping[str, Any]) -> Side:
    """Side "ours", "eager", "torch.compile" or "apex"."""
    return Kernel(which, settings)


def arguments(name: str, sizes: Mapping[str, int], device: str, dtype: torch.dtype) -> list[Any]:
    """What the functions of a kernel take; every array of floats needs a gradient."""
    generator = torch.Generator().manual_seed(1)

    def floats(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator).to(device, dtype).requires_grad_()

    tokens, hidden = sizes["tokens"], sizes["hidden"]
    if name == "bias-gelu":
        return [floats(tokens // 4, 4 * hidden), floats(4 * hidden)]
    if name == "bias-dropout-add":
        return [floats(tokens, hidden), floats(hidden), floats(tokens, hidden)]
    if name == "layer-norm":
        return [floats(tokens, hidden), nn.LayerNorm(hidden).to(device, dtype)]
    if name == "masked-softmax":
        rows, length = sizes["rows"], sizes["length"]
        mask = torch.arange(length) < torch.randint(length // 2, length, (rows, 1), generator=generator)
        return [floats(rows, sizes["heads"], length, length), mask[:, None, None].to(device)]
    scored, words = sizes["scored"], sizes["words"]
    labels = torch.randint(words, (scored,), generator=generator).to(device)
    return [floats(scored, hidden), floats(words, hidden), floats(words), labels]


def ours(name: str, p: float) -> Function:
    """Our kernel, by the dispatcher."""
    return {
        "bias-gelu": lambda x, bias: kernels.bias_gelu(x, bias, "tanh"),
        "bias-dropout-add": lambda x, bias, residual: kernels.bias_dropout_add(x, bias, residual, p),
        "layer-norm": kernels.layer_norm,
        "masked-softmax": lambda scores, mask: kernels.masked_softmax(scores, mask, 0.125),
        "linear-cross-entropy": kernels.linear_cross_entropy,
    }[name]


def eager(name: str, p: float) -> Function:
    """The same in PyTorch's own operations."""
    return {
        "bias-gelu": lambda x, bias: F.gelu(x + bias, approximate="tanh"),
        "bias-dropout-add": lambda x, bias, residual: residual + F.dropout(x + bias, p),
        "layer-norm": lambda x, norm: norm(x),
        "masked-softmax": lambda scores, mask: (scores * 0.125).masked_fill(~mask, -torch.inf).softmax(-1),
        "linear-cross-entropy": lambda hidden, weight, bias, labels: F.cross_entropy(
            F.linear(hidden, weight, bias).float(), labels
        ),
    }[name]


def forward_and_backward(function: Function, given: Sequence[Any], gradient: Tensor | None) -> list[Tensor]:
    """The output, and the gradients of all that has one."""
    parameters = [one for each in given if isinstance(each, nn.Module) for one in each.parameters()]
    inputs = [each for each in given if isinstance(each, Tensor) and each.requires_grad]
    out = function(*given)
    return [out, *torch.autograd.grad(out, inputs + parameters, gradient)]


class Kernel(Side):
    """One implementation of one kernel; work is counted in GB, for `linear-cross-entropy` in calls."""

    limit = "copy within the GPU's memory"

    def __init__(self, which: str, settings: Mapping[str, Any]):
        self.kernel, self.device = settings["kernel"], settings["device"]
        if which == "apex":
            if self.kernel not in APEX:
                raise BiomegError(f"apex has no kernel for {self.kernel}")
            kernels.use("apex")
        by = {"ours": ours, "apex": ours, "eager": eager, "torch.compile": eager}[which]
        compiled = torch.compile if which == "torch.compile" else lambda function: function
        self.function, self.without_dropout = compiled(by(self.kernel, P)), by(self.kernel, 0.0)
        self.name = f"{which}, PyTorch {torch.__version__}"
        self.given = arguments(self.kernel, FULL if self.device == "cuda" else SMALL, self.device, torch.bfloat16)
        with torch.no_grad():
            self.gradient = torch.randn_like(self.function(*self.given))
        self.amount = PASSES.get(self.kernel, 0) * self.given[0].numel() * self.given[0].element_size() / 1e9 or 1.0

    def check(self) -> dict[str, float]:
        """Mean sizes of output and gradients in fp32, without dropout."""
        given = arguments(self.kernel, SMALL, self.device, torch.float32)
        generator = torch.Generator().manual_seed(2)
        shape = self.without_dropout(*given).shape
        gradient = torch.rand(shape, generator=generator).to(self.device)
        found = forward_and_backward(self.without_dropout, given, gradient)
        return {f"array {number}": float(array.detach().abs().mean()) for number, array in enumerate(found)}

    def work(self, number: int) -> float:
        forward_and_backward(self.function, self.given, self.gradient)
        return self.amount

    def finish(self) -> None:
        if self.device == "cuda":
            torch.cuda.synchronize()

    def share(self, value: float) -> tuple[float, float]:
        """GB/s of the kernel and of a copy."""
        source = torch.empty(COPY, dtype=torch.uint8, device=self.device)
        target = torch.empty_like(source)
        target.copy_(source)
        begun, ended = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        times = 10
        begun.record()
        for _ in range(times):
            target.copy_(source)
        ended.record()
        torch.cuda.synchronize()
        return value, times * 2 * COPY / (begun.elapsed_time(ended) * 1e6)
