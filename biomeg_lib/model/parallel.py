"""The parallel plan: a pre-training model spread over a mesh of ranks, data x tensor, from outside.

`parallelise` changes a model in place; the model's own code stays that of one device. What is notable:

- **Tensor** (Shoeybi et al. 2019): a rank has some heads of each attention (`qkv` by columns, `output` by rows), a part
  of each MLP (`up` by columns, `down` by rows), and some rows of the word embedding and of the decoder that is tied to
  it. Two sums a block and direction; the cross-entropy of the vocabulary never has all logits in one place. Such
  parameters are DTensors, and a module whose class is a parallel one here computes with the local part.
- **Data**: FSDP2. Weights, gradients and what the optimiser keeps are spread over the ranks, and each block's weights
  are brought together when it runs. A block is handed the LayerNorm of the next one, which that one has not brought
  together yet; so these alone are whole everywhere, and `Spread.average_whole` averages their gradients.
- **Random numbers**: dropout of the residual stream has to agree within a tensor group, whose ranks hold the same rows,
  and to differ between data ranks; attention's has to differ everywhere, since the heads do.
- Query, key and value rows are kept head after head (`heads_first`), so that an equal part of the rows is whole heads.
  A checkpoint of one mesh is therefore one of every other.
"""

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor, Shard
from torch.utils.checkpoint import checkpoint

from biomeg_lib.kernels.layout import Packed, Tie
from biomeg_lib.model.collectives import copied, summed
from biomeg_lib.model.config import check_mesh
from biomeg_lib.model.heads import MaskedLMHead, PretrainingModel
from biomeg_lib.model.transformer import MLP, Attention, Embeddings, Padded

DATA, TENSOR = "data", "tensor"
# The dimension that a tensor group shares, of the parameters that it does share, by the ends of their names.
SHARED = {
    "attention.qkv.weight": 0,
    "attention.qkv.bias": 0,
    "attention.output.weight": 1,
    "mlp.up.weight": 0,
    "mlp.up.bias": 0,
    "mlp.down.weight": 1,
    "embeddings.word.weight": 0,
    "mlm.bias": 0,
}


def shared_dimension(name: str) -> int | None:
    """The dimension of a parameter, by its name, that a tensor group shares; None where each rank has all of it."""
    return next((dimension for end, dimension in SHARED.items() if name.endswith(end)), None)


def heads_first(value: Tensor, heads: int) -> Tensor:
    """[3H, ...] of all queries, all keys, all values -> of each head its queries, keys and values."""
    return value.unflatten(0, (3, heads, -1)).transpose(0, 1).flatten(0, 2)


def heads_inside(value: Tensor, heads: int) -> Tensor:
    """The inverse of `heads_first`."""
    return value.unflatten(0, (heads, 3, -1)).transpose(0, 1).flatten(0, 2)


def local(value: Tensor) -> Tensor:
    """A rank's own part of a parameter, with gradient."""
    return value.to_local() if isinstance(value, DTensor) else value


class _Linear(NamedTuple):
    weight: Tensor
    bias: Tensor


class _ParallelAttention(Attention):
    """Some of the heads. The tensor group is `group`, None for a single rank; this rank's number in it is `rank`."""

    group: dist.ProcessGroup | None
    rank: int

    @property
    def qkv(self) -> _Linear:
        """Query, key and value of these heads, as the kernels want them."""
        whole = self._modules["qkv"]
        heads = len(local(whole.bias)) // (3 * self.head_size)
        return _Linear(heads_inside(local(whole.weight), heads), heads_inside(local(whole.bias), heads))

    @property
    def output(self) -> _Linear:
        """The columns that belong to these heads, and the bias that is added behind the sum."""
        whole = self._modules["output"]
        return _Linear(local(whole.weight), whole.bias)

    def forward(self, x: Tensor, layout: Packed | Padded, rows: Tensor | None) -> Tensor:
        x = copied(x, self.group)
        if self.group is None or not self.training or self.dropout == 0:
            return summed(super().forward(x, layout, rows), self.group)
        seed = int(torch.randint(2**62, ()))  # the same in the group, whose generators go on alike
        with torch.random.fork_rng([x.device] if x.is_cuda else []):
            torch.manual_seed(seed + self.rank)
            update = super().forward(x, layout, rows)
        return summed(update, self.group)


