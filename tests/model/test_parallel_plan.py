"""The parallel plan on four gloo processes against the same training on one, step by step."""

import dataclasses

import pytest
import torch
import torch.distributed as dist
from several_ranks import on_ranks
from torch.distributed.device_mesh import init_device_mesh

from biomeg_lib.corpus.samples import PretrainingBatch
from biomeg_lib.errors import BiomegError
from biomeg_lib.model import ModelConfig, PretrainingModel, config_for, parallel
from biomeg_lib.model.config import check_mesh
from biomeg_lib.model.parallel import heads_first, heads_inside, parallelise, whole_state
from biomeg_lib.training.loop import seed_step
from biomeg_lib.training.optimiser import make_optimizer, optimise
from biomeg_lib.training.process import OneProcess
from biomeg_lib.training.ranks import ManyProcesses

TINY = dataclasses.replace(config_for("tiny", 512), dropout=0.0, attention_dropout=0.0, max_length=64)
FOUR_HEADS = dataclasses.replace(TINY, hidden=64, heads=4, intermediate=256, init_std=0.06)
STEPS, BATCH, LENGTH = 50, 8, 32
# With exact arithmetic the gradient of a key's bias is 0, whatever the loss, since it moves all scores of a query
# alike; what Adam makes of the rounding that is there instead is noise of the size of the learning rate.
RATE = 1e-4


