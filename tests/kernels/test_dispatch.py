"""The choice of kernels, and that a model gives the same with each."""

from dataclasses import replace

import pytest
import torch

from biomeg_lib import kernels
from biomeg_lib.corpus.samples import PretrainingBatch
from biomeg_lib.errors import BiomegError
from biomeg_lib.kernels import cpu
from biomeg_lib.model import ModelConfig, PretrainingModel, TokenClassifier

CPU = torch.device("cpu")
needs_compiler = pytest.mark.skipif(cpu.reason() is not None, reason=f"no kernels for this CPU: {cpu.reason()}")


@pytest.fixture(autouse=True)
def _choice_restored():
    yield
    kernels.use("auto")


def config(**changes) -> ModelConfig:
    values = {"layers": 2, "hidden": 64, "heads": 2, "vocab_size": 200, "max_length": 48, "dropout": 0.0}
    return ModelConfig(**values | {"attention_dropout": 0.0} | changes)


def a_batch(seed: int, lengths=(40, 12, 27, 1)) -> PretrainingBatch:
    generator = torch.Generator().manual_seed(seed)
    mask = torch.arange(40) < torch.tensor(lengths)[:, None]
    tokens = torch.randint(5, 200, mask.shape, generator=generator).masked_fill(~mask, 0)
    real = mask.flatten().nonzero().squeeze(1)
    positions = real[torch.randperm(len(real), generator=generator)[:12]].sort().values
    order = torch.randint(0, 2, (len(lengths),), generator=generator)
    return PretrainingBatch(tokens, torch.zeros_like(tokens), mask, positions, tokens.flatten()[positions], order)


@needs_compiler
def test_auto_takes_the_c_kernels_in_fp32_alone():
    assert kernels.describe(CPU) == "kernels: cpu"
    weight = torch.zeros(2, 32)
    assert kernels.packs(weight, 16, 0.1)
    assert not kernels.packs(weight.double(), 16, 0.1)
    assert not kernels.packs(weight, 20, 0.1)
    with torch.autocast("cpu", torch.bfloat16):
        assert not kernels.packs(weight, 16, 0.1)
    kernels.use("torch")
    assert kernels.describe(CPU) == "kernels: torch"
    assert not kernels.packs(weight, 16, 0.1)


def test_what_cannot_be_had_is_one_line():
    with pytest.raises(BiomegError, match=r"^kernels: apex cannot be used here: .+"):
        kernels.use("apex")
    with pytest.raises(BiomegError, match="expected one of auto, torch, triton, apex, found 'fast'"):
        kernels.use("fast")
    assert kernels.resolved(CPU) in ("cpu", "torch")


@needs_compiler
@pytest.mark.parametrize("norm", ["pre", "post"])
@pytest.mark.parametrize("gelu", ["tanh", "erf"])
def test_loss_and_gradients_equal_plain_pytorch(norm, gelu):
    torch.manual_seed(0)
    model = PretrainingModel(config(norm=norm, gelu=gelu)).train()
    results = []
    for choice in ("auto", "torch"):
        kernels.use(choice)
        model.zero_grad()
        loss, _ = model.loss(a_batch(1))
        loss.backward()
        results.append((loss.item(), {name: p.grad.clone() for name, p in model.named_parameters()}))
    (ours, mine), (plain, wanted) = results
    assert ours == pytest.approx(plain, rel=1e-6)
    for name, gradient in wanted.items():
        torch.testing.assert_close(mine[name], gradient, atol=2e-6, rtol=1e-4, msg=lambda m, n=name: f"{n}: {m}")


@needs_compiler
def test_vectors_equal_plain_pytorch_at_real_tokens_and_are_zero_at_padding():
    torch.manual_seed(0)
    model = TokenClassifier(config(), 3).eval()
    batch = a_batch(2)
    with torch.no_grad():
        ours = model.encoder(batch.tokens, batch.types, batch.mask)
        some = model.encoder(batch.tokens, batch.types, batch.mask, batch.positions)
        kernels.use("torch")
        plain = model.encoder(batch.tokens, batch.types, batch.mask)
    torch.testing.assert_close(ours[batch.mask], plain[batch.mask], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(some, plain.flatten(0, 1)[batch.positions], atol=1e-5, rtol=1e-5)
    assert not ours[~batch.mask].any()


@needs_compiler
def test_nothing_is_masked():
    model = PretrainingModel(config()).train()
    batch = a_batch(3)
    empty = replace(batch, positions=batch.positions[:0], labels=batch.labels[:0])
    loss, parts = model.loss(empty)
    loss.backward()
    assert parts["mlm"].item() == 0
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


def test_attention_maps():
    torch.manual_seed(0)
    model = TokenClassifier(config(layers=3), 3).eval()
    batch = a_batch(4)
    maps = model.encoder.attention_maps(batch.tokens, batch.types, batch.mask)
    assert [m.shape for m in maps] == [(4, 2, 40, 40)] * 3
    for shares in maps:
        torch.testing.assert_close(shares.sum(-1), torch.ones(4, 2, 40))
        assert not shares.masked_select(~batch.mask[:, None, None, :]).any()


@needs_compiler
def test_two_hundred_steps_with_kernels_and_without():
    """The loss curve is the same within 1e-4, relative, at each of 200 steps."""
    curves = []
    for choice in ("auto", "torch"):
        kernels.use(choice)
        torch.manual_seed(0)
        model = PretrainingModel(config(hidden=32)).train()
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
        losses = []
        for step in range(200):
            loss, _ = model.loss(a_batch(step % 8))
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            losses.append(loss.item())
        curves.append(losses)
    assert curves[0][-1] < 0.9 * curves[0][0]
    assert curves[0] == pytest.approx(curves[1], rel=1e-4)
