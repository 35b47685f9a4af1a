"""The real sides, tiny and in this process: both compute the same, and what a step is worth, counted another way."""

import mmap
import multiprocessing
import random
from concurrent.futures import ProcessPoolExecutor

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from biomeg_lib import kernels
from biomeg_lib.bench import gpu, peers, pretraining, tagging, texts, waiting
from biomeg_lib.bench.cases import NANO, NANO_TAGGING
from biomeg_lib.bench.harness import check_parity
from biomeg_lib.bench.memory import FamilyPeak, forget_peak, peak_memory, resident_memory
from biomeg_lib.model import ModelConfig, PretrainingModel
from biomeg_lib.model.flops import useful_flops
from biomeg_lib.training.starting import new_model

transformers = pytest.importorskip("transformers")


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    return {"folder": str(tmp_path_factory.mktemp("bench")), "miniature": True, "cores": 1}


def same(make, peer, settings):
    """Parity of both sides, and that both do work."""
    ours, theirs = make("ours", settings), make(peer, settings)
    check_parity(peer, ours.check(), theirs.check())
    assert ours.work(0) == pytest.approx(theirs.work(0))
    check = theirs.check()
    return check


def test_pretraining_of_both_sides_is_the_same_and_learns(shared):
    settings = {**shared, **NANO}
    ours, theirs = (pretraining.make(which, settings) for which in ("ours", "eager, fp32"))
    before, again = ours.check(), theirs.check()
    check_parity("pre-training", before, again)
    assert ours.work(0) == theirs.work(0) == 4 * 32
    for _ in range(20):
        ours.work(0)
        theirs.work(0)
    assert ours.check()["loss"] < before["loss"] - 0.005
    assert theirs.check()["loss"] < before["loss"] - 0.005


def test_a_wrong_weight_is_seen(shared):
    settings = {**shared, **NANO}
    ours, theirs = (pretraining.make(which, settings) for which in ("ours", "eager, fp32"))
    with torch.no_grad():
        theirs.model.bert.encoder.layer[0].output.dense.weight.mul_(1.5)
    with pytest.raises(Exception, match="does not compute the same"):
        check_parity("pre-training", ours.check(), theirs.check())


@pytest.mark.parametrize(("norm", "kind"), [("pre", "MegatronBert"), ("post", "Bert")])
def test_every_weight_has_its_place_under_hugging_faces_names(norm, kind):
    ours = new_model(pretraining.config_of(NANO, norm), 1)
    theirs = peers.hugging_face("PreTraining", ours, "eager" if norm == "pre" else "sdpa")
    assert type(theirs).__name__ == f"{kind}ForPreTraining"
    state = theirs.state_dict()
    assert peers.hugging_face_state(ours.state_dict(), norm).keys() == state.keys()
    assert sum(p.numel() for p in ours.parameters()) == sum(p.numel() for p in theirs.parameters())


def test_megatron_bert_has_no_sdpa_and_says_so_in_one_line():
    ours = new_model(pretraining.config_of(NANO), 1)
    with pytest.raises(peers.BiomegError, match="MegatronBertForPreTraining does not support an attent"):
        peers.hugging_face("PreTraining", ours, "sdpa")


@pytest.mark.parametrize("seed", range(3))
def test_useful_flops_are_those_that_pytorch_counts(seed):
    """Without what the formula leaves out (the pooler), and with the last layer's needless rows taken off."""
    draw = random.Random(seed)
    heads = draw.choice([1, 2, 4])
    hidden = heads * 16
    config = ModelConfig(
        draw.choice([1, 2, 3]), hidden, heads, 128 * draw.randint(1, 3), dropout=0, attention_dropout=0
    )
    batch, length, masked = draw.randint(1, 4), draw.choice([16, 24]), draw.randint(1, 9)
    kernels.use("torch")
    try:
        model = PretrainingModel(config)
        tokens = torch.randint(5, 100, (batch, length))
        rows = torch.cat([torch.arange(masked), torch.arange(0, batch * length, length)])
        # of attention's own kernel for CPUs the counter knows nothing
        with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
            hidden_states = model.encoder(tokens, torch.zeros_like(tokens), torch.ones_like(tokens, dtype=bool), rows)
            logits = model.mlm(hidden_states[:masked], model.encoder.embeddings.word.weight)
            counted = counter.get_total_flops()
        assert logits.shape == (masked, config.vocab_size)
    finally:
        kernels.use("auto")
    # plain attention has queries of all tokens in the last layer, too
    counted -= (batch * length - masked - batch) * (2 * hidden**2 + 4 * length * hidden)
    assert useful_flops(config, batch, length, masked) == pytest.approx(3 * counted)


