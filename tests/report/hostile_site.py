"""A report for the browser tests: every chapter, tables of all sorts, and text that would like to run."""

import json
from pathlib import Path

import nbformat
import pandas as pd
from matplotlib.figure import Figure
from nbformat import v4

from biomeg_lib.report import figures, runs_page
from biomeg_lib.report.html import render_site
from biomeg_lib.report.linked import Link, linked_figure, linked_table

PROVENANCE = {"profile": "smoke", "data": "embedded miniature: generated text, not real", "versions": {"torch": "2.13"}}
HOSTILE = (
    "<script>window.hacked = 1</script><img src=x onerror='window.hacked = 2'> **bold** [go](javascript:hacked=3) "
    '"><svg onload=alert(1)> </style></script><!-- `code` ${window.hacked=4} '
)
CHAPTERS = {
    "data": "Data: what is read",
    "vocab": "Vocabulary: pieces",
    "labeling": "Labelling: words or pieces",
    "size": "Size: larger models",
    "relation": "Relations: what does what",
    "questions": "Questions: SQuAD and BioASQ",
    "domain_transfer": "Domain transfer: from a checkpoint",
    "imbalance": "Imbalance: few against many",
    "scaling": "Scaling: many cards",
    "benchmark": "Benchmark: speed and memory",
    "pretrain.tiny-bio8k": "Pre-training: tiny-bio8k",
    "finetune.full.bc5cdr-chem.tiny-bio8k": "Fine-tuning: full.bc5cdr-chem.tiny-bio8k",
}
RUNS = [
    f"full.bc5cdr-chem.tiny-bio8k.{start}.piece.seed{seed}" for start in ("pretrained", "random") for seed in (1, 2, 3)
]
SCORES = [
    "84.6 (84.0 to 85.2)",
    "\N{EN DASH}",
    "9.5 (9.0 to 10.0)",
    "1,024.5 (1,000 to 1,049)",
    "-3.5 (-4 to -3)",
    "101",
]


def shown(html: str) -> nbformat.NotebookNode:
    output = v4.new_output("display_data", {"text/html": html, "text/plain": "shown"})
    return v4.new_code_cell("show.table(tables.made(study))  # a comment", outputs=[output], execution_count=1)


def write_notebook(folder: Path, name: str, *cells: nbformat.NotebookNode) -> Path:
    path = folder / "notebooks" / f"{name}.ipynb"
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(v4.new_notebook(cells=list(cells), metadata={"language_info": {"name": "python"}}), path)
    return path


def write_run(folder: Path, kind: str, name: str, seconds: float, result: dict) -> None:
    environment = {"packages": {"torch": "2.13.0"}, "commit": "88c5b003aab5+", "hardware": "2 x Some CPU", "threads": 1}
    files = {
        "params.json": {"seed": 1, "note": HOSTILE, "encoder": {"vocabulary": "bio-8k", "corpus": ["pmc-sample"] * 20}},
        "environment.json": {**environment, "date": "2026-11-26T11:29:31+00:00"},
        "metrics.json": {"seconds": seconds, "tokens": 1_000_000, **result},
    }
    path = folder / "runs" / kind / name
    path.mkdir(parents=True)
    (path / "state").write_text("complete\n")
    for file, content in files.items():
        (path / file).write_text(json.dumps(content))


