"""Fine-tuning jobs on the miniature: choices on development, one look at the test set, seeds, reuse."""

import json
import re
from pathlib import Path

import pytest

from biomeg_lib.errors import BiomegError
from biomeg_lib.metrics.entities import entity_scores
from biomeg_lib.predict import load_run
from biomeg_lib.study import Study
from biomeg_lib.tasks.jobs import load_benchmark, require, run_job
from biomeg_lib.training.pretrain import pretrain
from biomeg_lib.training.rundir import read_log


@pytest.fixture(scope="module")
def trained(nano: Study) -> tuple[Study, list[dict]]:
    pretrain(nano, "nano-bio")
    return nano, run_job(nano, nano.jobs()[0])


def test_every_arm_and_seed_has_a_run_of_its_own(trained):
    study, results = trained
    job = study.jobs()[0]
    assert [(r["cell"]["start"], r["seed"]) for r in results] == [
        ("pretrained", 1),
        ("pretrained", 2),
        ("random", 1),
        ("random", 2),
    ]
    for name, result in zip(study.runs(job), results, strict=True):
        folder = study.run_directory("finetune", name)
        assert json.loads((folder / "metrics.json").read_text()) == result
        assert (folder / "state").read_text() == "complete\n"
        params = json.loads((folder / "params.json").read_text())
        assert params["seed"] == result["seed"]
        assert params["encoder"] == json.loads(json.dumps(study.resolved_pretraining("nano-bio")))


def test_the_point_is_the_one_with_the_best_development_f1(trained):
    study, results = trained
    cell = study.cells(study.jobs()[0])[0]
    tried = [
        json.loads((study.run_directory("search", f"{cell.name}.point{n}") / "metrics.json").read_text())
        for n in (1, 2)
    ]
    best = max(tried, key=lambda metrics: metrics["devel_f1"])
    assert results[0]["point"] == results[1]["point"] == best["point"]
    assert "test" not in tried[0]


def test_the_epoch_is_the_best_on_development_and_the_test_set_is_scored_once(trained):
    study, results = trained
    for name, result in zip(study.runs(study.jobs()[0]), results, strict=True):
        log = [record for record in read_log(study.run_directory("finetune", name)) if "eval_f1" in record]
        assert len(log) == 3
        assert result["devel"]["f1"] == max(record["eval_f1"] for record in log)
        assert not any("test" in key for record in log for key in record)


def test_a_fraction_of_the_training_sentences(trained):
    study, results = trained
    data = load_benchmark(study, "chem")
    assert results[0]["sentences"] == round(0.2 * len(data.splits["train"]))


def test_the_kept_weights_give_the_recorded_test_score(trained):
    study, results = trained
    name = study.runs(study.jobs()[0])[0]
    test = load_benchmark(study, "chem").splits["test"]
    tags = load_run(study.run_directory("finetune", name)).tags([sentence.words for sentence in test])
    assert entity_scores([sentence.tags for sentence in test], tags).f1 == results[0]["test"]["f1"]
    with pytest.raises(BiomegError, match="those of the first seed are kept"):
        load_run(study.run_directory("finetune", study.runs(study.jobs()[0])[1]))


def test_deleting_one_run_redoes_it_alone_with_the_same_result(trained):
    study, results = trained
    names = study.runs(study.jobs()[0])
    folders = [study.run_directory("finetune", name) for name in names]
    times = [(folder / "metrics.json").stat().st_mtime_ns for folder in folders]
    for path in folders[2].iterdir():
        path.unlink()
    folders[2].rmdir()
    again = run_job(study, study.jobs()[0])
    now = [(folder / "metrics.json").stat().st_mtime_ns for folder in folders]
    assert [i for i in range(4) if now[i] != times[i]] == [2]
    timed = {"seconds"}
    assert [{k: v for k, v in r.items() if k not in timed} for r in again] == [
        {k: v for k, v in r.items() if k not in timed} for r in results
    ]


def test_what_a_chapter_needs_is_there_or_it_says_what_to_run(trained, fresh):
    require(trained[0], "pretrain", "ner", "classification")
    for kinds, count in {("pretrain",): 1, ("ner",): 4, ("pretrain", "ner", "qa"): 5}.items():
        with pytest.raises(BiomegError) as raised:
            require(fresh, *kinds)
        assert str(raised.value) == (
            f"{count} of the {count} training runs that this chapter reads are missing: "
            "run `make study PROFILE=nano`, then this notebook again"
        )
    result = fresh.run_directory("finetune", fresh.runs(fresh.jobs()[0])[1]) / "metrics.json"
    result.parent.mkdir(parents=True)
    result.write_text("{}")
    with pytest.raises(BiomegError, match="3 of the 4 training runs"):
        require(fresh, "ner")


def test_a_chapter_that_only_reads_never_trains():
    """Only the two notebooks that make runs may: the others would start hours of it by surprise."""
    notebooks = Path(__file__).resolve().parent.parent.parent / "notebooks"
    training = re.compile(r"\b(run_job|train_run|pretrain)\(")
    trains = {path.stem for path in notebooks.glob("*.ipynb") if training.search(path.read_text(encoding="utf-8"))}
    assert trains == {"pretrain", "finetune"}
