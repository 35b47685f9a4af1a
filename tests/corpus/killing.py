"""A build that is killed at a given step, for tests of going on afterwards."""

import os
import signal
from collections.abc import Callable

from biomeg_lib.corpus import blocks


def killed_at(point: int, build: Callable[[], object]) -> bool:
    """Whether `build`, in a process of its own, is killed as it renames a file or adds a block for the n-th time."""
    child = os.fork()
    if not child:
        steps = 0

        def counted(function):
            def step(*arguments):
                nonlocal steps
                steps += 1
                if steps == point:
                    os.kill(os.getpid(), signal.SIGKILL)
                return function(*arguments)

            return step

        os.replace = counted(os.replace)
        blocks.BlockWriter.add = counted(blocks.BlockWriter.add)
        build()
        os._exit(0)
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])
