"""`biomeg score` against small gold files whose scores are known, and what it refuses."""

import json
import re

import pytest

from biomeg_lib.cli import main
from biomeg_lib.errors import BiomegError
from biomeg_lib.predict.score import score, told_by

IOB = "A\tB-Chemical\nB\tI-Chemical\n\nC\tO\nD\tB-Gene\n"


def dump(path, value):
    path.write_text(json.dumps(value))
    return path


def dump_lines(path, labels):
    path.write_text("".join(json.dumps({"id": name, "label": label}) + "\n" for name, label in labels.items()))
    return path


@pytest.fixture
def squad(tmp_path):
    """SQuAD 1.1 and 2.0; questions 1 and 2 have answers, in 2.0 question 3 has none."""

    def write(name, **more):
        qas = [
            {"id": 1, "question": "Who?", "answers": [{"text": "the cat", "answer_start": 0}]},
            {"id": "2", "question": "Who?", "answers": [{"text": "sat", "answer_start": 8}]},
        ]
        if name == "2.0":
            qas.append({"id": "3", "question": "Who?", "answers": [], "is_impossible": True})
        paragraph = {"context": "the cat sat", "qas": qas}
        return dump(tmp_path / f"gold{name}.json", {"data": [{"paragraphs": [paragraph]}], **more})

    return write


@pytest.fixture
def bioasq(tmp_path):
    def write(name, *answers):
        kinds = ("factoid", "factoid", "list", "yesno", "summary")
        questions = [
            {
                "id": f"{number:024x}",
                "body": "Who?",
                "type": kind,
                "snippets": [{"text": "a", "document": "b"}],
                **({} if answer is None else {"exact_answer": answer}),
            }
            for number, (kind, answer) in enumerate(zip(kinds, answers, strict=True))
            if answer != "absent"
        ]
        return dump(tmp_path / name, {"questions": questions})

    return write


def test_entities(tmp_path, capsys):
    gold, predictions = tmp_path / "gold.tsv", tmp_path / "predictions.conll"
    gold.write_text(IOB)
    predictions.write_text("A x B-Chemical\nB x I-Chemical\n\nC x B-Gene\nD x O\n")
    report = score(gold, predictions)
    both = {"precision": 50.0, "recall": 50.0, "F1": 50.0, "right": 1, "predicted": 2, "gold": 2}
    assert report.scores["all"] == both
    assert (report.scores["Chemical"]["F1"], report.scores["Gene"]["F1"]) == (100.0, 0.0)
    assert main(["score", str(gold), str(predictions)]) == 0
    out, err = capsys.readouterr()
    assert out.splitlines()[0] == "all: precision 50.00, recall 50.00, F1 50.00, right 1, predicted 2, gold 2"
    assert err == ""


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("A\tO\nB\tO\n", "expected 2 sentences as in .*gold.tsv, found 1"),
        (IOB + "\nE\tO\n", "expected 2 sentences as in .*gold.tsv, found 3"),
        (IOB.replace("D\t", "E\t"), "sentence 2: expected the word 'D' as in .*gold.tsv, found 'E'"),
        (IOB.replace("B\tI-Chemical\n", ""), "sentence 1: expected 2 words as in .*gold.tsv, found 1"),
    ],
)
def test_entities_of_another_text(tmp_path, text, says):
    (tmp_path / "gold.tsv").write_text(IOB)
    (tmp_path / "own.tsv").write_text(text)
    with pytest.raises(BiomegError, match=f"own.tsv: {says}"):
        score(tmp_path / "gold.tsv", tmp_path / "own.tsv")
    with pytest.raises(BiomegError, match="expected no --skip-bad for entities"):
        score(tmp_path / "gold.tsv", tmp_path / "own.tsv", skip_bad=True)


