"""Rules of the number audit for pages: every number in a <table> is one of its CSV file, or of the results of runs.

What is notable: a table that has a file (its caption links it) is held against that file row by row; one that has none
has a rule in `FRAMES`, by what its caption says, or its numbers must all occur in the profile's JSON and CSV files.
What is made while a notebook runs, and is written nowhere else, is in `MADE_LIVE`, each with the reason.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import lxml.html
import numpy as np
import pandas as pd
from audit_ledger import HEADS, Ledger, Unexplained, estimate, read_csv, read_json

from biomeg_lib.bench.targets import TARGETS
from biomeg_lib.report import runs_page
from biomeg_lib.vocab import Vocabulary

# What a caption says -> why its numbers are in no file.
MADE_LIVE = {
    r"What the model puts in place of a hidden word\.": "probabilities of a model that the notebook loads; an example",
    r".*: the likeliest pieces in place of \[MASK\], and their probabilities\.": "the same, of two models",
    r"Test items, the model's word and the gold\.": "text of the test set and what a model that is loaded makes of it",
}
_NUMBER = re.compile(r"[+-]?\d+(?:,\d{3})*(?:\.\d+)?%?")
_MISSING = ("\N{EN DASH}", "")


@dataclass(frozen=True)
class Table:
    """A table of a page: its caption, the CSV file that the caption links, the id of its figure, and its cells."""

    page: str
    name: str
    caption: str
    file: str | None
    columns: list[str]
    rows: list[list[str]]

    def records(self) -> list[dict[str, str]]:
        """Its rows, cells by heading."""
        return [dict(zip(self.columns, row, strict=True)) for row in self.rows]


def audit(ledger: Ledger) -> list[str]:
    """Complaints about all tables of all pages."""
    folder = ledger.study.outputs / "report"
    pages = sorted(folder.glob("*.html"))
    complaints = [] if pages else [f"{folder}: there are no pages"]
    for path in pages:
        for number, table in enumerate(read_tables(path), start=1):
            what = f"{path.name}, table {number} ({table.name or table.caption[:40]})"
            try:
                complaints += [f"{what}: {complaint}" for complaint in _complaints(ledger, table)]
            except (Unexplained, KeyError, ValueError, OSError) as error:
                complaints.append(f"{what}: it leads back to nothing: {error or type(error).__name__}")
    return complaints


def read_tables(path: Path) -> Iterator[Table]:
    """The tables of a page."""
    for table in lxml.html.parse(path).getroot().iter("table"):
        figure = next(table.iterancestors("figure"), None)
        caption, file, name = "", None, ""
        if figure is not None:
            name = figure.get("id") or ""
            text = next(figure.iter("figcaption"), None)
            if text is not None:
                caption = (text.text or "").strip()
                links = [Path(href) for href in text.xpath(".//a/@href") if href.endswith(".csv")]
                ours = [link for link in links if link.parent.as_posix() in ("../tables", "..")]
                file = ours[0].as_posix().removeprefix("../") if ours else None
        columns = [" ".join(cell.text_content().split()) for cell in table.xpath("./thead//th")]
        rows = [
            [" ".join(cell.text_content().split()) for cell in row.xpath("./td|./th")]
            for row in table.xpath("./tbody/tr")
        ]
        yield Table(path.stem, name, caption, file, columns, rows)


def _complaints(ledger: Ledger, table: Table) -> Iterator[str]:
    if any(len(row) != len(table.columns) for row in table.rows):
        yield "its rows are not as long as its head"
    elif table.file is not None:
        if re.sub(r"-\d+$", "", table.name) != Path(table.file).stem:
            yield f"its id is {table.name!r}, but its file {table.file}"
        frame = read_csv(ledger.study.outputs / table.file)
        printed = {"measure", "source", "runs"} <= set(frame)
        yield from _as_printed(ledger, table, frame) if printed else _as_file(table, frame)
    elif not any(re.fullmatch(pattern, table.caption) for pattern in MADE_LIVE):
        rules = (rule for pattern, rule in FRAMES.items() if re.match(pattern, f"{table.page}: {table.caption}"))
        yield from next(rules, _anywhere)(ledger, table)


def shows(cell: str, value: Any) -> bool:
    """Whether a cell shows a value, at the decimals that it has."""
    if value is None or (not isinstance(value, str) and pd.isna(value)):
        return cell in _MISSING
    if isinstance(value, str):
        return cell == " ".join(value.split())
    if isinstance(value, bool | np.bool_):
        return cell == ("yes" if value else "no")
    return _NUMBER.fullmatch(cell) is not None and _near(cell, float(value))


def _near(cell: str, value: float) -> bool:
    """Whether a number is a value rounded; a file has six digits, so that its last may be rounded once more, but for
    counts, which are there in full."""
    percent = cell.endswith("%")
    shown = float(cell.rstrip("%").replace(",", ""))
    value = 100 * value if percent else value
    if value.is_integer() and "." not in cell:
        return shown == value
    half = 0.5 * 10.0 ** -len(cell.rstrip("%").partition(".")[2])
    return abs(shown - value) <= half * (1 + 1e-9) + 6e-6 * abs(value)


@dataclass
class Pool:
    """Numbers and texts that a number on a page may be one of."""

    numbers: np.ndarray
    text: str

    @classmethod
    def make(cls, values: Iterator[Any]) -> "Pool":
        """Of cells of tables, or values of JSON files."""
        known = [value for value in values if value is not None]
        texts = [" ".join(value.split()) for value in known if isinstance(value, str)]
        numbers = [float(v) for v in known if not isinstance(v, str | bool) and np.isfinite(float(v))]
        return cls(np.unique(numbers), "\n".join(texts))

    @classmethod
    def of(cls, ledger: Ledger) -> "Pool":
        """Of all the profile's results."""
        out = ledger.study.outputs
        values: list[Any] = []
        for pattern in ("runs/*/*/metrics.json", "runs/*/*/params.json", "corpora/*/counts.json"):
            for path in sorted(out.glob(pattern)):
                values += _leaves(read_json(path))
        for path in [*sorted(out.glob("tables/*.csv")), out / "findings.csv"]:
            values += read_csv(path).to_numpy(dtype=object).ravel().tolist()
        return cls.make(iter(values))

    def has(self, number: str) -> bool:
        """Whether a number as it is shown is one of them, or stands in one of the texts as it is."""
        if any(_near(number, value) for value in self.numbers):
            return True
        return re.search(rf"(?<![\w.]){re.escape(number)}(?![\w]|\.\d)", self.text) is not None


