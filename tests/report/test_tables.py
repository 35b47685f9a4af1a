"""Tables: means, intervals and paired differences worked out by hand, and counts by an independent way."""

import json
import math
import os

import pandas as pd
import pytest
import yaml

from biomeg_lib.corpus import documents
from biomeg_lib.errors import InputError
from biomeg_lib.report import published, tables
from biomeg_lib.study import load
from biomeg_lib.vocab import SPECIALS, Vocabulary

PARAMS = {
    "profile": "own",
    "title": "Own",
    "description": "For tests.",
    "seeds": [1, 2, 3],
    "corpora": {"a": {"format": "text", "files": ["data/a.txt"]}},
    "vocabularies": {
        "letters": {"kind": "wordpiece", "file": "data/x", "lowercase": False, "stands_for": "BERT-cased"},
        "whole": {"kind": "wordpiece", "file": "data/x", "lowercase": False},
    },
    "benchmarks": {
        "chem": {split: "data/chem.tsv" for split in ("train", "devel", "test")} | {"stands_for": "BC5-chem"},
        "own": {split: "data/chem.tsv" for split in ("train", "devel", "test")},
    },
    "pretraining": {
        "p": {"model": "tiny", "vocabulary": "letters", "corpus": "a", "tokens": 100},
        "q": {"model": "tiny", "vocabulary": "whole", "corpus": "a", "tokens": 100},
    },
    "ner": {
        "g": {
            "benchmarks": ["chem"],
            "encoders": ["p", "q"],
            "starts": ["pretrained", "random"],
            "labellings": ["piece"],
        }
    },
}
F1 = {  # test F1 of seeds 1, 2, 3
    ("p", "pretrained"): [0.60, 0.62, 0.64],
    ("p", "random"): [0.50, 0.53, 0.56],
    ("q", "pretrained"): [0.70, 0.70, 0.70],
    ("q", "random"): [0.70, 0.70, 0.70],
}
T = 4.302652729911275  # 97.5 % point of Student's t with 2 degrees of freedom


@pytest.fixture
def study(tmp_path):
    """A project in which every run is done: its metrics.json are written by hand."""
    for folder in ("params", "notebooks", "data"):
        (tmp_path / folder).mkdir()
    (tmp_path / "data" / "chem.tsv").write_text("ab\tB-X\nc\tI-X\nd\tO\n\ne\tO\nabc\tB-Y\n")
    (tmp_path / "params" / "own.yaml").write_text(yaml.safe_dump(PARAMS, sort_keys=False))
    study = load(tmp_path / "params" / "own.yaml")
    for job in study.jobs():
        for cell in study.cells(job):
            for seed, f1 in zip(study.seeds, F1[cell.encoder, cell.start], strict=True):
                folder = study.run_directory("finetune", cell.run(seed))
                folder.mkdir(parents=True)
                metrics = {
                    "cell": cell.model_dump(),
                    "seed": seed,
                    "point": {"learning_rate": 0.001, "num_fc_layers": 2, "fc_hidden": 16},
                    "sentences": 7,
                    "test": {"precision": f1 + 0.1, "recall": f1 - 0.1, "f1": f1},
                    "devel": {"precision": 0.5, "recall": 0.5, "f1": 0.25},
                }
                (folder / "metrics.json").write_text(json.dumps(metrics))
    return study


def test_one_row_a_run(study):
    runs = tables.runs(study, "ner")
    assert len(runs) == 12
    first = runs.iloc[0].to_dict()
    assert first.pop("F1") == pytest.approx(60)
    assert first.pop("Prec") == pytest.approx(70)
    assert first.pop("Rec") == pytest.approx(50)
    assert first == {
        **{"grid": "g", "benchmark": "chem", "encoder": "p", "start": "pretrained", "labelling": "piece"},
        **{"remedy": "none", "fraction": 1.0, "model": "tiny", "vocabulary": "letters", "seed": 1, "sentences": 7},
        **{"learning_rate": 0.001, "num_fc_layers": 2, "fc_hidden": 16, "Devel": 25.0},
        "run": "g.chem.p.pretrained.piece.seed1",
    }
    assert tables.runs(study, "ner", ["g.chem.q"])["encoder"].unique().tolist() == ["q"]


