"""The encoder against Hugging Face's with the same weights, its initial weights, and dropout.

Hugging Face's attention runs as "eager", so that not even the attention kernel is shared.
"""

import math
from dataclasses import replace

import pytest
import torch

from biomeg_lib.errors import BiomegError
from biomeg_lib.model import Encoder, ModelConfig, PretrainingModel
from biomeg_lib.model.transformer import Dropout

VARIANTS = [("pre", "tanh"), ("pre", "erf"), ("post", "tanh"), ("post", "erf")]


def config(norm="pre", gelu="tanh", **changes) -> ModelConfig:
    values = {"layers": 3, "hidden": 64, "heads": 4, "vocab_size": 96, "max_length": 32} | changes
    return ModelConfig(**values, norm=norm, gelu=gelu, dropout=0.0, attention_dropout=0.0)


def pair(norm, gelu, copier):
    """A Hugging Face pre-training model with random weights, ours with the same, and the names of one in the other."""
    from transformers import BertConfig, BertForPreTraining, MegatronBertConfig, MegatronBertForPreTraining

    ours = PretrainingModel(config(norm, gelu)).eval()
    make, shape = (
        (MegatronBertForPreTraining, MegatronBertConfig) if norm == "pre" else (BertForPreTraining, BertConfig)
    )
    theirs = make(
        shape(
            vocab_size=96,
            hidden_size=64,
            num_hidden_layers=3,
            num_attention_heads=4,
            intermediate_size=256,
            max_position_embeddings=32,
            hidden_act="gelu_pytorch_tanh" if gelu == "tanh" else "gelu",
            layer_norm_eps=ours.config.norm_eps,
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
            attn_implementation="eager",
        )
    ).eval()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in theirs.parameters():  # biases and LayerNorms too, so that a swapped one shows
            weight.add_(torch.randn(weight.shape, generator=generator) * 0.1)
    return theirs, ours, copier(theirs, ours)


@pytest.mark.parametrize(("norm", "gelu"), VARIANTS)
def test_scores_equal_hugging_face(norm, gelu, copier, batch):
    theirs, ours, _ = pair(norm, gelu, copier)
    with torch.no_grad():
        expected = theirs(input_ids=batch.tokens, token_type_ids=batch.types, attention_mask=batch.mask.long())
        logits, order = ours(batch.tokens, batch.types, batch.mask)
    assert logits.shape == (4, 24, 96)
    assert expected.prediction_logits.std() > 0.5  # scores of a size at which 1e-4 means something
    torch.testing.assert_close(logits[batch.mask], expected.prediction_logits[batch.mask], atol=1e-4, rtol=0)
    torch.testing.assert_close(order, expected.seq_relationship_logits, atol=1e-4, rtol=0)