def make_site(folder: Path) -> Path:
    """A report of all chapters in `folder`/report, as a study leaves it: hostile text, wide tables, figures, runs."""
    source = [
        ("vocab.ipynb", "../notebooks/vocab.ipynb"),
        ("a-long-file-name-of-a-table.csv", "../notebooks/vocab.ipynb"),
    ]
    findings = pd.DataFrame(
        {
            "claim": [
                "The sub-word vocabulary is the most critical factor for named entities",
                "Larger models trade recall for precision on named entities and relations",
                "Oversampling and class weights help little",
            ],
            "evidence": [
                "one vocabulary against the other, all else equal, is ahead in 16 of 16 settings",
                "4 x 256 against 2 x 128: precision falls in 3 of 4 comparisons",
                "no gain above a point is seen, but in 3 of 6 comparisons the interval does not exclude one",
            ],
            "effect": ["+1.0 to +16.1", "-2.0 to +0.5", "-2.8 to +0.6"],
            "where": [
                Link("Table 3", "vocab.html#table3"),
                Link("a run", runs_page.run_href(RUNS[0])),
                Link("Figure 1", "vocab.html#figure1"),
            ],
            "verdict": ["supported", "contradicted", "inconclusive"],
        }
    )
    drawing = Figure(figsize=(9, 3))
    axes = drawing.subplots()
    axes.bar(["bio-8k", "general-8k", "bio-50k"], [2.76, 3.5, 1.49])
    axes.set_ylabel("Pieces a word")
    figures.save(drawing, folder / "figures" / "figure1.svg")
    scores = pd.DataFrame(
        {
            "vocabulary": ["bio-50k", "bio-8k", HOSTILE[:30], "bert", "Bert-uncased", "general"],
            "F1": SCORES,
            "tokens": [1024, 9, None, 300_000, 17, 5],
            "date": ["2026-11-26", "2026-02-03", "2025-12-31", "2026-11-25", "2026-01-01", "2024-02-29"],
        }
    )
    wide = pd.DataFrame({f"a heading of column {i}": [i * 1.5, -i] for i in range(14)})
    spanning = "<table><thead><tr><th colspan=2>both</th></tr></thead><tbody><tr><td>2<td>1<tr><td>1<td>2</table>"
    long_word = "Supercalifragilistic" * 12
    texts = v4.new_code_cell(
        HOSTILE,
        outputs=[
            v4.new_output("display_data", {"text/html": HOSTILE}),
            v4.new_output("display_data", {"text/markdown": f"{HOSTILE}\n\n`{long_word}`"}),
            v4.new_output("stream", name="stdout", text=f"{HOSTILE}\n{long_word}\n"),
            v4.new_output("stream", name="stderr", text=HOSTILE),
            v4.new_output("error", ename="E", evalue=HOSTILE, traceback=["\x1b[31mE\x1b[0m: " + HOSTILE]),
        ],
        execution_count=2,
    )
    prose = "A chapter measures [one thing](vocab.html#table3), `draws it`, and holds it against the rest. " * 4
    notebooks = [
        write_notebook(
            folder,
            "report",
            v4.new_markdown_cell(f"# Overview: what makes a model good\n\n{prose}"),
            shown(linked_table(findings, "What the study found of the paper's claims.", source, "findings")),
            v4.new_markdown_cell(
                "## Runs\n\n[one](pretrain.tiny-bio8k.html), [the other](finetune.full.bc5cdr-chem.tiny-bio8k.html)"
            ),
        )
    ]
    for name, title in CHAPTERS.items():
        cells = [v4.new_markdown_cell(f"# {title}\n\n{prose}\n\n> A quotation, {long_word}.")]
        if name == "vocab":
            cells += [
                v4.new_markdown_cell("## Table 3: the rate\n\n| left | right |\n|---|---|\n| b | 1 |\n| a | 2 |"),
                shown(linked_table(scores, f"Pieces a word: {HOSTILE}", source, "table3")),
                v4.new_markdown_cell("## Figure 1\n\n### Details"),
                shown(linked_figure(folder / "figures" / "figure1.svg", "Pieces a word.", source)),
                v4.new_markdown_cell("## Wide tables"),
                shown(linked_table(wide, "All columns.", source, "figure1")),
                shown(wide.to_html()),
                shown(spanning),
                v4.new_markdown_cell("## Texts"),
                texts,
            ]
        notebooks.append(write_notebook(folder, name, *cells))
    write_run(folder, "pretrain", "tiny-bio8k", 3600.0, {"heldout_mlm": 4.9})
    for number, run in enumerate(RUNS):
        write_run(folder, "finetune", run, 60.0 + number, {"test": {"f1": 0.5 + number / 100}})
    runs = runs_page.runs_page(folder / "runs", {path.stem for path in notebooks})
    render_site(notebooks, folder / "report", provenance=PROVENANCE, pages={runs_page.PAGE: runs})
    return folder / "report"
