"""A short, seeded share of what `make faults` does: stages that are killed, without room or permission, over damage."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(shutil.which("gcc") is None, reason="faults are put in by a small C library")


def test_stages_under_faults(tmp_path):
    script = Path(__file__).with_name("stages.py")
    counts = ["--kills", "6", "--full-disks", "4", "--refusals", "2", "--truncations", "3", "--flips", "3", "--clock"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, str(script), *counts, "--work", str(tmp_path)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout)
    assert not found["wrong"]
    assert found["counts"]["kills"] >= 4
    assert found["counts"]["clocks that jump"] == 1
