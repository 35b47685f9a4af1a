"""Runs that start from a checkpoint: what they take from it, what they refuse, and how they are recorded."""

import copy

import pytest
import torch
import yaml
from nano import PARAMS

from biomeg_lib.checkpoints.checkpoint import save
from biomeg_lib.checkpoints.reading import read
from biomeg_lib.checkpoints.weights import load_weights
from biomeg_lib.errors import BiomegError
from biomeg_lib.study import load
from biomeg_lib.tasks.jobs import load_benchmark, make_arm, run_job
from biomeg_lib.training.pretrain import pretrain

BASE = PARAMS["pretraining"]["nano-bio"]
FURTHER = {key: value for key, value in BASE.items() if key != "model"} | {"init_from": "nano-bio", "evaluations": 1}


def with_runs(study, runs, **sections):
    """The study with more pre-training runs, and other sections replaced."""
    params = copy.deepcopy(PARAMS) | sections
    params["pretraining"] = {"nano-bio": {**BASE, "tokens": 8 * 32, "evaluations": 1}, **runs}
    path = study.root / study.params_file
    path.write_text(yaml.safe_dump(params, sort_keys=False))
    return load(path)


def test_no_steps_take_the_weights_as_they_are(fresh):
    study = with_runs(fresh, {"as-it-is": {**FURTHER, "tokens": 0}})
    metrics = pretrain(study, "as-it-is")  # and first what it starts from
    first = study.run_directory("pretrain", "nano-bio")
    config, weights = load_weights(study.run_directory("pretrain", "as-it-is"))
    before_config, before = load_weights(first)
    assert config == before_config
    assert all(torch.equal(weights[name], value) for name, value in before.items())
    assert (metrics["steps"], metrics["tokens"], metrics["evaluations"]) == (0, 0, [])
    assert metrics["heldout_mlm"] == metrics["untrained"]["heldout_mlm"]
    assert metrics["start"]["from"] == "nano-bio"
    assert metrics["start"]["embeddings"] == "as they are"


def test_further_steps_start_where_the_first_run_ended(fresh):
    study = with_runs(fresh, {"further": {**FURTHER, "tokens": 2 * 8 * 32}})
    metrics = pretrain(study, "further")
    first = pretrain(study, "nano-bio")
    assert metrics["untrained"]["heldout_mlm"] == pytest.approx(first["heldout_mlm"], abs=1e-6)
    assert metrics["steps"] == 2


def test_a_checkpoint_without_heads_gets_random_ones_by_the_seed(fresh, tmp_path):
    study = with_runs(fresh, {})
    pretrain(study, "nano-bio")
    whole = read(study.run_directory("pretrain", "nano-bio"))
    encoder = {name: value for name, value in whole.state.items() if name.startswith("encoder.")}
    save(type(whole)(whole.config, encoder, whole.vocabulary, "a test"), tmp_path / "bare")
    runs = {f"seed{seed}": {**FURTHER, "init_from": "bare", "tokens": 0, "seed": seed} for seed in (1, 2)}
    study = with_runs(fresh, runs)
    weights = []
    for name in runs:
        assert pretrain(study, name)["start"]["missing"] == ["mlm", "pooler", "order"]
        weights.append(load_weights(study.run_directory("pretrain", name))[1])
    assert all(torch.equal(weights[0][name], value) for name, value in encoder.items())
    assert not torch.equal(weights[0]["mlm.dense.weight"], weights[1]["mlm.dense.weight"])


def test_random_weights_of_a_checkpoints_shape_and_its_own_are_fine_tuned(fresh):
    grid = {**PARAMS["ner"]["small"], "encoders": ["as-it-is"], "evaluations": 0, "epochs": 1}
    grid["search"] = {"learning_rate": [0.003]}
    study = with_runs(fresh, {"as-it-is": {**FURTHER, "tokens": 0}}, ner={"small": grid}, seeds=[1])
    job = study.jobs()[0]
    results = {result["cell"]["start"]: result for result in run_job(study, job)}
    assert results.keys() == {"pretrained", "random"}
    assert results["random"]["devel"] == {}  # nothing to choose, so nothing was looked at
    data = load_benchmark(study, job.benchmark)
    arms = [make_arm(study, cell, results["random"]["point"], 1, 1, data) for cell in study.cells(job)]
    pretrained, random = (arm.model.encoder.embeddings.word.weight for arm in arms)
    _, weights = load_weights(study.run_directory("pretrain", "as-it-is"))
    assert torch.equal(pretrained, weights["encoder.embeddings.word.weight"])
    assert pretrained.shape == random.shape
    assert not torch.equal(pretrained, random)


def test_another_vocabulary_is_carried_over_and_counted(fresh):
    vocabularies = {**PARAMS["vocabularies"], "small": {"kind": "sentencepiece", "corpus": "pubmed", "size": 200}}
    runs = {
        how: {**FURTHER, "vocabulary": "small", "tokens": 0, "embeddings": how, "length": 16}
        for how in ("carried", "new")
    }
    study = with_runs(fresh, runs, vocabularies=vocabularies)
    carried, new = (pretrain(study, how) for how in ("carried", "new"))
    assert carried["start"]["embeddings"]["shared"] > 100
    assert new["start"]["embeddings"] == {"shared": 0, "averaged": 0, "drawn": 200}
    assert carried["heldout_mlm"] < new["heldout_mlm"]


def test_what_cannot_be_started_from_is_one_line(fresh):
    study = with_runs(fresh, {"lost": {**FURTHER, "init_from": "no/such/path", "tokens": 0}})
    with pytest.raises(BiomegError, match="no/such/path: expected a checkpoint, found no such path"):
        pretrain(study, "lost")
    assert not (study.run_directory("pretrain", "lost") / "metrics.json").exists()


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"model": "nano"}, "either model or init_from"),
        ({"init_from": None}, "either model or init_from"),
        ({"init_from": None, "model": "nano", "tokens": 0}, "tokens above 0"),
        ({"init_from": None, "model": "nano", "embeddings": "new"}, "init_from where embeddings is given"),
        ({"embeddings": "other"}, "'carried' or 'new'"),
        ({"init_from": "further"}, "expected a run that does not start from further itself"),
    ],
)
def test_params_that_contradict_each_other_are_refused(change, expected, fresh):
    with pytest.raises(BiomegError, match=expected):
        with_runs(fresh, {"further": {**FURTHER, **change}})


def test_a_run_without_checkpoint_is_recorded_as_before(nano):
    assert "init_from" not in nano.resolved_pretraining("nano-bio")
    assert "init_from" not in nano.resolved_pretraining("nano-bio")["pretraining"]


def test_what_a_run_starts_from_is_part_of_its_params(fresh):
    study = with_runs(fresh, {"further": FURTHER})
    resolved = study.resolved_pretraining("further")
    assert resolved["init_from"] == study.resolved_pretraining("nano-bio")
