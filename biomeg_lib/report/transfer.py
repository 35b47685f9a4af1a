"""Domain transfer: encoders that start from a checkpoint, as it is and after steps on domain text (paper, Table 5).

A series is all runs with the same start, vocabulary and corpus; its steps go from 0, the checkpoint itself. Beside it
stands the same shape from random weights, which says what pre-training is worth at all.
"""

from typing import Any

import pandas as pd

from biomeg_lib.files import read_json
from biomeg_lib.metrics.statistics import mean_interval, paired_difference
from biomeg_lib.report import published, tables
from biomeg_lib.study import Study

RANDOM = "random weights"
NO_SERIES = "no series of this profile is fine-tuned on a benchmark that stands for it"
_TASKS = {"ner": "NER", "classification": "RE"}
_SETTING = ["Task", "Benchmark", "fraction", "Checkpoint", "vocabulary"]
_ENCODER = ["encoder", "Checkpoint", "Format", "vocabulary", "corpus", "Steps", "Tokens", "Masked-LM loss"]
_RUN = [*_SETTING, "start", "Steps", "seed", "F1", "run"]
_TABLE_5 = [*_SETTING, "Fine-tuning steps", "start", "F1", "F1 low", "F1 high", "seeds"]
_TABLE_5 += ["published", "source", "runs", "note"]


def encoders(study: Study) -> pd.DataFrame:
    """One row an encoder that starts from a checkpoint or a run, or is such a run.

    Columns: `encoder`, `Checkpoint`, `Format` (what the checkpoint was read from), `vocabulary`, `corpus`, `Steps`,
    `Tokens`, `Masked-LM loss` (held out, nats).
    """
    rows = []
    for name in study.encoders_of_series():
        spec = study.pretraining[name]
        metrics = read_json(study.run_directory("pretrain", name) / "metrics.json")
        as_it_is = spec.init_from is None
        rows.append(
            {
                "encoder": name,
                "Checkpoint": spec.init_from or name,
                "Format": metrics.get("start", {}).get("origin", ""),
                "vocabulary": spec.vocabulary,
                "corpus": spec.corpus,
                "Steps": 0 if as_it_is else spec.steps,
                "Tokens": 0 if as_it_is else metrics["tokens"],
                "Masked-LM loss": metrics["heldout_mlm"],
            }
        )
    return pd.DataFrame(rows, columns=_ENCODER)


def runs(study: Study) -> pd.DataFrame:
    """One row a fine-tuning run of these encoders: `Task`, `Benchmark`, `fraction`, `Checkpoint`, `vocabulary`,
    `start`, `Steps` (missing for random weights), `seed`, `F1` (per cent), and what it was trained on. No rows where
    the profile has no such encoders.

    Arms with a remedy against imbalance are left out, and so are labellings and markings but the first of each grid.
    """
    known = encoders(study).set_index("encoder")
    frames = []
    for task, title in _TASKS.items():
        jobs = [job.name for job in study.jobs(task) if job.encoder in known.index]
        if not jobs:
            continue
        frame = tables.plain(tables.runs(study, task, jobs))
        for factor in ("labelling", "marking"):
            if factor in frame:
                frame = frame[frame[factor] == frame.groupby("grid")[factor].transform("first")]
        frame = frame.assign(Task=title, Benchmark=frame["benchmark"])
        for column in ("Checkpoint", "Steps"):
            frame[column] = frame["encoder"].map(known[column])
        frame.loc[frame["start"] == "random", "Steps"] = None
        # the same shape and seed from random weights, once, though several encoders of a series may have it
        frame = frame.drop_duplicates([*_SETTING, "start", "Steps", "seed"])
        frames.append(frame[_RUN])
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=_RUN)


def table5(study: Study, frame: pd.DataFrame) -> pd.DataFrame:
    """Table 5: mean test F1 (per cent) for each number of steps, with its 95 % Student t interval over seeds.

    Args:
        frame: what `runs` returns.

    Returns:
        The rows of the study, with the names of the runs behind each, and after them all of the paper's own, which have
        `published`, `source` and no `F1`; where no series here is of their benchmark, a `note` says why.
    """
    rows: list[dict[str, Any]] = []
    for key, arm in frame.groupby([*_SETTING, "start", "Steps"], sort=False, dropna=False):
        *setting, start, steps = key
        interval = mean_interval(arm["F1"])
        rows.append(
            {
                **dict(zip(_SETTING, setting, strict=True)),
                "Fine-tuning steps": None if start == "random" else int(steps),
                "start": start,
                "F1": interval.mean,
                "F1 low": interval.low,
                "F1 high": interval.high,
                "seeds": interval.n,
                "runs": " ".join(arm["run"]),
                "note": "",
            }
        )
    stood_for = {
        published.canonical_benchmark(study.benchmarks[name].stands_for or "") for name in frame["Benchmark"].unique()
    }
    for row in published.measurements(5).to_dict("records"):
        missing = row["Benchmark"] not in stood_for
        rows.append(
            {
                **{key: row[key] for key in ("Task", "Benchmark", "Fine-tuning steps", "published", "source")},
                "fraction": 1.0,
                "Checkpoint": "Megatron-1.2b (paper)",
                "start": "pretrained",
                "note": published.reason(study.not_run, row["Benchmark"], NO_SERIES) if missing else "",
            }
        )
    return pd.DataFrame(rows, columns=_TABLE_5).astype({"seeds": "Int64", "published": float})


