"""What tokens, size and compute buy: curves of the pre-training runs, and scores after them (paper, section 5.5).

What is notable: the paper has end points ("about one epoch, a loss of about 1.2"); here each run has its whole curve,
and encoders that differ in their budget alone say what F1 does on the way. Compute is counted, not timed: the matrix
products that the loss needs (`model.flops`), of fixed windows with 15 % of the tokens masked.
"""

from typing import Any

import pandas as pd

from biomeg_lib.checkpoints.weights import load_shape
from biomeg_lib.files import read_json
from biomeg_lib.model import ModelConfig, config_for, count_parameters
from biomeg_lib.model.flops import useful_flops
from biomeg_lib.report import tables
from biomeg_lib.study import Study
from biomeg_lib.training.rundir import read_log

MASKED = 0.15
# Section 3 and Table 9: 4.5 and 1.6 billion words, about one epoch; and what a word is in pieces is not said, so words.
PAPER_WORDS = 6_100_000_000
PAPER_MODELS = ("345m", "800m", "1.2b")


def flops_a_token(config: ModelConfig, batch: int, length: int) -> float:
    """Operations a token of a step of `batch` windows of `length` tokens."""
    tokens = batch * length
    return useful_flops(config, batch, length, round(MASKED * tokens)) / tokens


def runs(study: Study) -> pd.DataFrame:
    """One row a pre-training run with steps: parameters, tokens, operations (1e12), seconds, tokens and GFLOP (1e9)
    a second, and the held-out masked-LM loss (nats) after them. A run that goes on from another counts what it
    adds.
    """
    rows = []
    for name, spec in study.pretraining.items():
        if not spec.steps:
            continue
        folder = study.run_directory("pretrain", name)
        metrics = read_json(folder / "metrics.json")
        operations = metrics["tokens"] * flops_a_token(load_shape(folder), spec.batch, spec.length)
        seconds = metrics["seconds"]
        rows.append(
            {
                "Run": name,
                "Start": spec.init_from or "random weights",
                "Vocabulary": spec.vocabulary,
                "#Parameters": metrics["parameters"],
                "Tokens": metrics["tokens"],
                "TFLOP": operations / 1e12,
                "Seconds": seconds,
                "Tokens/s": metrics["tokens"] / seconds,
                "GFLOP/s": operations / seconds / 1e9,
                "Masked-LM loss": metrics["heldout_mlm"],
            }
        )
    return pd.DataFrame(rows)


def curves(study: Study) -> pd.DataFrame:
    """Held-out masked-LM loss over tokens of every run from scratch: `Run`, `Vocabulary`, `Tokens`, `TFLOP`, `Loss`."""
    rows = []
    for name, spec in study.pretraining.items():
        if spec.init_from is not None:
            continue
        folder = study.run_directory("pretrain", name)
        each = flops_a_token(load_shape(folder), spec.batch, spec.length)
        for record in read_log(folder):
            if "eval_heldout_mlm" in record:
                tokens = record["tokens"]
                rows.append((name, spec.vocabulary, tokens, tokens * each / 1e12, record["eval_heldout_mlm"]))
    return pd.DataFrame(rows, columns=["Run", "Vocabulary", "Tokens", "TFLOP", "Loss"])


def downstream(study: Study) -> pd.DataFrame:
    """Test F1 of encoders from scratch that differ in their budget alone, and from random weights: one row a
    fine-tuning run of a setting that has at least three budgets, none among them.

    Columns: `Benchmark and training sentences`, `Tokens` (of pre-training), `F1`, `seed`, `encoder`, `run`.
    """
    groups = _budgets(study)
    if not groups:
        return pd.DataFrame()
    frame = tables.runs(study, "ner")
    frame = frame[frame["encoder"].isin(groups) & (frame["remedy"] == "none")]
    if frame.empty:
        return frame
    frame = frame[frame["labelling"] == frame.groupby("grid")["labelling"].transform("first")].copy()
    frame["family"] = frame["encoder"].map(groups)
    frame["Tokens"] = [
        0 if start == "random" else study.pretraining[name].tokens
        for name, start in zip(frame["encoder"], frame["start"], strict=True)
    ]
    frame["conditions"] = [study.grids[name].conditions() for name in frame["grid"]]
    settings = ["benchmark", "fraction", "family", "conditions"]
    frame = frame[frame.groupby(settings)["Tokens"].transform("nunique") >= 3]
    share = frame["fraction"].map(lambda fraction: "all" if fraction == 1 else f"{fraction:.0%}")
    name = frame["benchmark"] + ", " + share + ", " + frame["family"]
    frame = frame.assign(**{"Benchmark and training sentences": name})
    return frame[["Benchmark and training sentences", "Tokens", "F1", "seed", "encoder", "run"]]


def _budgets(study: Study) -> dict[str, str]:
    """Encoders from scratch that have all but the budget in common with another -> the name of the largest of them."""
    known: dict[str, list[str]] = {}
    for name, spec in study.pretraining.items():
        if spec.init_from is None:
            rest = spec.model_dump_json(exclude={"tokens", "evaluations", "stands_for", "parallel"})
            known.setdefault(rest, []).append(name)
    groups = {}
    for names in known.values():
        largest = max(names, key=lambda name: study.pretraining[name].tokens)
        if len(names) > 1:
            groups |= dict.fromkeys(names, largest)
    return groups


def beside_the_paper(study: Study) -> pd.DataFrame:
    """The largest run from scratch of this profile and the paper's three sizes: parameters, tokens (the paper: words),
    operations, and how many times as many. An estimate, as the paper does not say how many tokens it trained on.
    """
    frame = runs(study)
    scratch = frame[frame["Start"] == "random weights"]
    if scratch.empty:
        return pd.DataFrame()
    largest = scratch.loc[scratch["TFLOP"].idxmax()]
    rows: list[dict[str, Any]] = [
        {
            "Model": largest["Run"],
            "#Parameters": int(largest["#Parameters"]),
            "Tokens": int(largest["Tokens"]),
            "EFLOP": largest["TFLOP"] / 1e6,
            "times": 1.0,
        }
    ]
    for name in PAPER_MODELS:
        config = config_for(name, 29_056)
        operations = PAPER_WORDS * flops_a_token(config, 64, 512)
        rows.append(
            {
                "Model": f"BioMegatron-{name} (paper)",
                "#Parameters": count_parameters(config),
                "Tokens": PAPER_WORDS,
                "EFLOP": operations / 1e18,
                "times": operations / 1e12 / largest["TFLOP"],
            }
        )
    return pd.DataFrame(rows)