def test_the_matrix_peak_is_that_of_a_product(monkeypatch):
    monkeypatch.setitem(pretraining.PEAK_SIZE, "cpu", 256)
    assert 1e8 < pretraining.matrix_peak("cpu") < 1e13


@pytest.mark.parametrize("padding", ["padded to 128", "dynamic padding"])
def test_finetuning_of_both_sides_is_the_same(shared, padding):
    settings = {**shared, **NANO_TAGGING}
    assert same(tagging.make_finetune, f"{padding}, fp32", settings)["loss"] > 0


def test_the_peers_batches_are_padded_as_their_name_says(shared):
    widths = {}
    for padding in ("padded to 128", "dynamic padding"):
        side = tagging.make_finetune(f"{padding}, fp32", {**shared, **NANO_TAGGING})
        examples = [{"input_ids": one.tokens, "labels": one.labels} for one in side.features[:8]]
        widths[padding] = side.collate(examples)["input_ids"].shape[1]
        longest = max(len(one.tokens) for one in side.features[:8])
    assert widths == {"padded to 128": 128, "dynamic padding": longest}


def test_prediction_of_both_sides_is_the_same(shared):
    settings = {**shared, **NANO_TAGGING}
    assert same(tagging.make_predict, "batch size 8", settings)["loss"] > 0
    found = tagging.make_predict("ours", settings).recogniser.entities_of_all(["Aspirin is given to patients ."] * 3)
    assert found[0] == found[1] == found[2]


def test_readers_find_the_same_articles(shared):
    pytest.importorskip("pubmed_parser")
    figures = same(texts.make_reader, "pubmed_parser", {**shared, "articles": 3})
    assert figures["articles"] == figures["titles"] == 3


@pytest.mark.parametrize("method", ["encode_batch", "encode_batch_fast"])
def test_tokenizers_give_the_same_ids(shared, method):
    assert same(texts.make_tokenizer, method, {**shared, "characters": 3000, "chunks": 2})["pieces"] > 100


def test_every_round_tokenises_another_text(shared):
    side = texts.make_tokenizer("ours", {**shared, "characters": 3000, "chunks": 3})
    assert len(side.chunks) == 3
    assert not set(side.chunks[0]) & set(side.chunks[1])
    assert side.work(0) == side.work(3) == sum(len(text.encode()) for text in side.chunks[0]) / 1e6


def test_waiting_is_part_of_the_step(shared):
    side = waiting.make("ours", {**shared, **NANO, "steps": 3})
    assert side.work(0) == 3
    waited, step = side.share(0.0)
    assert 0 <= waited <= step


@pytest.mark.parametrize("name", [*gpu.PASSES, "linear-cross-entropy"])
def test_kernels_and_their_peers_compute_the_same(name):
    settings = {"kernel": name, "device": "cpu"}
    ours, theirs = gpu.make("ours", settings), gpu.make("eager", settings)
    check_parity(name, ours.check(), theirs.check())
    assert ours.work(0) == theirs.work(0) > 0


def test_apex_has_no_kernel_for_everything():
    with pytest.raises(peers.BiomegError, match="apex has no kernel for bias-gelu"):
        gpu.make("apex", {"kernel": "bias-gelu", "device": "cpu"})


def test_memory_of_what_was_held_meanwhile():
    before = resident_memory()
    forget_peak()
    with FamilyPeak() as peak, mmap.mmap(-1, 32_000_000) as held:  # not of malloc, which may have memory left
        for place in range(0, len(held), mmap.PAGESIZE):
            held[place] = 1
    assert 30 < peak_memory() - before < 45
    assert peak.grown >= 0


def memory_of_a_step(settings):
    return pretraining.make_memory("ours", settings).value(0)


def test_memory_of_a_step_counts_model_and_optimiser(shared):
    """Weights, gradients and two moments: 16 bytes a parameter, of 256 x 20,000 embeddings 82 MB."""
    settings = {**shared, **NANO, "hidden": 256, "vocabulary": 20_096, "batch": 1}
    # In a new process, as in the benchmark: this one may have room from tests before.
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        figure = pool.submit(memory_of_a_step, settings).result()
    parameters = sum(p.numel() for p in new_model(pretraining.config_of(settings), 1).parameters())
    assert 0.9 < figure / (16 * parameters / 1e6) < 2.0
