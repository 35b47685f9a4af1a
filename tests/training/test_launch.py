"""Several ranks under torchrun's launcher: one of them killed, all interrupted, two nodes on the loopback address."""

import datetime
import os
import random
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import torch
import torch.distributed as dist
from ranked_run import RUN, check_as_alone, copied, run_of, write_params

from biomeg_lib.errors import BiomegError
from biomeg_lib.training import launch

ROOT = Path(__file__).resolve().parent.parent.parent
OFTEN = 0.002  # minutes between checkpoints


def start(root: Path, **variables: str) -> subprocess.Popen:
    """`biomeg pretrain`, from a shell."""
    command = [sys.executable, "-m", "biomeg_lib", "pretrain", "params/nano.yaml", RUN]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **variables}
    return subprocess.Popen(
        command, cwd=root, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def ranks_of(process: subprocess.Popen) -> list[psutil.Process]:
    return [p for p in psutil.Process(process.pid).children(recursive=True) if is_rank(p)]


def is_rank(process: psutil.Process) -> bool:
    try:
        words = process.cmdline()
    except psutil.Error:
        return False
    return "biomeg_lib.training.rank" in words and "torch.distributed.run" not in words


def wait_for(pattern: str, root: Path, process: subprocess.Popen) -> None:
    """Until the run's folder has such a file."""
    while not list(run_of(root).glob(pattern)):
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.01)


def test_a_killed_rank_is_replaced_and_the_run_ends_as_if_nothing_had_been(prepared, tmp_path):
    root = copied(prepared, tmp_path / "project")
    write_params(root, gpus_per_node=2, tensor=2, checkpoint_minutes=OFTEN)
    process = start(root)
    wait_for("checkpoints/step-*", root, process)
    ranks_of(process)[-1].kill()
    said = process.communicate(timeout=240)[0]
    assert process.returncode == 0, said
    assert "resumed after step" in said
    check_as_alone(prepared, root)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(13))
def test_kills_at_random_moments(prepared, tmp_path, seed):
    """Ten of them while a checkpoint is being written."""
    root = copied(prepared, tmp_path / "project")
    write_params(root, gpus_per_node=4, tensor=2, checkpoint_minutes=OFTEN)
    process, chance = start(root), random.Random(seed)
    if seed < 10:
        wait_for("checkpoints/.step-*.part/*", root, process)
    else:
        wait_for("metrics.jsonl", root, process)
        time.sleep(chance.uniform(0, 2))
    victims = ranks_of(process)
    if victims:  # else it has ended before
        chance.choice(victims).kill()
    said = process.communicate(timeout=240)[0]
    assert process.returncode == 0, said
    check_as_alone(prepared, root)


def test_ctrl_c_saves_and_the_same_command_goes_on(prepared, tmp_path):
    root = copied(prepared, tmp_path / "project")
    write_params(root, gpus_per_node=2, checkpoint_minutes=OFTEN)
    process = start(root)
    wait_for("checkpoints/step-*", root, process)
    ranks = ranks_of(process)
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=240)[0]
    assert process.returncode == 130, said
    assert "Traceback" not in said
    assert not [rank for rank in ranks if rank.is_running() and rank.status() != psutil.STATUS_ZOMBIE]
    assert list((run_of(root) / "checkpoints").glob("step-*"))
    process = start(root)
    said = process.communicate(timeout=240)[0]
    assert process.returncode == 0, said
    assert "resumed after step" in said
    check_as_alone(prepared, root)


def test_a_launcher_keeps_nothing_behind_a_port_that_it_unpickles(prepared, tmp_path):
    root = copied(prepared, tmp_path / "project")
    study = write_params(root, gpus_per_node=1)
    parallel = study.pretraining[RUN].parallel
    command = [*launch._arguments(study, RUN, parallel, str(tmp_path)), "--no-python", "sleep", "60"]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        while not psutil.Process(process.pid).children():
            assert process.poll() is None
            time.sleep(0.05)
        keys = []
        for connection in psutil.Process(process.pid).net_connections("tcp"):
            if connection.status == psutil.CONN_LISTEN:
                port, patience = connection.laddr.port, datetime.timedelta(seconds=5)
                keys += dist.TCPStore("127.0.0.1", port, is_master=False, timeout=patience).list_keys()
    finally:
        process.terminate()
        process.wait()
    assert not [key for key in keys if "rendezvous" in key]


def free_port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


def test_two_nodes_are_one_of_twice_the_ranks(prepared, tmp_path):
    root = copied(prepared, tmp_path / "project")
    write_params(root, nodes=2, gpus_per_node=2, tensor=2)
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port()}
    nodes = [start(root, **place) for _ in range(2)]
    said = [node.communicate(timeout=240)[0] for node in nodes]
    assert [node.returncode for node in nodes] == [0, 0], said
    check_as_alone(prepared, root)


def test_within_a_job_of_slurm_srun_starts_the_launchers(prepared, tmp_path, monkeypatch):
    """With a fake that says what it was given."""
    root = copied(prepared, tmp_path / "project")
    study = write_params(root, nodes=2, gpus_per_node=4, tensor=2)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "srun").write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/given\n')
    (tmp_path / "bin" / "srun").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.delenv("MASTER_ADDR", raising=False)
    launch.launch(study, RUN)
    given = (tmp_path / "given").read_text().split()
    assert given[:2] == ["--nodes=2", "--ntasks-per-node=1"]
    assert {"--nnodes=2", "--nproc-per-node=4", f"--rdzv-endpoint={socket.gethostname()}:29500"} <= set(given)
    assert given[-3:] == ["biomeg_lib.training.rank", str(root / "params" / "nano.yaml"), RUN]


def test_several_nodes_need_the_address_of_the_first(prepared, tmp_path, monkeypatch):
    root = copied(prepared, tmp_path / "project")
    study = write_params(root, nodes=2, gpus_per_node=2)
    for name in ("MASTER_ADDR", "SLURM_JOB_ID"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(BiomegError) as error:
        launch.launch(study, RUN)
    assert str(error.value) == (
        "params/nano.yaml: pretraining.nano-bio is for 2 nodes: start it on each of them, with MASTER_ADDR (and "
        "MASTER_PORT, else 29500) of the first"
    )


def test_what_is_compiled_has_one_process(prepared, tmp_path):
    study = write_params(copied(prepared, tmp_path / "project"), gpus_per_node=2).model_copy(update={"compile": True})
    with pytest.raises(BiomegError) as error:
        launch.launch(study, RUN)
    assert str(error.value) == (
        "params/nano.yaml: compile is for runs of one process, pretraining.nano-bio has several"
    )


def test_fewer_gpus_than_asked_for(prepared, tmp_path, monkeypatch):
    root = copied(prepared, tmp_path / "project")
    study = write_params(root, gpus_per_node=4)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(BiomegError) as error:
        launch.launch(study, RUN)
    assert str(error.value) == (
        "params/nano.yaml: pretraining.nano-bio.parallel: 4 GPUs a node are asked for, 1 are here"
    )


def test_a_mistake_ends_all_ranks_with_its_line(prepared, tmp_path):
    root = copied(prepared, tmp_path / "project")
    write_params(root, gpus_per_node=3, tensor=3)  # which does not divide four heads
    process = start(root)
    said = process.communicate(timeout=240)[0]
    assert process.returncode == 1
    assert said.splitlines()[-1] == "biomeg: parallel: tensor 3 does not divide heads, 4"
    assert "Traceback" not in said