def _leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, dict | list):
        for one in value.values() if isinstance(value, dict) else value:
            yield from _leaves(one)
    else:
        yield value


def numbers(cell: str) -> list[str]:
    """The free-standing numbers of a cell: of "84.6 (84.0 to 85.2)" three, of "bio-8k on BC5CDR" none."""
    parts = re.split(r"[\s();:/\xb1]+|,(?!\d)", cell)
    return [part.rstrip(".") for part in parts if _NUMBER.fullmatch(part.rstrip("."))]


def _anywhere(ledger: Ledger, table: Table) -> Iterator[str]:
    """A table that has no rule: all its numbers occur somewhere in the profile's results."""
    yield from _in_pool(table, Pool.of(ledger))


def _in_pool(table: Table, pool: Pool) -> Iterator[str]:
    for place, row in enumerate(table.records(), start=1):
        for column, cell in row.items():
            for number in numbers(cell) if cell not in pool.text.split("\n") else []:
                if not pool.has(number):
                    yield f"row {place}, {column}: {number} is in no file of the profile"


def _as_file(table: Table, frame: pd.DataFrame) -> Iterator[str]:
    """Each row has to be a row of the file in the columns that both have; its other numbers have to be of such rows."""
    records = frame.to_dict("records")
    shared = []
    for column in [column for column in dict.fromkeys(table.columns) if column in frame]:
        # a page may word a text differently; a column of numbers is held against the file's even if one is not there
        cells = [row[column] for row in table.records()]
        plain = all(cell in _MISSING or _NUMBER.fullmatch(cell) for cell in cells)
        worded = not (plain and pd.api.types.is_numeric_dtype(frame[column]))
        if not worded or all(any(shows(cell, value) for value in frame[column].unique()) for cell in cells):
            shared.append(column)
    whole = len(records) == len(table.rows)
    for place, row in enumerate(table.records(), start=1):
        candidates = [records[place - 1]] if whole else records
        alike = [one for one in candidates if all(shows(row[column], one[column]) for column in shared)]
        if not alike:
            wrong = [f"{c} {row[c]}" for c in shared if not any(shows(row[c], one[c]) for one in candidates)]
            yield f"row {place}: it is no row of {table.file} ({', '.join(wrong) or 'its cells are of several rows'})"
            continue
        halves = [
            (one[name] - one[low]) / 2  # of an interval, where a page has it instead of the bounds
            for one in alike
            for name in one
            if name.endswith("high") and (low := f"{name[:-4]}low") in one and pd.notna(one[name])
        ]
        pool = Pool.make(iter([*halves, *(value for one in alike for value in one.values())]))
        for column in [column for column in table.columns if column not in shared]:
            if any(shows(row[column], value) for one in alike for value in one.values()):
                continue
            for number in numbers(row[column]):
                if not pool.has(number):
                    yield f"row {place}, {column}: {number} is not in its rows of {table.file}"