def test_relations(tmp_path):
    gold = tmp_path / "gold.jsonl"
    labels = ["INHIBITOR", "INHIBITOR", "AGONIST", "SUBSTRATE"]
    gold.write_text("".join(json.dumps({"text": "<< A >> [[ B ]]", "label": label}) + "\n" for label in labels))
    found = {"gold.jsonl:1": "CPR:4", "gold.jsonl:2": "CPR:3", "gold.jsonl:3": "false", "other": "CPR:3"}
    predictions = dump_lines(tmp_path / "own.jsonl", found)
    with pytest.raises(BiomegError, match=r"own.jsonl: expected a prediction for 'gold.jsonl:4' of .*gold.jsonl, "):
        score(gold, predictions)
    report = score(gold, predictions, skip_bad=True)
    assert report.scores["all"] == {
        "precision": 50.0,
        "recall": 25.0,
        "F1": pytest.approx(100 / 3),
        "right": 1,
        "predicted": 2,
        "gold": 4,
    }
    assert report.notes == ["without a prediction: 1, the first: 'gold.jsonl:4'; scored as the official tool does"]
    dump_lines(predictions, {**found, "gold.jsonl:4": "SUBSTRATE"})
    with pytest.raises(BiomegError, match=r"own.jsonl:5: expected a label of false, CPR:3, .* found 'SUBSTRATE'"):
        score(gold, predictions)
    assert len(score(gold, predictions, skip_bad=True).notes) == 2


def test_relations_of_tables_are_told_by_any_of_them(study, tmp_path):
    folder = study.miniature / "chemprot"
    for part in ("abstracts", "entities", "relations"):
        assert told_by(folder / f"test_{part}.tsv") == "relation"
        with pytest.raises(BiomegError, match=r"own.jsonl: expected a prediction for '[^']*\.T"):
            score(folder / f"test_{part}.tsv", dump_lines(tmp_path / "own.jsonl", {"a": "CPR:3"}))


def test_pairs(tmp_path):
    rows = "".join(f"{label}\t{number}\t9\tOne .\tTwo .\n" for number, label in enumerate([1, 1, 0, 0]))
    gold = tmp_path / "gold.txt"
    gold.write_text("Quality\t#1 ID\t#2 ID\t#1 String\t#2 String\n" + rows)
    predictions = dump_lines(tmp_path / "own.jsonl", {"0.9": "1", "1.9": "0", "2.9": "0", "3.9": "1"})
    figures = score(gold, predictions).scores["all"]
    assert (figures["F1"], figures["accuracy"], figures["gold"]) == (50.0, 50.0, 2)
    dump_lines(predictions, {"0.9": "1", "1.9": "1", "2.9": "0"})
    figures = score(gold, predictions, skip_bad=True).scores["all"]
    assert (figures["F1"], figures["accuracy"]) == (100.0, 100.0)


def test_squad_1(tmp_path, squad):
    predictions = dump(tmp_path / "own.json", {"1": "Cat!", "2": "cat sat", "x": 7})
    report = score(squad("1.1", version="1.1"), predictions)
    assert report.scores == {"all": {"exact match": 50.0, "F1": pytest.approx(100 * (1 + 2 / 3) / 2), "questions": 2}}
    assert report.notes == ["scored as SQuAD 1.1"]
    dump(predictions, {"1": "Cat!"})
    with pytest.raises(BiomegError, match=r"own.json: expected a prediction for '2' of .*gold1.1.json, found none"):
        score(squad("1.1"), predictions)
    report = score(squad("1.1"), predictions, skip_bad=True)
    assert report.scores["all"] == {"exact match": 50.0, "F1": 50.0, "questions": 2}
    assert "without a prediction: 1, the first: '2'; scored as the official tool does" in report.notes


def test_squad_2(tmp_path, squad):
    predictions = dump(tmp_path / "own.json", {"1": "cat", "2": "", "3": ""})
    report = score(squad("2.0"), predictions)
    assert report.scores == {
        "all": {"exact match": pytest.approx(200 / 3), "F1": pytest.approx(200 / 3), "questions": 3},
        "answerable": {"exact match": 50.0, "F1": 50.0, "questions": 2},
        "unanswerable": {"exact match": 100.0, "F1": 100.0, "questions": 1},
    }
    assert score(squad("1.1", version="v2.0"), predictions).notes == ["scored as SQuAD 2.0"]
    dump(predictions, {"1": "cat", "2": ["sat"]})
    with pytest.raises(BiomegError, match=r"own.json: expected text as the answer to '2', found a list"):
        score(squad("2.0"), predictions)
    report = score(squad("2.0"), predictions, skip_bad=True)
    assert report.scores["all"] == {"exact match": 100.0, "F1": 100.0, "questions": 1}
    assert [note.split(":")[0] for note in report.notes] == [
        "without a prediction",
        "scored as SQuAD 2.0",
        "bad records left out",
    ]


