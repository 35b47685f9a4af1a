"""Tables 1, 2, 4, 6 and 7: the paper's models, each beside the runs of the profile that represent it.

What is notable: every number of the paper is there, whether something here stands for it or not. A run represents a
number if its encoder's `stands_for` has the model of the printed row and its benchmark stands for the paper's; several
encoders, grids and shares of the training set are several rows. What nothing represents has the published number, no
value, and a note that says why (`Study.not_run`, or what is lacking).
"""

from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd

from biomeg_lib.errors import BiomegError
from biomeg_lib.grids import DIRECT, Job, NerGrid
from biomeg_lib.metrics.statistics import mean_interval
from biomeg_lib.params import Location, suggestion
from biomeg_lib.report import published, tables
from biomeg_lib.report.published import canonical_benchmark
from biomeg_lib.study import Study

NO_MODEL = "no run of this profile stands for it"
NOT_SCORED = "its runs are not scored by this measure"
_TASKS = {1: ("ner", "classification")}  # all others ask questions
_QUESTIONS = "BioASQ-7b-factoid"  # what Tables 4 and 6 are about, which print no benchmark
_BY_WORD = "NCBI-disease"  # labelled by whole entities in the paper, all others by pieces (section 5.1)
_OURS = ["encoder", "benchmark", "fraction", "setting", "value", "low", "high", "seeds", "runs", "note"]


def unknown_names(study: Study) -> Iterator[tuple[Location, str]]:
    """Every `stands_for` and key of `not_run` that names nothing of the paper: (where, what is wrong with it)."""
    models, benchmarks = published.known_models(), published.known_benchmarks()
    vocabularies = published.known_vocabularies()
    named: list[tuple[Location, str, str, list[str]]] = []
    for key, run in study.pretraining.items():
        named += [
            (("pretraining", key, "stands_for", i), "model", name, models) for i, name in enumerate(run.stands_for)
        ]
    for key, benchmark in study.benchmarks.items():
        if benchmark.stands_for is not None:
            named.append((("benchmarks", key, "stands_for"), "benchmark", benchmark.stands_for, benchmarks))
    for key, vocabulary in study.vocabularies.items():
        if vocabulary.stands_for is not None:
            named.append((("vocabularies", key, "stands_for"), "vocabulary", vocabulary.stands_for, vocabularies))
    everything = [*models, *benchmarks, *vocabularies, *published.table(9)["Model"]]
    named += [(("not_run", key), "model or benchmark", key, everything) for key in study.not_run]
    for location, kind, name, known in named:
        if name not in known:
            yield location, f"no {kind} of the paper is called {name!r}; {suggestion(name, known)}"


def model_table(study: Study, number: int) -> pd.DataFrame:
    """Table 1, 2, 4, 6 or 7, one row a measurement, in the paper's order.

    Per row of runs: from pre-trained weights, without a remedy against imbalance; entities labelled as the paper labels
    them where the grid has it (by word for NCBI-disease, else by piece); the first marking of a grid; for Table 2 the
    routes over another benchmark, for Table 4 the direct one.

    Returns:
        The paper's key columns, `measure`, `published`, `source`; then `encoder`, `benchmark`, `fraction` (of the
        training set), `setting` (grid and labelling, marking or route), `value` (per cent, mean over seeds), `low` and
        `high` (95 %, Student t), `seeds` (how many), `runs` (the names of the runs behind it, with a blank between
        them) and `note`.

    Raises:
        BiomegError: the paper's table of this number is not of models, or a `stands_for` names nothing of the paper.
        InputError: a run is not complete.
    """
    if number not in published.MODEL_TABLES:
        known = ", ".join(map(str, published.MODEL_TABLES))
        raise BiomegError(f"expected one of the paper's tables of models, {known}, found {number!r}")
    for location, mistake in unknown_names(study):
        raise BiomegError(f"{study.params_file}: {'.'.join(map(str, location))}: {mistake}")
    of_row = dict(zip(published.table(number)["source"], published.models(number), strict=True))
    tasks = _TASKS.get(number, ("qa",))
    arms: dict[str, list[tuple[dict[str, Any], pd.DataFrame]]] = {}
    rows: list[dict[str, Any]] = []
    for printed in published.measurements(number).to_dict("records"):
        model = of_row[printed["source"]]
        benchmark = printed.get("Benchmark", printed["measure"] if number == 7 else _QUESTIONS)
        encoders = [name for name, spec in study.pretraining.items() if model in spec.stands_for]
        benchmarks = _standing_for(study, benchmark, tasks)
        head = "F1" if number == 7 else printed["measure"]
        ours = []
        for job in study.jobs():
            if job.encoder in encoders and job.benchmark in benchmarks:
                if job.name not in arms:
                    arms[job.name] = _arms(study, job, number)
                ours += [{**said, **_score(arm, head)} for said, arm in arms[job.name]]
        note = "" if ours else _why(study, number, model, benchmark, encoders, benchmarks)
        rows += [{**printed, **row} for row in ours or [{"note": note}]]
    frame = pd.DataFrame(rows, columns=[*published.TABLES[number].keys, "measure", "published", "source", *_OURS])
    return frame.astype({"fraction": float, "value": float, "low": float, "high": float, "seeds": "Int64"})


def _standing_for(study: Study, benchmark: str, tasks: tuple[str, ...]) -> list[str]:
    """Our benchmarks of these tasks that represent one of the paper, under any of its names."""
    wanted = canonical_benchmark(benchmark)
    return [
        name
        for name, ours in study.benchmarks.items()
        if ours.task in tasks and canonical_benchmark(ours.stands_for or "") == wanted
    ]


