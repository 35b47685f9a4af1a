"""Rules of the number audit for tables of fine-tuning runs: what each number of a row has to be.

A rule takes the ledger and a row of a table, and gives a value for each column that has a number (None where the cell
has to be empty); text that it gives has to be the same, too. What it cannot find is `Unexplained`.
"""

import re
from typing import Any

import numpy as np
import pandas as pd
from audit_ledger import FACTORS, HEADS, SIZES, Ledger, Unexplained, estimate, printed, read_json

from biomeg_lib.metrics.resampling import approximate_randomisation, bootstrap, micro_f1, paired_bootstrap
from biomeg_lib.report import published
from biomeg_lib.report.published import canonical_benchmark
from biomeg_lib.vocab import Vocabulary

Row = dict[str, Any]
_NUMBER = re.compile(r"(?<![\w.,-])(?<!Table )(?<!Tables )(?<!section )[+-]?\d+(?:,\d{3})*(?:\.\d+)?(?!\w|-\w|[.,]\d)")
_EFFECT = ("Difference", "low", "high", "p", "seeds")


def run(ledger: Ledger, row: Row) -> Row:
    """One fine-tuning run: everything is in its metrics.json."""
    found = ledger.run(row["run"])
    spec = ledger.study.pretraining[found["encoder"]]
    known = ["grid", "benchmark", "encoder", *FACTORS, "fraction", "seed", *SIZES, *HEADS, "Devel"]
    known += ["learning_rate", "num_fc_layers", "fc_hidden"]
    return {key: found[key] for key in known if key in row} | {
        "model": spec.model or spec.init_from,
        "vocabulary": spec.vocabulary,
    }


def means(ledger: Ledger, row: Row) -> Row:
    """An arm: means over its seeds, and the interval of one score."""
    arm = ledger.arm(row)
    expected: Row = {head: arm[head].mean() for head in HEADS if head in row}
    expected |= {size: arm[size].iloc[0] for size in SIZES if size in row}
    for head in HEADS:
        if f"{head} low" in row:
            found = estimate(arm[head])
            expected |= {f"{head} low": found["low"], f"{head} high": found["high"]}
    return expected | {"num_fc_layers": arm["num_fc_layers"].iloc[0], "seeds": len(arm), "fraction": row["fraction"]}


def categories(ledger: Ledger, row: Row) -> Row:
    """One type of entity or relation of an arm."""
    parts = [result[row["Type"]] for result in ledger.arm(row)["by_type"] if row["Type"] in result]
    if not parts:
        raise Unexplained(f"no run has the type {row['Type']!r}")
    scores = {head: 100 * float(np.mean([one[HEADS[head]] for one in parts])) for head in ("Prec", "Rec", "F1")}
    kept = {key: row[key] for key in ("fraction", "Type")}
    return scores | kept | {"Gold": max(one["gold"] for one in parts)}


def _effect(first: pd.Series, second: pd.Series, seeds: str = "both") -> Row:
    """A difference paired by seed; the seeds of both arms have to be the same, or those that both have count."""
    if seeds == "same" and set(first.index) != set(second.index):
        raise Unexplained("its two arms have different seeds")
    shared = first.index.intersection(second.index)
    found = estimate((first.loc[shared] - second.loc[shared]).tolist())
    return dict(zip(_EFFECT, (found[key] for key in ("mean", "low", "high", "p", "n")), strict=True))


def factor(ledger: Ledger, row: Row) -> Row:
    """The effect of one factor, which the column `Factor` names: "start: pretrained - random"."""
    name, _, values = row["Factor"].partition(": ")
    first, second = (ledger.arm(row, **{name: value}) for value in values.split(" - "))
    both = pd.concat([first, second])
    score = "MRR" if name == "route" and both["MRR"].notna().all() else "F1"
    expected = _effect(first[score], second[score], "same")
    if "Rate, first" in row:
        for column, value in zip(("Rate, first", "Rate, second"), values.split(" - "), strict=True):
            vocabulary = ledger.study.pretraining[value].vocabulary
            expected[column] = break_out(ledger, vocabulary, row["benchmark"])[2]
    return expected | {"fraction": row["fraction"]}


def break_out(ledger: Ledger, vocabulary: str, benchmark: str) -> tuple[int, int, float]:
    """Pieces and words inside the entities of a training set, and their ratio; pieces are the tokeniser's."""
    pieces = Vocabulary.load(ledger.study.vocabulary_directory(vocabulary))
    inside = [[word for word, tag in sentence if tag != "O"] for sentence in ledger.words[benchmark, "train"]]
    tokens, words = sum(len(pieces.encode_words(one).ids) for one in inside), sum(map(len, inside))
    return tokens, words, tokens / words if words else 0.0


