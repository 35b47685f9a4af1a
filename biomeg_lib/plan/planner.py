"""All ways to spread a run over a machine, which of them fit into its memory, and which is the fastest.

A spread is a mesh, data x tensor, over all GPUs, a micro-batch, and whether activations are computed again. `tensor`
divides heads, width of the MLP, vocabulary and the GPUs of a node, since its all-reduces wait for the slowest link;
what a group has of a batch is a whole number of micro-batches.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from biomeg_lib.errors import BiomegError
from biomeg_lib.model.config import ModelConfig
from biomeg_lib.plan.machine import Machine
from biomeg_lib.plan.memory import Memory, rank_parameters, step_memory
from biomeg_lib.plan.spread import Run, Spread
from biomeg_lib.plan.timing import UTILISATION, StepTime, step_flops, step_time

HOUR = 3600.0


@dataclass(frozen=True)
class Option:
    """One way: what a rank holds, and how long a step takes."""

    spread: Spread
    memory: Memory
    time: StepTime


@dataclass(frozen=True)
class Plan:
    """What a run takes on a machine.

    Attributes:
        parameters: of the whole model, decoder and word embedding counted once.
        flops: that the loss needs, over the run.
        options: all spreads, those that fit first, of them the fastest first.
        fitting: how many fit.
    """

    config: ModelConfig
    run: Run
    machine: Machine
    parameters: int
    flops: float
    options: tuple[Option, ...]
    fitting: int

    @property
    def best(self) -> Option | None:
        """The fastest that fits; None if none does."""
        return self.options[0] if self.fitting else None

    @property
    def smallest(self) -> Option:
        """The one that needs least memory."""
        return min(self.options, key=lambda option: option.memory.total)

    def hours(self, option: Option) -> float:
        """Of the whole run."""
        return self.run.steps * option.time.total / HOUR

    def gpu_hours(self, option: Option) -> float:
        """Of all GPUs together."""
        return self.hours(option) * self.machine.gpus


def spreads(config: ModelConfig, run: Run, machine: Machine) -> Iterator[Spread]:
    """All that divide what they have to divide."""
    for tensor in _divisors(min(machine.gpus, machine.gpus_per_node)):
        divided = (config.heads, config.intermediate, config.vocab_size, machine.gpus, machine.gpus_per_node)
        if any(number % tensor for number in divided) or run.batch % (machine.gpus // tensor):
            continue
        data = machine.gpus // tensor
        share = run.batch // data
        for micro_batch in _divisors(share):
            for recompute in (False, True):
                yield Spread(data, tensor, micro_batch, share // micro_batch, recompute)


def plan(
    config: ModelConfig, run: Run, machine: Machine, utilisation: float = UTILISATION, spread: Spread | None = None
) -> Plan:
    """Look at all spreads.

    Args:
        utilisation: see `timing`.
        spread: the only one to look at, of as many ranks as the machine has GPUs.

    Raises:
        BiomegError: no mesh of so many GPUs divides model and batch, or a value out of its range.
    """
    if not 0 < utilisation <= 1:
        raise BiomegError(f"plan: utilisation must be above 0 and at most 1, found {utilisation:g}")
    if run.length > config.max_length:
        raise BiomegError(f"plan: length must be at most the model's {config.max_length} positions, found {run.length}")
    options = [
        Option(
            spread,
            step_memory(config, run, spread, machine),
            step_time(config, run, spread, machine, utilisation),
        )
        for spread in (spreads(config, run, machine) if spread is None else [spread])
    ]
    if not options:
        sizes = f"{config.heads} heads, {config.vocab_size:,} words and {machine.gpus_per_node} GPUs of a node"
        raise BiomegError(
            f"plan: {machine.gpus} GPUs are no data x tensor mesh for batches of {run.batch} sequences: data has to "
            f"divide these, tensor {sizes}"
        )
    usable = machine.usable

    def preference(option: Option) -> tuple[bool, float, bool, int]:
        spread, memory = option.spread, option.memory.total
        # three digits, since nobody knows more; then the larger products
        return memory > usable, float(f"{option.time.total:.3g}"), spread.recompute, -spread.micro_batch

    options.sort(key=preference)
    return Plan(
        config,
        run,
        machine,
        parameters=rank_parameters(config, 1).total(config.layers),
        flops=run.steps * step_flops(config, run),
        options=tuple(options),
        fitting=sum(option.memory.total <= usable for option in options),
    )


def _divisors(number: int) -> list[int]:
    return [divisor for divisor in range(1, number + 1) if number % divisor == 0]
