"""Every number in the tables of a finished study walks back to a metrics.json, a counted file or the paper; and the
audit that says so notices a number that does not."""

import json
import re
import shutil
from pathlib import Path

import audit
import audit_pages
import pytest

from biomeg_lib.study import Study, load

pytestmark = pytest.mark.slow  # it builds a study of its own; `make test-slow`


@pytest.fixture
def finished(project: Path, tmp_path: Path) -> Study:
    """A copy of the finished project that a test may damage."""
    shutil.copytree(project, tmp_path / "project", ignore=shutil.ignore_patterns(".snakemake", "shards", "*.ipynb"))
    return load(tmp_path / "project" / "params" / "nano.yaml")


def change(path: Path, pattern: str, replacement: str) -> None:
    """Replace what is found first, which has to be there."""
    text, times = re.subn(pattern, replacement, path.read_text(encoding="utf-8"), count=1)
    assert times == 1, f"{path.name} has no {pattern}"
    path.write_text(text, encoding="utf-8")


def test_every_number_walks_back(project):
    assert audit.audit(load(project / "params" / "nano.yaml")) == []


@pytest.mark.parametrize(
    ("file", "pattern", "replacement", "complaint"),
    [
        ("tables/ner_runs.csv", r",(\d+\.\d+),small\.chem\.nano-bio\.pre", r",99\1,small.chem.nano-bio.pre", "Devel"),
        ("tables/ner.csv", r"(?m)(\d)(,\d+)$", r"\g<1>1\2", "F1 high"),
        ("tables/start.csv", r"(?m),2$", ",3", "seeds"),
        ("tables/table1.csv", r"90\.0,\"?Table 1, row 1\b|90,\"?Table 1, row 1\b", '91,"Table 1, row 1', "published"),
        ("tables/table3.csv", r"3\.012", "3.013", "published"),
        ("tables/corpora.csv", r"pubmed,(\d)", r"pubmed,1\1", "Files"),
        ("tables/scaling_curves.csv", r"(?m)(\d)$", r"\g<1>9", "Loss"),
        ("findings.csv", r"BERT's 91\.7", "BERT's 91.75", "published: 91.75"),
    ],
)
def test_another_number_in_a_table_is_a_complaint(finished, file, pattern, replacement, complaint):
    change(finished.outputs / file, pattern, replacement)
    complaints = audit.audit(finished)
    assert any(line.startswith(Path(file).name) and complaint in line for line in complaints), complaints


@pytest.mark.parametrize(
    ("page", "caption"),
    [
        ("labeling", "Test precision, recall"),
        ("size", "Table 1."),
        ("pretrain.nano-bio", "Held-out figures"),
        ("finetune.small.chem.nano-bio", "Every run"),
        ("runs", "One row a run"),
    ],
)
def test_another_number_on_a_page_is_a_complaint(finished, page, caption):
    path = finished.outputs / "report" / f"{page}.html"
    (place,) = [i for i, table in enumerate(audit_pages.read_tables(path)) if table.caption.startswith(caption)]
    text = path.read_text(encoding="utf-8")
    start = [found.start() for found in re.finditer("<table", text)][place]
    changed = re.sub(r">(\d*)(\.\d)", r">9\1\2", text[start:], count=1)
    assert changed != text[start:]
    path.write_text(text[:start] + changed, encoding="utf-8")
    complaints = audit.audit(finished)
    assert complaints
    assert all(line.startswith(f"{page}.html, table {place + 1} ") for line in complaints)


def test_another_score_of_a_run_is_a_complaint_wherever_it_went(finished):
    path = finished.run_directory("finetune", "small.chem.nano-bio.pretrained.piece.seed1") / "metrics.json"
    metrics = json.loads(path.read_text(encoding="utf-8"))
    metrics["test"]["f1"] += 0.01
    path.write_text(json.dumps(metrics), encoding="utf-8")
    complaints = audit.audit(finished)
    for place in ("ner_runs.csv", "ner.csv", "labeling.csv", "start.csv", "vocab_f1.csv", "findings.csv: C3"):
        assert any(line.startswith(place) for line in complaints), place
    assert any(line.startswith("finetune.small.chem.nano-bio.html") for line in complaints)


def test_what_no_rule_is_for_is_a_complaint(finished):
    (finished.outputs / "tables" / "new.csv").write_text("a,b\n1,2\n", encoding="utf-8")
    path = finished.outputs / "tables" / "corpora.csv"
    head, *rows = path.read_text(encoding="utf-8").splitlines()
    path.write_text("\n".join([f"{head},new", *(f"{row},7" for row in rows)]), encoding="utf-8")
    complaints = audit.audit(finished)
    assert "new.csv: the audit has no rule for this table" in complaints
    assert "corpora.csv: row 1, new: 7 is explained by no rule" in complaints
