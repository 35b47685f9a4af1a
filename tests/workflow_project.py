"""Fixture `project`: the nano study made by the Snakefile, from nothing to the report, once for all tests."""

import copy
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import yaml
from nano import PARAMS

ROOT = Path(__file__).resolve().parent.parent
TIMES = ["Seconds", "Tokens/s", "GFLOP/s"]  # columns which alone may differ between two runs


def params() -> dict:
    """The nano study with what every chapter needs: two vocabularies, both starts, both labellings."""
    values = copy.deepcopy(PARAMS)
    values["vocabularies"]["general"] = {
        "kind": "wordpiece",
        "file": "miniature:vocab/general-cased-vocab.txt",
        "lowercase": False,
        "stands_for": "BERT-cased",
    }
    values["benchmarks"]["chem"]["stands_for"] = "BC5-chem"
    values["pretraining"]["nano-general"] = {**values["pretraining"]["nano-bio"], "vocabulary": "general"}
    grid = values["ner"]["small"]
    grid |= {"encoders": ["nano-bio", "nano-general"], "labellings": ["piece", "word"], "epochs": 2}
    grid["search"]["num_fc_layers"] = [1]
    return values


def options_of_make() -> list[str]:
    """What the Makefile gives to snakemake, but for `--quiet`, since tests read what it says."""
    line = re.search(r"^SNAKEMAKE = .*--cores \$\(CORES\) (.+) --quiet rules$", (ROOT / "Makefile").read_text(), re.M)
    return line[1].split()


def snakemake(folder: Path, *arguments: str, fails: bool = False) -> str:
    """Run the workflow in a project's folder as `make study` does, and return what it printed."""
    command = [sys.executable, "-m", "snakemake", "--cores", "2", *options_of_make(), "--config", "profile=nano"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "BIOMEG_OFFLINE": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [*command, *arguments], cwd=folder, env=environment, capture_output=True, text=True, timeout=600, check=False
    )
    assert (done.returncode != 0) == fails, done.stdout + done.stderr
    return done.stdout + done.stderr


def new_project(folder: Path) -> None:
    """What the nano study is made from."""
    shutil.copytree(ROOT / "notebooks", folder / "notebooks", ignore=shutil.ignore_patterns(".*"))
    shutil.copy(ROOT / "Snakefile", folder)
    (folder / "params").mkdir()
    (folder / "params" / "nano.yaml").write_text(yaml.safe_dump(params(), sort_keys=False))


def tables_of(outputs: Path) -> dict[str, pd.DataFrame]:
    """All tables of a study, without what was measured in seconds."""
    paths = [*sorted((outputs / "tables").glob("*.csv")), outputs / "findings.csv"]
    return {path.name: pd.read_csv(path).drop(columns=TIMES, errors="ignore") for path in paths}


@pytest.fixture(scope="session")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished project; a test that changes it leaves it as it was."""
    folder = tmp_path_factory.mktemp("project")
    new_project(folder)
    snakemake(folder)
    return folder
