"""Tables 8 and 9: small files counted by hand, the miniature counted another way, and the real benchmarks' numbers."""

import json
import re
from collections import Counter

import pandas as pd
import pytest
import yaml

from biomeg_lib.benchmarks.iob import Sentence
from biomeg_lib.benchmarks.questions import Answer, Question
from biomeg_lib.corpus import documents, miniature
from biomeg_lib.errors import InputError
from biomeg_lib.report import data_tables, published, tables
from biomeg_lib.report.data_tables import CountedSplit, count_benchmarks, count_split, label_bias_table
from biomeg_lib.study import load

PARAMS = {
    "profile": "own",
    "title": "Own",
    "description": "For tests.",
    "seeds": [1],
    "corpora": {
        "a": {"format": "text", "files": ["data/a.txt"]},
        "b": {"format": "text", "files": ["data/b.txt"]},
    },
    "vocabularies": {"letters": {"kind": "wordpiece", "file": "data/x", "lowercase": False}},
    "pretraining": {
        name: {"model": "tiny", "vocabulary": "letters", "corpus": "a", "tokens": 100} for name in ("p", "q")
    },
}
MINIATURE = {
    "chem": {"format": "iob", "files": "ner/chem/{}.tsv", "stands_for": "BC5-chem"},
    "general": {"format": "conll", "files": "ner/general/{}.txt", "stands_for": "CONLL-2003"},
    "relations": {"format": "chemprot", "files": "chemprot/{}_*.tsv", "stands_for": "ChemProt"},
    "pairs": {"format": "mrpc", "files": "mrpc/{}.txt", "stands_for": "MRPC"},
    "bio": {"format": "bioasq", "files": "bioasq/{}.json", "stands_for": "BioASQ-7b-factoid"},
}


def a_study(folder, benchmarks):
    for name in ("params", "notebooks", "data"):
        (folder / name).mkdir()
    path = folder / "params" / "own.yaml"
    path.write_text(yaml.safe_dump(PARAMS | {"benchmarks": benchmarks}, sort_keys=False))
    return load(path)


def asked(question, *answers, impossible=False):
    return Question("1", question, " ".join(answers) or "-", tuple(Answer(text, 0) for text in answers), impossible)


def published_row(number, name):
    return next(row for row in published.TABLES[number].rows if name in row)


@pytest.fixture(scope="module")
def mini(tmp_path_factory):
    """The miniature, and all its kinds of benchmarks counted."""
    folder = tmp_path_factory.mktemp("project")
    entries = {}
    for name, entry in MINIATURE.items():
        locators = {split: f"miniature:{entry['files'].format(split)}" for split in ("train", "test")}
        entries[name] = {"format": entry["format"], "stands_for": entry["stands_for"], **locators}
    entries["squad"] = {"format": "squad", "train": "miniature:squad2/train.json", "test": "miniature:squad/dev.json"}
    study = a_study(folder, entries)
    return miniature.build(study.miniature), count_benchmarks(study)


