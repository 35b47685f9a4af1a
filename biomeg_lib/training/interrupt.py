"""Ctrl-C that waits for the end of a step, so that what was trained is saved before it ends the run.

An exception may come between any two lines, also when the optimiser has updated half of the weights; what is saved then
is no state that training passes through.
"""

import signal
import threading
from types import FrameType, TracebackType


class HeldInterrupt:
    """A context in which Ctrl-C does no more than set `asked`; who is in it looks at that where it can stop.

    A second Ctrl-C interrupts at once, and one that was not heeded does so at the end of the context. Nothing changes
    outside the main thread, where Python has no signals, and where Ctrl-C has been given another meaning. A process
    that has given SIGTERM the meaning of Ctrl-C (`signal.default_int_handler`) is held from both.

    Attributes:
        asked: whether it has come.
    """

    def __init__(self) -> None:
        self.asked = False
        self._held: list[int] = []

    def __enter__(self) -> "HeldInterrupt":
        if threading.current_thread() is threading.main_thread():
            signals = (signal.SIGINT, signal.SIGTERM)
            self._held = [number for number in signals if signal.getsignal(number) is signal.default_int_handler]
        for number in self._held:
            signal.signal(number, self._hold)
        return self

    def _hold(self, number: int, frame: FrameType | None) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number in self._held:
            signal.signal(number, signal.default_int_handler)
        if self.asked and kind is None:
            raise KeyboardInterrupt
