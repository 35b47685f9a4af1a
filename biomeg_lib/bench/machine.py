"""Where and when a case was measured."""

import datetime
import functools
import os
import subprocess
import sys


@functools.cache
def machine(cuda: bool) -> str:
    """What a case runs on, in words: the GPU, or the processor even where there is a GPU."""
    import torch

    from biomeg_lib.training.environment import hardware

    if cuda or not torch.cuda.is_available():
        return hardware()
    code = "from biomeg_lib.training.environment import hardware; print(hardware())"
    hidden = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run([sys.executable, "-c", code], env=hidden, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def today() -> str:
    """The date, ISO, UTC."""
    return datetime.datetime.now(datetime.UTC).date().isoformat()