def test_a_split_of_each_kind_by_hand():
    tags = Sentence(("a", "b", "c", "d"), ("B-X", "I-X", "O", "O")), Sentence(("e", "f"), ("O", "O"))
    ner = count_split("n", "train", "ner", tags, "BC5-chem", documents=3)
    assert (ner.samples, ner.counts) == (5, {"I": 2, "O": 4})
    assert ner.note == "2 sentences and 3 -DOCSTART- lines"
    questions = [
        asked("Who?", "Ann", "ANN", "Bob"),  # two pairs: the annotators agree on Ann
        asked("who?", "Ann"),
        asked("Whose?", "Ann"),
        asked("Why?", impossible=True),
        asked("Where?"),
    ]
    qa = count_split("q", "train", "qa", questions, skipped=7)
    assert (qa.samples, sorted(qa.counts.values())) == (4, [1, 1, 2])
    assert qa.note == "1 of them impossible to answer; 1 without an answer left out; 7 bad records left out"
    classes = CountedSplit("c", "test", "classification", "MRPC", 9, {"1": 6, "0": 3})
    table = label_bias_table([ner, qa, classes])
    assert table.columns.tolist() == [
        *["Task", "Dataset", "Stands for", "Split", "# Samples", "Majority label", "Minority count", "Majority count"],
        *["Bias %", "published # Samples", "published", "note"],
    ]
    rows = table[
        ["Task", "Dataset", "Split", "# Samples", "Majority label", "Minority count", "Majority count", "Bias %"]
    ]
    assert rows.fillna("").to_numpy().tolist() == [
        ["NER", "n", "train", 5, "O", 2, 4, 0.5],
        ["QA", "q", "train", 4, "", 1, 2, 0.5],
        ["CLS", "c", "test", 9, "1", 3, 6, 0.5],
    ]
    assert table["Stands for"].fillna("").tolist() == ["BC5CDR", "", "MRPC"]
    assert table["published # Samples"].tolist()[0] == 5235  # the paper, Table 8
    assert table["published"].tolist()[0] == 0.08
    assert table["published # Samples"].isna().tolist() == [False, True, True]  # a test set has nothing beside it


def test_every_row_of_the_papers_table_can_be_stood_for():
    for task, name, samples, bias in published.TABLES[8].rows:
        kind = {"NER": "ner", "CLS": "classification", "QA": "qa"}[task]
        row = label_bias_table([CountedSplit("x", "train", kind, name, 1, {"O": 2, "I": 1})]).iloc[0]
        assert (row["Task"], row["published # Samples"], row["published"]) == (task, samples, bias)
        line = data_tables.explain(pd.DataFrame([row]))
        assert f"- x, for {name}: 1 samples" in line
        assert "): " in line  # there is a reason


def test_table_8_has_every_row_of_the_paper(tmp_path):
    study = a_study(tmp_path, {}).model_copy(update={"not_run": {"SQuAD-v1.1": "too large"}})
    splits = [
        CountedSplit("chem", "train", "ner", "BC5CDR-chem", 9, {"I": 1, "O": 2}),
        CountedSplit("chem", "test", "ner", "BC5CDR-chem", 9, {"I": 1, "O": 2}),
        CountedSplit("own", "train", "ner", None, 9, {"I": 1, "O": 2}),
        CountedSplit("bio", "train", "qa", "BioASQ-7b-factoid", 9, {("q", "a"): 2, ("q", "b"): 1}),
    ]
    table = data_tables.table8(study, splits)
    assert table.columns.drop("source").tolist() == label_bias_table(splits).columns.tolist()
    ours, missing = table.iloc[:4], table.iloc[4:]
    assert (
        ours.drop(columns="source").astype(object).fillna("").equals(label_bias_table(splits).astype(object).fillna(""))
    )
    assert ours["source"].fillna("").tolist() == ["Table 8, row 2", "", "", "Table 8, row 6"]
    assert missing["Stands for"].tolist() == ["CONLL-2003", "MRPC", "ChemProt", "SQuAD-v1.0"]
    assert missing["# Samples"].isna().all()
    assert missing["note"].tolist() == [*["no benchmark of this profile stands for it"] * 3, "too large"]
    rows = table[table["published"].notna()][["published # Samples", "published", "source"]]
    printed = published.table(8)[["# Samples", "Bias %", "source"]]
    assert rows.sort_values("source").to_numpy().tolist() == printed.to_numpy().tolist()
    assert data_tables.explain(table).count("\n") == 1  # of the two that were counted


def test_questions_without_gold_answers_have_no_bias():
    table = label_bias_table([count_split("q", "test", "qa", [asked("Who?")], "BioASQ-7b")])
    assert table["Bias %"].isna().all()
    assert table["# Samples"].tolist() == [0]
    assert label_bias_table([]).columns.equals(table.columns)


