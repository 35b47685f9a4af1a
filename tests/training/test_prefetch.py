"""Batches ahead of their step: what calls in order would give, errors as they are, and no thread left behind."""

import itertools
import threading
import time

import pytest

from biomeg_lib.training.prefetch import Prefetch


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("prefetch")]


def keys(count: int) -> list[tuple[int, int]]:
    return list(itertools.product(range(count), range(2)))


@pytest.mark.parametrize("depth", [1, 3, 50])
def test_items_come_in_order_whatever_they_take(depth):
    def make(step: int, micro: int) -> tuple[int, int]:
        time.sleep(0.002 if (step + micro) % 3 == 0 else 0)
        return step, micro

    with Prefetch(make, keys(8), depth) as items:
        assert list(items) == keys(8)
        assert list(items) == []
    assert threads() == []
    with Prefetch(make, [], depth) as items:
        assert list(items) == []


def test_no_more_than_the_depth_is_made_ahead():
    made = []
    with Prefetch(lambda number: made.append(number) or number, ((n,) for n in itertools.count()), depth=3) as items:
        for expected in range(5):
            assert next(items) == expected
            deadline = time.monotonic() + 5
            while len(made) < expected + 4 and time.monotonic() < deadline:
                time.sleep(0.001)
            time.sleep(0.01)
            assert made == list(range(expected + 4))
    assert threads() == []


def test_waiting_is_counted():
    """Of eight items of 20 ms each, all are waited for by who does nothing else."""
    with Prefetch(lambda number: time.sleep(0.02) or number, ((n,) for n in range(8))) as items:
        started = time.monotonic()
        assert list(items) == list(range(8))
        taken = time.monotonic() - started
    assert 0.14 < items.waited <= taken


class Broken(Exception):
    pass


@pytest.mark.parametrize("error", [Broken, KeyboardInterrupt, StopIteration])
def test_an_error_comes_where_the_item_would_and_as_it_is(error):
    raised = error("at 3")

    def make(number: int) -> int:
        if number == 3:
            raise raised
        return number

    seen = []

    def consume() -> None:
        with Prefetch(make, ((n,) for n in range(9))) as items:
            while True:
                seen.append(next(items))

    with pytest.raises(error) as caught:
        consume()
    assert caught.value is raised
    assert seen == [0, 1, 2]
    assert threads() == []


@pytest.mark.parametrize("error", [Broken, KeyboardInterrupt])
def test_an_error_of_the_consumer_ends_the_thread(error):
    made = []

    def consume() -> None:
        with Prefetch(lambda number: made.append(number), ((n,) for n in range(1000))) as items:
            next(items)
            raise error

    with pytest.raises(error):
        consume()
    assert threads() == []
    count = len(made)
    assert count <= 5
    time.sleep(0.02)
    assert len(made) == count
