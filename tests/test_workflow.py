"""The Snakefile on a nano study: from nothing to the report, nothing to do the second time, one run redone alone."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import lxml.html
import pandas as pd
import yaml
from workflow_project import new_project, params, snakemake, tables_of

ROOT = Path(__file__).resolve().parent.parent


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
    chapters = {"index", "data", "vocab", "labeling", "size", "domain_transfer", "scaling", "benchmark", "runs"}
    assert {page.stem for page in pages if "." not in page.stem} == chapters
    assert len(pages) == len(chapters) + 2 + 2
    script = (ROOT / "biomeg_lib" / "report" / "page.js").read_text(encoding="utf-8")
    for page in pages:
        root = lxml.html.parse(page).getroot()
        assert not root.xpath("//link[@rel='stylesheet'] | //iframe")
        assert [own.text for own in root.iter("script")] == [script]
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
    chapters = ("vocab", "labeling", "size", "domain_transfer", "scaling", "report")
    assert again == {"finetune.small.chem.nano-bio.ipynb", *(f"{name}.ipynb" for name in chapters)}
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


def test_the_same_params_give_the_same_tables_and_a_failed_notebook_loses_no_run(project, tmp_path):
    new_project(tmp_path)
    notebook = tmp_path / "notebooks" / "finetune.ipynb"
    whole = notebook.read_text()
    cells = json.loads(whole)
    cells["cells"].append({**cells["cells"][-1], "cell_type": "code", "outputs": [], "execution_count": None})
    cells["cells"][-1]["source"] = "raise RuntimeError('after the runs')"
    notebook.write_text(json.dumps(cells))
    assert "after the runs" in snakemake(tmp_path, fails=True)
    out = tmp_path / "outputs" / "nano"
    finished = {path: path.stat().st_mtime_ns for path in (out / "runs").glob("*/*/environment.json")}
    assert len(finished) == 2 + 16
    notebook.write_text(whole)
    snakemake(tmp_path)
    assert {path: path.stat().st_mtime_ns for path in (out / "runs").glob("*/*/environment.json")} == finished
    here, there = tables_of(out), tables_of(project / "outputs" / "nano")
    assert here.keys() == there.keys()
    for name, table in here.items():
        pd.testing.assert_frame_equal(table, there[name], check_exact=True, obj=name)