@pytest.mark.parametrize(("norm", "gelu"), VARIANTS)
def test_gradients_equal_hugging_face(norm, gelu, copier, batch):
    theirs, ours, names = pair(norm, gelu, copier)
    labels = torch.full((4 * 24,), -100).index_copy(0, batch.positions, batch.labels).view(4, 24)
    expected = theirs(
        input_ids=batch.tokens,
        token_type_ids=batch.types,
        attention_mask=batch.mask.long(),
        labels=labels,
        next_sentence_label=batch.order,
    ).loss
    expected.backward()
    loss, parts = ours.loss(batch)
    loss.backward()
    torch.testing.assert_close(loss, expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(parts["mlm"] + parts["order"], loss.detach())

    gradients = {name: weight.grad for name, weight in theirs.named_parameters()}
    compared = 0
    for name, weight in ours.named_parameters():
        if "embeddings.word" in name or "blocks.0." in name or "blocks.2." in name:
            wanted, found = torch.cat([gradients[part] for part in names[name]]), weight.grad
            assert torch.linalg.vector_norm(found - wanted) <= 1e-4 * torch.linalg.vector_norm(wanted), name
            compared += 1
    assert compared == 1 + 2 * 12


@pytest.mark.parametrize("norm", ["pre", "post"])
def test_no_mask_equals_a_mask_of_real_tokens_alone(norm, batch):
    encoder = Encoder(config(norm)).eval()
    everywhere = torch.ones_like(batch.mask)
    with torch.no_grad():
        a = encoder(batch.tokens, batch.types, everywhere)
        b = encoder(batch.tokens, batch.types, None)
    torch.testing.assert_close(a, b, atol=1e-5, rtol=0)


@pytest.mark.parametrize("norm", ["pre", "post"])
def test_rows_equal_the_rows_of_all(norm, batch):
    encoder = Encoder(config(norm)).eval()
    with torch.no_grad():
        everything = encoder(batch.tokens, batch.types, batch.mask)
        rows = encoder(batch.tokens, batch.types, batch.mask, batch.positions)
    torch.testing.assert_close(rows, everything.flatten(0, 1)[batch.positions], atol=1e-5, rtol=0)


def test_padding_does_not_matter(batch):
    encoder = Encoder(config()).eval()
    with torch.no_grad():
        a = encoder(batch.tokens, batch.types, batch.mask)
        b = encoder(torch.where(batch.mask, batch.tokens, 17), batch.types, batch.mask)
        short = encoder(batch.tokens[3:, :7], batch.types[3:, :7], None)
    torch.testing.assert_close(a[batch.mask], b[batch.mask], atol=0, rtol=0)
    torch.testing.assert_close(a[3:, :7], short, atol=1e-5, rtol=0)


@pytest.mark.parametrize("norm", ["pre", "post"])
def test_initial_weights(norm):
    torch.manual_seed(0)
    encoder = Encoder(config(norm, layers=8, hidden=128, vocab_size=512))
    scaled = 0.02 / math.sqrt(2 * 8) if norm == "pre" else 0.02
    for name, weight in encoder.named_parameters():
        if name.endswith("bias"):
            assert not weight.any(), name
        elif "norm" in name:
            assert (weight == 1).all(), name
        else:
            wanted = scaled if "attention.output" in name or "mlp.down" in name else 0.02
            if weight.numel() > 10_000:
                assert weight.std().item() == pytest.approx(wanted, rel=0.05), name
            assert abs(weight.mean().item()) < 6 * wanted / math.sqrt(weight.numel()), name


def test_initial_weights_follow_the_seed():
    def draw(seed):
        torch.manual_seed(seed)
        return PretrainingModel(config()).state_dict()

    one, same, other = draw(1), draw(1), draw(2)
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not torch.equal(one["encoder.embeddings.word.weight"], other["encoder.embeddings.word.weight"])


def test_a_model_from_the_meta_device_can_be_initialised():
    with torch.device("meta"):
        model = PretrainingModel(config())
    model = model.to_empty(device="cpu")
    torch.manual_seed(5)
    model.reset_parameters()
    torch.manual_seed(5)
    direct = PretrainingModel(config())
    direct.reset_parameters()
    assert all(torch.isfinite(weight).all() for weight in model.parameters())
    assert model.state_dict().keys() == direct.state_dict().keys()
    assert not model.mlm.bias.any()
    assert model.encoder.embeddings.word.weight.std().item() == pytest.approx(0.02, rel=0.1)


def test_too_long_a_sequence():
    encoder = Encoder(config())
    tokens = torch.zeros(1, 33, dtype=torch.long)
    with pytest.raises(BiomegError, match="33 tokens, longest is 32"):
        encoder(tokens, tokens, None)


@pytest.mark.parametrize("p", [0.1, 0.5])
def test_dropout(p):
    torch.manual_seed(0)
    x = torch.full((101, 1003), 3.0, requires_grad=True)  # a size that 4 does not divide
    layer = Dropout(p)
    y = layer(x)
    y.sum().backward()
    kept = y != 0
    n = x.numel()
    assert abs(kept.float().mean().item() - (1 - p)) < 5 * math.sqrt(p * (1 - p) / n)
    torch.testing.assert_close(y[kept], torch.full_like(y[kept], 3 / (1 - p)))
    torch.testing.assert_close(x.grad, kept / (1 - p))
    # neighbours share a 64-bit draw: they must not share their fate
    a, b = kept[:, :-1].float() - (1 - p), kept[:, 1:].float() - (1 - p)
    assert abs((a * b).mean().item()) < 5 * p * (1 - p) / math.sqrt(n)
    assert torch.equal(layer.eval()(x), x)


def test_dropout_follows_the_seed_and_not_the_threads():
    x = torch.ones(64, 4096)
    results = []
    threads = torch.get_num_threads()
    for count in (1, 2):
        torch.set_num_threads(count)
        torch.manual_seed(7)
        results.append(Dropout(0.3)(x))
    torch.set_num_threads(threads)
    assert torch.equal(*results)


@pytest.mark.parametrize("norm", ["pre", "post"])
def test_training_with_a_dropout_of_almost_nothing_equals_evaluation(norm, batch):
    # the attention that is used on a CPU for dropout, against PyTorch's own
    shape = replace(config(norm), dropout=1e-9, attention_dropout=1e-9)
    encoder = Encoder(shape).train()
    for mask in (batch.mask, None):
        with torch.no_grad():
            trained = encoder(batch.tokens, batch.types, mask)
            evaluated = encoder.eval()(batch.tokens, batch.types, mask)
            encoder.train()
        keep = batch.mask if mask is not None else ...
        torch.testing.assert_close(trained[keep], evaluated[keep], atol=1e-5, rtol=0)


def test_dropout_acts_in_training_alone(batch):
    encoder = Encoder(replace(config(), attention_dropout=0.5))
    with torch.no_grad():
        trained = [encoder.train()(batch.tokens, batch.types, batch.mask) for _ in range(2)]
        evaluated = [encoder.eval()(batch.tokens, batch.types, batch.mask) for _ in range(2)]
    assert not torch.equal(*trained)
    assert torch.equal(*evaluated)
