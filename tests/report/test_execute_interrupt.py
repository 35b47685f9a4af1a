"""Ctrl-C while a notebook trains: its kernel saves the step that is under way, and nothing else stays behind."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import yaml
from nano import PARAMS

from biomeg_lib.files import locked
from biomeg_lib.study import load
from biomeg_lib.training.rundir import RunDirectory, read_log

ROOT = Path(__file__).resolve().parent.parent.parent


def test_ctrl_c_during_training(fresh):
    values = json.loads(json.dumps(PARAMS))
    values["pretraining"]["nano-bio"]["tokens"] *= 5_000  # hours
    (fresh.root / "params" / "nano.yaml").write_text(yaml.safe_dump(values))
    shutil.copy(ROOT / "notebooks" / "pretrain.ipynb", fresh.root / "notebooks")
    study = load(fresh.root / "params" / "nano.yaml")
    run = RunDirectory(study.run_directory("pretrain", "nano-bio"), study.resolved_pretraining("nano-bio"))
    output = study.outputs / "notebooks" / "pretrain.nano-bio.ipynb"
    command = [sys.executable, "-m", "biomeg_lib", "execute", "params/nano.yaml", "pretrain", str(output)]
    running = subprocess.Popen(
        [*command, "-p", "run", "nano-bio"],
        cwd=fresh.root,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        process_group=0,
    )
    while running.poll() is None and not read_log(run.path):
        time.sleep(0.05)
    os.killpg(running.pid, signal.SIGINT)
    said = running.communicate(timeout=300)
    assert (running.returncode, *said) == (130, "", "biomeg: interrupted; run the same command again to go on\n")
    logged = read_log(run.path)[-1]["step"]
    assert logged <= run.load_checkpoint()["tally"]["step"] < logged + 20  # a line in the log every 20 steps
    assert not list(output.parent.iterdir())
    assert not list(run.path.glob(".*"))
    with locked(run.path / "lock", "the run"):  # so the kernel has ended, too
        pass
