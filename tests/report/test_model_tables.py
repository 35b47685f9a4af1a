"""Tables 1, 2, 4, 6 and 7: every row of the paper once or more, values recomputed from the runs that a row names."""

import copy
import json
import zlib

import numpy as np
import pandas as pd
import pytest
import yaml
from scipy import stats

from biomeg_lib.check import check
from biomeg_lib.errors import BiomegError, InputError
from biomeg_lib.files import write_json
from biomeg_lib.report import model_tables, published
from biomeg_lib.report.model_tables import as_printed, model_table
from biomeg_lib.study import load

KEYS = {  # what the paper's columns are called in metrics.json; Table 7 has F1 in both
    **{"Prec": "precision", "Rec": "recall", "F1": "f1", "SQuAD-v1.1": "f1", "SQuAD-v2.0": "f1"},
    **{"SAcc": "strict_accuracy", "LAcc": "lenient_accuracy", "MRR": "mean_reciprocal_rank"},
}
TASK_KEYS = {"squad": ("exact", "f1"), "bioasq": ("strict_accuracy", "lenient_accuracy", "mean_reciprocal_rank")}
OF_345M = ["BioMegatron-345m, Bio-vocab-30k", "BioMegatron-345m, BERT-uncased", "BioMegatron-345m"]
PARAMS = {
    "profile": "own",
    "title": "Own",
    "description": "For tests.",
    "seeds": [1, 2, 3],
    "corpora": {"a": {"format": "text", "files": ["data/a.txt"]}},
    "vocabularies": {"v": {"kind": "wordpiece", "file": "data/x", "lowercase": False, "stands_for": "BERT-cased"}},
    "benchmarks": {
        "chem": {"train": "data/x", "stands_for": "BC5-chem"},
        "ncbi": {"train": "data/x", "stands_for": "NCBI-disease"},
        "relations": {"format": "chemprot-jsonl", "train": "data/x", "stands_for": "ChemProt"},
        "squad": {"format": "squad", "train": "data/x", "stands_for": "SQuAD-v1.0"},
        "bioasq": {"format": "bioasq", "train": "data/x", "stands_for": "BioASQ-7b"},
    },
    "pretraining": {
        "small": {"model": "tiny", "vocabulary": "v", "corpus": "a", "tokens": 100, "stands_for": OF_345M},
        "twin": {"model": "tiny", "vocabulary": "v", "corpus": "a", "tokens": 100, "stands_for": OF_345M[:1]},
        "large": {"model": "mini", "vocabulary": "v", "corpus": "a", "tokens": 100, "stands_for": ["BioMegatron-800m"]},
        "world": {
            **{"model": "tiny", "vocabulary": "v", "corpus": "a", "tokens": 100},
            "stands_for": ["Megatron-345m (general LM)", "BERTLARGE"],
        },
    },
    "ner": {
        "full": {"benchmarks": ["chem", "ncbi"], "encoders": ["small", "twin"], "starts": ["pretrained", "random"]},
        "tenth": {
            **{"benchmarks": ["chem", "ncbi"], "encoders": ["small"], "labellings": ["word"], "fraction": 0.1},
            "seeds": [4, 5],
        },
        "mended": {"benchmarks": ["chem"], "encoders": ["twin"], "labellings": ["piece"], "remedies": ["none", "dice"]},
        "only": {"benchmarks": ["ncbi"], "encoders": ["twin"], "labellings": ["piece"], "starts": ["random"]},
    },
    "classification": {"pairs": {"benchmarks": ["relations"], "encoders": ["small"], "remedies": ["none", "weighted"]}},
    "qa": {
        "first": {"benchmarks": ["squad"], "encoders": ["small", "world", "large"]},
        "facts": {"benchmarks": ["bioasq"], "encoders": ["small", "world"], "routes": ["direct", "first"]},
        "more": {"benchmarks": ["bioasq"], "encoders": ["large"], "seeds": [7]},
    },
    "not_run": {
        "PubMedBERT-110m, PubMedBERT-uncased (30k)": "nothing that small learns",
        "SQuAD-v2.0": "no questions without an answer are at hand",
        "BC5CDR-disease": "chemicals are enough",
    },
}


def a_score(run, key):
    """A number between 0 and 1 that differs from run to run."""
    return zlib.crc32(f"{run} {key}".encode()) / 2**32


