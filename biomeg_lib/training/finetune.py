"""Fine-tuning: epochs of batches over a labelled set, the epoch chosen on the development set (paper section 4)."""

from collections.abc import Callable, Sequence
from typing import Any

from torch import nn

from biomeg_lib.training.loop import CHECKPOINT_SECONDS, Recipe, Trained, train
from biomeg_lib.training.rundir import RunDirectory


def finetune(
    model: nn.Module,
    epochs: Sequence[Sequence[Sequence[int]]],
    batch: Callable[[Sequence[int]], Any],
    evaluate: Callable[[nn.Module], dict[str, float]],
    run: RunDirectory,
    *,
    learning_rate: float,
    warmup: float,
    weight_decay: float,
    seed: int,
    evaluations: int,
    keep_best: str,
    label: str,
    checkpoint_seconds: float = CHECKPOINT_SECONDS,
) -> Trained:
    """Train `model` in place; its weights are afterwards those of the best evaluation, or the last without any.

    Args:
        epochs: for each epoch its batches, each a list of example indices.
        batch: makes the tensors of some examples.
        evaluate: figures on the development set.
        evaluations: how often to evaluate, at ends of epochs; at most once an epoch, 0 for never.
        keep_best: the figure that decides, the larger the better.
    """
    order = [indices for epoch in epochs for indices in epoch]
    ends, done = [], 0
    for epoch in epochs:
        done += len(epoch)
        ends.append(done)
    count = min(evaluations, len(ends))
    recipe = Recipe(
        steps=len(order),
        learning_rate=learning_rate,
        warmup=warmup,
        weight_decay=weight_decay,
        seed=seed,
        evaluate_at=frozenset(ends[round(len(ends) * (i + 1) / count) - 1] for i in range(count)),
        keep_best=keep_best if evaluations else None,
        checkpoint_seconds=checkpoint_seconds,
    )
    figures = evaluate if evaluations else lambda model: {}
    return train(model, lambda step, micro: batch(order[step]), recipe, run, figures, label=label)
