"""The runs of a params file as the planner takes them: shapes and budgets, before anything is fetched or learned.

Notable: the size of a vocabulary and the shape of a checkpoint are facts about files that may not be here yet. A run
that has been made is asked for its shape. Before that a learned vocabulary has the size that the params file wants,
BERT's two have theirs, published checkpoints theirs; any other WordPiece file counts as BERT's uncased one unless it
lies here.
"""

import dataclasses
import re
from dataclasses import dataclass

from biomeg_lib.checkpoints import published
from biomeg_lib.checkpoints.weights import SHAPE, load_shape
from biomeg_lib.errors import BiomegError
from biomeg_lib.inputs import own_files
from biomeg_lib.model.config import ModelConfig, check_mesh, config_for
from biomeg_lib.plan.machine import Machine
from biomeg_lib.plan.memory import rank_parameters
from biomeg_lib.plan.planner import Plan, plan
from biomeg_lib.plan.room import refuse_too_large
from biomeg_lib.plan.spread import Run, Spread
from biomeg_lib.schema import Pretraining, SentencePieceModel
from biomeg_lib.study import Study, with_dropout

PADDING = 128  # a vocabulary's rows are a multiple of this
UNCASED, CASED = 30_522, 28_996  # pieces of BERT's vocabularies (Devlin et al. 2019)
_BERT = {"bert-base-cased-vocab": CASED, "bert-base-uncased-vocab": UNCASED}


@dataclass(frozen=True)
class Planned:
    """A pre-training run of a params file.

    Attributes:
        parameters: None where its shape is known only once its checkpoint is here.
        plan: None for a run without steps, and where there is none.
        problem: why there is none, one line.
    """

    name: str
    tokens: int
    parameters: int | None
    plan: Plan | None
    problem: str | None


@dataclass(frozen=True)
class Tuned:
    """The fine-tuning runs of a grid, by the largest of its encoders whose shape is known.

    Attributes:
        runs: with all seeds; the trials of a search are not counted.
        batch, length: sequences of a step, and their tokens at most.
        encoder: its name; None if no shape is known.
        plan: of one step; how many a benchmark has is known when it has been read.
        problem: why there is no plan, one line.
    """

    name: str
    runs: int
    batch: int
    length: int
    encoder: str | None
    plan: Plan | None
    problem: str | None


def pretraining(study: Study, machine: Machine, utilisation: float, as_they_say: bool = False) -> list[Planned]:
    """All pre-training runs, in the order of the params file.

    Args:
        as_they_say: runs with `parallel` are spread as that says, over as many GPUs, whatever the machine has.
    """
    rows = []
    for name, spec in study.pretraining.items():
        config, found, problem = shape_of(study, name), None, None
        if config is None:
            problem = f"its shape is known once {spec.init_from} is here"
        elif spec.steps:
            run = _run(study, spec)
            try:
                if as_they_say and spec.parallel.ranks > 1:
                    found = plan(config, run, *_spread(spec, config, machine, utilisation))
                else:
                    found = plan(config, run, machine, utilisation)
            except BiomegError as error:
                problem = str(error).removeprefix("plan: ")
        parameters = None if config is None else rank_parameters(config, 1).total(config.layers)
        rows.append(Planned(name, spec.tokens, parameters, found, problem))
    return rows


def check_room(study: Study, name: str) -> None:
    """Nothing, if a step of a pre-training run fits the memory that is free here, or its shape is not known yet.

    Raises:
        BiomegError: it does not fit; see `room.refuse_too_large`.
    """
    spec, config = study.pretraining[name], shape_of(study, name)
    if config is not None and spec.steps and not study.compile:  # what compiled code keeps is not known
        where = f"{study.params_file}: pretraining.{name}"
        refuse_too_large(where, config, _run(study, spec), _own_spread(spec), spec.parallel.gpus_per_node)


def _run(study: Study, spec: Pretraining) -> Run:
    return Run(
        spec.steps * spec.batch * spec.accumulate * spec.length,
        spec.batch * spec.accumulate,
        spec.length,
        fused=fused(study),
        dropout=spec.dropout > 0,
    )


