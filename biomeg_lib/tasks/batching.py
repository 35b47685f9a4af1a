"""Batches of similar length, so that little of a batch is padding.

What is notable: a batch is bounded by its padded size, the longest length times the number of rows, because that is
what memory and time grow with. Training batches are a function of (lengths, bounds, seed, epoch) alone, so that a
resumed run meets the same ones.
"""

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch

from biomeg_lib.errors import BiomegError

_POOL = 1024  # rows sorted together: enough for even lengths, few enough for batches to differ from epoch to epoch


class Feature(Protocol):
    """What all tasks' features have: token ids, [CLS] first."""

    @property
    def tokens(self) -> Sequence[int]: ...


@dataclass(frozen=True, slots=True)
class TokenBatch:
    """B features padded to T tokens; labels may be of tokens or of texts.

    Attributes:
        tokens: int64[B, T] ids.
        types: int64[B, T] segments, 0 at padding.
        mask: bool[B, T], True for a real token.
        labels: int64[B, T] with `IGNORE` where there is none, or int64[B].
    """

    tokens: torch.Tensor
    types: torch.Tensor
    mask: torch.Tensor
    labels: torch.Tensor


@dataclass(frozen=True, slots=True)
class SpanBatch:
    """Windows over a context, padded; `start` and `end`, int64[B], are positions in them, 0 for no answer."""

    tokens: torch.Tensor
    types: torch.Tensor
    mask: torch.Tensor
    start: torch.Tensor
    end: torch.Tensor


def epoch_batches(
    lengths: Sequence[int], seed: int, epochs: int, rows: int, copies: Sequence[float] | None = None
) -> list[list[list[int]]]:
    """The batches of all epochs of a training.

    Args:
        lengths: tokens of each feature.
        rows: of a batch.
        copies: how often oversampling shows each feature in an epoch, at least once; of a fraction, a random choice
            anew each epoch. The number of steps stays what it is without: the epochs are cut where that is reached.

    Returns:
        For each epoch, its batches of indices into `lengths`.
    """
    plain = [token_batches(lengths, seed, epoch, max_sentences=rows) for epoch in range(epochs)]
    if copies is None:
        return plain
    sizes = [len(batches) for batches in plain]
    flat: list[list[int]] = []
    for epoch in range(epochs):
        random = np.random.default_rng((seed, epoch, 1))
        times = np.floor(np.asarray(copies) + random.random(len(copies))).astype(int)
        order = np.repeat(np.arange(len(lengths)), times).tolist()
        shown = token_batches([lengths[i] for i in order], seed, epoch, max_sentences=rows)
        flat += [[order[i] for i in batch] for batch in shown]
    bounds = itertools.pairwise(itertools.accumulate(sizes, initial=0))
    return [flat[start:stop] for start, stop in bounds]


def token_batches(
    lengths: Sequence[int], seed: int, epoch: int, max_tokens: int | None = None, max_sentences: int | None = None
) -> list[list[int]]:
    """One epoch of training batches: all indices in random order, sorted by length within large pools, cut, shuffled.

    Args:
        lengths: tokens of each feature.
        seed, epoch: not negative; the same pair gives the same batches.
        max_tokens: the largest padded size (longest length times rows) of a batch.
        max_sentences: the largest number of rows. At least one of the two bounds is needed.

    Returns:
        Lists of indices into `lengths`; every index occurs exactly once.

    Raises:
        BiomegError: no bound, a bound below 1, or a feature longer than `max_tokens`.
    """
    random = np.random.default_rng((seed, epoch))
    order = random.permutation(len(lengths)).tolist()
    batches: list[list[int]] = []
    for start in range(0, len(order), _POOL):
        pool = sorted(order[start : start + _POOL], key=lengths.__getitem__)
        batches += _cut(pool, lengths, max_tokens, max_sentences)
    return [batches[index] for index in random.permutation(len(batches))]


def evaluation_tokens(place: torch.device, lengths: Sequence[int]) -> int:
    """Padded tokens a batch without gradients, at least the longest length.

    On a CPU, what was fastest: larger batches do not fit into its cache, smaller ones keep its threads waiting.
    """
    return max([4096 if place.type == "cpu" else 32768, *lengths])


def evaluation_batches(lengths: Sequence[int], max_tokens: int) -> list[list[int]]:
    """All indices once, the longest first, so that a lack of memory shows at once; padded size up to `max_tokens`.

    Raises:
        BiomegError: a feature longer than `max_tokens`.
    """
    order = sorted(range(len(lengths)), key=lengths.__getitem__, reverse=True)
    return list(_cut(order, lengths, max_tokens, None))


def pad(rows: Sequence[Sequence[int]], value: int) -> torch.Tensor:
    """int64[B, T] of at least one row, filled up to the longest with `value`."""
    there = _there(rows)
    result = np.full(there.shape, value, dtype=np.int64)
    # all rows at once; numpy joins arrays quickly, and lists slowly
    arrays = isinstance(rows[0], np.ndarray)
    result[there] = np.concatenate(rows) if arrays else np.fromiter(itertools.chain.from_iterable(rows), dtype=np.int64)
    return torch.from_numpy(result)


def real_tokens(rows: Sequence[Sequence[int]]) -> torch.Tensor:
    """bool[B, T], True where `pad` puts a number of a row."""
    return torch.from_numpy(_there(rows))


def _there(rows: Sequence[Sequence[int]]) -> np.ndarray:
    lengths = np.fromiter(map(len, rows), dtype=np.int64, count=len(rows))
    return np.arange(lengths.max()) < lengths[:, None]


def _cut(
    order: Sequence[int], lengths: Sequence[int], max_tokens: int | None, max_sentences: int | None
) -> Iterable[list[int]]:
    """Cut an order into batches, each as large as the bounds allow."""
    if max_tokens is None and max_sentences is None:
        raise BiomegError("expected a bound for a batch: max_tokens, max_sentences or both")
    if max_sentences is not None and max_sentences < 1:
        raise BiomegError(f"expected max_sentences of at least 1, found {max_sentences}")
    batch: list[int] = []
    longest = 0
    for index in order:
        if max_tokens is not None and lengths[index] > max_tokens:
            raise BiomegError(
                f"expected max_tokens of at least {lengths[index]}, the longest input, found {max_tokens}"
            )
        longest = max(longest, lengths[index])
        full = max_sentences is not None and len(batch) == max_sentences
        if batch and (full or (max_tokens is not None and longest * (len(batch) + 1) > max_tokens)):
            yield batch
            batch, longest = [], lengths[index]
        batch.append(index)
    if batch:
        yield batch
