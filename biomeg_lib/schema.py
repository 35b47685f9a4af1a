"""The parts of a params file: corpora, vocabularies, benchmarks, models and pre-training runs, each a pydantic class.

The grids of fine-tunings are in `grids.py`; `study.Study` puts all together. A part knows its own values alone;
names that point to other parts are checked there.
"""

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$")]
Fraction = Annotated[float, Field(gt=0, le=1)]
Dropout = Annotated[float, Field(ge=0, lt=1)]
Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(gt=0)]
Length = Annotated[int, Field(ge=16, le=512)]  # tokens; models have 512 positions
Seed = Annotated[int, Field(ge=0, lt=2**32)]


def _distinct(values: list[Any]) -> list[Any]:
    if len(set(values)) < len(values):
        raise ValueError("each value once")  # two runs would have one name
    return values


Distinct = AfterValidator(_distinct)


def _without_credentials(locator: str) -> str:
    if re.match(r"https?://[^/?#]*@", locator, re.IGNORECASE):
        advice = "expected an address without user and password: put them into ~/.netrc, since params go into reports"
        raise PydanticCustomError("credentials", advice)
    return locator


# Where files are, see `inputs.files_of`. The query of an address is kept in reports: a download may be pinned by it.
Locator = Annotated[str, AfterValidator(_without_credentials)]


