"""The CPU's kernels against float64 and against plain PyTorch, on odd shapes and hostile values."""

import itertools
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from biomeg_lib.kernels import cpu, plain
from biomeg_lib.kernels.layout import Packed

pytestmark = pytest.mark.skipif(cpu.reason() is not None, reason=f"no kernels for this CPU: {cpu.reason()}")


def values(*shape, scale=1.0, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return (torch.randn(*shape, generator=generator) * scale).requires_grad_()


def double(*tensors):
    return [t.detach().double().requires_grad_() for t in tensors]


def compare(function, reference, inputs, outputs=1, atol=2e-5, rtol=2e-5):
    """Outputs and gradients of `function` in fp32 against those of `reference` in float64."""
    exact = double(*inputs)
    ours, theirs = function(*inputs), reference(*exact)
    ours, theirs = (ours, theirs) if outputs > 1 else ((ours,), (theirs,))
    gradients = [torch.randn(o.shape, generator=torch.Generator().manual_seed(9)) for o in ours]
    for mine, wanted in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine.double(), wanted, atol=atol, rtol=rtol)
    mine = torch.autograd.grad(ours, inputs, gradients)
    wanted = torch.autograd.grad(theirs, exact, [g.double() for g in gradients])
    for number, (a, b) in enumerate(zip(mine, wanted, strict=True)):
        torch.testing.assert_close(a.double(), b, atol=atol * 5, rtol=rtol, msg=lambda m, n=number: f"input {n}: {m}")


@pytest.mark.parametrize("kind", ["tanh", "erf"])
@pytest.mark.parametrize("shape", [(1, 1), (3, 7), (130, 33), (2, 5, 16)])
def test_bias_gelu(shape, kind):
    inputs = [values(*shape, scale=3), values(shape[-1], seed=1)]
    compare(lambda x, b: cpu.bias_gelu(x, b, kind), lambda x, b: plain.bias_gelu(x, b, kind), inputs)


@pytest.mark.parametrize("kind", ["tanh", "erf"])
def test_bias_gelu_of_large_numbers(kind):
    x = torch.tensor([[-1e4, -90.0, -1e-30, 0.0, 1e-30, 90.0, 1e4]]).requires_grad_()
    y = cpu.bias_gelu(x, torch.zeros(7), kind)
    torch.testing.assert_close(y, F.gelu(x, approximate="tanh" if kind == "tanh" else "none"))
    (slope,) = torch.autograd.grad(y.sum(), x)
    torch.testing.assert_close(slope, torch.tensor([[0, 0, 0.5, 0.5, 0.5, 1, 1]]), atol=1e-6, rtol=0)


@pytest.mark.parametrize("shape", [(1, 1), (5, 3), (129, 40), (2, 3, 17)])
def test_residual_and_norm(shape):
    width = shape[-1]
    inputs = [
        values(*shape),
        values(width, seed=1),
        values(*shape, seed=2),
        values(width, seed=3),
        values(width, seed=4),
    ]

    def reference(x, bias, residual, weight, shift):
        total = residual + x + bias
        return total, F.layer_norm(total, (width,), weight, shift, 1e-5)

    atol = 2e-5 if width > 1 else 1e-2  # the norm of one number is 0, times one over the root of eps
    compare(
        lambda x, b, r, w, s: cpu.bias_dropout_add_norm(x, b, r, 0.0, 0, w, s, 1e-5),
        reference,
        inputs,
        outputs=2,
        atol=atol,
    )


def test_residual_alone_and_norm_alone():
    inputs = [values(9, 20), values(20, seed=1), values(9, 20, seed=2)]
    compare(lambda x, b, r: cpu.bias_dropout_add(x, b, r, 0.0, 0), lambda x, b, r: r + x + b, inputs)
    norm = [values(9, 20, scale=30), values(20, seed=1), values(20, seed=2)]
    compare(lambda x, w, b: cpu.layer_norm(x, w, b, 1e-12), lambda x, w, b: F.layer_norm(x, (20,), w, b, 1e-12), norm)


