"""Bytes that a rank holds when a training step holds most, by part: what `model` and `kernels` really keep.

How weights are spread. Over `tensor` as in Megatron: query-key-value and `up` by columns, `output` and `down` by rows,
word embedding, decoder and its bias by vocabulary; the rest (norms, biases of what is split by rows, positions, token
types, transform, pooler, order head) is whole on each rank of a tensor group. Over `data` as FSDP2 does it: all of that
is sharded, and of the encoder's blocks two are whole at a time, the one in use and the next; what is in no block
(embeddings and heads) is whole for all of a step.

What a token leaves behind in a block (Korthikanti et al. 2022, section 4.1, count the same of Megatron's, with masks
and attention matrices that our kernels do not keep): LayerNorm's output before attention and before the MLP, which goes
into products; the two residual sums, which LayerNorm's backward needs; query, key and value; context; the MLP's layer
before and after GeLU. The last block runs for masked tokens and [CLS] alone, but for its keys and values.

Notable:
- The peak is at one of a few moments, since blocks are alike: at the loss, or in the backward pass of the last block,
  of the last one that sees all tokens, or of the first one, when all gradients are there, as with small batches.
- With 16-bit products on one data rank, residual sums are fp32, as under autocast, and what products take is a copy of
  the fp32 weights; on several, FSDP2 brings weights together in 16 bits, and all that follows has these.
- On several ranks query, key and value rows are kept head after head, so each block has a copy of them in its order.
- What is not counted: code, the driver, the gaps of an allocator (`machine.RESERVED`), and padding: sequences are full.
- Norms and dropout are whole on each rank of a tensor group; sequence parallelism would split them, too.
"""

from dataclasses import dataclass, fields

from biomeg_lib.model.config import ModelConfig
from biomeg_lib.plan.machine import Machine
from biomeg_lib.plan.spread import WORD, Run, Spread

CPU_LOGITS = 80 << 20  # bytes of logits at a time, as in kernels/cpu.py
GPU_LOGITS = 128 << 20  # as in kernels/triton_cross_entropy.py
CPU_PARTIAL = 64  # rows of partial sums of the decoder's bias, as in kernels/cpu.py
INTEGERS = 64  # bytes a token of a batch: tokens, types, places and mask, and the batches made ahead


@dataclass(frozen=True)
class Parameters:
    """Numbers of parameters on a rank of a tensor group, before they are sharded over data.

    Attributes:
        block: of one block.
        words: of the word embedding, which is the decoder, too.
        rest: of embeddings and heads without these.
    """

    block: int
    words: int
    rest: int

    def total(self, layers: int) -> int:
        """Of the rank."""
        return layers * self.block + self.words + self.rest