def _as_printed(ledger: Ledger, table: Table, frame: pd.DataFrame) -> Iterator[str]:
    """Tables 1, 2, 4, 6 and 7: a row for all measures of a printed row and what stands for it, "70.1 \xb1 2.3" of the
    runs that the file names, and the paper's numbers in the order of the measures."""
    groups: dict[tuple, list[dict[str, Any]]] = {}
    benchmarks = not set(frame["measure"]) <= set(HEADS)  # Table 7's measures, all of them F1
    for one in frame.to_dict("records"):
        ours = ("note",) if pd.isna(one["encoder"]) else ("encoder", "benchmark", "fraction", "setting")
        key = (one["measure"] if benchmarks else "", one["source"], *(str(one[name]) for name in ours))
        groups.setdefault(key, []).append(one)
    if len(groups) != len(table.rows):
        yield f"expected {len(groups)} rows, found {len(table.rows)}"
        return
    for place, (row, group) in enumerate(zip(table.records(), groups.values(), strict=True), start=1):
        expected = {"published": [one["published"] for one in group]}
        for one in group:
            head = "F1" if benchmarks else one["measure"]
            expected[head] = []
            if pd.notna(one["value"]):
                found = estimate([ledger.run(name)[head] for name in str(one["runs"]).split()])
                half = None if found["high"] is None else found["high"] - found["mean"]
                expected[head] = [number for number in (found["mean"], half) if number is not None]
        for column, cell in row.items():
            said = numbers(cell)
            if column in expected:
                if len(said) != len(expected[column]) or not all(map(_near, said, expected[column])):
                    yield f"row {place}, {column}: {cell}, but it is {expected[column]}"
            elif strays := [n for n in said if not Pool.make(v for one in group for v in one.values()).has(n)]:
                yield f"row {place}, {column}: {', '.join(strays)} is not in its rows of {table.file}"


def _held(table: Table, expected: list[dict[str, Any]]) -> Iterator[str]:
    """Each row has to show these values."""
    if len(expected) != len(table.rows):
        yield f"expected {len(expected)} rows, found {len(table.rows)}"
        return
    for place, (row, values) in enumerate(zip(table.records(), expected, strict=True), start=1):
        for column, cell in row.items():
            if column in values:
                if not shows(cell, values[column]):
                    yield f"row {place}, {column}: {cell}, but it is {values[column]}"
            elif numbers(cell):
                yield f"row {place}, {column}: {cell} is explained by no rule"


def _job(ledger: Ledger, table: Table) -> Iterator[str]:
    """All runs of a job."""
    frame = ledger.runs[ledger.runs["job"] == table.page.removeprefix("finetune.")]
    yield from _held(table, frame.drop(columns=["by_type"]).to_dict("records"))


def _pretrained(ledger: Ledger, table: Table) -> Iterator[str]:
    """Held-out figures of a run, before and after; the caption's numbers, too."""
    after = ledger.pretrained(table.page.removeprefix("pretrain."))
    rows = [
        {
            "Masked-LM loss (nats)": one["heldout_mlm"],
            "Masked-LM accuracy (%)": 100 * one["heldout_accuracy"],
            "Sentence-order loss (nats)": one["heldout_order"],
        }
        for one in (after["untrained"], after)
    ]
    yield from _held(table, rows)
    said = [after[key] for key in ("heldout_windows", "tokens", "epochs", "parameters")]
    found = numbers(table.caption)
    if len(found) != len(said) or not all(map(shows, found, said)):
        yield f"its caption says {', '.join(found)}, but they are {', '.join(map(str, said))}"


def _series(ledger: Ledger, table: Table) -> Iterator[str]:
    """Encoders that start from a checkpoint, or that others start from."""
    expected = []
    for name in ledger.study.encoders_of_series():
        metrics, steps = ledger.pretrained(name), ledger.steps_of(name)
        scratch = ledger.study.pretraining[name].init_from is None
        tokens = 0 if scratch else metrics["tokens"]
        expected.append({"encoder": name, "Steps": steps, "Tokens": tokens, "Masked-LM loss": metrics["heldout_mlm"]})
    yield from _held(table, expected)


def _traded(ledger: Ledger, table: Table) -> Iterator[str]:
    """What remedies gain in precision and recall: differences of two columns of imbalance.csv."""
    expected = [
        {
            "benchmark": row["benchmark"],
            "remedy": row["remedy"],
            "Precision gained": row["Prec"] - row["Prec, none"],
            "Recall gained": row["Rec"] - row["Rec, none"],
            "F1 gained": row["F1"] - row["F1, none"],
        }
        for row in ledger.table("imbalance").to_dict("records")
    ]
    yield from _held(table, expected)