@pytest.mark.parametrize("used", [0, 1])
def test_residual_and_norm_where_one_output_has_no_gradient(used):
    inputs = [values(4, 8), values(8, seed=1), values(4, 8, seed=2), values(8, seed=3), values(8, seed=4)]
    x, bias, residual, weight, shift = inputs
    ours = cpu.bias_dropout_add_norm(x, bias, residual, 0.0, 0, weight, shift, 1e-5)[used]
    total = residual + x + bias
    theirs = (total, F.layer_norm(total, (8,), weight, shift, 1e-5))[used]
    up = torch.randn(4, 8)
    wanted = torch.autograd.grad(theirs, inputs, up, allow_unused=True)
    for mine, other in zip(torch.autograd.grad(ours, inputs, up, allow_unused=True), wanted, strict=True):
        assert (mine is None) == (other is None)
        if mine is not None:
            torch.testing.assert_close(mine, other, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("p", [0.1, 0.5])
def test_dropout_masks(p):
    x, bias, residual = torch.ones(400, 257), torch.zeros(257), torch.zeros(400, 257)
    first, again, other = (cpu.bias_dropout_add(x, bias, residual, p, seed) for seed in (7, 7, 8))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    torch.testing.assert_close(first[first != 0], torch.tensor(1 / (1 - p)).expand(int((first != 0).sum())))
    kept = (first != 0).double()
    error = 5 * (p * (1 - p) / kept.numel()) ** 0.5
    assert kept.mean().item() == pytest.approx(1 - p, abs=error)
    # rows, columns and neighbours are independent
    for pairs in ((kept[1:], kept[:-1]), (kept[:, 1:], kept[:, :-1])):
        both = (pairs[0] * pairs[1]).mean().item()
        assert both == pytest.approx((1 - p) ** 2, abs=2 * error)
    assert kept.mean(0).std() < 2 * (p * (1 - p) / 400) ** 0.5
    assert kept.mean(1).std() < 2 * (p * (1 - p) / 257) ** 0.5


def test_gradient_of_dropout_has_its_mask():
    x, bias, residual = values(50, 31), values(31, seed=1), values(50, 31, seed=2)
    y = cpu.bias_dropout_add(x, bias, residual, 0.3, 5)
    up = torch.randn(50, 31)
    dx, dbias, dresidual = torch.autograd.grad(y, (x, bias, residual), up)
    kept = ((y - residual) != 0).float() / 0.7
    torch.testing.assert_close(dx, up * kept)
    torch.testing.assert_close(dbias, (up * kept).sum(0), atol=1e-5, rtol=1e-5)
    assert torch.equal(dresidual, up)
    plain_x = values(50, 31)
    z = cpu.dropout(plain_x, 0.3, 5)
    (dz,) = torch.autograd.grad(z, plain_x, up)
    torch.testing.assert_close(dz, up * (z != 0) / 0.7)


@pytest.mark.parametrize("count", [1, 5, 64])
@pytest.mark.parametrize("scale", [1.0, 1e4])
def test_linear_cross_entropy(count, scale, monkeypatch):
    monkeypatch.setattr(cpu, "_LOGITS", 4 * 301 * 7)  # chunks of 7 rows
    hidden, weight, bias = (
        values(count, 24, scale=scale**0.5),
        values(301, 24, scale=scale**0.5, seed=1),
        values(301, seed=2),
    )
    labels = torch.randint(0, 301, (count,), generator=torch.Generator().manual_seed(3))
    exact = double(hidden, weight, bias)
    ours = cpu.linear_cross_entropy(hidden, weight, bias, labels)
    theirs = F.cross_entropy(F.linear(exact[0], exact[1], exact[2]), labels)
    assert ours.item() == pytest.approx(theirs.item(), rel=1e-6 if scale == 1 else 1e-4)
    for factor in (1.0, 0.25):
        mine = torch.autograd.grad(
            cpu.linear_cross_entropy(hidden, weight, bias, labels) * factor, (hidden, weight, bias)
        )
        wanted = torch.autograd.grad(F.cross_entropy(F.linear(exact[0], exact[1], exact[2]), labels) * factor, exact)
        for a, b in zip(mine, wanted, strict=True):
            torch.testing.assert_close(a.double(), b, atol=1e-5 * scale**0.5, rtol=1e-4)


def test_linear_cross_entropy_without_gradients(monkeypatch):
    monkeypatch.setattr(cpu, "_kept", [])
    hidden, weight, bias = torch.randn(6, 8), torch.randn(40, 8), torch.randn(40)
    labels = torch.arange(6)
    with torch.inference_mode():
        loss = cpu.linear_cross_entropy(hidden, weight, bias, labels)
    assert loss.item() == pytest.approx(F.cross_entropy(F.linear(hidden, weight, bias), labels).item(), rel=1e-6)
    cpu.linear_cross_entropy(hidden.requires_grad_(), weight, bias, labels).backward()  # in the same memory


def by_sequence(qkv, bias, bounds, heads):
    """Attention, sequence by sequence."""
    parts = []
    for start, end in itertools.pairwise(bounds):
        query, key, value = (qkv[start:end] + bias).view(end - start, 3, heads, -1).permute(1, 2, 0, 3)
        shares = (query @ key.transpose(-2, -1) / query.shape[-1] ** 0.5).softmax(-1)
        parts.append((shares @ value).transpose(0, 1).flatten(1))
    return torch.cat(parts)


@settings(max_examples=15, deadline=None)
@given(st.lists(st.integers(1, 150), min_size=1, max_size=4), st.sampled_from([(1, 16), (3, 32), (2, 80)]))
def test_attention(lengths, shape):
    heads, size = shape
    bounds = torch.tensor([0, *lengths]).cumsum(0)
    inputs = [values(int(bounds[-1]), 3 * heads * size), values(3 * heads * size, seed=1)]
    compare(
        lambda qkv, bias: cpu.attention(None, qkv, bias, Packed(bounds, max(lengths)), heads, 0.0, 0),
        lambda qkv, bias: by_sequence(qkv, bias, bounds.tolist(), heads),
        inputs,
        atol=5e-5,
    )


@settings(max_examples=10, deadline=None)
@given(st.lists(st.integers(1, 90), min_size=1, max_size=4), st.data())
def test_attention_of_some_queries(lengths, data):
    """Some tokens ask, in one sequence perhaps none; all are asked."""
    bounds, heads, size = torch.tensor([0, *lengths]).cumsum(0), 2, 16
    count, hidden = int(bounds[-1]), heads * size
    rows = torch.tensor(sorted(data.draw(st.sets(st.integers(0, count - 1), min_size=1))))
    packed = Packed(bounds, max(lengths)).asked_by(rows)
    inputs = [values(count, hidden), values(count, 2 * hidden, seed=2), values(3 * hidden, seed=1)]

    def ours(queries, others, bias):
        return cpu.attention(queries.index_select(0, rows), others, bias, packed, heads, 0.0, 0)

    def reference(queries, others, bias):
        return by_sequence(torch.cat([queries, others], 1), bias, bounds.tolist(), heads).index_select(0, rows)

    compare(ours, reference, inputs, atol=5e-5)


def test_attention_of_very_different_scores():
    qkv = values(40, 48, scale=100)
    out = cpu.attention(None, qkv, torch.zeros(48), Packed(torch.tensor([0, 40]), 40), 1, 0.0, 0)
    torch.testing.assert_close(out, by_sequence(qkv, torch.zeros(48), [0, 40], 1), atol=1e-3, rtol=1e-3)
    (gradient,) = torch.autograd.grad(out.sum(), qkv)
    assert gradient.isfinite().all()


def test_attention_dropout():
    """With equal scores and unit values an output is the kept share of its row; the gradient fits the function."""
    heads, size, length = 2, 16, 200
    packed = Packed(torch.tensor([0, length, 2 * length]), length)
    qkv = torch.zeros(2 * length, 3 * heads * size)
    bias = torch.cat([torch.zeros(2 * heads * size), torch.ones(heads * size)])
    first, again, other = (cpu.attention(None, qkv, bias, packed, heads, 0.25, seed) for seed in (3, 3, 4))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    shares = first[:, ::size] * 0.75
    assert shares.mean().item() == pytest.approx(0.75, abs=0.01)
    for head in range(heads):  # rows differ, and as binomial numbers do
        assert shares[:, head].std().item() == pytest.approx((0.25 * 0.75 / length) ** 0.5, rel=0.2)

    qkv = values(2 * length, 3 * heads * size)
    up = torch.randn(2 * length, heads * size, generator=torch.Generator().manual_seed(6))
    direction = torch.randn(qkv.shape, generator=torch.Generator().manual_seed(5))
    (slope,) = torch.autograd.grad(cpu.attention(None, qkv, bias, packed, heads, 0.25, 3), qkv, up)

    def along(step):
        return float(
            (cpu.attention(None, qkv.detach() + step * direction, bias, packed, heads, 0.25, 3) * up).double().sum()
        )

    assert (along(1e-2) - along(-1e-2)) / 2e-2 == pytest.approx(float((slope * direction).sum()), rel=2e-3, abs=0.05)


def test_results_do_not_depend_on_the_number_of_threads():
    x, bias = values(300, 64), values(64, seed=1)
    before = torch.get_num_threads()
    try:
        results = []
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            results.append(torch.autograd.grad(cpu.bias_gelu(x, bias, "tanh").square().sum(), (x, bias)))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(a, b) for other in results[1:] for a, b in zip(results[0], other, strict=True))


