"""Grids of fine-tunings, as params files have them, and the names of the runs that they stand for.

A grid lists values of factors; an arm (`Cell`) is one combination of them, a run is an arm with a seed, and a `Job` is
all that one encoder has to do on one benchmark. One class a task says which factors it has and what its recipe needs.
"""

import itertools
import json
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from biomeg_lib.schema import Count, Distinct, Dropout, Fraction, Name, Positive, Seed, Strict

Task = Literal["ner", "classification", "qa"]
Start = Literal["pretrained", "random"]
Labelling = Literal["piece", "word"]
Marking = Literal["markers", "anonymised"]
Remedy = Literal["none", "weighted", "oversampled", "dice"]

FACTORS = ("start", "labelling", "marking", "route", "remedy")
DIRECT = "direct"


class Search(Strict):
    """The paper's grid (Table 1), tried for `epochs` with the first seed; the best score on development wins."""

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


class Grid(Strict):
    """What the grids of all tasks have: every benchmark x encoder x start, with every seed of the study.

    Attributes:
        task: which benchmarks it may name.
        varied: keys that a run's `cell`, `point` or `epochs` speak for; all others are its recipe.
        seeds: in place of the study's, for a grid whose runs are long, or whose differences are small.
        evaluations: on the development set, at ends of epochs; the best one's weights are kept. 0, for a recipe with
            nothing to choose: the last weights are, and no time goes to the development set.
    """

    task: ClassVar[Task]
    varied: ClassVar[frozenset[str]] = frozenset(
        {"benchmarks", "encoders", "starts", "seeds", "search", "fraction", "epochs"}
    )

    benchmarks: Annotated[list[Name], Distinct] = Field(min_length=1)
    encoders: Annotated[list[Name], Distinct] = Field(min_length=1)
    starts: Annotated[list[Start], Distinct] = Field(default=["pretrained"], min_length=1)
    seeds: Annotated[list[Seed], Distinct] | None = Field(default=None, min_length=1)
    fraction: Fraction = 1.0
    epochs: Count = 30
    batch: Count = 32
    length: Annotated[int, Field(ge=16, le=512)] = 128
    warmup: Annotated[float, Field(ge=0, lt=1)] = 0.1
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    dropout: Dropout = 0.1
    fc_dropout: Dropout = 0.5
    evaluations: Annotated[int, Field(ge=0)] = 10
    search: Search = Search()

    @model_validator(mode="after")
    def _can_choose(self) -> "Grid":
        if not self.evaluations and len(self.search.points()) > 1:
            raise ValueError("evaluations above 0, since the search has several points to choose from")
        return self

    def factors(self) -> dict[str, list[Any]]:
        """Factor -> its values, in the order of `FACTORS`; None stands for a value that a run's name leaves out."""
        return {"start": list(self.starts)}

    def recipe(self) -> dict[str, Any]:
        """What is the same for all its runs."""
        return self.model_dump(exclude=set(self.varied))

    def conditions(self, *ignored: str) -> str:
        """The recipe with epochs and search, as text: grids with the same train alike, whatever they are called.

        Args:
            ignored: keys of the recipe that may differ.
        """
        recipe = {key: value for key, value in self.recipe().items() if key not in ignored}
        return json.dumps({**recipe, **self.model_dump(include={"epochs", "search"})}, sort_keys=True)


class NerGrid(Grid):
    """Named-entity recognition (paper section 5.1)."""

    task: ClassVar[Task] = "ner"
    varied: ClassVar[frozenset[str]] = Grid.varied | {"labellings", "remedies"}

    labellings: Annotated[list[Labelling], Distinct] = Field(default=["piece", "word"], min_length=1)
    remedies: Annotated[list[Remedy], Distinct] = Field(default=["none"], min_length=1)

    def factors(self) -> dict[str, list[Any]]:
        return {**super().factors(), "labelling": list(self.labellings), "remedy": _named(self.remedies)}


class ClassificationGrid(Grid):
    """Relations and sentence pairs, one label a text (paper section 5.2). Sentence pairs have nothing to mark."""

    task: ClassVar[Task] = "classification"
    varied: ClassVar[frozenset[str]] = Grid.varied | {"markings", "remedies"}

    markings: Annotated[list[Marking], Distinct] = Field(default=["markers"], min_length=1)
    remedies: Annotated[list[Remedy], Distinct] = Field(default=["none"], min_length=1)

    def factors(self) -> dict[str, list[Any]]:
        return {**super().factors(), "marking": list(self.markings), "remedy": _named(self.remedies)}


class QuestionGrid(Grid):
    """Question answering by spans (paper section 5.3).

    Attributes:
        routes: `direct`, or the name of another `qa` grid of one benchmark, whose run with the same encoder, start and
            seed is then gone on from: the paper's SQuAD before BioASQ.
        stride: tokens from the start of one window over a context to that of the next.
        max_question, max_answer: tokens.
        n_best: spans kept of a question.
    """

    task: ClassVar[Task] = "qa"
    varied: ClassVar[frozenset[str]] = Grid.varied | {"routes"}

    length: Annotated[int, Field(ge=16, le=512)] = 384
    routes: Annotated[list[Name], Distinct] = Field(default=[DIRECT], min_length=1)
    stride: Count = 128
    max_question: Count = 64
    max_answer: Count = 30
    n_best: Count = 20

    @model_validator(mode="after")
    def _windows_have_room(self) -> "QuestionGrid":
        if self.length < self.max_question + 4:
            least = self.max_question + 4
            raise ValueError(f"a length of at least {least}: max_question, three special tokens and one of the text")
        return self

    def factors(self) -> dict[str, list[Any]]:
        return {**super().factors(), "route": list(self.routes)}


def _named(remedies: list[Remedy]) -> list[str | None]:
    return [None if remedy == "none" else remedy for remedy in remedies]


class Cell(Strict):
    """One arm of a grid: what is the same for all its seeds and all points of its search.

    A factor that the task does not have is None, and so is `remedy` for plain cross-entropy.
    """

    grid: str
    benchmark: str
    encoder: str
    start: Start
    labelling: Labelling | None = None
    marking: Marking | None = None
    route: str | None = None
    remedy: Remedy | None = None
    fraction: float

    @property
    def name(self) -> str:
        """`grid.benchmark.encoder.start...`, its factors in order: the stem of its run directories."""
        factors = [getattr(self, factor) for factor in FACTORS]
        return ".".join([self.grid, self.benchmark, self.encoder, *(value for value in factors if value)])

    def run(self, seed: int) -> str:
        """The name of the run with this seed."""
        return f"{self.name}.seed{seed}"

    def record(self) -> dict[str, Any]:
        """For the JSON files of a run: without the factors that it does not have."""
        return self.model_dump(exclude_none=True)


class Job(Strict):
    """What one executed `finetune` notebook does: all cells and seeds of one encoder on one benchmark."""

    grid: str
    benchmark: str
    encoder: str

    @property
    def name(self) -> str:
        """`grid.benchmark.encoder`."""
        return f"{self.grid}.{self.benchmark}.{self.encoder}"