def a_study(folder, params):
    """A project in which every run is done: its metrics.json are written by hand."""
    for name in ("params", "notebooks"):
        (folder / name).mkdir()
    (folder / "params" / "own.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    study = load(folder / "params" / "own.yaml")
    for job in study.jobs():
        keys = TASK_KEYS.get(study.benchmarks[job.benchmark].format, ("precision", "recall", "f1"))
        for run in study.runs(job):
            test = {key: a_score(run, key) for key in keys}
            point = {"learning_rate": 0.001, "num_fc_layers": 1, "fc_hidden": 16}
            write_json(
                study.run_directory("finetune", run) / "metrics.json", {"test": test, "devel": {}, "point": point}
            )
    return study


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    return a_study(tmp_path_factory.mktemp("project"), PARAMS)


@pytest.fixture(scope="module")
def framed(study):
    return {number: model_table(study, number) for number in published.MODEL_TABLES}


def runs_of(frame, **values):
    """The names of runs behind the rows with these values, a list a row."""
    for column, value in values.items():
        frame = frame[frame[column] == value]
    return [names.split() for names in frame["runs"]]


def seeds(stem, *numbers):
    return [f"{stem}.seed{number}" for number in numbers or (1, 2, 3)]


@pytest.mark.parametrize("number", published.MODEL_TABLES)
def test_every_number_of_the_paper_is_there_in_its_order(framed, number):
    printed = published.measurements(number)
    frame = framed[number][printed.columns]
    pd.testing.assert_frame_equal(frame.drop_duplicates().reset_index(drop=True), printed)
    assert framed[number].columns.tolist() == [
        *[*published.TABLES[number].keys, "measure", "published", "source", "encoder", "benchmark", "fraction"],
        *["setting", "value", "low", "high", "seeds", "runs", "note"],
    ]


@pytest.mark.parametrize("number", published.MODEL_TABLES)
def test_a_value_is_what_the_runs_it_names_say(study, framed, number):
    measured = framed[number][framed[number]["encoder"].notna()]
    assert len(measured)
    for row in measured.to_dict("records"):
        files = [study.outputs / "runs" / "finetune" / name / "metrics.json" for name in row["runs"].split()]
        scores = [100 * json.loads(file.read_text())["test"][KEYS[row["measure"]]] for file in files]
        assert row["value"] == pytest.approx(np.mean(scores))
        assert row["seeds"] == len(scores)
        if len(scores) > 1:
            bounds = stats.t.interval(0.95, len(scores) - 1, np.mean(scores), stats.sem(scores))
            assert (row["low"], row["high"]) == pytest.approx(bounds)
        else:
            assert pd.isna(row["low"])
            assert pd.isna(row["high"])
        assert row["note"] == ""


def test_table_1_has_the_papers_labelling_and_every_encoder_grid_and_fraction(framed):
    frame = framed[1][framed[1]["measure"] == "F1"]
    assert runs_of(frame, source="Table 1, row 3") == [  # BC5CDR-chem, 345m with Bio-vocab-30k
        seeds("full.chem.small.pretrained.piece"),
        seeds("full.chem.twin.pretrained.piece"),
        seeds("tenth.chem.small.pretrained.word", 4, 5),  # its grid has no other
        seeds("mended.chem.twin.pretrained.piece"),
    ]
    row = frame[frame["source"] == "Table 1, row 3"]
    assert row["fraction"].tolist() == [1, 1, 0.1, 1]
    assert row["setting"].tolist() == [
        *["full, labels by piece", "full, labels by piece", "tenth, labels by word", "mended, labels by piece"]
    ]
    assert runs_of(frame, source="Table 1, row 15") == [  # NCBI-disease is labelled by word
        seeds("full.ncbi.small.pretrained.word"),
        seeds("full.ncbi.twin.pretrained.word"),
        seeds("tenth.ncbi.small.pretrained.word", 4, 5),
    ]
    assert runs_of(frame, source="Table 1, row 21") == [seeds("pairs.relations.small.pretrained.markers")]


def test_tables_of_questions_take_their_routes(framed):
    direct, after = "facts.bioasq.small.pretrained.direct", "facts.bioasq.small.pretrained.first"
    assert runs_of(framed[2], measure="MRR", Vocabulary="BERT-uncased", encoder="small") == [seeds(after)]
    assert runs_of(framed[4], measure="MRR", Model="BioMegatron-345m") == [seeds(direct)]
    assert runs_of(framed[4], measure="SAcc", Model="BioMegatron-800m") == [
        ["more.bioasq.large.pretrained.direct.seed7"]
    ]
    both = framed[6][framed[6]["Model"] == "Megatron-345m (general LM)"]
    assert both[both["measure"] == "LAcc"]["setting"].tolist() == ["facts, direct", "facts, after first"]
    squad = framed[7][framed[7]["measure"] == "SQuAD-v1.1"].set_index("Model")["runs"].dropna()
    assert squad.index.tolist() == ["BioMegatron-345m", "BioMegatron-800m", "BERTLARGE"]
    assert squad["BERTLARGE"].split() == seeds("first.squad.world.pretrained.direct")


def test_what_nothing_stands_for_has_a_note_that_says_why(framed):
    missing = framed[1][framed[1]["encoder"].isna()]
    assert missing[["value", "low", "high", "seeds", "runs", "benchmark"]].isna().all(axis=None)
    notes = missing.drop_duplicates("source").set_index("source")["note"]
    assert notes["Table 1, row 1"] == "no run of this profile stands for it"
    assert notes["Table 1, row 2"] == notes["Table 1, row 14"] == "nothing that small learns"
    assert notes["Table 1, row 9"] == "chemicals are enough"  # the model has runs, the benchmark has none
    table7 = framed[7].set_index(["Model", "measure"])["note"]
    assert table7["BioMegatron-345m", "SQuAD-v2.0"] == "no questions without an answer are at hand"
    assert table7["RoBERTa", "SQuAD-v2.0"] == "no run of this profile stands for it"


def test_what_stands_for_both_but_was_not_fine_tuned_is_said(tmp_path):
    params = copy.deepcopy(PARAMS)
    del params["qa"]["more"]
    params["qa"]["facts"]["routes"] = ["first"]
    params["pretraining"]["twin"]["stands_for"] = ["BioMegatron-800m, BERT-cased"]
    params["ner"] = {"full": {"benchmarks": ["chem"], "encoders": ["twin"], "starts": ["random"]}}
    del params["benchmarks"]["squad"]["stands_for"]
    study = a_study(tmp_path, params)
    notes = model_table(study, 4).groupby("Model")["note"].unique()
    assert notes["BioMegatron-345m"].tolist() == ["small is not fine-tuned from pre-trained weights on bioasq alone"]
    assert notes["BioMegatron-800m"].tolist() == ["large is not fine-tuned from pre-trained weights on bioasq alone"]
    first = model_table(study, 1).set_index("source")["note"]
    assert first["Table 1, row 5"].unique().tolist() == ["twin is not fine-tuned from pre-trained weights on chem"]
    assert model_table(study, 7)["note"].iloc[0] == "no benchmark of this profile stands for SQuAD-v1.1"


def test_a_profile_of_entities_alone_has_all_tables(tmp_path):
    params = {key: value for key, value in PARAMS.items() if key not in ("qa", "classification", "not_run")}
    params["benchmarks"] = {"chem": PARAMS["benchmarks"]["chem"]}
    params["ner"] = {"full": {**PARAMS["ner"]["full"], "benchmarks": ["chem"]}}
    study = a_study(tmp_path, params)
    for number in published.MODEL_TABLES:
        frame = model_table(study, number)
        assert set(frame["source"]) == set(published.table(number)["source"])
        assert (frame["note"] != "").eq(frame["value"].isna()).all()
        printed = as_printed(frame)
        assert len(printed) >= len(published.table(number))
    assert model_table(study, 4)["note"].iloc[0] == "no benchmark of this profile stands for BioASQ-7b-factoid"


def test_a_benchmark_that_is_scored_otherwise_is_said(tmp_path):
    params = copy.deepcopy(PARAMS)
    params["benchmarks"]["squad"]["stands_for"] = "BioASQ-7b-factoid"  # SQuAD's form has no ranked answers
    frame = model_table(a_study(tmp_path, params), 4)
    rows = frame[(frame["benchmark"] == "squad") & (frame["Model"] == "BioMegatron-345m")]
    assert rows["note"].tolist() == ["its runs are not scored by this measure"] * 3
    assert rows["value"].isna().all()
    shown = as_printed(frame)
    assert shown.loc[shown["Here"].str.contains("on squad"), "MRR"].unique().tolist() == ["not scored"]


def test_a_run_that_is_not_there_is_named(tmp_path):
    study = a_study(tmp_path, PARAMS)
    (study.run_directory("finetune", "full.chem.twin.pretrained.word.seed2") / "metrics.json").unlink()
    with pytest.raises(
        InputError, match=r"full\.chem\.twin\.pretrained\.word\.seed2/metrics\.json: expected this file"
    ):
        model_table(study, 1)


@pytest.mark.parametrize(
    ("section", "key", "value", "message"),
    [
        (
            "pretraining",
            "small",
            ["BioMegatron-345"],
            "stands_for.*no model of the paper is called 'BioMegatron-345'; did",
        ),
        ("benchmarks", "chem", "BC5CDR-chemical", "stands_for: no benchmark .* did you mean 'BC5CDR-chem'"),
        ("vocabularies", "v", "BERT", "stands_for: no vocabulary of the paper is called 'BERT'"),
        ("not_run", None, None, "no model or benchmark .* 'Megatron-3.9B'; did you mean 'Megatron-3.9b'"),
    ],
)
def test_a_name_that_the_paper_has_not_is_refused_with_the_nearest(tmp_path, section, key, value, message):
    params = copy.deepcopy(PARAMS)
    if key is None:
        params["not_run"] = {"Megatron-3.9B": "too large"}
    else:
        params[section][key]["stands_for"] = value
    study = a_study(tmp_path, params)
    with pytest.raises(BiomegError, match=rf"own\.yaml: {section}\..*{message}"):
        model_table(study, 2)
    with pytest.raises(InputError, match=message) as caught:
        check(study, tmp_path / "params" / "own.yaml")
    line = int(str(caught.value).split(":")[1])
    text = (tmp_path / "params" / "own.yaml").read_text().splitlines()[line - 1]
    assert ("Megatron-3.9B" if key is None else value[0] if section == "pretraining" else value) in text


def test_all_names_of_the_paper_are_known(study):
    assert list(model_tables.unknown_names(study)) == []
    everything = {name: "why" for name in (*published.known_models(), *published.known_benchmarks())}
    assert list(model_tables.unknown_names(study.model_copy(update={"not_run": everything}))) == []


@pytest.mark.parametrize("number", [3, 5, 8, "1"])
def test_tables_that_are_not_of_models(study, number):
    with pytest.raises(BiomegError, match="tables of models, 1, 2, 4, 6, 7"):
        model_table(study, number)


def test_as_printed_has_a_row_for_each_stand_in_and_its_numbers_as_text(framed):
    shown = as_printed(framed[1])
    assert shown.columns.tolist() == ["In the paper", "Here", "Prec", "Rec", "F1", "published"]
    third = shown[shown["In the paper"] == "BC5CDR-chem BioMegatron 345m Bio-vocab-30k"].iloc[2]
    assert third["Here"] == "small on chem: tenth, labels by word, 10% of the training set"
    assert third["published"] == "92.1 / 93.6 / 92.9"
    f1 = [100 * a_score(run, "f1") for run in seeds("tenth.chem.small.pretrained.word", 4, 5)]
    low, high = stats.t.interval(0.95, 1, np.mean(f1), stats.sem(f1))
    assert third["F1"] == f"{np.mean(f1):.1f} ± {(high - low) / 2:.1f}"
    missing = shown[shown["In the paper"].str.contains("PubMedBERT")]
    assert missing["Here"].unique().tolist() == ["nothing that small learns"]
    assert missing["F1"].tolist() == [""] * 4  # one row for each benchmark of Table 1
    assert missing["published"].iloc[0] == "92.1 / 93.2 / 92.6"
    assert shown["published"].iloc[0] == "90.0 / 93.4 / 91.7"
    single = as_printed(framed[4]).set_index("In the paper").loc["BioMegatron-800m"]
    assert single["MRR"] == f"{100 * a_score('more.bioasq.large.pretrained.direct.seed7', KEYS['MRR']):.1f}"
    assert as_printed(framed[2])["In the paper"].iloc[0] == "BioBERT-Base 110m BERT-cased"  # of one benchmark


def test_as_printed_has_a_row_for_each_benchmark_of_table_7(framed):
    shown = as_printed(framed[7])
    assert shown.columns.tolist() == ["In the paper", "Here", "F1", "published"]
    assert shown["In the paper"].tolist()[:2] == ["SQuAD-v1.1 BioMegatron-345m", "SQuAD-v2.0 BioMegatron-345m"]
    assert len(shown) == 14
    assert shown["published"].tolist()[:2] == ["90.4", "84.2"]


def test_benchmarks_without_negatives_are_named(study, framed):
    assert model_tables.without_negatives(study, framed[1]) == (
        " relations has positive pairs alone, so there precision, recall and F1 are all the accuracy."
    )
    assert model_tables.without_negatives(study, framed[2]) == ""


def test_a_benchmark_has_one_canonical_name():
    several = {"BC5-chem": "BC5CDR-chem", "SQuAD-v1.0": "SQuAD-v1.1", "BioASQ-7b": "BioASQ-7b-factoid", "MRPC": "MRPC"}
    assert {name: published.canonical_benchmark(name) for name in several} == several
    assert published.reason({"BC5-disease": "why"}, "BC5CDR-disease", "else") == "why"
    assert published.reason({"BC5-disease": "why"}, "BC5CDR-chem", "else") == "else"
    assert {"BC5CDR", "BC5-chem", "SQuAD-v2.0", "BioASQ-7b", "CONLL-2003"} <= set(published.known_benchmarks())
