"""Which runs of a profile a claim compares: found by what they are, not by their names.

What is notable: two runs are a pair if all that decides them is the same but the factor compared: benchmark, share of
the training set, start, labelling, marking, route, remedy, seed, and the recipe of their grids (epochs, batch, search).
Grids of other names but one recipe therefore meet, and grids of one name but two recipes never do.
"""

import itertools
from collections.abc import Iterable, Sequence
from typing import Any

import pandas as pd

from biomeg_lib.grids import FACTORS
from biomeg_lib.metrics.statistics import paired_difference
from biomeg_lib.report import tables
from biomeg_lib.report.published import canonical_benchmark
from biomeg_lib.schema import SentencePieceModel
from biomeg_lib.study import Study

Strata = list[list[float]]


def all_runs(study: Study, task: str) -> pd.DataFrame:
    """What `tables.runs` returns, with `conditions`: the recipe of the grid as text, and `batch` beside it."""
    frame = tables.runs(study, task)
    if frame.empty:
        return frame
    grids = frame["grid"].map(study.grids)
    return frame.assign(conditions=[grid.conditions("batch") for grid in grids], batch=[grid.batch for grid in grids])


def strata(runs: pd.DataFrame, factor: str, first: Any, second: Any, score: str, ignored: Sequence[str] = ()) -> Strata:
    """Differences of `score`, first minus second value of `factor`, paired by seed: a list for each setting.

    Args:
        runs: what `all_runs` returns, or rows of it.
        ignored: what may differ, too ("conditions", for models that need recipes of their own).

    Returns:
        The settings that have both, in the order of the rows. Of a pair that several grids have, the first counts.
    """
    if runs.empty:
        return []
    columns = ["benchmark", *(name for name in FACTORS if name in runs), "encoder", "fraction", "conditions", "batch"]
    keys = [column for column in columns if column != factor and column not in ignored]
    found = []
    for _, group in runs.groupby(keys, sort=False):
        values = group.drop_duplicates([factor, "seed"]).pivot(index="seed", columns=factor, values=score)
        if first in values and second in values:
            differences = (values[first] - values[second]).dropna()
            if len(differences):
                found.append([float(value) for value in differences])
    return found


def between(
    runs: pd.DataFrame, factor: str, couples: Iterable[tuple[Any, Any]], score: str, ignored: Sequence[str] = ()
) -> Strata:
    """`strata` of several pairs of values, one pair after the other."""
    return [values for first, second in couples for values in strata(runs, factor, first, second, score, ignored)]


def effects_of_batch(runs: pd.DataFrame, score: str) -> pd.DataFrame:
    """The score under the largest batch minus under the smallest, all else and the seed equal, in points.

    Args:
        runs: what `all_runs` returns.

    Returns:
        One row a setting that was run with both: `benchmark`, `encoder`, the factors, `batch` and `smaller batch`,
        `Difference`, `low`, `high` (95 %, Student t over the pairs), `p`, `seeds`.
    """
    factors = [name for name in FACTORS if name in runs]
    rows = []
    for setting, group in runs.groupby(["benchmark", "encoder", *factors, "fraction", "conditions"], sort=False):
        large, small = group["batch"].max(), group["batch"].min()
        pairs = group.pivot_table(index="seed", columns="batch", values=score)
        if large == small:
            continue
        difference = paired_difference(pairs[large], pairs[small])
        rows.append(
            {
                **dict(zip(["benchmark", "encoder", *factors], setting, strict=False)),
                "batch": int(large),
                "smaller batch": int(small),
                "Difference": difference.mean,
                "low": difference.low,
                "high": difference.high,
                "p": difference.p_value,
                "seeds": difference.n,
            }
        )
    return pd.DataFrame(rows)


def usual(runs: pd.DataFrame) -> pd.DataFrame:
    """What the paper's tables are about: from pre-trained weights, no remedy, the whole training set or the largest
    part of it that a benchmark was trained on."""
    if runs.empty:
        return runs
    frame = runs[runs["start"] == "pretrained"]
    frame = frame[frame["remedy"] == "none"] if "remedy" in frame else frame
    return frame[frame["fraction"] == frame.groupby("benchmark")["fraction"].transform("max")]


def standing_for(study: Study, *models: str) -> list[str]:
    """The encoders that stand for any of these models of the paper, in the order of `models`."""
    return [name for model in models for name, spec in study.pretraining.items() if model in spec.stands_for]


def benchmarks_for(study: Study, *names: str) -> list[str]:
    """The benchmarks that stand for any of these of the paper, under any of the names that it gives them."""
    wanted = {canonical_benchmark(name) for name in names}
    return [
        name
        for name, spec in study.benchmarks.items()
        if spec.stands_for is not None and canonical_benchmark(spec.stands_for) in wanted
    ]


def vocabulary_pairs(study: Study) -> list[tuple[str, str]]:
    """(domain, general): encoders from scratch that differ in their vocabulary alone, the first's learned on the text
    that both were pre-trained on; learned ones have the same number of pieces."""
    recipes = {
        name: spec.model_dump(exclude={"vocabulary", "stands_for", "parallel"})
        for name, spec in study.pretraining.items()
        if spec.init_from is None
    }
    pairs = []
    for first, second in itertools.permutations(recipes, 2):
        ours = study.vocabularies[study.pretraining[first].vocabulary]
        theirs = study.vocabularies[study.pretraining[second].vocabulary]
        if recipes[first] != recipes[second] or ours == theirs:
            continue
        if not isinstance(ours, SentencePieceModel) or ours.corpus != study.pretraining[first].corpus:
            continue
        if isinstance(theirs, SentencePieceModel) and (theirs.corpus == ours.corpus or theirs.size != ours.size):
            continue
        pairs.append((first, second))
    return pairs


def size_pairs(study: Study) -> list[tuple[str, str]]:
    """(larger, smaller): fine-tuned encoders from scratch that differ in their shape alone (and in their learning
    rate)."""
    return [
        (a, b)
        for names in study.encoders_that_differ_in_model()
        for a, b in itertools.permutations(names, 2)
        if weights(study, a) > weights(study, b)
    ]


def weights(study: Study, encoder: str) -> int:
    """The weights in an encoder's layers, 12 x layers x hidden^2, by which shapes of one vocabulary are ordered."""
    spec = study.pretraining[encoder]
    config = study.model_config_for(spec.model, 128, 0.0)
    return 12 * config.layers * config.hidden**2
