"""NER fine-tuning jobs: for one encoder on one benchmark, all arms and seeds of a grid (paper section 4, Table 1).

Hyper-parameters are chosen for each arm on the development set, by short runs with the first seed; then every seed is
trained in full, its epoch chosen on the development set, and the test set is scored once. Arms that are compared with
one another share seeds, and with the seed the training sentences, their order and the head's first weights.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from biomeg_lib.errors import BiomegError
from biomeg_lib.files import read_json
from biomeg_lib.inputs import benchmark_files
from biomeg_lib.metrics.entities import EntityScores, entity_scores
from biomeg_lib.model import ModelConfig, TokenClassifier
from biomeg_lib.prepare import ensure_vocabulary
from biomeg_lib.schema import Benchmark, Cell, Job, NerGrid
from biomeg_lib.study import Study, with_dropout
from biomeg_lib.tasks.batching import evaluation_batches, pad, token_batches
from biomeg_lib.tasks.iob import Sentence, read_iob, subset
from biomeg_lib.tasks.ner import Feature, Labelling, build, decode, labels_of
from biomeg_lib.training.environment import device
from biomeg_lib.training.finetune import finetune
from biomeg_lib.training.loop import CHECKPOINT_SECONDS, evaluate_model, seed_step
from biomeg_lib.training.pretrain import pretrain
from biomeg_lib.training.rundir import RunDirectory, load_weights
from biomeg_lib.vocab import Vocabulary

EVALUATION_TOKENS = 8192  # padded tokens a batch without gradients


@dataclasses.dataclass(frozen=True)
class NerData:
    """A benchmark, read: sentences of each split and the labels over all of them."""

    splits: dict[str, list[Sentence]]
    labels: list[str]
    _features: dict[tuple[str, str, str, int], list[Feature]] = dataclasses.field(default_factory=dict)

    def features(self, split: str, vocabulary: Vocabulary, labelling: Labelling, length: int) -> list[Feature]:
        """The features of a split, made once for all runs of a job that need the same."""
        key = (split, vocabulary.fingerprint, labelling, length)
        if key not in self._features:
            self._features[key] = build(self.splits[split], vocabulary, labelling, length, self.labels)
        return self._features[key]


def load_benchmark(study: Study, benchmark: Benchmark) -> NerData:
    """Read the three files of a benchmark."""
    files = benchmark_files(study, benchmark)
    splits = {name: read_iob(path, benchmark.format) for name, path in files.items()}
    return NerData(splits, labels_of(sentence for sentences in splits.values() for sentence in sentences))


def run_job(study: Study, job: Job) -> list[dict[str, Any]]:
    """Train what is not trained yet of a job; first its encoder, if an arm needs the weights and they are not there.

    Returns:
        The metrics.json of its runs, see `train_run`.
    """
    torch.set_num_threads(study.threads)
    data = load_benchmark(study, study.benchmarks[job.benchmark])
    ensure_vocabulary(study, study.pretraining[job.encoder].vocabulary)
    if any(cell.start == "pretrained" for cell in study.cells(job)):
        pretrain(study, job.encoder)
    results = []
    for cell in study.cells(job):
        point = choose_point(study, cell, data)
        results += [train_run(study, cell, point, seed, data) for seed in study.seeds]
    return results


def run_all(study: Study) -> None:
    """Train what is not trained yet of all jobs, and say so before it starts."""
    for job in study.jobs():
        files = [study.run_directory("finetune", name) / "metrics.json" for name in study.runs(job)]
        if missing := sum(not file.is_file() for file in files):
            print(f"{job.name}: {missing} of {len(files)} runs are not there yet and are trained now", flush=True)
            run_job(study, job)


def choose_point(study: Study, cell: Cell, data: NerData) -> dict[str, Any]:
    """The point of the search grid with the best development F1; the first of equals. Runs go to `runs/search`."""
    search = study.ner[cell.grid].search
    points = search.points()
    if len(points) == 1:
        return points[0]
    scores = []
    for number, point in enumerate(points):
        seed = study.seeds[0]
        params = study.resolved_finetuning(cell, point, seed, search.epochs)
        run = RunDirectory(study.run_directory("search", f"{cell.name}.point{number + 1}"), params)
        if not run.complete:
            with run.start():
                arm = _Arm(study, cell, point, seed, search.epochs, data)
                trained = arm.train(run, label=run.path.name)
                run.finish({"point": point, "devel_f1": trained.chosen["f1"], "seconds": trained.seconds})
        scores.append(run.metrics["devel_f1"])
    return points[scores.index(max(scores))]


def train_run(
    study: Study,
    cell: Cell,
    point: dict[str, Any],
    seed: int,
    data: NerData,
    checkpoint_seconds: float = CHECKPOINT_SECONDS,
) -> dict[str, Any]:
    """One arm with one seed. The weights of the first seed are kept.

    Returns:
        The run's metrics.json: `cell`, `seed`, `point`, `devel` and `test` (precision, recall, f1, counts), `epochs`,
        `sentences`, `steps`, `tokens`, `seconds`.
    """
    epochs = study.ner[cell.grid].epochs
    params = study.resolved_finetuning(cell, point, seed, epochs)
    run = RunDirectory(study.run_directory("finetune", cell.run(seed)), params)
    if run.complete:
        return run.metrics
    with run.start():
        arm = _Arm(study, cell, point, seed, epochs, data)
        trained = arm.train(run, label=cell.run(seed), checkpoint_seconds=checkpoint_seconds)
        test = evaluate_model(arm.model, lambda model: arm.scores(model, "test"))
        if seed == study.seeds[0]:
            run.save_model(arm.model, arm.model.config)
        run.finish(
            {
                "cell": cell.model_dump(),
                "seed": seed,
                "point": point,
                "labels": data.labels,
                "devel": {key: value for key, value in trained.chosen.items() if key not in ("step", "tokens")},
                "test": test,
                "chosen_step": trained.chosen["step"],
                "steps": trained.evaluations[-1]["step"],
                "epochs": epochs,
                "sentences": len(arm.training),
                "tokens": trained.tokens,
                "seconds": trained.seconds,
            }
        )
    return run.metrics


class _Arm:
    """The model and the features of one run."""

    def __init__(self, study: Study, cell: Cell, point: dict[str, Any], seed: int, epochs: int, data: NerData):
        self.grid, self.cell, self.point, self.seed, self.data = study.ner[cell.grid], cell, point, seed, data
        spec = study.pretraining[cell.encoder]
        self.vocabulary = Vocabulary.load(study.vocabulary_directory(spec.vocabulary))
        self.training = subset(data.splits["train"], cell.fraction, seed)
        self.features = build(self.training, self.vocabulary, cell.labelling, self.grid.length, data.labels)
        lengths = [len(feature.tokens) for feature in self.features]
        self.epochs = [token_batches(lengths, seed, epoch, max_sentences=self.grid.batch) for epoch in range(epochs)]
        config = study.model_config_for(spec.model, self.vocabulary.padded_size(), self.grid.dropout)
        weights = None
        if cell.start == "pretrained":
            there, weights = load_weights(study.run_directory("pretrain", cell.encoder))
            config = with_dropout(there, self.grid.dropout)
        seed_step(seed, -1)
        self.model = make_classifier(config, data.labels, self.grid, point)
        if weights is not None:
            self.model.load_encoder(weights)

    def train(self, run: RunDirectory, label: str, checkpoint_seconds: float = CHECKPOINT_SECONDS) -> Any:
        """Fine-tune; the model then has the weights of the epoch with the best development F1."""
        return finetune(
            self.model,
            self.epochs,
            lambda indices: pad([self.features[i] for i in indices], self.vocabulary.pad_id),
            lambda model: self.scores(model, "devel"),
            run,
            learning_rate=self.point["learning_rate"],
            warmup=self.grid.warmup,
            weight_decay=self.grid.weight_decay,
            seed=self.seed,
            evaluations=self.grid.evaluations,
            keep_best="f1",
            label=label,
            checkpoint_seconds=checkpoint_seconds,
        )

    def scores(self, model: nn.Module, split: str) -> dict[str, float]:
        """Entity scores of a split."""
        sentences = self.data.splits[split]
        features = self.data.features(split, self.vocabulary, self.cell.labelling, self.grid.length)
        tags = predict(model, features, self.vocabulary.pad_id, self.data.labels, sentences)
        return score_record(entity_scores([sentence.tags for sentence in sentences], tags))


def make_classifier(
    config: ModelConfig, labels: Sequence[str], grid: NerGrid, point: dict[str, Any]
) -> TokenClassifier:
    """The token classifier of a point of the search grid."""
    return TokenClassifier(config, len(labels), point["num_fc_layers"], point["fc_hidden"], grid.fc_dropout)


def predict(
    model: nn.Module, features: Sequence[Feature], pad_id: int, labels: Sequence[str], sentences: Sequence[Sentence]
) -> list[list[str]]:
    """Tags per word for every sentence; the model is in evaluation mode and gradients are off."""
    place = next(model.parameters()).device
    predictions: list[Any] = [None] * len(features)
    for indices in evaluation_batches([len(feature.tokens) for feature in features], EVALUATION_TOKENS):
        batch = pad([features[i] for i in indices], pad_id)
        logits = model(batch.tokens.to(place), batch.types.to(place), batch.mask.to(place))
        for i, row in zip(indices, logits.argmax(-1).cpu().numpy(), strict=True):
            predictions[i] = row
    return decode(features, predictions, labels, sentences)


def score_record(scores: EntityScores) -> dict[str, float]:
    """Scores over all types, as JSON values."""
    record = dataclasses.asdict(scores)
    del record["by_type"]
    return record


class Recogniser:
    """A fine-tuned run, ready for text: `Recogniser(study, run_name)(["Aspirin", "helps", "."])`.

    Raises:
        BiomegError: the run is not complete or its weights were not kept (they are, for the first seed).
    """

    def __init__(self, study: Study, name: str):
        folder = study.run_directory("finetune", name)
        if not (folder / "model.safetensors").is_file():
            raise BiomegError(f"{folder}: expected a complete run with its weights (those of the first seed are kept)")
        metrics = read_json(folder / "metrics.json")
        cell = Cell(**metrics["cell"])
        self.grid, self.labels, self.labelling = study.ner[cell.grid], metrics["labels"], cell.labelling
        self.vocabulary = Vocabulary.load(study.vocabulary_directory(study.pretraining[cell.encoder].vocabulary))
        config, weights = load_weights(folder)
        self.model: TokenClassifier = make_classifier(config, self.labels, self.grid, metrics["point"])
        self.model.load_state_dict(weights)
        self.model.to(device()).eval()

    @torch.inference_mode()
    def __call__(self, sentences: Sequence[Sequence[str]]) -> list[list[str]]:
        """A tag for every word of every sentence."""
        given = [Sentence(tuple(words), ("O",) * len(words)) for words in sentences]
        features = build(given, self.vocabulary, self.labelling, self.grid.length, self.labels)
        return predict(self.model, features, self.vocabulary.pad_id, self.labels, given)
