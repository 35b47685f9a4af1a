"""The study's tables: tidy frames from counted files and from the `metrics.json` of runs; nothing is computed twice.

One row is one measurement. Scores are in per cent, as in the paper; a mean over seeds has a 95 % Student t interval.
"""

from pathlib import Path
from typing import Any

import pandas as pd

from biomeg_lib import sums
from biomeg_lib.benchmarks.iob import Sentence, entity_spans, read_iob
from biomeg_lib.corpus.documents import COUNTS
from biomeg_lib.errors import InputError
from biomeg_lib.files import read_json, write_if_changed
from biomeg_lib.grids import DIRECT, FACTORS
from biomeg_lib.inputs import benchmark_files
from biomeg_lib.metrics.statistics import mean_interval, paired_difference
from biomeg_lib.report import published
from biomeg_lib.study import Study
from biomeg_lib.vocab import Vocabulary, break_out_rate

ARM = ["grid", "benchmark", "encoder", *FACTORS]
# What the figures of a run are called in the paper's tables.
HEADS = {
    "precision": "Prec",
    "recall": "Rec",
    "exact": "EM",
    "f1": "F1",
    "strict_accuracy": "SAcc",
    "lenient_accuracy": "LAcc",
    "mean_reciprocal_rank": "MRR",
}
_BREAK_OUT = ["Sub-word vocabulary", "Stands for", "Size", "Benchmark", "Stands for column"]
_BREAK_OUT += ["#tokens", "#words", "Rate", "published", "source", "note"]


def save(frame: pd.DataFrame, path: Path) -> Path:
    """Write a table as CSV; an unchanged one keeps its time stamp."""
    write_if_changed(path, frame.to_csv(index=False, lineterminator="\n", float_format="%.6g"))
    return path


def read(path: Path) -> pd.DataFrame:
    """A saved table.

    Raises:
        InputError: it is not there yet.
    """
    if not path.is_file():
        raise InputError(path, "expected this table, found none; make it with `make` and its file name")
    sums.check(path)
    return pd.read_csv(path)


def corpora(study: Study) -> pd.DataFrame:
    """Documents, words and characters of each corpus, and what was dropped, as counted while it was read."""
    rows = []
    for name, corpus in study.corpora.items():
        counts = read_json(study.corpus_directory(name) / COUNTS)
        rows.append(
            {
                "Corpus": name,
                "Format": corpus.format,
                "Files": len(counts["files"]),
                "Documents": counts["documents"],
                "#Words": counts["words"],
                "Characters": counts["characters"],
                "Dropped, empty": counts["dropped"]["empty"],
                "Dropped, repeated": counts["dropped"]["duplicate"],
                # of PubMed alone, so a study without it has no such columns
                **{
                    f"Dropped, {kind}": counts["dropped"][kind]
                    for kind in ("revised", "deleted")
                    if kind in counts["dropped"]
                },
            }
        )
    frame = pd.DataFrame(rows)
    later = [column for column in ("Dropped, revised", "Dropped, deleted") if column in frame]
    return frame.fillna(dict.fromkeys(later, 0)).astype(dict.fromkeys(later, int))


def benchmarks(study: Study) -> pd.DataFrame:
    """Sentences, words, entities and share of words inside entities, of each split of each benchmark."""
    rows = []
    for name, benchmark in study.benchmarks_of("ner").items():
        for split, (path,) in benchmark_files(study, benchmark).items():
            sentences = read_iob(path, benchmark.format)
            words = sum(len(sentence.words) for sentence in sentences)
            inside = sum(tag != "O" for sentence in sentences for tag in sentence.tags)
            entities = sum(len(entity_spans(sentence.tags)) for sentence in sentences)
            rows.append(
                {
                    "Benchmark": name,
                    "Split": split,
                    "Sentences": len(sentences),
                    "Words": words,
                    "Entities": entities,
                    "Words inside entities (%)": 100 * inside / words,
                    "Words an entity": inside / entities if entities else None,
                }
            )
    return pd.DataFrame(rows)


