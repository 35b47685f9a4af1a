"""What the number audit walks back to: results of runs as their JSON files have them, and arithmetic of its own.

What is notable: of `biomeg_lib` the audit takes names (which runs, encoders and benchmarks a study has), readers of
inputs and the paper's numbers. Means, intervals and tests are computed here, with scipy, from `metrics.json`.
"""

import json
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from biomeg_lib.inputs import benchmark_files
from biomeg_lib.report import data_tables, published
from biomeg_lib.study import Study

FACTORS = ("start", "labelling", "marking", "route", "remedy")
OF_TASK = {
    "ner": ("start", "labelling", "remedy"),
    "classification": ("start", "marking", "remedy"),
    "qa": ("start", "route"),
}
HEADS = {
    "Prec": "precision",
    "Rec": "recall",
    "EM": "exact",
    "F1": "f1",
    "SAcc": "strict_accuracy",
    "LAcc": "lenient_accuracy",
    "MRR": "mean_reciprocal_rank",
}
SIZES = ("sentences", "examples", "questions")


class Unexplained(Exception):
    """A number, or what it is said to be of, that leads back to nothing."""


def read_json(path: Path) -> Any:
    """A file of a run or corpus; one that is not there leads back to nothing, too."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise Unexplained(f"{path.name} of {path.parent.name} cannot be read ({error})") from None


def read_csv(path: Path) -> pd.DataFrame:
    """A table as its file has it: only an empty cell is missing, so that an arm called "none" stays one."""
    return pd.read_csv(path, keep_default_na=False, na_values=[""])


def same(found: Any, expected: Any) -> bool:
    """Whether a cell is the value: a count exactly, a measurement at the six digits that tables are written with."""
    missing = [value is None or (not isinstance(value, str) and pd.isna(value)) for value in (found, expected)]
    if any(missing):
        return all(missing)
    if isinstance(expected, str):
        return str(found) == expected
    if isinstance(found, str):
        return False
    if isinstance(expected, int | np.integer):
        return float(found) == expected
    return bool(np.isclose(float(found), float(expected), rtol=6e-6, atol=1e-9))


def estimate(values: Sequence[float]) -> dict[str, Any]:
    """Mean, 95 % t interval, the p value that the mean is 0, and the number of values; no interval for one value."""
    array = np.asarray(values, dtype=np.float64)
    if not len(array) or not np.isfinite(array).all():
        raise Unexplained(f"values {array.tolist()} have no mean")
    mean, n = float(array.mean()), len(array)
    if n == 1:
        return {"mean": mean, "low": None, "high": None, "p": None, "n": n}
    if not array.std(ddof=1):
        return {"mean": mean, "low": mean, "high": mean, "p": float(mean == 0), "n": n}
    test = stats.ttest_1samp(array, 0.0)
    interval = test.confidence_interval(0.95)
    return {"mean": mean, "low": interval.low, "high": interval.high, "p": float(test.pvalue), "n": n}


class Ledger:
    """The results behind a finished study's tables, read once.

    Attributes:
        study: whose they are.
    """

    def __init__(self, study: Study):
        self.study = study

    @cached_property
    def runs(self) -> pd.DataFrame:
        """One row a fine-tuning run: what its metrics.json and params.json say of it, scores in per cent."""
        rows = [
            self._run(task, job.name, name)
            for task in OF_TASK
            for job in self.study.jobs(task)
            for name in self.study.runs(job)
        ]
        columns = ["run", "job", "task", "grid", "benchmark", "encoder", *FACTORS, "fraction", "seed", *SIZES, *HEADS]
        frame = pd.DataFrame(rows)
        return frame.reindex(columns=list(dict.fromkeys([*columns, *frame.columns])))

    def _run(self, task: str, job: str, name: str) -> dict[str, Any]:
        folder = self.study.run_directory("finetune", name)
        metrics, params = read_json(folder / "metrics.json"), read_json(folder / "params.json")
        cell, seed = metrics["cell"], metrics["seed"]
        parts = [cell[key] for key in ("grid", "benchmark", "encoder", *FACTORS) if cell.get(key)]
        if ".".join([*parts, f"seed{seed}"]) != name or params["cell"] != cell or params["seed"] != seed:
            raise Unexplained(f"run {name}: its metrics.json or params.json is of another run")
        recipe = {key: value for key, value in params["recipe"].items() if key != "batch"}
        search = self.study.grids[cell["grid"]].search.model_dump()
        devel = metrics["devel"] or {}
        chosen = devel.get("optimum", devel.get("f1"))
        return {
            "run": name,
            "job": job,
            "task": task,
            **{key: cell[key] for key in ("grid", "benchmark", "encoder", "fraction")},
            **{factor: cell.get(factor) or "none" for factor in OF_TASK[task]},
            "seed": seed,
            **metrics["point"],
            **{key: metrics[key] for key in SIZES if key in metrics},
            **{head: 100 * metrics["test"][key] for head, key in HEADS.items() if key in metrics["test"]},
            "Devel": None if chosen is None else 100 * chosen,
            "by_type": metrics["test"].get("by_type", {}),
            "batch": params["recipe"]["batch"],
            "conditions": json.dumps([recipe, params["epochs"], search], sort_keys=True),
        }

    def run(self, name: str) -> pd.Series:
        """One run by its name."""
        found = self.runs[self.runs["run"] == name]
        if len(found) != 1:
            raise Unexplained(f"no run of the study is called {name!r}")
        return found.iloc[0]

    def arm(self, row: dict[str, Any], but: Iterable[str] = (), **fixed: Any) -> pd.DataFrame:
        """The runs that a row of a table describes by the columns it has, by seed; of one arm, so each seed once."""
        frame = self.runs
        wanted = {key: row[key] for key in ("grid", "benchmark", "encoder", *FACTORS, "fraction") if key in row}
        for key, value in {**wanted, **fixed}.items():
            if key not in but:
                frame = frame[frame[key].isna() if pd.isna(value) else frame[key] == value]
        if frame.empty or frame["seed"].duplicated().any():
            raise Unexplained(f"{len(frame)} runs are {wanted | fixed}")
        return frame.set_index("seed").sort_index()

    def pretrained(self, name: str) -> dict[str, Any]:
        """The metrics.json of a pre-training run."""
        if name not in self.study.pretraining:
            raise Unexplained(f"no pre-training run of the study is called {name!r}")
        return read_json(self.study.run_directory("pretrain", name) / "metrics.json")

    def steps_of(self, name: str) -> int | None:
        """Steps of further pre-training: 0 for a checkpoint or a run that others start from."""
        own = read_json(self.study.run_directory("pretrain", name) / "params.json")["pretraining"]
        return 0 if own.get("init_from") is None else self.pretrained(name).get("steps", 0)

    def table(self, name: str) -> pd.DataFrame:
        """One of the study's tables, for numbers that are copied from table to table."""
        path = self.study.table(name)
        if not path.is_file():
            raise Unexplained(f"there is no table {name}")
        return read_csv(path)

    @cached_property
    def words(self) -> dict[tuple[str, str], list[list[tuple[str, str]]]]:
        """(benchmark, split) -> sentences of (word, tag), cut here from the files of named-entity benchmarks."""
        found = {}
        for name, spec in self.study.benchmarks_of("ner").items():
            for split, (path,) in benchmark_files(self.study, spec).items():
                sentences: list[list[tuple[str, str]]] = [[]]
                for line in path.read_text(encoding="utf-8-sig").split("\n"):
                    fields = line.strip("\r\n").replace(" ", "\t").split("\t") if line.strip() else []
                    if fields and fields[0] == "-DOCSTART-":
                        continue
                    if fields:
                        sentences[-1].append((fields[0], fields[-1]))
                    elif sentences[-1]:
                        sentences.append([])
                found[name, split] = [sentence for sentence in sentences if sentence]
        return found

    @cached_property
    def counted(self) -> dict[tuple[str, str], data_tables.CountedSplit]:
        """(benchmark, split) -> what the library's readers and `data_tables.count_benchmarks` count."""
        return {(one.benchmark, one.split): one for one in data_tables.count_benchmarks(self.study)}


def printed(source: Any) -> pd.Series | None:
    """The row of the paper that a cell such as "Table 1, row 3" cites; None for no citation."""
    if pd.isna(source):
        return None
    number = str(source).removeprefix("Table ").split(",")[0]
    if number.isdigit() and int(number) in published.TABLES:
        found = published.table(int(number))
        found = found[found["source"] == source]
        if len(found) == 1:
            return found.iloc[0]
    raise Unexplained(f"the paper has no {source!r}")
