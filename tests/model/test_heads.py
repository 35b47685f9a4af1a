"""The heads: positions, losses, the token classifier against Hugging Face's, and taking over an encoder."""

import math
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F

from biomeg_lib.errors import BiomegError
from biomeg_lib.model import Encoder, ModelConfig, PretrainingModel, TokenClassifier, encoder_state

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


@pytest.mark.parametrize("norm", ["pre", "post"])
def test_token_classifier_equals_hugging_face(norm, copier, batch):
    from transformers import (
        BertConfig,
        BertForTokenClassification,
        MegatronBertConfig,
        MegatronBertForTokenClassification,
    )

    ours = TokenClassifier(config(norm), 5, num_fc_layers=1).eval()
    make, shape = (
        (MegatronBertForTokenClassification, MegatronBertConfig)
        if norm == "pre"
        else (BertForTokenClassification, BertConfig)
    )
    theirs = make(
        shape(
            vocab_size=96,
            hidden_size=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            intermediate_size=256,
            max_position_embeddings=32,
            hidden_act="gelu_pytorch_tanh",
            layer_norm_eps=ours.config.norm_eps,
            num_labels=5,
            attn_implementation="eager",
        )
    ).eval()
    with torch.no_grad():
        for weight in theirs.parameters():
            weight.add_(torch.randn(weight.shape, generator=torch.Generator().manual_seed(weight.numel())) * 0.1)
    copier(theirs, ours)
    labels = torch.where(batch.mask, batch.tokens % 5, -100)
    with torch.no_grad():
        expected = theirs(
            input_ids=batch.tokens, token_type_ids=batch.types, attention_mask=batch.mask.long(), labels=labels
        )
        logits = ours(batch.tokens, batch.types, batch.mask)
        loss, parts = ours.loss(SimpleNamespace(tokens=batch.tokens, types=batch.types, mask=batch.mask, labels=labels))
    torch.testing.assert_close(logits[batch.mask], expected.logits[batch.mask], atol=1e-4, rtol=0)
    torch.testing.assert_close(loss, expected.loss, atol=1e-5, rtol=1e-5)
    assert parts == {}


def test_two_layers_by_hand(batch):
    torch.manual_seed(0)
    model = TokenClassifier(config(), 3, num_fc_layers=2, fc_hidden=48).eval()
    first, second = model.classifier.layers
    assert (first.weight.shape, second.weight.shape) == ((48, 64), (3, 48))
    with torch.no_grad():
        hidden = model.encoder(batch.tokens, batch.types, batch.mask)
        expected = (hidden @ first.weight.T + first.bias).clamp(min=0) @ second.weight.T + second.bias
        torch.testing.assert_close(model(batch.tokens, batch.types, batch.mask), expected)


def test_head_dropout_is_before_each_layer(batch):
    model = TokenClassifier(config(), 3, num_fc_layers=2, fc_hidden=48, fc_dropout=0.5).train()
    shares = []
    for layer in model.classifier.layers:
        layer.register_forward_pre_hook(lambda _, inputs: shares.append((inputs[0] == 0).float().mean().item()))
    model(batch.tokens, batch.types, batch.mask)
    assert shares[0] == pytest.approx(0.5, abs=0.05)
    assert shares[1] == pytest.approx(0.75, abs=0.1)  # half of the ReLU's outputs are 0 already


def test_loss_without_any_label_is_zero(batch):
    model = TokenClassifier(config(), 3)
    labels = torch.full_like(batch.tokens, -100)
    loss, _ = model.loss(SimpleNamespace(tokens=batch.tokens, types=batch.types, mask=batch.mask, labels=labels))
    loss.backward()
    assert loss.item() == 0


@pytest.mark.parametrize(
    ("changes", "words"),
    [({"num_fc_layers": 0}, "num_fc_layers"), ({"fc_dropout": 1.5}, "fc_dropout"), ({"num_labels": 0}, "labels")],
)
def test_heads_that_cannot_be(changes, words):
    with pytest.raises(BiomegError, match=words):
        TokenClassifier(config(), **({"num_labels": 3} | changes))


def test_encoder_is_taken_over_from_any_model(batch):
    source = PretrainingModel(config())
    classifier = TokenClassifier(config(), 3)
    head = classifier.classifier.layers[0].weight.clone()
    for state in (source.state_dict(), source.encoder.state_dict(), encoder_state(source.state_dict())):
        classifier.encoder.reset_parameters()
        classifier.load_encoder(state)
        pairs = zip(classifier.encoder.parameters(), source.encoder.parameters(), strict=True)
        assert all(torch.equal(a, b) for a, b in pairs)
    other = TokenClassifier(config(), 7)
    other.load_encoder(classifier.state_dict())
    assert torch.equal(other.encoder.norm.weight, source.encoder.norm.weight)
    assert torch.equal(head, classifier.classifier.layers[0].weight)


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (config(layers=1), "missing, such as 'blocks.1.attention.output.bias'"),
        (config(layers=3), "unknown, such as 'blocks.2.attention.output.bias'"),
        (config(norm="post"), "missing, such as 'norm.bias'"),
        (config(vocab_size=128), r"'embeddings.word.weight' is \[128, 64\], the model expects \[96, 64\]"),
    ],
)
def test_weights_of_another_model_are_refused(source, words):
    classifier = TokenClassifier(config(), 3)
    before = {name: weight.clone() for name, weight in classifier.state_dict().items()}
    with pytest.raises(BiomegError, match=words) as error:
        classifier.load_encoder(Encoder(source).state_dict())
    assert "\n" not in str(error.value)
    assert all(torch.equal(weight, before[name]) for name, weight in classifier.state_dict().items())