GOLD = (["a", "A1"], ["b"], [["c"], ["d", "e"]], "yes", None)


def test_bioasq(tmp_path, bioasq):
    gold = bioasq("gold.json", *GOLD)
    report = score(gold, bioasq("own.json", [["A"]], [["x"], ["B"]], [["e"], ["x"]], "no", None))
    assert report.scores == {
        "factoid": {
            "strict accuracy": 50.0,
            "lenient accuracy": 100.0,
            "mean reciprocal rank": 75.0,
            "questions": 2,
        },
        "list": {"precision": 50.0, "recall": 50.0, "F1": 50.0, "questions": 1},
        "yesno": {"accuracy": 0.0, "macro F1": 0.0, "F1 yes": 0.0, "F1 no": 0.0, "questions": 1},
    }
    assert report.notes == []


@pytest.mark.parametrize(
    ("answers", "says"),
    [
        ((None, [["b"]], [["c"]], "yes", None), "a prediction for '000000000000000000000000' of .*gold.json, found"),
        ((["a"], "absent", [["c"]], "yes", None), "a prediction for '000000000000000000000001' of .*gold.json, found"),
        ((["a"], ["b"], [["c"]], "absent", None), "a prediction for '000000000000000000000003' of .*gold.json, found"),
    ],
)
def test_bioasq_without_an_answer(bioasq, answers, says):
    gold, own = bioasq("gold.json", *GOLD), bioasq("own.json", *answers)
    with pytest.raises(BiomegError, match=f"own.json: expected {says}"):
        score(gold, own)
    report = score(gold, own, skip_bad=True)
    assert report.scores["factoid"]["questions"] == 2
    assert report.notes[0].startswith("without a prediction: 1")
    values = [value for figures in report.scores.values() for name, value in figures.items() if "strict" in name]
    assert values == [100.0 if answers[3] == "absent" else 50.0]


def test_bioasq_with_an_answer_of_another_kind(tmp_path, bioasq):
    gold = bioasq("gold.json", *GOLD)
    own = bioasq("own.json", [["a"]], [["b"]], [["c"]], "yes", None)
    content = json.loads(own.read_text())
    for question in content["questions"]:
        del question["type"]
    content["questions"][0]["exact_answer"] = "yes"
    dump(own, content)
    with pytest.raises(BiomegError, match=r"expected a list of answers for the factoid question 0{24}, found 'yes'"):
        score(gold, own)
    assert len(score(gold, own, skip_bad=True).notes) == 2


@pytest.mark.parametrize(
    ("name", "text", "task"),
    [
        ("a.tsv", IOB, "ner"),
        ("entities.tsv", "\n\n" + IOB, "ner"),
        ("a.txt", "-DOCSTART- -X- O O\n\nA x y O\n", "ner"),
        ("a.txt", '{"text": "a"}\n', "relation"),
        ("a.json", '{"data": []}', "squad"),
        ("a.json", '\ufeff{"questions": []}', "bioasq"),
    ],
)
def test_a_file_tells_its_task(tmp_path, name, text, task):
    (tmp_path / name).write_text(text)
    assert told_by(tmp_path / name) == task


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("a.txt", "A x y O\n", "expected a file that tells its task, found 'A x y O'; give --task"),
        ("a.json", "{}", "expected JSON of SQuAD (with data) or BioASQ (with questions), found neither"),
        ("a.json", '{"data": [], "questions": []}', "expected JSON of SQuAD (with data) or BioASQ"),
        ("a.json", "{", "expected JSON, found at column 2"),
    ],
)
def test_a_file_that_does_not(tmp_path, capsys, name, text, says):
    (tmp_path / name).write_text(text)
    assert main(["score", str(tmp_path / name), "own"]) == 1
    assert re.search(re.escape(says), capsys.readouterr().err)


def test_a_wrong_task_is_one_line(tmp_path, capsys, squad):
    (tmp_path / "gold.tsv").write_text(IOB)
    for task, gold in [
        ("squad", "gold.tsv"),
        ("bioasq", "gold2.0.json"),
        ("relation", "gold.tsv"),
        ("pairs", "gold.tsv"),
    ]:
        squad("2.0")
        assert main(["score", str(tmp_path / gold), str(tmp_path / "own.json"), "--task", task]) == 1
        assert len(capsys.readouterr().err.splitlines()) == 1
