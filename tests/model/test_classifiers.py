"""The classifiers: tokens, texts and spans against Hugging Face's, padding, heads, and taking over an encoder."""

from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from biomeg_lib.errors import BiomegError
from biomeg_lib.model import (
    CrossEntropy,
    Encoder,
    ModelConfig,
    PretrainingModel,
    SpanClassifier,
    TextClassifier,
    TokenClassifier,
    encoder_state,
)

SHAPE = {"layers": 2, "hidden": 64, "heads": 4, "vocab_size": 96, "max_length": 32}


def config(norm="pre", **changes) -> ModelConfig:
    return ModelConfig(**(SHAPE | {"dropout": 0.0, "attention_dropout": 0.0} | changes), norm=norm)


def hugging_face(task: str, ours: ModelConfig, labels: int) -> nn.Module:
    """BERT (post-LN) or MegatronBert (pre-LN) with a head, and weights away from their first values."""
    import transformers

    kind = "MegatronBert" if ours.norm == "pre" else "Bert"
    shape = getattr(transformers, f"{kind}Config")(
        vocab_size=ours.vocab_size,
        hidden_size=ours.hidden,
        num_hidden_layers=ours.layers,
        num_attention_heads=ours.heads,
        intermediate_size=4 * ours.hidden,
        max_position_embeddings=ours.max_length,
        hidden_act="gelu_pytorch_tanh",
        layer_norm_eps=ours.norm_eps,
        num_labels=labels,
        attn_implementation="eager",
    )
    model = getattr(transformers, f"{kind}For{task}")(shape).eval()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn(weight.shape, generator=generator) * 0.1)
    return model


def inputs(batch, **labels) -> SimpleNamespace:
    return SimpleNamespace(tokens=batch.tokens, types=batch.types, mask=batch.mask, **labels)


def theirs_of(model, batch, **labels):
    mask = batch.mask.long()
    return model(input_ids=batch.tokens, token_type_ids=batch.types, attention_mask=mask, **labels)


@pytest.mark.parametrize("norm", ["pre", "post"])
@torch.no_grad()
def test_token_classifier_equals_hugging_face(norm, copier, batch):
    ours = TokenClassifier(config(norm), 5).eval()
    theirs = hugging_face("TokenClassification", ours.config, 5)
    copier(theirs, ours)
    labels = torch.where(batch.mask, batch.tokens % 5, -100)
    expected = theirs_of(theirs, batch, labels=labels)
    loss, parts = ours.loss(inputs(batch, labels=labels))
    logits = ours(batch.tokens, batch.types, batch.mask)
    torch.testing.assert_close(logits[batch.mask], expected.logits[batch.mask], atol=1e-4, rtol=0)
    torch.testing.assert_close(loss, expected.loss, atol=1e-5, rtol=1e-5)
    assert parts == {}


@pytest.mark.parametrize("norm", ["pre", "post"])
@torch.no_grad()
def test_text_classifier_equals_hugging_face_without_its_pooler(norm, copier, batch):
    ours = TextClassifier(config(norm), 5).eval()
    theirs = hugging_face("SequenceClassification", ours.config, 5)
    theirs.bert.pooler = _First()
    copier(theirs, ours)
    labels = torch.tensor([4, 0, 3, 3])
    expected = theirs_of(theirs, batch, labels=labels)
    loss, parts = ours.loss(inputs(batch, labels=labels))
    logits = ours(batch.tokens, batch.types, batch.mask)
    assert logits.shape == (4, 5)
    torch.testing.assert_close(logits, expected.logits, atol=1e-4, rtol=0)
    torch.testing.assert_close(loss, expected.loss, atol=1e-5, rtol=1e-5)
    assert parts == {}


class _First(nn.Module):
    """In the place of BERT's pooler, whose dense layer and tanh the paper's head does without: [CLS] as it is."""

    def forward(self, hidden):
        return hidden[:, 0]


@pytest.mark.parametrize("norm", ["pre", "post"])
@torch.no_grad()
def test_span_classifier_equals_hugging_face(norm, copier, batch):
    ours = SpanClassifier(config(norm)).eval()
    theirs = hugging_face("QuestionAnswering", ours.config, 2)
    theirs.classifier = theirs.qa_outputs  # the name that the copier knows
    copier(theirs, ours)
    expected = theirs_of(theirs, batch)
    logits = ours(batch.tokens, batch.types, batch.mask)
    assert logits.shape == (4, 2, 24)
    for row, scores in enumerate((expected.start_logits, expected.end_logits)):
        torch.testing.assert_close(logits[:, row][batch.mask], scores[batch.mask], atol=1e-4, rtol=0)
    # Theirs counts padding among the positions, so the losses are compared on the one sequence without any.
    full = SimpleNamespace(**{name: getattr(batch, name)[:1] for name in ("tokens", "types", "mask")})
    start, end = torch.tensor([5]), torch.tensor([9])
    expected = theirs_of(theirs, full, start_positions=start, end_positions=end)
    loss, parts = ours.loss(inputs(full, start=start, end=end))
    torch.testing.assert_close(loss, expected.loss, atol=1e-5, rtol=1e-5)
    assert parts == {}


