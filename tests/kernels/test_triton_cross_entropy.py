"""The vocabulary projection fused with cross-entropy, against the plain loss."""

import pytest
import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from triton_checks import DEVICE, check, draw, interpreter  # noqa: F401

from biomeg_lib.kernels import triton_cross_entropy
from biomeg_lib.kernels.triton_cross_entropy import linear_cross_entropy


def plain(hidden, weight, bias, labels):
    return F.cross_entropy(F.linear(hidden, weight, bias), labels, reduction="sum")


def case(rows, words, size, dtype=torch.float32, scale=1.0):
    labels = torch.randint(words, (rows,), generator=torch.Generator().manual_seed(4)).to(DEVICE)
    inputs = [draw(rows, size, scale=scale, dtype=dtype), draw(words, size, seed=1, dtype=dtype)]
    return [*inputs, draw(words, seed=2, dtype=dtype)], labels


def against_float64(inputs, labels, tolerance=2e-6):
    check(lambda *x: linear_cross_entropy(*x, labels), lambda *x: plain(*x, labels), inputs, tolerance)


@pytest.mark.parametrize(("rows", "words", "size"), [(1, 2, 1), (13, 301, 16), (2, 9000, 4)])
@pytest.mark.parametrize("chunk", [1, 5 * 301 * 4, 2**20])
def test_against_float64(monkeypatch, rows, words, size, chunk):
    monkeypatch.setattr(triton_cross_entropy, "CHUNK_BYTES", chunk)
    # the product of one row with all words is PyTorch's, which sums one after the other
    against_float64(*case(rows, words, size), 1e-5 if words == 9000 else 2e-6)


def test_equal_to_the_plain_loss_in_fp32():
    inputs, labels = case(40, 500, 24)
    fused, unfused = linear_cross_entropy(*inputs, labels), plain(*inputs, labels)
    assert fused.dtype == torch.float32
    assert abs(fused.item() - unfused.item()) <= 1e-6 * unfused.item()


def test_very_large_logits():
    inputs, labels = case(6, 50, 16, scale=1e4)
    against_float64(inputs, labels)
    labels = (inputs[0] @ inputs[1].t() + inputs[2]).argmax(-1)  # all certain and right
    assert linear_cross_entropy(*inputs, labels).item() == 0.0


def test_gradients_in_bf16_are_within_its_rounding():
    inputs, labels = case(13, 301, 16, torch.bfloat16, scale=0.25)
    # logits, of up to 4, are rounded by up to 2**-7, and each probability by that share of it
    against_float64(inputs, labels, 2**-7)


def test_under_autocast_weights_and_their_gradients_stay_fp32():
    inputs, labels = case(13, 301, 16, scale=0.25)
    rounded = [value.detach().bfloat16().float().requires_grad_() for value in inputs[:2]]

    def ours(hidden, weight, bias):
        with torch.autocast(DEVICE.type, torch.bfloat16):
            return linear_cross_entropy(hidden, weight, bias, labels)

    check(ours, lambda *x: plain(*x, labels), [*rounded, inputs[2]], 2**-7)
    with torch.autocast(DEVICE.type, torch.bfloat16):
        assert linear_cross_entropy(*inputs, labels).dtype == torch.float32
    assert ours(*inputs).item() == pytest.approx(plain(*inputs, labels).item(), rel=2**-8)
    assert ours(*inputs).item() != linear_cross_entropy(*inputs, labels).item()  # the product was in bf16


def test_chunks_of_half_precision_are_summed_in_fp32(monkeypatch):
    monkeypatch.setattr(triton_cross_entropy, "CHUNK_BYTES", 1)
    inputs, labels = case(1, 7, 3)
    found = []
    for rows in (1, 60):
        with torch.autocast(DEVICE.type, torch.bfloat16):
            loss = linear_cross_entropy(inputs[0].expand(rows, 3), *inputs[1:], labels.expand(rows))
        found.append(torch.autograd.grad(loss, inputs[1:]))
    for one, many in zip(*found, strict=True):
        torch.testing.assert_close(many, 60 * one, rtol=1e-5, atol=1e-5)


def test_incoming_gradient_and_a_second_backward():
    inputs, labels = case(13, 301, 16)
    loss = linear_cross_entropy(*inputs, labels)
    once = torch.autograd.grad(loss, inputs, retain_graph=True)
    third = torch.autograd.grad(loss / 3, inputs)
    for a, b in zip(once, third, strict=True):
        torch.testing.assert_close(a / 3, b)


def test_no_rows():
    inputs, labels = case(0, 30, 8)
    loss = linear_cross_entropy(*inputs, labels)
    loss.backward()
    assert loss.item() == 0.0
    assert not any(value.grad.any() for value in inputs)


class Watch(TorchDispatchMode):
    """Counts the matrix products, and notes the most bytes of a tensor that was made."""

    def __init__(self):
        super().__init__()
        self.products, self.largest = 0, 0

    def __torch_dispatch__(self, function, types, arguments=(), keywords=None):
        out = function(*arguments, **(keywords or {}))
        self.products += "mm" in function.__name__
        if isinstance(out, torch.Tensor):
            self.largest = max(self.largest, out.nbytes)
        return out


def test_only_a_chunk_of_logits_is_alive(monkeypatch):
    monkeypatch.setattr(triton_cross_entropy, "CHUNK_BYTES", 4 * 4 * 301)
    inputs, labels = case(37, 301, 2)
    with Watch() as watch:
        linear_cross_entropy(*inputs, labels).backward()
    assert watch.largest == 4 * 4 * 301  # 37 rows in chunks of 4
    assert watch.products == 3 * 10


def test_without_gradients_none_are_computed():
    inputs, labels = case(13, 301, 16)
    wanted = plain(*inputs, labels).item()
    with torch.no_grad(), Watch() as watch:
        loss = linear_cross_entropy(*inputs, labels)
    assert watch.products == 1
    assert loss.item() == pytest.approx(wanted, rel=1e-6)
    inputs[1].requires_grad_(False)
    with Watch() as watch:
        linear_cross_entropy(*inputs, labels).backward()
    assert watch.products == 2
    assert inputs[1].grad is None
