"""The arms of tags and labels: figures, test items, remedies, seeds, that they learn, and that they repeat."""

import itertools
import json
from collections import Counter

import numpy as np
import pandas as pd
import pytest
import torch
from arm_cases import (
    BENCHMARKS,
    COUNTED,
    REMEDIES,
    SUFFIXES,
    arm_of,
    check_run,
    make_project,
    trained_run,
)
from safetensors.torch import load_file
from sklearn.metrics import precision_recall_fscore_support
from sklearn.utils.class_weight import compute_class_weight

from biomeg_lib.benchmarks.iob import read_iob
from biomeg_lib.benchmarks.relations import CATEGORIES
from biomeg_lib.errors import InputError
from biomeg_lib.model import CrossEntropy, SelfAdjustingDice
from biomeg_lib.predict import load_run
from biomeg_lib.study import Study
from biomeg_lib.tasks.jobs import load_benchmark


@pytest.fixture(scope="module")
def study(nano: Study, tmp_path_factory: pytest.TempPathFactory) -> Study:
    return make_project(nano, tmp_path_factory.mktemp("arms") / "project")


@pytest.fixture(scope="module")
def tags(study):
    return trained_run(study, "tags.chem.nano-bio.random.word")


@pytest.fixture(scope="module")
def kinds(study):
    return trained_run(study, "kinds.prot.nano-bio.random.markers")


@pytest.fixture(scope="module")
def pairs(study):
    return trained_run(study, "pairs.mrpc.nano-bio.random")


def check_counts(figures, items):
    """Micro F1 from the sums of the items' counts."""
    right, predicted, gold = (int(items[name].sum()) for name in ("true_positive", "predicted", "gold"))
    assert (right, predicted, gold) == tuple(figures[name] for name in ("true_positive", "predicted", "gold"))
    assert figures["f1"] == 2 * right / (predicted + gold)
    assert (items["true_positive"] <= items[["predicted", "gold"]].min(axis=1)).all()


def test_a_run_of_entities(study, tags):
    metrics, items = tags
    check_run(study, metrics, {"labels", "sentences"})
    assert (metrics["labels"], metrics["sentences"]) == (["O", "B-Chemical", "I-Chemical"], 60)
    assert (metrics["devel"].keys(), metrics["test"].keys()) == (COUNTED, COUNTED | {"by_type"})
    assert metrics["test"]["by_type"] == {"Chemical": {key: metrics["test"][key] for key in COUNTED}}
    assert metrics["steps"] == 4 * 8  # batches of 8 of 60 sentences
    assert items["id"].tolist() == [str(number) for number in range(30)]
    check_counts(metrics["test"], items)
    gold = [sum(tag.startswith("B-") for tag in sentence.tags) for sentence in read_iob(study.root / "data/test.tsv")]
    assert items["gold"].tolist() == gold


def test_a_run_of_relations(study, kinds):
    metrics, items = kinds
    check_run(study, metrics, {"labels", "examples", "crossing"})
    assert metrics["labels"] == ["false", *CATEGORIES]
    assert (metrics["devel"].keys(), metrics["test"].keys()) == (COUNTED, COUNTED | {"by_type"})
    assert set(metrics["test"]["by_type"]) <= set(CATEGORIES)
    for key in ("true_positive", "predicted", "gold"):
        assert sum(part[key] for part in metrics["test"]["by_type"].values()) == metrics["test"][key]
    data = load_benchmark(study, "prot")
    assert metrics["examples"] == len(data.splits["train"])
    assert metrics["crossing"] == data.crossing
    assert items["id"].tolist() == [relation.id for relation in data.splits["test"]]
    assert items["gold"].tolist() == [int(relation.label != "false") for relation in data.splits["test"]]
    check_counts(metrics["test"], items)


def test_relations_are_learnt(study, kinds):
    """Better than the F1 of calling everything the commonest relation, by far; and as scikit-learn counts it."""
    metrics, _ = kinds
    data = load_benchmark(study, "prot")
    gold = [relation.label for relation in data.splits["test"]]
    commonest = Counter(label for label in gold if label != "false").most_common(1)[0][1]
    positive = sum(label != "false" for label in gold)
    assert metrics["test"]["f1"] > 2 * commonest / (len(gold) + positive) + 0.15
    run = load_run(study.run_directory("finetune", "kinds.prot.nano-bio.random.markers.seed1"))
    predicted = run.label(data.splits["test"])
    *scores, _ = precision_recall_fscore_support(gold, predicted, labels=list(CATEGORIES), average="micro")
    assert [metrics["test"][key] for key in ("precision", "recall", "f1")] == pytest.approx(scores)


def test_a_run_of_sentence_pairs(study, pairs):
    metrics, items = pairs
    check_run(study, metrics, {"labels", "examples"})
    data = load_benchmark(study, "mrpc")
    assert (metrics["labels"], data.excluded) == (["0", "1"], ("0",))
    assert metrics["examples"] == len(data.splits["train"]) < 400 == metrics["examples"] + len(data.splits["devel"])
    assert items["gold"].tolist() == [int(pair.label) for pair in data.splits["test"]]
    check_counts(metrics["test"], items)


