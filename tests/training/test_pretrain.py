"""Pre-training on the miniature: it learns, it repeats, and kill -9 at any step changes no bit of the result."""

import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from biomeg_lib.corpus.samples import PretrainingSamples
from biomeg_lib.corpus.shards import open_split
from biomeg_lib.errors import InputError
from biomeg_lib.files import read_json, sha256
from biomeg_lib.study import Study
from biomeg_lib.training.pretrain import heldout_figures, load_pretrained, pretrain, spread
from biomeg_lib.training.rundir import read_log
from biomeg_lib.vocab import Vocabulary

# Checkpoints after every step, and each step said aloud, so that the test can choose where to kill.
CHILD = """
import sys, time
from biomeg_lib.study import load
from biomeg_lib.training import rundir
from biomeg_lib.training.pretrain import pretrain
save = rundir.RunDirectory.save_checkpoint
def said(self, state):
    save(self, state)
    print(state["tally"]["step"], flush=True)
rundir.RunDirectory.save_checkpoint = said
pretrain(load(sys.argv[1]), "nano-bio", checkpoint_seconds=0)
"""


@pytest.fixture(scope="module")
def undisturbed(nano: Study) -> Path:
    pretrain(nano, "nano-bio")
    return nano.run_directory("pretrain", "nano-bio")


def test_the_loss_on_held_out_text_falls(nano, undisturbed):
    metrics = pretrain(nano, "nano-bio")
    assert metrics["heldout_mlm"] < metrics["untrained"]["heldout_mlm"] - 0.3
    assert metrics["steps"] == 60
    assert [record["step"] for record in metrics["evaluations"]] == [15, 30, 45, 60]
    assert metrics["evaluations"][-1]["heldout_mlm"] == metrics["heldout_mlm"]
    assert metrics["tokens"] <= 60 * 8 * 32
    assert metrics["parameters"] == sum(p.numel() for p in load_pretrained(nano, "nano-bio").parameters())


def test_kill_9_at_three_random_steps_changes_no_bit(fresh, undisturbed):
    seed = random.randrange(1000)
    steps = sorted(random.Random(seed).sample(range(1, 59), 3))
    folder = fresh.run_directory("pretrain", "nano-bio")
    command = [sys.executable, "-c", CHILD, str(fresh.root / fresh.params_file)]
    for step in steps:
        child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        for line in child.stdout:
            if line.strip().isdigit() and int(line) >= step:
                break
        child.send_signal(signal.SIGKILL)
        child.communicate()
        assert child.returncode == -signal.SIGKILL
        assert (folder / "state").read_text() == "running\n"
        assert not (folder / "metrics.json").exists()
    metrics = pretrain(fresh, "nano-bio")
    assert sha256(folder / "model.safetensors") == sha256(undisturbed / "model.safetensors"), f"seed {seed}: {steps}"
    other = read_json(undisturbed / "metrics.json")
    assert metrics["evaluations"] == other["evaluations"]
    assert read_log(folder) == read_log(undisturbed)


def test_a_complete_run_is_reused(nano, undisturbed):
    before = (undisturbed / "metrics.json").stat().st_mtime_ns
    started = time.monotonic()
    pretrain(nano, "nano-bio")
    assert (undisturbed / "metrics.json").stat().st_mtime_ns == before
    assert time.monotonic() - started < 1


def test_held_out_figures_are_means_over_pieces_and_windows(nano, undisturbed):
    """Against the model's own loss, batch by batch, weighted by hand; the last batch is smaller than the others."""
    model = load_pretrained(nano, "nano-bio")
    vocabulary = Vocabulary.load(nano.vocabulary_directory("bio"))
    prefix = open_split(nano.shards_directory("pubmed", "bio"), "heldout", vocabulary)
    batches = list(PretrainingSamples(prefix, vocabulary, 32, 1).evaluation(6, 16))
    assert [len(batch.tokens) for batch in batches] == [6, 6, 4]
    with torch.inference_mode():
        figures = heldout_figures(model, batches)
        parts = [model.loss(batch)[1] for batch in batches]
        guesses = [model(b.tokens, b.types, b.mask)[0].flatten(0, 1)[b.positions].argmax(-1) for b in batches]
    pieces = [len(batch.labels) for batch in batches]
    mlm = sum(float(part["mlm"]) * n for part, n in zip(parts, pieces, strict=True)) / sum(pieces)
    order = sum(float(part["order"]) * n for part, n in zip(parts, (6, 6, 4), strict=True)) / 16
    right = sum(int((g == b.labels).sum()) for g, b in zip(guesses, batches, strict=True))
    assert figures["heldout_mlm"] == pytest.approx(mlm, rel=1e-5)
    assert figures["heldout_order"] == pytest.approx(order, rel=1e-5)
    assert figures["heldout_accuracy"] == right / sum(pieces)


def test_spread():
    assert spread(10, 5) == {2, 4, 6, 8, 10}
    assert spread(3, 10) == {1, 2, 3}


def test_a_log_that_was_changed_is_refused_when_the_run_goes_on(fresh, monkeypatch):
    calls = []

    def fails_at_the_third(*arguments):
        calls.append(arguments)
        if len(calls) == 3:
            raise RuntimeError("a fault")
        return heldout_figures(*arguments)

    monkeypatch.setattr("biomeg_lib.training.pretrain.heldout_figures", fails_at_the_third)
    with pytest.raises(RuntimeError, match="a fault"):
        pretrain(fresh, "nano-bio", 0.0)
    log = fresh.run_directory("pretrain", "nano-bio") / "metrics.jsonl"
    lines = log.read_text().splitlines(keepends=True)
    record = json.loads(lines[0])
    log.write_text(json.dumps(record | {"tokens": record["tokens"] + 1}) + "\n" + "".join(lines[1:]))
    with pytest.raises(InputError, match=r"metrics.jsonl: expected what was logged up to step \d+, found something"):
        pretrain(fresh, "nano-bio", 0.0)
    log.write_text("".join(lines))
    assert pretrain(fresh, "nano-bio", 0.0)["tokens"] > 0
