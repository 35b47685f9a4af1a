"""`Arm`: one run of a grid, ready to train: a model, its batches, and how a split is predicted and scored.

Notable: this class knows encoders, seeds and batches, and nothing of any task; each task is a subclass that says what
its features are, which head it has and what its figures mean. Arms that are compared with one another share seeds, and
with the seed the training examples, their order and the head's first weights.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import pandas as pd
from torch import nn

from biomeg_lib.checkpoints.weights import load_shape, load_weights
from biomeg_lib.errors import BiomegError
from biomeg_lib.grids import Cell, Grid
from biomeg_lib.model import CrossEntropy, ModelConfig, SelfAdjustingDice, balanced_weights
from biomeg_lib.model.classifiers import Classifier
from biomeg_lib.plan.room import refuse_too_large
from biomeg_lib.plan.runs import fused
from biomeg_lib.plan.spread import Run, Spread
from biomeg_lib.study import Study, with_dropout
from biomeg_lib.tasks.batching import Feature, epoch_batches
from biomeg_lib.training.finetune import finetune
from biomeg_lib.training.loop import CHECKPOINT_SECONDS, Trained, seed_step
from biomeg_lib.training.rundir import RunDirectory
from biomeg_lib.vocab import Vocabulary


class Arm(ABC):
    """The model and the features of one run.

    Attributes:
        optimum: the figure of the development set that chooses epoch and hyper-parameters; the larger the better.
        model: with the weights it starts from.
        features: of the training set.
    """

    optimum: ClassVar[str]
    model: Classifier

    def __init__(self, study: Study, cell: Cell, point: dict[str, Any], seed: int, epochs: int, data: Any):
        self.study, self.cell, self.point, self.seed, self.data = study, cell, point, seed, data
        self.grid: Any = study.grids[cell.grid]
        spec = study.pretraining[cell.encoder]
        self.vocabulary = Vocabulary.load(study.vocabulary_directory(spec.vocabulary))
        self.features = self.training_features()
        if not self.features:
            raise BiomegError(
                f"{study.params_file}: benchmarks.{cell.benchmark}: expected training examples, found none"
            )
        copies = self.copies() if cell.remedy == "oversampled" else None
        lengths = [len(feature.tokens) for feature in self.features]
        self.epochs = epoch_batches(lengths, seed, epochs, self.grid.batch, copies)
        weights = folder = None
        if spec.model is not None and cell.start == "random":
            config = study.model_config_for(spec.model, self.vocabulary.padded_size(), self.grid.dropout)
        else:
            folder = study.run_directory("pretrain", cell.encoder)
            config = with_dropout(load_shape(folder), self.grid.dropout)
        self._check_room(config, lengths)
        if folder is not None:
            _, weights = load_weights(folder)
        seed_step(seed, -1)
        self.model = self.make_model(config, point, self.grid)
        earlier = study.earlier(cell)
        if earlier is not None:
            self._go_on_from(earlier.run(seed))
        elif cell.start == "pretrained":
            self.model.load_encoder(weights)
        if study.compile:
            self.model.encoder.compile()

    def _check_room(self, config: ModelConfig, lengths: Sequence[int]) -> None:
        if self.study.compile:  # what compiled code keeps is not known
            return
        # the batch of most tokens, as full sequences: padding is left out on a CPU
        length = max(lengths)
        tokens = max(sum(lengths[index] for index in batch) for epoch in self.epochs for batch in epoch)
        batch = max(1, tokens // length)
        dropout = self.grid.dropout > 0
        run = Run(batch * length, batch, length, fused=fused(self.study), dropout=dropout, fine_tuning=True)
        where = f"{self.study.params_file}: {self.cell.grid} with {self.cell.encoder}"
        refuse_too_large(where, config, run, Spread(1, 1, batch, 1, recompute=False))

    def _go_on_from(self, run: str) -> None:
        folder = self.study.run_directory("finetune", run)
        if (folder / "metrics.json").is_file() and not (folder / "model.safetensors").is_file():
            # it is older than the route to it, see `Study.keeps_weights`
            raise BiomegError(f"{folder}: expected a run with its weights, found none; delete the folder to redo it")
        _, weights = load_weights(folder)
        mine = self.model.state_dict()
        if {name: value.shape for name, value in weights.items()} != {n: value.shape for n, value in mine.items()}:
            raise BiomegError(f"{folder}: expected a head like that of {self.cell.grid}: search one head in both")
        self.model.load_state_dict(weights)

    def train(self, run: RunDirectory, label: str, checkpoint_seconds: float = CHECKPOINT_SECONDS) -> Trained:
        """Fine-tune; the model then has the weights of the epoch with the best score on the development set."""
        return finetune(
            self.model,
            self.epochs,
            self.batch,
            lambda model: self.figures("devel", self.predict(model, "devel")),
            run,
            learning_rate=self.point["learning_rate"],
            warmup=self.grid.warmup,
            weight_decay=self.grid.weight_decay,
            seed=self.seed,
            evaluations=self.grid.evaluations,
            keep_best=self.optimum,
            label=label,
            checkpoint_seconds=checkpoint_seconds,
        )

    @abstractmethod
    def training_features(self) -> Sequence[Feature]:
        """What batches are made of."""

    @abstractmethod
    def copies(self) -> list[float]:
        """How often oversampling shows each feature in an epoch."""

    @abstractmethod
    def make_model(self, config: ModelConfig, point: dict[str, Any], grid: Grid) -> Classifier:
        """The model of a point of the search grid, with random weights."""

    @abstractmethod
    def batch(self, indices: Sequence[int]) -> Any:
        """The tensors of some training features."""

    @abstractmethod
    def predict(self, model: nn.Module, split: str) -> Any:
        """Predictions for a split, by a model in evaluation mode and without gradients."""

    @abstractmethod
    def figures(self, split: str, predictions: Any) -> dict[str, float]:
        """Scores of predictions, `optimum` among them."""

    def details(self, split: str, predictions: Any) -> dict[str, Any]:
        """Scores of parts of the split, by name."""
        return {}

    @abstractmethod
    def items(self, split: str, predictions: Any) -> pd.DataFrame:
        """One row a test item: `id`, and counts or scores whose sums give the figures, for resampling."""

    @abstractmethod
    def description(self) -> dict[str, Any]:
        """What else the result of the run says, and what a later use of its weights needs to know."""

    def calibrate(self, model: nn.Module) -> None:  # noqa: B027 - most tasks have nothing to choose
        """Choose on the development set what the chosen weights need besides; before the test set is looked at."""


def criterion_for(remedy: str | None, counts: Sequence[int]) -> nn.Module:
    """The loss of a remedy against imbalance (paper section 5.5); oversampling has the plain one.

    Args:
        counts: how often each label occurs in the training set.
    """
    if remedy == "weighted":
        return CrossEntropy(balanced_weights(counts))
    return SelfAdjustingDice() if remedy == "dice" else CrossEntropy()
