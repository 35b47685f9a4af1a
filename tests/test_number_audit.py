"""Every number in the tables of a finished study walks back to a metrics.json, a counted file or the paper; and the
audit that says so notices a number that does not."""

import csv
import json
import shutil
from pathlib import Path

import audit
import audit_pages
import lxml.html
import numpy as np
import pytest

from biomeg_lib.files import write_if_changed
from biomeg_lib.report import findings, tables
from biomeg_lib.study import Study, load


@pytest.fixture
def finished(project: Path, tmp_path: Path) -> Study:
    """A copy of the finished project that a test may damage."""
    shutil.copytree(project, tmp_path / "project", ignore=shutil.ignore_patterns(".snakemake", "shards", "*.ipynb"))
    return load(tmp_path / "project" / "params" / "nano.yaml")


def change(path: Path, row: int, column: str, value: str) -> None:
    """Put another value into a cell of a CSV file; rows are counted from 1."""
    with path.open(encoding="utf-8", newline="") as stream:
        rows = list(csv.reader(stream))
    place = rows[0].index(column)
    assert rows[row][place] != value
    rows[row][place] = value
    with path.open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream, lineterminator="\n").writerows(rows)


def test_every_number_walks_back(project):
    assert audit.audit(load(project / "params" / "nano.yaml")) == []


def test_so_do_those_of_runs_that_learned_something(finished):
    # the models of the nano study are too small to find an entity, so that most of its scores are 0
    numbers = np.random.default_rng(0)
    for path in (finished.outputs / "runs" / "finetune").glob("*/metrics.json"):
        metrics = json.loads(path.read_text(encoding="utf-8"))
        for split in ("devel", "test"):
            metrics[split] |= {key: numbers.random() for key in ("precision", "recall", "f1")}
        write_if_changed(path, json.dumps(metrics))
    runs = tables.runs(finished, "ner")
    made = {
        "ner_runs": runs,
        "ner": tables.means(runs),
        "labeling": tables.effects(runs, "labelling", "piece", "word"),
        "start": tables.effects(runs, "start", "pretrained", "random"),
        "vocab_f1": tables.vocabulary_effects(finished, runs, tables.break_out(finished)),
    }
    for name, frame in made.items():
        assert len(frame)
        tables.save(frame, finished.table(name))
    tables.save(findings.table(findings.findings(finished)), finished.outputs / "findings.csv")
    complaints = audit.audit(finished)
    assert [line for line in complaints if ".csv: " in line] == []
    assert any(line.startswith("labeling.html") for line in complaints)  # which is still of the other scores


@pytest.mark.parametrize(
    ("file", "row", "column", "value"),
    [
        ("tables/ner_runs.csv", 1, "Devel", "99.5"),
        ("tables/ner.csv", 2, "F1 high", "99.5"),
        ("tables/start.csv", 1, "seeds", "3"),
        ("tables/start.csv", 1, "p", "0.01"),
        ("tables/table1.csv", 1, "published", "91"),
        ("tables/table3.csv", 2, "#tokens", "1"),
        ("tables/table3.csv", 2, "published", "3.013"),
        ("tables/corpora.csv", 1, "#Words", "85867"),
        ("tables/scaling_curves.csv", 3, "Loss", "5.5"),
        ("findings.csv", 3, "effect", "1.5"),
        ("findings.csv", 1, "published", "BERT's 91.75 (Table 1)"),
    ],
)
def test_another_number_in_a_table_is_a_complaint(finished, file, row, column, value):
    change(finished.outputs / file, row, column, value)
    complaints = audit.audit(finished)
    place = f"C{row}, {column}" if file == "findings.csv" else f"row {row}, {column}"
    assert any(line.startswith(f"{Path(file).name}: {place}: ") for line in complaints), complaints


@pytest.mark.parametrize(
    ("page", "caption", "column"),
    [
        ("labeling", "Test precision, recall", "F1"),
        ("size", "Table 1.", "published"),
        ("pretrain.nano-bio", "Held-out figures", "Masked-LM loss (nats)"),
        ("finetune.small.chem.nano-bio", "Every run", "F1"),
        ("runs", "One row a run", "Seconds"),
    ],
)
def test_another_number_on_a_page_is_a_complaint(finished, page, caption, column):
    path = finished.outputs / "report" / f"{page}.html"
    (place,) = [i for i, table in enumerate(audit_pages.read_tables(path)) if table.caption.startswith(caption)]
    root = lxml.html.parse(path).getroot()
    table = list(root.iter("table"))[place]
    columns = [cell.text_content() for cell in table.iter("th")]
    next(row for row in table.iter("tr") if row.find("td") is not None)[columns.index(column)].text = "99.5"
    path.write_text(lxml.html.tostring(root, encoding="unicode"), encoding="utf-8")
    complaints = audit.audit(finished)
    assert complaints
    assert all(line.startswith(f"{page}.html, table {place + 1} ") for line in complaints), complaints


def test_another_score_of_a_run_is_a_complaint_wherever_it_went(finished):
    path = finished.run_directory("finetune", "small.chem.nano-bio.pretrained.piece.seed1") / "metrics.json"
    metrics = json.loads(path.read_text(encoding="utf-8"))
    metrics["test"]["f1"] += 0.01
    write_if_changed(path, json.dumps(metrics))
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
