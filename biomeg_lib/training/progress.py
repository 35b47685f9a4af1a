"""How far a run is: a tqdm bar in a terminal, a line now and then in a notebook or a log file."""

import math
import sys
import time
from types import TracebackType

from tqdm import tqdm


class Progress:
    """Shows loss, speed and time left.

    A bar that redraws itself would fill an executed notebook with control characters, so there it is a line after 10
    seconds, and then at growing distances up to two minutes.

    Args:
        label: what is running.
        steps: all steps of the run.
        done: steps done before a resume.
        shown: False for a process that another speaks for.
    """

    def __init__(self, label: str, steps: int, done: int = 0, shown: bool = True):
        self.label, self.steps, self.step, self.first = label, steps, done, done
        self.tokens, self.started, self.pause = 0, time.monotonic(), 10.0
        self.due = self.started + self.pause if shown else math.inf
        self.shown = shown
        self.bar = tqdm(total=steps, initial=done, desc=label, unit="step") if shown and sys.stderr.isatty() else None

    def __enter__(self) -> "Progress":
        if self.first and self.shown and not self.bar:
            print(f"{self.label}: resumed after step {self.first:,} of {self.steps:,}", flush=True)
        return self

    def update(self, loss: float, tokens: int) -> None:
        """One step is done; it had this loss and this many tokens."""
        self.step += 1
        self.tokens += tokens
        now = time.monotonic()
        speed = self.tokens / max(now - self.started, 1e-9)
        if self.bar is not None:
            self.bar.set_postfix_str(f"loss {loss:.3f}, {speed:,.0f} tokens/s", refresh=False)
            self.bar.update()
        elif now >= self.due:
            left = (now - self.started) / (self.step - self.first) * (self.steps - self.step)
            place = f"step {self.step:,} of {self.steps:,}"
            remaining = f"{int(left // 60)}:{int(left % 60):02d} left"
            print(f"{self.label}: {place}, loss {loss:.3f}, {speed:,.0f} tokens/s, {remaining}", flush=True)
            self.pause = min(2 * self.pause, 120.0)
            self.due = now + self.pause

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.bar is not None:
            self.bar.close()
