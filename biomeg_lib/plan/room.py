"""Whether a training step fits the memory that is free here.

What a step needs is what `memory` counts. That has been up to 15 % more than what was allocated, so only what needs
`MARGIN` times the free memory is refused; and it leaves out code, the driver and an allocator's gaps, so that a step
which is not refused may still be too large, by these or by what other programs take later. On systems other than Linux,
which find memory as it is asked for, nothing is refused.
"""

import ctypes
import dataclasses
import gc
import math
import sys
from pathlib import Path

import psutil
import torch

from biomeg_lib.errors import BiomegError
from biomeg_lib.model.config import ModelConfig
from biomeg_lib.plan.machine import find
from biomeg_lib.plan.memory import rank_parameters, step_memory
from biomeg_lib.plan.spread import Run, Spread

CGROUPS = Path("/sys/fs/cgroup")
OWN_CGROUPS = Path("/proc/self/cgroup")
MARGIN = 1.2
UNLIMITED = 1 << 60  # bytes; version 1 writes a number near 2^63 for none


def refuse_too_large(where: str, config: ModelConfig, run: Run, spread: Spread, ranks: int = 1) -> None:
    """Nothing, if a step of a run fits.

    Args:
        where: the entry of a params file, for the message.
        ranks: how many of the run's ranks share this machine's memory; on GPUs each has its own.

    Raises:
        BiomegError: it does not; the line has the bytes needed and found, and the largest batch that would fit.
    """
    on_gpu = torch.cuda.is_available()
    machine = find("h100" if on_gpu else "cpu")  # of which only the precision counts here
    free = free_gpu_memory() if on_gpu else free_memory()
    sharing = 1 if on_gpu else ranks

    def needed(micro_batch: int) -> float:
        return sharing * step_memory(config, run, dataclasses.replace(spread, micro_batch=micro_batch), machine).total

    if needed(spread.micro_batch) <= MARGIN * free:
        return
    fitting = spread.micro_batch - 1
    while fitting and needed(fitting) > free:
        fitting = max(0, min(fitting - 1, int(fitting * free / needed(fitting))))
    parameters = rank_parameters(config, 1).total(config.layers)
    place, each = "on the GPU" if on_gpu else "here", f" on each of {ranks} ranks" if ranks > 1 else ""
    most = f"at most {fitting} {'sequences fit' if fitting > 1 else 'sequence fits'}" if fitting else "not one fits"
    raise BiomegError(
        f"{where}: expected {_size(needed(spread.micro_batch))} of free memory {place} for {parameters:,} parameters "
        f"and {spread.micro_batch} sequences of {run.length} tokens{each}, found {_size(free)}, for which {most} at a "
        "time"
    )


def _size(size: float) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"


def free_gpu_memory() -> float:
    """Bytes that this process can still have of its GPU."""
    kept = torch.cuda.memory_reserved() - torch.cuda.memory_allocated()  # of earlier runs; it is used again
    return torch.cuda.mem_get_info()[0] + kept


def free_memory() -> float:
    """Bytes that this machine has for a process, swap included, or its control groups leave it, whichever is less."""
    if sys.platform != "linux":
        return math.inf
    gc.collect()
    if trim := getattr(ctypes.CDLL(None), "malloc_trim", None):  # glibc keeps what earlier runs had, and uses it again
        trim(0)
    swap = psutil.swap_memory().free
    return min([psutil.virtual_memory().available, *_left_by_groups()]) + swap


def _left_by_groups() -> list[float]:
    """What each control group that this process is in still allows, in bytes; none where that cannot be read."""
    try:
        lines = OWN_CGROUPS.read_text().splitlines()
    except OSError:
        return []
    found = []
    for line in lines:
        controllers, path = line.split(":", 2)[1:]
        if not controllers:
            root, names = CGROUPS, ("memory.max", "memory.current", "")
        elif "memory" in controllers.split(","):
            root, names = CGROUPS / "memory", ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_")
        else:
            continue
        own = root / path.lstrip("/")
        for group in (own, *own.parents):
            if group.is_relative_to(root):
                found += _left(group, *names)
    return found


def _left(group: Path, limit: str, used: str, prefix: str) -> list[float]:
    try:
        most, now = int((group / limit).read_text()), int((group / used).read_text())
        counts = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
    except (OSError, ValueError):  # "max", or not for us to read
        return []
    cached = sum(int(counts.get(prefix + name, 0)) for name in ("inactive_file", "active_file"))  # they give way
    cached += int(counts.get("slab_reclaimable", 0))
    return [most - now + cached] if most < UNLIMITED else []
