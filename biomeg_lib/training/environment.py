"""What a run runs on: versions, commit, hardware and date, for its `environment.json`; device, and how it computes.

Notable: PyTorch has denormals flushed in the calling thread alone. The other threads of OpenMP's pool keep what they
started with, and as a matrix product waits for the slowest thread, nothing is gained then: a product with denormal
probabilities takes 170 times the time, whether one thread of two flushes them or none does. `flushed_denormals`
reaches them all.
"""

import contextlib
import ctypes
import datetime
import importlib.metadata
import os
import platform
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from biomeg_lib import __version__, kernels

PACKAGES = ("torch", "numpy", "tokenizers", "sentencepiece", "safetensors", "seqeval", "pandas")


def describe_environment(folder: Path) -> dict[str, Any]:
    """Versions, commit of the checkout around `folder` (None outside one), hardware, and now (UTC)."""
    return {
        "biomeg_lib": __version__,
        "python": platform.python_version(),
        "packages": {name: importlib.metadata.version(name) for name in PACKAGES},
        "commit": git_commit(folder),
        "hardware": hardware(),
        "threads": torch.get_num_threads(),
        "kernels": kernels.resolved(device()),
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


def git_commit(folder: Path) -> str | None:
    """The commit of the checkout, with `+` behind it when tracked files differ from it."""
    command = ["git", "-C", str(folder), "describe", "--always", "--dirty=+", "--abbrev=12", "--exclude=*"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None


def hardware() -> str:
    """The processor that training uses, in words."""
    if torch.cuda.is_available():
        return f"{torch.cuda.device_count()} x {torch.cuda.get_device_name()}"
    name = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        models = [
            line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")
        ]
        name = models[0] if models else name
    return f"{os.cpu_count()} x {name}"


def device() -> torch.device:
    """The GPU if there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def set_up(threads: int, choice: kernels.Choice, quiet: bool = False) -> None:
    """Have this process compute with so many threads and these kernels, and say so unless `quiet`.

    Raises:
        BiomegError: the kernels cannot be had here.
    """
    torch.set_num_threads(threads)
    kernels.use(choice)
    if not quiet:
        print(f"{kernels.describe(device())}; {threads} thread{'s' if threads > 1 else ''}", flush=True)


@contextlib.contextmanager
def flushed_denormals() -> Iterator[None]:
    """Denormal floats count as zero within the block, in all threads that compute; afterwards what was before.

    Vanishing probabilities become denormals, which a CPU is slow at. Where OpenMP is not GNU's, as on a Mac, only the
    calling thread and threads that start within the block are reached.
    """
    before = torch.tensor(1e-40).item() == 0
    _flush_denormals(True)
    try:
        yield
    finally:
        _flush_denormals(before)


def _flush_denormals(flush: bool) -> None:
    torch.set_flush_denormal(flush)
    parallel = getattr(ctypes.CDLL(None), "GOMP_parallel", None)
    if parallel is not None:
        body = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(lambda _: torch.set_flush_denormal(flush) and None)
        parallel(body, None, ctypes.c_uint(torch.get_num_threads()), ctypes.c_uint(0))
