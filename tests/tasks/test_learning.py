"""The network learns each task: a small model from random weights gets real training examples right. Minutes long.

`make test-slow` runs this; the default run leaves it out.
"""

import dataclasses
from pathlib import Path

import pytest
import yaml

from biomeg_lib.prepare import ensure_vocabulary
from biomeg_lib.study import Study, load
from biomeg_lib.tasks.classification_arm import ClassificationData
from biomeg_lib.tasks.jobs import load_benchmark, train_run
from biomeg_lib.tasks.question_arm import QuestionData

pytestmark = pytest.mark.slow


@pytest.fixture
def study(tmp_path, shared_data) -> Study:
    """A study of real XQuAD and ChemProt with a vocabulary learned on their own texts."""
    benchmarks = shared_data / "benchmarks"
    params = {
        **{"profile": "learning", "title": "Learning", "description": "For tests.", "seeds": [1], "threads": 2},
        "corpora": {"texts": {"format": "text", "files": [str(tmp_path / "texts.txt")]}},
        "vocabularies": {"own": {"kind": "sentencepiece", "corpus": "texts", "size": 4000}},
        "benchmarks": {
            "xquad": {"format": "squad", "train": str(benchmarks / "qa/xquad/xquad.en.json")},
            "chemprot": {"format": "chemprot-jsonl", "train": str(benchmarks / "re/chemprot/train.jsonl")},
        },
        "pretraining": {"tiny": {"model": "tiny", "vocabulary": "own", "corpus": "texts", "tokens": 1000}},
        "classification": {
            "relations": {
                **{"benchmarks": ["chemprot"], "encoders": ["tiny"], "starts": ["random"], "epochs": 30, "batch": 16},
                **{"evaluations": 1, "dropout": 0.0, "fc_dropout": 0.0, "search": {"learning_rate": [1e-3]}},
            }
        },
        "qa": {
            "questions": {
                **{"benchmarks": ["xquad"], "encoders": ["tiny"], "starts": ["random"], "epochs": 60, "batch": 8},
                **{"length": 384, "evaluations": 1, "dropout": 0.0, "fc_dropout": 0.0},
                "search": {"num_fc_layers": [2], "fc_hidden": [256], "learning_rate": [1e-3]},
            }
        },
    }
    for folder in ("params", "notebooks"):
        (tmp_path / folder).mkdir()
    path = tmp_path / "params" / "learning.yaml"
    path.write_text(yaml.safe_dump(params, sort_keys=False))
    study = load(path)
    texts = [question.context for question in load_benchmark(study, "xquad").splits["train"]]
    texts += [relation.text for relation in load_benchmark(study, "chemprot").splits["train"]]
    Path(tmp_path / "texts.txt").write_text("\n\n".join(dict.fromkeys(texts)))
    return study


def trained(study: Study, data: QuestionData | ClassificationData, count: int) -> dict:
    """The test figures of a run whose three splits are all the first `count` training records."""
    records = data.splits["train"][:count]
    assert len(records) == count
    same = dataclasses.replace(data, splits=dict.fromkeys(("train", "devel", "test"), records), _features={})
    job = study.jobs("qa" if isinstance(data, QuestionData) else "classification")[0]
    (cell,) = study.cells(job)
    ensure_vocabulary(study, "own")
    point = study.grids[job.grid].search.points()[0]
    return train_run(study, cell, point, 1, same)["test"]


def test_200_questions_of_xquad(study):
    f1 = trained(study, load_benchmark(study, "xquad"), 200)["f1"]
    print(f"F1 on 200 training questions of XQuAD: {f1:.3f}")
    assert f1 >= 0.9


def test_500_sentences_of_chemprot(study):
    """Some sentences stand in the file twice with different categories, so that not all can be right."""
    f1 = trained(study, load_benchmark(study, "chemprot"), 500)["f1"]
    print(f"Micro F1 on 500 training sentences of ChemProt: {f1:.3f}")
    assert f1 >= 0.95
