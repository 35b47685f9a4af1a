"""Word embeddings for another vocabulary: carried over piece by piece, or made anew.

A piece that both vocabularies have (same text, same place in a word) keeps its vector. Another one gets the mean of
the vectors of the old pieces that its text is cut into. What the old vocabulary cannot spell, and the padding rows,
are drawn from N(0, init_std) as in a new model. The bias of the masked-LM decoder goes the same way, but from 0.
"""

import dataclasses
from collections.abc import Iterator
from typing import Any, Literal

import torch
from torch import Tensor

from biomeg_lib.checkpoints.checkpoint import Checkpoint
from biomeg_lib.vocab import SPECIALS, Vocabulary

Embeddings = Literal["carried", "new"]
_WORD, _BIAS = "encoder.embeddings.word.weight", "mlm.bias"


def with_vocabulary(
    checkpoint: Checkpoint, vocabulary: Vocabulary, how: Embeddings, generator: torch.Generator
) -> tuple[Checkpoint, dict[str, Any]]:
    """The checkpoint with another vocabulary, and one row a piece (padded) for it.

    Args:
        checkpoint: has a vocabulary.
        how: "carried", see the module, or "new", all rows drawn anew.
        generator: of the rows that are drawn.

    Returns:
        The new checkpoint, and how many pieces were `shared`, `averaged` and `drawn`.
    """
    rows = vocabulary.padded_size()
    config = dataclasses.replace(checkpoint.config, vocab_size=rows)
    old_word, old_bias = checkpoint.state[_WORD], checkpoint.state.get(_BIAS)
    word = torch.empty(rows, config.hidden).normal_(std=config.init_std, generator=generator)
    bias = torch.zeros(rows)
    counts = {"shared": 0, "averaged": 0, "drawn": vocabulary.size}
    if how == "carried":
        for piece, (origin, sources) in enumerate(_sources(checkpoint.vocabulary, vocabulary)):
            if origin == "drawn":
                continue
            counts["drawn"] -= 1
            counts[origin] += 1
            word[piece] = old_word[sources].mean(0)
            if old_bias is not None:
                bias[piece] = old_bias[sources].mean()
    state: dict[str, Tensor] = {**checkpoint.state, _WORD: word}
    if old_bias is not None:
        state[_BIAS] = bias
    return dataclasses.replace(checkpoint, config=config, state=state, vocabulary=vocabulary), counts


def _sources(old: Vocabulary, new: Vocabulary) -> Iterator[tuple[str, list[int]]]:
    """For each new piece, what becomes of it (a key of the counts), and the old pieces that it is made of."""
    places = {(old.piece_text(i), bool(old.continues[i])): i for i in range(old.size)}
    names = [f"{special[1:-1].lower()}_id" for special in SPECIALS]
    specials = {getattr(new, name): getattr(old, name) for name in names}
    for piece in range(new.size):
        text = new.piece_text(piece)
        same = specials.get(piece, places.get((text, bool(new.continues[piece]))))
        if same is not None:
            yield "shared", [same]
            continue
        cut = old.encode_words([text]).ids
        yield ("drawn", []) if old.unk_id in cut else ("averaged", cut)
