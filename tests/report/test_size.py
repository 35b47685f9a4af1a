"""Size: which encoders compare, on which runs, and differences worked out by hand."""

import copy

import pytest
import yaml

from biomeg_lib.files import write_json
from biomeg_lib.report import figures, size
from biomeg_lib.study import load

SCRATCH = {"model": "tiny", "vocabulary": "v", "corpus": "a", "tokens": 100}
PARAMS = {
    "profile": "own",
    "title": "Own",
    "description": "For tests.",
    "seeds": [1, 2],
    "corpora": {"a": {"format": "text", "files": ["data/a.txt"]}},
    "vocabularies": {name: {"kind": "wordpiece", "file": "data/x", "lowercase": False} for name in "vw"},
    "benchmarks": {
        "chem": {"train": "data/x"},
        "relations": {"format": "chemprot-jsonl", "train": "data/x"},
        "squad": {"format": "squad", "train": "data/x"},
        "bioasq": {"format": "bioasq", "train": "data/x"},
    },
    "pretraining": {
        "large": {**SCRATCH, "model": "mini", "learning_rate": 0.002, "stands_for": ["BioMegatron-800m"]},
        "small": SCRATCH,
        "longer": {**SCRATCH, "model": "mini", "tokens": 200},
        "other": {**SCRATCH, "vocabulary": "w"},
        "further": {**{k: v for k, v in SCRATCH.items() if k != "model"}, "init_from": "small"},
        "unused": {**SCRATCH, "model": "small"},
    },
    "ner": {
        "full": {
            **{"benchmarks": ["chem"], "encoders": ["small", "large", "other", "longer", "further"]},
            **{"labellings": ["piece"], "starts": ["pretrained", "random"], "remedies": ["none", "dice"]},
        },
        "alone": {"benchmarks": ["chem"], "encoders": ["large"], "epochs": 2},
    },
    "classification": {  # one recipe in three grids, of which one is in part a repetition
        "pairs": {"benchmarks": ["relations"], "encoders": ["small"], "seeds": [1, 2, 3]},
        "others": {"benchmarks": ["relations"], "encoders": ["large"]},
        "again": {"benchmarks": ["relations"], "encoders": ["small", "large"], "seeds": [2]},
    },
    "qa": {
        "first": {"benchmarks": ["squad"], "encoders": ["large", "small"]},
        "facts": {"benchmarks": ["bioasq"], "encoders": ["small", "large"], "routes": ["direct", "first"]},
    },
}
PAIRS = "pairs and others and again"
PARAMETERS = {"large": 5_000, "small": 2_000}


