"""What the tests of the Triton kernels share: the interpreter where there is no GPU, float64 gradients, comparisons."""

import importlib.util
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from triton_interpreter import import_kernels

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")

if importlib.util.find_spec("triton") is None:
    pytest.skip("the package triton is not installed", allow_module_level=True)


@pytest.fixture(autouse=True)
def interpreter(monkeypatch: pytest.MonkeyPatch) -> None:
    """Triton looks at the variable when it runs a kernel, too."""
    if DEVICE.type == "cpu":
        monkeypatch.setenv("TRITON_INTERPRET", "1")


import_kernels()


def draw(*shape: int, seed: int = 0, scale: float = 1.0, dtype: torch.dtype = torch.float32) -> Tensor:
    """Normal numbers, on the device, with gradient."""
    values = torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * scale
    return values.to(DEVICE, dtype).requires_grad_()


def gradients(function: Callable[..., Tensor], inputs: list[Tensor], weights: Tensor) -> tuple[Tensor, list[Tensor]]:
    """`function(*inputs)`, and the gradients of its product with `weights`, summed."""
    leaves = [value.detach().requires_grad_() for value in inputs]
    out = function(*leaves)
    out.backward(weights.to(out.dtype))
    return out.detach(), [leaf.grad for leaf in leaves]


def check(
    ours: Callable[..., Tensor], truth: Callable[..., Tensor], inputs: list[Tensor], tolerance: float = 2e-6
) -> None:
    """Output and gradients against `truth` in float64, relative to the largest number where `inputs` are float32.

    bf16 and fp16 may be off by a rounding, which is relative to each number; sums of bias gradients are not rounded.
    """
    wide = [value.detach().double() for value in inputs]
    shape = truth(*wide).shape
    weights = torch.randn(shape, generator=torch.Generator().manual_seed(99)).to(DEVICE, inputs[0].dtype)
    out, found = gradients(ours, inputs, weights)
    wanted, expected = gradients(truth, wide, weights.double())
    for a, b in zip([out, *found], [wanted, *expected], strict=True):
        assert a.shape == b.shape
        assert torch.isfinite(a).all()
        relative = 0 if a.dtype == torch.float32 else torch.finfo(a.dtype).eps
        torch.testing.assert_close(a.double(), b, rtol=relative, atol=tolerance * max(1.0, float(b.abs().max())))
    for value, gradient in zip(inputs, found, strict=True):
        assert gradient.dtype == value.dtype