def rank_parameters(config: ModelConfig, tensor: int) -> Parameters:
    """What a rank has of a pre-training model; `tensor` divides heads, width of the MLP and vocabulary."""
    hidden, inner = config.hidden, config.intermediate
    split = 4 * hidden**2 + 2 * hidden * inner + 3 * hidden + inner  # weights, and biases of what is split by columns
    norm, dense = 2 * hidden, hidden**2 + hidden
    block = split // tensor + 2 * hidden + 2 * norm
    lookups = (config.max_length + config.token_types) * hidden
    heads = 2 * dense + norm + 2 * hidden + 2 + config.vocab_size // tensor
    return Parameters(block, config.vocab_size * hidden // tensor, lookups + norm + heads)


@dataclass(frozen=True)
class Memory:
    """Bytes of a rank at the peak of a step.

    Attributes:
        weights: in fp32, sharded, and what is whole or in 16 bits at that moment.
        gradients: as far as they are there at that moment, in fp32.
        optimiser: Adam's two moments, in fp32, sharded.
        activations: what blocks and embeddings keep for backward.
        head: what the masked-LM head keeps, and logits.
        workspace: what an operation in backward needs besides, and the batches.
    """

    weights: float
    gradients: float
    optimiser: float
    activations: float
    head: float
    workspace: float

    @property
    def total(self) -> float:
        """Of all parts."""
        return sum(getattr(self, field.name) for field in fields(self))


def step_memory(config: ModelConfig, run: Run, spread: Spread, machine: Machine) -> Memory:
    """The most that a rank holds in a step that is not the first, Adam's moments being there."""
    return max(_moments(config, run, spread, machine), key=lambda memory: memory.total)


def _moments(config: ModelConfig, run: Run, spread: Spread, machine: Machine) -> list[Memory]:
    """At the loss; in backward of the last block, of the last that sees all tokens, of the first; at the end."""
    kept = _Kept(config, run, spread, machine)
    parts = rank_parameters(config, spread.tensor)
    layers, narrow, data = config.layers, machine.compute_bytes, spread.data
    owned, outside = parts.total(layers), parts.words + parts.rest

    def moment(done: int, activations: float, head: float, workspace: float) -> Memory:
        """When backward has done so many blocks."""
        weights = WORD * owned / data
        if data > 1:
            # whole: what is in no block, and two blocks, with gradients on their way out in both precisions
            weights += narrow * (outside + min(2, layers) * parts.block)
            gradients = WORD * outside + min(2, done) * (narrow + WORD) * parts.block
            gradients += WORD * (owned if spread.accumulate > 1 else done * parts.block) / data
            # the message of the largest group, at the end with its gradients; before that gloo lets go of it late
            workspace += WORD * outside if done == layers or narrow == WORD else 0
        else:
            weights += narrow * (layers - done) * parts.block if narrow < WORD else 0
            gradients = WORD * (done * parts.block + outside)
            if spread.accumulate > 1:  # those of earlier micro-batches, and the decoder's, until the lookup's is there
                gradients = WORD * (owned + parts.words)
        if spread.ranks > 1 and (data > 1 or narrow == WORD):
            alive = min(1, done) if spread.recompute else layers - done
            weights += narrow * alive * 3 * config.hidden**2 / spread.tensor
        return Memory(weights, gradients, 2 * WORD * owned / data, activations, head, workspace + kept.batches)

    return [
        moment(0, kept.blocks(layers), kept.head, kept.at_loss),
        moment(0, kept.blocks(layers) + kept.again(layers), kept.logits, kept.in_last),
        *(
            moment(layers - block, kept.blocks(block) + kept.again(block), kept.logits, kept.in_block)
            for block in {1, layers - 1} - {0, layers}
        ),
        moment(layers, kept.embeddings, kept.logits, kept.in_embeddings),
    ]


class _Kept:
    """Bytes that one micro-batch leaves on a rank, and what an operation needs besides.

    Attributes:
        embeddings: what they keep.
        head: what the masked-LM head keeps until its backward.
        logits: what stays of that in the process for good.
        batches: token ids.
        at_loss, in_last, in_block, in_embeddings: needed besides, at the loss and in backward of these parts.
    """

    def __init__(self, config: ModelConfig, run: Run, spread: Spread, machine: Machine):
        hidden, inner, tensor = config.hidden, config.intermediate, spread.tensor
        narrow, on_cpu = machine.compute_bytes, machine.precision == "fp32"
        tokens, masked = spread.micro_batch * run.length, run.masked(spread.micro_batch)
        rows = tokens if run.fine_tuning else masked + spread.micro_batch
        self._layers, self._recompute = config.layers, spread.recompute

        # bytes a token: H is whole on each rank, the share of a rank is split
        wide = narrow if spread.data > 1 else WORD
        whole, split, sums = hidden * narrow, hidden * narrow / tensor, hidden * wide
        masks = hidden if run.dropout and not run.fused else 0  # a byte an element; ours are computed again
        up_and_gelu = inner * (narrow + (narrow if run.fused else wide)) / tensor
        residuals = whole + 2 * sums + 4 * WORD + 2 * masks  # LayerNorm's output for the MLP, the sums, its statistics
        maps = on_cpu and run.dropout and not run.fused  # PyTorch has no attention with dropout for a CPU, so that
        square = config.heads / tensor * run.length * (2 * WORD + 1) if maps else 0  # probabilities are kept
        attention = 3 * split + config.heads / tensor * WORD + square
        self._block = tokens * (whole + attention + split + residuals + up_and_gelu)

        packed = run.fused and (on_cpu or not run.dropout)
        if packed:
            every, own = whole + 2 * split, whole + split  # keys and values of all, queries of some
        else:
            every, own = whole + attention + (0 if on_cpu else split), 0.0
        self._last = tokens * every + rows * (own + split + residuals + up_and_gelu + sums)
        self._inputs = tokens * sums * (2 if config.norm == "pre" else 1)
        self._known = (
            self._inputs / 2 if wide == narrow else 0.0
        )  # of a block that is computed again, its input is there
        # where blocks are computed again, what the embeddings keep is the first one's input
        self.embeddings = 0.0 if spread.recompute else tokens * (sums + masks)
        self.batches = INTEGERS * tokens

        words = config.vocab_size / tensor
        table = WORD * words * hidden
        self.logits = 0.0
        self.head = masked * (3 * whole + sums) + 2 * spread.micro_batch * sums
        alone = tensor == 1
        if not (run.fused and alone):  # ranks that share the vocabulary have a cross-entropy of their own
            self.head += masked * words * WORD  # log-probabilities
            self.at_loss = 2 * masked * words * WORD
        elif on_cpu:
            self.logits = min(masked * words * WORD, CPU_LOGITS)
            self.head += self.logits
            self.at_loss = CPU_PARTIAL * words * WORD if masked else 0.0
        else:
            self.at_loss = min(masked * words * narrow, GPU_LOGITS) + (table if masked else 0.0)
        self.in_block = tokens * (2 * sums + max(inner * narrow / tensor, square / 2))
        through_attention = tokens * (3 * sums + (2 if packed else 3) * split + square / 2)
        self.in_last = max(rows * (2 * sums + inner * narrow / tensor), through_attention - rows * up_and_gelu)
        tied = run.fused and on_cpu and alone
        self.in_embeddings = 2 * tokens * sums + (0 if tied else 2 * table)  # the lookup's gradient, and both added up

    def blocks(self, count: int) -> float:
        """What the first `count` blocks keep, or their inputs where they are computed again."""
        if self._recompute:
            return count * self._inputs
        return (count - 1) * self._block + self._of(count)

    def again(self, number: int) -> float:
        """What block `number`, counted from 1, keeps when it is computed again, besides its input."""
        return self._of(number) - self._known if self._recompute else 0.0

    def _of(self, number: int) -> float:
        return self._last if number == self._layers else self._block
