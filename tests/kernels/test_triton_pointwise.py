"""Bias + GeLU and bias + dropout + residual in Triton, against float64."""

import pytest
import torch
import torch.nn.functional as F
from triton_checks import DEVICE, check, draw, interpreter  # noqa: F401

from biomeg_lib.kernels import triton_pointwise
from biomeg_lib.kernels.triton_pointwise import bias_dropout_add, bias_gelu

SHAPES = [(1, 1), (37, 7), (2, 3, 300)]  # one program; two strips in backward; two blocks of columns


def gelu(kind):
    return lambda x, bias: F.gelu(x + bias, approximate="tanh" if kind == "tanh" else "none")


@pytest.mark.parametrize("kind", ["tanh", "erf"])
@pytest.mark.parametrize("shape", SHAPES)
def test_bias_gelu_against_float64(shape, kind):
    inputs = [draw(*shape, scale=2), draw(shape[-1], seed=1)]
    check(lambda x, bias: bias_gelu(x, bias, kind), gelu(kind), inputs)


@pytest.mark.parametrize("kind", ["tanh", "erf"])
def test_bias_gelu_of_all_sizes_of_numbers(kind):
    x = torch.tensor([-1e4, -30, -5, -1, -1e-3, 0, 1e-3, 1, 5, 30, 1e4], device=DEVICE)
    check(lambda x, bias: bias_gelu(x, bias, kind), gelu(kind), [x[:, None], torch.zeros(1, device=DEVICE)])
    small = x[2:9, None]  # where 1e4 would hide an error
    check(lambda x, bias: bias_gelu(x, bias, kind), gelu(kind), [small, torch.zeros(1, device=DEVICE)], 3e-7)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("bias_dtype", ["same", "float32"])
def test_bias_gelu_in_half_precision(dtype, bias_dtype):
    bias = draw(70, seed=1, dtype=dtype if bias_dtype == "same" else torch.float32)
    check(lambda x, bias: bias_gelu(x, bias, "tanh"), gelu("tanh"), [draw(9, 70, dtype=dtype), bias])


def test_inputs_that_are_not_contiguous():
    x, bias = draw(40, 6).t(), draw(80, seed=1)[::2]
    check(lambda x, bias: bias_gelu(x, bias, "tanh"), gelu("tanh"), [x, bias])
    x = draw(6, 40)
    bias_dropout_add(x, bias, x.detach(), 0.5, 3).sum().backward()  # a gradient with strides of 0
    assert set(x.grad.unique().tolist()) == {0.0, 2.0}


def mask_of(shape, p, seed, dtype=torch.float32):
    """The mask, bool: ones go in, nothing is added."""
    ones, zeros = torch.ones(shape, dtype=dtype, device=DEVICE), torch.zeros(shape, dtype=dtype, device=DEVICE)
    out = bias_dropout_add(ones, zeros.flatten()[: shape[-1]], zeros, p, seed)
    assert set(out.unique().tolist()) <= {0.0, torch.tensor(1 / (1 - p), dtype=dtype).item()}
    return out > 0


@pytest.mark.parametrize("p", [0.1, 0.5])
@pytest.mark.parametrize("shape", SHAPES)
def test_bias_dropout_add_against_float64(shape, p):
    keep = mask_of(shape, p, 12345)
    inputs = [draw(*shape), draw(shape[-1], seed=1), draw(*shape, seed=2)]
    check(
        lambda x, bias, residual: bias_dropout_add(x, bias, residual, p, 12345),
        lambda x, bias, residual: residual + (x + bias) * keep / (1 - p),
        inputs,
    )


def test_no_dropout_is_a_sum():
    inputs = [draw(5, 33), draw(33, seed=1), draw(5, 33, seed=2)]
    check(lambda x, bias, residual: bias_dropout_add(x, bias, residual, 0.0, 0), lambda x, b, r: x + b + r, inputs)


def test_bias_dropout_add_in_mixed_precision():
    inputs = [draw(5, 33, dtype=torch.bfloat16), draw(33, seed=1), draw(5, 33, seed=2)]
    keep = mask_of((5, 33), 0.25, 7)
    for p, mask in ((0.0, 1), (0.25, keep)):
        check(
            lambda x, bias, residual, p=p: bias_dropout_add(x, bias, residual, p, 7),
            lambda x, bias, residual, p=p, mask=mask: residual + (x + bias) * mask / (1 - p),
            inputs,
        )
    assert bias_dropout_add(*inputs, 0.25, 7).dtype == torch.float32
    assert bias_dropout_add(inputs[0], inputs[1], inputs[0], 0.25, 7).dtype == torch.bfloat16


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_rate_of_the_mask(p):
    keep = mask_of((32, 1024), p, 2**62 - 1)
    spread = (p * (1 - p) / keep.numel()) ** 0.5
    assert abs(keep.float().mean().item() - (1 - p)) < 5 * spread


def test_mask_is_a_function_of_seed_and_element():
    keep = mask_of((18, 300), 0.5, 11)
    assert torch.equal(keep, mask_of((18, 300), 0.5, 11, torch.bfloat16))
    assert torch.equal(keep[:9], mask_of((9, 300), 0.5, 11))
    assert torch.equal(keep, mask_of((2, 9, 300), 0.5, 11).view(18, 300))


@pytest.mark.parametrize("other", [12, 11 + 2**31, 11 + 2**32, 11 + 2**61])
def test_other_seeds_have_other_masks(other):
    agree = (mask_of((16, 1024), 0.5, 11) == mask_of((16, 1024), 0.5, other)).float().mean().item()
    assert abs(agree - 0.5) < 5 * 0.5 / (16 * 1024) ** 0.5


def test_elements_are_independent():
    keep = mask_of((32, 1024), 0.5, 5).float() - 0.5
    for rows, columns in [(1, 0), (2, 0), (3, 0), (4, 0), (8, 0), (0, 1), (0, 256), (1, 1)]:
        product = 4 * keep[rows:, columns:] * keep[: 32 - rows, : 1024 - columns]
        assert abs(product.mean().item()) < 5 / product.numel() ** 0.5


def test_so_many_rows_that_strips_grow(monkeypatch):
    monkeypatch.setattr(triton_pointwise, "_MAX_STRIPS", 1)
    keep = mask_of((37, 7), 0.5, 3)
    inputs = [draw(37, 7), draw(7, seed=1), draw(37, 7, seed=2)]
    check(lambda x, b, r: bias_dropout_add(x, b, r, 0.5, 3), lambda x, b, r: r + (x + b) * keep * 2, inputs)
    check(lambda x, bias: bias_gelu(x, bias, "tanh"), gelu("tanh"), inputs[:2])


def test_bias_gradient_repeats_to_the_bit():
    x, bias = draw(70, 20), draw(20, seed=1)
    found = [torch.autograd.grad(bias_gelu(x, bias, "erf").sum(), bias)[0] for _ in range(2)]
    assert torch.equal(*found)
    check(lambda x, bias: bias_gelu(x, bias, "erf"), gelu("erf"), [x, bias])