class Strict(BaseModel):
    """A part of a params file: unknown keys are errors, values cannot change after validation."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Corpus(Strict):
    """Raw text: `files` are sources (`biomeg fetch --list`), `miniature:...`, addresses, or paths (with * and ?)."""

    format: Literal["jats", "pubmed", "jsonl", "text"]
    files: list[Locator] = Field(min_length=1)
    held_out: Annotated[float, Field(gt=0, lt=0.5)] = 0.02


class WordPieceFile(Strict):
    """A published WordPiece vocabulary."""

    kind: Literal["wordpiece"]
    file: Locator
    lowercase: bool
    stands_for: str | None = None


class SentencePieceModel(Strict):
    """A vocabulary learned on one of the corpora (paper section 3)."""

    kind: Literal["sentencepiece"]
    corpus: Name
    size: Annotated[int, Field(ge=64)]
    algorithm: Literal["bpe", "unigram"] = "bpe"
    lowercase: bool = False
    stands_for: str | None = None


class Factoids(Strict):
    """Questions in SQuAD's form, asked as BioASQ asks its factoids: about a snippet, with five ranked answers.

    Attributes:
        answer_words: questions with a longer answer are left out, since a factoid is a name or a number.
        snippet_words: how much of the context is kept around the answer, which stands anywhere in it.
    """

    answer_words: Count = 5
    snippet_words: Count = 100


class Benchmark(Strict):
    """A labelled data set in its owners' format. `stands_for`: its name in the paper.

    Attributes:
        train, devel, test: where the files are; for `chemprot` a pattern that means the three files of a split. Where
            `devel` or `test` is left out, a share of the training set is held out in its place.
        held_out: that share, of each.
        factoids: for `squad`, take the questions as BioASQ's factoids.
        skip_bad: leave out records that are not right, and count them, instead of stopping at the first one.
    """

    format: Literal["iob", "conll", "chemprot", "chemprot-jsonl", "mrpc", "squad", "bioasq"] = "iob"
    train: Locator
    devel: Locator | None = None
    test: Locator | None = None
    held_out: Annotated[float, Field(gt=0, lt=0.5)] = 0.1
    factoids: Factoids | None = None
    skip_bad: bool = False
    stands_for: str | None = None

    @model_validator(mode="after")
    def _asks(self) -> "Benchmark":
        if self.factoids is not None and self.format != "squad":
            raise ValueError(f"no factoids for {self.format}: they are made of questions in the format squad")
        return self

    @model_validator(mode="after")
    def _has_records(self) -> "Benchmark":
        if self.skip_bad and self.task == "ner":
            raise ValueError(f"no skip_bad for {self.format}: a bad line would take its sentence apart")
        return self

    @property
    def task(self) -> str:
        """`ner`, `classification` or `qa`."""
        return TASK_OF_FORMAT[self.format]

    @property
    def splits(self) -> dict[str, str]:
        """Split -> where its files are."""
        named = {"train": self.train, "devel": self.devel, "test": self.test}
        return {split: locator for split, locator in named.items() if locator is not None}

    def identity(self) -> dict[str, Any]:
        """What decides what is read. What is as it always was is left out, so that older runs stay valid."""
        plain = {key for key in ("skip_bad", "held_out", "factoids") if getattr(self, key) == _default(type(self), key)}
        return self.model_dump(exclude={"stands_for", *plain})


def _default(model: type[BaseModel], key: str) -> Any:
    return model.model_fields[key].default


TASK_OF_FORMAT = {
    "iob": "ner",
    "conll": "ner",
    "chemprot": "classification",
    "chemprot-jsonl": "classification",
    "mrpc": "classification",
    "squad": "qa",
    "bioasq": "qa",
}


class Shape(Strict):
    """An encoder of one's own; the named ones (`biomeg models`) need no entry.

    `init_std`: standard deviation of the first weights. Megatron's 0.02 is about right for a width of 1,024; narrow
    encoders see flat attention with it for millions of tokens, and learn sooner from 1 / sqrt(hidden) or so.
    """

    layers: Count
    hidden: Count
    heads: Count
    norm: Literal["pre", "post"] = "pre"
    init_std: Positive = 0.02

    def identity(self) -> dict[str, Any]:
        """What decides the weights; without what is as it always was, so that older runs stay valid."""
        return self.model_dump(exclude={"init_std"} if self.init_std == _default(type(self), "init_std") else set())


class Parallel(Strict):
    """The ranks of a run, one for each GPU, or processes on a CPU. What a run computes does not depend on them.

    Attributes:
        tensor: how many ranks share each layer's weights; the others have other parts of the batch.
        recompute: forget what blocks computed, and compute it again on the way back: a third more work, less memory.
        restarts: how often all ranks begin again at the last checkpoint after one was lost.
        checkpoint_minutes: the least time between two checkpoints.
    """

    nodes: Count = 1
    gpus_per_node: Count = 1
    tensor: Count = 1
    recompute: bool = False
    restarts: Annotated[int, Field(ge=0)] = 3
    checkpoint_minutes: Positive = 1.0

    @model_validator(mode="after")
    def _divides(self) -> "Parallel":
        if self.ranks % self.tensor:
            raise ValueError(f"tensor to divide the {self.ranks} ranks")
        return self

    @property
    def ranks(self) -> int:
        """All of them."""
        return self.nodes * self.gpus_per_node

    @property
    def data(self) -> int:
        """Parts of a batch."""
        return self.ranks // self.tensor


class Pretraining(Strict):
    """One pre-training run (paper section 3): masked words and sentence order, for a budget of tokens.

    Attributes:
        model: the shape of a run that starts from random weights.
        init_from: the checkpoint that another run starts from and has its shape from: a pre-training run of this file,
            the name of a published checkpoint (`biomeg import --list`), or a path.
        embeddings: what becomes of the checkpoint's word embeddings under another vocabulary: `carried` over by shared
            pieces and means of sub-pieces, or `new`.
        tokens: 0 takes a checkpoint as it is.
        batch: sequences a step and micro-batch, of all ranks together.
        stands_for: the models of the paper whose rows this run represents (`report.published.MODELS`).
    """

    model: str | None = None
    init_from: str | None = None
    embeddings: Literal["carried", "new"] | None = None
    vocabulary: Name
    corpus: Name
    tokens: Annotated[int, Field(ge=0)]
    batch: Count = 32
    length: Length = 128
    learning_rate: Positive = 1e-3
    warmup: Annotated[float, Field(ge=0, lt=1)] = 0.05
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    accumulate: Count = 1
    dropout: Dropout = 0.1
    whole_word: bool = False
    seed: Seed = 1
    evaluations: Count = 20
    held_out_windows: Count = 512
    parallel: Parallel = Parallel()
    stands_for: Annotated[list[str], Distinct] = []

    @model_validator(mode="after")
    def _has_a_start(self) -> "Pretraining":
        if (self.model is None) == (self.init_from is None):
            raise ValueError("either model or init_from")
        if self.init_from is None and self.embeddings is not None:
            raise ValueError("init_from where embeddings is given")
        if self.init_from is None and not self.tokens:
            raise ValueError("tokens above 0 for a run from random weights")
        if self.batch % self.parallel.data:
            raise ValueError(f"a batch that the {self.parallel.data} parts of it divide, found {self.batch}")
        return self

    @property
    def steps(self) -> int:
        """Optimiser steps that the token budget allows."""
        return max(1, self.tokens // (self.batch * self.length * self.accumulate)) if self.tokens else 0

    def recipe(self) -> dict[str, Any]:
        """What decides the result. What a start has no use for is left out."""
        unused = {key for key in ("model", "init_from", "embeddings") if getattr(self, key) is None}
        return self.model_dump(exclude={"stands_for", "parallel", *unused})