def _pieces(ledger: Ledger, table: Table) -> Iterator[str]:
    """A sentence under each vocabulary: counted again by the tokeniser."""
    sentence = table.caption[1:].rpartition("” under each vocabulary.")[0]
    found = {name: Vocabulary.load(ledger.study.vocabulary_directory(name)) for name in ledger.study.vocabularies}
    rows = [{"Vocabulary": n, "#pieces": len(vocabulary.encode(sentence).ids)} for n, vocabulary in found.items()]
    as_text = [{"Pieces": row["Pieces"]} for row in table.records()]  # pieces may look like numbers
    yield from _held(table, [row | text for row, text in zip(rows, as_text, strict=True)])


def _all_runs(ledger: Ledger) -> list[dict[str, Any]]:
    """Every complete run, by kind and name, as its own files have it; watts are what `runs_page` assumes."""
    found = []
    for kind in ("pretrain", "search", "finetune"):
        for folder in sorted((ledger.study.outputs / "runs" / kind).iterdir()) if _is_there(ledger, kind) else []:
            if (folder / "state").read_text(encoding="utf-8").strip() != "complete":
                continue
            metrics, environment = read_json(folder / "metrics.json"), read_json(folder / "environment.json")
            scores = {**metrics.get("test", {}), **{k[6:]: v for k, v in metrics.items() if k.startswith("devel_")}}
            score = scores.get("mean_reciprocal_rank", scores.get("f1", scores.get("optimum")))
            commit = environment.get("commit")
            hardware = re.sub(r"^\d+ x ", "", str(environment["hardware"]))
            on_cpu = environment["threads"] * runs_page.WATTS_A_CORE
            found.append(
                {
                    "Kind": kind,
                    "Run": folder.name,
                    "Score": metrics.get("heldout_mlm") if score is None else 100 * score,
                    "Seconds": metrics["seconds"],
                    "Tokens": metrics.get("tokens"),
                    "Date (UTC)": str(environment["date"])[:16].replace("T", " "),
                    "Commit": commit[:7] + "+" * commit.endswith("+") if commit else "\N{EN DASH}",
                    "watts": runs_page.BOARD_WATTS.get(hardware, on_cpu if "NVIDIA" not in hardware else None),
                }
            )
    return found


def _is_there(ledger: Ledger, kind: str) -> bool:
    return (ledger.study.outputs / "runs" / kind).is_dir()


def _listed(ledger: Ledger, table: Table) -> Iterator[str]:
    """All runs, one row a run."""
    yield from _held(table, _all_runs(ledger))


def _totals(ledger: Ledger, table: Table) -> Iterator[str]:
    """All runs of a kind together."""
    frame = pd.DataFrame(_all_runs(ledger))
    expected = []
    for kind, group in frame.groupby("Kind", sort=False):
        hours = group["Seconds"].sum() / 3600
        energy = (group["Seconds"] * group["watts"].astype(float) / 3600).sum(min_count=1)
        tokens = group["Tokens"].astype(float).sum(min_count=1)
        expected.append({"Kind": kind, "Runs": len(group), "Hours": hours, "Tokens": tokens})
        expected[-1]["Energy, estimate (Wh)"] = energy
    yield from _held(table, expected)


def _measured(ledger: Ledger, table: Table) -> Iterator[str]:
    """Speed and memory: three digits of what bench.csv or the records kept with the code have of a case, on the machine
    that the caption begins with."""
    root = ledger.study.root
    paths = [root / "outputs" / "bench" / "bench.csv", *sorted((root / "docs" / "results" / "bench").glob("*.csv"))]
    measured = [row for path in paths if path.is_file() for row in read_csv(path).to_dict("records") if "case" in row]
    machines = {row["hardware"] for row in measured if table.caption.startswith(str(row["hardware"]))}
    machine = max(machines, key=len, default="")  # the name of one may begin that of another
    for row in table.records():
        target = [TARGETS[row["case"]].ratio] if row["case"] in TARGETS else []
        known = [one for one in measured if (one["case"], one["hardware"]) == (row["case"], machine)]
        pool = Pool.make(iter([*target, *(value for one in known for value in one.values())]))
        yield from _in_pool(replace(table, rows=[list(row.values())]), pool)


FRAMES: dict[str, Callable[[Ledger, Table], Iterator[str]]] = {
    r"finetune\..*: Every run: ": _job,
    r"pretrain\..*: Held-out figures over ": _pretrained,
    r"vocab: “.*” under each vocabulary\.": _pieces,
    r"domain_transfer: Encoders that start from a checkpoint": _series,
    r"imbalance: What each remedy gains in precision and recall": _traded,
    r"runs: One row a run": _listed,
    r"runs: All runs of a kind together": _totals,
    r"benchmark: ": _measured,
}
