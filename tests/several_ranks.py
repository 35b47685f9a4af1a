"""`on_ranks`: a function on several processes that talk by gloo, started from a server that has PyTorch imported."""

import multiprocessing
import os
import socket
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch.multiprocessing.spawn import start_processes

PRELOAD = ["torch", "biomeg_lib.training.rank"]


def on_ranks(world: int, function: Callable[..., Any], *arguments: Any) -> list[Any]:
    """What `function(rank, *arguments)` returns on each rank, tensors and plain values; raises what one does.

    The variables that torchrun sets are set; a process group of all ranks is there, unless the function is named as one
    that makes its own (`own_group = True`).
    """
    multiprocessing.set_forkserver_preload(PRELOAD)
    with tempfile.TemporaryDirectory() as folder, socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        free.close()
        start_processes(_run, (world, port, function, arguments, folder), world, start_method="forkserver")
        return [torch.load(Path(folder) / f"{rank}.pt", weights_only=True) for rank in range(world)]


def _run(rank: int, world: int, port: int, function: Callable[..., Any], arguments: tuple, folder: str) -> None:
    torch.set_num_threads(1)
    place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": world, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    os.environ |= {"TORCH_CPP_LOG_LEVEL": "ERROR", **{name: str(value) for name, value in place.items()}}
    if not getattr(function, "own_group", False):
        dist.init_process_group("gloo")
    try:
        torch.save(function(rank, *arguments), Path(folder) / f"{rank}.pt")
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()