@pytest.mark.parametrize("name", ["tags.chem.nano-bio.random.word", "kinds.prot.nano-bio.random.anonymised"])
def test_remedies_change_the_loss_or_the_batches_and_nothing_else(study, name):
    arms = {remedy: arm_of(study, name + suffix) for remedy, suffix in zip(REMEDIES, SUFFIXES, strict=True)}
    plain = arms["none"]
    assert type(plain.model.criterion) is CrossEntropy
    assert plain.model.criterion.weights is None
    losses = set()
    for remedy, arm in arms.items():
        assert arm.features == plain.features
        assert (arm.epochs == plain.epochs) is (remedy != "oversampled")
        assert [len(epoch) for epoch in arm.epochs] == [len(epoch) for epoch in plain.epochs]
        weights = arm.model.state_dict()
        assert weights.keys() == plain.model.state_dict().keys()
        assert all(torch.equal(weights[key], value) for key, value in plain.model.state_dict().items())
        loss, _ = arm.model.loss(arm.batch(list(range(16))))
        losses.add(round(loss.item(), 6))
    assert len(losses) == 3  # oversampling has the plain one
    assert type(arms["oversampled"].model.criterion) is CrossEntropy
    assert arms["oversampled"].model.criterion.weights is None
    assert type(arms["dice"].model.criterion) is SelfAdjustingDice
    records = plain.data.splits["train"]
    if name.startswith("tags"):
        gold = [tag for sentence in records for tag in sentence.tags]
        shown = [1 + any(tag != "O" for tag in sentence.tags) for sentence in records]
    else:
        gold = [record.label for record in records]
        shown = [Counter(gold).most_common(1)[0][1] / gold.count(record.label) for record in records]
    expected = compute_class_weight("balanced", classes=np.array(plain.data.labels), y=gold)
    assert type(arms["weighted"].model.criterion) is CrossEntropy
    assert arms["weighted"].model.criterion.weights.tolist() == pytest.approx(expected.tolist())
    assert arms["oversampled"].copies() == pytest.approx(shown)


def test_a_remedied_run_takes_as_many_steps(study, tags):
    metrics, items = tags
    for suffix in SUFFIXES[1:]:
        other, others = trained_run(study, f"tags.chem.nano-bio.random.word{suffix}")
        assert {key: other[key] for key in ("steps", "epochs", "sentences", "point", "labels")} == {
            key: metrics[key] for key in ("steps", "epochs", "sentences", "point", "labels")
        }
        assert other["cell"] == {**metrics["cell"], "remedy": suffix[1:]}
        assert others["gold"].tolist() == items["gold"].tolist()
        assert other["tokens"] != metrics["tokens"] or suffix != ".oversampled"


def test_seeds_draw_heads_and_batches_and_no_arm_depends_on_another(study):
    first, second = (arm_of(study, "kinds.prot.nano-bio.random.markers", seed) for seed in (1, 2))
    assert first.epochs != second.epochs
    pairs = zip(first.model.parameters(), second.model.parameters(), strict=True)
    assert not any(torch.equal(one, other) for one, other in pairs if one.dim() > 1)
    torch.rand(3)
    again = arm_of(study, "kinds.prot.nano-bio.random.markers", 1)
    assert again.epochs == first.epochs
    pairs = itertools.zip_longest(first.model.parameters(), again.model.parameters())
    assert all(torch.equal(one, other) for one, other in pairs)
    marked = arm_of(study, "kinds.prot.nano-bio.random.anonymised", 1)
    assert marked.features != first.features
    assert torch.equal(marked.model.classifier.layers[0].weight, first.model.classifier.layers[0].weight)


def test_the_same_run_again_is_the_same(nano, study, tags, pairs, tmp_path):
    other = make_project(nano, tmp_path / "project")
    for name, (metrics, items) in {
        "tags.chem.nano-bio.random.word": tags,
        "pairs.mrpc.nano-bio.random": pairs,
    }.items():
        again, same_items = trained_run(other, name)
        assert {**again, "seconds": 0} == {**metrics, "seconds": 0}
        pd.testing.assert_frame_equal(items, same_items)
        folders = [one.run_directory("finetune", f"{name}.seed1") for one in (study, other)]
        weights = [load_file(folder / "model.safetensors") for folder in folders]
        assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])


def test_what_is_not_right_stops_or_is_counted(nano, tmp_path):
    strict = {name: BENCHMARKS[name] for name in ("open", "asq", "mrpc")}
    strict["mrpc"] = {**strict["mrpc"], "train": "data/pairs.txt"}
    lenient = {name: {**benchmark, "skip_bad": True} for name, benchmark in strict.items()}
    studies = [
        make_project(nano, tmp_path / kind, benchmarks=benchmarks)
        for kind, benchmarks in {"strict": strict, "lenient": lenient}.items()
    ]
    for study in studies:
        squad = json.loads((study.root / "data" / "open.json").read_text())
        question = next(q for q in squad["data"][0]["paragraphs"][0]["qas"] if q["answers"])
        question["answers"][0]["answer_start"] += 1
        (study.root / "data" / "open.json").write_text(json.dumps(squad))
        bioasq = json.loads((study.root / "data" / "asq-test.json").read_text())
        bioasq["questions"][1]["body"] = bioasq["questions"][2]["snippets"] = None
        (study.root / "data" / "asq-test.json").write_text(json.dumps(bioasq))
        lines = (nano.miniature / "mrpc" / "train.txt").read_text(encoding="utf-8").splitlines()
        lines[5] = lines[5].replace("\t", " ")
        (study.root / "data" / "pairs.txt").write_text("\n".join(lines), encoding="utf-8")
    for name, where in {"open": "open.json", "asq": "asq-test.json", "mrpc": "pairs.txt"}.items():
        with pytest.raises(InputError, match=where):
            load_benchmark(studies[0], name)
    skipped = {
        name: arm_of(studies[1], cell, epochs=1).description()["skipped"]
        for name, cell in {
            "open": "open.open.nano-bio.random.direct",
            "asq": "then.asq.nano-bio.random.direct",
            "mrpc": "pairs.mrpc.nano-bio.random",
        }.items()
    }
    assert skipped == {"open": {"train": 1}, "asq": {"test": 2}, "mrpc": {"train": 1}}