class _ParallelMLP(MLP):
    """Some of the inner width."""

    group: dist.ProcessGroup | None

    @property
    def up(self) -> _Linear:
        """These columns."""
        return _Linear(*map(local, (self._modules["up"].weight, self._modules["up"].bias)))

    @property
    def down(self) -> _Linear:
        """These rows, and the bias that is added behind the sum."""
        return _Linear(local(self._modules["down"].weight), self._modules["down"].bias)

    def forward(self, x: Tensor) -> Tensor:
        return summed(super().forward(copied(x, self.group)), self.group)


class _ParallelEmbeddings(Embeddings):
    """Some of the words."""

    group: dist.ProcessGroup | None
    rank: int

    def words(self, tokens: Tensor) -> Tensor:
        if self.group is None:
            return super().words(tokens)
        own = local(self.word.weight)
        places = tokens - self.rank * len(own)
        inside = (places >= 0) & (places < len(own))
        found = F.embedding(places.where(inside, 0), own)
        return summed(found * inside.unsqueeze(-1).to(found.dtype), self.group)


class _ParallelHead(MaskedLMHead):
    """Some of the words' scores, and a mean over the masked words of all data ranks."""

    group: dist.ProcessGroup | None
    data_group: dist.ProcessGroup | None
    rank: int

    def forward(self, hidden: Tensor, word: Tensor) -> Tensor:
        """Scores of all words, brought together: for evaluation, without gradient."""
        scores = F.linear(self.transform(hidden), local(word), local(self.bias))
        if self.group is None:
            return scores
        parts = [torch.empty_like(scores) for _ in range(dist.get_world_size(self.group))]
        dist.all_gather(parts, scores.contiguous(), group=self.group)
        return torch.cat(parts, dim=-1)

    def loss(self, hidden: Tensor, word: Tensor, labels: Tensor, tie: Tie) -> Tensor:
        """Such that its mean over data ranks is the mean over all their masked words."""
        if self.group is None:
            mean = super().loss(hidden, word, labels, tie)
        else:
            mean = self._parallel_loss(self.transform(hidden), local(word), local(self.bias), labels)
        if self.data_group is None:
            return mean
        count = torch.tensor(float(len(labels)), device=hidden.device)
        total = count.clone()
        dist.all_reduce(total, group=self.data_group)
        return mean * (count / total.clamp(min=1) * dist.get_world_size(self.data_group))

    def _parallel_loss(self, hidden: Tensor, word: Tensor, bias: Tensor, labels: Tensor) -> Tensor:
        if not len(labels):
            return (hidden.sum() + word[:0].sum() + bias[:0].sum()).float() * 0
        scores = F.linear(copied(hidden, self.group), word, bias).float()
        highest = scores.detach().amax(-1)
        dist.all_reduce(highest, dist.ReduceOp.MAX, group=self.group)
        scores = scores - highest.unsqueeze(-1)
        places = labels - self.rank * len(word)
        inside = (places >= 0) & (places < len(word))
        wanted = scores.gather(-1, places.where(inside, 0).unsqueeze(-1)).squeeze(-1) * inside
        sums = summed(torch.stack([scores.exp().sum(-1), wanted]), self.group)
        return (sums[0].log() - sums[1]).mean()


@dataclass(frozen=True)
class Spread:
    """What training has to know of a model that has been spread.

    Attributes:
        model: the model, changed in place.
        mesh: of all ranks, with the dimensions `data` and `tensor`.
        whole: the parameters that each data rank has all of, and whose gradients nobody averages.
    """

    model: PretrainingModel
    mesh: DeviceMesh
    whole: tuple[nn.Parameter, ...]

    @property
    def data_group(self) -> dist.ProcessGroup | None:
        """The ranks with the same part of each tensor; None for a single one."""
        return self.mesh.get_group(DATA) if self.mesh[DATA].size() > 1 else None

    @property
    def data_rank(self) -> int:
        """Which part of a batch is this rank's."""
        return self.mesh.get_local_rank(DATA)

    def average_whole(self) -> None:
        """Average the gradients of `whole` over data ranks, in one message."""
        group = self.data_group
        if group is None or not self.whole:
            return
        gradients = [parameter.grad for parameter in self.whole]
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        dist.all_reduce(flat, group=group)
        flat /= dist.get_world_size(group)
        for gradient, part in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
            gradient.copy_(part.view_as(gradient))

    def copies(self, name: str, parameter: Tensor) -> int:
        """On how many ranks each element of a parameter is."""
        copies = 1 if shared_dimension(name) is not None else self.mesh[TENSOR].size()
        whole = any(parameter is one for one in self.whole)
        return copies * (self.mesh[DATA].size() if whole else 1)

    def parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Name and parameter, each as it is spread: what an evaluation brought together is let go of first."""
        for module in self.model.modules():
            if isinstance(module, FSDPModule):
                module.reshard()
        yield from self.model.named_parameters()

    def parts(self) -> Iterator[tuple[str, Tensor, Tensor | None]]:
        """Name, this rank's part and its gradient, of each parameter: tensors that share their memory with them."""
        for name, parameter in self.parameters():
            gradient = parameter.grad
            yield name, local(parameter.detach()), None if gradient is None else local(gradient)


