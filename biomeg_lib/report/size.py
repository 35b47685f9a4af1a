"""Size: encoders that differ in their shape alone, their scores against their parameters, and larger minus smaller.

What is notable: only runs of grids with one recipe meet, so that a pair was fine-tuned alike, too, whatever the grids
are called; and learning rates of pre-training may differ, since a rate that suits a small encoder need not suit a large
one.
"""

from collections.abc import Iterable, Sequence
from itertools import combinations

import pandas as pd

from biomeg_lib.files import read_json
from biomeg_lib.report import tables
from biomeg_lib.report.model_tables import setting_of
from biomeg_lib.study import Study

TASKS = {"ner": "NER", "classification": "RE", "qa": "QA"}
LINE = "Benchmark and setting"
_SETTING = ["Task", "benchmark", "setting", "fraction", "vocabulary"]
_EFFECT = ["measure", "larger", "smaller", "Difference", "low", "high", "p", "seeds"]


def parameters(study: Study, encoder: str) -> int:
    """All parameters of an encoder, with embeddings and heads, as counted when it was pre-trained.

    Raises:
        InputError: its run is not complete.
    """
    return read_json(study.run_directory("pretrain", encoder) / "metrics.json")["parameters"]


def scores(study: Study) -> pd.DataFrame:
    """One row a score of a fine-tuning run, of encoders that differ in their shape alone, from pre-trained weights and
    without a remedy against imbalance.

    Returns:
        `Task`, `benchmark`, `setting` (grids and labelling, marking or route), `fraction`, `vocabulary`, `group` (which
        encoders compare, as a number), `encoder`, `#Parameters`, `seed`, `measure` (as the paper heads it), `value`
        (per cent). Settings that encoders of one size alone have are left out. No rows where no two encoders compare.
    """
    columns = [*_SETTING, "group", "encoder", "#Parameters", "seed"]
    frames = []
    groups = study.encoders_that_differ_in_model()
    group_of = {name: number for number, names in enumerate(groups) for name in names}
    sizes = {name: parameters(study, name) for name in group_of}
    for task, title in TASKS.items():
        jobs = [job.name for job in study.jobs(task) if job.encoder in group_of]
        if not jobs:
            continue
        frame = tables.runs(study, task, jobs)
        frame = frame[frame["start"] == "pretrained"]
        frame = tables.plain(frame) if "remedy" in frame else frame
        factors = [factor for factor in ("labelling", "marking", "route") if factor in frame]
        grids = _alike(study, dict.fromkeys(zip(frame["grid"], frame["benchmark"], strict=True)))
        settings = [
            setting_of(grids[row["grid"], row["benchmark"]], {factor: row[factor] for factor in factors})
            for row in frame.to_dict("records")
        ]
        frame = frame.assign(Task=title, setting=settings, group=frame["encoder"].map(group_of))
        frame["#Parameters"] = frame["encoder"].map(sizes)
        heads = [head for head in tables.HEADS.values() if head in frame]
        frame = frame.drop_duplicates(columns)  # of runs that two grids have, those of the first
        frames.append(frame.melt(columns, heads, "measure", "value").dropna(subset="value"))
    if not frames:
        return pd.DataFrame(columns=[*columns, "measure", "value"])
    frame = pd.concat(frames, ignore_index=True)
    several = frame.groupby([*_SETTING, "group", "measure"])["#Parameters"].transform("nunique") > 1
    return frame[several.astype(bool)].reset_index(drop=True)


def _alike(study: Study, pairs: Iterable[tuple[str, str]]) -> dict[tuple[str, str], str]:
    """(grid, benchmark) -> the names of all grids with that benchmark and the same recipe, epochs, search and share of
    the training set."""
    groups: dict[tuple[str, str, float], list[str]] = {}
    keys = {}
    for name, benchmark in pairs:
        grid = study.grids[name]
        keys[name, benchmark] = benchmark, grid.conditions(), grid.fraction
        groups.setdefault(keys[name, benchmark], []).append(name)
    return {pair: " and ".join(groups[key]) for pair, key in keys.items()}


