"""A pre-training run on several ranks, started and watched by torchrun's own launcher.

What is notable: the launcher is a process of its own, in a process group of its own. Ctrl-C here becomes its SIGTERM,
which it hands on to the ranks; they save a checkpoint and end. When a rank is lost, all begin again at the last
checkpoint. What the launcher itself says goes to `launcher.log` in the run's folder; a rank that ends with a user's
mistake leaves its line in `failure`, so that nothing is begun again for it.

On several nodes every node starts the same command, with the variables that launchers of clusters set: MASTER_ADDR,
where the first node is, and MASTER_PORT. Within a job of SLURM nothing needs to be set: `srun` starts the launchers.
"""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import torch

from biomeg_lib.errors import BiomegError
from biomeg_lib.files import locked
from biomeg_lib.schema import Parallel
from biomeg_lib.study import Study
from biomeg_lib.training.pretrain import run_of

FAILURE, LOG, LOCK, PORT = "failure", "launcher.log", "launcher.lock", 29500
NODES = ("MASTER_ADDR", "MASTER_PORT")


def launch(study: Study, name: str) -> None:
    """Start the ranks of a run, show what the first one says, and return when all have ended well.

    Raises:
        BiomegError: `compile`, which is for one process; fewer GPUs than asked for; a run of several nodes without the
            address of the first; or the run has failed, with the line of the rank that did.
        KeyboardInterrupt: on Ctrl-C, when the ranks have saved what they did.
    """
    parallel = study.pretraining[name].parallel
    if study.compile:
        raise BiomegError(f"{study.params_file}: compile is for runs of one process, pretraining.{name} has several")
    if torch.cuda.is_available() and torch.cuda.device_count() < parallel.gpus_per_node:
        raise BiomegError(
            f"{study.params_file}: pretraining.{name}.parallel: {parallel.gpus_per_node} GPUs a node are asked for, "
            f"{torch.cuda.device_count()} are here"
        )
    folder = run_of(study, name).path
    # Of several nodes each has a launcher, of one only one at a time.
    alone = locked(folder / LOCK, str(folder)) if parallel.nodes == 1 else contextlib.nullcontext()
    with alone:
        if not run_of(study, name).complete:
            _launch(study, name, parallel, folder)


def _launch(study: Study, name: str, parallel: Parallel, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / FAILURE).unlink(missing_ok=True)
    ranks = ["-m", "biomeg_lib.training.rank", str(study.root / study.params_file), name]
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": str(study.threads),
        # else ranks that begin again meet at the launcher's own store, which has the addresses of those before
        "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1",
    }
    with tempfile.TemporaryDirectory(prefix="biomeg-") as meeting, open(folder / LOG, "a", encoding="utf-8") as log:
        command = [*_arguments(study, name, parallel, meeting), *ranks]
        process = subprocess.Popen(command, stderr=log, env=environment, process_group=0)
        code = _wait(process)
    if (line := failure_of(folder)) is not None:
        raise BiomegError(line)
    if code:
        raise BiomegError(f"pretraining.{name}: a rank was lost, and no restart is left; see {folder / LOG}")


def _arguments(study: Study, name: str, parallel: Parallel, meeting: str) -> list[str]:
    """The launcher's command line, up to what the ranks run.

    Args:
        meeting: a folder of one's own, where the launcher of a single node keeps what several have to agree on. Where
            that is kept behind a port, as `--standalone` does, whoever reaches the port can run code.
    """
    command = [sys.executable, "-m", "torch.distributed.run"]
    arguments = [f"--nproc-per-node={parallel.gpus_per_node}", f"--max-restarts={parallel.restarts}"]
    if parallel.nodes == 1:
        place = ["--rdzv-backend=c10d", "--rdzv-conf=store_type=file", f"--rdzv-endpoint={meeting}/store"]
        return [*command, *place, "--rdzv-id=alone", "--local-addr=127.0.0.1", *arguments]
    address, port = os.environ.get(NODES[0]), os.environ.get(NODES[1], str(PORT))
    if not address and "SLURM_JOB_ID" in os.environ:
        address = socket.gethostname()
        command = ["srun", f"--nodes={parallel.nodes}", "--ntasks-per-node=1", *command]
    if not address:
        raise BiomegError(
            f"{study.params_file}: pretraining.{name} is for {parallel.nodes} nodes: start it on each of them, with "
            f"{NODES[0]} (and {NODES[1]}, else {PORT}) of the first"
        )
    place = ["--rdzv-backend=c10d", f"--rdzv-endpoint={address}:{port}", f"--rdzv-id={study.profile}.{name}"]
    return [*command, f"--nnodes={parallel.nodes}", *place, *arguments]


def _wait(process: subprocess.Popen) -> int:
    try:
        return process.wait()
    except KeyboardInterrupt:
        process.send_signal(signal.SIGTERM)
        process.wait()
        raise


def failure_of(folder: Path) -> str | None:
    """The line of the rank that ended a run with a user's mistake, if one did."""
    path = folder / FAILURE
    return path.read_text(encoding="utf-8").strip() if path.is_file() else None
