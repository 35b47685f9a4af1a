"""The one training loop: AdamW, warm-up and linear decay, clipping, accumulation, evaluation, exact resume.

Nothing random outlives a step: the generators of step n are seeded from (seed, n), and the caller's batch of step n is
a function of n. A run that was killed and resumed therefore ends with the same bits as one that was not, and the
checkpoint needs no generator state. Ctrl-C waits for the end of a step, and the run goes on from there.

Notable for speed: batches are made ahead of their step; gradients are clipped within the optimiser's own pass; and on a
GPU nothing waits for a step to end but what reports of it, every `log_every` steps.
"""

import contextlib
import dataclasses
import itertools
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from biomeg_lib.errors import BiomegError
from biomeg_lib.training.environment import device as default_device
from biomeg_lib.training.environment import flushed_denormals
from biomeg_lib.training.interrupt import HeldInterrupt
from biomeg_lib.training.optimiser import make_optimizer, optimise
from biomeg_lib.training.prefetch import Prefetch
from biomeg_lib.training.process import OneProcess
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
        input_wait: the share of `seconds` that steps waited for their batches.
        tokens: real tokens trained on.
    """

    evaluations: list[dict[str, Any]]
    chosen: dict[str, Any]
    seconds: float
    input_wait: float
    tokens: int


@flushed_denormals()
def train(
    model: nn.Module,
    batch_of: Callable[[int, int], Any],
    recipe: Recipe,
    run: RunDirectory,
    evaluate: Callable[[nn.Module], dict[str, float]],
    *,
    label: str,
    device: torch.device | None = None,
    ranks: OneProcess | None = None,
) -> Trained:
    """Train `model` in place, from the run's checkpoint if it has one.

    Args:
        model: has `loss(batch) -> (scalar, parts)`.
        batch_of: (step, micro-batch) -> a batch, a dataclass of tensors with `tokens` and `mask`; a pure function,
            called in another thread, in order and a few batches ahead.
        evaluate: called in evaluation mode, without gradients; its figures are logged.
        label: what the progress line calls this run.
        ranks: where this process is one of several, and `batch_of` makes its part of a batch.

    Raises:
        BiomegError: the loss is no longer a finite number.
        KeyboardInterrupt: on Ctrl-C, when a checkpoint of the step that was under way has been written.
    """
    device = device or default_device()
    model.to(device).train()
    ranks = ranks or OneProcess(model)
    optimizer = make_optimizer(ranks.parameters.values(), recipe.learning_rate, recipe.weight_decay)
    autocast = bool(device.type == "cuda" and torch.cuda.is_bf16_supported())
    progress = _Tally(**(ranks.load(run, optimizer) or {}))
    run.rewind(progress.step, progress.logged)
    read_every = _reading_interval(device, recipe)
    unread: list[dict[str, torch.Tensor]] = []
    figures: dict[str, float] = {}
    started = saved = time.monotonic()
    before, before_waited = progress.seconds, progress.waited
    keys = itertools.product(range(progress.step, recipe.steps), range(recipe.accumulate))
    prefetch = Prefetch(lambda step, micro: _prepared(batch_of(step, micro), device), keys)
    with (
        Progress(label, recipe.steps, progress.step, ranks.first) as bar,
        prefetch as batches,
        HeldInterrupt() as interrupt,
    ):
        for step in range(progress.step, recipe.steps):
            seed_step(recipe.seed, step, ranks.stream)
            step_figures, tokens = _step(model, optimizer, batches, recipe, step, device, autocast, ranks)
            unread.append(step_figures)
            due = time.monotonic() - saved >= recipe.checkpoint_seconds
            tokens, due = ranks.sums(tokens, due)
            progress.step, progress.tokens = step + 1, progress.tokens + tokens
            last = progress.step == recipe.steps
            log, judge = progress.step % recipe.log_every == 0 or last, progress.step in recipe.evaluate_at or last
            save = bool(due) and not last
            if log or judge or save or progress.step % read_every == 0:
                figures = _read(unread, progress.step, recipe)
                unread.clear()
            bar.update(figures.get("loss", math.nan), tokens)
            record: dict[str, Any] = {}
            if log:
                record = {"rate": recipe.rate(step), "tokens": progress.tokens, **figures}
            if judge:
                result = evaluate_model(model, evaluate, ranks.graph_free)
                progress.evaluated(
                    {"step": progress.step, "tokens": progress.tokens, **result}, recipe.keep_best, model
                )
                record = {"tokens": progress.tokens, **record, **{f"eval_{k}": v for k, v in result.items()}}
            if record:
                run.log({"step": progress.step, **record})
            progress.seconds = before + time.monotonic() - started
            progress.waited = before_waited + batches.waited
            stop = any(ranks.sums(0, interrupt.asked))
            if stop and unread:
                _read(unread, progress.step, recipe)  # no checkpoint of a bad loss
            if save or stop:
                progress.logged = run.logged
                ranks.save(run, optimizer, progress.state())
                saved = time.monotonic()
            if stop:
                ranks.wait()
                raise KeyboardInterrupt
    ranks.wait()
    if progress.best_weights is not None:
        model.load_state_dict(progress.best_weights)
    chosen = progress.best if recipe.keep_best else progress.evaluations[-1]
    input_wait = progress.waited / max(progress.seconds, 1e-9)
    return Trained(progress.evaluations, chosen, progress.seconds, input_wait, progress.tokens)


def to_device(batch: Any, device: torch.device) -> Any:
    """A dataclass of tensors, on `device`."""
    return batch if device.type == "cpu" else _each(batch, lambda tensor: tensor.to(device, non_blocking=True))


def _prepared(batch: Any, device: torch.device) -> tuple[Any, int]:
    """A batch, in memory from which a GPU can copy by itself, and its number of real tokens."""
    tokens = int(batch.mask.sum())
    return (_each(batch, torch.Tensor.pin_memory) if device.type == "cuda" else batch), tokens


def _each(batch: Any, change: Callable[[torch.Tensor], torch.Tensor]) -> Any:
    return dataclasses.replace(batch, **{f.name: change(getattr(batch, f.name)) for f in dataclasses.fields(batch)})


def seed_step(seed: int, step: int, stream: int = 0) -> None:
    """Seed PyTorch for one step; the numbers are mixed so that neighbouring seeds share no step, nor streams one."""
    mixed = seed * 0x9E3779B97F4A7C15 + step * 0xBF58476D1CE4E5B9 + stream * 0xD6E8FEB86659FD93 + 0x94D049BB133111EB
    mixed &= 2**63 - 1
    torch.manual_seed(mixed)


def evaluate_model(
    model: nn.Module, evaluate: Callable[[nn.Module], dict[str, float]], graph_free: Any = torch.inference_mode
) -> dict[str, float]:
    """`evaluate(model)` in evaluation mode and without gradients; the model is left in training mode."""
    with evaluation_mode(model, graph_free):
        return evaluate(model)


@contextlib.contextmanager
def evaluation_mode(model: nn.Module, graph_free: Any = torch.inference_mode) -> Iterator[None]:
    """Evaluation mode without gradients for a block; the model is left in training mode.

    Args:
        graph_free: makes the context that does without gradients.
    """
    model.eval()
    with graph_free(), flushed_denormals():
        yield
    model.train()


def _step(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    batches: Iterator[tuple[Any, int]],
    recipe: Recipe,
    step: int,
    device: torch.device,
    autocast: bool,
    ranks: OneProcess,
) -> tuple[dict[str, torch.Tensor], int]:
    """One optimiser step. Returns the mean loss and its parts, the gradient norm, and the real tokens seen."""
    for group in optimizer.param_groups:
        group["lr"] = recipe.rate(step)
    sums: dict[str, torch.Tensor] = {}
    tokens = 0
    for _ in range(recipe.accumulate):
        batch, real = next(batches)
        tokens += real
        with torch.autocast(device.type, torch.bfloat16, enabled=autocast):
            loss, parts = model.loss(to_device(batch, device))
        (loss / recipe.accumulate).backward()
        for name, value in {"loss": loss.detach(), **parts}.items():
            share = value.double() / recipe.accumulate
            sums[name] = sums[name] + share if name in sums else share
    ranks.collect()
    norm = optimise(ranks.parameters.values(), optimizer, recipe.clip_norm, ranks.norm)
    ranks.clear()
    return {**ranks.means(sums), "gradient_norm": norm}, tokens


def _reading_interval(device: torch.device, recipe: Recipe) -> int:
    """Steps between two looks at the figures: to read those of a GPU is to wait for it."""
    return 1 if device.type == "cpu" else recipe.log_every


def _read(unread: list[dict[str, torch.Tensor]], step: int, recipe: Recipe) -> dict[str, float]:
    """The figures of step number `step`, the last of those that nobody has looked at yet.

    Raises:
        BiomegError: one of their losses is not finite.
    """
    for number, loss in enumerate(
        torch.stack([figures["loss"] for figures in unread]).tolist(), step - len(unread) + 1
    ):
        if not math.isfinite(loss):
            raise BiomegError(f"step {number}: the loss is {loss}; lower learning_rate ({recipe.learning_rate:g})")
    return {name: float(value) for name, value in unread[-1].items()}


@dataclass
class _Tally:
    """What a checkpoint holds besides weights and optimiser."""

    step: int = 0
    tokens: int = 0
    seconds: float = 0.0
    waited: float = 0.0
    evaluations: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    best: dict[str, Any] = dataclasses.field(default_factory=dict)
    best_weights: dict[str, torch.Tensor] | None = None
    logged: int | None = None

    def evaluated(self, record: dict[str, Any], keep_best: str | None, model: nn.Module) -> None:
        self.evaluations.append(record)
        if keep_best and (not self.best or record[keep_best] > self.best[keep_best]):
            self.best = record
            self.best_weights = {name: value.detach().clone() for name, value in model.state_dict().items()}

    def state(self) -> dict[str, Any]:
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