def test_document_starts_are_counted_as_the_reader_finds_them(tmp_path):
    path = tmp_path / "eng.train"
    path.write_bytes(b"-DOCSTART- -X- O O\r\n\r\na NN I-NP O\r\n-DOCSTART-\t-X-\tO\tO\r\nb-DOCSTART- NN O O\r\n")
    assert data_tables.document_starts(path) == 2
    path.write_bytes(b"\xff\n")
    with pytest.raises(InputError, match="expected UTF-8"):
        data_tables.document_starts(path)


def test_the_miniature_as_other_tools_count_it(mini):
    folder, counted = mini
    table = label_bias_table(counted).set_index(["Dataset", "Split"])
    assert len(table) == 12
    for (name, split), row in table.iterrows():
        if name in ("chem", "general"):
            text = (folder / MINIATURE[name]["files"].format(split)).read_text()
            tags = Counter(line.split()[-1][0] for line in text.splitlines() if line and "-DOCSTART-" not in line)
            assert row["Bias %"] == pytest.approx((tags["B"] + tags["I"]) / tags["O"])
            assert row["# Samples"] == len([block for block in text.split("\n\n") if block.strip()])
        if name == "pairs":
            frame = pd.read_csv(folder / f"mrpc/{split}.txt", sep="\t", quoting=3)
            sizes = frame["Quality"].value_counts()
            assert (row["# Samples"], row["Bias %"]) == (len(frame), pytest.approx(sizes.min() / sizes.max()))
    train = table.xs("train", level="Split")
    relations = pd.read_csv(folder / "chemprot/train_relations.tsv", sep="\t", header=None)
    evaluated = relations[relations[2].str.strip() == "Y"].drop_duplicates([0, 4, 5])
    row = train.loc["relations"]
    assert row["Majority label"] == "false"
    assert row["Minority count"] <= len(evaluated)  # those across two sentences are left out
    assert row["Minority count"] > 0.9 * len(evaluated)
    assert row["note"] == ""
    squad = train.loc["squad"]
    every = json.loads((folder / "squad2/train.json").read_text())["data"]
    every = [q for article in every for paragraph in article["paragraphs"] for q in paragraph["qas"]]
    assert squad["# Samples"] == len(every)
    assert squad["note"] == f"{sum(q['is_impossible'] for q in every)} of them impossible to answer"
    factoids = [
        q for q in json.loads((folder / "bioasq/train.json").read_text())["questions"] if q["type"] == "factoid"
    ]
    held = [
        any(re.search(rf"\b{re.escape(name)}\b", one["text"], re.I) for name in pd.Series(q["exact_answer"]).explode())
        for q in factoids
        for one in q["snippets"]
    ]
    assert train.loc["bio", "# Samples"] == sum(held)


def test_repeats_of_the_miniatures_pairs(mini):
    folder, counted = mini
    rows = data_tables.repeats_table(counted)
    assert rows.columns.tolist() == ["Benchmark", "Split", "Repeats", "Pairs"]
    assert rows["Benchmark"].unique().tolist() == ["bio", "squad"]
    every = json.loads((folder / "squad/dev.json").read_text())["data"]
    pairs = Counter(
        pair
        for article in every
        for paragraph in article["paragraphs"]
        for q in paragraph["qas"]
        for pair in {(q["question"].lower(), answer["text"].lower()) for answer in q["answers"]}
    )
    dev = rows[(rows["Benchmark"] == "squad") & (rows["Split"] == "test")]
    assert dict(zip(dev["Repeats"], dev["Pairs"], strict=True)) == Counter(pairs.values())
    table = label_bias_table(counted).set_index(["Dataset", "Split"])
    for (name, split), group in rows.groupby(["Benchmark", "Split"]):
        assert table.loc[(name, split), "Bias %"] == pytest.approx(group["Repeats"].min() / group["Repeats"].max())
    assert data_tables.repeats_table([]).columns.equals(rows.columns)