def batch_of(step: int, size: int, first: int, vocabulary: int) -> PretrainingBatch:
    """Sequences `first` ... of a global batch: each a function of the step and its number alone."""
    rows = []
    for number in range(first, first + size):
        g = torch.Generator().manual_seed(1000 * step + number)
        tokens = torch.randint(5, vocabulary - 12, (LENGTH,), generator=g)
        real = int(torch.randint(LENGTH // 2, LENGTH + 1, (), generator=g))
        masked = torch.randperm(real, generator=g)[: int(torch.randint(1, 6, (), generator=g))].sort().values
        rows.append((tokens, torch.arange(LENGTH) < real, masked))
    tokens = torch.stack([row[0] for row in rows])
    return PretrainingBatch(
        tokens=tokens,
        types=(tokens % 2).cumsum(1).clamp(max=1),
        mask=torch.stack([row[1] for row in rows]),
        positions=torch.cat([row[2] + LENGTH * i for i, row in enumerate(rows)]),
        labels=torch.cat([row[0][row[2]] for row in rows]),
        order=tokens[:, 0] % 2,
    )


def new_model(config: ModelConfig) -> PretrainingModel:
    seed_step(1, -1)
    return PretrainingModel(config)


def steps(process: OneProcess, config: ModelConfig, part: int, parts: int) -> list[float]:
    """The losses of all steps, as the loop makes them."""
    optimizer = make_optimizer(process.parameters.values(), RATE, 0.01)
    losses = []
    for step in range(STEPS):
        seed_step(1, step, process.stream)
        size = BATCH // parts
        loss, _ = process.model.loss(batch_of(step, size, part * size, config.vocab_size))
        loss.backward()
        process.collect()
        optimise(process.parameters.values(), optimizer, 1.0, process.norm)
        process.clear()
        losses.append(float(process.means({"loss": loss.detach().double()})["loss"]))
    return losses


def on_mesh(rank: int, config: ModelConfig, data: int, tensor: int, recompute: bool) -> dict:
    mesh = init_device_mesh("cpu", (data, tensor), mesh_dim_names=("data", "tensor"))
    spread = parallelise(new_model(config), mesh, recompute)
    process = ManyProcesses(spread, dist.new_group(), dist.new_group())
    shapes = {name: tuple(part.shape) for name, part, _ in spread.parts()}
    losses = steps(process, config, spread.data_rank, data)
    return {"losses": losses, "weights": whole_state(spread), "shapes": shapes}


def alone(config: ModelConfig) -> tuple[list[float], dict[str, torch.Tensor]]:
    process = OneProcess(new_model(config))
    return steps(process, config, 0, 1), process.weights()


def without_key_biases(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    kept = dict(weights)
    for name in weights:
        if name.endswith("qkv.bias"):
            query, _, value = weights[name].chunk(3)
            kept[name] = torch.cat([query, value])
    return kept


@pytest.mark.parametrize(
    ("config", "data", "tensor", "recompute"),
    [(TINY, 4, 1, False), (TINY, 2, 2, True), (FOUR_HEADS, 1, 4, False), (FOUR_HEADS, 2, 2, False)],
    ids=["tiny 4x1", "tiny 2x2, recomputed", "four heads 1x4", "four heads 2x2"],
)
def test_every_mesh_trains_as_one_process_does(config, data, tensor, recompute):
    found = on_ranks(4, on_mesh, config, data, tensor, recompute)
    losses, weights = alone(config)
    assert all(rank["losses"] == pytest.approx(losses, rel=1e-5) for rank in found)
    assert losses[-1] < losses[0] - 0.1
    expected = without_key_biases(weights)
    for name, value in without_key_biases(found[0]["weights"]).items():
        torch.testing.assert_close(value, expected[name], rtol=0, atol=1e-5, msg=name)
    # each rank has its part, and all parts together are the weights but for what tensor groups have twice
    held = [sum(torch.Size(shape).numel() for shape in rank["shapes"].values()) for rank in found]
    assert max(held) < 0.55 * sum(value.numel() for value in weights.values())


def test_dropout_of_the_residual_stream_is_that_of_one_process_in_a_tensor_group():
    config = dataclasses.replace(FOUR_HEADS, dropout=0.1)
    found = on_ranks(4, on_mesh, config, 1, 4, True)
    losses, _ = alone(config)
    assert found[0]["losses"] == pytest.approx(losses, rel=1e-5)
    assert losses != pytest.approx(alone(FOUR_HEADS)[0], rel=1e-3)


def masks(rank: int, config: ModelConfig, data: int, tensor: int) -> dict:
    """What comes out of the embeddings and of the first block's attention, for one batch and step, on each rank."""
    mesh = init_device_mesh("cpu", (data, tensor), mesh_dim_names=("data", "tensor"))
    spread = parallelise(new_model(config), mesh)
    process = ManyProcesses(spread, dist.new_group(), dist.new_group())
    batch = batch_of(0, BATCH, 0, config.vocab_size)
    embeddings, attention = spread.model.encoder.embeddings, spread.model.encoder.blocks[0].attention
    results: dict[str, torch.Tensor] = {}
    for name, module in (("embeddings", embeddings), ("attention", attention)):
        module.register_forward_hook(lambda _, inputs, out, name=name: results.update({name: out.detach()}))
    seed_step(1, 7, process.stream)
    spread.model.loss(batch)
    return results


def test_dropout_agrees_within_a_tensor_group_and_differs_between_data_ranks():
    config = dataclasses.replace(FOUR_HEADS, dropout=0.1, attention_dropout=0.1)
    first, second, third, fourth = on_ranks(4, masks, config, 2, 2)
    for name in first:  # attention's after the sum over a group, whose parts had masks of their own
        assert torch.equal(first[name], second[name])
        assert torch.equal(third[name], fourth[name])
        assert not torch.equal(first[name], third[name])


def own_heads(rank: int, config: ModelConfig) -> dict[str, torch.Tensor]:
    """What this rank's one head adds to the first block, where all heads have the same weights."""
    model = new_model(config)
    with torch.no_grad():
        attention = model.encoder.blocks[0].attention
        for parameter in attention.qkv.parameters():
            heads = parameter.unflatten(0, (3, config.heads, -1))
            heads.copy_(heads[:, :1].clone().expand_as(heads))
        columns = attention.output.weight.unflatten(1, (config.heads, -1))
        columns.copy_(columns[:, :1].clone().expand_as(columns))
    parallelise(model, init_device_mesh("cpu", (1, 4), mesh_dim_names=("data", "tensor")))
    given: list[torch.Tensor] = []
    summed = parallel.summed
    parallel.summed = lambda x, group: given.append(x.detach()) or summed(x, group)
    seed_step(1, 7)
    model.loss(batch_of(0, BATCH, 0, config.vocab_size))
    return {"attention": given[1]}  # the first is the embedding's


def test_heads_have_masks_of_their_own():
    same = on_ranks(4, own_heads, FOUR_HEADS)
    assert all(torch.equal(rank["attention"], same[0]["attention"]) for rank in same)
    found = on_ranks(4, own_heads, dataclasses.replace(FOUR_HEADS, attention_dropout=0.1))
    assert not any(torch.equal(rank["attention"], found[0]["attention"]) for rank in found[1:])


@pytest.mark.parametrize(
    ("heads", "data", "tensor", "batch", "message"),
    [
        (2, 1, 4, 8, "parallel: tensor 4 does not divide heads, 2"),
        (4, 3, 1, 8, "parallel: 3 data ranks do not divide a batch of 8"),
    ],
)
def test_a_mesh_that_does_not_divide_is_refused(heads, data, tensor, batch, message):
    config = dataclasses.replace(FOUR_HEADS, heads=heads)
    with pytest.raises(BiomegError) as error:
        check_mesh(config, data, tensor, batch)
    assert str(error.value) == message


def test_a_vocabulary_that_is_not_divided_is_refused():
    with pytest.raises(BiomegError, match=r"tensor 4 does not divide the padded vocabulary, 510"):
        check_mesh(dataclasses.replace(FOUR_HEADS, vocab_size=510), 1, 4, 8)


def test_heads_first_keeps_what_belongs_to_a_head_together():
    rows = torch.arange(24).view(24, 1)  # 8 query rows, 8 key rows, 8 value rows; two heads of 4
    first = heads_first(rows, 2)
    assert first[:12, 0].tolist() == [0, 1, 2, 3, 8, 9, 10, 11, 16, 17, 18, 19]
    assert torch.equal(heads_inside(first, 2), rows)
