"""What sits on the encoder in pre-training: masked words and sentence order.

Notable: masked-LM logits are made at the masked positions alone (15 % of them), since at all positions they would be
most of the work of a small model; the last block's MLP is run for these and [CLS] alone. The decoder is the word
embedding itself, not a copy, so a state dict holds it once. The padding rows of the vocabulary take part in the
softmax, as in Megatron: they are never a label, so training pushes their scores down, and what picks a token from
logits should look at the first `Vocabulary.size` alone.
"""

from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from biomeg_lib import kernels
from biomeg_lib.kernels.layout import Tie
from biomeg_lib.model.config import ModelConfig
from biomeg_lib.model.transformer import Encoder, init_weights, layer_norm


class PretrainingInputs(Protocol):
    """What `PretrainingModel.loss` reads of a batch, see `forward`; labels int64[M], order int64[B] (1 = swapped)."""

    tokens: Tensor
    types: Tensor
    mask: Tensor | None
    positions: Tensor
    labels: Tensor
    order: Tensor


class MaskedLMHead(nn.Module):
    """Dense, GeLU, LayerNorm, then the word embedding as decoder, with a bias of its own."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.gelu = config.gelu
        self.dense = nn.Linear(config.hidden, config.hidden)
        self.norm = layer_norm(config)
        self.bias = nn.Parameter(torch.empty(config.vocab_size))

    def forward(self, hidden: Tensor, word: Tensor) -> Tensor:
        """float[..., H] and the word embedding float[V, H] -> logits float[..., V]."""
        return F.linear(self.transform(hidden), word, self.bias)

    def transform(self, hidden: Tensor) -> Tensor:
        """float[..., H] -> float[..., H], what the decoder is applied to."""
        x = kernels.bias_gelu(F.linear(hidden, self.dense.weight), self.dense.bias, self.gelu)
        return kernels.layer_norm(x, self.norm)

    def loss(self, hidden: Tensor, word: Tensor, labels: Tensor, tie: Tie) -> Tensor:
        """Mean cross-entropy in nats of float[M, H] and int64[M] labels; 0 for none. No logits are kept."""
        return kernels.linear_cross_entropy(self.transform(hidden), word, self.bias, labels, tie)


class Pooler(nn.Module):
    """tanh(dense) of the first token of each sequence, [CLS]."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.dense = nn.Linear(config.hidden, config.hidden)

    def forward(self, hidden: Tensor) -> Tensor:
        """float[B, H] -> float[B, H]."""
        return torch.tanh(self.dense(hidden))


class PretrainingModel(nn.Module):
    """Encoder, masked-LM head and sentence-order head; submodules `encoder`, `mlm`, `pooler`, `order`."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.config = config
        self.encoder = Encoder(config)
        self.mlm = MaskedLMHead(config)
        self.pooler = Pooler(config)
        self.order = nn.Linear(config.hidden, 2)
        self._reset_heads()

    def _reset_heads(self) -> None:
        for head in (self.mlm, self.pooler, self.order):
            init_weights(head, self.config.init_std)
        nn.init.zeros_(self.mlm.bias)

    def reset_parameters(self) -> None:
        """Initialise all weights anew, as the constructor does (for a model that was built on the meta device)."""
        self.encoder.reset_parameters()
        self._reset_heads()

    def forward(
        self, tokens: Tensor, types: Tensor, mask: Tensor | None, positions: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Score words and sentence order.

        Args:
            tokens, types: int64[B, T].
            mask: bool[B, T], True for real tokens, or None without padding.
            positions: int64[M], indices into the flattened B*T at which words are scored; None for everywhere.

        Returns:
            Masked-LM logits float[M, V], or float[B, T, V] without `positions`; sentence-order logits float[B, 2].
        """
        words, first = self._encode(tokens, types, mask, positions)
        return self.mlm(words, self.encoder.embeddings.word.weight), self.order(self.pooler(first))

    def _encode(
        self, tokens: Tensor, types: Tensor, mask: Tensor | None, positions: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Hidden states of the places to score, and of the first token of each sequence, float[B, H]."""
        if positions is None:
            words = self.encoder(tokens, types, mask)
            return words, words[:, 0]
        batch, length = tokens.shape
        starts = torch.arange(0, batch * length, length, device=tokens.device)
        hidden = self.encoder(tokens, types, mask, torch.cat([positions, starts]))
        return hidden.split([len(positions), batch])

    def loss(self, batch: PretrainingInputs) -> tuple[Tensor, dict[str, Tensor]]:
        """Cross-entropy in nats: the mean over masked positions plus the mean over sentence orders.

        Returns:
            The sum, with gradient, and its parts without: {"mlm", "order"}. A batch with nothing masked has mlm 0.
        """
        embeddings = self.encoder.embeddings
        embeddings.tie = tie = Tie()
        try:
            words, first = self._encode(batch.tokens, batch.types, batch.mask, batch.positions)
        finally:
            embeddings.tie = None
        mlm = self.mlm.loss(words, embeddings.word.weight, batch.labels, tie)
        order = F.cross_entropy(self.order(self.pooler(first)).float(), batch.order)
        return mlm + order, {"mlm": mlm.detach(), "order": order.detach()}