def batch(ledger: Ledger, row: Row) -> Row:
    """The largest batch against the smallest. A row does not say its grids; of the groups of runs that it can be, one
    has to be right."""
    frame = ledger.runs[ledger.runs["task"] == "qa"]
    for key in ("benchmark", "encoder", "start", "route"):
        frame = frame[frame[key] == row[key]]
    found = []
    for _, group in frame.groupby(["fraction", "conditions"]):
        sides = [group[group["batch"] == size] for size in (group["batch"].max(), group["batch"].min())]
        if (sides[0]["batch"].iloc[0], sides[1]["batch"].iloc[0]) == (row["batch"], row["smaller batch"]):
            found.append(_effect(*(side.groupby("seed")["MRR"].mean() for side in sides)))
    if not found:
        raise Unexplained("no two runs differ in their batch alone")
    nearest = min(found, key=lambda one: abs(one["Difference"] - row["Difference"]))
    return nearest | {"batch": row["batch"], "smaller batch": row["smaller batch"]}


def _in_words(frame: pd.DataFrame, setting: str) -> pd.DataFrame:
    """The runs of a setting such as "full and sizes, labels by piece": grids, then factors in words."""
    grids, *words = setting.split(", ")
    frame = frame[frame["grid"].isin(grids.split(" and "))]
    for word in words:
        if word.startswith("labels by "):
            frame = frame[frame["labelling"] == word.removeprefix("labels by ")]
        elif word == "direct" or word.startswith("after "):
            frame = frame[frame["route"] == word.removeprefix("after ")]
        else:
            frame = frame[frame["marking"] == word]
    return frame


def size(ledger: Ledger, row: Row) -> Row:
    """A larger encoder minus a smaller one; of runs that two grids have, those of the first count."""
    frame = ledger.runs[(ledger.runs["start"] == "pretrained") & ledger.runs["remedy"].isin(["none", np.nan])]
    frame = frame[(frame["benchmark"] == row["benchmark"]) & (frame["fraction"] == row["fraction"])]
    frame = _in_words(frame, row["setting"]).drop_duplicates(["encoder", "seed"])
    arms = [frame[frame["encoder"] == row[side]].set_index("seed") for side in ("larger", "smaller")]
    if len({arm["conditions"].iloc[0] for arm in arms if len(arm)}) != 1 or any(arm.empty for arm in arms):
        raise Unexplained(f"{row['larger']} and {row['smaller']} were not fine-tuned alike")
    if not ledger.pretrained(row["larger"])["parameters"] > ledger.pretrained(row["smaller"])["parameters"]:
        raise Unexplained(f"{row['larger']} is not larger than {row['smaller']}")
    return _effect(arms[0][row["measure"]], arms[1][row["measure"]]) | {"fraction": row["fraction"]}


def model(ledger: Ledger, row: Row) -> Row:
    """Tables 1, 2, 4, 6 and 7: the paper's number at the row that is cited, and the mean of the runs that are named."""
    cited = printed(row["source"])
    if cited is None:
        raise Unexplained("a row of the paper without its source")
    number = int(row["source"].split(",")[0].removeprefix("Table "))
    expected: Row = {key: cited[key] for key in published.TABLES[number].keys}
    expected |= {"published": cited[row["measure"]]}
    if pd.isna(row["encoder"]):
        return expected | dict.fromkeys(("fraction", "value", "low", "high", "seeds", "runs"))
    arm = pd.DataFrame([ledger.run(name) for name in str(row["runs"]).split()])
    name = published.models(number)[cited.name]
    if name not in ledger.study.pretraining[row["encoder"]].stands_for:
        raise Unexplained(f"{row['encoder']} does not stand for {name}")
    theirs = row["measure"] if number == 7 else cited.get("Benchmark", "BioASQ-7b-factoid")
    ours = ledger.study.benchmarks[row["benchmark"]].stands_for
    if ours is None or canonical_benchmark(ours) != canonical_benchmark(theirs):
        raise Unexplained(f"{row['benchmark']} does not stand for {theirs}")
    for key in ("encoder", "benchmark", "fraction"):
        expected[key] = _one(arm, key)
    if len(_in_words(arm, row["setting"])) != len(arm) or _one(arm, "start") != "pretrained":
        raise Unexplained("its runs are not of the setting")
    scores = arm["F1" if number == 7 else row["measure"]]
    if scores.isna().all():
        return expected | dict.fromkeys(("value", "low", "high", "seeds"))
    found = estimate(scores)
    return expected | {"value": found["mean"], "low": found["low"], "high": found["high"], "seeds": found["n"]}


def _one(arm: pd.DataFrame, key: str) -> Any:
    if arm[key].nunique() != 1:
        raise Unexplained(f"its runs differ in {key}: {', '.join(map(str, arm[key].unique()))}")
    return arm[key].iloc[0]


def table5(ledger: Ledger, row: Row) -> Row:
    """A number of steps: the runs that are named; or a row of the paper."""
    cited = printed(row["source"])
    if cited is not None:
        empty = dict.fromkeys(("F1", "F1 low", "F1 high", "seeds", "runs"))
        keys = {key: cited[key] for key in ("Task", "Benchmark", "Fine-tuning steps")}
        return {**keys, "published": cited["F1"], "fraction": 1.0, **empty}
    arm = pd.DataFrame([ledger.run(name) for name in str(row["runs"]).split()])
    found = estimate(arm["F1"])
    random = _one(arm, "start") == "random"
    steps = {ledger.steps_of(name) for name in arm["encoder"]}
    if not random and len(steps) != 1:
        raise Unexplained(f"its encoders have different numbers of steps: {sorted(steps)}")
    return {
        "Benchmark": _one(arm, "benchmark"),
        "fraction": _one(arm, "fraction"),
        "Fine-tuning steps": None if random else steps.pop(),
        "start": _one(arm, "start"),
        "F1": found["mean"],
        "F1 low": found["low"],
        "F1 high": found["high"],
        "seeds": found["n"],
        "published": None,
    }