def _spread(
    spec: Pretraining, config: ModelConfig, machine: Machine, utilisation: float
) -> tuple[Machine, float, Spread]:
    """What `plan` takes for a run that says how it is spread.

    Raises:
        BiomegError: its mesh does not divide its model.
    """
    parallel = spec.parallel
    check_mesh(config, parallel.data, parallel.tensor, spec.batch)
    own = dataclasses.replace(machine, gpus=parallel.ranks, gpus_per_node=parallel.gpus_per_node)
    return own, utilisation, _own_spread(spec)


def _own_spread(spec: Pretraining) -> Spread:
    parallel = spec.parallel
    return Spread(
        parallel.data, parallel.tensor, spec.batch // parallel.data, spec.accumulate, recompute=parallel.recompute
    )


def fine_tuning(study: Study, machine: Machine) -> list[Tuned]:
    """One row a grid."""
    rows = []
    for name, grid in study.grids.items():
        runs = sum(len(study.runs(job)) for job in study.jobs(grid.task) if job.grid == name)
        shapes = {encoder: config for encoder in grid.encoders if (config := shape_of(study, encoder)) is not None}
        encoder = max(shapes, key=lambda one: shapes[one].layers * shapes[one].hidden ** 2, default=None)
        found, problem = None, None
        if encoder is None:
            problem = "no shape is known before its checkpoints are here"
        else:
            tokens = grid.batch * grid.length
            dropout = grid.dropout > 0
            run = Run(tokens, grid.batch, grid.length, fused=fused(study), dropout=dropout, fine_tuning=True)
            try:
                found = plan(shapes[encoder], run, machine)
            except BiomegError as error:
                problem = str(error).removeprefix("plan: ")
        rows.append(Tuned(name, runs, grid.batch, grid.length, encoder, found, problem))
    return rows


def fused(study: Study) -> bool:
    """Whether a study's kernels are the fused ones."""
    return study.kernels != "torch" and not study.compile


def shape_of(study: Study, name: str) -> ModelConfig | None:
    """The shape of a pre-training run; None where only its checkpoint could tell."""
    folder = study.run_directory("pretrain", name)
    if (folder / SHAPE).is_file():
        return load_shape(folder)
    spec = study.pretraining[name]
    words = _padded(_vocabulary_size(study, spec.vocabulary))
    if spec.model is not None:
        return study.model_config_for(spec.model, words, spec.dropout)
    if spec.init_from in study.pretraining:
        before = shape_of(study, spec.init_from)
    elif spec.init_from in published.names():
        before = published_shape(spec.init_from)
        # a checkpoint that is taken as it is has its own vocabulary, whatever this one is thought to be
        words = words if spec.steps else before.vocab_size
    else:
        return None
    return None if before is None else with_dropout(dataclasses.replace(before, vocab_size=words), spec.dropout)


def published_shape(name: str) -> ModelConfig:
    """The shape of a checkpoint of `published.tsv`, by the family that its name tells."""
    size, _, _ = published.find(name).vocabulary.partition(" ")
    words = _padded(1000 * int(size[:-1]) if size.endswith("k") else int(size.replace(",", "")))
    if "345m" in name:
        return config_for("345m", words)
    if "large" in name:  # BERT-large: Megatron's 345m, but for the place of LayerNorm
        return dataclasses.replace(config_for("345m", words), norm="post", gelu="erf", norm_eps=None)
    if "minilm" in name:
        return ModelConfig(6, 384, 12, words, norm="post", gelu="erf")
    return config_for("110m", words)


def _vocabulary_size(study: Study, name: str) -> int:
    spec = study.vocabularies[name]
    if isinstance(spec, SentencePieceModel):
        return spec.size
    known = _BERT.get(spec.file)
    if known is None and re.match(r"\w+:", spec.file) is None and (own := own_files(study, spec.file)):
        with own[0].open("rb") as stream:
            known = sum(1 for _ in stream)
    return known or UNCASED


def _padded(size: int) -> int:
    return -(-size // PADDING) * PADDING
