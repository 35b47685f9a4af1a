"""Curves and compute of pre-training runs: against PyTorch's own counter, and against files written by hand."""

import json

import pytest
import torch
import yaml
from torch.utils.flop_counter import FlopCounterMode

from biomeg_lib.checkpoints.weights import save_weights
from biomeg_lib.model import ModelConfig, config_for, count_parameters
from biomeg_lib.report import scaling
from biomeg_lib.study import load

ENCODER = {"model": "s", "vocabulary": "v", "corpus": "a", "batch": 4, "length": 32}
PARAMS = {
    "profile": "own",
    "title": "Own",
    "description": "For tests.",
    "seeds": [1, 2],
    "corpora": {"a": {"format": "text", "files": ["data/a.txt"]}},
    "vocabularies": {"v": {"kind": "wordpiece", "file": "data/x", "lowercase": False}},
    "benchmarks": {"chem": {"train": "data/x"}},
    "models": {"s": {"layers": 2, "hidden": 16, "heads": 2}},
    "pretraining": {
        "whole": {**ENCODER, "tokens": 12_800},
        "half": {**ENCODER, "tokens": 6_400},
        "other": {**ENCODER, "tokens": 12_800, "learning_rate": 0.5},
        "further": {**ENCODER, "model": None, "init_from": "whole", "tokens": 1_280},
        "untouched": {**ENCODER, "model": None, "init_from": "whole", "tokens": 0},
    },
    "ner": {
        "full": {
            **{"benchmarks": ["chem"], "encoders": ["whole", "half", "other"], "starts": ["pretrained", "random"]},
            **{"labellings": ["piece", "word"], "remedies": ["none", "dice"]},
        }
    },
}
CONFIG = ModelConfig(layers=2, hidden=16, heads=2, vocab_size=128)


@pytest.fixture
def study(tmp_path):
    for name in ("params", "notebooks"):
        (tmp_path / name).mkdir()
    (tmp_path / "params" / "own.yaml").write_text(yaml.safe_dump(PARAMS, sort_keys=False))
    made = load(tmp_path / "params" / "own.yaml")
    for number, (name, spec) in enumerate(made.pretraining.items()):
        folder = made.run_directory("pretrain", name)
        folder.mkdir(parents=True)
        save_weights(folder, CONFIG, {"a": torch.zeros(1)})
        metrics = {"tokens": spec.tokens, "parameters": 1000, "seconds": 10.0, "heldout_mlm": 5.0 + number}
        (folder / "metrics.json").write_text(json.dumps(metrics))
        lines = [
            {"step": 1, "tokens": spec.tokens // 2, "eval_heldout_mlm": 6.0},
            {"step": 2, "tokens": 1, "loss": 1.0},
        ]
        (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    for job in made.jobs():
        for cell in made.cells(job):
            for seed in made.seeds:
                folder = made.run_directory("finetune", cell.run(seed))
                folder.mkdir(parents=True)
                scores = dict.fromkeys(("precision", "recall", "f1"), 0.5 + 0.1 * (cell.encoder == "whole"))
                result = {"point": {"num_fc_layers": 1}, "test": scores, "devel": {}}
                (folder / "metrics.json").write_text(json.dumps(result))
    return made


def test_operations_are_those_of_the_step(study):
    # products of matrices alone, counted by PyTorch on a dense layer of each kind
    with FlopCounterMode(display=False) as counter:
        x = torch.randn(4 * 32, 16, requires_grad=True)
        torch.nn.Linear(16, 16, bias=False)(x).sum().backward()
    assert counter.get_total_flops() == 3 * 2 * 4 * 32 * 16 * 16
    rows = scaling.runs(study).set_index("Run")
    each = scaling.flops_a_token(CONFIG, 4, 32)
    assert rows.loc["whole", "TFLOP"] == pytest.approx(12_800 * each / 1e12)
    assert rows.loc["whole", "Tokens/s"] == 1_280
    assert rows.loc["whole", "GFLOP/s"] == pytest.approx(1_280 * each / 1e9)
    # two blocks of 12 H^2 weights are the least that a token goes through, forward and backward
    assert 6 * 12 * 16**2 < each < 6 * count_parameters(CONFIG)


def test_a_run_without_steps_cost_nothing_and_is_no_row(study):
    assert list(scaling.runs(study)["Run"]) == ["whole", "half", "other", "further"]


def test_curves_are_of_runs_from_scratch_and_of_evaluations(study):
    curves = scaling.curves(study)
    assert list(curves["Run"]) == ["whole", "half", "other"]
    assert list(curves["Tokens"]) == [6_400, 3_200, 6_400]


def test_scores_over_budgets_of_one_encoder(study):
    scores = scaling.downstream(study)
    assert set(scores["Tokens"]) == {0, 6_400, 12_800}
    assert set(scores["encoder"]) == {"whole", "half"}  # the other one has another learning rate
    assert set(scores["run"].str.split(".").str[4]) == {"piece"}
    assert scores[scores["Tokens"] == 12_800]["F1"].tolist() == pytest.approx([60, 60])


def test_the_paper_is_counted_by_its_words(study):
    rows = scaling.beside_the_paper(study).set_index("Model")
    assert rows.loc["whole", "times"] == 1
    large = rows.loc["BioMegatron-1.2b (paper)"]
    assert large["#Parameters"] == count_parameters(config_for("1.2b", 29_056))
    # 6 N D but for the embeddings, attention, and a vocabulary that only masked tokens see
    assert large["EFLOP"] == pytest.approx(6 * 1.21e9 * 6.1e9 / 1e18, rel=0.25)
    assert large["times"] == pytest.approx(large["EFLOP"] / rows.loc["whole", "EFLOP"])
