"""Fill-in examples: a word of a sentence is hidden, and a pre-trained model says what may have stood there."""

from collections.abc import Sequence

import torch

from biomeg_lib.model import PretrainingModel
from biomeg_lib.vocab import Vocabulary


@torch.inference_mode()
def fill_in(
    model: PretrainingModel, vocabulary: Vocabulary, words: Sequence[str], hidden: int, count: int = 5
) -> list[tuple[str, float]]:
    """The likeliest pieces at the place of one word, which is replaced by a single [MASK].

    Args:
        model: in evaluation mode.
        words: the sentence; with [CLS], [SEP] and the mask it must fit the model's length.
        hidden: index of the word to hide.
        count: how many guesses.

    Returns:
        (text of the piece, its probability), the likeliest first.
    """
    before = vocabulary.encode_words(list(words[:hidden])).ids if hidden else []
    after = vocabulary.encode_words(list(words[hidden + 1 :])).ids if hidden + 1 < len(words) else []
    ids = [vocabulary.cls_id, *before, vocabulary.mask_id, *after, vocabulary.sep_id]
    tokens = torch.tensor([ids], device=next(model.parameters()).device)
    place = torch.tensor([len(before) + 1], device=tokens.device)
    logits, _ = model(tokens, torch.zeros_like(tokens), None, place)
    chances = torch.softmax(logits[0, : vocabulary.size].float(), dim=-1)  # the padding rows are no pieces
    top = chances.topk(count)
    pairs = zip(top.values.tolist(), top.indices.tolist(), strict=True)
    return [(vocabulary.decode([piece]), chance) for chance, piece in pairs]


def hidden_words(
    model: PretrainingModel, vocabulary: Vocabulary, sentences: Sequence[Sequence[str]]
) -> list[dict[str, str]]:
    """For each sentence its longest word of a single piece, hidden, and the model's guesses, as rows of a table."""
    rows = []
    for words in sentences:
        whole = [i for i, word in enumerate(words) if len(vocabulary.encode_words([word]).ids) == 1]
        if not whole or len(words) > 60 or len(vocabulary.encode_words(words).ids) + 2 > model.config.max_length:
            continue
        hidden = max(whole, key=lambda i: len(words[i]))
        shown = [*words[:hidden], "____", *words[hidden + 1 :]]
        guesses = fill_in(model, vocabulary, words, hidden)
        rows.append(
            {
                "Sentence": " ".join(shown[max(0, hidden - 8) : hidden + 9]),
                "Hidden": words[hidden],
                "Guesses": ", ".join(f"{text} ({100 * chance:.0f} %)" for text, chance in guesses),
            }
        )
    return rows
