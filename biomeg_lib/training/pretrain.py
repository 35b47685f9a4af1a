"""Pre-training: masked words and sentence order on a tokenised corpus, for a budget of tokens (paper section 3)."""

from collections.abc import Callable
from typing import Any

from torch import nn

from biomeg_lib.checkpoints.weights import load_weights
from biomeg_lib.corpus.samples import PretrainingBatch, PretrainingSamples
from biomeg_lib.corpus.shards import open_split
from biomeg_lib.model import PretrainingModel
from biomeg_lib.plan.runs import check_room
from biomeg_lib.prepare import ensure_shards
from biomeg_lib.study import Study
from biomeg_lib.training.environment import device, set_up
from biomeg_lib.training.loop import CHECKPOINT_SECONDS, Recipe, Trained, evaluate_model, to_device, train
from biomeg_lib.training.process import OneProcess
from biomeg_lib.training.rundir import RunDirectory
from biomeg_lib.training.starting import starting_model
from biomeg_lib.vocab import Vocabulary


def pretrain(study: Study, name: str, checkpoint_seconds: float = CHECKPOINT_SECONDS) -> dict[str, Any]:
    """Do the pre-training run `name` of the study, or go on with it, or return what it gave.

    Corpus, vocabulary and shards are made first where they are not there yet. A run whose params ask for several ranks
    (`parallel`) has them started, and waited for.

    Returns:
        The run's metrics.json: `heldout_mlm` and `heldout_order` (cross-entropy, nats), `heldout_accuracy` (share of
        masked pieces whose first guess is right), the same for the untrained model, `start` (of a run from a
        checkpoint: what it was and what became of it), `evaluations`, `tokens`, `seconds`, `input_wait` (the share of
        them that steps waited for their batches), `parameters`.

    Raises:
        BiomegError: a step does not fit the memory that is free, the corpus cannot be had, or the folder holds another
            run.
    """
    run = run_of(study, name)
    if run.complete:
        return run.metrics
    spec = study.pretraining[name]
    if spec.parallel.ranks == 1 and not run.at_work:  # several ranks look for themselves, where they run
        check_room(study, name)
    if spec.init_from in study.pretraining:
        pretrain(study, spec.init_from)
    ensure_shards(study, spec.corpus, spec.vocabulary)
    if spec.parallel.ranks > 1 and spec.steps:
        from biomeg_lib.training.launch import launch  # here, since few runs need it

        launch(study, name)
        return run.metrics
    set_up(study.threads, study.kernels)
    with run.start() as wanted:
        if wanted:
            run.finish(train_on(study, name, run, checkpoint_seconds))
    return run.metrics


def run_of(study: Study, name: str) -> RunDirectory:
    """The folder of a pre-training run."""
    return RunDirectory(study.run_directory("pretrain", name), study.resolved_pretraining(name))


def train_on(
    study: Study,
    name: str,
    run: RunDirectory,
    checkpoint_seconds: float = CHECKPOINT_SECONDS,
    ranks_of: Callable[[PretrainingModel], OneProcess] = OneProcess,
    part: tuple[int, int] = (0, 1),
) -> dict[str, Any]:
    """Train, in a folder that is held, on shards that are there; returns what `pretrain` does.

    Args:
        ranks_of: spreads the model over processes.
        part: which part of each batch is this process's, and of how many.
    """
    spec = study.pretraining[name]
    vocabulary = Vocabulary.load(study.vocabulary_directory(spec.vocabulary))
    shards = study.shards_directory(spec.corpus, spec.vocabulary)
    options = {"length": spec.length, "seed": spec.seed, "whole_word": spec.whole_word}
    samples = PretrainingSamples(open_split(shards, "train", vocabulary), vocabulary, **options)
    heldout = PretrainingSamples(open_split(shards, "heldout", vocabulary), vocabulary, **options)
    batches = list(heldout.evaluation(spec.batch, spec.held_out_windows))
    number, parts = part

    def batch_of(step: int, micro: int) -> PretrainingBatch:
        # the n-th batch is the n-th stretch of one stream, cut into as many parts as there are
        return samples.batch((step * spec.accumulate + micro) * parts + number, spec.batch // parts)

    recipe = Recipe(
        steps=spec.steps,
        learning_rate=spec.learning_rate,
        warmup=spec.warmup,
        weight_decay=spec.weight_decay,
        seed=spec.seed,
        accumulate=spec.accumulate,
        evaluate_at=spread(spec.steps, spec.evaluations),
        checkpoint_seconds=checkpoint_seconds,
    )
    model, start = starting_model(study, spec, vocabulary)
    parameters = sum(p.numel() for p in model.parameters())
    if study.compile:
        model.encoder.compile()
    ranks = ranks_of(model.to(device()))
    untrained = evaluate_model(model, lambda m: heldout_figures(m, batches), ranks.graph_free)
    trained = Trained([], {**untrained, "step": 0}, 0.0, 0.0, 0)
    if spec.steps:
        trained = train(model, batch_of, recipe, run, lambda m: heldout_figures(m, batches), label=name, ranks=ranks)
    run.save_model(ranks.weights(), model.config)
    return {
        **{key: trained.chosen[key] for key in untrained},
        "untrained": untrained,
        **start,
        "evaluations": trained.evaluations,
        "heldout_windows": sum(len(batch.tokens) for batch in batches),
        "steps": spec.steps,
        "tokens": trained.tokens,
        "epochs": spec.steps * spec.batch * spec.accumulate / len(samples),
        "seconds": trained.seconds,
        "input_wait": trained.input_wait,
        "parameters": parameters,
    }


def load_pretrained(study: Study, name: str) -> PretrainingModel:
    """The model of a complete pre-training run, in evaluation mode.

    Raises:
        InputError: the run is not complete.
    """
    config, weights = load_weights(study.run_directory("pretrain", name))
    model = PretrainingModel(config)
    model.load_state_dict(weights)
    return model.eval()


def spread(steps: int, count: int) -> frozenset[int]:
    """`count` steps at equal distances, the last of all among them."""
    return frozenset(max(1, round(steps * (i + 1) / count)) for i in range(count))


def heldout_figures(model: nn.Module, batches: list[PretrainingBatch]) -> dict[str, float]:
    """Cross-entropies in nats and accuracy over all masked pieces and all windows of `batches`."""
    place = next(model.parameters()).device
    sums = {"heldout_mlm": 0.0, "heldout_order": 0.0, "heldout_accuracy": 0.0}
    masked = windows = 0
    for batch in batches:
        batch = to_device(batch, place)
        words, order = model(batch.tokens, batch.types, batch.mask, batch.positions)
        sums["heldout_mlm"] += float(nn.functional.cross_entropy(words.float(), batch.labels, reduction="sum"))
        sums["heldout_order"] += float(nn.functional.cross_entropy(order.float(), batch.order, reduction="sum"))
        sums["heldout_accuracy"] += int((words.argmax(-1) == batch.labels).sum())
        masked, windows = masked + len(batch.labels), windows + len(batch.tokens)
    sums["heldout_mlm"] /= max(masked, 1)
    sums["heldout_accuracy"] /= max(masked, 1)
    sums["heldout_order"] /= max(windows, 1)
    return sums
