"""Batches of similar length, so that little of a batch is padding.

What is notable: a batch is bounded by its padded size, the longest length times the number of rows, because that is
what memory and time grow with. Training batches are a function of (lengths, bounds, seed, epoch) alone, so that a
resumed run meets the same ones.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from biomeg_lib.errors import BiomegError
from biomeg_lib.tasks.ner import NO_LABEL, Feature

_POOL = 1024  # rows sorted together: enough for even lengths, few enough for batches to differ from epoch to epoch


@dataclass(frozen=True, slots=True)
class NerBatch:
    """B features padded to T tokens.

    Attributes:
        tokens: int64[B, T] ids.
        types: int64[B, T] zeros, the first segment.
        mask: bool[B, T], True for a real token.
        labels: int64[B, T], `ner.NO_LABEL` where there is none.
    """

    tokens: torch.Tensor
    types: torch.Tensor
    mask: torch.Tensor
    labels: torch.Tensor


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


def evaluation_batches(lengths: Sequence[int], max_tokens: int) -> list[list[int]]:
    """All indices once, the longest first, so that a lack of memory shows at once; padded size up to `max_tokens`.

    Raises:
        BiomegError: a feature longer than `max_tokens`.
    """
    order = sorted(range(len(lengths)), key=lengths.__getitem__, reverse=True)
    return list(_cut(order, lengths, max_tokens, None))


def pad(features: Sequence[Feature], pad_id: int) -> NerBatch:
    """Tensors of at least one feature, padded to the longest."""
    shape = len(features), max(len(feature.tokens) for feature in features)
    tokens = torch.full(shape, pad_id, dtype=torch.int64)
    mask = torch.zeros(shape, dtype=torch.bool)
    labels = torch.full(shape, NO_LABEL, dtype=torch.int64)
    for row, feature in enumerate(features):
        length = len(feature.tokens)
        tokens[row, :length] = torch.tensor(feature.tokens)
        mask[row, :length] = True
        labels[row, :length] = torch.tensor(feature.labels)
    return NerBatch(tokens, torch.zeros(shape, dtype=torch.int64), mask, labels)


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
