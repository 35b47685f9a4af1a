"""Memory of real training steps on a CPU beside the planner's: `python tests/plan/measure_memory.py 110m 4 128`.

Two measures, each in a process of its own: what PyTorch's allocator has handed out at most, as its profiler counts it,
which is exact and the same each time; and the growth of resident memory (VmHWM), which has the gaps of malloc, too.
"""

import functools
import gc
import subprocess
import sys

import torch
from torch.utils.checkpoint import checkpoint

from biomeg_lib.bench.memory import peak_memory, resident_memory
from biomeg_lib.corpus.samples import PretrainingBatch
from biomeg_lib.kernels import cpu
from biomeg_lib.model import PretrainingModel, config_for
from biomeg_lib.model.config import ModelConfig
from biomeg_lib.plan.machine import find
from biomeg_lib.plan.memory import Memory, step_memory
from biomeg_lib.plan.spread import MASKED, Run, Spread
from biomeg_lib.training.loop import Recipe, make_optimizer, optimise

WORDS = 30_592
STEPS = 2  # from the second on, Adam's moments and the buffers that are kept are there


def batch_of(config: ModelConfig, sequences: int, length: int) -> PretrainingBatch:
    """Full sequences of random tokens, 15 % of them to be predicted."""
    shape, masked = (sequences, length), round(MASKED * sequences * length)
    return PretrainingBatch(
        tokens=torch.randint(config.vocab_size, shape),
        types=torch.zeros(shape, dtype=torch.int64),
        mask=torch.ones(shape, dtype=torch.bool),
        positions=torch.randperm(sequences * length)[:masked].sort().values,
        labels=torch.randint(config.vocab_size, (masked,)),
        order=torch.randint(2, (sequences,)),
    )


def train(config: ModelConfig, sequences: int, length: int, accumulate: int = 1, recompute: bool = False) -> None:
    """A few steps of a new model, as `training.loop` makes them."""
    model = PretrainingModel(config).train()
    if recompute:
        for block in model.encoder.blocks:
            block.forward = functools.partial(checkpoint, block.forward, use_reentrant=False)
    recipe = Recipe(steps=STEPS, learning_rate=1e-4, warmup=0.0, weight_decay=0.01, seed=1)
    optimizer = make_optimizer(model, recipe)
    for _ in range(STEPS):
        for _ in range(accumulate):
            loss, _ = model.loss(batch_of(config, sequences, length))
            (loss / accumulate).backward()
            del loss
        optimise(model, optimizer, 1.0)
        optimizer.zero_grad(set_to_none=True)


def allocated(config: ModelConfig, sequences: int, length: int, accumulate: int = 1, recompute: bool = False) -> int:
    """Bytes that PyTorch's allocator has handed out at most at a time, the model and all."""
    # what earlier calls left would not be counted, and be taken off when it goes
    cpu._kept.clear()
    gc.collect()
    with torch.autograd.profiler.profile(profile_memory=True) as profile:
        train(config, sequences, length, accumulate, recompute)
    held = most = 0
    for event in profile.kineto_results.events():
        if event.name() == "[memory]":
            held += event.nbytes()
            most = max(most, held)
    return most


def planned(
    config: ModelConfig, sequences: int, length: int, accumulate: int = 1, recompute: bool = False, fused: bool = True
) -> Memory:
    """What the planner says of the same."""
    batch = sequences * accumulate
    run = Run(tokens=batch * length, batch=batch, length=length, fused=fused, dropout=config.dropout > 0)
    return step_memory(config, run, Spread(1, 1, sequences, accumulate, recompute), find("cpu"))


def main(name: str, sequences: int, length: int, how: str | None = None) -> None:
    """Print the three figures; `how` is for the processes that this one starts."""
    config = config_for(name, WORDS)
    if how == "allocated":
        print(allocated(config, sequences, length) / 1e6)
    elif how == "resident":
        train(config_for("tiny", 128), 1, 16)  # what the first call of everything loads
        before = resident_memory()
        train(config, sequences, length)
        print(peak_memory() - before)
    else:
        plan = planned(config, sequences, length)
        print(f"{name}, {sequences} x {length}: planned {plan.total / 1e6:.0f} MB ({plan})")
        for how in ("allocated", "resident"):
            command = [sys.executable, __file__, name, str(sequences), str(length), how]
            found = float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
            print(f"{how:9} {found:6.0f} MB, planned is {plan.total / 1e6 / found - 1:+.1%} of it")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), *sys.argv[4:])
