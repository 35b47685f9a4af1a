"""Reference results: what is kept, what is left out, and that a half-finished study is refused."""

import json

import nbformat
import pandas as pd
import pytest
import yaml

from biomeg_lib.errors import BiomegError, InputError
from biomeg_lib.report import reference
from biomeg_lib.report.linked import linked_table
from biomeg_lib.study import load

PARAMS = {"profile": "own", "title": "Own", "description": "For tests.", "seeds": [1]}
SECRET = "Text of a data set"


def notebook(title: str, *cells) -> nbformat.NotebookNode:
    new = nbformat.v4
    return new.new_notebook(cells=[new.new_markdown_cell(f"# {title}: a chapter"), *cells])


def shown(html: str, *tags: str) -> nbformat.NotebookNode:
    new = nbformat.v4
    output = new.new_output("display_data", data={"text/html": html})
    return new.new_code_cell("show()", outputs=[output], metadata={"tags": list(tags)})


@pytest.fixture
def study(tmp_path):
    for name in ("params", "notebooks"):
        (tmp_path / name).mkdir()
    (tmp_path / "params" / "own.yaml").write_text(yaml.safe_dump(PARAMS))
    made = load(tmp_path / "params" / "own.yaml")
    out = made.outputs
    for name in ("tables", "figures", "notebooks", "report"):
        (out / name).mkdir(parents=True)
    (out / "tables" / "table1.csv").write_text("a\n1\n")
    (out / "figures" / "figure1.svg").write_text("<svg/>")
    (out / "findings.csv").write_text("claim\nC1\n")
    (out / "report" / "index.html").write_text("old")
    table = linked_table(pd.DataFrame({"a": [1]}), "Caption.", [("own.yaml", "../../../params/own.yaml")], "table1")
    nbformat.write(notebook("Overview", shown(table)), out / "notebooks" / "report.ipynb")
    nbformat.write(
        notebook("Data", shown(f"<p>{SECRET}</p>", "not-in-reference"), shown("<p>Counts</p>")),
        out / "notebooks" / "data.ipynb",
    )
    nbformat.write(notebook("Run", shown(f"<p>{SECRET}</p>")), out / "notebooks" / "finetune.g.ipynb")
    run = out / "runs" / "pretrain" / "p"
    run.mkdir(parents=True)
    environment = {"date": "2026-01-02T03:04:05", "hardware": "2 x Abacus", "python": "3.11", "commit": "abc"}
    for name, value in {
        "metrics.json": {"seconds": 7200.0, "heldout_mlm": 1.2},
        "params.json": {"pretraining": {}},
        "environment.json": environment,
    }.items():
        (run / name).write_text(json.dumps(value))
    (run / "state").write_text("complete\n")
    (run / "model.safetensors").write_bytes(b"weights")
    return made


def test_results_are_kept_and_weights_and_text_are_not(study):
    folder = reference.keep(study)
    assert folder == study.outputs / "reference"
    kept = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert {"tables/table1.csv", "figures/figure1.svg", "findings.csv", "README.md", "report/index.html"} <= kept
    assert {"report/data.html", "report/runs.html", "runs/pretrain/p/metrics.json"} <= kept
    assert not any("finetune" in name or "safetensors" in name for name in kept)
    for path in folder.rglob("*"):
        if path.is_file():
            assert SECRET not in path.read_text(encoding="utf-8"), path
    assert "Counts" in (folder / "report" / "data.html").read_text()


def test_links_lead_one_folder_further_up(study):
    page = (reference.keep(study) / "report" / "index.html").read_text()
    assert 'href="../../../../params/own.yaml"' in page


def test_the_readme_says_what_made_it(study):
    text = (reference.keep(study) / "README.md").read_text()
    for part in ("make study PROFILE=own", "2.00 hours", "Abacus", "2026-01-02T03:04", "abc"):
        assert part in text


def test_an_unfinished_study_is_refused_and_an_older_reference_stays(study):
    folder = reference.keep(study)
    (study.outputs / "runs" / "pretrain" / "p" / "state").write_text("running\n")
    with pytest.raises(BiomegError, match="expected complete runs, found 1 unfinished ones"):
        reference.keep(study)
    (study.outputs / "runs" / "pretrain" / "p" / "state").write_text("complete\n")
    (study.outputs / "findings.csv").unlink()
    with pytest.raises(InputError, match="make study PROFILE=own"):
        reference.keep(study)
    assert (folder / "findings.csv").is_file()


def test_too_large_is_refused(study, monkeypatch):
    monkeypatch.setattr(reference, "MOST_BYTES", 100)
    with pytest.raises(BiomegError, match="expected at most 100 bytes"):
        reference.keep(study)
    assert not (study.outputs / "reference").exists()
