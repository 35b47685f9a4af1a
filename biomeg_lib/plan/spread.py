"""A training run as a plan sees it, and a way to spread it over the ranks of a mesh."""

from dataclasses import dataclass

from biomeg_lib.errors import BiomegError

MASKED = 0.15  # of the tokens, as `corpus.samples` chooses them
WORD = 4  # bytes of a number in fp32: weights, gradients and each of Adam's two moments


@dataclass(frozen=True)
class Run:
    """How much a run reads, and in which portions.

    Attributes:
        tokens: of the whole run.
        batch: sequences of an optimiser step, over all ranks.
        length: tokens of a sequence, none of them padding.
        fused: whether kernels are fused ones (`kernels: auto`) or plain PyTorch's, which keep more.
        dropout: whether there is any, which decides how sequences lie in memory on a GPU.
        fine_tuning: whether all tokens of the last block are wanted, for a small head in place of the vocabulary.

    Raises:
        BiomegError: a count below 1, or not a step.
    """

    tokens: int
    batch: int
    length: int
    fused: bool = True
    dropout: bool = True
    fine_tuning: bool = False

    def __post_init__(self) -> None:
        for name in ("tokens", "batch", "length"):
            if getattr(self, name) < 1:
                raise BiomegError(f"plan: {name} must be a whole number above 0, found {getattr(self, name)}")
        if self.tokens < self.batch * self.length:
            needed = f"{self.batch} sequences of {self.length} tokens"
            raise BiomegError(f"plan: tokens must be enough for one step of {needed}, found {self.tokens:,}")

    @property
    def steps(self) -> int:
        """Optimiser steps."""
        return self.tokens // (self.batch * self.length)

    def masked(self, sequences: int) -> int:
        """Tokens to be predicted in so many sequences."""
        return 0 if self.fine_tuning else round(MASKED * sequences * self.length)


@dataclass(frozen=True)
class Spread:
    """Which rank does what: `data` groups of `tensor` ranks each.

    Attributes:
        data: parts of a batch that are worked on at a time; weights, gradients and moments are sharded over them.
        tensor: ranks that share each matrix product, as Megatron does (Shoeybi et al. 2019, section 3).
        micro_batch: sequences that a group works on at a time.
        accumulate: micro-batches of a step.
        recompute: whether activations of a block are computed again in backward instead of kept.
    """

    data: int
    tensor: int
    micro_batch: int
    accumulate: int
    recompute: bool

    @property
    def ranks(self) -> int:
        """Of the whole mesh."""
        return self.data * self.tensor
