"""The one training loop: AdamW, warm-up and linear decay, clipping, accumulation, evaluation, exact resume.

Nothing random outlives a step: the generators of step n are seeded from (seed, n), and the caller's batch of step n is
a function of n. A run that was killed and resumed therefore ends with the same bits as one that was not, and the
checkpoint needs no generator state.
"""

import contextlib
import dataclasses
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from biomeg_lib.errors import BiomegError
from biomeg_lib.training.environment import device as default_device
from biomeg_lib.training.progress import Progress
from biomeg_lib.training.rundir import RunDirectory

CHECKPOINT_SECONDS = 60.0


@dataclass(frozen=True)
class Recipe:
    """How to train.

    Args:
        steps: optimiser steps.
        learning_rate: its peak, reached after `warmup` (a fraction of `steps`), then linear to zero.
        weight_decay: decoupled, not on biases and LayerNorms.
        seed: of dropout.
        accumulate: batches a step.
        evaluate_at: the steps after which to evaluate; the last one is always among them.
        keep_best: name of the evaluation's figure whose largest value decides which weights are kept; None keeps the
            last ones.
        checkpoint_seconds: the least time between two checkpoints. It has no influence on the result.
    """

    steps: int
    learning_rate: float
    warmup: float
    weight_decay: float
    seed: int
    accumulate: int = 1
    clip_norm: float = 1.0
    evaluate_at: frozenset[int] = frozenset()
    keep_best: str | None = None
    checkpoint_seconds: float = CHECKPOINT_SECONDS
    log_every: int = 20

    def rate(self, step: int) -> float:
        """The learning rate of step `step`, counted from 0."""
        warmup = math.ceil(self.warmup * self.steps)
        if step < warmup:
            return self.learning_rate * (step + 1) / warmup
        return self.learning_rate * (self.steps - step) / max(1, self.steps - warmup)


@dataclass
class Trained:
    """What `train` returns: evaluations in order, the best of them (or the last), and what it took.

    Args:
        evaluations: the records of `evaluate`, each with its `step`.
        chosen: the evaluation that belongs to the weights the model has now.
        seconds: time spent in training, over all resumed parts, evaluation included.
        tokens: real tokens trained on.
    """

    evaluations: list[dict[str, Any]]
    chosen: dict[str, Any]
    seconds: float
    tokens: int


def train(
    model: nn.Module,
    batch_of: Callable[[int, int], Any],
    recipe: Recipe,
    run: RunDirectory,
    evaluate: Callable[[nn.Module], dict[str, float]],
    *,
    label: str,
    device: torch.device | None = None,
) -> Trained:
    """Train `model` in place, from the run's checkpoint if it has one.

    Args:
        model: has `loss(batch) -> (scalar, parts)`.
        batch_of: (step, micro-batch) -> a batch, a dataclass of tensors with `tokens` and `mask`; a pure function.
        evaluate: called in evaluation mode, without gradients; its figures are logged.
        label: what the progress line calls this run.

    Raises:
        BiomegError: the loss is no longer a finite number.
    """
    device = device or default_device()
    torch.set_flush_denormal(True)  # vanishing probabilities become denormals, which cost ten times the time on a CPU
    model.to(device).train()
    optimizer = make_optimizer(model, recipe)
    autocast = bool(device.type == "cuda" and torch.cuda.is_bf16_supported())
    progress = _Tally()
    checkpoint = run.load_checkpoint()
    if checkpoint is not None:
        model.load_state_dict(checkpoint["model"])
        optimizer.load_state_dict(checkpoint["optimizer"])
        progress = _Tally(**checkpoint["tally"])
    run.rewind(progress.step)
    started = saved = time.monotonic()
    before = progress.seconds
    with Progress(label, recipe.steps, progress.step) as bar:
        for step in range(progress.step, recipe.steps):
            seed_step(recipe.seed, step)
            figures, tokens = _step(model, optimizer, batch_of, recipe, step, device, autocast)
            progress.step, progress.tokens = step + 1, progress.tokens + tokens
            bar.update(figures["loss"], tokens)
            record: dict[str, Any] = {}
            if progress.step % recipe.log_every == 0 or progress.step == recipe.steps:
                record = {"rate": recipe.rate(step), "tokens": progress.tokens, **figures}
            if progress.step in recipe.evaluate_at or progress.step == recipe.steps:
                result = evaluate_model(model, evaluate)
                progress.evaluated(
                    {"step": progress.step, "tokens": progress.tokens, **result}, recipe.keep_best, model
                )
                record = {"tokens": progress.tokens, **record, **{f"eval_{k}": v for k, v in result.items()}}
            if record:
                run.log({"step": progress.step, **record})
            progress.seconds = before + time.monotonic() - started
            if time.monotonic() - saved >= recipe.checkpoint_seconds and progress.step < recipe.steps:
                state = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
                run.save_checkpoint({**state, "tally": progress.state()})
                saved = time.monotonic()
    if progress.best_weights is not None:
        model.load_state_dict(progress.best_weights)
    chosen = progress.best if recipe.keep_best else progress.evaluations[-1]
    return Trained(progress.evaluations, chosen, progress.seconds, progress.tokens)


