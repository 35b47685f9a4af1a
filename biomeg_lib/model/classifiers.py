"""What sits on the encoder in fine-tuning: classifiers of tokens, of whole texts, and of the ends of an answer.

All have the submodules `encoder` and `classifier`, a `FullyConnected` head; so the encoder's weights come from any
model that has one, see `load_encoder`.
"""

import itertools
from collections.abc import Mapping
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from biomeg_lib.errors import BiomegError
from biomeg_lib.model.config import ModelConfig, check_dropout
from biomeg_lib.model.losses import IGNORE, CrossEntropy
from biomeg_lib.model.transformer import Dropout, Encoder, init_weights


class Inputs(Protocol):
    """What the classifiers read of a batch: int64[B, T] tokens and types, bool[B, T] mask, True for real tokens."""

    tokens: Tensor
    types: Tensor
    mask: Tensor | None


class LabelledInputs(Inputs, Protocol):
    """With labels: int64[B, T] for tokens, -100 where none is to be learnt; int64[B] for texts."""

    labels: Tensor


class SpanInputs(Inputs, Protocol):
    """With answers: int64[B] positions of the first and last token, both 0 where the window holds none."""

    start: Tensor
    end: Tensor


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


class Classifier(nn.Module):
    """Encoder and head.

    Args:
        outputs: classes, L.
        num_fc_layers: 1, one Linear to the labels; 2, a hidden layer of width `fc_hidden` before it; and so on.
        fc_hidden: width of the hidden layers; without effect for one layer.
        fc_dropout: before each layer of the head.
        criterion: logits float[N, L] and labels int64[N] -> loss, see `losses`; None for plain cross-entropy.
    """

    def __init__(
        self,
        config: ModelConfig,
        outputs: int,
        num_fc_layers: int = 1,
        fc_hidden: int = 512,
        fc_dropout: float = 0.5,
        criterion: nn.Module | None = None,
    ):
        super().__init__()
        self.config = config
        self.encoder = Encoder(config)
        self.classifier = FullyConnected(config.hidden, outputs, num_fc_layers, fc_hidden, fc_dropout)
        self.criterion = criterion or CrossEntropy()
        init_weights(self.classifier, config.init_std)

    def load_encoder(self, state: Mapping[str, Tensor]) -> None:
        """Copy the encoder's weights from a state dict, see `encoder_state` and `load_encoder`."""
        load_encoder(self.encoder, state)


class TokenClassifier(Classifier):
    """A label for every token: named entities."""

    def forward(self, tokens: Tensor, types: Tensor, mask: Tensor | None, rows: Tensor | None = None) -> Tensor:
        """Score labels.

        Args:
            tokens, types: int64[B, T].
            mask: bool[B, T], True for real tokens; None for all.
            rows: int64[R], indices into the flattened B*T of the tokens to score; None for all.

        Returns:
            Logits float[B, T, L], or float[R, L] with `rows`.
        """
        return self.classifier(self.encoder(tokens, types, mask, rows))

    def loss(self, batch: LabelledInputs) -> tuple[Tensor, dict[str, Tensor]]:
        """The criterion over the tokens with a label (0 for a batch without any), and no parts."""
        labels = batch.labels.flatten()
        rows = (labels != IGNORE).nonzero().squeeze(1)
        return self.criterion(self(batch.tokens, batch.types, batch.mask, rows), labels.index_select(0, rows)), {}


class TextClassifier(Classifier):
    """A label for every text or pair of texts, read off its first token, [CLS]: relations."""

    def forward(self, tokens: Tensor, types: Tensor, mask: Tensor | None) -> Tensor:
        """int64[B, T] tokens and types, bool[B, T] mask (True = real) or None -> logits float[B, L]."""
        batch, length = tokens.shape
        first = torch.arange(0, batch * length, length, device=tokens.device)
        return self.classifier(self.encoder(tokens, types, mask, first))

    def loss(self, batch: LabelledInputs) -> tuple[Tensor, dict[str, Tensor]]:
        """The criterion over the texts, and no parts."""
        return self.criterion(self(batch.tokens, batch.types, batch.mask), batch.labels), {}


class SpanClassifier(Classifier):
    """Where an answer starts and ends; [CLS] stands for a window without one (Devlin et al. 2018, section 4.3)."""

    def __init__(self, config: ModelConfig, num_fc_layers: int = 1, fc_hidden: int = 512, fc_dropout: float = 0.5):
        super().__init__(config, 2, num_fc_layers, fc_hidden, fc_dropout)

    def forward(self, tokens: Tensor, types: Tensor, mask: Tensor | None) -> Tensor:
        """int64[B, T] tokens and types, bool[B, T] mask or None -> logits float[B, 2, T] of start and end.

        Padding has the lowest finite score, so that it takes no part in the softmax over positions.
        """
        logits = self.classifier(self.encoder(tokens, types, mask)).transpose(1, 2).float()
        return logits if mask is None else logits.masked_fill(~mask[:, None], torch.finfo(logits.dtype).min)

    def loss(self, batch: SpanInputs) -> tuple[Tensor, dict[str, Tensor]]:
        """Cross-entropy in nats over the positions, the mean of start and end, and no parts."""
        start, end = self(batch.tokens, batch.types, batch.mask).unbind(1)
        return (F.cross_entropy(start, batch.start) + F.cross_entropy(end, batch.end)) / 2, {}


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
