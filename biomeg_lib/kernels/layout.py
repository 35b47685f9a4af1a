"""What operations share: how sequences without padding lie in one tensor, and the gradient of a weight used twice."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor


@dataclass(frozen=True)
class Packed:
    """Sequences one after the other.

    Attributes:
        bounds: int64[B + 1] (int32 on CUDA, which its attention asks for): sequence b is bounds[b] ... bounds[b+1] - 1.
        longest: no sequence has more tokens than this.
        query_bounds: the same of those tokens alone that attend to others, if they are not all.
    """

    bounds: Tensor
    longest: int
    query_bounds: Tensor | None = None

    @classmethod
    def of_mask(cls, mask: Tensor) -> "Packed":
        """From bool[B, T], True for real tokens."""
        dtype = torch.int32 if mask.is_cuda else torch.int64
        bounds = torch.zeros(len(mask) + 1, dtype=dtype, device=mask.device)
        torch.cumsum(mask.sum(1, dtype=dtype), 0, out=bounds[1:])
        return cls(bounds, mask.shape[1])

    @classmethod
    def of_full(cls, batch: int, length: int, device: torch.device) -> "Packed":
        """B sequences of T tokens each."""
        dtype = torch.int32 if device.type == "cuda" else torch.int64
        return cls(torch.arange(0, (batch + 1) * length, length, dtype=dtype, device=device), length)

    def asked_by(self, rows: Tensor) -> "Packed":
        """The same sequences, attended to by some tokens alone: int64[R], ascending."""
        bounds = torch.searchsorted(rows, self.bounds, out_int32=self.bounds.dtype == torch.int32)
        return replace(self, query_bounds=bounds)


class Tie:
    """Joins the two uses of a word embedding in one loss, as lookup and as decoder.

    In the backward pass the decoder comes first and has a gradient for every row; the lookup then adds the rows that
    occur to that very tensor, instead of making a second one of the same size for PyTorch to add.
    """

    def __init__(self) -> None:
        self._gradient: Tensor | None = None

    def give(self, gradient: Tensor) -> None:
        """The decoder's gradient, on its way to PyTorch."""
        self._gradient = gradient

    def take(self) -> Tensor | None:
        """That gradient, once; None if the decoder took no part."""
        gradient, self._gradient = self._gradient, None
        return gradient
