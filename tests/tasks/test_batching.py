"""Batches: every index once, bounds kept, the same for the same seed and epoch, and little padding."""

from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from biomeg_lib.errors import BiomegError
from biomeg_lib.tasks.batching import (
    epoch_batches,
    evaluation_batches,
    evaluation_tokens,
    pad,
    real_tokens,
    token_batches,
)
from biomeg_lib.tasks.ner import Feature
from biomeg_lib.tasks.ner_arm import token_batch

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


def test_evaluation_takes_the_longest_feature_whatever_its_length():
    cpu = torch.device("cpu")
    assert evaluation_tokens(cpu, [3, 9]) == evaluation_tokens(cpu, [])
    assert evaluation_batches([3, 10**6], evaluation_tokens(cpu, [3, 10**6])) == [[1], [0]]
    assert evaluation_tokens(torch.device("cuda"), [3]) > evaluation_tokens(cpu, [3])


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


def test_the_batch_of_some_features():
    batch = token_batch(
        [Feature([2, 7, 3], [-100, 1, -100], [1], 0, 0), Feature([2, 8, 9, 3], [-100, 0, -100, -100], [1], 1, 0)], 5
    )
    assert batch.tokens.tolist() == [[2, 7, 3, 5], [2, 8, 9, 3]]
    assert batch.types.tolist() == [[0] * 4] * 2
    assert batch.mask.tolist() == [[True, True, True, False], [True] * 4]
    assert batch.labels.tolist() == [[-100, 1, -100, -100], [-100, 0, -100, -100]]
    assert batch.tokens.dtype == batch.types.dtype == batch.labels.dtype == torch.int64
    assert batch.mask.dtype == torch.bool


ROWS = st.lists(st.lists(st.integers(-100, 30000), max_size=9), min_size=1, max_size=9)


@settings(max_examples=100, deadline=None)
@given(ROWS, st.integers(-100, 9), st.booleans())
def test_padding_can_be_taken_off(rows, value, arrays):
    given_rows = [np.array(row, dtype=np.int32) for row in rows] if arrays else rows
    padded, mask = pad(given_rows, value), real_tokens(given_rows)
    assert padded.shape == mask.shape == (len(rows), max(map(len, rows)))
    assert (padded.dtype, mask.dtype) == (torch.int64, torch.bool)
    assert [line[there].tolist() for line, there in zip(padded, mask, strict=True)] == rows
    assert (padded[~mask] == value).all()
    assert all(line[: len(row)].all() for line, row in zip(mask, rows, strict=True))  # padding follows


@settings(max_examples=100, deadline=None)
@given(LENGTHS, st.integers(0, 9), st.integers(0, 4), st.integers(1, 20))
def test_epochs_without_copies_are_plain(lengths, seed, epochs, rows):
    expected = [token_batches(lengths, seed, epoch, max_sentences=rows) for epoch in range(epochs)]
    assert epoch_batches(lengths, seed, epochs, rows) == expected
    # To show everything once is another random order, of the same things in as many steps.
    once = epoch_batches(lengths, seed, epochs, rows, [1.0] * len(lengths))
    assert [Counter(map(len, batches)) for batches in once] == [Counter(map(len, batches)) for batches in expected]
    for batches in once:
        assert sorted(index for batch in batches for index in batch) == list(range(len(lengths)))


@settings(max_examples=100, deadline=None)
@given(st.data(), st.integers(0, 9), st.integers(1, 4), st.integers(1, 8))
def test_oversampling_shows_all_and_takes_as_many_steps(data, seed, epochs, rows):
    """However often things are shown, the steps are those of no oversampling, and no whole round leaves any out."""
    lengths = data.draw(st.lists(st.integers(1, 40), min_size=1, max_size=40))
    whole = data.draw(st.booleans())
    copies = [float(data.draw(st.integers(1, 4) if whole else st.floats(1, 4))) for _ in lengths]
    result = epoch_batches(lengths, seed, epochs, rows, copies)
    plain = epoch_batches(lengths, seed, epochs, rows)
    assert [len(batches) for batches in result] == [len(batches) for batches in plain]
    flat = [batch for batches in result for batch in batches]
    assert all(1 <= len(batch) <= rows for batch in flat)
    shown = Counter(index for batch in flat for index in batch)
    assert shown.keys() <= set(range(len(lengths)))
    assert all(shown[index] <= epochs * np.ceil(copies[index]) for index in shown)
    if whole:
        rounds = len(flat) // -(-int(sum(copies)) // rows)
        assert all(shown[index] >= rounds * copies[index] for index in range(len(lengths)))
    assert result == epoch_batches(lengths, seed, epochs, rows, copies)


def test_oversampling_shows_each_thing_its_number_of_times():
    """Three rounds of a hundred things, 200 rows each: 6 epochs of 100 rows are what they fill, up to round 3."""
    lengths = list(range(1, 101))
    copies = [1.0] * 50 + [3.0] * 50
    batches = epoch_batches(lengths, seed=4, epochs=6, rows=10, copies=copies)
    assert [len(epoch) for epoch in batches] == [10] * 6
    for start in (0, 2, 4):
        shown = Counter(index for epoch in batches[start : start + 2] for batch in epoch for index in batch)
        assert shown == {index: int(times) for index, times in enumerate(copies)}
    assert batches[:2] != batches[2:4]
    assert batches != epoch_batches(lengths, seed=5, epochs=6, rows=10, copies=copies)


def test_a_fraction_of_a_copy_is_a_choice_anew():
    lengths, copies = [5] * 4000, [1.25] * 4000
    flat = [i for epoch in epoch_batches(lengths, 1, 5, 1, copies) for batch in epoch for i in batch]
    shown = np.bincount(flat, minlength=4000)
    assert len(flat) == 5 * 4000
    assert shown.mean() == 5
    # Four rounds of about 5000: 4 and binomially many more of each, B(4, 1/4).
    share = np.bincount(shown, minlength=9)[3:9] / 4000
    assert share[1:].sum() > 0.99
    assert share[1:6] == pytest.approx([0.316, 0.422, 0.211, 0.047, 0.004], abs=0.03)
