"""Work shared among processes, results in order: what comes out does not depend on how many there are.

Notable: results go through files, so memory is bounded whatever one item yields. Processes are spawned, not forked,
since a fork of a process with PyTorch's threads can hang; they do not import the caller's main module, so a script
needs no `if __name__ == "__main__"`. They end when their parent does, however that happens.
"""

import contextlib
import copyreg
import multiprocessing
import os
import pickle
import shutil
import signal
import sys
import tempfile
import threading
import types
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any, TypeVar

from biomeg_lib.errors import BiomegError, InputError

Item, Result = TypeVar("Item"), TypeVar("Result")
WORTH_A_POOL = 4 << 20  # bytes of input that one process reads in about the time that others take to start
_IN_FLIGHT = 2  # items a process: one in work, one waiting


def process_count(size: int) -> int:
    """How many processes to use for `size` bytes of input: one if that is little, else one for each CPU at hand."""
    if size < WORTH_A_POOL or multiprocessing.current_process().daemon:
        return 1
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def flat_map(
    function: Callable[[Item], Iterable[Result]], items: Iterable[Item], processes: int, scratch: Path
) -> Iterator[Result]:
    """The results of `function(item)` for each item, in order; close the iterator if it is not used up.

    Args:
        function: picklable; sent to each process once, with what it carries.
        items: picklable; taken as they are needed, two for each process.
        processes: how many; with 1, everything happens in this one.
        scratch: an existing folder, for results that wait for their turn.

    Raises:
        BiomegError: what `function` or `items` raised, the earliest in order; or that a process died.
    """
    if processes == 1:
        for item in items:
            yield from function(item)
        return
    pool = ProcessPoolExecutor(processes, multiprocessing.get_context("spawn"), _start, (function,))
    folder = Path(tempfile.mkdtemp(dir=scratch))
    try:
        yield from _in_order(pool, iter(items), _IN_FLIGHT * processes, folder)
    except BrokenProcessPool as error:
        raise BiomegError(
            "a worker process was killed, perhaps because memory ran out; free some and run it again"
        ) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)  # how processes learn that their results are no longer wanted
        pool.shutdown(cancel_futures=True)
        shutil.rmtree(folder, ignore_errors=True)  # what they made meanwhile


def _in_order(pool: ProcessPoolExecutor, items: Iterator, limit: int, folder: Path) -> Iterator[Any]:
    pending: deque[tuple[Future, Path]] = deque()
    number, more, failure = 0, True, None
    while more or pending:
        while more and len(pending) < limit:
            try:
                item = next(items)
            except StopIteration:
                more = False
            except BiomegError as error:  # raised after what the items before it come to
                more, failure = False, error
            else:
                path = folder / str(number)
                with _blank_main():
                    pending.append((pool.submit(_store, item, path), path))
                number += 1
        if pending:
            done, path = pending.popleft()
            done.result()
            with open(path, "rb") as stream:
                for _ in range(done.result()):
                    yield pickle.load(stream)
            path.unlink()
    if failure is not None:
        raise failure


@contextlib.contextmanager
def _blank_main() -> Iterator[None]:
    """Keep processes that start meanwhile from importing the main module, which may be a script without a guard."""
    main = sys.modules["__main__"]
    sys.modules["__main__"] = types.ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


# --- In the processes -----------------------------------------------------------------------------------------------

_function: Callable[[Any], Iterable[Any]]


def _start(function: Callable[[Any], Iterable[Any]]) -> None:
    global _function
    _function = function
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # ends the process at once and without a trace; the parent reports
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    wait([multiprocessing.parent_process().sentinel])
    os._exit(1)


def _store(item: Any, path: Path) -> int:
    """Write the results for an item as pickles, one after the other; returns how many."""
    number = 0
    with open(path, "wb") as stream:
        for result in _function(item):
            pickle.dump(result, stream, pickle.HIGHEST_PROTOCOL)
            number += 1
            if not path.exists():
                break
    return number


def _restore_error(message: str, path: str, line: int | None) -> InputError:
    error = InputError.__new__(InputError, message)
    error.path, error.line = path, line
    return error


# By default an exception is made anew from its message alone, which `InputError` does not accept.
copyreg.pickle(InputError, lambda error: (_restore_error, (str(error), error.path, error.line)))
