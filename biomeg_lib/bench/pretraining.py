"""Pre-training steps: ours, Hugging Face's, their memory, and the floating-point operations that a step is worth.

The batch is random tokens in full sequences, 15 % of them to be predicted; a step is forward, backward, clipping and
AdamW, with dropout 0.1 on both sides. `settings`: `layers`, `hidden`, `heads`, `vocabulary`, `batch`, `length`,
`device` ("cpu" or "cuda").
"""

import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

import torch

from biomeg_lib.bench import peers
from biomeg_lib.bench.memory import forget_peak, peak_memory, resident_memory
from biomeg_lib.bench.side import Side
from biomeg_lib.corpus.samples import PretrainingBatch
from biomeg_lib.model import ModelConfig, PretrainingModel
from biomeg_lib.model.flops import useful_flops
from biomeg_lib.training import loop
from biomeg_lib.training.environment import flushed_denormals
from biomeg_lib.training.optimiser import make_optimizer, optimise
from biomeg_lib.training.starting import new_model

MASKED = 0.15
PEAK_SIZE = {"cpu": 2048, "cuda": 8192}
PEAK_PRODUCTS = 5
SEED = 1
_SMALL = {"layers": 1, "hidden": 64, "heads": 1, "vocabulary": 128, "batch": 2, "length": 16}
RECIPE = loop.Recipe(steps=1000, learning_rate=1e-4, warmup=0.01, weight_decay=0.01, seed=SEED)


def make(which: str, settings: Mapping[str, Any]) -> Side:
    """Side "ours", or a variant of the peer: "eager, fp32" of MegatronBert, "Bert, sdpa, compiled, bf16"."""
    return Ours(settings) if which == "ours" else HuggingFace(which, settings)


def make_memory(which: str, settings: Mapping[str, Any]) -> Side:
    """The same sides, whose value is memory."""
    return Memory(lambda: make(which, settings), lambda: make(which, {**settings, **_SMALL}))


def config_of(settings: Mapping[str, Any], norm: str = "pre") -> ModelConfig:
    """The shape; post-LN is BERT's own, which has a LayerNorm epsilon and a GeLU of its own."""
    return ModelConfig(
        layers=settings["layers"],
        hidden=settings["hidden"],
        heads=settings["heads"],
        vocab_size=settings["vocabulary"],
        norm=norm,
        gelu={"pre": "tanh", "post": "erf"}[norm],
    )