def transfer_run(ledger: Ledger, row: Row) -> Row:
    """One run of a series."""
    found = ledger.run(row["run"])
    random = found["start"] == "random"
    known = {key: found[key] for key in ("fraction", "start", "seed", "F1")}
    steps = None if random else ledger.steps_of(found["encoder"])
    return known | {"Benchmark": found["benchmark"], "Steps": steps}


def transfer_effect(ledger: Ledger, row: Row) -> Row:
    """Two numbers of steps of a series, whose runs transfer_runs.csv names; their scores are those of the runs."""
    frame = ledger.table("transfer_runs")
    for key in ("Task", "Benchmark", "fraction", "Checkpoint", "vocabulary"):
        frame = frame[frame[key] == row[key]]
    sides = []
    for side in (row["First"], row["Second"]):
        if side == "random weights":
            names = frame.loc[frame["start"] == "random", "run"]
        else:
            steps = 0 if side == "as it is" else int(side.removesuffix(" steps").replace(",", ""))
            names = frame.loc[(frame["start"] != "random") & (frame["Steps"] == steps), "run"]
        found = [ledger.run(name) for name in names]
        sides.append(pd.Series({one["seed"]: one["F1"] for one in found}, dtype=float))
    return _effect(*sides) | {key: row[key] for key in ("fraction", "First", "Second")}


def _items(ledger: Ledger, arm: pd.DataFrame) -> np.ndarray:
    folders = [ledger.study.run_directory("finetune", name) for name in arm["run"]]
    return np.stack(
        [
            pd.read_csv(folder / "items.csv")[["true_positive", "predicted", "gold"]].to_numpy(dtype=np.float64)
            for folder in folders
        ]
    )


def item_interval(ledger: Ledger, row: Row) -> Row:
    """An interval over test items, drawn again by the library's bootstrap with the seed that the row records."""
    arm = ledger.arm(row)
    items = _items(ledger, arm)
    drawn = bootstrap(items, micro_f1, int(row["resamples"]), int(row["resampling seed"]))
    return {
        "F1": arm["F1"].mean(),  # the runs' own score, so that their items have to add up to it
        "F1 low": None if drawn.low is None else 100 * drawn.low,
        "F1 high": None if drawn.high is None else 100 * drawn.high,
        **_drawn(row, items),
    }


def remedy(ledger: Ledger, row: Row) -> Row:
    """A remedy against none: t interval from metrics.json, the rest drawn again by the library from items.csv."""
    ours, plain = ledger.arm(row), ledger.arm(row, remedy="none")
    expected = _effect(ours["F1"], plain["F1"], "same")
    items = _items(ledger, ours), _items(ledger, plain)
    how = int(row["resamples"]), int(row["resampling seed"])
    drawn, randomised = paired_bootstrap(*items, micro_f1, *how), approximate_randomisation(*items, micro_f1, *how)
    return {
        **expected,
        **{head: ours[head].mean() for head in ("Prec", "Rec", "F1")},
        **{f"{head}, none": plain[head].mean() for head in ("Prec", "Rec", "F1")},
        "bootstrap low": None if drawn.low is None else 100 * drawn.low,
        "bootstrap high": None if drawn.high is None else 100 * drawn.high,
        "bootstrap p": drawn.p_value,
        "randomisation p": randomised.p_value,
        **_drawn(row, items[0]),
    }


def _drawn(row: Row, items: np.ndarray) -> Row:
    kept = {key: row[key] for key in ("fraction", "resamples", "resampling seed")}
    return kept | {"seeds": items.shape[0], "items": items.shape[1]}


def budget(ledger: Ledger, row: Row) -> Row:
    """scaling_f1: a run, and the tokens that its encoder was to read."""
    found = ledger.run(row["run"])
    folder = ledger.study.run_directory("pretrain", found["encoder"])
    tokens = 0 if found["start"] == "random" else read_json(folder / "params.json")["pretraining"]["tokens"]
    known = {"Tokens": tokens, "F1": found["F1"], "seed": found["seed"], "encoder": found["encoder"]}
    title = "Benchmark and training sentences"
    share = "all" if found["fraction"] == 1 else f"{found['fraction']:.0%}"
    if not row[title].startswith(f"{found['benchmark']}, {share}, "):
        raise Unexplained(f"{row[title]!r} is not what {row['run']} was trained on")
    return known | {title: row[title]}


def numbers_of_note(text: str) -> list[str]:
    """Free-standing numbers of a text; those in names ("345m", "BC5CDR", "bio-1k", "Table 3") are none."""
    return _NUMBER.findall(text)