def test_a_run_that_is_not_there_is_named(study):
    path = study.run_directory("finetune", "g.chem.q.random.piece.seed2") / "metrics.json"
    path.write_text("{")
    with pytest.raises(InputError, match=r"g\.chem\.q\.random\.piece\.seed2/metrics\.json: expected JSON"):
        tables.runs(study, "ner")
    path.unlink()
    with pytest.raises(InputError, match=r"metrics\.json: expected this file, found none"):
        tables.runs(study, "ner")


def test_means_and_intervals_of_an_arm(study):
    arms = tables.means(tables.runs(study, "ner")).set_index(["encoder", "start"])
    assert len(arms) == 4
    row = arms.loc[("p", "pretrained")]
    half = T * 2 / math.sqrt(3)  # 60, 62, 64 have a standard deviation of 2
    assert (row["F1"], row["F1 low"], row["F1 high"]) == pytest.approx((62, 62 - half, 62 + half))
    assert (row["Prec"], row["Rec"]) == pytest.approx((72, 52))
    assert (row["seeds"], row["sentences"], row["num_fc_layers"]) == (3, 7, 2)
    row = arms.loc[("q", "random")]
    assert (row["F1"], row["F1 low"], row["F1 high"]) == pytest.approx((70, 70, 70))


def test_one_seed_has_no_interval(study):
    runs = tables.runs(study, "ner")
    arms = tables.means(runs[runs["seed"] == 1])
    assert arms["seeds"].tolist() == [1] * 4
    assert arms["F1 low"].isna().all()
    assert arms["F1 high"].isna().all()


def test_differences_are_paired_by_seed(study):
    rows = tables.effects(tables.runs(study, "ner"), "start", "pretrained", "random").set_index("encoder")
    p = rows.loc["p"]  # 10, 9 and 8 points: mean 9, standard deviation 1
    half = T / math.sqrt(3)
    assert (p["Difference"], p["low"], p["high"]) == pytest.approx((9, 9 - half, 9 + half))
    t = 9 * math.sqrt(3)
    assert p["p"] == pytest.approx(1 - t / math.sqrt(2 + t * t))  # Student's t with 2 degrees of freedom, in full
    assert p["seeds"] == 3
    assert p["Factor"] == "start: pretrained - random"
    q = rows.loc["q"]
    assert (q["Difference"], q["low"], q["high"], q["p"]) == (0, 0, 0, 1)


def test_effects_of_the_encoder_and_their_sign(study):
    runs = tables.runs(study, "ner")
    forth = tables.effects(runs, "encoder", "q", "p").set_index("start")["Difference"]
    assert forth.to_dict() == pytest.approx({"pretrained": 8, "random": 17})
    shuffled = runs.sample(frac=1, random_state=1)
    back = tables.effects(shuffled, "encoder", "p", "q").set_index("start")["Difference"]
    assert back.to_dict() == pytest.approx({"pretrained": -8, "random": -17})


def test_no_pairs_are_no_rows(study):
    none = tables.effects(tables.runs(study, "ner"), "labelling", "piece", "word")
    assert (len(none), tables.summary(none)) == (0, "nothing to compare.")
    assert {"benchmark", "Factor", "Difference", "low", "high"} <= set(none.columns)


def test_a_sentence_about_differences(study):
    runs = tables.runs(study, "ner")
    assert tables.summary(tables.effects(runs, "start", "pretrained", "random")) == (
        "+0.0 to +9.0 points of test F1 over 2 settings; the 95 % interval lies above zero in 1 of them and below in 0."
    )
    single = tables.effects(runs[runs["seed"] == 1], "start", "random", "pretrained")
    assert single["low"].isna().all()
    assert tables.summary(single) == (
        "-10.0 to +0.0 points of test F1 over 2 settings; "
        "the 95 % interval lies above zero in 0 of them and below in 0."
    )