def effects(scores: pd.DataFrame) -> pd.DataFrame:
    """What a larger encoder gains on a smaller one, all else and the seed equal: paired differences, in points.

    Args:
        scores: what `scores` returns.

    Returns:
        One row a measure, setting and pair of encoders: `Task`, `benchmark`, `setting`, `fraction`, `vocabulary`,
        `measure`, `larger`, `smaller`, `Difference`, `low`, `high` (95 %, Student t over the pairs), `p`, `seeds`.
    """
    frames = []
    task_of = scores.drop_duplicates("benchmark").set_index("benchmark")["Task"]
    for (_, vocabulary, measure), group in scores.groupby(["group", "vocabulary", "measure"], sort=False):
        sizes = group.drop_duplicates("encoder").set_index("encoder")["#Parameters"]
        runs = group.rename(columns={"value": measure, "setting": "grid"})  # it names the grid, and the arm within it
        for smaller, larger in combinations(sizes.sort_values(kind="stable").index, 2):
            if sizes[smaller] < sizes[larger]:
                pair = runs[runs["encoder"].isin([larger, smaller])]
                both = pair.groupby(["benchmark", "grid", "fraction", "seed"])["encoder"].transform("nunique") == 2
                frame = tables.effects(pair[both], "encoder", larger, smaller, measure)
                frame = frame.rename(columns={"grid": "setting"})
                frame["Task"] = frame["benchmark"].map(task_of)
                frames.append(frame.assign(vocabulary=vocabulary, measure=measure, larger=larger, smaller=smaller))
    columns = [*_SETTING, *_EFFECT]
    frame = pd.concat(frames)[columns] if frames else pd.DataFrame(columns=columns)
    frame = frame.sort_values("Task", key=lambda tasks: tasks.map(list(TASKS.values()).index), kind="stable")
    return frame.reset_index(drop=True).astype(dict.fromkeys(("Difference", "low", "high", "p"), float))


def as_shown(effects: pd.DataFrame) -> pd.DataFrame:
    """What `effects` returns, narrow enough for a page: what is compared as text."""
    rows = []
    for row in effects.to_dict("records"):
        share = "" if row["fraction"] == 1 else f", {row['fraction']:.0%} of the training set"
        interval = "" if pd.isna(row["low"]) else f" ({row['low']:+.1f} to {row['high']:+.1f})"
        rows.append(
            {
                "Measure": row["measure"],
                "Setting": f"{row['benchmark']}: {row['setting']}{share}",
                "Larger - smaller": f"{row['larger']} - {row['smaller']}",
                "Difference (95 % interval)": f"{row['Difference']:+.1f}{interval}",
                "p": row["p"],
                "seeds": row["seeds"],
            }
        )
    return pd.DataFrame(rows)


def summaries(effects: pd.DataFrame) -> str:
    """What `effects` returns, a Markdown item for each task and measure."""
    return "\n".join(
        f"- {task}, {measure}: {tables.summary(part, measure)}"
        for (task, measure), part in effects.groupby(["Task", "measure"], sort=False)
    )


def lines(scores: pd.DataFrame, tasks: Sequence[str], measures: Sequence[str]) -> pd.DataFrame:
    """The rows of `scores` with these tasks and measures, in the order of the latter, and the column `LINE` that tells
    apart what a figure shows as one line."""
    frame = scores[scores["Task"].isin(tasks) & scores["measure"].isin(measures)]
    frame = frame.sort_values("measure", key=lambda column: column.map(list(measures).index), kind="stable")
    names = frame["benchmark"] + ", " + frame["setting"]
    if frame["group"].nunique() > 1:
        names += ", " + frame["vocabulary"]
    return frame.assign(**{LINE: names})
