"""One of several processes of a run: what the loop asks of it (`process.OneProcess`), together with the others.

What is notable: the optimiser works on a rank's own parts of the weights, as plain tensors, whatever the mesh; the sums
over ranks that a step needs besides the model's are all here. Checkpoints of one process and of several are read by
each other: query, key and value rows stand head after head in the latter, and as in the model in the former.
"""

from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.distributed.tensor._utils import compute_local_shape_and_global_offset

from biomeg_lib.model.parallel import TENSOR, Spread, heads_first, heads_inside, whole_state
from biomeg_lib.training.optimiser import total_norm
from biomeg_lib.training.process import OneProcess, State
from biomeg_lib.training.rundir import RunDirectory
from biomeg_lib.training.sharded import ShardedCheckpoints

MOMENTS = ("exp_avg", "exp_avg_sq")  # what Adam keeps of each parameter
_KINDS = ("weight", *MOMENTS)


class ManyProcesses(OneProcess):
    """One of the ranks of a run, of which each has a part of the model, of the batch, or of both.

    Args:
        spread: the model, spread.
        control: a group of all ranks on their CPUs, for small numbers.
        files: another one, for checkpoints alone, since those are written beside the training.
    """

    graph_free = torch.no_grad  # FSDP's weights would stay inference tensors

    def __init__(self, spread: Spread, control: dist.ProcessGroup, files: dist.ProcessGroup):
        self.model, self.spread, self.control, self.files = spread.model, spread, control, files
        self.first, self.stream = dist.get_rank() == 0, spread.data_rank
        self.parameters = {name: nn.Parameter(part) for name, part, _ in spread.parts()}
        self._copies = [spread.copies(name, whole) for name, whole in spread.parameters()]
        self._checkpoints: ShardedCheckpoints | None = None

    def collect(self) -> None:
        self.spread.average_whole()
        for name, _, gradient in self.spread.parts():
            self.parameters[name].grad = gradient

    def clear(self) -> None:
        super().clear()
        for parameter in self.parameters.values():
            parameter.grad = None

    def norm(self, gradients: Sequence[Tensor]) -> Tensor:
        squares = [total_norm([part]).square() / copies for part, copies in zip(gradients, self._copies, strict=True)]
        total = torch.stack(squares).sum()
        dist.all_reduce(total)
        return total.sqrt()

    def means(self, figures: dict[str, Tensor]) -> dict[str, Tensor]:
        group = self.spread.data_group
        if group is None:
            return figures
        values = torch.stack(list(figures.values()))
        dist.all_reduce(values, group=group)
        return dict(zip(figures, values / dist.get_world_size(group), strict=True))

    def sums(self, tokens: int, *flags: bool) -> list[int]:
        values = torch.tensor([tokens, *flags])
        dist.all_reduce(values, group=self.control)
        values[0] //= self.spread.mesh[TENSOR].size()  # whose ranks have the same tokens
        return values.tolist()

    def load(self, run: RunDirectory, optimizer: torch.optim.Optimizer) -> State | None:
        self._checkpoints = ShardedCheckpoints(run.path, self.files)
        one = run.load_checkpoint()
        if one is not None and one["tally"]["step"] >= self._checkpoints.newest():
            self._cut(one, optimizer)
            return one["tally"]
        state = self._state(optimizer)
        tally = self._checkpoints.load(state)
        if tally is not None:
            for name, parameter in self.parameters.items():
                moments = [_part(state[f"{kind}.{name}"]) for kind in MOMENTS]
                optimizer.state[parameter] = _moments(moments, tally["step"])
        return tally

    def save(self, run: RunDirectory, optimizer: torch.optim.Optimizer, tally: State) -> None:
        self._checkpoints.save(tally["step"], self._state(optimizer), tally)

    def weights(self) -> dict[str, Tensor]:
        return whole_state(self.spread)

    def wait(self) -> None:
        if self._checkpoints is not None:
            self._checkpoints.wait()

    def _state(self, optimizer: torch.optim.Optimizer) -> State:
        """Weights and moments as they are spread, by name; no moments yet are zeros."""
        state: State = {}
        for name, whole in self.spread.parameters():
            own = self.parameters[name]
            kept = optimizer.state.get(own, {})
            state[f"weight.{name}"] = whole.detach()
            for kind in MOMENTS:
                state[f"{kind}.{name}"] = _spread_as(kept.get(kind, torch.zeros_like(own)).detach(), whole)
        return state

    def _cut(self, one: State, optimizer: torch.optim.Optimizer) -> None:
        """Take this rank's parts of a checkpoint of one process."""
        heads = self.model.config.heads
        order = [number for group in one["optimizer"]["param_groups"] for number in group["params"]]
        numbers = dict(zip(_in_groups(optimizer, self.parameters), order, strict=True))
        for name, whole in self.spread.parameters():
            kept = one["optimizer"]["state"][numbers[name]]
            parts = [_cut_as(_first(name, v, heads), whole) for v in (one["model"][name], *(kept[k] for k in MOMENTS))]
            self.parameters[name].data.copy_(parts[0])
            optimizer.state[self.parameters[name]] = _moments(parts[1:], one["tally"]["step"])


