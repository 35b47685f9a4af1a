"""The table of what decoding loses: an answer inside a token, a wrong offset, and nothing."""

import json

import pytest
import yaml

from biomeg_lib.report.decoding import WRONG_OFFSET, gold_decoding
from biomeg_lib.study import load
from biomeg_lib.tasks.span_check import INSIDE
from biomeg_lib.vocab import SPECIALS, Vocabulary

CONTEXT = "red ale and tea"


def question(name, text, start):
    return {"id": name, "question": "what ?", "answers": [{"text": text, "answer_start": start}]}


@pytest.fixture
def study(tmp_path):
    for folder in ("params", "notebooks"):
        (tmp_path / folder).mkdir()
    questions = [question("whole", "ale", 4), question("part", "al", 4), question("wrong", "tea", 4)]
    for name, asked in {"some": questions, "good": questions[:1]}.items():
        data = {"data": [{"paragraphs": [{"context": CONTEXT, "qas": asked}]}]}
        (tmp_path / f"{name}.json").write_text(json.dumps(data))
    params = {
        **{"profile": "own", "title": "Own", "description": "For tests.", "seeds": [1]},
        "vocabularies": {"words": {"kind": "wordpiece", "file": "x", "lowercase": False}},
        "benchmarks": {n: {"format": "squad", "train": str(tmp_path / f"{n}.json")} for n in ("some", "good")},
    }
    (tmp_path / "params" / "own.yaml").write_text(yaml.safe_dump(params))
    (tmp_path / "v.txt").write_text("\n".join([*SPECIALS, *CONTEXT.split(), "what", "?"]) + "\n")
    study = load(tmp_path / "params" / "own.yaml")
    Vocabulary.load(tmp_path / "v.txt", lowercase=False).save(study.vocabulary_directory("words"))
    return study


def test_losses_are_listed_by_reason(study):
    frame = gold_decoding(study, "words")
    assert frame["Length"].unique().tolist() == [512, 128]
    some = frame[(frame["Benchmark"] == "some") & (frame["Length"] == 512)].set_index("Reason")
    assert some.index.tolist() == [WRONG_OFFSET, INSIDE]
    assert some["Lost"].tolist() == [1, 1]
    assert some.loc[INSIDE, "Ids"] == "part"
    assert some["Questions"].tolist() == [2, 2]
    assert some["EM"].tolist() == [50, 50]
    good = frame[frame["Benchmark"] == "good"]
    assert good[["Reason", "Lost", "EM", "F1"]].to_numpy().tolist() == [["none", 0, 100, 100]] * 2
