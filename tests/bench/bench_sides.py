"""Sides for the tests of the harness; what they do is written to the file `log`."""

import os
import sys

from biomeg_lib.bench.side import Side

SPEEDS = {"ours": 12.0, "slow": 1.0, "quick": 4.0, "loud": 4.0, "other": 9.0}


def make(which, settings):
    return Fake(which, settings["log"])


class Fake(Side):
    limit = "the machine"

    def __init__(self, which, log):
        if which == "broken":
            raise ValueError("does not support an attention\nand more")
        self.which, self.name = which, f"the {which} one"
        self._log = open(log, "a", buffering=1)  # noqa: SIM115 - the process ends with it
        self._say(f"made-{which}")

    def _say(self, text):
        self._log.write(text + "\n")

    def check(self):
        return {"loss": 2.5 if self.which == "other" else 2.0}

    def work(self, number):
        return 1.0

    def value(self, number):
        self._say(f"{self.which}:{number}")
        if self.which == "loud":
            print("a line of a library", flush=True)
            os.write(1, b"and one past Python\n")
        if self.which == "dying":
            print("last words", file=sys.stderr, flush=True)
            os._exit(3)
        if self.which == "matrix":
            import torch

            return float(torch.mm(torch.ones(600, 600), torch.ones(600, 600)).sum())
        if self.which == "cores":
            return float(len(os.sched_getaffinity(0)))
        return SPEEDS[self.which] + max(number, 0)

    def share(self, value):
        self._say("share")
        return value / 10, 2.0
