"""LayerNorm and masked softmax in Triton, against float64."""

import pytest
import torch
import torch.nn.functional as F
from triton_checks import DEVICE, check, draw, interpreter  # noqa: F401

from biomeg_lib.kernels import triton_rows
from biomeg_lib.kernels.triton_rows import layer_norm, masked_softmax


def norm(x, weight, bias):
    return F.layer_norm(x, x.shape[-1:], weight, bias, 1e-5)


def our_norm(x, weight, bias):
    return layer_norm(x, weight, bias, 1e-5)


@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (2, 3, 7), (70, 33), (3, 2500)])
def test_layer_norm_against_float64(shape):
    check(our_norm, norm, [draw(*shape, scale=3), draw(shape[-1], seed=1), draw(shape[-1], seed=2)], 4e-6)


def test_layer_norm_of_so_many_rows_that_strips_grow(monkeypatch):
    monkeypatch.setattr(triton_rows, "_MAX_STRIPS", 1)
    check(our_norm, norm, [draw(70, 33), draw(33, seed=1), draw(33, seed=2)], 4e-6)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("narrow", [False, True])
def test_layer_norm_in_half_precision(dtype, narrow):
    of_weight = dtype if narrow else torch.float32
    inputs = [draw(9, 70, dtype=dtype), draw(70, seed=1, dtype=of_weight), draw(70, seed=2, dtype=of_weight)]
    check(our_norm, norm, inputs, 4e-6)


def test_layer_norm_far_from_zero():
    x = (draw(5, 64).detach() + 1e4).requires_grad_()
    check(our_norm, norm, [x, draw(64, seed=1), draw(64, seed=2)], 2e-3)  # fp32 at 1e4 has steps of 1e-3


def test_layer_norm_of_equal_numbers_is_its_bias():
    x, bias = torch.full((3, 40), 7.0, device=DEVICE), draw(40, seed=2)
    out = layer_norm(x, draw(40, seed=1), bias, 1e-12)
    assert torch.equal(out, bias.expand(3, 40))


def test_layer_norm_of_inputs_that_are_not_contiguous():
    check(our_norm, norm, [draw(40, 6).t(), draw(80, seed=1)[::2], draw(40, seed=2)], 4e-6)


def softmax(scores, mask, scale):
    """In float64: a key that is masked has no part in the sum, a row without keys is 0."""
    mask = torch.ones((), dtype=torch.bool, device=DEVICE) if mask is None else mask
    low = (scores * scale).masked_fill(~mask, -1e300)
    top = low.amax(-1, keepdim=True).detach()
    powers = low.sub(top.masked_fill(top == -1e300, 0)).exp()  # exp(-1e300) is 0
    total = powers.sum(-1, keepdim=True)
    return powers / total.masked_fill(total == 0, 1)


def masks(batch, queries, keys):
    """Of padding, of any kind, broadcast over the batch; each but the last with rows where all is masked."""
    lengths = torch.arange(batch) * keys // max(batch - 1, 1)
    padding = torch.arange(keys) < lengths[:, None]
    any_kind = torch.rand(batch, 1, queries, keys, generator=torch.Generator().manual_seed(3)) < 0.4
    any_kind[0, 0, 0] = False
    return padding[:, None, None].to(DEVICE), any_kind.to(DEVICE), (torch.arange(keys) % 3 < 2).to(DEVICE)


@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (3, 2, 5, 7), (2, 3, 4, 130), (1, 2, 3, 2500)])
def test_masked_softmax_against_float64(shape):
    for mask in (None, *masks(shape[0], *shape[2:])):
        check(
            lambda scores, mask=mask: masked_softmax(scores, mask, 0.3),
            lambda scores, mask=mask: softmax(scores, mask, 0.3),
            [draw(*shape, scale=5)],
        )


def test_rows_without_keys_are_zero_and_have_no_gradient():
    scores = draw(2, 2, 3, 5)
    mask = torch.tensor([True, False], device=DEVICE).view(2, 1, 1, 1).expand(2, 1, 1, 5)
    out = masked_softmax(scores, mask, 1.0)
    out.backward(torch.ones_like(out).cumsum(-1))
    assert not out[1].any()
    assert not scores.grad[1].any()
    assert scores.grad[0].all()
    assert not masked_softmax(scores, torch.zeros_like(mask), 1.0).any()


def test_masked_softmax_of_very_large_scores():
    scores = draw(2, 1, 3, 9, scale=1e4)
    mask = masks(2, 3, 9)[1]
    check(lambda x: masked_softmax(x, mask, 1.0), lambda x: softmax(x, mask, 1.0), [scores])
    check(lambda x: masked_softmax(x, None, 10.0), lambda x: softmax(x, None, 10.0), [scores - 1e5])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_masked_softmax_in_half_precision(dtype):
    mask = masks(2, 5, 40)[1]
    inputs = [draw(2, 2, 5, 40, dtype=dtype)]
    # the gradient is made from rounded probabilities
    check(lambda x: masked_softmax(x, mask, 0.5), lambda x: softmax(x, mask, 0.5), inputs, torch.finfo(dtype).eps / 2)


def test_masked_softmax_of_scores_that_are_not_contiguous():
    scores = draw(2, 5, 3, 7).transpose(1, 3)
    check(lambda x: masked_softmax(x, None, 0.5), lambda x: softmax(x, None, 0.5), [scores])
