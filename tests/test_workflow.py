"""The Snakefile on a nano study: from nothing to the report, nothing to do the second time, one run redone alone."""

import copy
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import lxml.html
import pandas as pd
import pytest
import yaml
from nano import PARAMS

ROOT = Path(__file__).resolve().parent.parent


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


def snakemake(folder: Path, *arguments: str) -> str:
    command = [
        sys.executable,
        "-m",
        "snakemake",
        "--cores",
        "2",
        "--rerun-triggers",
        "mtime",
        "--config",
        "profile=nano",
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "BIOMEG_OFFLINE": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [*command, *arguments], cwd=folder, env=environment, capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("project")
    shutil.copytree(ROOT / "notebooks", folder / "notebooks", ignore=shutil.ignore_patterns(".*"))
    shutil.copy(ROOT / "Snakefile", folder)
    (folder / "params").mkdir()
    (folder / "params" / "nano.yaml").write_text(yaml.safe_dump(params(), sort_keys=False))
    snakemake(folder)
    return folder


def test_every_product_is_there(project):
    out = project / "outputs" / "nano"
    for table in ("corpora", "benchmarks", "table3", "ner_runs", "ner", "labeling", "start", "vocab_f1", "pretraining"):
        assert len(pd.read_csv(out / "tables" / f"{table}.csv")), table
    for figure in ("benchmarks", "figure1", "vocab_f1", "labeling", "start"):
        assert (out / "figures" / f"{figure}.svg").read_text().startswith("<?xml"), figure
    runs = pd.read_csv(out / "tables" / "ner_runs.csv")
    assert len(runs) == 2 * 2 * 2 * 2
    assert not list(out.rglob("*.failed.ipynb"))


def test_the_report_loads_nothing_and_its_links_lead_somewhere(project):
    pages = sorted((project / "outputs" / "nano" / "report").glob("*.html"))
    assert len(pages) == 4 + 2 + 2
    for page in pages:
        root = lxml.html.parse(page).getroot()
        assert not root.xpath("//script | //link[@rel='stylesheet'] | //iframe")
        assert all(source.startswith("data:") for source in root.xpath("//@src"))
        for href in root.xpath("//a/@href"):
            target = href.split("#")[0]
            if target and not target.startswith("https://"):
                assert (page.parent / target).resolve().exists(), (page.name, href)
    index = (pages[0].parent / "index.html").read_text()
    assert "embedded miniature" in index
    assert "nano" in index


def test_a_second_time_there_is_nothing_to_do(project):
    started = time.monotonic()
    assert "Nothing to be done" in snakemake(project)
    assert time.monotonic() - started < 60  # a slow machine's share; 15 seconds are promised for two free cores


def test_deleting_a_run_redoes_it_and_what_hangs_on_it(project):
    out = project / "outputs" / "nano"
    # Written when a run starts; of the result files themselves snakemake renews the time stamps of a whole job.
    runs = sorted((out / "runs").glob("*/*/environment.json"))
    scores = (out / "tables" / "ner.csv").read_text()
    gone = out / "runs" / "finetune" / "small.chem.nano-bio.random.word.seed2"
    notebooks = {path: path.stat().st_mtime_ns for path in (out / "notebooks").glob("*.ipynb")}
    times = {path: path.stat().st_mtime_ns for path in runs}
    shutil.rmtree(gone)
    snakemake(project)
    redone = [path for path in runs if path.stat().st_mtime_ns != times[path]]
    assert redone == [gone / "environment.json"]
    again = {path.name for path, before in notebooks.items() if path.stat().st_mtime_ns != before}
    assert again == {"finetune.small.chem.nano-bio.ipynb", "vocab.ipynb", "labeling.ipynb", "report.ipynb"}
    assert (out / "tables" / "ner.csv").read_text() == scores
    assert "Nothing to be done" in snakemake(project)


def test_other_params_in_the_same_place_are_refused_with_the_difference(project):
    path = project / "params" / "nano.yaml"
    before = path.read_text()
    values = params()
    values["pretraining"]["nano-bio"]["learning_rate"] = 0.004
    path.write_text(yaml.safe_dump(values, sort_keys=False))
    command = [sys.executable, "-m", "biomeg_lib", "pretrain", "params/nano.yaml", "nano-bio"]
    try:
        done = subprocess.run(
            command,
            cwd=project,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=False,
        )
    finally:
        path.write_text(before)
    assert done.returncode == 1
    assert "pretraining.learning_rate: 0.003 there, 0.004 here" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