def test_an_explanation_says_what_agrees_and_what_does_not():
    splits = [
        CountedSplit("mrpc", "train", "classification", "MRPC", 3668, {"1": 2474, "0": 1194}),
        CountedSplit("mrpc-all", "train", "classification", "MRPC", 4076, {"1": 2753, "0": 1323}),
        CountedSplit("five", "train", "qa", "SQuAD-v1.1", 87_599, {("a", "b"): 2, ("c", "d"): 1}),
        CountedSplit("other", "train", "ner", None, 5, {"O": 2, "I": 1}),
        CountedSplit("mrpc", "test", "classification", "MRPC", 10, {"1": 2, "0": 1}),
    ]
    table = label_bias_table(splits)
    lines = data_tables.explain(table).split("\n")
    assert lines[0] == "- mrpc, for MRPC: 3,668 samples (published 3,668), bias 0.483 (published 0.48)."
    assert lines[1].startswith(
        "- mrpc-all, for MRPC: 4,076 samples (published 3,668), bias 0.481 (published 0.48): 3,668"
    )
    assert "GLUE" in lines[1]
    assert "would be 1/2 = 0.50" in lines[2]
    assert "whole training set" not in lines[2]
    assert len(lines) == 3
    assert data_tables.explain(table, generated=True).startswith("The data are generated")
    assert data_tables.explain(table.iloc[3:]) == "No training set here stands for one of Table 8."


def test_words_of_the_corpora_beside_the_papers(tmp_path):
    study = a_study(tmp_path, {})
    with pytest.raises(InputError, match="expected this file, found none"):
        data_tables.corpus_words(study)
    for name, text in (("a", "One two.\nThree.\n\nFour.\n\nFour.\n"), ("b", "Five.\n")):
        path = study.root / "data" / f"{name}.txt"
        path.write_text(text)
        documents.build_corpus([path], "text", study.corpus_directory(name))
    table = data_tables.corpus_words(study)
    assert table.columns.tolist() == ["Model", "PubMed Corpus", "#Words", "published", "source", "note"]
    assert table["Model"].tolist() == ["p, q", "", "BioBERT", "PubMedBERT", "BioMegatron"]
    assert table["#Words"].tolist()[:2] == [4, 1]
    assert table["#Words"].isna().tolist() == [False, False, True, True, True]
    assert table["published"].tolist()[2:] == [4_500_000_000, 16_800_000_000, 6_100_000_000]
    assert data_tables.explain_words(table) == (
        "The largest corpus here has 4 words; the paper's have 4.5 billion to 16.8 billion, "
        "1,125,000,000 to 4,200,000,000 times as many."
    )
    assert data_tables.explain_words(table.iloc[2:]).startswith(
        "No corpus was counted; the paper's have 4.5 billion to"
    )
    path = tables.save(table, study.table("table9"))
    assert re.search(r'^BioBERT,abstracts,,4500000000,"Table 9, row 1",', path.read_text(), re.MULTILINE)
    assert table["note"].ne("").tolist() == [False, False, True, True, True]


REAL = {  # training set -> (format, file, stands for, samples, minority, majority, bias at three decimals)
    "conll2003": ("conll", "ner/conll2003/eng.train", "CONLL-2003", 14_987, 34_043, 169_578, 0.201),
    "bc5cdr-chem": ("iob", "ner/bc5cdr-chem/train.tsv", "BC5-chem", 4_560, 7_103, 111_067, 0.064),
    "bc5cdr-disease": ("iob", "ner/bc5cdr-disease/train.tsv", "BC5-disease", 4_560, 7_100, 111_070, 0.064),
    "mrpc": ("mrpc", "cls/mrpc/msr_paraphrase_train.txt", "MRPC", 4_076, 1_323, 2_753, 0.481),
    "chemprot": ("chemprot-jsonl", "re/chemprot/train.jsonl", "ChemProt", 4_169, 1_909, 2_260, 0.845),
    "xquad": ("squad", "qa/xquad/xquad.en.json", "SQuAD-v1.0", 1_190, 1, 2, 0.5),
    "covid-qa": ("squad", "qa/covid-qa/200423_covidQA.json", "BioASQ-7b", 1_146, 1, 1, 1.0),
}


