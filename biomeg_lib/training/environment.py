"""What a run ran on: versions, commit, hardware and date, for its `environment.json` and the report's footers."""

import datetime
import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

import torch

from biomeg_lib import __version__

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
