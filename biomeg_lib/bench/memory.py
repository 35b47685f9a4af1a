"""Memory of this process, as Linux counts it, in MB (10^6 bytes)."""

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

_PROCESS = Path("/proc/self")


def resident_memory() -> float:
    """What is in memory now."""
    return _read("VmRSS")


def peak_memory() -> float:
    """The most that was, since the process began or `forget_peak`."""
    return _read("VmHWM")


def forget_peak() -> None:
    """From now on, the peak is that of what follows."""
    (_PROCESS / "clear_refs").write_text("5")


class FamilyPeak:
    """A context that finds, by looking 50 times a second, the most that this process and those it started hold.

    Attributes:
        grown: what that is more than at the beginning; pages that processes share count for each.
    """

    def __init__(self):
        self.grown = 0.0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def _watch(self) -> None:
        while not self._ended.wait(0.02):
            self._look()

    def _look(self) -> None:
        self.grown = max(self.grown, sum(map(_resident, _family(_PROCESS))) - self._before)

    def __enter__(self) -> "FamilyPeak":
        self._before = resident_memory()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()
        self._look()


def _family(process: Path) -> Iterator[Path]:
    """A process and all that stem from it; those that end meanwhile are left out."""
    yield process
    with contextlib.suppress(OSError):
        for task in (process / "task").iterdir():
            for child in (task / "children").read_text().split():
                yield from _family(Path("/proc") / child)


def _resident(process: Path) -> float:
    try:
        return _read("VmRSS", process)
    except OSError:  # it has ended
        return 0.0


def _read(name: str, process: Path = _PROCESS) -> float:
    for line in (process / "status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024 / 1e6
    raise OSError(f"/proc/self/status: expected a line {name}")