TINY = {  # the smallest file of each format: test sets, which are not of interest here
    "iob": "a\tO\n",
    "conll": "a O\n",
    "mrpc": "Quality\t#1 ID\t#2 ID\t#1 String\t#2 String\n1\t1\t2\ta\tb\n",
    "chemprot-jsonl": '{"text": "<< a >> [[ b ]]", "label": "AGONIST"}\n',
    "squad": json.dumps({"data": [{"paragraphs": [{"context": "a", "qas": [
        {"id": "1", "question": "a?", "answers": [{"text": "a", "answer_start": 0}]}]}]}]}),
}  # fmt: skip


def test_the_real_benchmarks(shared_data, tmp_path):
    entries = {}
    for name, (format, path, stands_for, *_) in REAL.items():
        (tmp_path / format).write_text(TINY[format])
        files = {"train": str(shared_data / "benchmarks" / path), "test": format}
        entries[name] = {"format": format, **files, "stands_for": stands_for, "skip_bad": name == "covid-qa"}
    counted = [split for split in count_benchmarks(a_study(tmp_path, entries)) if split.split == "train"]
    table = label_bias_table(counted).set_index("Dataset")
    for name, (*_, samples, minority, majority, bias) in REAL.items():
        row = table.loc[name]
        assert (row["# Samples"], row["Minority count"], row["Majority count"]) == (samples, minority, majority), name
        assert round(row["Bias %"], 3) == bias
    assert table.loc["conll2003", "# Samples"] == published_row(8, "CONLL-2003")[2] == 14_987
    assert table.loc["conll2003", "note"] == "14,041 sentences and 946 -DOCSTART- lines"
    assert round(table.loc["mrpc", "Bias %"], 2) == published_row(8, "MRPC")[3] == 0.48
    assert table.loc["chemprot", "Majority label"] == "CPR:4"
    assert table.loc["chemprot", "note"] == "pairs with an evaluated relation alone, no negatives"
    assert table.loc["covid-qa", "note"] == "234 bad records left out"
    repeats = data_tables.repeats_table(counted)
    assert repeats.to_numpy().tolist() == [
        ["xquad", "train", 1, 1184],
        ["xquad", "train", 2, 3],
        ["covid-qa", "train", 1, 1146],
    ]
    assert data_tables.explain(table.reset_index()).count("\n- ") == len(REAL) - 1


def test_what_the_explanations_say_of_the_real_tags(shared_data):
    words = pd.read_csv(
        shared_data / "benchmarks" / REAL["conll2003"][1],
        sep=" ", header=None, quoting=3, skip_blank_lines=True, keep_default_na=False, usecols=[0, 3],
    )  # fmt: skip
    words = words[words[0] != "-DOCSTART-"]
    inside = words[3] != "O"
    assert f"over all words ({inside.mean():.2f})" in data_tables._WHY_BIAS["CONLL-2003"]
    assert f"over words outside ({inside.sum() / (~inside).sum():.2f})" in data_tables._WHY_BIAS["CONLL-2003"]
    chemical, disease = (
        pd.Series((shared_data / "benchmarks" / REAL[name][1]).read_text().splitlines()).str.split("\t").str[1]
        for name in ("bc5cdr-chem", "bc5cdr-disease")
    )
    known = chemical.notna() & disease.notna()
    inside = ((chemical != "O") | (disease != "O"))[known]
    assert f"both together ({inside.sum() / (~inside).sum():.2f})" in data_tables._WHY_BIAS["BC5CDR"]
    published_bias = published_row(8, "ChemProt")[3]
    negatives = published_row(8, "ChemProt")[2] / (1 + published_bias)
    said = f"{negatives * published_bias:,.0f} {negatives:,.0f}"
    assert re.findall(r"(\d+,\d)00", data_tables._WHY_SAMPLES["ChemProt"]) == re.findall(r"(\d+,\d)\d\d", said)
