"""The transformer encoder: Megatron's pre-LN BERT, and the post-LN original for BERT-family baselines.

Single-device code that knows nothing of parallelism, training or tasks; a parallel plan, activation recomputation and
compilation are applied to it from outside, by the names of its submodules:

    embeddings.{word, position, token_type[, norm]}
    blocks.<i>.{attention_norm, attention.{qkv, output}, mlp_norm, mlp.{up, down}}
    norm                                                  (pre-LN alone: the final LayerNorm)

Notable:
- Query, key and value are one projection; its 3H rows are all queries, all keys, all values, each of them head after
  head (Megatron's own files have other orders, so what reads those permutes the rows).
- Inside, tokens are rows of one matrix [N, H]. Where `kernels.packs`, padding is left out of it, so no layer works on
  padding; elsewhere N = B * T and attention has a mask.
- Linear layers leave their bias to the kernel that follows, which adds it while it has the numbers at hand.
"""

import math
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from biomeg_lib import kernels
from biomeg_lib.errors import BiomegError
from biomeg_lib.kernels.layout import Packed, Tie
from biomeg_lib.model.config import ModelConfig


@dataclass(frozen=True)
class Padded:
    """B sequences of T rows each, padding among them.

    Attributes:
        batch, length: B and T.
        mask: bool[B, 1, 1, T], True where keys are real; None for everywhere.
        maps: gets the attention probabilities float[B, A, T, T] of each block, if it is a list.
    """

    batch: int
    length: int
    mask: Tensor | None
    maps: list[Tensor] | None = field(default=None)


class Dropout(nn.Module):
    """Dropout in training, nothing otherwise."""

    def __init__(self, p: float):
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        """float of any shape -> the same."""
        return kernels.dropout(x, self.p) if self.training else x


def init_weights(module: nn.Module, std: float) -> None:
    """Initialise in place all Linear and Embedding weights from N(0, std), biases to 0, LayerNorms to 1 and 0."""
    for part in module.modules():
        if isinstance(part, nn.Linear | nn.Embedding):
            nn.init.normal_(part.weight, std=std)
        elif isinstance(part, nn.LayerNorm):
            nn.init.ones_(part.weight)
        if isinstance(part, nn.Linear | nn.LayerNorm):
            nn.init.zeros_(part.bias)


def layer_norm(config: ModelConfig) -> nn.LayerNorm:
    """A LayerNorm over the hidden size."""
    return nn.LayerNorm(config.hidden, eps=config.norm_eps)


