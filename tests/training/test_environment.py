"""Denormals: zero in every thread that computes, within the block alone."""

import threading

import pytest
import torch

from biomeg_lib.training.environment import flushed_denormals

TINY = 1e-40


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def flushing() -> list[bool]:
    """Whether products of denormals by 1 are zero, at places of both threads; looked at as bits, which are kept."""
    values = torch.full((2**20,), 71362, dtype=torch.int32).view(torch.float32)
    bits = (values * 1.0).view(torch.int32)
    return [int(bits[place]) == 0 for place in (0, 2**18, 3 * 2**18, 2**20 - 1)]


def test_all_threads_flush_within_the_block_alone(two_threads):
    assert torch.full((1,), 71362, dtype=torch.int32).view(torch.float32).item() == pytest.approx(TINY, rel=1e-4)
    assert flushing() == [False] * 4  # and so the pool has its threads before the block
    with flushed_denormals():
        assert flushing() == [True] * 4
        with flushed_denormals():
            assert flushing() == [True] * 4
        assert flushing() == [True] * 4
        inside: list[bool] = []
        thread = threading.Thread(target=lambda: inside.extend(flushing()))
        thread.start()
        thread.join()
        assert inside == [True] * 4
    assert flushing() == [False] * 4


def test_an_error_restores_what_was(two_threads):
    with pytest.raises(ZeroDivisionError), flushed_denormals():
        raise ZeroDivisionError
    assert flushing() == [False] * 4