def parallelise(
    model: PretrainingModel, mesh: DeviceMesh, recompute: bool = False, compute: torch.dtype | None = None
) -> Spread:
    """Spread a model, which all ranks have alike, over a mesh. Every rank calls this.

    Args:
        model: on the device of the mesh, or on the meta device, to see what would become of it.
        mesh: two-dimensional, its dimensions named `data` and `tensor`.
        recompute: forget what blocks computed, and compute it again on the way back.
        compute: the type of weights and activations, with fp32 weights beside them; None for that of the weights.

    Raises:
        BiomegError: the mesh does not divide the model.
    """
    data, tensor = mesh[DATA].size(), mesh[TENSOR].size()
    check_mesh(model.config, data, tensor, data)
    _share(model, mesh)
    model.mlm.data_group = mesh.get_group(DATA) if data > 1 else None
    if recompute:
        for block in model.encoder.blocks:
            block.forward = functools.partial(checkpoint, block.forward, use_reentrant=False)
    whole: list[nn.Parameter] = []
    if data > 1:
        policy = MixedPrecisionPolicy(param_dtype=compute, reduce_dtype=torch.float32 if compute else None)
        for block in model.encoder.blocks:
            norm = list(block.attention_norm.parameters()) if block.pre else []
            whole += norm
            fully_shard(block, mesh=mesh[DATA], mp_policy=policy, ignored_params=set(norm))
        fully_shard(model, mesh=mesh[DATA], mp_policy=policy)
        register_fsdp_forward_method(model, "loss")
    return Spread(model, mesh, tuple(whole))


def _share(model: PretrainingModel, mesh: DeviceMesh) -> None:
    """Leave each rank of a tensor group its own part, and the rows of `qkv` head after head in any case."""
    size, rank = mesh[TENSOR].size(), mesh.get_local_rank(TENSOR)
    for prefix, module in model.named_modules():
        for name, parameter in list(module.named_parameters(recurse=False)):
            dimension = shared_dimension(f"{prefix}.{name}")
            if dimension is None:
                continue
            value = parameter.detach()
            if prefix.endswith(".qkv"):
                value = heads_first(value, model.config.heads)
            if size > 1:
                own = value.tensor_split(size, dimension)[rank].contiguous().clone()
                value = DTensor.from_local(own, mesh[TENSOR], [Shard(dimension)], run_check=False)
            module.register_parameter(name, nn.Parameter(value))
    for module in model.modules():
        if type(module) in _PARALLEL:
            module.__class__ = _PARALLEL[type(module)]
            module.group, module.rank = (mesh.get_group(TENSOR) if size > 1 else None), rank


_PARALLEL: dict[type, type] = {
    Attention: _ParallelAttention,
    MLP: _ParallelMLP,
    Embeddings: _ParallelEmbeddings,
    MaskedLMHead: _ParallelHead,
}


def whole_state(spread: Spread) -> dict[str, Tensor]:
    """The weights as a model of one device has them, on the CPU. Every rank calls this, and gets them."""
    state: dict[str, Tensor] = {}
    for name, value in spread.model.state_dict().items():
        full = (value.full_tensor() if isinstance(value, DTensor) else value).detach().cpu()
        state[name] = heads_inside(full, spread.model.config.heads) if ".qkv." in name else full
    return state
