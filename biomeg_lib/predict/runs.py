"""A fine-tuned run, ready for new text: three lines in a notebook.

    from biomeg_lib.predict import load_run
    recogniser = load_run("outputs/smoke/runs/finetune/full.chem.micro-bio.pretrained.piece.seed1")
    recogniser.entities("Aspirin helps.")

What a run needs besides its own folder is its vocabulary, which it finds where the study has it.
"""

import dataclasses
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from biomeg_lib.benchmarks.iob import Sentence
from biomeg_lib.benchmarks.pairs import SentencePair
from biomeg_lib.benchmarks.questions import Question
from biomeg_lib.benchmarks.relations import Relation
from biomeg_lib.checkpoints.checkpoint import Checkpoint
from biomeg_lib.checkpoints.pickles import brief
from biomeg_lib.checkpoints.side_files import read_side_file
from biomeg_lib.checkpoints.vocabularies import vocabulary_of_run
from biomeg_lib.checkpoints.weights import WEIGHTS, load_weights
from biomeg_lib.errors import BiomegError, InputError
from biomeg_lib.grids import QuestionGrid
from biomeg_lib.model import ModelConfig
from biomeg_lib.predict.entities import Entity, entities_of
from biomeg_lib.predict.texts import Document, Span, sentences
from biomeg_lib.schema import TASK_OF_FORMAT
from biomeg_lib.tasks.classification_arm import features_of, predict_labels, text_classifier
from biomeg_lib.tasks.ner import build
from biomeg_lib.tasks.ner_arm import predict_tags, token_classifier
from biomeg_lib.tasks.question_arm import predict_spans, ranked_answers, span_classifier
from biomeg_lib.tasks.spans import Prediction, best_answer
from biomeg_lib.tasks.spans import build as build_windows
from biomeg_lib.training.environment import device

SENTENCES = 2000  # tagged together: enough for full batches of even length
CHARACTERS = 1_000_000  # of documents that wait for one another


class Run:
    """What all kinds have: weights, vocabulary, and how the run was made.

    Attributes:
        folder: of the run.
        params, metrics: its JSON files.
    """

    def __init__(self, folder: Path, params: dict[str, Any], make: Any):
        self.folder, self.params = folder, params
        self.metrics = read_side_file(folder / "metrics.json")
        self.recipe = params["recipe"]
        self.labels: list[str] = self.metrics.get("labels", [])
        self.vocabulary = vocabulary_of_run(folder, params["encoder"]["pretraining"]["vocabulary"])
        config, weights = load_weights(folder)
        point = self.metrics["point"]
        self._check(config, weights, lambda: make(config, self.labels, point))
        self.model = make(config, self.labels, point)
        self.model.load_state_dict(weights)
        self.model.to(device()).eval()

    def _check(self, config: ModelConfig, weights: Mapping[str, Tensor], make: Callable[[], nn.Module]) -> None:
        """Raise InputError unless the weights are those of the model, before it takes time and memory."""
        path = self.folder / WEIGHTS
        encoder = {name: value for name, value in weights.items() if name.startswith("encoder.")}
        Checkpoint.checked(path, config, encoder, self.vocabulary, "a run")
        layers = sum(re.fullmatch(r"classifier\.layers\.\d+\.weight", name) is not None for name in weights)
        if self.metrics["point"]["num_fc_layers"] != layers:
            raise InputError(path, f"expected a head of as many layers as metrics.json says, found {layers}")
        with torch.device("meta"):
            wanted = make().state_dict()
        if {n: value.shape for n, value in wanted.items()} != {n: value.shape for n, value in weights.items()}:
            raise InputError(path, "expected the weights that model.json and metrics.json describe, found others")


