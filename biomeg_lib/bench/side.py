"""`Side`: what a worker runs, ours or a peer's."""

import time
from abc import ABC, abstractmethod

from biomeg_lib.errors import BiomegError


class Side(ABC):
    """One side of a case, made ready.

    Attributes:
        name: what bench.csv calls it.
        generated: its input is the embedded miniature.
        repeatable: doing the same work again says the same; False where what was seen before is quicker the second
            time, so that every round has an input of its own.
        limit: what `share` compares with.
    """

    name = "ours"
    generated = False
    repeatable = True
    limit = ""
    repeats = 1

    @abstractmethod
    def check(self) -> dict[str, float]:
        """Figures that must be the same on both sides: losses without dropout, counts, sums of ids."""

    @abstractmethod
    def work(self, number: int) -> float:
        """Do the work of round `number` once; returns how much it was, in the case's unit without "/s"."""

    def finish(self) -> None:  # noqa: B027 - a CPU has nothing to wait for
        """Wait until all that was asked of the device is done."""

    def value(self, number: int) -> float:
        """The figure of round `number`: work a second."""
        begun = time.perf_counter()
        amount = sum(self.work(number) for _ in range(self.repeats))
        self.finish()
        return amount / (time.perf_counter() - begun)

    def warm_up(self, seconds: float) -> None:
        """Work, unmeasured; where it can be repeated, work again and choose repeats that take about `seconds`."""
        self.work(-1)
        self.finish()
        if self.repeatable:
            begun = time.perf_counter()
            self.work(-1)
            self.finish()
            self.repeats = max(1, round(seconds / (time.perf_counter() - begun)))

    def share(self, value: float) -> tuple[float, float]:
        """What `value` means in the unit of `limit`, and that limit, measured now.

        Raises:
            BiomegError: this side is compared with no limit.
        """
        raise BiomegError(f"bench: {self.name} has no limit to be a share of")
