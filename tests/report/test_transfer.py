"""Table 5 and its effects: which runs belong to a series, what is compared with what."""

import copy

import pandas as pd
import pytest
import yaml
from nano import PARAMS
from scipy import stats

from biomeg_lib.files import read_json, write_json
from biomeg_lib.report import published, tables, transfer
from biomeg_lib.study import load

BASE = PARAMS["pretraining"]["nano-bio"]
FURTHER = {key: value for key, value in BASE.items() if key != "model"} | {"init_from": "nano-bio"}
GRID = {**PARAMS["ner"]["small"], "labellings": ["word", "piece"], "search": {"learning_rate": [0.003]}}


@pytest.fixture
def study(tmp_path):
    """A study whose runs are only written down: F1 = 50 + 2 x steps / 60 + seed, from random weights 40 + seed."""
    for folder in ("params", "notebooks"):
        (tmp_path / folder).mkdir()
    params = copy.deepcopy(PARAMS)
    params["benchmarks"]["chem"]["stands_for"] = "BC5-chem"
    params["pretraining"] = {
        "nano-bio": BASE,
        "nano-other": BASE,
        "further": {**FURTHER, "tokens": 30 * 8 * 32},
        "furthest": {**FURTHER, "tokens": 60 * 8 * 32},
    }
    params["ner"] = {
        "small": {**GRID, "encoders": ["nano-bio", "further", "furthest", "nano-other"], "starts": ["pretrained"]},
        "nothing": {**GRID, "encoders": ["nano-bio", "further"], "starts": ["random"]},
        "mended": {**GRID, "encoders": ["nano-bio"], "starts": ["pretrained"], "remedies": ["weighted"]},
    }
    (tmp_path / "params" / "nano.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    study = load(tmp_path / "params" / "nano.yaml")
    for name in study.pretraining:
        start = {"start": {"origin": "run nano-bio of a study"}} if name.startswith("fur") else {}
        metrics = {"heldout_mlm": 3.5, "tokens": 1000, **start}
        write_json(study.run_directory("pretrain", name) / "metrics.json", metrics)
    for job in study.jobs():
        for cell in study.cells(job):
            for seed in study.seeds:
                steps = {"further": 30, "furthest": 60}.get(cell.encoder, 0)
                f1 = (40 if cell.start == "random" else 50 + 2 * steps / 60) + seed + 5 * (cell.labelling == "piece")
                scores = {"precision": 0.5, "recall": 0.5, "f1": f1 / 100}
                metrics = {"test": scores, "devel": {}, "sentences": 10, "point": {"num_fc_layers": 1}}
                write_json(study.run_directory("finetune", cell.run(seed)) / "metrics.json", metrics)
    return study


def test_a_series_is_the_start_and_all_that_go_on_from_it(study):
    frame = transfer.encoders(study)
    assert frame["encoder"].tolist() == ["nano-bio", "further", "furthest"]
    assert frame["Checkpoint"].tolist() == ["nano-bio"] * 3
    assert frame["Steps"].tolist() == [0, 30, 60]
    assert frame["Format"].tolist() == ["", *["run nano-bio of a study"] * 2]


def test_runs_are_those_of_a_series_with_the_first_labelling_and_no_remedy(study):
    frame = transfer.runs(study)
    assert len(frame) == 2 * (3 + 1)  # seeds x (steps and random weights, these once)
    assert sorted(frame["Steps"].dropna().unique()) == [0, 30, 60]
    assert not frame["run"].str.contains("piece|weighted|other").any()


def test_table_5_has_means_with_intervals_and_the_papers_rows(study):
    frame = transfer.table5(study, transfer.runs(study))
    ours = frame[frame["published"].isna()]
    assert ours["F1"].tolist() == pytest.approx([51.5, 52.5, 53.5, 41.5])
    assert ours["Fine-tuning steps"].tolist()[:3] == [0, 30, 60]
    assert pd.isna(ours["Fine-tuning steps"].iloc[3])
    low, high = stats.t.interval(0.95, 1, 51.5, stats.sem([51, 52]))
    assert ours[["F1 low", "F1 high"]].iloc[0].tolist() == pytest.approx([low, high])
    paper = frame[frame["published"].notna()]
    assert paper["published"].tolist()[:7] == [63.2, 74.3, 89.7, 89.37, 91.8, 92.1, 91.2]  # Table 5, BC5CDR-chem
    assert paper[["published", "source"]].equals(
        published.measurements(5)[["published", "source"]].set_axis(paper.index)
    )
    assert paper["F1"].isna().all()
    assert paper["note"].tolist() == [""] * 7 + [transfer.NO_SERIES] * 14  # the series are on chemicals alone
    other = study.model_copy(update={"not_run": {"BC5-disease": "chemicals are enough"}})
    notes = transfer.table5(other, transfer.runs(study)).drop_duplicates("Benchmark").set_index("Benchmark")["note"]
    assert notes["BC5CDR-disease"] == "chemicals are enough"
    assert notes["ChemProt"] == transfer.NO_SERIES
    assert transfer.notes(frame).split("\n") == [
        f"- {name}: {transfer.NO_SERIES}." for name in ("BC5CDR-disease", "ChemProt")
    ]
    assert transfer.notes(ours) == ""


def test_a_row_of_table_5_names_the_runs_behind_it(study):
    frame = transfer.table5(study, transfer.runs(study))
    for row in frame[frame["published"].isna()].to_dict("records"):
        files = [study.run_directory("finetune", name) / "metrics.json" for name in row["runs"].split()]
        scores = [100 * read_json(file)["test"]["f1"] for file in files]
        assert (sum(scores) / len(scores), len(scores)) == (pytest.approx(row["F1"]), row["seeds"])


def test_a_profile_without_a_series_has_the_papers_rows_alone(study):
    pretraining = {"nano-bio": study.pretraining["nano-bio"]}
    alone = study.model_copy(update={"pretraining": pretraining, "ner": {}})
    assert transfer.encoders(alone).columns.tolist() == transfer.encoders(study).columns.tolist()
    runs = transfer.runs(alone)
    assert runs.columns.tolist() == transfer.runs(study).columns.tolist()
    frame = transfer.table5(alone, runs)
    assert frame["published"].tolist() == published.table(5)["F1"].tolist()
    assert set(frame["note"]) == {transfer.NO_SERIES}
    assert len(transfer.as_shown(frame)) == 21
    effects = transfer.effects(runs)
    assert [tables.summary(part) for _, part in transfer.parts(effects)] == ["nothing to compare."] * 2
    assert transfer.named_series(runs).dropna(subset=["Steps"]).empty


def test_table_5_as_shown_says_steps_and_intervals_in_words(study):
    shown = transfer.as_shown(transfer.table5(study, transfer.runs(study)))
    assert shown["Steps"].tolist()[:5] == ["0", "30", "60", "random weights", "1,000"]
    assert shown["F1 (95 % interval)"].tolist()[0].startswith("51.5 (")
    assert shown["F1 (95 % interval)"].tolist()[4] == ""
    assert shown["Sentences"].tolist()[0] == "20%"


def test_effects_compare_the_start_with_random_weights_and_steps_with_none(study):
    frame = transfer.effects(transfer.runs(study))
    rows = frame[["First", "Second", "Difference"]].to_numpy().tolist()
    assert rows == [
        ["as it is", "random weights", pytest.approx(10)],
        ["30 steps", "as it is", pytest.approx(1)],
        ["60 steps", "as it is", pytest.approx(2)],
    ]
    assert frame["seeds"].tolist() == [2, 2, 2]
    (random, further) = (part for _, part in transfer.parts(frame))
    assert (len(random), len(further)) == (1, 2)


def test_only_seeds_that_both_arms_have_are_paired(study):
    frame = transfer.runs(study)
    frame = frame[~((frame["start"] == "random") & (frame["seed"] == 2))]
    effects = transfer.effects(frame)
    assert effects["seeds"].tolist() == [1, 2, 2]
    assert effects["low"].isna().tolist() == [True, False, False]


def test_series_are_named_by_what_tells_them_apart(study):
    series = transfer.named_series(transfer.runs(study))
    (name,) = series["Benchmark and training sentences"].unique()
    assert name == "chem, 20%"
    assert transfer.random_references(series) == {name: pytest.approx(41.5)}
    other = series.assign(vocabulary=["a", "b"] * (len(series) // 2))
    assert transfer.named_series(other)["Benchmark and training sentences"].iloc[0] == "chem, 20%, a"


def test_a_figure_of_a_factor_has_the_runs_that_vary_in_it(study):
    runs = tables.runs(study, "ner")
    assert len(tables.varied(runs, "start")) == len(runs)  # it varies in no grid: all are shown
    assert len(tables.varied(runs, "labelling")) == len(runs)
    some = runs[(runs["labelling"] == "piece") | (runs["encoder"] == "further")]
    assert set(tables.varied(some, "labelling")["encoder"]) == {"further"}
