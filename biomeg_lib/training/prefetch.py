"""Batches made ahead of the step that needs them, in a thread of their own.

Notable: what comes out is what calls in order would give, since `make` is a pure function; only the time differs. One
thread is enough: numpy and PyTorch let go of Python's lock while they compute.
"""

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from types import TracebackType
from typing import Generic, TypeVar

Item = TypeVar("Item")

DEPTH = 3  # batches in memory besides the one in use


class Prefetch(Generic[Item]):
    """An iterator over `make(*key)` for each of `keys`, in order; a context, at whose end the thread has ended.

    What `make` raises is raised as it is, where the item would have come. At the end of the context, items that nobody
    waits for any more are not made; one that is being made is waited for.

    Args:
        make: called in the thread, for one key at a time.
        keys: arguments, taken as they are needed.
        depth: how many items may be ready.

    Attributes:
        waited: seconds that the consumer has spent waiting for items.
    """

    def __init__(self, make: Callable[..., Item], keys: Iterable[tuple], depth: int = DEPTH):
        self._make, self._keys = make, iter(keys)
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="prefetch")
        self._coming: deque[Future[Item]] = deque()
        self.waited = 0.0
        self._order(depth)

    def _order(self, count: int) -> None:
        self._coming.extend(self._pool.submit(self._make, *key) for key in islice(self._keys, count))

    def __iter__(self) -> Iterator[Item]:
        return self

    def __next__(self) -> Item:
        if not self._coming:
            raise StopIteration
        started = time.monotonic()
        item = self._coming.popleft().result()
        self.waited += time.monotonic() - started
        self._order(1)
        return item

    def __enter__(self) -> "Prefetch[Item]":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._coming.clear()
        self._pool.shutdown(cancel_futures=True)