class Recogniser(Run):
    """Named entities in text."""

    @torch.inference_mode()
    def tags(self, sentences: Sequence[Sequence[str]]) -> list[list[str]]:
        """A tag for every word of every sentence."""
        given = [Sentence(tuple(words), ("O",) * len(words)) for words in sentences]
        labelling, length = self.params["cell"]["labelling"], self.recipe["length"]
        features = build(given, self.vocabulary, labelling, length, self.labels)
        return predict_tags(self.model, features, self.vocabulary.pad_id, self.labels, given)

    def entities(self, text: str) -> list[Entity]:
        """The entities of one text, with characters of it."""
        (found,) = self.entities_of_all([text])
        return found

    def entities_of_all(self, texts: Sequence[str]) -> list[list[Entity]]:
        """The entities of each text; sentences of all of them share batches."""
        return [found for _, found in self.annotate(Document("", text) for text in texts)]

    def annotate(
        self, documents: Iterable[Document], tell: Callable[[int], object] | None = None
    ) -> Iterator[tuple[Document, list[Entity]]]:
        """Each document and its entities, in order, as they are found.

        Sentences of several short documents share batches, and a long document is tagged a part at a time, so memory
        does not grow with the number or, but for the text itself, the length of documents.

        Args:
            tell: is called with a number of sentences when they are done.
        """
        rows: list[tuple[str, list[Span], list[Entity]]] = []  # a sentence's text and words, where its entities go
        waiting: list[tuple[Document, list[Entity]]] = []

        def finish() -> None:
            if not rows:
                return
            tags = self.tags([[text[start:end] for start, end in row] for text, row, _ in rows])
            for (text, row, entities), tagged in zip(rows, tags, strict=True):
                entities += entities_of(text, [row], [tagged])
            if tell is not None:
                tell(len(rows))
            rows.clear()

        characters = 0
        for document in documents:
            found: list[Entity] = []
            for row in sentences(document.text):
                rows.append((document.text, row, found))
                if len(rows) >= SENTENCES:
                    finish()
            waiting.append((document, found))
            characters += len(document.text)
            if characters >= CHARACTERS:
                finish()
            if not rows:
                yield from waiting
                waiting.clear()
                characters = 0
        finish()
        yield from waiting


class TextLabeller(Run):
    """Labels of relations or of sentence pairs."""

    @property
    def marking(self) -> str | None:
        """How relations are marked; None for sentence pairs."""
        return self.params["cell"].get("marking")

    def label(self, records: Sequence[Relation] | Sequence[SentencePair]) -> list[str]:
        """The label of each; what labels the records have themselves is not looked at."""
        return [label for label, _ in self.likeliest(records)]

    @torch.inference_mode()
    def likeliest(self, records: Sequence[Relation] | Sequence[SentencePair]) -> list[tuple[str, float]]:
        """The label of each, and the model's probability of it."""
        blank = [dataclasses.replace(record, label=self.labels[0]) for record in records]
        features = features_of(blank, self.vocabulary, self.marking, self.recipe["length"], self.labels)
        return predict_labels(self.model, features, self.vocabulary.pad_id, self.labels)


class Answerer(Run):
    """Answers to questions, cut from texts."""

    @property
    def threshold(self) -> float | None:
        """How far the score of no answer may exceed that of the best span; None: there always is an answer."""
        return self.metrics["threshold"]

    @torch.inference_mode()
    def spans(self, questions: Sequence[Question]) -> list[Prediction]:
        """The best spans of each question's context."""
        recipe = QuestionGrid.model_construct(**self.recipe)
        features = build_windows(questions, self.vocabulary, recipe.length, recipe.stride, recipe.max_question)
        return predict_spans(self.model, features, self.vocabulary.pad_id, questions, recipe)

    def answers(self, questions: Sequence[Question]) -> list[str]:
        """The best answer to each question, "" where the run's threshold says that there is none."""
        return [best_answer(prediction, self.threshold) for prediction in self.spans(questions)]

    def ranked(self, questions: Sequence[Question]) -> dict[str, list[tuple[str, float]]]:
        """BioASQ id -> at most five (answer, probability), over the questions' snippets."""
        return ranked_answers(questions, self.spans(questions))


def load_run(folder: str | Path) -> Recogniser | TextLabeller | Answerer:
    """A complete fine-tuning run with its weights.

    Args:
        folder: `outputs/<profile>/runs/finetune/<name>`.

    Raises:
        BiomegError: there is no such run, it is not complete, or its weights were not kept.
    """
    folder = Path(folder).resolve()
    if not (folder / "params.json").is_file():
        raise InputError(folder, "expected the folder of a fine-tuning run: outputs/<profile>/runs/finetune/<name>")
    params = read_side_file(folder / "params.json")
    if not isinstance(params, dict):
        raise InputError(folder / "params.json", "expected the params of a run of a study")
    if "cell" not in params:
        raise InputError(folder, "expected a fine-tuning run, found a pre-training run")
    if not (folder / "metrics.json").is_file() or not (folder / "model.safetensors").is_file():
        raise BiomegError(f"{folder}: expected a complete run with its weights (those of the first seed are kept)")
    kinds: dict[str, tuple[type[Run], Any]] = {
        "ner": (Recogniser, token_classifier),
        "classification": (TextLabeller, text_classifier),
        "qa": (Answerer, lambda config, labels, point: span_classifier(config, point)),
    }
    try:
        kind, make = kinds[TASK_OF_FORMAT[params["benchmark"]["format"]]]
        return kind(folder, params, make)
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        found = f"{type(error).__name__}: {brief(error)}"
        raise InputError(
            folder, f"expected params.json and metrics.json of a run of a study, found others ({found})"
        ) from error
