"""Runs of every task, from random weights: the least that can be fine-tuned, made once for all tests of predictions."""

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from biomeg_lib.study import Study, load
from biomeg_lib.tasks.jobs import run_job

GRID = {
    "encoders": ["nano-bio"],
    "starts": ["random"],
    "epochs": 6,
    "batch": 8,
    "evaluations": 2,
    "dropout": 0.0,
    "fc_dropout": 0.0,
    "search": {"learning_rate": [0.01]},
}
ANSWERS = {
    **GRID,
    "length": 96,
    "stride": 64,
    "max_question": 24,
    "max_answer": 10,
    "n_best": 5,
    "epochs": 1,
    "evaluations": 1,
}
BENCHMARKS = {
    "relations": {"format": "chemprot", **{split: f"miniature:chemprot/{split}_*.tsv" for split in ("train", "test")}},
    "mrpc": {"format": "mrpc", **{split: f"miniature:mrpc/{split}.txt" for split in ("train", "test")}},
    "squad2": {"format": "squad", "train": "miniature:squad2/train.json", "test": "miniature:squad2/dev.json"},
    "bioasq": {"format": "bioasq", **{split: f"miniature:bioasq/{split}.json" for split in ("train", "test")}},
}
TASKS = {
    "ner": {"entities": {**GRID, "benchmarks": ["chem"], "labellings": ["piece"]}},
    "classification": {
        "marked": {**GRID, "benchmarks": ["relations"], "fraction": 0.2, "markings": ["markers", "anonymised"]},
        "same": {**GRID, "benchmarks": ["mrpc"], "fraction": 0.3},
    },
    "qa": {
        "squad2": {**ANSWERS, "benchmarks": ["squad2"], "fraction": 0.05},
        "bioasq": {**ANSWERS, "benchmarks": ["bioasq"], "fraction": 0.3},
    },
}


@pytest.fixture(scope="session")
def study(nano: Study, tmp_path_factory: pytest.TempPathFactory) -> Study:
    """The nano study with grids of all tasks, and nothing trained."""
    root = tmp_path_factory.mktemp("predict")
    for name in ("params", "notebooks", "outputs/nano"):
        (root / name).mkdir(parents=True)
    (root / "outputs" / "miniature").symlink_to(nano.miniature)
    for name in ("corpora", "vocabularies", "shards"):
        (root / "outputs" / "nano" / name).symlink_to(nano.outputs / name)
    params = yaml.safe_load((nano.root / nano.params_file).read_text())
    params |= {"seeds": [1], "benchmarks": params["benchmarks"] | BENCHMARKS, **TASKS}
    (root / "params" / "nano.yaml").write_text(yaml.safe_dump(params))
    return load(root / "params" / "nano.yaml")


@pytest.fixture(scope="session")
def run_of(study: Study) -> Callable[..., Path]:
    """Grid -> the folder of its first run, or of the one with a word in its name; trained when first asked for."""

    def folder(grid: str, word: str = "") -> Path:
        (job,) = (job for job in study.jobs() if job.grid == grid)
        run_job(study, job)
        return next(study.run_directory("finetune", name) for name in study.runs(job) if word in name)

    return folder
