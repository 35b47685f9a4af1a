"""The transformer encoder: Megatron's pre-LN BERT, and the post-LN original for BERT-family baselines.

Single-device code that knows nothing of parallelism, training or tasks; a parallel plan, activation recomputation and
compilation are applied to it from outside, by the names of its submodules:

    embeddings.{word, position, token_type[, norm]}
    blocks.<i>.{attention_norm, attention.{qkv, output}, mlp_norm, mlp.{up, down}}
    norm                                                  (pre-LN alone: the final LayerNorm)

Notable: query, key and value are one projection; its 3H rows are all queries, all keys, all values, each of them head
after head (Megatron's own files have other orders, so what reads those permutes the rows). Dropout is our own on a CPU,
where PyTorch draws its random numbers slowly: 7 ns an element, a tenth of a training step of `tiny`.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from biomeg_lib.errors import BiomegError
from biomeg_lib.model.config import ModelConfig


def gelu(x: Tensor, kind: str) -> Tensor:
    """GeLU, "tanh" or "erf" as in `ModelConfig.gelu`."""
    return F.gelu(x, approximate="tanh" if kind == "tanh" else "none")


class _CPUDropout(torch.autograd.Function):
    """Dropout from 16 random bits an element, drawn 64 at a time; the generator's state alone decides, not threads."""

    @staticmethod
    def forward(ctx, x: Tensor, p: float) -> Tensor:
        bits = torch.empty((x.numel() + 3) // 4, dtype=torch.int64).random_(-(2**63), None)
        keep = bits.view(torch.int16)[: x.numel()].view(x.shape) >= round(p * 2**16) - 2**15
        ctx.save_for_backward(keep)
        ctx.scale = 1 / (1 - p)
        return (x * keep).mul_(ctx.scale)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None]:
        (keep,) = ctx.saved_tensors
        return (gradient * keep).mul_(ctx.scale), None


def dropout(x: Tensor, p: float) -> Tensor:
    """Set elements to 0 with probability `p` (on a CPU to the nearest 2**-16), scale the others by 1 / (1 - p)."""
    return _CPUDropout.apply(x, p) if x.device.type == "cpu" else F.dropout(x, p)


class Dropout(nn.Module):
    """`dropout` in training, nothing otherwise."""

    def __init__(self, p: float):
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        """float of any shape -> the same."""
        return dropout(x, self.p) if self.training and self.p > 0 else x


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

    def forward(self, tokens: Tensor, types: Tensor) -> Tensor:
        """int64[B, T] tokens and types -> float[B, T, H].

        Raises:
            BiomegError: sequences longer than the position embedding.
        """
        length = tokens.shape[1]
        if length > self.position.num_embeddings:
            raise BiomegError(f"model: a sequence of {length} tokens, longest is {self.position.num_embeddings}")
        x = self.word(tokens) + self.token_type(types) + self.position.weight[:length]
        return self.dropout(x if self.norm is None else self.norm(x))


class Attention(nn.Module):
    """Multi-head self-attention, scaled by 1/sqrt(head size)."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.heads, self.head_size = config.heads, config.head_size
        self.dropout = config.attention_dropout
        self.qkv = nn.Linear(config.hidden, 3 * config.hidden)
        self.output = nn.Linear(config.hidden, config.hidden)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """float[B, T, H] and bool[B, 1, 1, T] (True where keys are real; None: everywhere) -> float[B, T, H]."""
        batch, length, _ = x.shape
        # -1, so that a rank that holds some of the heads runs the same code
        qkv = self.qkv(x).view(batch, length, 3, -1, self.head_size)
        query, key, value = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        p = self.dropout if self.training else 0.0
        if p > 0 and x.device.type == "cpu":
            # PyTorch has no fused kernel for this case: the same steps, with the faster dropout
            scores = (query * self.head_size**-0.5) @ key.transpose(-2, -1)
            if mask is not None:
                scores = scores.masked_fill_(~mask, -math.inf)
            context = dropout(scores.softmax(-1), p) @ value
        else:
            context = F.scaled_dot_product_attention(query, key, value, attn_mask=mask, dropout_p=p)
        return self.output(context.transpose(1, 2).reshape(batch, length, -1))


class MLP(nn.Module):
    """Linear, GeLU, Linear."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.gelu = config.gelu
        self.up = nn.Linear(config.hidden, config.intermediate)
        self.down = nn.Linear(config.intermediate, config.hidden)

    def forward(self, x: Tensor) -> Tensor:
        """float[..., H] -> float[..., H]."""
        return self.down(gelu(self.up(x), self.gelu))


class Block(nn.Module):
    """Pre-LN: x + f(LN(x)) for attention, then for the MLP; post-LN: LN(x + f(x)) for each."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.pre = config.norm == "pre"
        self.attention_norm = layer_norm(config)
        self.attention = Attention(config)
        self.mlp_norm = layer_norm(config)
        self.mlp = MLP(config)
        self.dropout = Dropout(config.dropout)

    def forward(self, x: Tensor, mask: Tensor | None, rows: Tensor | None = None) -> Tensor:
        """Apply the block.

        Args:
            x: float[B, T, H].
            mask: bool[B, 1, 1, T], or None for no padding.
            rows: int64[R], indices into the flattened B*T of the tokens that are wanted; None for all.

        Returns:
            float[B, T, H], or float[R, H] with `rows`.
        """
        if self.pre:
            x = x + self.dropout(self.attention(self.attention_norm(x), mask))
        else:
            x = self.attention_norm(x + self.dropout(self.attention(x, mask)))
        if rows is not None:
            # index_select, not indexing: its gradient is an addition of rows, not a serial scatter of elements
            x = x.flatten(0, 1).index_select(0, rows)
        if self.pre:
            return x + self.dropout(self.mlp(self.mlp_norm(x)))
        return self.mlp_norm(x + self.dropout(self.mlp(x)))


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
            rows: int64[R], indices into the flattened B*T of the tokens whose vectors are wanted; None for all. The
                last block's MLP is then spared for the others: a fifth of the arithmetic of `tiny` with 8k words.

        Returns:
            float[B, T, H], or float[R, H] with `rows`, after the final LayerNorm; at padding, values without meaning.
        """
        if mask is not None:
            mask = mask[:, None, None, :]
        x = self.embeddings(tokens, types)
        *lower, last = self.blocks
        for block in lower:
            x = block(x, mask)
        x = last(x, mask, rows)
        return x if self.norm is None else self.norm(x)