class Embeddings(nn.Module):
    """Word + position + token type; LayerNorm for post-LN alone; dropout."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.word = nn.Embedding(config.vocab_size, config.hidden)
        self.position = nn.Embedding(config.max_length, config.hidden)
        self.token_type = nn.Embedding(config.token_types, config.hidden)  # `type` is a method of nn.Module
        self.norm = layer_norm(config) if config.norm == "post" else None
        self.dropout = Dropout(config.dropout)
        self.tie: Tie | None = None  # set while a loss is made that has the word embedding as decoder, too

    def forward(self, tokens: Tensor, types: Tensor, places: Tensor) -> Tensor:
        """int64[N] tokens, their types, and their places in their sequences -> float[N, H]."""
        x = self.words(tokens) + self.token_type(types) + self.position(places)
        return self.dropout(x if self.norm is None else kernels.layer_norm(x, self.norm))

    def words(self, tokens: Tensor) -> Tensor:
        """int64[N] -> float[N, H], the rows of the word embedding."""
        return kernels.embedding(tokens, self.word.weight, self.tie)


class Attention(nn.Module):
    """Multi-head self-attention, scaled by 1/sqrt(head size)."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.head_size = config.head_size
        self.dropout = config.attention_dropout
        self.qkv = nn.Linear(config.hidden, 3 * config.hidden)
        self.output = nn.Linear(config.hidden, config.hidden)

    def forward(self, x: Tensor, layout: Packed | Padded, rows: Tensor | None) -> Tensor:
        """float[N, H] -> float[N, H], or [R, H] of some rows, without the bias of `output`."""
        p = self.dropout if self.training else 0.0
        weight, bias = self.qkv.weight, self.qkv.bias
        # counted here, so that a rank that holds some of the heads runs the same code
        heads = len(bias) // (3 * self.head_size)
        # index_select, not indexing: its gradient is an addition of rows, not a serial scatter of elements
        if isinstance(layout, Padded):
            context = self._padded(F.linear(x, weight, bias), layout, p)
            context = context if rows is None else context.index_select(0, rows)
        elif rows is None:
            context = kernels.attention(F.linear(x, weight), bias, layout, heads, p)
        else:
            of_queries, of_others = weight.split([len(bias) // 3, 2 * len(bias) // 3])
            queries = F.linear(x.index_select(0, rows), of_queries)
            context = kernels.attention(F.linear(x, of_others), bias, layout.asked_by(rows), heads, p, queries)
        return F.linear(context, self.output.weight)

    def _padded(self, qkv: Tensor, layout: Padded, p: float) -> Tensor:
        qkv = qkv.view(layout.batch, layout.length, 3, -1, self.head_size)
        query, key, value = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        # with dropout PyTorch has no fused attention for a CPU, and a slow generator
        if layout.maps is None and not (p > 0 and qkv.device.type == "cpu"):
            context = F.scaled_dot_product_attention(query, key, value, attn_mask=layout.mask, dropout_p=p)
        else:
            shares = kernels.masked_softmax(query @ key.transpose(-2, -1), layout.mask, self.head_size**-0.5)
            if layout.maps is not None:
                layout.maps.append(shares)
            context = kernels.dropout(shares, p) @ value
        return context.transpose(1, 2).reshape(layout.batch * layout.length, -1)


class MLP(nn.Module):
    """Linear, GeLU, Linear."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.gelu = config.gelu
        self.up = nn.Linear(config.hidden, config.intermediate)
        self.down = nn.Linear(config.intermediate, config.hidden)

    def forward(self, x: Tensor) -> Tensor:
        """float[N, H] -> float[N, H], without the bias of `down`."""
        return F.linear(kernels.bias_gelu(F.linear(x, self.up.weight), self.up.bias, self.gelu), self.down.weight)


class Block(nn.Module):
    """Pre-LN: x + f(LN(x)) for attention, then for the MLP; post-LN: LN(x + f(x)) for each."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.pre = config.norm == "pre"
        self.attention_norm = layer_norm(config)
        self.attention = Attention(config)
        self.mlp_norm = layer_norm(config)
        self.mlp = MLP(config)
        self.dropout = config.dropout

    def forward(
        self, x: Tensor, normed: Tensor, layout: Packed | Padded, following: nn.LayerNorm | None, rows: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Apply the block.

        Args:
            x, normed: float[N, H], the residual stream and, for pre-LN, its `attention_norm`; for post-LN the same.
            layout: where sequences begin and end.
            following: pre-LN alone: the LayerNorm that comes next, of the next block or the final one.
            rows: int64[R], ascending, the rows that are wanted; None for all.

        Returns:
            The same two for what comes next, float[N, H], or float[R, H] with `rows`.
        """
        p = self.dropout if self.training else 0.0
        update = self.attention(normed, layout, rows)
        if rows is not None:
            x = x.index_select(0, rows)
        first, second = (self.mlp_norm, following) if self.pre else (self.attention_norm, self.mlp_norm)
        x, normed = kernels.bias_dropout_add_norm(update, self.attention.output.bias, x, p, first)
        x = x if self.pre else normed
        x, normed = kernels.bias_dropout_add_norm(self.mlp(normed), self.mlp.down.bias, x, p, second)
        return (x if self.pre else normed), normed


class Encoder(nn.Module):
    """Tokens in, one vector a token out."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.config = config
        self.embeddings = Embeddings(config)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.norm = layer_norm(config) if config.norm == "pre" else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Initialise from PyTorch's global generator: N(0, init_std), biases 0, LayerNorms 1 and 0.

        For pre-LN the projections that write into the residual stream are drawn with init_std / sqrt(2 * layers), as
        Megatron does (Shoeybi et al. 2019, section 4), so that the sum of all layers starts with the same variance at
        any depth.
        """
        config = self.config
        init_weights(self, config.init_std)
        if config.norm == "pre":
            for block in self.blocks:
                for projection in (block.attention.output, block.mlp.down):
                    nn.init.normal_(projection.weight, std=config.init_std / math.sqrt(2 * config.layers))

    def forward(self, tokens: Tensor, types: Tensor, mask: Tensor | None, rows: Tensor | None = None) -> Tensor:
        """Encode a batch.

        Args:
            tokens, types: int64[B, T].
            mask: bool[B, T], True for real tokens; None where there is no padding, which is faster, and which is the
                caller's to say, since to look would make a GPU wait. Every sequence has a real token.
            rows: int64[R], indices into the flattened B*T of the tokens whose vectors are wanted, none of them padding,
                in any order; None for all. Of the last block, the others then need nothing but keys and values: a
                quarter of the arithmetic of `tiny` with 8k words is spared.

        Returns:
            float[B, T, H], or float[R, H] with `rows`, after the final LayerNorm; at padding, values without meaning.

        Raises:
            BiomegError: sequences longer than the position embedding.
        """
        batch, length = tokens.shape
        attention = self.blocks[0].attention
        p = attention.dropout if self.training else 0.0
        if mask is not None and mask.device.type == "cpu" and not torch.compiler.is_compiling() and mask.all():
            mask = None
        order = None
        if not kernels.packs(self.embeddings.word.weight, attention.head_size, p):
            layout, kept = Padded(batch, length, None if mask is None else mask[:, None, None, :]), None
        elif mask is None:
            layout, kept = Packed.of_full(batch, length, tokens.device), None
        else:
            layout, real = Packed.of_mask(mask), mask.flatten()
            kept = real.nonzero().squeeze(1)
            rows = rows if rows is None else (real.cumsum(0) - 1).index_select(0, rows)
        if rows is not None:
            rows, order = rows.sort()
        x = self._encode(tokens, types, kept, layout, rows)
        if order is not None:
            return x.index_select(0, order.argsort())
        if kept is not None:
            x = x.new_zeros(batch * length, x.shape[1]).index_copy(0, kept, x)
        return x.view(batch, length, -1)

    def attention_maps(self, tokens: Tensor, types: Tensor, mask: Tensor | None) -> list[Tensor]:
        """The attention probabilities of each block, float[B, A, T, T]: row t is what token t attends to."""
        batch, length = tokens.shape
        layout = Padded(batch, length, None if mask is None else mask[:, None, None, :], [])
        self._encode(tokens, types, None, layout, None)
        return layout.maps or []

    def _encode(
        self, tokens: Tensor, types: Tensor, kept: Tensor | None, layout: Packed | Padded, rows: Tensor | None
    ) -> Tensor:
        """float[N, H], or float[R, H], of the tokens `kept` (indices into the flattened B*T), or of all."""
        length = tokens.shape[1]
        if length > self.embeddings.position.num_embeddings:
            longest = self.embeddings.position.num_embeddings
            raise BiomegError(f"model: a sequence of {length} tokens, longest is {longest}")
        places = torch.arange(length, device=tokens.device).expand(tokens.shape)
        inputs = (tokens, types, places)
        x = self.embeddings(*(i.flatten() if kept is None else i.flatten()[kept] for i in inputs))
        pre = self.norm is not None
        normed = kernels.layer_norm(x, self.blocks[0].attention_norm) if pre else x
        following = [block.attention_norm for block in self.blocks[1:]] + [self.norm]
        for block, norm in zip(self.blocks, following, strict=True):
            x, normed = block(x, normed, layout, norm, rows if block is self.blocks[-1] else None)
        return normed