def a_study(folder, params):
    """A project whose runs are written by hand: the large encoder has 10 points more, of recall 2 or 4 less."""
    for name in ("params", "notebooks"):
        (folder / name).mkdir()
    (folder / "params" / "own.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    study = load(folder / "params" / "own.yaml")
    for name in study.pretraining:
        write_json(study.run_directory("pretrain", name) / "metrics.json", {"parameters": PARAMETERS.get(name, 9)})
    for job in study.jobs():
        for cell in study.cells(job):
            for seed in study.seeds_of(job.grid):
                more = 0.1 * (job.encoder == "large")
                test = {"precision": 0.5 + more, "recall": 0.5 - 0.2 * more * seed, "f1": 0.4 + more}
                if job.benchmark == "bioasq":
                    gain = more / 2 if cell.route == "direct" else -more
                    test = {"strict_accuracy": 0.1, "lenient_accuracy": 0.3, "mean_reciprocal_rank": 0.2 + gain}
                elif job.benchmark == "squad":
                    test = {"exact": 0.3, "f1": 0.4 + more}
                point = {"learning_rate": 0.001, "num_fc_layers": 1, "fc_hidden": 16}
                metrics = {"test": test, "devel": {}, "point": point}
                write_json(study.run_directory("finetune", cell.run(seed)) / "metrics.json", metrics)
    return study


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    return a_study(tmp_path_factory.mktemp("project"), PARAMS)


def test_encoders_compare_that_differ_in_shape_and_learning_rate_alone(study):
    assert study.encoders_that_differ_in_model() == [["large", "small"]]


def test_scores_are_of_pretrained_weights_without_a_remedy_where_two_sizes_have_the_setting(study):
    frame = size.scores(study)
    assert set(frame["encoder"]) == {"large", "small"}
    assert frame.groupby(["Task", "setting"], sort=False)["measure"].unique().map(list).to_dict() == {
        ("NER", "full, labels by piece"): ["Prec", "Rec", "F1"],
        ("RE", f"{PAIRS}, markers"): ["Prec", "Rec", "F1"],
        ("QA", "first, direct"): ["EM", "F1"],
        ("QA", "facts, direct"): ["SAcc", "LAcc", "MRR"],
        ("QA", "facts, after first"): ["SAcc", "LAcc", "MRR"],
    }
    assert len(frame) == (3 + 3 + 2 + 3 + 3) * 2 * 2 + 3  # measures x encoders x seeds, and a third one of pairs
    assert frame.groupby("encoder")["#Parameters"].unique().map(list).to_dict() == {"large": [5000], "small": [2000]}


def test_differences_are_larger_minus_smaller_and_paired(study):
    frame = size.effects(size.scores(study))
    assert len(frame) == 3 + 3 + 2 + 3 + 3
    assert set(zip(frame["larger"], frame["smaller"], strict=True)) == {("large", "small")}
    found = frame.set_index(["Task", "setting", "measure"])
    assert found.loc[("NER", "full, labels by piece", "Prec"), ["Difference", "low", "high", "seeds"]].tolist() == (
        pytest.approx([10, 10, 10, 2])
    )
    recall = found.loc[
        ("RE", f"{PAIRS}, markers", "Rec")
    ]  # 2 and 4 points less: mean 3, standard deviation the root of 2
    half = 12.706204736432095  # 97.5 % point of Student's t with 1 degree of freedom
    assert recall[["Difference", "low", "high"]].tolist() == pytest.approx([-3, -3 - half, -3 + half])
    assert found.loc[("QA", "facts, direct", "MRR"), "Difference"] == pytest.approx(5)
    assert found.loc[("QA", "facts, after first", "MRR"), "Difference"] == pytest.approx(-10)
    shown = size.as_shown(frame)
    assert shown[["Measure", "Setting", "Larger - smaller"]].iloc[0].tolist() == [
        *["Prec", "chem: full, labels by piece", "large - small"]
    ]
    recall = shown[shown["Measure"] == "Rec"]["Difference (95 % interval)"]
    assert recall.tolist() == ["-3.0 (-15.7 to +9.7)"] * 2
    lines = size.summaries(frame).split("\n")
    assert lines[0].startswith("- NER, Prec: +10.0 to +10.0 points of test Prec over 1 settings;")
    assert "- QA, MRR: -10.0 to +5.0 points of test MRR over 2 settings;" in size.summaries(frame)


def test_a_figure_has_a_panel_a_measure_and_a_line_a_setting(study):
    lines = size.lines(size.scores(study), ("RE", "NER"), ("Prec", "Rec", "F1"))
    figure = figures.learning_curve(
        lines, "#Parameters", "value", size.LINE, x_label="Parameters", y_label="%", log_x=True, facet="measure"
    )
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["Prec", "Rec", "F1"]
    names = ["chem, full, labels by piece", f"relations, {PAIRS}, markers"]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == names
    precision, recall, _ = ([line.get_xydata().tolist() for line in axes.lines] for axes in figure.axes)
    assert precision[0] == [[2000, pytest.approx(50)], [5000, pytest.approx(60)]]
    assert recall[1] == [[2000, pytest.approx(50)], [5000, pytest.approx(47)]]
    assert figure.axes[1].get_xscale() == "log"
    assert figure.axes[1].get_xticks().tolist() == [2000, 5000]


def test_without_two_sizes_nothing_is_compared(tmp_path):
    params = copy.deepcopy(PARAMS)
    for grid in (*params["ner"].values(), *params["classification"].values(), *params["qa"].values()):
        grid["encoders"] = ["small"]
    frame = size.scores(a_study(tmp_path, params))
    assert frame.empty
    effects = size.effects(frame)
    assert (len(effects), len(size.as_shown(effects)), size.summaries(effects)) == (0, 0, "")
    assert {"measure", "larger", "smaller", "Difference", "low", "high"} <= set(effects.columns)
    assert size.lines(frame, ("QA",), ("EM", "F1")).empty
