"""Batches: every index once, bounds kept, the same for the same seed and epoch, and little padding."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from biomeg_lib.errors import BiomegError
from biomeg_lib.tasks.batching import evaluation_batches, pad, token_batches
from biomeg_lib.tasks.ner import Feature

LENGTHS = st.lists(st.integers(1, 40), max_size=80)


def padded_size(batch, lengths):
    return max(lengths[index] for index in batch) * len(batch)


@settings(max_examples=200, deadline=None)
@given(LENGTHS, st.none() | st.integers(40, 200), st.none() | st.integers(1, 20), st.integers(0, 9), st.integers(0, 9))
def test_every_index_once_within_bounds(lengths, max_tokens, max_sentences, seed, epoch):
    if max_tokens is None and max_sentences is None:
        max_tokens = 40
    batches = token_batches(lengths, seed, epoch, max_tokens=max_tokens, max_sentences=max_sentences)
    assert sorted(index for batch in batches for index in batch) == list(range(len(lengths)))
    assert all(batch for batch in batches)
    assert all(padded_size(batch, lengths) <= (max_tokens or 1e9) for batch in batches)
    assert all(len(batch) <= (max_sentences or 1e9) for batch in batches)
    assert batches == token_batches(lengths, seed, epoch, max_tokens=max_tokens, max_sentences=max_sentences)


@settings(max_examples=100, deadline=None)
@given(LENGTHS, st.integers(40, 200))
def test_evaluation_is_sorted(lengths, max_tokens):
    batches = evaluation_batches(lengths, max_tokens)
    order = [index for batch in batches for index in batch]
    assert sorted(order) == list(range(len(lengths)))
    assert [lengths[index] for index in order] == sorted(lengths, reverse=True)
    assert all(padded_size(batch, lengths) <= max_tokens for batch in batches)
    assert batches == evaluation_batches(lengths, max_tokens)


def test_epochs_and_seeds_differ_and_padding_is_small():
    lengths = torch.randint(5, 128, (5000,), generator=torch.Generator().manual_seed(1)).tolist()
    batches = token_batches(lengths, seed=1, epoch=1, max_tokens=4096, max_sentences=64)
    assert batches != token_batches(lengths, seed=1, epoch=2, max_tokens=4096, max_sentences=64)
    assert batches != token_batches(lengths, seed=2, epoch=1, max_tokens=4096, max_sentences=64)
    longest = [max(lengths[index] for index in batch) for batch in batches]
    assert longest != sorted(longest)
    together = {frozenset(batch) for batch in batches}
    assert not together & {
        frozenset(batch) for batch in token_batches(lengths, 1, 2, max_tokens=4096, max_sentences=64)
    }
    # In random order, batches of 32 are padded to nearly the longest length of all: about 1.9 times the tokens.
    assert sum(padded_size(batch, lengths) for batch in batches) < 1.1 * sum(lengths)


def test_bounds_are_checked():
    with pytest.raises(BiomegError, match="a bound"):
        token_batches([3], seed=1, epoch=0)
    with pytest.raises(BiomegError, match="at least 9"):
        token_batches([3, 9], seed=1, epoch=0, max_tokens=8)
    with pytest.raises(BiomegError, match="at least 9"):
        evaluation_batches([3, 9], 8)
    with pytest.raises(BiomegError, match="max_sentences"):
        token_batches([3], seed=1, epoch=0, max_sentences=0)
    assert token_batches([], seed=1, epoch=0, max_tokens=8) == []


def test_pad():
    batch = pad(
        [Feature([2, 7, 3], [-100, 1, -100], [1], 0, 0), Feature([2, 8, 9, 3], [-100, 0, -100, -100], [1], 1, 0)], 5
    )
    assert batch.tokens.tolist() == [[2, 7, 3, 5], [2, 8, 9, 3]]
    assert batch.types.tolist() == [[0] * 4] * 2
    assert batch.mask.tolist() == [[True, True, True, False], [True] * 4]
    assert batch.labels.tolist() == [[-100, 1, -100, -100], [-100, 0, -100, -100]]
    assert batch.tokens.dtype == batch.types.dtype == batch.labels.dtype == torch.int64
    assert batch.mask.dtype == torch.bool
