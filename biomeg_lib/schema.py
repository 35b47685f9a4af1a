"""The parts of a params file: corpora, vocabularies, benchmarks, models, runs and grids, each a pydantic class.

`study.Study` puts them together. A part knows its own values alone; names that point to other parts are checked there.
"""

import itertools
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

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


class Strict(BaseModel):
    """A part of a params file: unknown keys are errors, values cannot change after validation."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Corpus(Strict):
    """Raw text: `files` are source names (`biomeg fetch --list`), `miniature:...` files or paths (with * and ?)."""

    format: Literal["jats", "pubmed", "jsonl", "text"]
    files: list[str] = Field(min_length=1)
    held_out: Annotated[float, Field(gt=0, lt=0.5)] = 0.02


class WordPieceFile(Strict):
    """A published WordPiece vocabulary."""

    kind: Literal["wordpiece"]
    file: str
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


class Benchmark(Strict):
    """A named-entity benchmark: three files of token and tag columns. `stands_for`: its name in the paper."""

    format: Literal["iob", "conll"] = "iob"
    train: str
    devel: str
    test: str
    stands_for: str | None = None


class Shape(Strict):
    """An encoder of one's own; the named ones (`biomeg models`) need no entry."""

    layers: Count
    hidden: Count
    heads: Count
    norm: Literal["pre", "post"] = "pre"


class Pretraining(Strict):
    """One pre-training run (paper section 3): masked words and sentence order, for a budget of tokens."""

    model: str
    vocabulary: Name
    corpus: Name
    tokens: Count
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

    @property
    def steps(self) -> int:
        """Optimiser steps that the token budget allows."""
        return max(1, self.tokens // (self.batch * self.length * self.accumulate))


class Search(Strict):
    """The paper's grid (Table 1), tried for `epochs` with the first seed; the best F1 on the development set wins."""

    num_fc_layers: list[Literal[1, 2]] = Field(default=[1], min_length=1)
    fc_hidden: list[Count] = Field(default=[512], min_length=1)
    learning_rate: list[Positive] = Field(default=[5e-5], min_length=1)
    epochs: Count = 3

    def points(self) -> list[dict[str, Any]]:
        """The combinations; with a single layer there is nothing for `fc_hidden` to vary."""
        points = []
        for rate, layers, hidden in itertools.product(self.learning_rate, self.num_fc_layers, self.fc_hidden):
            point = {
                "learning_rate": rate,
                "num_fc_layers": layers,
                "fc_hidden": hidden if layers > 1 else self.fc_hidden[0],
            }
            if point not in points:
                points.append(point)
        return points


class NerGrid(Strict):
    """A grid of NER fine-tunings: every benchmark x encoder x start x labelling, with every seed of the study."""

    benchmarks: Annotated[list[Name], Distinct] = Field(min_length=1)
    encoders: Annotated[list[Name], Distinct] = Field(min_length=1)
    starts: Annotated[list[Literal["pretrained", "random"]], Distinct] = Field(default=["pretrained"], min_length=1)
    labellings: Annotated[list[Literal["piece", "word"]], Distinct] = Field(default=["piece", "word"], min_length=1)
    fraction: Fraction = 1.0
    epochs: Count = 30
    batch: Count = 32
    length: Length = 128
    warmup: Annotated[float, Field(ge=0, lt=1)] = 0.1
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    dropout: Dropout = 0.1
    fc_dropout: Dropout = 0.5
    evaluations: Count = 10
    search: Search = Search()


class Cell(Strict):
    """One arm of a grid: what is the same for all its seeds and all points of its search."""

    grid: str
    benchmark: str
    encoder: str
    start: Literal["pretrained", "random"]
    labelling: Literal["piece", "word"]
    fraction: float

    @property
    def name(self) -> str:
        """`grid.benchmark.encoder.start.labelling`, the stem of its run directories."""
        return ".".join([self.grid, self.benchmark, self.encoder, self.start, self.labelling])

    def run(self, seed: int) -> str:
        """The name of the run with this seed."""
        return f"{self.name}.seed{seed}"


class Job(Strict):
    """What one executed `finetune` notebook does: all cells and seeds of one encoder on one benchmark."""

    grid: str
    benchmark: str
    encoder: str

    @property
    def name(self) -> str:
        """`grid.benchmark.encoder`."""
        return f"{self.grid}.{self.benchmark}.{self.encoder}"
