"""Comparisons of runs by their test items: intervals over items and seeds, and tests between two arms.

What is notable: a paired difference over seeds (`tables.effects`) asks whether another training would show the same on
this test set; the resampling here asks whether another test set would, too. Both stand side by side.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from biomeg_lib import sums
from biomeg_lib.errors import InputError
from biomeg_lib.metrics.resampling import approximate_randomisation, bootstrap, micro_f1, paired_bootstrap
from biomeg_lib.metrics.statistics import paired_difference
from biomeg_lib.report.tables import arm_columns
from biomeg_lib.study import Study
from biomeg_lib.tasks.jobs import ITEMS

COUNTS = ["true_positive", "predicted", "gold"]


def item_counts(study: Study, runs: Sequence[str]) -> np.ndarray:
    """float64[runs, items, 3]: found rightly, predicted and gold, of each test item in each run.

    Raises:
        InputError: a run has no such file, being older than it.
    """
    arrays = []
    for name in runs:
        path = study.run_directory("finetune", name) / ITEMS
        if not path.is_file():
            raise InputError(path, "expected the run's test items, found none; delete the run's folder to redo it")
        sums.check(path)
        arrays.append(pd.read_csv(path)[COUNTS].to_numpy(dtype=np.float64))
    return np.stack(arrays)


def with_item_intervals(study: Study, runs: pd.DataFrame) -> pd.DataFrame:
    """One row an arm: mean test F1 over seeds, and its 95 % bootstrap interval over test items and seeds, in points."""
    rows = []
    columns = arm_columns(runs)
    for key, arm in runs.groupby(columns, sort=False):
        interval = bootstrap(item_counts(study, arm["run"].tolist()), micro_f1)
        rows.append(
            {
                **dict(zip(columns, key, strict=True)),
                "F1": 100 * interval.estimate,
                **_bounds(interval.low, interval.high),
                **_recorded(interval),
            }
        )
    return pd.DataFrame(rows)


def remedies(study: Study, runs: pd.DataFrame) -> pd.DataFrame:
    """What each remedy against imbalance does to test F1, all else and the seed equal, in points.

    Args:
        runs: what `tables.runs` returns, of one task.

    Returns:
        One row an arm with a remedy whose like without one was run, too: the setting, `remedy`, precision, recall and
        F1 without and with it, `Difference`, `low` and `high` (95 %, Student t over paired seeds) and `p`; `bootstrap
        low` and `bootstrap high` (95 %, paired, over items and seeds) and `bootstrap p`; `randomisation p` (approximate
        randomisation over items); and how was resampled.
    """
    keys = [column for column in arm_columns(runs) if column != "remedy"]
    rows = []
    for setting, group in runs.groupby(keys, sort=False):
        arms = {remedy: arm.sort_values("seed") for remedy, arm in group.groupby("remedy", sort=False)}
        plain = arms.pop("none", None)
        if plain is None:
            continue
        for remedy, arm in arms.items():
            seeds = paired_difference(arm["F1"].tolist(), plain["F1"].tolist())
            items, plain_items = (item_counts(study, runs["run"].tolist()) for runs in (arm, plain))
            drawn = paired_bootstrap(items, plain_items, micro_f1)
            randomised = approximate_randomisation(items, plain_items, micro_f1)
            rows.append(
                {
                    **dict(zip(keys, setting, strict=True)),
                    "remedy": remedy,
                    **{f"{head}, none": plain[head].mean() for head in ("Prec", "Rec", "F1")},
                    **{head: arm[head].mean() for head in ("Prec", "Rec", "F1")},
                    "Difference": seeds.mean,
                    "low": seeds.low,
                    "high": seeds.high,
                    "p": seeds.p_value,
                    "bootstrap low": None if drawn.low is None else 100 * drawn.low,
                    "bootstrap high": None if drawn.high is None else 100 * drawn.high,
                    "bootstrap p": drawn.p_value,
                    "randomisation p": randomised.p_value,
                    **_recorded(drawn),
                }
            )
    return pd.DataFrame(rows)


def _bounds(low: float | None, high: float | None) -> dict[str, float | None]:
    return {"F1 low": None if low is None else 100 * low, "F1 high": None if high is None else 100 * high}


def _recorded(resampled) -> dict[str, object]:
    return {
        "resamples": resampled.resamples,
        "resampling seed": resampled.seed,
        "items": resampled.items,
        "seeds": resampled.seeds,
    }
