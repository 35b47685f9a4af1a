"""The study's tables: tidy frames from counted files and from the `metrics.json` of runs; nothing is computed twice.

One row is one measurement. Scores are in per cent, as in the paper; a mean over seeds has a 95 % Student t interval.
"""

import json
from pathlib import Path
from typing import Any

import pandas as pd

from biomeg_lib.corpus.documents import COUNTS
from biomeg_lib.errors import InputError
from biomeg_lib.files import read_json, write_if_changed
from biomeg_lib.inputs import benchmark_files
from biomeg_lib.metrics.statistics import mean_interval, paired_difference
from biomeg_lib.report import published
from biomeg_lib.study import Study
from biomeg_lib.tasks.iob import Sentence, entity_spans, read_iob
from biomeg_lib.vocab import Vocabulary, break_out_rate

ARM = ["grid", "benchmark", "encoder", "start", "labelling"]


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
            }
        )
    return pd.DataFrame(rows)


def benchmarks(study: Study) -> pd.DataFrame:
    """Sentences, words, entities and share of words inside entities, of each split of each benchmark."""
    rows = []
    for name, benchmark in study.benchmarks.items():
        for split, path in benchmark_files(study, benchmark).items():
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
    `#tokens`, `#words`, `Rate`, `published`.
    """
    printed = {
        (row["Sub-word vocabulary"], row["measure"]): row["published"]
        for _, row in published.measurements(3).iterrows()
    }
    sentences: dict[str, list[Sentence]] = {
        name: read_iob(benchmark_files(study, benchmark)["train"], benchmark.format)
        for name, benchmark in study.benchmarks.items()
    }
    rows = []
    for name, spec in study.vocabularies.items():
        vocabulary = Vocabulary.load(study.vocabulary_directory(name))
        for benchmark, training in sentences.items():
            column = study.benchmarks[benchmark].stands_for
            measured = break_out_rate(vocabulary, training)
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
                    "published": printed.get((spec.stands_for, column)),
                }
            )
    return pd.DataFrame(rows)


def break_out_as_printed(frame: pd.DataFrame) -> pd.DataFrame:
    """What `break_out` returns in the paper's form: a row for each vocabulary, a column for each benchmark, and beside
    it the published number where the paper has one."""
    rows = []
    for name, group in frame.groupby("Sub-word vocabulary", sort=False):
        row = {"Sub-word vocabulary": name, "Stands for": group["Stands for"].iloc[0], "Size": group["Size"].iloc[0]}
        for entry in group.itertuples(index=False):
            row[entry.Benchmark] = entry.Rate
            if frame.loc[frame["Benchmark"] == entry.Benchmark, "published"].notna().any():
                row[f"{entry.Benchmark}, published"] = entry.published
        rows.append(row)
    return pd.DataFrame(rows)


def pretraining(study: Study) -> pd.DataFrame:
    """One row a complete pre-training run: held-out losses (nats), accuracy, tokens, parameters."""
    rows = []
    for name, spec in study.pretraining.items():
        metrics = read_json(study.run_directory("pretrain", name) / "metrics.json")
        rows.append(
            {
                "Run": name,
                "Model": spec.model,
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


def ner_runs(study: Study, jobs: list[str] | None = None) -> pd.DataFrame:
    """One row a fine-tuning run: its arm, seed, chosen hyper-parameters, and scores in per cent.

    Args:
        jobs: names of the jobs to read; None for all of the study.

    Raises:
        InputError: a run is not complete.
    """
    rows = []
    for job in study.jobs():
        if jobs is not None and job.name not in jobs:
            continue
        for name in study.runs(job):
            metrics = read_json(study.run_directory("finetune", name) / "metrics.json")
            spec = study.pretraining[job.encoder]
            rows.append(
                {
                    **metrics["cell"],
                    "model": spec.model,
                    "vocabulary": spec.vocabulary,
                    "seed": metrics["seed"],
                    **metrics["point"],
                    "sentences": metrics["sentences"],
                    "Prec": 100 * metrics["test"]["precision"],
                    "Rec": 100 * metrics["test"]["recall"],
                    "F1": 100 * metrics["test"]["f1"],
                    "Devel F1": 100 * metrics["devel"]["f1"],
                    "run": name,
                }
            )
    return pd.DataFrame(rows)


def ner(runs: pd.DataFrame) -> pd.DataFrame:
    """One row an arm: means over seeds on the test set, and the interval of F1. Takes what `ner_runs` returns."""
    rows = []
    for key, arm in runs.groupby([*ARM, "fraction", "model", "vocabulary"], sort=False):
        interval = mean_interval(arm["F1"])
        rows.append(
            {
                **dict(zip([*ARM, "fraction", "model", "vocabulary"], key, strict=True)),
                "sentences": int(arm["sentences"].iloc[0]),
                "num_fc_layers": int(arm["num_fc_layers"].iloc[0]),
                "Prec": arm["Prec"].mean(),
                "Rec": arm["Rec"].mean(),
                "F1": interval.mean,
                "F1 low": interval.low,
                "F1 high": interval.high,
                "seeds": interval.n,
            }
        )
    return pd.DataFrame(rows)


def effects(runs: pd.DataFrame, factor: str, first: str, second: str) -> pd.DataFrame:
    """What changing one factor does to test F1, all else and the seed equal: paired differences, in points.

    Args:
        runs: what `ner_runs` returns.
        factor: a column of it, such as "start".
        first, second: two of its values; the difference is first minus second.

    Returns:
        One row for each setting of the other factors that has both: the setting, `Difference`, `low`, `high` (95 %,
        Student t over the pairs), `p`, `seeds`. No rows where no two runs differ in the factor alone.
    """
    keys = [column for column in [*ARM, "fraction"] if column != factor]
    rows = []
    for setting, group in runs.groupby(keys, sort=False):
        pairs = group.pivot(index="seed", columns=factor, values="F1")
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


def summary(differences: pd.DataFrame) -> str:
    """One sentence about a table of `effects`."""
    if differences.empty:
        return "nothing to compare."
    above, below = (differences["low"] > 0).sum(), (differences["high"] < 0).sum()
    least, most = differences["Difference"].min(), differences["Difference"].max()
    return (
        f"{least:+.1f} to {most:+.1f} points of test F1 over {len(differences)} settings; the 95 % interval lies above "
        f"zero in {above} of them and below in {below}."
    )


def without_constants(frame: pd.DataFrame) -> pd.DataFrame:
    """The table without the columns that have one value in all rows, for showing; numbers that were measured stay."""
    measured = {"Difference", "low", "high", "p", "seeds", "Prec", "Rec", "F1", "F1 low", "F1 high"}
    return frame[[c for c in frame.columns if c in measured or c == "Factor" or frame[c].nunique() > 1]]


def provenance(directory: Path) -> dict[str, Any]:
    """The `environment.json` of a run as text values, for a page's footer."""
    environment = json.loads((directory / "environment.json").read_text(encoding="utf-8"))
    packages = environment.pop("packages")
    return {key: str(value) for key, value in environment.items()} | {
        "packages": {k: str(v) for k, v in packages.items()}
    }
