"""The pre-training heads: positions, losses, and the tied decoder."""

import math

import pytest
import torch
import torch.nn.functional as F

from biomeg_lib.model import ModelConfig, PretrainingModel

SHAPE = {"layers": 2, "hidden": 64, "heads": 4, "vocab_size": 96, "max_length": 32}


def config(norm="pre", **changes) -> ModelConfig:
    return ModelConfig(**(SHAPE | {"dropout": 0.0, "attention_dropout": 0.0} | changes), norm=norm)


@pytest.mark.parametrize("norm", ["pre", "post"])
def test_positions_equal_the_full_path(norm, batch):
    torch.manual_seed(0)
    model = PretrainingModel(config(norm, init_std=0.2))
    full, order = model(batch.tokens, batch.types, batch.mask)
    some, same_order = model(batch.tokens, batch.types, batch.mask, batch.positions)
    assert some.shape == (len(batch.positions), 96)
    torch.testing.assert_close(some, full.flatten(0, 1)[batch.positions], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(order, same_order, atol=1e-5, rtol=1e-5)

    loss, parts = model.loss(batch)
    expected = F.cross_entropy(full.flatten(0, 1)[batch.positions], batch.labels), F.cross_entropy(order, batch.order)
    torch.testing.assert_close((parts["mlm"], parts["order"]), tuple(part.detach() for part in expected))
    weights = list(model.parameters())
    ours, wanted = torch.autograd.grad(loss, weights), torch.autograd.grad(sum(expected), weights)
    torch.testing.assert_close(ours, wanted, atol=1e-5, rtol=1e-4)


def test_loss_of_fresh_weights_is_that_of_guessing(batch):
    torch.manual_seed(0)
    _, parts = PretrainingModel(config()).loss(batch)
    assert parts["mlm"].item() == pytest.approx(math.log(96), abs=0.1)
    assert parts["order"].item() == pytest.approx(math.log(2), abs=0.05)
    assert not any(part.requires_grad for part in parts.values())


def test_nothing_masked_is_no_loss(batch):
    batch.positions, batch.labels = batch.positions[:0], batch.labels[:0]
    loss, parts = PretrainingModel(config()).loss(batch)
    loss.backward()
    assert parts["mlm"].item() == 0
    assert torch.isfinite(loss)


def test_decoder_is_tied_and_saved_once():
    model = PretrainingModel(config())
    names = [name for name, weight in model.state_dict().items() if weight.shape == (96, 64)]
    assert names == ["encoder.embeddings.word.weight"]


def test_training_lowers_the_loss(batch):
    torch.manual_seed(0)
    model = PretrainingModel(config(dropout=0.1, attention_dropout=0.1)).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, fused=True)
    losses = []
    for _ in range(60):
        loss, _ = model.loss(batch)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < 0.2 * losses[0]
