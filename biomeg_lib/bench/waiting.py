"""How long a pre-training step waits for its batch, in the training loop itself, on real text.

`settings`: those of a shape (see `pretraining`) but for the vocabulary, and `steps` a round.
"""

import dataclasses
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from biomeg_lib.bench import data
from biomeg_lib.bench.pretraining import RECIPE, SEED, config_of
from biomeg_lib.bench.side import Side
from biomeg_lib.corpus.documents import build_corpus
from biomeg_lib.corpus.samples import PretrainingBatch, PretrainingSamples
from biomeg_lib.corpus.shards import build_shards, open_split
from biomeg_lib.training import loop
from biomeg_lib.training.rundir import RunDirectory
from biomeg_lib.training.starting import new_model
from biomeg_lib.vocab import Vocabulary


def make(which: str, settings: Mapping[str, Any]) -> Side:
    """Ours alone: the peer is the step."""
    return Waiting(settings)


class Waiting(Side):
    """Runs of a few steps; work is counted in steps."""

    limit = "the whole step"
    repeatable = False

    def __init__(self, settings: Mapping[str, Any]):
        torch.set_num_threads(settings["cores"])
        self.generated = data.is_generated(settings)
        self.steps = settings["steps"]
        folder = Path(settings["folder"])
        vocabulary = Vocabulary.load(data.vocabulary_file(settings), lowercase=False)
        build_corpus(data.packages(settings)[:1], "jats", folder / "corpus")
        build_shards(folder / "corpus", vocabulary, folder / "shards", 0.1)
        prefix = open_split(folder / "shards", "train", vocabulary)
        self.samples = PretrainingSamples(prefix, vocabulary, settings["length"], SEED)
        self.rows = settings["batch"]
        self.model = new_model(config_of({**settings, "vocabulary": vocabulary.padded_size()}), SEED)
        self.runs = tempfile.TemporaryDirectory(dir=folder)
        self.trained: loop.Trained

    def check(self) -> dict[str, float]:
        return {}

    def work(self, number: int) -> float:
        run = RunDirectory(Path(self.runs.name) / str(number), {"round": number})
        recipe = dataclasses.replace(RECIPE, steps=self.steps)

        def batch(step: int, micro: int) -> PretrainingBatch:
            return self.samples.batch((number + 1) * self.steps + step, self.rows)

        with run.start():
            self.trained = loop.train(self.model, batch, recipe, run, lambda model: {}, label="input-wait")
            run.finish({})
        return self.steps

    def share(self, value: float) -> tuple[float, float]:
        """Milliseconds that a step of the last round waited, and took."""
        step = 1e3 * self.trained.seconds / self.steps
        return self.trained.input_wait * step, step
