"""The plan on the paper's sizes, up to 8.3b: on the meta device, one of 64 ranks of which no other exists."""

import pytest
import torch
import torch.distributed as dist
from several_ranks import on_ranks
from torch.distributed.device_mesh import init_device_mesh
from torch.testing._internal.distributed.fake_pg import FakeStore

from biomeg_lib.model import PretrainingModel, config_for, count_parameters
from biomeg_lib.model.parallel import parallelise

DATA, TENSOR, VOCABULARY = 16, 4, 30592
LAST = DATA * TENSOR - 1
SIZES = ["345m", "800m", "1.2b", "3.9b", "8.3b"]


def shapes(rank: int, names: list[str]) -> dict[str, dict[str, list[list[int]]]]:
    """Of each parameter of each model: the last rank's own part, and the whole, as its tensor says it is."""
    dist.init_process_group("fake", store=FakeStore(), rank=LAST, world_size=DATA * TENSOR)
    mesh = init_device_mesh("cpu", (DATA, TENSOR), mesh_dim_names=("data", "tensor"))
    found = {}
    for name in names:
        with torch.device("meta"):
            model = PretrainingModel(config_for(name, VOCABULARY))
        spread = parallelise(model, mesh, recompute=True)
        wholes = dict(spread.parameters())
        found[name] = {key: [list(part.shape), list(wholes[key].shape)] for key, part, _ in spread.parts()}
    return found


shapes.own_group = True


def share(size: int, ranks: int, rank: int) -> int:
    """What the last of some ranks has of a dimension that is cut into chunks of equal size, the last ones smaller."""
    chunk = -(-size // ranks)
    return max(0, min(chunk, size - chunk * rank))


def expected_part(name: str, whole: list[int]) -> list[int]:
    """By Megatron's layout, written down here once more: columns of qkv and up, rows of output and down, words; then
    the first dimension over data ranks, but for the LayerNorm that a block hands to the next."""
    part = list(whole)
    if name.endswith(("qkv.weight", "qkv.bias", "up.weight", "up.bias", "word.weight", "mlm.bias")):
        part[0] //= TENSOR
    if name.endswith(("attention.output.weight", "down.weight")):
        part[1] //= TENSOR
    if ".attention_norm." not in name:
        part[0] = share(part[0], DATA, DATA - 1)
    return part


def test_each_rank_has_its_part():
    found = on_ranks(1, shapes, SIZES)[0]
    for name in SIZES:
        config = config_for(name, VOCABULARY)
        with torch.device("meta"):
            wholes = {key: list(value.shape) for key, value in PretrainingModel(config).named_parameters()}
        assert found[name].keys() == wholes.keys()
        for key, (part, whole) in found[name].items():
            expected = expected_part(key, wholes[key])
            assert part == expected or (0 in part and 0 in expected), (name, key)
            assert whole == wholes[key], (name, key)
        held = sum(torch.Size(part).numel() for part, _ in found[name].values())
        assert held == pytest.approx(count_parameters(config) / (DATA * TENSOR), rel=0.05)
