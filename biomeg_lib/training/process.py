"""What the loop asks of the process it runs in, where that is all of a run; `ranks` has the same for one of several."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from biomeg_lib.training.optimiser import total_norm
from biomeg_lib.training.rundir import SHARDED, RunDirectory

State = dict[str, Any]


class OneProcess:
    """All of a run in one process.

    Attributes:
        first: whether this process speaks for the run.
        parameters: name -> what the optimiser works on.
        stream: which of several streams of random numbers is this process's.
        graph_free: makes the context of an evaluation.
    """

    first = True
    stream = 0
    graph_free = torch.inference_mode

    def __init__(self, model: nn.Module):
        self.model = model
        self.parameters: dict[str, nn.Parameter] = dict(model.named_parameters())

    def collect(self) -> None:
        """Bring the gradients of a step to `parameters`."""

    def clear(self) -> None:
        """Forget the gradients."""
        self.model.zero_grad(set_to_none=True)

    def norm(self, gradients: Sequence[Tensor]) -> Tensor:
        """float[], of the gradients of all parameters, whoever has them."""
        return total_norm(gradients)

    def means(self, figures: dict[str, Tensor]) -> dict[str, Tensor]:
        """The figures of a step, of which each process has those of its part of the batch."""
        return figures

    def sums(self, tokens: int, *flags: bool) -> list[int]:
        """The tokens of all parts of a batch, and on how many processes each flag is set."""
        return [tokens, *map(int, flags)]

    def load(self, run: RunDirectory, optimizer: torch.optim.Optimizer) -> State | None:
        """Go on from the run's newest checkpoint, of one process or of several; returns the loop's tally, or None."""
        if (run.path / SHARDED).is_dir():
            from biomeg_lib.training.ranks import load_whole  # which takes a second to import

            if (tally := load_whole(self.model, run, optimizer)) is not None:
                return tally
        checkpoint = run.load_checkpoint()
        if checkpoint is None:
            return None
        self.model.load_state_dict(checkpoint["model"])
        optimizer.load_state_dict(checkpoint["optimizer"])
        return checkpoint["tally"]

    def save(self, run: RunDirectory, optimizer: torch.optim.Optimizer, tally: State) -> None:
        """Write a checkpoint."""
        run.save_checkpoint({"model": self.model.state_dict(), "optimizer": optimizer.state_dict(), "tally": tally})

    def weights(self) -> dict[str, Tensor]:
        """The weights of the model, whole, as a model of one process has them."""
        return self.model.state_dict()

    def wait(self) -> None:
        """Until what is being written is written."""
