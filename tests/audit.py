"""The number audit: every number of a finished study's tables, findings and pages walks back to where it came from.

By hand, on any finished profile: `python tests/audit.py params/laptop.yaml`. What is notable: a table that no rule is
for is a complaint, and so is a column with numbers that its rule does not explain, so that nothing new slips by.
"""

import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import audit_counts as counts
import audit_findings
import audit_pages
import audit_runs as runs
import pandas as pd
from audit_ledger import Ledger, Unexplained, read_csv, same

from biomeg_lib.study import Study, load

Rule = Callable[[Ledger, dict[str, Any]], dict[str, Any]]

RULES: dict[str, Rule] = {
    **dict.fromkeys(("ner_runs", "relation_runs", "questions_runs"), runs.run),
    **dict.fromkeys(("ner", "relation", "questions_squad", "questions_bioasq"), runs.means),
    **dict.fromkeys(("labeling", "start", "relation_start", "questions_route", "vocab_f1"), runs.factor),
    **dict.fromkeys(("table1", "table2", "table4", "table6", "table7"), runs.model),
    "relation_categories": runs.categories,
    "relation_intervals": runs.item_interval,
    "questions_batch": runs.batch,
    "size_effects": runs.size,
    "table5": runs.table5,
    "transfer_runs": runs.transfer_run,
    "transfer_effects": runs.transfer_effect,
    "imbalance": runs.remedy,
    "scaling_f1": runs.budget,
    "corpora": counts.corpus,
    "benchmarks": counts.benchmark,
    "table3": counts.rate,
    "table8": counts.bias,
    "table9": counts.corpus_words,
    "repeats": counts.repeat,
    "decoding": counts.decoding,
    "pretraining": counts.pretraining,
    "scaling": counts.cost,
    "scaling_curves": counts.curve,
    "scaling_paper": counts.beside_paper,
    "scaling_plan": counts.planned,
}
# Tables that have a row for each of these, none left out.
COMPLETE = {"ner_runs": "ner", "relation_runs": "classification", "questions_runs": "qa"}


def audit(study: Study) -> list[str]:
    """Complaints about numbers that do not walk back, each with its table or page and row; none if all do.

    Args:
        study: finished, with its report rendered.
    """
    ledger = Ledger(study)
    folder = study.outputs / "tables"
    paths = sorted(folder.glob("*.csv"))
    complaints = [] if paths else [f"{folder}: there are no tables"]
    for path in paths:
        complaints += [f"{path.name}: {complaint}" for complaint in _table(ledger, path)]
    for name, task in COMPLETE.items():
        if study.jobs(task) and (folder / f"{name}.csv").is_file():
            there = read_csv(folder / f"{name}.csv")["run"].tolist()
            if there != ledger.runs.loc[ledger.runs["task"] == task, "run"].tolist():
                complaints.append(f"{name}.csv: its runs are not those of the study, each once")
    complaints += [f"findings.csv: {complaint}" for complaint in audit_findings.audit(ledger)]
    return complaints + audit_pages.audit(ledger)


def _table(ledger: Ledger, path: Path) -> list[str]:
    if path.stem not in RULES:
        return ["the audit has no rule for this table"]
    try:
        frame = read_csv(path)
    except (OSError, ValueError) as error:
        return [f"it cannot be read: {error}"]
    complaints = []
    for number, row in enumerate(frame.to_dict("records"), start=1):
        try:
            expected = RULES[path.stem](ledger, row)
        except (Unexplained, KeyError, ValueError, OSError) as error:
            complaints.append(f"row {number}: it leads back to nothing: {error or type(error).__name__}")
            continue
        for column, found in row.items():
            if column not in expected:
                if pd.api.types.is_numeric_dtype(frame[column]) and pd.notna(found):
                    complaints.append(f"row {number}, {column}: {found} is explained by no rule")
                elif isinstance(found, str) and (said := _unexplained(ledger.study, found)):
                    complaints.append(f"row {number}, {column}: {', '.join(said)} in {found!r} is explained by no rule")
            elif not same(found, expected[column]):
                complaints.append(f"row {number}, {column}: {found}, but it is {expected[column]}")
    return complaints


def _unexplained(study: Study, text: str) -> list[str]:
    """Numbers of a text that are no part of a name, of a sentence of the params file, or of a citation."""
    if text in study.not_run.values() or re.fullmatch(r"Table \d, row \d+", text):
        return []
    return runs.numbers_of_note(text)


if __name__ == "__main__":
    found = audit(load(sys.argv[1]))
    print("\n".join(found) or "every number walks back")
    sys.exit(bool(found))
