"""The loop against PyTorch's own parts: schedule, accumulation, clipping, what is decayed, what is kept."""

import threading
import time
from dataclasses import dataclass, replace

import pytest
import torch
from torch import nn

from biomeg_lib.errors import BiomegError
from biomeg_lib.training import loop
from biomeg_lib.training.loop import Recipe, seed_step, train
from biomeg_lib.training.optimiser import make_optimizer, optimise, total_norm
from biomeg_lib.training.rundir import RunDirectory, read_log

RECIPE = Recipe(steps=12, learning_rate=0.1, warmup=0.25, weight_decay=0.01, seed=1, log_every=1)


@dataclass
class Points:
    tokens: torch.Tensor
    mask: torch.Tensor
    target: torch.Tensor


class Regression(nn.Module):
    """A linear model with dropout, so that a step depends on the generator."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.linear = nn.Linear(4, 1)
        self.dropout = nn.Dropout(0.5)

    def loss(self, batch: Points):
        return ((self.linear(self.dropout(batch.tokens))[:, 0] - batch.target) ** 2).mean(), {}


def batch_of(step: int, micro: int) -> Points:
    generator = torch.Generator().manual_seed(100 * step + micro)
    tokens = torch.randn(8, 4, generator=generator)
    return Points(tokens, torch.ones(8, 4, dtype=torch.bool), tokens.sum(1))


def error_of(model: nn.Module) -> dict[str, float]:
    return {"score": -float(((model.linear.weight - 1) ** 2).sum())}


def run_in(folder) -> RunDirectory:
    folder.mkdir(exist_ok=True)
    return RunDirectory(folder, {})


def test_the_rate_follows_pytorch_schedulers():
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    recipe = replace(RECIPE, steps=40, warmup=0.2, learning_rate=1.0)
    warmup = torch.optim.lr_scheduler.LinearLR(optimizer, 1 / 8, 1.0, total_iters=7)
    for step in range(8):
        assert recipe.rate(step) == pytest.approx(optimizer.param_groups[0]["lr"])
        optimizer.step()
        warmup.step()
    assert recipe.rate(8) == 1.0
    assert recipe.rate(39) == pytest.approx(1 / 32)
    assert all(recipe.rate(step) > recipe.rate(step + 1) for step in range(8, 39))


def test_training_equals_a_loop_written_out(tmp_path):
    """The same steps by hand, with PyTorch alone: accumulation over two batches, clipping, AdamW on two groups."""
    recipe = replace(RECIPE, accumulate=2)
    model, plain = Regression(), Regression()
    train(model, batch_of, recipe, run_in(tmp_path / "run"), error_of, label="test", device=torch.device("cpu"))
    groups = [
        {"params": [plain.linear.weight], "weight_decay": 0.01},
        {"params": [plain.linear.bias], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=0.1)
    for step in range(12):
        seed_step(1, step)
        for group in optimizer.param_groups:
            group["lr"] = recipe.rate(step)
        sum(plain.loss(batch_of(step, micro))[0] / 2 for micro in range(2)).backward()
        nn.utils.clip_grad_norm_(plain.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
    assert torch.allclose(model.linear.weight, plain.linear.weight, atol=1e-6)
    assert torch.allclose(model.linear.bias, plain.linear.bias, atol=1e-6)


class Fake(torch.optim.AdamW):
    """Not fused, as an optimiser from elsewhere."""


@pytest.mark.parametrize("kind", [torch.optim.AdamW, Fake])
@pytest.mark.parametrize("size", [1e-3, 0.3, 40.0])
def test_clipping_within_the_step_is_clipping_before_it(kind, size):
    """Against clip_grad_norm_ and an unfused step, over some steps, for norms below and above the bound."""
    torch.manual_seed(3)
    ours = nn.Sequential(nn.Linear(300, 70), nn.LayerNorm(70), nn.Linear(70, 3))
    plain = nn.Sequential(nn.Linear(300, 70), nn.LayerNorm(70), nn.Linear(70, 3))
    plain.load_state_dict(ours.state_dict())
    adam = kind is torch.optim.AdamW
    mine = make_optimizer(ours.parameters(), 1e-3, 0.01) if adam else kind(ours.parameters(), 1e-3)
    groups = [
        {"params": g["params"], "weight_decay": g["weight_decay"]}
        for g in make_optimizer(plain.parameters(), 1e-3, 0.01).param_groups
    ]
    theirs = torch.optim.AdamW(groups if adam else plain.parameters(), lr=1e-3, foreach=False)
    start = ours[0].weight.detach().clone()
    for step in range(4):
        generator = torch.Generator().manual_seed(step)
        for one, other in zip(ours.parameters(), plain.parameters(), strict=True):
            one.grad = size * torch.randn(one.shape, generator=generator) / 10
            other.grad = one.grad.clone()
        expected = nn.utils.clip_grad_norm_(plain.parameters(), 1.0)
        theirs.step()
        assert optimise(ours.parameters(), mine, 1.0).item() == pytest.approx(expected.item(), rel=1e-5)
        mine.zero_grad()
    for one, other in zip(ours.parameters(), plain.parameters(), strict=True):
        assert torch.allclose(one, other, rtol=1e-5, atol=1e-8)
    assert (ours[0].weight - start).abs().max() > 1e-3
    assert "grad_scale" not in str(mine.state_dict())


def test_total_norm_is_that_of_float64():
    generator = torch.Generator().manual_seed(1)
    tensors = [torch.randn(shape, generator=generator) for shape in [(700, 301), (1,), (5, 7)]]
    tensors.append(torch.randn(200, 90, generator=generator).t())
    expected = torch.cat([tensor.double().flatten() for tensor in tensors]).norm().item()
    assert total_norm(tensors).item() == pytest.approx(expected, rel=1e-5)
    assert total_norm([torch.zeros(3)]).item() == 0


def test_biases_and_norms_are_not_decayed():
    model = nn.Sequential(nn.Linear(3, 3), nn.LayerNorm(3))
    decayed, free = make_optimizer(model.parameters(), 0.1, 0.01).param_groups
    assert [p.dim() for p in decayed["params"]] == [2]
    assert [p.dim() for p in free["params"]] == [1, 1, 1]
    assert (decayed["weight_decay"], free["weight_decay"]) == (0.01, 0.0)


def test_the_best_evaluation_decides_which_weights_stay(tmp_path):
    scores = iter([1.0, 3.0, 2.0])
    seen = []

    def evaluate(model: nn.Module) -> dict[str, float]:
        assert not model.training
        seen.append(model.linear.weight.clone())
        return {"score": next(scores)}

    recipe = replace(RECIPE, evaluate_at=frozenset({4, 8}), keep_best="score")
    model = Regression()
    trained = train(model, batch_of, recipe, run_in(tmp_path / "run"), evaluate, label="test")
    assert trained.chosen["score"] == 3.0
    assert trained.chosen["step"] == 8
    assert torch.equal(model.linear.weight, seen[1])
    assert [record["step"] for record in trained.evaluations] == [4, 8, 12]


@pytest.mark.parametrize("stop_at", [1, 5, 11])
def test_a_run_that_breaks_off_ends_as_if_it_had_not(tmp_path, stop_at):
    class Stop(Exception):
        pass

    def breaking(step: int, micro: int) -> Points:
        if step == stop_at:
            raise Stop
        return batch_of(step, micro)

    recipe = replace(RECIPE, evaluate_at=frozenset({3, 9}), keep_best="score", checkpoint_seconds=0)
    whole = Regression()
    expected = train(whole, batch_of, recipe, run_in(tmp_path / "whole"), error_of, label="test")
    with pytest.raises(Stop):
        train(Regression(), breaking, recipe, run_in(tmp_path / "broken"), error_of, label="test")
    model = Regression()
    trained = train(model, batch_of, recipe, run_in(tmp_path / "broken"), error_of, label="test")
    assert torch.equal(model.linear.weight, whole.linear.weight)
    assert (trained.evaluations, trained.tokens) == (expected.evaluations, expected.tokens)
    assert read_log(tmp_path / "broken") == read_log(tmp_path / "whole")


def test_a_loss_that_is_no_number_ends_the_run_with_advice(tmp_path):
    def poisoned(step: int, micro: int) -> Points:
        batch = batch_of(step, micro)
        return replace(batch, target=batch.target * (float("nan") if step == 3 else 1))

    recipe = replace(RECIPE, log_every=5)
    run = run_in(tmp_path / "run")
    with pytest.raises(BiomegError, match=r"^step 4: the loss is nan; lower learning_rate \(0\.1\)$"):
        train(Regression(), poisoned, recipe, run, error_of, label="test")
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("prefetch")]


def test_a_bad_loss_that_is_read_later_is_told_with_its_own_step():
    """As on a GPU, where nobody looks at each step."""
    unread = [{"loss": torch.tensor(value)} for value in (1.0, float("inf"), float("nan"), 2.0)]
    with pytest.raises(BiomegError, match=r"^step 8: the loss is inf"):
        loop._read(unread, 10, RECIPE)
    assert loop._read(unread[:1], 7, RECIPE) == {"loss": 1.0}


def test_no_checkpoint_of_a_bad_loss(tmp_path, monkeypatch):
    """With figures read as on a GPU, every 50 steps, but before a checkpoint all the same."""
    monkeypatch.setattr(loop, "_reading_interval", lambda device, recipe: 50)
    target = replace(batch_of(0, 0), target=torch.full((8,), float("nan")))
    saved = []
    run = run_in(tmp_path / "run")
    monkeypatch.setattr(run, "save_checkpoint", lambda state: saved.append(state["tally"]["step"]))
    recipe = replace(RECIPE, log_every=50, checkpoint_seconds=0)
    with pytest.raises(BiomegError, match=r"^step 6: the loss is nan"):
        train(
            Regression(),
            lambda step, micro: target if step == 5 else batch_of(step, 0),
            recipe,
            run,
            error_of,
            label="x",
        )
    assert saved == [1, 2, 3, 4, 5]


def test_waiting_for_input_is_measured(tmp_path):
    def slow(step: int, micro: int) -> Points:
        time.sleep(0.02)
        return batch_of(step, micro)

    trained = train(Regression(), slow, RECIPE, run_in(tmp_path / "slow"), error_of, label="test")
    assert trained.input_wait > 0.5
    quick = train(Regression(), batch_of, RECIPE, run_in(tmp_path / "quick"), error_of, label="test")
    assert 0 <= quick.input_wait < trained.input_wait < 1


def test_training_leaves_denormals_as_they_were(tmp_path):
    train(Regression(), batch_of, RECIPE, run_in(tmp_path / "run"), error_of, label="test")
    assert torch.tensor(1e-40).item() > 0


def test_neighbouring_seeds_share_no_step():
    draws = set()
    for seed in range(4):
        for step in range(-1, 50):
            seed_step(seed, step)
            draws.add(float(torch.rand(1, dtype=torch.float64)))
    assert len(draws) == 4 * 51


def test_device_moves_every_tensor():
    from biomeg_lib.training.loop import to_device

    batch = batch_of(0, 0)
    assert to_device(batch, torch.device("cpu")) is batch
    moved = to_device(batch, torch.device("meta"))
    assert {moved.tokens.device.type, moved.mask.device.type, moved.target.device.type} == {"meta"}
