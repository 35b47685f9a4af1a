"""What cannot fit is refused, with the number needed and the batch that would fit."""

import re
import sys
import threading
import time

import psutil
import pytest
import torch
import yaml

from biomeg_lib.bench.memory import resident_memory
from biomeg_lib.errors import BiomegError
from biomeg_lib.model import PretrainingModel, config_for
from biomeg_lib.plan import room
from biomeg_lib.plan.machine import find
from biomeg_lib.plan.memory import step_memory
from biomeg_lib.plan.spread import Run, Spread
from biomeg_lib.study import load
from biomeg_lib.tasks.jobs import run_job
from biomeg_lib.training.pretrain import pretrain, run_of

CONFIG = config_for("110m", 30_592)


@pytest.fixture(autouse=True)
def no_gpu(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)


def needed(sequences: int, ranks: int = 1) -> float:
    run = Run(10**9, 64, 128)
    return ranks * step_memory(CONFIG, run, Spread(ranks, 1, sequences, 1, False), find("cpu")).total


def refused(free: float, monkeypatch, sequences: int = 64, ranks: int = 1) -> str:
    monkeypatch.setattr(room, "free_memory", lambda: free)
    with pytest.raises(BiomegError) as caught:
        room.refuse_too_large(
            "params/a.yaml: x", CONFIG, Run(10**9, 64, 128), Spread(ranks, 1, sequences, 1, False), ranks
        )
    return str(caught.value)


@pytest.mark.parametrize("fitting", [1, 2, 17, 63])
def test_the_largest_batch_that_fits_is_said_and_fits(monkeypatch, fitting):
    said = refused(needed(fitting), monkeypatch, 2 * fitting + 10)
    assert f"at most {fitting} sequence" in said
    monkeypatch.setattr(room, "free_memory", lambda: needed(fitting) / room.MARGIN)
    room.refuse_too_large("", CONFIG, Run(10**9, 64, 128), Spread(1, 1, fitting, 1, False))


def test_the_line(monkeypatch):
    with torch.device("meta"):
        parameters = sum(one.numel() for one in PretrainingModel(CONFIG).parameters())
    assert refused(2.5e9, monkeypatch) == (
        f"params/a.yaml: x: expected {needed(64) / 1e9:.1f} GB of free memory here for {parameters:,} parameters and "
        "64 sequences of 128 tokens, found 2.5 GB, for which at most 14 sequences fit at a time"
    )
    assert refused(1e9, monkeypatch).endswith("found 1.0 GB, for which not one fits at a time")
    assert refused(-5e7, monkeypatch).endswith("found -50.0 MB, for which not one fits at a time")
    assert "on each of 2 ranks" in refused(needed(64, 2) / room.MARGIN - 1, monkeypatch, ranks=2)


def test_a_gpu_counts_by_itself_with_what_earlier_runs_left_there(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.mem_get_info", lambda: (10**9, 80 * 10**9))
    monkeypatch.setattr("torch.cuda.memory_reserved", lambda: 3 * 10**9)
    monkeypatch.setattr("torch.cuda.memory_allocated", lambda: 10**9)
    said = refused(0, monkeypatch, 512, ranks=2)
    assert "of free memory on the GPU for" in said
    assert "found 3.0 GB" in said
    whole = step_memory(CONFIG, Run(10**9, 64, 128), Spread(2, 1, 512, 1, False), find("h100")).total
    assert f"expected {whole / 1e9:.1f} GB" in said


@pytest.fixture
def groups(tmp_path, monkeypatch):
    monkeypatch.setattr(room, "CGROUPS", tmp_path / "cgroup")
    monkeypatch.setattr(room, "OWN_CGROUPS", tmp_path / "own")

    def write(own: str, files: dict[str, str]) -> None:
        (tmp_path / "own").write_text(own)
        for name, text in files.items():
            path = tmp_path / "cgroup" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)

    return write


def test_the_limit_of_a_control_group_above_counts(groups):
    assert room.free_memory() > 100e6  # there is no file
    stat = "anon 5\ninactive_file 20000000\nactive_file 9000000\nslab_reclaimable 1000000\n"
    groups(
        "0::/job/step\n",
        {
            "job/step/memory.max": "max\n",
            "job/step/memory.current": "40000000\n",
            "job/step/memory.stat": stat,
            "job/memory.max": "100000000\n",
            "job/memory.current": "50000000\n",
            "job/memory.stat": stat,
        },
    )
    assert room.free_memory() == 100e6 - 50e6 + 30e6 + psutil.swap_memory().free


def test_control_groups_of_version_1(groups):
    stat = "inactive_file 1\ntotal_inactive_file 2000000\n"
    groups(
        "9:cpu,cpuacct:/\n4:memory:/job\n0::/\n",
        {
            "memory/job/memory.limit_in_bytes": "60000000\n",
            "memory/job/memory.usage_in_bytes": "10000000\n",
            "memory/job/memory.stat": stat,
            "memory/memory.limit_in_bytes": "9223372036854771712\n",
            "memory/memory.usage_in_bytes": "70000000\n",
            "memory/memory.stat": stat,
        },
    )
    assert room.free_memory() == 60e6 - 10e6 + 2e6 + psutil.swap_memory().free


def test_a_run_is_refused_before_its_corpus_is_read(nano, tmp_path, monkeypatch):
    monkeypatch.setattr(room, "free_memory", lambda: 1e5)
    for name in ("params", "notebooks"):
        (tmp_path / name).mkdir()
    (tmp_path / "params" / "nano.yaml").write_text((nano.root / nano.params_file).read_text())
    with pytest.raises(
        BiomegError, match=r"params/nano\.yaml: pretraining\.nano-bio: expected [\d.]+ MB of free memory"
    ):
        pretrain(load(tmp_path / "params" / "nano.yaml"), "nano-bio")
    assert not (tmp_path / "outputs").exists()


def test_a_fine_tuning_run_is_refused_before_its_first_step(fresh, monkeypatch):
    params = yaml.safe_load((fresh.root / fresh.params_file).read_text())
    params["ner"]["small"]["starts"] = ["random"]
    (fresh.root / fresh.params_file).write_text(yaml.safe_dump(params))
    study = load(fresh.root / fresh.params_file)
    monkeypatch.setattr(room, "free_memory", lambda: 1e6)
    (job,) = study.jobs()
    with pytest.raises(
        BiomegError, match=r"nano\.yaml: small with nano-bio: expected [\d.]+ MB of free memory"
    ) as caught:
        run_job(study, job)
    assert re.search(r"and \d+ sequences? of \d+ tokens, found 1\.0 MB", str(caught.value))


def test_a_run_that_another_process_is_at_is_waited_for_and_not_refused(fresh, monkeypatch):
    run = run_of(fresh, "nano-bio")
    monkeypatch.setattr(room, "free_memory", lambda: 1e5)
    found = []
    waiting = threading.Thread(target=lambda: found.append(pretrain(fresh, "nano-bio")))
    with run.start():
        assert run.at_work
        waiting.start()
        time.sleep(0.5)
        run.finish({"loss": 1.0})
    waiting.join()
    assert found == [{"loss": 1.0}]
    assert not run.at_work


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's allocator")
def test_what_malloc_keeps_of_earlier_work_is_given_back():
    before = resident_memory()
    held = [bytearray(100_000) for _ in range(3000)]  # small enough to stay with malloc
    held = held[-1:]  # which keeps those below from being given back by themselves
    assert room.free_memory() > 0
    assert resident_memory() < before + 100
    assert held