@torch.no_grad()
def test_the_loss_of_spans_is_over_the_real_tokens_of_each_window(batch):
    torch.manual_seed(0)
    model = SpanClassifier(config(init_std=0.2)).eval()
    start, end = torch.tensor([5, 0, 3, 6]), torch.tensor([9, 0, 10, 6])
    loss, _ = model.loss(inputs(batch, start=start, end=end))
    parts = []
    for row, length in enumerate(batch.mask.sum(1).tolist()):
        alone = model(batch.tokens[row : row + 1, :length], batch.types[row : row + 1, :length], None)[0]
        chances = alone.softmax(-1)
        parts += [-chances[0, start[row]].log(), -chances[1, end[row]].log()]
    torch.testing.assert_close(loss, torch.stack(parts).mean(), atol=1e-5, rtol=1e-5)


def test_padding_takes_no_part_in_the_softmax_and_gets_no_gradient(batch):
    model = SpanClassifier(config())
    logits = model(batch.tokens, batch.types, batch.mask)
    assert torch.isfinite(logits).all()
    chances = logits.softmax(-1).transpose(1, 2)
    assert not chances[~batch.mask].any()
    zeros = torch.zeros(4, dtype=torch.int64)
    loss, _ = model.loss(inputs(batch, start=zeros, end=zeros))
    loss.backward()
    assert all(torch.isfinite(weight.grad).all() for weight in model.parameters())


@pytest.mark.parametrize("make", [lambda c: TokenClassifier(c, 3), lambda c: TextClassifier(c, 3), SpanClassifier])
@pytest.mark.parametrize("norm", ["pre", "post"])
@torch.no_grad()
def test_logits_do_not_depend_on_padding(make, norm, batch):
    """Neither on how much there is nor on what stands in it; and without any, no mask means the same."""
    torch.manual_seed(0)
    model = make(config(norm, init_std=0.2)).eval()

    def logits(tokens, types, mask):
        result = model(tokens, types, mask)
        return result.transpose(1, 2) if isinstance(model, SpanClassifier) else result

    def real(result, length):
        return result if isinstance(model, TextClassifier) else result[:, :length]

    padded = logits(batch.tokens, batch.types, batch.mask)
    filled = logits(torch.where(batch.mask, batch.tokens, 77), torch.where(batch.mask, batch.types, 1), batch.mask)
    for row, length in enumerate(batch.mask.sum(1).tolist()):
        one = slice(row, row + 1)
        alone = logits(batch.tokens[one, :length], batch.types[one, :length], None)
        for other in (padded, filled):
            torch.testing.assert_close(real(other[one], length), alone, atol=1e-5, rtol=1e-5)


def test_a_text_is_read_off_its_first_token(batch):
    torch.manual_seed(0)
    text, token = TextClassifier(config(), 3).eval(), TokenClassifier(config(), 3).eval()
    token.load_state_dict(text.state_dict())
    with torch.no_grad():
        expected = token(batch.tokens, batch.types, batch.mask)[:, 0]
        torch.testing.assert_close(text(batch.tokens, batch.types, batch.mask), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("make", "shape"), [(TokenClassifier, (4, 24)), (TextClassifier, (4,))])
def test_the_criterion_is_what_the_loss_is_by(make, shape, batch):
    torch.manual_seed(0)
    model = make(config(init_std=0.2), 3, criterion=CrossEntropy([1.0, 2.0, 5.0])).eval()
    labels = torch.randint(3, shape)
    if labels.dim() == 2:
        labels[~batch.mask] = -100
    loss, _ = model.loss(inputs(batch, labels=labels))
    logits = model(batch.tokens, batch.types, batch.mask).flatten(0, -2)
    torch.testing.assert_close(loss, F.cross_entropy(logits, labels.flatten(), torch.tensor([1.0, 2.0, 5.0])))
    assert not any("criterion" in name for name in model.state_dict())


@pytest.mark.parametrize("make", [lambda c: TokenClassifier(c, 3, 2, 48), lambda c: TextClassifier(c, 3, 2, 48)])
@torch.no_grad()
def test_two_layers_by_hand(make, batch):
    torch.manual_seed(0)
    model = make(config()).eval()
    first, second = model.classifier.layers
    assert (first.weight.shape, second.weight.shape) == ((48, 64), (3, 48))
    hidden = model.encoder(batch.tokens, batch.types, batch.mask)
    hidden = hidden[:, 0] if isinstance(model, TextClassifier) else hidden
    expected = (hidden @ first.weight.T + first.bias).clamp(min=0) @ second.weight.T + second.bias
    torch.testing.assert_close(model(batch.tokens, batch.types, batch.mask), expected, atol=1e-5, rtol=1e-5)


def test_head_dropout_is_before_each_layer(batch):
    model = TokenClassifier(config(), 3, num_fc_layers=2, fc_hidden=48, fc_dropout=0.5).train()
    shares = []
    for layer in model.classifier.layers:
        layer.register_forward_pre_hook(lambda _, inputs: shares.append((inputs[0] == 0).float().mean().item()))
    model(batch.tokens, batch.types, None)  # vectors of padding are zeros
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
    [({"num_fc_layers": 0}, "num_fc_layers"), ({"fc_dropout": 1.5}, "fc_dropout"), ({"outputs": 0}, "labels")],
)
def test_heads_that_cannot_be(changes, words):
    with pytest.raises(BiomegError, match=words):
        TokenClassifier(config(), **({"outputs": 3} | changes))


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