def make_optimizer(model: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """Fused AdamW; weight decay on matrices only."""
    matrices = [p for p in model.parameters() if p.requires_grad and p.dim() > 1]
    vectors = [p for p in model.parameters() if p.requires_grad and p.dim() <= 1]
    groups = [{"params": matrices, "weight_decay": recipe.weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=recipe.learning_rate, betas=(0.9, 0.999), eps=1e-8, fused=True)


def to_device(batch: Any, device: torch.device) -> Any:
    """A dataclass of tensors, on `device`."""
    if device.type == "cpu":
        return batch
    moved = {f.name: getattr(batch, f.name).to(device, non_blocking=True) for f in dataclasses.fields(batch)}
    return dataclasses.replace(batch, **moved)


def seed_step(seed: int, step: int) -> None:
    """Seed PyTorch for one step; the two numbers are mixed so that neighbouring seeds share no step."""
    mixed = (seed * 0x9E3779B97F4A7C15 + step * 0xBF58476D1CE4E5B9 + 0x94D049BB133111EB) & (2**63 - 1)
    torch.manual_seed(mixed)


def evaluate_model(model: nn.Module, evaluate: Callable[[nn.Module], dict[str, float]]) -> dict[str, float]:
    """`evaluate(model)` in evaluation mode and without gradients; the model is left in training mode."""
    with evaluation_mode(model):
        return evaluate(model)


@contextlib.contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Evaluation mode without gradients for a block; the model is left in training mode."""
    model.eval()
    with torch.inference_mode():
        yield
    model.train()


def _step(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    batch_of: Callable[[int, int], Any],
    recipe: Recipe,
    step: int,
    device: torch.device,
    autocast: bool,
) -> tuple[dict[str, float], int]:
    """One optimiser step. Returns the mean loss and its parts, the gradient norm, and the real tokens seen."""
    for group in optimizer.param_groups:
        group["lr"] = recipe.rate(step)
    sums: dict[str, float] = {}
    tokens = 0
    for micro in range(recipe.accumulate):
        batch = batch_of(step, micro)
        tokens += int(batch.mask.sum())
        batch = to_device(batch, device)
        with torch.autocast(device.type, torch.bfloat16, enabled=autocast):
            loss, parts = model.loss(batch)
        (loss / recipe.accumulate).backward()
        for name, value in {"loss": loss.detach(), **parts}.items():
            sums[name] = sums.get(name, 0.0) + float(value) / recipe.accumulate
    if not math.isfinite(sums["loss"]):
        raise BiomegError(
            f"step {step + 1}: the loss is {sums['loss']}; lower learning_rate ({recipe.learning_rate:g})"
        )
    norm = nn.utils.clip_grad_norm_(model.parameters(), recipe.clip_norm)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return {**sums, "gradient_norm": float(norm)}, tokens


@dataclass
class _Tally:
    """What a checkpoint holds besides weights and optimiser."""

    step: int = 0
    tokens: int = 0
    seconds: float = 0.0
    evaluations: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    best: dict[str, Any] = dataclasses.field(default_factory=dict)
    best_weights: dict[str, torch.Tensor] | None = None

    def evaluated(self, record: dict[str, Any], keep_best: str | None, model: nn.Module) -> None:
        self.evaluations.append(record)
        if keep_best and (not self.best or record[keep_best] > self.best[keep_best]):
            self.best = record
            self.best_weights = {name: value.detach().clone() for name, value in model.state_dict().items()}

    def state(self) -> dict[str, Any]:
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
