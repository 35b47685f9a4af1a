"""Seconds of a training step, by part: an estimate from shapes and data sheets.

Notable:
- Products of matrices run at `utilisation` of the machine's peak, which is the one figure that has to be believed.
  Megatron's published runs on V100s and A100s have 0.31 (Shoeybi et al. 2019, one GPU) to 0.52 (Narayanan et al. 2021,
  Table 1, all communication included). 0.35, the default, is what params/paper.yaml reckons with. It is the same for
  every spread: that a small micro-batch, or a thin share of a product, runs slower than a large one is not counted, and
  of two spreads that take as long the one with larger micro-batches is preferred.
- Tensor parallelism waits for its sums: in each block and micro-batch 2 all-reduces of its hidden states in forward, 2
  in backward, and 2 more where the block is computed again; one for the embedding, one for the head.
- Data parallelism is FSDP2's: weights gathered for forward and again for backward, in the precision of products, and
  gradients scattered in fp32, for every micro-batch. The traffic of a block goes on beside the arithmetic of its
  neighbours. Nothing hides the first gathering and the last scattering, one of `layers` + 1 parts, nor what of the rest
  takes longer than the arithmetic.
- A collective costs what a ring moves, and the latency of a tree (NCCL has either; Thakur et al. 2005 derive both).
- Waiting for input, evaluation and checkpoints are not counted.
"""

import math
from dataclasses import dataclass, fields

from biomeg_lib.model.config import ModelConfig
from biomeg_lib.model.flops import useful_flops
from biomeg_lib.plan.machine import Machine
from biomeg_lib.plan.memory import rank_parameters
from biomeg_lib.plan.spread import WORD, Run, Spread

UTILISATION = 0.35
LATENCY = 5e-6  # seconds a hop: NCCL's all-reduce of a few bytes takes 10 to 30 microseconds in a node
ADAM_PASSES = 7  # weight, gradient and two moments are read, all but the gradient written


@dataclass(frozen=True)
class StepTime:
    """Seconds of an optimiser step.

    Attributes:
        compute: products of matrices that the loss needs.
        recompute: forward once more.
        tensor: all-reduces within tensor groups.
        data: what is not hidden of gathering and scattering.
        optimiser: Adam's passes over memory.
    """

    compute: float
    recompute: float
    tensor: float
    data: float
    optimiser: float

    @property
    def total(self) -> float:
        """Of all parts."""
        return sum(getattr(self, field.name) for field in fields(self))


def step_flops(config: ModelConfig, run: Run) -> float:
    """Operations that the loss of one optimiser step needs, over all ranks."""
    return useful_flops(config, run.batch, run.length, run.masked(run.batch))


def step_time(
    config: ModelConfig, run: Run, spread: Spread, machine: Machine, utilisation: float = UTILISATION
) -> StepTime:
    """How long an optimiser step takes.

    Args:
        utilisation: share of the peak that products of matrices reach, above 0.
    """
    speed = utilisation * machine.peak * spread.ranks
    useful = step_flops(config, run)
    masked = run.masked(run.batch)
    head = 3.0 * masked * (2 * config.hidden**2 + 2 * config.hidden * config.vocab_size)
    again = (useful - head) / 3 if spread.recompute else 0.0
    products = (useful + again) / speed
    owned = rank_parameters(config, spread.tensor).total(config.layers)
    return StepTime(
        compute=useful / speed,
        recompute=again / speed,
        tensor=spread.accumulate * _tensor_seconds(config, run, spread, machine),
        data=spread.accumulate * _data_seconds(config, spread, machine, products / spread.accumulate),
        optimiser=ADAM_PASSES * WORD * owned / spread.data / machine.memory_bandwidth,
    )


def _tensor_seconds(config: ModelConfig, run: Run, spread: Spread, machine: Machine) -> float:
    """Of the all-reduces of a micro-batch."""
    ranks = spread.tensor
    if ranks == 1:
        return 0.0
    tokens, masked = spread.micro_batch * run.length, run.masked(spread.micro_batch)
    times = 6 if spread.recompute else 4
    rows = times * ((config.layers - 1) * tokens + masked + spread.micro_batch) + tokens + masked
    moved = rows * config.hidden * machine.compute_bytes * 2 * (ranks - 1) / ranks
    hops = (times * config.layers + 2) * 2 * math.ceil(math.log2(ranks))
    return moved / machine.bandwidth(ranks, 1) + hops * LATENCY


def _data_seconds(config: ModelConfig, spread: Spread, machine: Machine, products: float) -> float:
    """Of gathering and scattering for a micro-batch what `products`, the seconds of its arithmetic, do not hide."""
    ranks, layers = spread.data, config.layers
    if ranks == 1:
        return 0.0
    parts = rank_parameters(config, spread.tensor)
    blocks, outside = layers * parts.block, parts.words + parts.rest
    moved = machine.compute_bytes * (2 * blocks + outside) + WORD * (blocks + outside)
    moved *= (ranks - 1) / ranks
    hops = (3 * layers + 2) * math.ceil(math.log2(ranks))
    seconds = moved / machine.bandwidth(ranks, spread.tensor) + hops * LATENCY
    bare = seconds / (layers + 1)
    return bare + max(0.0, seconds - bare - products)
