"""Fill-in examples, on models whose decoder is set by hand, so that what must come first is known."""

import pytest
import torch

from biomeg_lib.model import ModelConfig, PretrainingModel
from biomeg_lib.tasks.fill_in import fill_in, hidden_words
from biomeg_lib.vocab import SPECIALS, Vocabulary

LETTERS = "abcdefghijklmnopqrstuvwxyz"
WORDS = ["Aspirin", "lowers", "fever"]


@pytest.fixture(scope="module")
def vocabulary(tmp_path_factory):
    path = tmp_path_factory.mktemp("vocabulary") / "vocab.txt"
    path.write_text(
        "\n".join([*SPECIALS, *LETTERS, *(f"##{c}" for c in LETTERS), "aspirin", "lowers", "fever", "pain"])
    )
    return Vocabulary.load(path, lowercase=True)


@pytest.fixture
def model(vocabulary):
    """One that scores every piece by the decoder's bias alone, and the padding rows far above all."""
    torch.manual_seed(0)
    config = ModelConfig(layers=1, hidden=16, heads=2, vocab_size=vocabulary.padded_size(), max_length=32)
    model = PretrainingModel(config).eval()
    with torch.no_grad():
        model.encoder.embeddings.word.weight.zero_()
        model.mlm.bias.zero_()
        model.mlm.bias[vocabulary.size :] = 100
    return model


def favour(model, vocabulary, piece, by=50.0):
    with torch.no_grad():
        model.mlm.bias[vocabulary.pieces.index(piece)] = by


@pytest.mark.parametrize("hidden", [0, 1, 2])
def test_the_certain_piece_comes_first(model, vocabulary, hidden):
    favour(model, vocabulary, "pain")
    guesses = fill_in(model, vocabulary, WORDS, hidden)
    assert guesses[0] == ("pain", pytest.approx(1.0))
    assert len(guesses) == 5


def test_chances_are_a_softmax_over_the_pieces_and_the_padding_rows_never_appear(model, vocabulary):
    favour(model, vocabulary, "pain", 3.0)
    favour(model, vocabulary, "fever", 2.0)
    guesses = fill_in(model, vocabulary, WORDS, 1, count=vocabulary.size)
    total = torch.tensor([3.0, 2.0]).exp().sum() + vocabulary.size - 2
    assert [text for text, _ in guesses[:2]] == ["pain", "fever"]
    assert [chance for _, chance in guesses[:2]] == pytest.approx((torch.tensor([3.0, 2.0]).exp() / total).tolist())
    assert sum(chance for _, chance in guesses) == pytest.approx(1.0, abs=1e-5)


def test_a_single_mask_stands_where_the_word_stood(model, vocabulary, monkeypatch):
    seen = []
    forward = model.forward

    def spy(tokens, types, mask, positions):
        seen.append((tokens[0].tolist(), positions.tolist()))
        return forward(tokens, types, mask, positions)

    monkeypatch.setattr(model, "forward", spy)
    ids = {piece: i for i, piece in enumerate(vocabulary.pieces)}
    fill_in(model, vocabulary, ["no", "fever", "aspirin"], 1)
    tokens, (place,) = seen[-1]
    assert tokens == [ids[piece] for piece in ("[CLS]", "n", "##o", "[MASK]", "aspirin", "[SEP]")]
    assert tokens[place] == vocabulary.mask_id
    fill_in(model, vocabulary, ["unknown"], 0)
    assert seen[-1] == ([ids["[CLS]"], ids["[MASK]"], ids["[SEP]"]], [1])


def test_a_model_that_looks_at_its_input_is_looked_at_where_the_mask_is(vocabulary):
    """The same logits as those of a forward pass over all positions."""
    torch.manual_seed(1)
    config = ModelConfig(layers=2, hidden=16, heads=2, vocab_size=vocabulary.padded_size(), init_std=0.5)
    model = PretrainingModel(config).eval()
    ids = [vocabulary.cls_id, *vocabulary.encode_words(WORDS[:2]).ids, vocabulary.mask_id, vocabulary.sep_id]
    tokens = torch.tensor([ids])
    with torch.inference_mode():
        logits = model(tokens, torch.zeros_like(tokens), None)[0][0, -2, : vocabulary.size]
    chances = logits.softmax(-1)
    expected = [(vocabulary.decode([i]), chances[i].item()) for i in chances.argsort(descending=True)[:5].tolist()]
    guesses = fill_in(model, vocabulary, WORDS, 2)
    assert [text for text, _ in guesses] == [text for text, _ in expected]
    assert [chance for _, chance in guesses] == pytest.approx([chance for _, chance in expected], rel=1e-4)


def test_the_longest_whole_word_of_a_sentence_is_hidden(model, vocabulary):
    favour(model, vocabulary, "pain")
    sentences = [WORDS, ["zzz", "qqq"], ["a", "b", "fever"], ["a"] * 61, ["qqq"] * 20]
    rows = hidden_words(model, vocabulary, sentences)
    assert [(row["Sentence"], row["Hidden"]) for row in rows] == [
        ("____ lowers fever", "Aspirin"),
        ("a b ____", "fever"),
    ]
    assert rows[0]["Guesses"].startswith("pain (100 %), ")


def test_a_sentence_whose_pieces_do_not_fit_the_model_is_left_out(model, vocabulary):
    assert hidden_words(model, vocabulary, [["fever", *["qqqqqqqq"] * 10]]) == []