def test_exchanging_the_vocabulary(study):
    rates = pd.DataFrame({"Sub-word vocabulary": ["whole", "letters"], "Benchmark": ["chem"] * 2, "Rate": [1.0, 2.0]})
    rows = tables.vocabulary_effects(study, tables.runs(study, "ner"), rates).set_index("start")
    assert rows["Difference"].to_dict() == pytest.approx({"pretrained": -8, "random": -17})
    assert rows["Factor"].tolist() == ["encoder: p - q"] * 2
    assert rows["Rate, first"].tolist() == [2.0, 2.0]
    assert rows["Rate, second"].tolist() == [1.0, 1.0]


def test_one_encoder_has_nothing_to_be_compared_with(study):
    grid = study.ner["g"].model_copy(update={"encoders": ["p"]})
    alone = study.model_copy(update={"ner": {"g": grid}})
    assert len(tables.vocabulary_effects(alone, tables.runs(alone, "ner"), pd.DataFrame())) == 0


def test_columns_of_one_value_are_not_shown(study):
    shown = tables.without_constants(tables.means(tables.runs(study, "ner")))
    assert shown.columns.tolist() == [
        *["encoder", "start", "vocabulary", "Prec", "Rec", "F1", "F1 low", "F1 high", "seeds"]
    ]


def test_break_out_counts_pieces_of_words_inside_entities(study):
    alphabet = [*SPECIALS, *"abcde", *(f"##{letter}" for letter in "abcde")]
    for name, pieces in {"letters": alphabet, "whole": [*alphabet, "abc", "ab"]}.items():
        path = study.root / "data" / f"{name}.txt"
        path.write_text("\n".join(pieces) + "\n")
        Vocabulary.load(path, lowercase=False).save(study.vocabulary_directory(name))
    frame = tables.break_out(study)
    rows = frame[frame["Rate"].notna()]
    # ab, c and abc are inside: 2 + 1 + 3 letters, or three whole words
    assert rows[["Sub-word vocabulary", "Benchmark", "Size", "#tokens", "#words", "Rate"]].to_numpy().tolist() == [
        ["letters", "chem", 15, 6, 3, 2.0],
        ["letters", "own", 15, 6, 3, 2.0],
        ["whole", "chem", 17, 3, 3, 1.0],
        ["whole", "own", 17, 3, 3, 1.0],
    ]
    assert rows["published"].tolist()[0] == 3.012  # the paper, Table 3
    assert rows["published"].isna().tolist() == [False, True, True, True]
    assert rows["source"].tolist()[0] == "Table 3, row 1"
    printed = tables.break_out_as_printed(rows).set_index("Sub-word vocabulary")
    assert printed.columns.tolist() == ["Stands for", "Size", "chem", "chem, published", "own"]
    assert printed[["chem", "own"]].to_numpy().tolist() == [[2.0, 2.0], [1.0, 1.0]]
    assert printed.loc["letters", "chem, published"] == 3.012


def test_table_3_has_every_number_of_the_paper(study):
    for name in study.vocabularies:
        path = study.root / "data" / "letters.txt"
        path.write_text("\n".join([*SPECIALS, "a"]) + "\n")
        Vocabulary.load(path, lowercase=False).save(study.vocabulary_directory(name))
    why = "no text of that size is at hand"
    study = study.model_copy(update={"not_run": {"BioMegatron-bio-50k-cased": why}})
    frame = tables.break_out(study)
    numbers = frame[frame["published"].notna()]
    key = ["published", "source"]
    expected = published.measurements(3)[key].sort_values(key).to_numpy().tolist()
    assert numbers[key].sort_values(key).to_numpy().tolist() == expected
    missing = numbers[numbers["Rate"].isna()]
    assert (missing["note"] != "").all()
    notes = missing.set_index(["Stands for", "Stands for column"])["note"]
    assert notes["BERT-cased", "BC5-disease"] == "no benchmark of this profile stands for BC5-disease"
    assert notes["PubMedBERT-uncased (30k)", "BC5-chem"] == "no vocabulary of this profile stands for it"
    assert notes["BioMegatron-bio-50k-cased", "BC5-chem"] == why
    printed = tables.break_out_as_printed(frame)
    assert printed.columns.tolist() == [
        *["Sub-word vocabulary", "Stands for", "Size", "chem", "chem, published", "own", "BC5-disease, published"],
        "note",
    ]
    last = printed.iloc[-1]
    assert (last["Stands for"], last["note"]) == ("BioMegatron-bio-50k-cased", why)
    assert (last["chem, published"], last["BC5-disease, published"]) == (1.478, 1.116)


