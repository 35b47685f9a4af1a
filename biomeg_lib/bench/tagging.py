"""Fine-tuning on, and prediction of, named entities in real sentences: ours and Hugging Face's, `mini` shape.

Every round has other sentences than the one before, the same on both sides, since our vocabulary remembers words that
it has cut. In fine-tuning both get the same features, made beforehand, and a round's batches in their own way: ours by
`epoch_batches`, the peer's by a shuffling DataLoader with its package's collator. In prediction both get texts and
give entities. The weights are random, with a bias that makes most words `O`, as they are.

`settings`: those of a shape (see `pretraining`) but for the vocabulary, `sentences` (of a round), `rows` (of a batch).
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from biomeg_lib.bench import data, peers
from biomeg_lib.bench.pretraining import RECIPE, SEED, our_step
from biomeg_lib.bench.side import Side
from biomeg_lib.files import write_json
from biomeg_lib.model import ModelConfig, TokenClassifier
from biomeg_lib.predict import load_run
from biomeg_lib.predict.command import young_objects_alone
from biomeg_lib.tasks.batching import TokenBatch, epoch_batches
from biomeg_lib.tasks.ner import Feature, build, labels_of
from biomeg_lib.tasks.ner_arm import token_batch
from biomeg_lib.training import loop
from biomeg_lib.training.environment import flushed_denormals
from biomeg_lib.training.optimiser import make_optimizer
from biomeg_lib.training.prefetch import Prefetch
from biomeg_lib.training.rundir import RunDirectory
from biomeg_lib.vocab import Vocabulary

LENGTH = 128  # tokens a sentence may have, as in the paper
OUTSIDE = 0.6  # bias of the label O: about one word in ten is then something else


def make_finetune(which: str, settings: Mapping[str, Any]) -> Side:
    """Side "ours", or "padded to 128, fp32", "dynamic padding, bf16", ..."""
    return OursFinetune(settings) if which == "ours" else HuggingFaceFinetune(which, settings)


def make_predict(which: str, settings: Mapping[str, Any]) -> Side:
    """Side "ours", or "batch size 8", ..."""
    return OursPredict(settings) if which == "ours" else HuggingFacePredict(which, settings)


class _Tagging(Side):
    """Sentences, vocabulary and our model with its random weights, which the peer gets too."""

    repeatable = False

    def __init__(self, settings: Mapping[str, Any]):
        torch.set_num_threads(settings["cores"])
        self.generated = data.is_generated(settings)
        self.rows = settings["rows"]
        self.vocabulary = Vocabulary.load(data.vocabulary_file(settings), lowercase=False)
        sentences = data.sentences(settings)
        self.labels = labels_of(sentences)
        shuffled = np.random.default_rng(SEED).permutation(len(sentences))
        self.sentences = [sentences[i] for i in shuffled]
        self.size = min(settings["sentences"], len(sentences))
        config = ModelConfig(
            layers=settings["layers"],
            hidden=settings["hidden"],
            heads=settings["heads"],
            vocab_size=self.vocabulary.padded_size(),
        )
        loop.seed_step(SEED, -1)
        self.classifier = TokenClassifier(config, len(self.labels), fc_dropout=config.dropout)
        with torch.no_grad():
            self.classifier.classifier.layers[-1].bias[0] = OUTSIDE

    def chunk(self, items: Sequence[Any], number: int) -> list[Any]:
        """The items of round `number`."""
        first = number % (len(items) // self.size) * self.size
        return list(items[first : first + self.size])

    def build(self, number: int | None = None) -> list[Feature]:
        """Features of all sentences, or of a round's first batch."""
        chosen = self.sentences if number is None else self.chunk(self.sentences, number)[: self.rows]
        return build(chosen, self.vocabulary, "piece", LENGTH, self.labels)

    def our_loss(self, features: Sequence[Feature]) -> dict[str, float]:
        with loop.evaluation_mode(self.classifier):
            return {"loss": float(self.classifier.loss(token_batch(features, self.vocabulary.pad_id))[0])}

    def their_loss(self, model: torch.nn.Module, features: Sequence[Feature]) -> dict[str, float]:
        batch = token_batch(features, self.vocabulary.pad_id)
        inputs = {"input_ids": batch.tokens, "attention_mask": batch.mask.long(), "labels": batch.labels}
        return {"loss": peers.loss_without_dropout(model, inputs)}

    def tokenizer(self) -> Any:
        """Hugging Face's, of the same vocabulary."""
        pieces = {piece: number for number, piece in enumerate(self.vocabulary.pieces)}
        tokenizer = peers.import_transformers().BertTokenizer(vocab=pieces, do_lower_case=False)
        tokenizer.model_max_length = LENGTH
        return tokenizer


