"""The paper as data: counts, spot values, and, where the paper's text is at hand, every printed row against it."""

import re
from pathlib import Path

import pytest

from biomeg_lib.errors import BiomegError
from biomeg_lib.report import published

ROWS = {1: 24, 2: 5, 3: 4, 4: 3, 5: 21, 6: 2, 7: 7, 8: 6, 9: 3}
NUMBERS = {1: 72, 2: 15, 3: 8, 4: 9, 5: 21, 6: 6, 7: 14, 8: 12, 9: 3}


def number_of(text: str) -> float | str:
    """`text` as a number, where it is one."""
    return float(text) if re.fullmatch(r"\d+(\.\d+)?", text) else text


def printed(number: int, row: dict) -> list[float | str]:
    """A row as the paper's text prints it, in words; the group labels, which it prints beside the rows, left out."""
    cells = {name: value for name, value in row.items() if name not in {"source", "Task"}}
    if number in {1, 2, 5}:
        del cells["Benchmark"]
    if number == 5:
        steps, power = cells["Fine-tuning steps"], len(str(cells["Fine-tuning steps"])) - 1
        factor = steps // 10**power
        cells["Fine-tuning steps"] = f"{'' if factor == 1 else f'{factor} · '}10{power} steps"
    if number == 9:
        cells["#Words"] = f"{cells['#Words'] / 1e9} billion"
    return [number_of(word) for value in cells.values() for word in str(value).split()]


def blocks(text: str) -> dict[int, list[str]]:
    """The lines of each table: from its heading to its caption."""
    headings = {
        1: "Benchmark Model #Parameters Vocabulary Prec Rec F1",
        2: "Benchmark Model #Parameters Vocabulary SAcc LAcc MRR",
        3: "Sub-word vocabulary BC5-chem BC5-disease",
        4: "Model SAcc LAcc MRR",
        5: "Benchmark Fine-tuning steps F1",
        6: "Model SAcc LAcc MRR",
        7: "Model SQuAD-v1.1 SQuAD-v2.0",
        8: "Task Dataset # Samples Bias %",
        9: "Model PubMed Corpus #Words",
    }
    lines = [line.strip() for line in text.splitlines()]
    found = {}
    for number, heading in headings.items():
        end = next(i for i, line in enumerate(lines) if line.startswith(f"Table {number}:"))
        start = max(i for i in range(end) if lines[i] == heading)
        found[number] = lines[start + 1 : end]
    return found


@pytest.mark.parametrize("number", range(1, 10))
def test_counts_of_rows_and_numbers(number):
    assert len(published.table(number)) == ROWS[number]
    tidy = published.measurements(number)
    assert len(tidy) == NUMBERS[number]
    assert tidy["published"].notna().all()
    assert list(tidy.columns[-3:]) == ["measure", "published", "source"]


def test_spot_values():
    first = published.table(1)
    best = first[(first["Benchmark"] == "BC5CDR-disease") & (first["Vocabulary"] == "Bio-vocab-50k")].iloc[0]
    assert (best["Prec"], best["Rec"], best["F1"], best["source"]) == (86.1, 91.0, 88.5, "Table 1, row 10")
    third = published.table(3).set_index("Sub-word vocabulary")
    assert third.loc["BERT-cased", ["BC5-chem", "BC5-disease"]].tolist() == [3.012, 2.42]
    fifth = published.table(5)
    assert fifth.loc[fifth["Benchmark"] == "ChemProt", "F1"].tolist() == [0.0, 34.1, 63.4, 71.1, 70.4, 69.7, 68.3]
    assert published.table(9)["#Words"].max() == 16_800_000_000


def test_f1_agrees_with_precision_and_recall():
    """The harmonic mean of the printed, rounded precision and recall; the paper itself is off by up to 0.12 points."""
    frame = published.table(1)
    harmonic = 2 * frame["Prec"] * frame["Rec"] / (frame["Prec"] + frame["Rec"])
    assert (harmonic - frame["F1"]).abs().max() < 0.15


def test_measurements_keep_reading_order_and_source():
    tidy = published.measurements(3)
    assert tidy["published"].tolist() == [3.012, 2.42, 1.654, 1.236, 1.753, 1.272, 1.478, 1.116]
    assert tidy["source"].tolist()[:3] == ["Table 3, row 1", "Table 3, row 1", "Table 3, row 2"]


@pytest.mark.parametrize("number", [0, 10, "3"])
def test_unknown_table(number):
    with pytest.raises(BiomegError, match="tables 1 to 9"):
        published.table(number)


@pytest.mark.parametrize("number", range(1, 10))
def test_every_row_stands_in_the_paper(number):
    paper = Path(__file__).resolve().parents[3] / "shared" / "paper.txt"
    if not paper.is_file():
        pytest.skip(f"the paper's text needed: {paper}")
    rows = [printed(number, row) for row in published.table(number).to_dict("records")]
    # A row with a group label before it ("NER CONLL-2003 14987 0.18") ends with the row's own words.
    lines = [[number_of(word) for word in line.split()] for line in blocks(paper.read_text(encoding="utf-8"))[number]]
    lines = [line for line in lines if any(isinstance(word, float) for word in line)]
    assert len(lines) == len(rows)
    for line, row in zip(lines, rows, strict=True):
        assert line[-len(row) :] == row
