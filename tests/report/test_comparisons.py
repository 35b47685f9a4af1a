"""Comparisons of arms by their test items: differences worked out by hand, intervals by another way, verdicts."""

import json

import numpy as np
import pandas as pd
import pytest
import yaml
from scipy import stats

from biomeg_lib.errors import InputError
from biomeg_lib.report import comparisons, tables
from biomeg_lib.study import load

PARAMS = {
    **{"profile": "own", "title": "Own", "description": "For tests.", "seeds": [1, 2, 3]},
    "corpora": {"a": {"format": "text", "files": ["a.txt"]}},
    "vocabularies": {"v": {"kind": "wordpiece", "file": "x", "lowercase": False}},
    "benchmarks": {"chem": {"train": "t.tsv", "devel": "d.tsv", "test": "e.tsv"}},
    "pretraining": {"p": {"model": "tiny", "vocabulary": "v", "corpus": "a", "tokens": 100}},
    "ner": {
        "g": {**{"benchmarks": ["chem"], "encoders": ["p"], "labellings": ["piece"]}, "remedies": ["none", "weighted"]}
    },
}
# (found rightly, predicted, gold) of four test items, by arm and seed
PLAIN = [[(1, 1, 1), (0, 1, 1), (2, 2, 2), (0, 0, 1)], [(1, 2, 1), (1, 1, 1), (1, 2, 2), (0, 0, 1)]]
PLAIN.append([(0, 0, 1), (1, 1, 1), (2, 3, 2), (0, 1, 1)])
WEIGHTED = [[(1, 1, 1), (1, 1, 1), (2, 2, 2), (0, 1, 1)], [(1, 1, 1), (1, 1, 1), (2, 2, 2), (1, 1, 1)]]
WEIGHTED.append([(1, 1, 1), (1, 1, 1), (1, 2, 2), (1, 1, 1)])


def f1(items):
    right, predicted, gold = np.array(items).sum(0)
    return 200 * right / (predicted + gold)


@pytest.fixture
def study(tmp_path):
    """A project whose runs are written by hand."""
    for folder in ("params", "notebooks"):
        (tmp_path / folder).mkdir()
    (tmp_path / "params" / "own.yaml").write_text(yaml.safe_dump(PARAMS, sort_keys=False))
    study = load(tmp_path / "params" / "own.yaml")
    for cell in study.cells(study.jobs()[0]):
        for seed, items in zip(study.seeds, WEIGHTED if cell.remedy else PLAIN, strict=True):
            folder = study.run_directory("finetune", cell.run(seed))
            folder.mkdir(parents=True)
            right, predicted, gold = np.array(items).sum(0)
            scores = {"precision": right / predicted, "recall": right / gold, "f1": f1(items) / 100}
            metrics = {"point": {"learning_rate": 0.1, "num_fc_layers": 1, "fc_hidden": 2}, "sentences": 4}
            (folder / "metrics.json").write_text(json.dumps({**metrics, "devel": {"f1": 0.5}, "test": scores}))
            frame = pd.DataFrame(items, columns=["true_positive", "predicted", "gold"])
            frame.insert(0, "id", range(4))
            frame.to_csv(folder / "items.csv", index=False)
    return study


def test_what_a_remedy_does(study):
    (row,) = comparisons.remedies(study, tables.runs(study, "ner")).to_dict("records")
    plain, weighted = [f1(items) for items in PLAIN], [f1(items) for items in WEIGHTED]
    differences = np.subtract(weighted, plain)
    assert (row["benchmark"], row["encoder"], row["remedy"]) == ("chem", "p", "weighted")
    assert row["F1, none"] == pytest.approx(np.mean(plain))
    assert row["F1"] == pytest.approx(np.mean(weighted))
    assert row["Difference"] == pytest.approx(differences.mean())
    interval = stats.ttest_1samp(differences, 0).confidence_interval()
    assert (row["low"], row["high"]) == pytest.approx((interval.low, interval.high))
    assert row["p"] == pytest.approx(stats.ttest_rel(weighted, plain).pvalue)
    assert row["bootstrap low"] <= row["Difference"] <= row["bootstrap high"]
    assert 0 < row["randomisation p"] <= 1
    assert (row["resamples"], row["items"], row["seeds"]) == (2000, 4, 3)


def test_no_arm_without_a_remedy_is_nothing_to_compare_with(study):
    runs = tables.runs(study, "ner")
    assert comparisons.remedies(study, runs[runs["remedy"] != "none"]).empty


def test_intervals_over_items_and_seeds(study):
    rows = comparisons.with_item_intervals(study, tables.runs(study, "ner")).set_index("remedy")
    assert rows.loc["none", "F1"] == pytest.approx(np.mean([f1(items) for items in PLAIN]))
    assert rows.loc["weighted", "F1"] == pytest.approx(np.mean([f1(items) for items in WEIGHTED]))
    assert (rows["F1 low"] < rows["F1"]).all()
    assert (rows["F1"] < rows["F1 high"]).all()


def test_a_run_without_items_is_named(study):
    name = study.runs(study.jobs()[0])[1]
    (study.run_directory("finetune", name) / "items.csv").unlink()
    with pytest.raises(InputError, match=rf"{name}/items\.csv: expected the run's test items, found none"):
        comparisons.remedies(study, tables.runs(study, "ner"))