def load_whole(model: nn.Module, run: RunDirectory, optimizer: torch.optim.Optimizer) -> State | None:
    """Read a checkpoint of several ranks into a model of one process; returns the loop's tally.

    None, and nothing is changed, if there is no sound one, or one that this process has written since.
    """
    one, many = run.load_checkpoint(), ShardedCheckpoints(run.path, None)
    if one is not None and one["tally"]["step"] >= many.newest():
        return None
    parameters = dict(model.named_parameters())
    shapes = {name: _first(name, parameter.detach(), model.config.heads) for name, parameter in parameters.items()}
    state = {f"{kind}.{name}": torch.zeros_like(shape) for name, shape in shapes.items() for kind in _KINDS}
    tally = many.load(state)
    if tally is not None:
        for name, parameter in parameters.items():
            value, *moments = (_inside(name, state[f"{kind}.{name}"], model.config.heads) for kind in _KINDS)
            parameter.data.copy_(value)
            optimizer.state[parameter] = _moments(moments, tally["step"])
    return tally


def _moments(values: Sequence[Tensor], steps: int) -> State:
    return {"step": torch.tensor(float(steps)), **dict(zip(MOMENTS, values, strict=True))}


def _in_groups(optimizer: torch.optim.Optimizer, parameters: dict[str, nn.Parameter]) -> list[str]:
    """The names of the parameters in the order of the optimiser's groups."""
    names = {id(parameter): name for name, parameter in parameters.items()}
    return [names[id(parameter)] for group in optimizer.param_groups for parameter in group["params"]]


def _first(name: str, value: Tensor, heads: int) -> Tensor:
    return heads_first(value, heads) if ".qkv." in name else value


def _inside(name: str, value: Tensor, heads: int) -> Tensor:
    return heads_inside(value, heads) if ".qkv." in name else value


def _part(value: Tensor) -> Tensor:
    return value.to_local() if isinstance(value, DTensor) else value


def _spread_as(part: Tensor, whole: Tensor) -> Tensor:
    """A rank's part of something that is spread like `whole`."""
    if not isinstance(whole, DTensor):
        return part
    return DTensor.from_local(
        part, whole.device_mesh, whole.placements, run_check=False, shape=whole.shape, stride=whole.stride()
    )


def _cut_as(value: Tensor, whole: Tensor) -> Tensor:
    """This rank's part of a tensor that all ranks have, as `whole` is spread."""
    if not isinstance(whole, DTensor):
        return value.clone()
    shape, offset = compute_local_shape_and_global_offset(whole.shape, whole.device_mesh, whole.placements)
    return value[tuple(slice(start, start + size) for start, size in zip(offset, shape, strict=True))].clone()