def break_out(study: Study) -> pd.DataFrame:
    """Table 3: pieces a word inside the named entities of each training set, under each vocabulary.

    Columns: `Sub-word vocabulary`, `Stands for` (the paper's row), `Size`, `Benchmark`, `Stands for column`,
    `#tokens`, `#words`, `Rate`, `published`, `source`, `note`. A number of the paper that no vocabulary or no benchmark
    stands for has a row of its own at the end, without a rate, and a note that says why.
    """
    printed = {
        (row["Sub-word vocabulary"], published.canonical_benchmark(row["measure"])): row
        for row in published.measurements(3).to_dict("records")
    }
    sentences: dict[str, list[Sentence]] = {
        name: read_iob(*benchmark_files(study, benchmark)["train"], benchmark.format)
        for name, benchmark in study.benchmarks_of("ner").items()
    }
    rows = []
    for name, spec in study.vocabularies.items():
        vocabulary = Vocabulary.load(study.vocabulary_directory(name))
        for benchmark, training in sentences.items():
            column = study.benchmarks[benchmark].stands_for
            measured = break_out_rate(vocabulary, training)
            number = printed.get((spec.stands_for, published.canonical_benchmark(column or "")), {})
            rows.append(
                {
                    "Sub-word vocabulary": name,
                    "Stands for": spec.stands_for,
                    "Size": vocabulary.size,
                    "Benchmark": benchmark,
                    "Stands for column": column,
                    "#tokens": measured.pieces,
                    "#words": measured.words,
                    "Rate": measured.rate,
                    "published": number.get("published"),
                    "source": number.get("source"),
                    "note": "",
                }
            )
    vocabularies = {spec.stands_for for spec in study.vocabularies.values()}
    benchmarks = {published.canonical_benchmark(study.benchmarks[name].stands_for or "") for name in sentences}
    for (name, benchmark), number in printed.items():
        column = number["measure"]
        if name not in vocabularies:
            note = published.reason(study.not_run, name, "no vocabulary of this profile stands for it")
        elif benchmark not in benchmarks:
            otherwise = f"no benchmark of this profile stands for {column}"
            note = published.reason(study.not_run, benchmark, otherwise)
        else:
            continue
        row = {"Stands for": name, "Stands for column": column, "note": note}
        rows.append({**row, "published": number["published"], "source": number["source"]})
    frame = pd.DataFrame(rows, columns=_BREAK_OUT)
    return frame.astype(dict.fromkeys(("Size", "#tokens", "#words"), "Int64") | {"published": float})


def break_out_as_printed(frame: pd.DataFrame) -> pd.DataFrame:
    """What `break_out` returns in the paper's form: a row for each vocabulary, a column for each benchmark, and beside
    it the published number where the paper has one; then the paper's vocabularies that nothing stands for, with a
    note."""
    rows: list[dict[str, Any]] = []
    for name, group in frame.groupby("Sub-word vocabulary", sort=False):
        row = {"Sub-word vocabulary": name, "Stands for": group["Stands for"].iloc[0], "Size": group["Size"].iloc[0]}
        for entry in group.itertuples(index=False):
            row[entry.Benchmark] = entry.Rate
            if frame.loc[frame["Benchmark"] == entry.Benchmark, "published"].notna().any():
                row[f"{entry.Benchmark}, published"] = entry.published
        rows.append(row)
    measured, missing = frame[frame["Benchmark"].notna()], frame[frame["Benchmark"].isna()]
    columns = measured["Stands for column"].map(published.canonical_benchmark, na_action="ignore")
    for (name, note), group in missing.groupby(["Stands for", "note"], sort=False):
        row = {"Stands for": name, "note": note}
        for column, value in zip(group["Stands for column"], group["published"], strict=True):
            ours = measured.loc[columns == published.canonical_benchmark(column), "Benchmark"].unique()
            row |= {f"{benchmark}, published": value for benchmark in (ours if len(ours) else [column])}
        rows.append(row)
    printed = pd.DataFrame(rows)
    return printed if "note" not in printed else printed[[*printed.columns.drop("note"), "note"]]


def pretraining(study: Study) -> pd.DataFrame:
    """One row a complete pre-training run: held-out losses (nats), accuracy, tokens, parameters."""
    rows = []
    for name, spec in study.pretraining.items():
        metrics = read_json(study.run_directory("pretrain", name) / "metrics.json")
        rows.append(
            {
                "Run": name,
                "Model": spec.model or spec.init_from,
                "Vocabulary": spec.vocabulary,
                "Corpus": spec.corpus,
                "#Parameters": metrics["parameters"],
                "Tokens": metrics["tokens"],
                "Epochs": metrics["epochs"],
                "Masked-LM loss": metrics["heldout_mlm"],
                "Masked-LM loss, untrained": metrics["untrained"]["heldout_mlm"],
                "Masked-LM accuracy (%)": 100 * metrics["heldout_accuracy"],
                "Sentence-order loss": metrics["heldout_order"],
            }
        )
    return pd.DataFrame(rows)