def _arms(study: Study, job: Job, number: int) -> list[tuple[dict[str, Any], pd.DataFrame]]:
    """The arms of a job that a table is about: what a row says of each, and its runs."""
    grid = study.grids[job.grid]
    frame = tables.runs(study, grid.task, [job.name])
    chosen = frame["start"] == "pretrained"
    if "remedy" in frame:
        chosen &= frame["remedy"] == "none"
    if isinstance(grid, NerGrid):
        ours = canonical_benchmark(study.benchmarks[job.benchmark].stands_for or "")
        preferred = "word" if ours == _BY_WORD else "piece"
        chosen &= frame["labelling"] == (preferred if preferred in grid.labellings else grid.labellings[0])
    if "marking" in frame:
        chosen &= frame["marking"] == frame["marking"].iloc[0]
    if number == 2:
        chosen &= frame["route"] != DIRECT
    elif number == 4:
        chosen &= frame["route"] == DIRECT
    factors = [factor for factor in ("labelling", "marking", "route") if factor in frame]
    found = []
    for values, arm in frame[chosen].groupby(factors, sort=False):
        said = {"encoder": job.encoder, "benchmark": job.benchmark, "fraction": grid.fraction}
        said["setting"] = setting_of(job.grid, dict(zip(factors, values, strict=True)))
        found.append(({**said, "runs": " ".join(arm["run"])}, arm))
    return found


def _score(arm: pd.DataFrame, head: str) -> dict[str, Any]:
    """What an arm's seeds say together about one measure."""
    if head not in arm:
        return {"note": NOT_SCORED}
    interval = mean_interval(arm[head])
    return {"value": interval.mean, "low": interval.low, "high": interval.high, "seeds": interval.n, "note": ""}


def setting_of(grid: str, factors: Mapping[str, str]) -> str:
    """A grid and factors of an arm in words: "full, labels by piece", "relations, markers", "bioasq, after squad"."""
    words = [grid]
    for factor, value in factors.items():
        form = {"labelling": "labels by {}", "route": value if value == DIRECT else "after {}"}.get(factor, "{}")
        words.append(form.format(value))
    return ", ".join(words)


def _why(study: Study, number: int, model: str, benchmark: str, encoders: list[str], benchmarks: list[str]) -> str:
    """Why no run represents a number of the paper."""
    if not encoders:
        return published.reason(study.not_run, model, NO_MODEL)
    if not benchmarks:
        return published.reason(study.not_run, benchmark, f"no benchmark of this profile stands for {benchmark}")
    how = {2: " after another benchmark", 4: " alone"}.get(number, "")
    verb = "is" if len(encoders) == 1 else "are"
    lacking = (
        f"{' and '.join(encoders)} {verb} not fine-tuned from pre-trained weights on {' or '.join(benchmarks)}{how}"
    )
    return published.reason(study.not_run, model, published.reason(study.not_run, benchmark, lacking))


def as_printed(frame: pd.DataFrame) -> pd.DataFrame:
    """What `model_table` returns, narrow enough for a page.

    Returns:
        A row for each printed row and what stands for it here: `In the paper`, `Here`, a column for each measure
        ("70.1 ± 2.3": the mean, and half of its 95 % interval), and `published`, the paper's numbers in the same order.
        Table 7's measures are benchmarks, so there each benchmark has a row, and F1 is the measure.
    """
    if not set(frame["measure"]) <= set(tables.HEADS.values()):
        frame = frame.assign(Benchmark=frame["measure"], measure="F1")
    several = "Benchmark" in frame and frame["Benchmark"].nunique() > 1
    named = (["Benchmark"] if several else []) + [k for k in ("Model", "#Parameters", "Vocabulary") if k in frame]
    frame = frame.assign(
        printed=[" ".join(row[name] for name in named) for row in frame.to_dict("records")],
        here=[_here(row) for row in frame.to_dict("records")],
    )
    measures = list(dict.fromkeys(frame["measure"]))
    rows = []
    for (printed, _, here), group in frame.groupby(["printed", "source", "here"], sort=False):
        numbers = group.set_index("measure")
        scores = {measure: _with_interval(numbers.loc[measure]) for measure in measures}
        said = " / ".join(f"{numbers.loc[measure, 'published']:.1f}" for measure in measures)
        rows.append({"In the paper": printed, "Here": here, **scores, "published": said})
    return pd.DataFrame(rows)


def _here(row: dict[str, Any]) -> str:
    """What stands for a printed row, or why nothing does."""
    if pd.isna(row["encoder"]):
        return row["note"]
    share = "" if row["fraction"] == 1 else f", {row['fraction']:.0%} of the training set"
    return f"{row['encoder']} on {row['benchmark']}: {row['setting']}{share}"


def _with_interval(row: pd.Series) -> str:
    if pd.isna(row["value"]):
        return "" if pd.isna(row["encoder"]) else "not scored"
    return f"{row['value']:.1f}" + ("" if pd.isna(row["high"]) else f" ± {row['high'] - row['value']:.1f}")


def without_negatives(study: Study, frame: pd.DataFrame) -> str:
    """A sentence for the caption about the benchmarks of a `model_table` where precision equals recall; "" for none."""
    named = [name for name in frame["benchmark"].dropna().unique() if study.benchmarks[name].format == "chemprot-jsonl"]
    if not named:
        return ""
    return f" {', '.join(named)} has positive pairs alone, so there precision, recall and F1 are all the accuracy."