def test_a_missing_compiler_is_a_reason(tmp_path):
    """In a process of its own, without a compiler and an empty cache: plain PyTorch, and one line that says why."""
    code = (
        "import torch; from biomeg_lib import kernels;"
        "print(kernels.describe(torch.device('cpu')));"
        "print(kernels.bias_gelu(torch.ones(1, 2), torch.zeros(2), 'erf').shape)"
    )
    environment = {"PATH": str(tmp_path), "HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [
        "kernels: torch (no C compiler (gcc) was found)",
        "torch.Size([1, 2])",
    ]
    broken = tmp_path / "gcc"
    broken.write_text("#!/bin/sh\n[ \"$1\" = --version ] && exit 0\necho 'no such target' >&2\nexit 1\n")
    broken.chmod(0o755)
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("kernels: torch (")
    assert "no such target" in done.stdout
    assert not list(tmp_path.rglob("*.so"))


def test_a_damaged_library_is_compiled_anew_and_one_that_cannot_be_kept_is_used(tmp_path):
    """Other kernels would give other last digits, so neither may end in those of plain PyTorch."""

    def described(cache: Path) -> str:
        code = "import torch; from biomeg_lib import kernels; print(kernels.describe(torch.device('cpu')))"
        environment = {**os.environ, "BIOMEG_CACHE": str(cache)}
        return subprocess.run(
            [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
        ).stdout

    expected = described(tmp_path)
    (library,) = (tmp_path / "kernels").glob("*.so")
    whole = library.read_bytes()
    library.write_bytes(whole[: len(whole) // 2])
    assert described(tmp_path) == expected
    assert library.stat().st_size == len(whole)
    (tmp_path / "file").touch()
    assert described(tmp_path / "file") == expected
    assert not expected.startswith("kernels: torch")
