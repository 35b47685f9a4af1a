"""What a pre-training run starts from: random weights, or a checkpoint from anywhere (the paper's `-ft` models)."""

from typing import Any

import torch

from biomeg_lib.checkpoints.checkpoint import Checkpoint, check_vocabulary
from biomeg_lib.checkpoints.embeddings import with_vocabulary
from biomeg_lib.checkpoints.reading import locate, read
from biomeg_lib.errors import BiomegError
from biomeg_lib.model import ModelConfig, PretrainingModel
from biomeg_lib.schema import Pretraining
from biomeg_lib.study import Study, with_dropout
from biomeg_lib.training.loop import seed_step
from biomeg_lib.vocab import Vocabulary


def new_model(config: ModelConfig, seed: int) -> PretrainingModel:
    """A model with random weights that are a function of the seed."""
    seed_step(seed, -1)
    return PretrainingModel(config)


def starting_model(study: Study, spec: Pretraining, vocabulary: Vocabulary) -> tuple[PretrainingModel, dict[str, Any]]:
    """The model of a run before its first step.

    Parts that the checkpoint does not have are random, a function of the run's seed.

    Returns:
        The model, and for the run's metrics.json what it started from; nothing for random weights.

    Raises:
        BiomegError: the checkpoint cannot be had, or does not fit the run.
    """
    if spec.init_from is None:
        return new_model(study.model_config_for(spec.model, vocabulary.padded_size(), spec.dropout), spec.seed), {}
    if spec.init_from in study.pretraining:
        path = study.run_directory("pretrain", spec.init_from)
    else:
        path = locate(spec.init_from, study.root)
    checkpoint, carried = _for_vocabulary(read(path), spec, vocabulary)
    config = with_dropout(checkpoint.config, spec.dropout)
    if spec.length > config.max_length:
        raise BiomegError(f"{path}: expected a model for {spec.length} tokens, found {config.max_length} positions")
    model = new_model(config, spec.seed)
    model.load_state_dict(checkpoint.state, strict=False)  # `Checkpoint` has checked that only whole parts are missing
    start = {"from": spec.init_from, "origin": checkpoint.origin, "missing": list(checkpoint.missing)}
    return model, {"start": {**start, "notes": list(checkpoint.notes), "embeddings": carried}}


def _for_vocabulary(checkpoint: Checkpoint, spec: Pretraining, vocabulary: Vocabulary) -> tuple[Checkpoint, Any]:
    own = checkpoint.vocabulary
    if own is None:
        # Megatron's files hold none: the rows are all there is to tell
        check_vocabulary(f"init_from {spec.init_from}", vocabulary, checkpoint.config.vocab_size)
        return checkpoint, "taken as those of the run's vocabulary"
    if own.fingerprint == vocabulary.fingerprint:
        return checkpoint, "as they are"
    generator = torch.Generator().manual_seed(spec.seed)
    return with_vocabulary(checkpoint, vocabulary, spec.embeddings or "carried", generator)
