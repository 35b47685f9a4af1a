"""What spreading over processes costs: a rank a core, each with a part of the batch, against one process with as many
threads. `python -m biomeg_lib.bench.ranks` is the second rank and any further one.

What is notable: the first rank is the side that the worker serves. It says to the others by a broadcast what comes, a
step or the end, so that all are idle while the other side is measured.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh

from biomeg_lib.bench.pretraining import RECIPE, SEED, Ours, batch_of, config_of
from biomeg_lib.bench.side import Side
from biomeg_lib.corpus.samples import PretrainingBatch
from biomeg_lib.model.parallel import DATA, TENSOR, parallelise
from biomeg_lib.training import loop
from biomeg_lib.training.environment import flushed_denormals
from biomeg_lib.training.optimiser import make_optimizer, optimise
from biomeg_lib.training.ranks import ManyProcesses
from biomeg_lib.training.starting import new_model

END, LOSS, STEP = range(3)


def make(which: str, settings: Mapping[str, Any]) -> Side:
    """Side "ours", several ranks, or the other: one process."""
    return Ranks(settings) if which == "ours" else OneProcess(settings)


class OneProcess(Ours):
    """The training loop's step in one process with all threads."""

    name = "one process"

    def check(self) -> dict[str, float]:
        return {"loss": self._loss(self.model)}


class Ranks(Side):
    """The same step on as many ranks as there are cores, each with one thread."""

    def __init__(self, settings: Mapping[str, Any]):
        self._folder = tempfile.TemporaryDirectory(prefix="biomeg-bench-")
        count = settings["cores"]
        given = json.dumps({**settings, "store": os.path.join(self._folder.name, "store")})
        for rank in range(1, count):
            subprocess.Popen([sys.executable, "-m", "biomeg_lib.bench.ranks", str(rank), given])
        self._step = _Step(0, json.loads(given))
        self._tokens = settings["batch"] * settings["length"]

    def check(self) -> dict[str, float]:
        return {"loss": self._step.do(LOSS)}

    def work(self, number: int) -> float:
        self._step.do(STEP)
        return self._tokens


class _Step:
    """A rank: its part of the model's state and of the batch."""

    def __init__(self, rank: int, settings: Mapping[str, Any]):
        torch.set_num_threads(1)
        count = settings["cores"]
        dist.init_process_group("gloo", init_method=f"file://{settings['store']}", rank=rank, world_size=count)
        mesh = init_device_mesh("cpu", (count, 1), mesh_dim_names=(DATA, TENSOR))
        spread = parallelise(new_model(config_of(settings), SEED).train(), mesh)
        self.ranks = ManyProcesses(spread, dist.new_group(), dist.new_group())
        self.batch = _part(batch_of(settings), rank, count)
        parameters = self.ranks.parameters.values()
        self.optimizer = make_optimizer(parameters, RECIPE.learning_rate, RECIPE.weight_decay)

    @flushed_denormals()
    def do(self, what: int = END) -> float:
        """What the first rank says; returns the loss, or 0 at the end."""
        said = torch.tensor(what)
        dist.broadcast(said, 0)
        if said == END:
            return 0.0
        model = self.ranks.model
        if said == LOSS:
            with loop.evaluation_mode(model, self.ranks.graph_free):
                loss = model.loss(self.batch)[0]
        else:
            loss = model.loss(self.batch)[0]
            loss.backward()
            self.ranks.collect()
            optimise(self.ranks.parameters.values(), self.optimizer, RECIPE.clip_norm, self.ranks.norm)
            self.ranks.clear()
        return float(self.ranks.means({"loss": loss.detach().double()})["loss"])


def _part(batch: PretrainingBatch, number: int, count: int) -> PretrainingBatch:
    """Some of the sequences of a batch."""
    size, length = batch.tokens.shape
    first, last = size * number // count, size * (number + 1) // count
    inside = (batch.positions >= first * length) & (batch.positions < last * length)
    return PretrainingBatch(
        tokens=batch.tokens[first:last],
        types=batch.types[first:last],
        mask=batch.mask[first:last],
        positions=batch.positions[inside] - first * length,
        labels=batch.labels[inside],
        order=batch.order[first:last],
    )


def main(rank: int, settings: Mapping[str, Any]) -> None:
    """Serve until the first rank ends, by itself or otherwise."""
    step = _Step(rank, settings)
    try:
        while step.do():
            pass
    except RuntimeError:  # of gloo: the connection is gone
        return


if __name__ == "__main__":
    main(int(sys.argv[1]), json.loads(sys.argv[2]))
