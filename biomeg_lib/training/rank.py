"""`python -m biomeg_lib.training.rank PARAMS NAME`: one rank of a pre-training run, as torchrun starts it (`launch`).

What is notable: the first rank holds the run's folder and alone writes to it, but for the parts of checkpoints; SIGTERM
means what Ctrl-C does, since that is what the launcher ends ranks with.
"""

import datetime
import hashlib
import importlib.metadata
import json
import os
import signal
import sys
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh

from biomeg_lib.errors import BiomegError
from biomeg_lib.files import atomic_open
from biomeg_lib.model import PretrainingModel
from biomeg_lib.model.config import check_mesh
from biomeg_lib.model.parallel import DATA, TENSOR, parallelise
from biomeg_lib.plan.runs import check_room
from biomeg_lib.study import Study, load
from biomeg_lib.training.environment import PACKAGES, device, set_up
from biomeg_lib.training.launch import FAILURE, failure_of
from biomeg_lib.training.pretrain import run_of, train_on
from biomeg_lib.training.ranks import ManyProcesses
from biomeg_lib.training.rundir import RunDirectory

PATIENCE = datetime.timedelta(minutes=10)  # for ranks that read, compile or save while others wait


class Bystander(RunDirectory):
    """The run's folder as all ranks but the first see it: they read it, and leave the writing to that one."""

    def log(self, record: dict[str, Any]) -> None:
        pass

    def rewind(self, step: int, logged: int | None = None) -> None:
        pass

    def save_model(self, weights: Any, config: Any) -> None:
        pass


def main(params: str, name: str) -> int:
    """Train as one of the ranks; returns the exit code."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    study = load(params)
    run = run_of(study, name)
    if failure_of(run.path):  # this start is a second one, which nobody needs
        return 0
    try:
        _train(study, name, run)
    except BiomegError as error:
        with atomic_open(run.path / FAILURE) as stream:
            stream.write(f"{error}\n")
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def _train(study: Study, name: str, run: RunDirectory) -> None:
    parallel = study.pretraining[name].parallel
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    check_room(study, name)
    dist.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo", timeout=PATIENCE)
    control, files = dist.new_group(backend="gloo"), dist.new_group(backend="gloo")
    first = dist.get_rank() == 0
    if dist.get_world_size() != parallel.ranks:
        raise BiomegError(f"pretraining.{name}: {parallel.ranks} ranks are asked for, {dist.get_world_size()} are here")
    _check_alike(run, control)
    mesh = init_device_mesh(device().type, (parallel.data, parallel.tensor), mesh_dim_names=(DATA, TENSOR))
    compute = torch.bfloat16 if device().type == "cuda" and torch.cuda.is_bf16_supported() else None

    def spread(model: PretrainingModel) -> ManyProcesses:
        check_mesh(model.config, parallel.data, parallel.tensor, study.pretraining[name].batch)
        return ManyProcesses(parallelise(model, mesh, parallel.recompute, compute), control, files)

    seconds, part = 60 * parallel.checkpoint_minutes, (mesh.get_local_rank(DATA), parallel.data)
    if first:
        set_up(study.threads, study.kernels)
        with run.start():  # `launch` has seen to it that there is something to do
            run.finish(train_on(study, name, run, seconds, spread, part))
            dist.barrier(control)  # nobody ends before the result is written
    else:
        set_up(study.threads, study.kernels, quiet=True)
        train_on(study, name, Bystander(run.path, run.params), seconds, spread, part)
        dist.barrier(control)
    dist.destroy_process_group()


def _check_alike(run: RunDirectory, control: dist.ProcessGroup) -> None:
    """Raise BiomegError on every rank if one has other params, or other versions of what computes."""
    versions = {package: importlib.metadata.version(package) for package in PACKAGES}
    text = json.dumps([run.params, versions], sort_keys=True)
    own = torch.tensor(list(hashlib.sha256(text.encode()).digest()))
    others = [torch.empty_like(own) for _ in range(dist.get_world_size(control))]
    dist.all_gather(others, own, group=control)
    unlike = [number for number, other in enumerate(others) if not torch.equal(other, others[0])]
    if unlike:
        numbers = ", ".join(map(str, unlike))
        raise BiomegError(f"{run.path.name}: rank {numbers} has other params or package versions than rank 0")


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
