"""`python -m biomeg_lib.stage MINUTES COMMAND...`: a command that can be gone on with, for so long and no longer.

`make study MINUTES=9` is this with snakemake. What is notable: when the time is up, the command and all it has started
get a SIGINT, as by Ctrl-C in a terminal; the same is done with a SIGINT, SIGTERM or SIGHUP that comes to this process.
`timeout --signal=INT` would do, but for Ctrl-C: between `make` and snakemake it keeps that from snakemake.
"""

import contextlib
import math
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from types import FrameType

MORE = 75  # of sysexits.h: no error, but not done; try again
FAILED = 1


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns 0 if the command has finished, `MORE` if the time was up before, else the command's own exit code."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    minutes = _minutes(given[0]) if given else None
    if minutes is None or len(given) < 2:
        found = " ".join(given) or "nothing"
        print(f"stage: expected a number of minutes above 0, then a command, found {found}", file=sys.stderr)
        return FAILED
    try:
        return run(given[1:], 60 * minutes)
    except OSError as error:
        print(f"stage: {given[1]}: {error.strerror or error}", file=sys.stderr)
        return FAILED


def run(command: Sequence[str], seconds: float) -> int:
    """Run a command for at most `seconds`, and until it has ended after being interrupted; exit codes as of `main`.

    Raises:
        OSError: it cannot be started.
    """
    process: subprocess.Popen | None = None
    received: list[int] = []

    def pass_on(number: int, frame: FrameType | None) -> None:
        received.append(number)
        if process is not None:
            _interrupt(process)

    # Before the command starts, so that it can be interrupted even where this process was to ignore SIGINT, as the
    # background jobs of a script are.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, pass_on)
    process = subprocess.Popen(command, process_group=0)
    if received:
        _interrupt(process)
    ended = _wait(process, seconds)
    if not ended:
        print(f"stage: {seconds / 60:g} minutes are over, what runs is being saved", file=sys.stderr, flush=True)
        _interrupt(process)
    code = process.wait()
    if received:
        return 128 + received[0]
    if ended or code == 0:
        return code if code >= 0 else 128 - code
    print("stage: there is more to do; the same command goes on from here", file=sys.stderr, flush=True)
    return MORE


def _minutes(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) and value > 0 else None


def _wait(process: subprocess.Popen, seconds: float) -> bool:
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        return False
    return True


def _interrupt(process: subprocess.Popen) -> None:
    with contextlib.suppress(ProcessLookupError):  # it has ended by itself
        os.killpg(process.pid, signal.SIGINT)


if __name__ == "__main__":
    sys.exit(main())