def runs(study: Study, task: str, jobs: list[str] | None = None) -> pd.DataFrame:
    """One row a fine-tuning run of a task: its arm, seed, chosen hyper-parameters, and test scores in per cent.

    Args:
        task: "ner", "classification" or "qa".
        jobs: names of the jobs to read; None for all of the task.

    Returns:
        Columns: `ARM` without the factors that the task lacks, `fraction`, `model`, `vocabulary`, `seed`, the search
        point, the number of training items, the scores as the paper heads them (`Prec`, `Rec`, `F1`; `SAcc`, `LAcc`,
        `MRR`; `EM`), `Devel` (the score that chose the epoch, None where none was chosen) and `run`.

    Raises:
        InputError: a run is not complete.
    """
    rows = []
    for job in study.jobs(task):
        if jobs is not None and job.name not in jobs:
            continue
        spec = study.pretraining[job.encoder]
        factors = study.grids[job.grid].factors()
        for cell in study.cells(job):
            for seed in study.seeds_of(job.grid):
                metrics = read_json(study.run_directory("finetune", cell.run(seed)) / "metrics.json")
                scores = {head: 100 * metrics["test"][key] for key, head in HEADS.items() if key in metrics["test"]}
                rows.append(
                    {
                        **job.model_dump(),
                        **{factor: getattr(cell, factor) or "none" for factor in factors},
                        "fraction": cell.fraction,
                        "model": spec.model or spec.init_from,
                        "vocabulary": spec.vocabulary,
                        "seed": seed,
                        **metrics["point"],
                        **{key: metrics[key] for key in ("sentences", "examples", "questions") if key in metrics},
                        **scores,
                        "Devel": 100 * metrics["devel"][optimum(metrics["devel"])] if metrics["devel"] else None,
                        "run": cell.run(seed),
                    }
                )
    return pd.DataFrame(rows)


def optimum(figures: dict[str, float]) -> str:
    """Which figure of the development set chose the epoch."""
    return "optimum" if "optimum" in figures else "f1"


def arm_columns(frame: pd.DataFrame) -> list[str]:
    """The columns of `runs` that say which arm a row belongs to."""
    return [column for column in [*ARM, "fraction"] if column in frame]


def means(runs: pd.DataFrame, score: str = "F1") -> pd.DataFrame:
    """One row an arm: means over seeds on the test set, and the interval of one score. Takes what `runs` returns."""
    rows = []
    columns = [*arm_columns(runs), "model", "vocabulary"]
    sizes = [column for column in ("sentences", "examples", "questions") if column in runs]
    heads = [head for head in HEADS.values() if head in runs and runs[head].notna().any()]
    for key, arm in runs.groupby(columns, sort=False):
        interval = mean_interval(arm[score])
        rows.append(
            {
                **dict(zip(columns, key, strict=True)),
                **{column: int(arm[column].iloc[0]) for column in sizes},
                "num_fc_layers": int(arm["num_fc_layers"].iloc[0]),
                **{head: arm[head].mean() for head in heads},
                f"{score} low": interval.low,
                f"{score} high": interval.high,
                "seeds": interval.n,
            }
        )
    return pd.DataFrame(rows)


def main_score(runs: pd.DataFrame) -> str:
    """The score that a table of runs is about: the mean reciprocal rank where there is one, else F1."""
    return "MRR" if "MRR" in runs and runs["MRR"].notna().all() else "F1"


def plain(runs: pd.DataFrame) -> pd.DataFrame:
    """The runs without a remedy against imbalance."""
    return runs[runs["remedy"] == "none"]


def varied(runs: pd.DataFrame, factor: str) -> pd.DataFrame:
    """The runs whose setting was run with several values of a factor, which is what a figure of it compares; all runs
    if none was."""
    several = (
        runs.groupby([column for column in arm_columns(runs) if column != factor])[factor].transform("nunique") > 1
    )
    return runs[several] if several.any() else runs


def by_type(study: Study, task: str) -> pd.DataFrame:
    """Precision, recall and F1 of each type or category (per cent), means over seeds, of the arms without a remedy."""
    rows = []
    frame = plain(runs(study, task))
    columns = arm_columns(frame)
    for key, arm in frame.groupby(columns, sort=False):
        results = [read_json(study.run_directory("finetune", name) / "metrics.json")["test"] for name in arm["run"]]
        for kind in sorted({kind for result in results for kind in result.get("by_type", {})}):
            parts = [result["by_type"][kind] for result in results if kind in result["by_type"]]
            means_of = {HEADS[k]: 100 * sum(p[k] for p in parts) / len(parts) for k in ("precision", "recall", "f1")}
            gold = max(part["gold"] for part in parts)
            rows.append({**dict(zip(columns, key, strict=True)), "Type": kind, **means_of, "Gold": gold})
    return pd.DataFrame(rows)


