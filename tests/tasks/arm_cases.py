"""A study of all tasks that is trained in seconds, and helpers of the tests of its arms."""

import copy
import json
from pathlib import Path

import nano as small
import pandas as pd
import yaml

from biomeg_lib.benchmarks.iob import read_iob, write_iob
from biomeg_lib.corpus import miniature
from biomeg_lib.study import Study, load
from biomeg_lib.tasks.jobs import choose_point, load_benchmark, make_arm, train_run

COMMON = {"encoders": ["nano-bio"], "starts": ["random"], "dropout": 0.0, "fc_dropout": 0.0, "batch": 8}
SEARCH = {"learning_rate": [0.003], "fc_hidden": [16]}
REMEDIES = ["none", "weighted", "oversampled", "dice"]
SUFFIXES = ["", ".weighted", ".oversampled", ".dice"]  # of names
QUESTIONS = {**COMMON, "search": SEARCH, "length": 160, "stride": 64, "max_question": 24}
OWN = {"train": "data/own.json", "devel": "data/own.json", "test": "data/own.json"}
GRIDS = {
    "ner": {
        "tags": {
            **COMMON,
            **{"benchmarks": ["chem"], "labellings": ["word"], "remedies": REMEDIES, "epochs": 4, "search": SEARCH},
        }
    },
    "classification": {
        "kinds": {
            **COMMON,
            **{"benchmarks": ["prot"], "markings": ["markers", "anonymised"], "remedies": REMEDIES, "epochs": 12},
            **{"evaluations": 2, "length": 64, "search": SEARCH},
        },
        "pairs": {**COMMON, "benchmarks": ["mrpc"], "epochs": 1, "length": 64, "search": SEARCH},
    },
    "qa": {
        "own": {**QUESTIONS, "benchmarks": ["own"], "epochs": 40, "evaluations": 2},
        "open": {**QUESTIONS, "benchmarks": ["open"], "epochs": 3, "evaluations": 3},
        "first": {**QUESTIONS, "benchmarks": ["own"], "epochs": 1},
        "then": {**QUESTIONS, "benchmarks": ["asq"], "epochs": 2, "routes": ["direct", "first"]},
    },
}
BENCHMARKS = {
    "chem": {split: f"data/{split}.tsv" for split in ("train", "devel", "test")},
    "prot": {
        "format": "chemprot",
        **{split: f"miniature:chemprot/{split}_*.tsv" for split in ("train", "devel", "test")},
    },
    "mrpc": {"format": "mrpc", "train": "miniature:mrpc/train.txt", "test": "miniature:mrpc/test.txt"},
    "own": {"format": "squad", **OWN},
    "open": {"format": "squad", "train": "data/open.json", "test": "data/open-test.json"},
    "asq": {"format": "bioasq", "train": "data/asq.json", "test": "data/asq-test.json"},
}
RUN = {"cell", "seed", "point", "devel", "test", "chosen_step", "steps", "epochs", "tokens", "seconds"}
COUNTED = {"precision", "recall", "f1", "true_positive", "predicted", "gold"}
FACTOID = ["strict_accuracy", "lenient_accuracy", "mean_reciprocal_rank"]


def make_data(folder: Path, source: Path) -> None:
    """Some of the miniature: 60, 30 and 30 sentences, a dozen questions of each kind."""
    folder.mkdir()
    for split, count in {"train": 60, "devel": 30, "test": 30}.items():
        write_iob(folder / f"{split}.tsv", read_iob(source / "ner" / "chem" / f"{split}.tsv")[:count])
    squad = json.loads((source / "squad" / "train.json").read_text())
    squad["data"] = [{**squad["data"][0], "paragraphs": squad["data"][0]["paragraphs"][:2]}]
    (folder / "own.json").write_text(json.dumps(squad))
    for name, split in {"open": "train", "open-test": "dev"}.items():
        squad = json.loads((source / "squad2" / f"{split}.json").read_text())
        squad["data"] = [{**article, "paragraphs": article["paragraphs"][:1]} for article in squad["data"][:12]]
        (folder / f"{name}.json").write_text(json.dumps(squad))
    for name, split in {"asq": "train", "asq-test": "test"}.items():
        bioasq = json.loads((source / "bioasq" / f"{split}.json").read_text())
        factoids = [question for question in bioasq["questions"] if question["type"] == "factoid"]
        others = [question for question in bioasq["questions"] if question["type"] != "factoid"]
        for question in factoids:
            question["snippets"].append({**question["snippets"][0], "text": "Of this nothing is known."})
        (folder / f"{name}.json").write_text(json.dumps({"questions": [*factoids[:12], *others[:3]]}))


def make_project(nano: Study, root: Path, **changes: dict) -> Study:
    """A study of all tasks with the vocabulary of the nano study, in a folder of its own."""
    for folder in ("params", "notebooks", "outputs/nano"):
        (root / folder).mkdir(parents=True)
    params = copy.deepcopy({**small.PARAMS, "benchmarks": BENCHMARKS, **GRIDS})
    for key, values in changes.items():
        params[key] = {**params[key], **values}
    (root / "params" / "nano.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    (root / "outputs" / "miniature").symlink_to(miniature.build(nano.miniature))
    (root / "outputs" / "nano" / "vocabularies").symlink_to(nano.outputs / "vocabularies")
    (root / "outputs" / "nano" / "corpora").symlink_to(nano.outputs / "corpora")
    make_data(root / "data", nano.miniature)
    return load(root / "params" / "nano.yaml")


def cell_of(study: Study, name: str):
    return {cell.name: cell for job in study.jobs() for cell in study.cells(job)}[name]


def arm_of(study: Study, name: str, seed: int = 1, epochs: int = 2):
    cell = cell_of(study, name)
    data = load_benchmark(study, cell.benchmark)
    return make_arm(study, cell, study.grids[cell.grid].search.points()[0], seed, epochs, data)


def trained_run(study: Study, name: str, seed: int = 1):
    """The metrics and the test items of a run."""
    cell = cell_of(study, name)
    data = load_benchmark(study, cell.benchmark)
    metrics = train_run(study, cell, choose_point(study, cell, data), seed, data)
    return metrics, read_items(study.run_directory("finetune", cell.run(seed)))


def read_items(folder: Path) -> pd.DataFrame:
    """The items of a run, each number with all its bits."""
    items = pd.read_csv(folder / "items.csv", dtype=str)
    return items.apply(lambda column: column if column.name == "id" else column.map(float))


def check_run(study, metrics, further):
    assert metrics.keys() == RUN | further
    name = cell_of(study, ".".join(str(metrics["cell"][key]) for key in metrics["cell"] if key != "fraction")).run(1)
    assert json.loads((study.run_directory("finetune", name) / "metrics.json").read_text()) == metrics
    assert metrics["epochs"] == study.grids[metrics["cell"]["grid"]].epochs
    assert 0 < metrics["chosen_step"] <= metrics["steps"]
    assert metrics["tokens"] > 0 < metrics["seconds"]