def test_benchmarks_are_counted(study):
    rows = tables.benchmarks(study)
    assert rows["Split"].tolist() == ["train", "devel", "test"] * 2
    assert rows.iloc[0].to_dict() == {
        **{"Benchmark": "chem", "Split": "train", "Sentences": 2, "Words": 5, "Entities": 2},
        **{"Words inside entities (%)": 60.0, "Words an entity": 1.5},
    }


def test_corpora_are_counted(study):
    path = study.root / "data" / "a.txt"
    path.write_text("One two.\nThree.\n\nFour.\n\nFour.\n")
    with pytest.raises(InputError, match="expected this file, found none"):
        tables.corpora(study)
    documents.build_corpus([path], "text", study.corpus_directory("a"))
    assert tables.corpora(study).iloc[0].to_dict() == {
        **{"Corpus": "a", "Format": "text", "Files": 1, "Documents": 2, "#Words": 4, "Characters": 8 + 1 + 6 + 5},
        **{"Dropped, empty": 0, "Dropped, repeated": 1},
    }


def test_what_pubmed_revised_and_deleted_is_counted(study):
    records = "".join(
        f"<PubmedArticle><MedlineCitation><PMID>{pmid}</PMID><Article><Abstract><AbstractText>Some words."
        "</AbstractText></Abstract></Article></MedlineCitation></PubmedArticle>"
        for pmid in (1, 1, 2, 3)
    )
    path = study.root / "data" / "p.xml"
    path.write_text(f"<PubmedArticleSet>{records}<DeleteCitation><PMID>2</PMID></DeleteCitation></PubmedArticleSet>")
    (study.root / "data" / "a.txt").write_text("One two.\n")
    study.corpora["b"] = study.corpora["a"].model_copy(update={"format": "pubmed"})
    documents.build_corpus([study.root / "data" / "a.txt"], "text", study.corpus_directory("a"))
    documents.build_corpus([path], "pubmed", study.corpus_directory("b"))
    later = tables.corpora(study).set_index("Corpus")[["Dropped, repeated", "Dropped, revised", "Dropped, deleted"]]
    assert later.to_dict("split")["data"] == [[0, 0, 0], [0, 1, 1]]


def test_pretraining_runs(study):
    for name, loss in (("p", 2.5), ("q", 3.5)):
        folder = study.run_directory("pretrain", name)
        folder.mkdir(parents=True)
        metrics = {"parameters": 9, "tokens": 96, "epochs": 0.5, "heldout_order": 0.7, "heldout_accuracy": 0.125}
        metrics |= {"heldout_mlm": loss, "untrained": {"heldout_mlm": 6.0}}
        (folder / "metrics.json").write_text(json.dumps(metrics))
    rows = tables.pretraining(study)
    assert rows["Run"].tolist() == ["p", "q"]
    assert rows["Masked-LM loss"].tolist() == [2.5, 3.5]
    assert rows["Masked-LM accuracy (%)"].tolist() == [12.5, 12.5]


def test_a_saved_table_is_the_same_again_and_keeps_its_time(study):
    frame = tables.means(tables.runs(study, "ner"))
    path = tables.save(frame, study.table("ner"))
    assert path.read_bytes().count(b"\r") == 0
    os.utime(path, (1, 1))
    tables.save(frame, path)
    assert path.stat().st_mtime == 1
    pd.testing.assert_frame_equal(tables.read(path), frame, rtol=1e-5, check_dtype=False)
    tables.save(frame.assign(seeds=4), path)
    assert path.stat().st_mtime > 1
    with pytest.raises(InputError, match=r"table9\.csv: expected this table, found none; make it"):
        tables.read(study.table("table9"))


def test_provenance_is_text(tmp_path):
    (tmp_path / "environment.json").write_text('{"threads": 2, "commit": "abc", "packages": {"torch": 2}}')
    assert tables.provenance(tmp_path) == {"threads": "2", "commit": "abc", "packages": {"torch": "2"}}