def as_shown(frame: pd.DataFrame) -> pd.DataFrame:
    """What `table5` returns, narrow enough for a page: steps and intervals as text."""
    rows = []
    for row in frame.to_dict("records"):
        f1 = "" if pd.isna(row["F1"]) else f"{row['F1']:.1f}"
        interval = "" if pd.isna(row["F1 low"]) else f" ({row['F1 low']:.1f} to {row['F1 high']:.1f})"
        rows.append(
            {
                "Benchmark": row["Benchmark"],
                "Sentences": _share(row["fraction"]),
                "Checkpoint": row["Checkpoint"],
                "Steps": RANDOM if row["start"] == "random" else f"{int(row['Fine-tuning steps']):,}",
                "F1 (95 % interval)": f1 + interval,
                "published": row["published"],
                "seeds": row["seeds"],
                "Vocabulary": row["vocabulary"],
            }
        )
    shown = pd.DataFrame(rows)
    return shown if shown["Vocabulary"].nunique() > 1 else shown.drop(columns="Vocabulary")


def notes(frame: pd.DataFrame) -> str:
    """What `table5` returns has notes about, a Markdown item for each benchmark; "" for none."""
    noted = frame[frame["note"] != ""].drop_duplicates("Benchmark")
    return "\n".join(f"- {row['Benchmark']}: {row['note']}." for row in noted.to_dict("records"))


def effects(frame: pd.DataFrame) -> pd.DataFrame:
    """Paired differences of test F1 over seeds, in points: the checkpoint against random weights, and further steps
    against none.

    Args:
        frame: what `runs` returns.

    Returns:
        One row a comparison: the setting, `First`, `Second`, `Difference` (first minus second), `low`, `high` (95 %,
        Student t over the pairs), `p`, `seeds`.
    """
    rows = []
    for setting, group in frame.groupby(_SETTING, sort=False):
        arms = {steps: arm.set_index("seed")["F1"] for steps, arm in group[group["start"] != "random"].groupby("Steps")}
        random = group[group["start"] == "random"].set_index("seed")["F1"]
        as_it_is = arms.get(0)
        pairs = [(_steps(0), as_it_is, RANDOM, random)] if as_it_is is not None and len(random) else []
        if as_it_is is not None:
            pairs += [(_steps(steps), arm, _steps(0), as_it_is) for steps, arm in arms.items() if steps]
        for first, ours, second, theirs in pairs:
            seeds = sorted(set(ours.index) & set(theirs.index))
            difference = paired_difference(ours.loc[seeds].tolist(), theirs.loc[seeds].tolist())
            rows.append(
                {
                    **dict(zip(_SETTING, setting, strict=True)),
                    "First": first,
                    "Second": second,
                    "Difference": difference.mean,
                    "low": difference.low,
                    "high": difference.high,
                    "p": difference.p_value,
                    "seeds": difference.n,
                }
            )
    columns = [*_SETTING, "First", "Second", "Difference", "low", "high", "p", "seeds"]
    return pd.DataFrame(rows, columns=columns).astype({"low": float, "high": float, "p": float})


def parts(effects: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """What `effects` returns, in the two kinds of comparison, each with a title."""
    against_random = effects["Second"] == RANDOM
    return [
        ("The checkpoint against random weights", effects[against_random]),
        ("Further steps against none", effects[~against_random]),
    ]


def named_series(frame: pd.DataFrame) -> pd.DataFrame:
    """What `runs` returns, with the column `Benchmark and training sentences` that tells the series apart."""
    names = frame["Benchmark"] + ", " + frame["fraction"].map(_share)
    for column in ("Checkpoint", "vocabulary"):
        if frame[column].nunique() > 1:
            names += ", " + frame[column]
    return frame.assign(**{"Benchmark and training sentences": names})


def random_references(series: pd.DataFrame) -> dict[str, float]:
    """Mean F1 of the same shape from random weights, by the name of the series. Takes what `named_series` returns."""
    random = series[series["start"] == "random"]
    return random.groupby("Benchmark and training sentences")["F1"].mean().to_dict()


def _share(fraction: float) -> str:
    return "all" if fraction == 1 else f"{fraction:.0%}"


def _steps(count: float) -> str:
    return "as it is" if not count else f"{int(count):,} steps"