def route_effects(runs: pd.DataFrame) -> pd.DataFrame:
    """`effects` of going on from another benchmark's run instead of training directly, for each such route."""
    routes = [route for route in runs["route"].unique() if route != DIRECT]
    frames = [effects(runs, "route", route, DIRECT, main_score(runs[runs["route"] == route])) for route in routes]
    return pd.concat(frames, ignore_index=True) if frames else effects(runs.iloc[:0], "route", DIRECT, DIRECT)


def effects(runs: pd.DataFrame, factor: str, first: str, second: str, score: str = "F1") -> pd.DataFrame:
    """What changing one factor does to a test score, all else and the seed equal: paired differences, in points.

    Args:
        runs: what `runs` returns.
        factor: a column of it, such as "start".
        first, second: two of its values; the difference is first minus second.

    Returns:
        One row for each setting of the other factors that has both: the setting, `Difference`, `low`, `high` (95 %,
        Student t over the pairs), `p`, `seeds`. No rows where no two runs differ in the factor alone.
    """
    keys = [column for column in arm_columns(runs) if column != factor]
    rows = []
    for setting, group in runs.groupby(keys, sort=False):
        pairs = group.pivot(index="seed", columns=factor, values=score)
        if {first, second} <= set(pairs.columns):
            difference = paired_difference(pairs[first], pairs[second])
            rows.append(
                {
                    **dict(zip(keys, setting, strict=True)),
                    "Factor": f"{factor}: {first} - {second}",
                    "Difference": difference.mean,
                    "low": difference.low,
                    "high": difference.high,
                    "p": difference.p_value,
                    "seeds": difference.n,
                }
            )
    frame = pd.DataFrame(rows, columns=[*keys, "Factor", "Difference", "low", "high", "p", "seeds"])
    return frame.astype({"low": float, "high": float, "p": float})  # one seed has no interval: None does not compare


def vocabulary_effects(study: Study, runs: pd.DataFrame, rates: pd.DataFrame) -> pd.DataFrame:
    """`effects` of exchanging the vocabulary: the first encoder minus each one that differs from it in nothing else.

    Args:
        rates: what `break_out` returns; both vocabularies' rates on the benchmark are put beside the difference.
    """
    first, *others = study.encoders_that_differ_in_vocabulary()
    frames = []
    for second in others:
        frame = effects(runs, "encoder", first, second)
        for column, encoder in (("Rate, first", first), ("Rate, second", second)):
            of_vocabulary = rates[rates["Sub-word vocabulary"] == study.pretraining[encoder].vocabulary]
            frame[column] = frame["benchmark"].map(of_vocabulary.set_index("Benchmark")["Rate"])
        frames.append(frame)
    return pd.concat(frames, ignore_index=True) if frames else effects(runs.iloc[:0], "encoder", first, first)


def summary(differences: pd.DataFrame, score: str = "F1") -> str:
    """One sentence about a table of `effects` on a score."""
    if differences.empty:
        return "nothing to compare."
    above, below = (differences["low"] > 0).sum(), (differences["high"] < 0).sum()
    least, most = differences["Difference"].min(), differences["Difference"].max()
    return (
        f"{least:+.1f} to {most:+.1f} points of test {score} over {len(differences)} settings; the 95 % interval lies "
        f"above zero in {above} of them and below in {below}."
    )


def without_constants(frame: pd.DataFrame) -> pd.DataFrame:
    """The table without the columns that have one value in all rows, for showing; numbers that were measured stay."""
    measured = {"Difference", "low", "high", "p", "seeds", *HEADS.values()}
    measured |= {f"{head} {bound}" for head in HEADS.values() for bound in ("low", "high")}
    return frame[[c for c in frame.columns if c in measured or c == "Factor" or frame[c].nunique() > 1]]


def provenance(directory: Path) -> dict[str, Any]:
    """The `environment.json` of a run as text values, for a page's footer."""
    environment = read_json(directory / "environment.json")
    packages = environment.pop("packages")
    return {key: str(value) for key, value in environment.items()} | {
        "packages": {k: str(v) for k, v in packages.items()}
    }
