"""Memory of real training steps on a CPU beside the planner's, by hand:

    PYTHONPATH=tests python tests/plan/measure_memory.py 110m 4 128 2 1

A model, sequences of a rank's micro-batch, their length; ranks of the mesh, data and tensor, one without them. Two
measures, each in processes of its own: what PyTorch's allocator has handed out at most, as its profiler counts it,
which is exact and the same each time; and the growth of resident memory (VmHWM), which has the gaps of malloc, too.
"""

import functools
import gc
import sys

import torch
import torch.distributed as dist
from several_ranks import on_ranks
from torch.distributed.device_mesh import init_device_mesh
from torch.utils.checkpoint import checkpoint

from biomeg_lib.bench.memory import peak_memory, resident_memory
from biomeg_lib.corpus.samples import PretrainingBatch
from biomeg_lib.kernels import cpu
from biomeg_lib.model import PretrainingModel, config_for
from biomeg_lib.model.config import ModelConfig
from biomeg_lib.model.parallel import parallelise
from biomeg_lib.plan.machine import find
from biomeg_lib.plan.memory import Memory, step_memory
from biomeg_lib.plan.spread import MASKED, Run, Spread
from biomeg_lib.training.optimiser import make_optimizer, optimise
from biomeg_lib.training.process import OneProcess
from biomeg_lib.training.ranks import ManyProcesses

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


def process_of(config: ModelConfig, spread: Spread) -> OneProcess:
    """A new model, on this rank of a mesh or on a single one."""
    model = PretrainingModel(config).train()
    if spread.ranks > 1:
        mesh = init_device_mesh("cpu", (spread.data, spread.tensor), mesh_dim_names=("data", "tensor"))
        return ManyProcesses(parallelise(model, mesh, spread.recompute), dist.group.WORLD, dist.group.WORLD)
    if spread.recompute:
        for block in model.encoder.blocks:
            block.forward = functools.partial(checkpoint, block.forward, use_reentrant=False)
    return OneProcess(model)


def train(process: OneProcess, config: ModelConfig, length: int, spread: Spread) -> None:
    """A few steps, as `training.loop` makes them."""
    optimizer = make_optimizer(process.parameters.values(), 1e-4, 0.01)
    for step in range(STEPS):
        torch.manual_seed(step)  # the ranks of a tensor group have the same batch
        for _ in range(spread.accumulate):
            loss, _ = process.model.loss(batch_of(config, spread.micro_batch, length))
            (loss / spread.accumulate).backward()
            del loss
        process.collect()
        optimise(process.parameters.values(), optimizer, 1.0, process.norm)
        process.clear()


def held_by(tensors: list[torch.Tensor]) -> int:
    """Bytes of their storages, each once."""
    return sum({t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors}.values())


def allocated(config: ModelConfig, length: int, spread: Spread) -> int:
    """Bytes that PyTorch's allocator has handed out at most at a time in steps of a rank, weights and all."""
    process = process_of(config, spread)
    # what earlier calls left would not be counted, and be taken off when it goes
    cpu._kept.clear()
    gc.collect()
    held = most = held_by([parameter.detach() for parameter in process.parameters.values()])
    with torch.autograd.profiler.profile(profile_memory=True) as profile:
        train(process, config, length, spread)
    events = [event for event in profile.kineto_results.events() if event.name() == "[memory]"]
    for event in sorted(events, key=lambda event: event.start_ns()):
        held += event.nbytes()
        most = max(most, held)
    return most


def resident(config: ModelConfig, length: int, spread: Spread) -> int:
    """Bytes by which resident memory of a rank has grown at most, the model and all."""
    small = config_for("tiny", 128 * spread.tensor)
    train(process_of(small, spread), small, 16, spread)  # what the first call of everything loads
    before = resident_memory()
    train(process_of(config, spread), config, length, spread)
    return round(1e6 * (peak_memory() - before))


def planned(config: ModelConfig, length: int, spread: Spread, fused: bool = True) -> Memory:
    """What the planner says of the same."""
    batch = spread.data * spread.micro_batch * spread.accumulate
    run = Run(tokens=batch * length, batch=batch, length=length, fused=fused, dropout=config.dropout > 0)
    return step_memory(config, run, spread, find("cpu"))


def on_rank(rank: int, measure: str, name: str, words: int, length: int, spread: tuple) -> int:
    """A measure on one of several processes."""
    function = {"allocated": allocated, "resident": resident}[measure]
    return function(config_for(name, words), length, Spread(*spread))


def main(name: str, sequences: int, length: int, data: int = 1, tensor: int = 1) -> None:
    """Print the three figures, of the rank that has most."""
    spread = (data, tensor, sequences, 1, False)
    plan = planned(config_for(name, WORDS), length, Spread(*spread))
    print(f"{name}, {sequences} x {length} a rank, mesh {data} x {tensor}: planned {plan.total / 1e6:.0f} MB")
    for measure in ("allocated", "resident"):
        found = max(on_ranks(data * tensor, on_rank, measure, name, WORDS, length, spread))
        print(f"{measure:9} {found / 1e6:6.0f} MB, planned is {plan.total / found - 1:+.1%} of it", flush=True)


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
