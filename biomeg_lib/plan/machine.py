"""Machines: how many GPUs, how much memory, how fast; and a few presets from public data sheets.

Notable: figures are those of the data sheets, in units of 10^9 and 10^12, bandwidths in one direction. `peak` is that
of dense matrix products (the sheets' larger figures are for sparse ones). A rank never gets all of a GPU's memory: the
driver, the communication library and the gaps of the allocator take some, so plans keep `RESERVED` of it free.
"""

import math
from dataclasses import dataclass, fields

from biomeg_lib.errors import BiomegError
from biomeg_lib.params import suggestion

RESERVED = 0.1  # of a GPU's memory, kept free


@dataclass(frozen=True)
class Machine:
    """GPUs in nodes, all alike; on a CPU a "GPU" is a process with all the cores.

    Attributes:
        name: of the preset.
        gpus: how many are used, over all nodes.
        gpus_per_node: within which `intra_bandwidth` holds.
        memory: bytes a GPU.
        peak: FLOP/s a GPU, dense products in `precision`.
        memory_bandwidth: bytes/s between a GPU and its memory.
        intra_bandwidth, inter_bandwidth: bytes/s that a GPU sends, within its node and to another one.
        precision: "bf16", matrix products in 16 bits with master weights in fp32; or "fp32".
        source: where the figures are from.

    Raises:
        BiomegError: a figure that no machine has.
    """

    name: str
    gpus: int
    gpus_per_node: int
    memory: float
    peak: float
    memory_bandwidth: float
    intra_bandwidth: float
    inter_bandwidth: float
    precision: str
    source: str

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not isinstance(value, str) and not (math.isfinite(value) and value > 0):
                raise BiomegError(f"plan: {field.name.replace('_', ' ')} must be a number above 0, found {value:g}")

    @property
    def usable(self) -> float:
        """Bytes a GPU that a plan may fill."""
        return (1 - RESERVED) * self.memory

    @property
    def compute_bytes(self) -> int:
        """Of a number that goes into a matrix product."""
        return 2 if self.precision == "bf16" else 4

    def bandwidth(self, ranks: int, stride: int) -> float:
        """Bytes/s of a ring of `ranks` GPUs, every `stride`-th one; past a node, those in a node share its adapters."""
        if ranks * stride <= self.gpus_per_node:
            return self.intra_bandwidth
        return min(self.intra_bandwidth, self.inter_bandwidth * max(1, self.gpus_per_node // stride))


MACHINES: dict[str, Machine] = {
    machine.name: machine
    for machine in (
        Machine(
            name="h100",
            gpus=8,
            gpus_per_node=8,
            memory=80e9,
            peak=989e12,
            memory_bandwidth=3.35e12,
            intra_bandwidth=450e9,
            inter_bandwidth=50e9,
            precision="bf16",
            source="NVIDIA H100 SXM data sheet; DGX H100: NVLink 900 GB/s both ways, a 400 Gb/s adapter a GPU",
        ),
        Machine(
            name="a100",
            gpus=8,
            gpus_per_node=8,
            memory=80e9,
            peak=312e12,
            memory_bandwidth=2.039e12,
            intra_bandwidth=300e9,
            inter_bandwidth=25e9,
            precision="bf16",
            source="NVIDIA A100 80GB SXM data sheet; DGX A100: NVLink 600 GB/s both ways, a 200 Gb/s adapter a GPU",
        ),
        Machine(
            name="v100",
            gpus=16,
            gpus_per_node=16,
            memory=32e9,
            peak=125e12,
            memory_bandwidth=0.9e12,
            intra_bandwidth=150e9,
            inter_bandwidth=6.25e9,
            precision="bf16",
            source="NVIDIA V100 32GB SXM3 data sheet, its fp16 in place of bf16, which it lacks; DGX-2: NVLink "
            "300 GB/s both ways, 8 adapters of 100 Gb/s for 16 GPUs",
        ),
        Machine(
            name="cpu",
            gpus=1,
            gpus_per_node=1,
            memory=16e9,
            peak=235e9,
            memory_bandwidth=20e9,
            intra_bandwidth=5e9,
            inter_bandwidth=0.1e9,
            precision="fp32",
            source="two cores with AVX-512, whose products docs/performance.md has measured; memory and links assumed, "
            "gigabit Ethernet between machines",
        ),
    )
}


def find(name: str) -> Machine:
    """The preset with this name.

    Raises:
        BiomegError: there is none, with the nearest name.
    """
    if name not in MACHINES:
        raise BiomegError(f"plan: no machine is called {name!r}; {suggestion(name, MACHINES)}")
    return MACHINES[name]
