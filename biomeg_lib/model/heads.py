"""What sits on the encoder: the pre-training heads, and the classifier of tokens.

Notable: masked-LM logits are made at the masked positions alone (15 % of them), since at all positions they would be
most of the work of a small model; the last block's MLP is run for these and [CLS] alone. The decoder is the word
embedding itself, not a copy, so a state dict holds it once. The padding rows of the vocabulary take part in the
softmax, as in Megatron: they are never a label, so training pushes their scores down, and what picks a token from
logits should look at the first `Vocabulary.size` alone.
"""

import itertools
from collections.abc import Mapping
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from biomeg_lib.errors import BiomegError
from biomeg_lib.model.config import ModelConfig, check_dropout
from biomeg_lib.model.transformer import Dropout, Encoder, gelu, init_weights, layer_norm

IGNORE = -100


class PretrainingInputs(Protocol):
    """What `PretrainingModel.loss` reads of a batch, see `forward`; labels int64[M], order int64[B] (1 = swapped)."""

    tokens: Tensor
    types: Tensor
    mask: Tensor | None
    positions: Tensor
    labels: Tensor
    order: Tensor


class TokenInputs(Protocol):
    """What `TokenClassifier.loss` reads of a batch; labels int64[B, T], -100 where none is to be learnt."""

    tokens: Tensor
    types: Tensor
    mask: Tensor | None
    labels: Tensor


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
        return F.linear(self.norm(gelu(self.dense(hidden), self.gelu)), word, self.bias)


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
        if positions is None:
            words = self.encoder(tokens, types, mask)
            first = words[:, 0]
        else:
            batch, length = tokens.shape
            starts = torch.arange(0, batch * length, length, device=tokens.device)
            hidden = self.encoder(tokens, types, mask, torch.cat([positions, starts]))
            words, first = hidden.split([len(positions), batch])
        return self.mlm(words, self.encoder.embeddings.word.weight), self.order(self.pooler(first))

    def loss(self, batch: PretrainingInputs) -> tuple[Tensor, dict[str, Tensor]]:
        """Cross-entropy in nats: the mean over masked positions plus the mean over sentence orders.

        Returns:
            The sum, with gradient, and its parts without: {"mlm", "order"}. A batch with nothing masked has mlm 0.
        """
        logits, order_logits = self(batch.tokens, batch.types, batch.mask, batch.positions)
        mlm = F.cross_entropy(logits.float(), batch.labels, reduction="sum") / max(len(batch.labels), 1)
        order = F.cross_entropy(order_logits.float(), batch.order)
        return mlm + order, {"mlm": mlm.detach(), "order": order.detach()}


class FullyConnected(nn.Module):
    """The paper's fine-tuning head: `num-fc-layers`, `fc-hidden-size`, `fc-dropout` (captions of Tables 1 and 2).

    Dropout before each layer; ReLU between layers, the default of NeMo, which the paper's runs were made with. The
    layers are `layers.0`, `layers.1`, ...

    Raises:
        BiomegError: a size below 1, or a dropout outside [0, 1).
    """

    def __init__(self, inputs: int, outputs: int, num_fc_layers: int, fc_hidden: int, fc_dropout: float):
        super().__init__()
        for name, value in {"labels": outputs, "num_fc_layers": num_fc_layers, "fc_hidden": fc_hidden}.items():
            if value < 1:
                raise BiomegError(f"model: {name} must be at least 1, found {value}")
        check_dropout("fc_dropout", fc_dropout)
        widths = [inputs, *[fc_hidden] * (num_fc_layers - 1), outputs]
        self.layers = nn.ModuleList(nn.Linear(*pair) for pair in itertools.pairwise(widths))
        self.dropout = Dropout(fc_dropout)

    def forward(self, x: Tensor) -> Tensor:
        """float[..., inputs] -> float[..., outputs]."""
        for layer in self.layers[:-1]:
            x = F.relu(layer(self.dropout(x)))
        return self.layers[-1](self.dropout(x))


class TokenClassifier(nn.Module):
    """Encoder and a `FullyConnected` head over every token; submodules `encoder`, `classifier`.

    Args:
        num_labels: classes, L.
        num_fc_layers: 1, one Linear to the labels; 2, a hidden layer of width `fc_hidden` before it; and so on.
        fc_hidden: width of the hidden layers; without effect for one layer.
        fc_dropout: before each layer of the head.
    """

    def __init__(
        self,
        config: ModelConfig,
        num_labels: int,
        num_fc_layers: int = 1,
        fc_hidden: int = 512,
        fc_dropout: float = 0.5,
    ):
        super().__init__()
        self.config = config
        self.encoder = Encoder(config)
        self.classifier = FullyConnected(config.hidden, num_labels, num_fc_layers, fc_hidden, fc_dropout)
        init_weights(self.classifier, config.init_std)

    def forward(self, tokens: Tensor, types: Tensor, mask: Tensor | None) -> Tensor:
        """int64[B, T] tokens and types, bool[B, T] mask (True = real) or None -> logits float[B, T, L]."""
        return self.classifier(self.encoder(tokens, types, mask))

    def loss(self, batch: TokenInputs) -> tuple[Tensor, dict[str, Tensor]]:
        """Mean cross-entropy in nats over the tokens with a label (0 for a batch without any), and no parts."""
        logits = self(batch.tokens, batch.types, batch.mask)
        total = F.cross_entropy(
            logits.float().flatten(0, 1), batch.labels.flatten(), ignore_index=IGNORE, reduction="sum"
        )
        return total / (batch.labels != IGNORE).sum().clamp(min=1), {}

    def load_encoder(self, state: Mapping[str, Tensor]) -> None:
        """Copy the encoder's weights from a state dict, see `encoder_state` and `load_encoder`."""
        load_encoder(self.encoder, state)


def encoder_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The encoder's part of a model's state dict, without the prefix `encoder.`; an encoder's own as it is."""
    prefix = "encoder."
    inner = {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
    return inner or dict(state)


def load_encoder(encoder: Encoder, state: Mapping[str, Tensor]) -> None:
    """Copy weights into `encoder`, from the state dict of an encoder or of any model with one as `encoder`.

    Raises:
        BiomegError: a weight missing, unknown or of another shape; nothing is copied then.
    """
    given, wanted = encoder_state(state), encoder.state_dict()
    missing, unknown = sorted(wanted.keys() - given.keys()), sorted(given.keys() - wanted.keys())
    differing = [name for name in wanted if name in given and wanted[name].shape != given[name].shape]
    if missing:
        raise BiomegError(f"encoder weights: {len(missing)} missing, such as {missing[0]!r}: not this kind of model?")
    if unknown:
        raise BiomegError(f"encoder weights: {len(unknown)} unknown, such as {unknown[0]!r}: not this kind of model?")
    if differing:
        name = differing[0]
        raise BiomegError(
            f"encoder weights: {name!r} is {list(given[name].shape)}, the model expects {list(wanted[name].shape)}"
        )
    encoder.load_state_dict(given)