def batch_of(settings: Mapping[str, Any]) -> PretrainingBatch:
    """Random full sequences, the same in every process."""
    generator = torch.Generator().manual_seed(SEED)
    size = (settings["batch"], settings["length"])
    tokens = torch.randint(5, settings["vocabulary"], size, generator=generator)
    masked = round(MASKED * tokens.numel())
    positions = torch.randperm(tokens.numel(), generator=generator)[:masked].sort().values
    types = (torch.arange(size[1]) >= size[1] // 2).long().expand(size).contiguous()
    return PretrainingBatch(
        tokens=tokens,
        types=types,
        mask=torch.ones(size, dtype=torch.bool),
        positions=positions,
        labels=tokens.flatten()[positions],
        order=torch.randint(0, 2, size[:1], generator=generator),
    )


def matrix_peak(device: str) -> float:
    """Operations a second of products of large square matrices, fp32 on a CPU and bf16 on a GPU: the median of some."""
    size = PEAK_SIZE[device]
    dtype = torch.float32 if device == "cpu" else torch.bfloat16
    a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    out = torch.mm(a, b)
    seconds = []
    for _ in range(PEAK_PRODUCTS):
        _wait(device)
        begun = time.perf_counter()
        torch.mm(a, b, out=out)
        _wait(device)
        seconds.append(time.perf_counter() - begun)
    return 2 * size**3 / statistics.median(seconds)


def our_step(model: torch.nn.Module, optimizer: torch.optim.Optimizer, batch: Any, device: str) -> None:
    """A step as the training loop does it: bf16 on a GPU, norm clipped within the optimiser's pass."""
    with torch.autocast(device, torch.bfloat16, enabled=device == "cuda"):
        loss, _ = model.loss(batch)
    loss.backward()
    optimise(model.parameters(), optimizer, RECIPE.clip_norm)
    optimizer.zero_grad(set_to_none=True)


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


class _Step(Side):
    """What both sides share; work is counted in tokens."""

    def __init__(self, settings: Mapping[str, Any]):
        self.settings, self.device = settings, settings["device"]
        torch.set_num_threads(settings["cores"])

    def finish(self) -> None:
        _wait(self.device)


class Ours(_Step):
    """Our model in our training loop's step."""

    def __init__(self, settings: Mapping[str, Any]):
        super().__init__(settings)
        size = PEAK_SIZE[self.device]
        self.limit = f"{'fp32' if self.device == 'cpu' else 'bf16'} matrix product {size}x{size}x{size}"
        self.batch = loop.to_device(batch_of(settings), torch.device(self.device))
        self.model = new_model(config_of(settings), SEED).to(self.device).train()
        self.optimizer = make_optimizer(self.model.parameters(), RECIPE.learning_rate, RECIPE.weight_decay)

    def check(self) -> dict[str, float]:
        """The loss, for GPUs that of BERT's post-LN shape, too."""
        losses = {"loss": self._loss(self.model)}
        if self.device == "cuda":
            bert = new_model(config_of(self.settings, "post"), SEED).to(self.device)
            losses["post-LN loss"] = self._loss(bert)
        return losses

    def _loss(self, model: PretrainingModel) -> float:
        with loop.evaluation_mode(model):
            return float(model.loss(self.batch)[0])

    @flushed_denormals()
    def work(self, number: int) -> float:
        our_step(self.model, self.optimizer, self.batch, self.device)
        return self.batch.tokens.numel()

    def share(self, value: float) -> tuple[float, float]:
        """Useful GFLOP/s of `value` tokens a second, and the machine's peak."""
        batch, length = self.batch.tokens.shape
        flops = useful_flops(self.model.config, batch, length, len(self.batch.labels)) / (batch * length)
        return value * flops / 1e9, matrix_peak(self.device) / 1e9


class HuggingFace(_Step):
    """The peer. A variant names attention, data type, and perhaps torch.compile."""

    def __init__(self, variant: str, settings: Mapping[str, Any]):
        super().__init__(settings)
        bert = "Bert, "
        self.norm = "post" if variant.startswith(bert) else "pre"
        variant = variant.removeprefix(bert)
        attention, *_, self.dtype = variant.split(", ")
        batch = batch_of(settings)
        labels = torch.full_like(batch.tokens, -100)
        labels.view(-1)[batch.positions] = batch.labels
        inputs = {
            "input_ids": batch.tokens,
            "token_type_ids": batch.types,
            "attention_mask": batch.mask.long(),
            "labels": labels,
            "next_sentence_label": batch.order,
        }
        self.inputs = {name: value.to(self.device) for name, value in inputs.items()}
        self.model = peers.hugging_face("PreTraining", new_model(config_of(settings, self.norm), SEED), attention)
        self.model.to(self.device)
        version = peers.import_transformers().__version__
        self.name = f"transformers {version} {type(self.model).__name__}, {variant}, AdamW"
        self.step = torch.compile(self.model) if "compiled" in variant else self.model
        self.optimizer = peers.make_optimizer(self.model)

    def check(self) -> dict[str, float]:
        loss = peers.loss_without_dropout(self.model, self.inputs)
        return {"loss" if self.norm == "pre" else "post-LN loss": loss}

    def work(self, number: int) -> float:
        peers.train_step(self.step, self.optimizer, self.inputs, self.device, self.dtype)
        return self.inputs["input_ids"].numel()


class Memory(Side):
    """Peak memory in MB of building a model and its optimiser and of two steps, over what the process had before.

    The second step has all that any later one has: the optimiser's state is made in the first. What PyTorch and the
    peer's package import and set up at their first step does not count: a step of a tiny model goes before.
    """

    def __init__(self, make_side: Callable[[], Side], make_small: Callable[[], Side]):
        self._make_side = make_side
        make_small().work(0)

    def check(self) -> dict[str, float]:
        side = self._make_side()
        self.name = side.name
        return side.check()

    def work(self, number: int) -> float:
        """Make all anew, and two steps."""
        side = self._make_side()
        return side.work(0) + side.work(1)

    def value(self, number: int) -> float:
        before = resident_memory()
        forget_peak()
        self.work(number)
        return peak_memory() - before
