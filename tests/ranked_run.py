"""A pre-training run of the nano study that several ranks do, and fixture `prepared`: the same run of one process."""

import copy
import shutil
from pathlib import Path

import nano
import pytest
import torch
import yaml
from safetensors.torch import load_file

from biomeg_lib import prepare
from biomeg_lib.files import read_json
from biomeg_lib.study import Study, load
from biomeg_lib.training import pretrain
from biomeg_lib.training.rundir import read_log

RUN, STEPS = "nano-bio", 40


def write_params(root: Path, **parallel: int) -> Study:
    values = copy.deepcopy(nano.PARAMS)
    values["models"]["nano"] = {"layers": 2, "hidden": 64, "heads": 4}
    values["pretraining"][RUN] |= {"dropout": 0.0, "learning_rate": 1e-4, "tokens": STEPS * 8 * 32, "evaluations": 2}
    if parallel:
        values["pretraining"][RUN]["parallel"] = parallel
    (root / "params" / "nano.yaml").write_text(yaml.safe_dump(values, sort_keys=False))
    return load(root / "params" / "nano.yaml")


@pytest.fixture(scope="session")
def prepared(tmp_path_factory) -> Path:
    """A project with shards, and a run of one process from its first step to its last."""
    root = tmp_path_factory.mktemp("ranks")
    for folder in ("params", "notebooks"):
        (root / folder).mkdir()
    study = write_params(root)
    prepare.ensure_shards(study, "pubmed", "bio")
    pretrain.pretrain(study, RUN)
    (root / "outputs" / "nano" / "runs").rename(root / "alone")
    return root


def run_of(root: Path) -> Path:
    return root / "outputs" / "nano" / "runs" / "pretrain" / RUN


def copied(prepared: Path, folder: Path) -> Path:
    shutil.copytree(prepared, folder, ignore=shutil.ignore_patterns("alone"))
    return folder


def weights(run: Path) -> dict[str, torch.Tensor]:
    """Without the biases of keys, whose gradient is rounding alone (see test_parallel_plan)."""
    found = load_file(run / "model.safetensors")
    for name in [name for name in found if name.endswith("qkv.bias")]:
        query, _, value = found[name].chunk(3)
        found[name] = torch.cat([query, value])
    return found


def check_as_alone(prepared: Path, root: Path) -> None:
    alone, run = prepared / "alone" / "pretrain" / RUN, run_of(root)
    ours, theirs = read_json(run / "metrics.json"), read_json(alone / "metrics.json")
    same = ("heldout_mlm", "heldout_order", "tokens", "epochs", "parameters", "steps", "heldout_accuracy")
    assert {key: ours[key] for key in same} == pytest.approx({key: theirs[key] for key in same}, rel=1e-5)
    found, expected = read_log(run), read_log(alone)
    assert [record["step"] for record in found] == [record["step"] for record in expected]
    losses, alones = ([record["loss"] for record in records if "loss" in record] for records in (found, expected))
    assert losses == pytest.approx(alones, rel=1e-5)
    expected_weights = weights(alone)
    for name, value in weights(run).items():
        torch.testing.assert_close(value, expected_weights[name], rtol=0, atol=1e-5, msg=name)
    assert not (run / "checkpoints").exists()
    assert not (run / "checkpoint.pt").exists()