class OursFinetune(_Tagging):
    """Our batches, model and step."""

    def __init__(self, settings: Mapping[str, Any]):
        super().__init__(settings)
        self.features = self.build()
        self.optimizer = make_optimizer(self.classifier.parameters(), RECIPE.learning_rate, RECIPE.weight_decay)
        self.classifier.train()

    def check(self) -> dict[str, float]:
        return self.our_loss(self.features[: self.rows])

    @flushed_denormals()
    def work(self, number: int) -> float:
        features = self.chunk(self.features, number)
        (batches,) = epoch_batches([len(feature.tokens) for feature in features], SEED, 1, self.rows)

        def make(*indices: int) -> TokenBatch:
            return token_batch([features[i] for i in indices], self.vocabulary.pad_id)

        with Prefetch(make, batches) as made:
            for batch in made:
                our_step(self.classifier, self.optimizer, batch, "cpu")
        return len(features)


class HuggingFaceFinetune(_Tagging):
    """`MegatronBertForTokenClassification`, `DataCollatorForTokenClassification`, random order."""

    def __init__(self, variant: str, settings: Mapping[str, Any]):
        super().__init__(settings)
        transformers = peers.import_transformers()
        padding, self.dtype = variant.split(", ")
        self.features = self.build()
        self.model = peers.hugging_face("TokenClassification", self.classifier)
        self.optimizer = peers.make_optimizer(self.model)
        dynamic = padding == "dynamic padding"
        self.collate = transformers.DataCollatorForTokenClassification(
            self.tokenizer(), padding=True if dynamic else "max_length", max_length=None if dynamic else LENGTH
        )
        self.name = f"transformers {transformers.__version__} {type(self.model).__name__}, {variant}, AdamW"

    def check(self) -> dict[str, float]:
        return self.their_loss(self.model, self.features[: self.rows])

    def work(self, number: int) -> float:
        features = self.chunk(self.features, number)
        examples = [
            {"input_ids": one.tokens, "attention_mask": [1] * len(one.tokens), "labels": one.labels} for one in features
        ]
        order = torch.Generator().manual_seed(SEED)
        loader = torch.utils.data.DataLoader(
            examples, self.rows, shuffle=True, collate_fn=self.collate, generator=order
        )
        for batch in loader:
            peers.train_step(self.model, self.optimizer, dict(batch), "cpu", self.dtype)
        return len(features)


class OursPredict(_Tagging):
    """What `biomeg predict` does with a run: texts in, entities out."""

    def __init__(self, settings: Mapping[str, Any]):
        super().__init__(settings)
        root = Path(settings["folder"]) / "predict"
        self.vocabulary.save(root / "vocabularies" / "cased")
        params = {
            "cell": {"labelling": "piece"},
            "recipe": {"length": LENGTH},
            "encoder": {"pretraining": {"vocabulary": "cased"}},
            "benchmark": {"format": "iob"},
        }
        run = RunDirectory(root / "runs" / "finetune" / "random", params)
        run.path.mkdir(parents=True, exist_ok=True)
        write_json(run.path / "params.json", params)
        run.save_model(self.classifier.state_dict(), self.classifier.config)
        run.finish({"labels": self.labels, "point": {"num_fc_layers": 1, "fc_hidden": 512}})
        self.recogniser = load_run(run.path)
        self.texts = [" ".join(sentence.words) for sentence in self.sentences]

    def check(self) -> dict[str, float]:
        return self.our_loss(self.build(0))

    def work(self, number: int) -> float:
        texts = self.chunk(self.texts, number)
        with young_objects_alone(), flushed_denormals():
            self.recogniser.entities_of_all(texts)
        return len(texts)


class HuggingFacePredict(_Tagging):
    """`pipeline("token-classification")`, which joins the pieces of an entity ("simple")."""

    def __init__(self, variant: str, settings: Mapping[str, Any]):
        super().__init__(settings)
        transformers = peers.import_transformers()
        self.model = peers.hugging_face("TokenClassification", self.classifier).eval()
        self.model.config.id2label = dict(enumerate(self.labels))
        self.texts = [" ".join(sentence.words) for sentence in self.sentences]
        self.pipeline = transformers.pipeline(
            "token-classification",
            model=self.model,
            tokenizer=self.tokenizer(),
            aggregation_strategy="simple",
            batch_size=int(variant.split()[-1]),
            device="cpu",
        )
        self.name = f"transformers {transformers.__version__} pipeline, {type(self.model).__name__}, {variant}"

    def check(self) -> dict[str, float]:
        figures = self.their_loss(self.model, self.build(0))
        self.model.eval()
        return figures

    def work(self, number: int) -> float:
        texts = self.chunk(self.texts, number)
        if len(self.pipeline(texts)) != len(texts):
            raise ValueError("expected a list of entities for every text")
        return len(texts)
