"""The study: a whole params file, the names of everything it makes, and the grid of runs it stands for.

One validated `Study` object is what every other part of the library takes. A params file is `params/<profile>.yaml`;
its products go to `outputs/<profile>/`. Nothing here reads data or trains; it only says what belongs where.
"""

import dataclasses
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, PrivateAttr

from biomeg_lib.errors import BiomegError
from biomeg_lib.model.config import PRESETS, ModelConfig, config_for
from biomeg_lib.params import TAG, Injected, Location, ParamsFile, suggestion, validate
from biomeg_lib.schema import (
    Benchmark,
    Cell,
    Corpus,
    Count,
    Distinct,
    Job,
    Name,
    NerGrid,
    Pretraining,
    Seed,
    SentencePieceModel,
    Shape,
    Strict,
    WordPieceFile,
)


class Study(Strict):
    """A whole params file."""

    profile: Name
    title: str
    description: str
    threads: Count = 1
    seeds: Annotated[list[Seed], Distinct] = Field(min_length=1)
    corpora: dict[Name, Corpus] = {}
    vocabularies: dict[Name, Annotated[WordPieceFile | SentencePieceModel, Field(discriminator=TAG)]] = {}
    benchmarks: dict[Name, Benchmark] = {}
    models: dict[Name, Shape] = {}
    pretraining: dict[Name, Pretraining] = {}
    ner: dict[Name, NerGrid] = {}
    figure1_vocabularies: list[str] = []

    _root: Path = PrivateAttr(default=Path())

    # -- where things are ----------------------------------------------------------------------------------------

    @property
    def root(self) -> Path:
        """The folder that holds `params/` and `outputs/`."""
        return self._root

    @property
    def outputs(self) -> Path:
        """`outputs/<profile>`."""
        return self._root / "outputs" / self.profile

    @property
    def miniature(self) -> Path:
        """The files of the embedded miniature, shared by all profiles."""
        return self._root / "outputs" / "miniature"

    def corpus_directory(self, name: str) -> Path:
        """Documents and counts of a corpus."""
        return self.outputs / "corpora" / name

    def vocabulary_directory(self, name: str) -> Path:
        """A vocabulary, as `Vocabulary.save` leaves it."""
        return self.outputs / "vocabularies" / name

    def shards_directory(self, corpus: str, vocabulary: str) -> Path:
        """The tokenised corpus."""
        return self.outputs / "shards" / f"{corpus}.{vocabulary}"

    def run_directory(self, kind: Literal["pretrain", "search", "finetune"], name: str) -> Path:
        """A training run."""
        return self.outputs / "runs" / kind / name

    def table(self, name: str) -> Path:
        """A result table, CSV."""
        return self.outputs / "tables" / f"{name}.csv"

    def figure(self, name: str) -> Path:
        """A figure, SVG."""
        return self.outputs / "figures" / f"{name}.svg"

    @property
    def params_file(self) -> Path:
        """The file this study comes from, relative to `root`."""
        return Path("params") / f"{self.profile}.yaml"

    @property
    def generated(self) -> bool:
        """Whether any of the data is the embedded miniature, so that no number says anything about real text."""
        files = [f for corpus in self.corpora.values() for f in corpus.files]
        files += [f for b in self.benchmarks.values() for f in (b.train, b.devel, b.test)]
        return any(f.startswith("miniature:") for f in files)

    # -- what is to be run ---------------------------------------------------------------------------------------

    def model_config_for(self, model: str, vocabulary_size: int, dropout: float) -> ModelConfig:
        """The shape called `model` with a (padded) vocabulary."""
        if model in self.models:
            config = ModelConfig(**self.models[model].model_dump(), vocab_size=vocabulary_size)
        else:
            config = config_for(model, vocabulary_size)
        return with_dropout(config, dropout)

    def jobs(self) -> list[Job]:
        """The fine-tuning notebooks to execute, in the order of the params file."""
        return [
            Job(grid=grid_name, benchmark=benchmark, encoder=encoder)
            for grid_name, grid in self.ner.items()
            for benchmark in grid.benchmarks
            for encoder in grid.encoders
        ]

    def job(self, name: str) -> Job:
        """The job with this name.

        Raises:
            BiomegError: there is none; the message has the nearest name.
        """
        jobs = {job.name: job for job in self.jobs()}
        if name not in jobs:
            raise BiomegError(f"{self.params_file}: no fine-tuning job is called {name!r}; {suggestion(name, jobs)}")
        return jobs[name]

    def cells(self, job: Job) -> list[Cell]:
        """The arms of a job."""
        grid = self.ner[job.grid]
        return [
            Cell(**job.model_dump(), start=start, labelling=labelling, fraction=grid.fraction)
            for start, labelling in itertools.product(grid.starts, grid.labellings)
        ]

    def runs(self, job: Job) -> list[str]:
        """The names of a job's runs, one for each cell and seed."""
        return [cell.run(seed) for cell in self.cells(job) for seed in self.seeds]

    def encoders_that_differ_in_vocabulary(self) -> list[str]:
        """The first fine-tuned encoder, and those that were pre-trained like it but for the vocabulary."""
        encoders = list(dict.fromkeys(encoder for grid in self.ner.values() for encoder in grid.encoders))
        recipes = {name: self.pretraining[name].model_dump(exclude={"vocabulary"}) for name in encoders}
        return [name for name in encoders if recipes[name] == recipes[encoders[0]]]

    def resolved_pretraining(self, name: str) -> dict[str, Any]:
        """All that decides the result of a pre-training run, for its `params.json`."""
        if name not in self.pretraining:
            known = suggestion(name, self.pretraining)
            raise BiomegError(f"{self.params_file}: no pre-training run is called {name!r}; {known}")
        spec = self.pretraining[name]
        own = {spec.model: self.models[spec.model].model_dump()} if spec.model in self.models else {}
        return {
            "pretraining": spec.model_dump(),
            "models": own,
            "vocabulary": self.vocabularies[spec.vocabulary].model_dump(exclude={"stands_for"}),
            "corpus": self.corpora[spec.corpus].model_dump(),
            "threads": self.threads,
        }

    def resolved_finetuning(self, cell: Cell, point: dict[str, Any], seed: int, epochs: int) -> dict[str, Any]:
        """All that decides the result of a fine-tuning run, for its `params.json`."""
        grid = self.ner[cell.grid]
        varied = {"benchmarks", "encoders", "starts", "labellings", "search", "fraction", "epochs"}
        return {
            "cell": cell.model_dump(),
            "point": point,
            "seed": seed,
            "epochs": epochs,
            "recipe": grid.model_dump(exclude=varied),
            "benchmark": self.benchmarks[cell.benchmark].model_dump(exclude={"stands_for"}),
            "encoder": self.resolved_pretraining(cell.encoder),
        }


def with_dropout(config: ModelConfig, dropout: float) -> ModelConfig:
    """The same shape with this dropout, in attention too."""
    return dataclasses.replace(config, dropout=dropout, attention_dropout=dropout)


def load(path: str | Path) -> Study:
    """Read and check a params file.

    Raises:
        InputError: one line with file and line of the first mistake.
    """
    source = ParamsFile(path)
    study = _checked(source)
    if study.profile != source.path.stem:
        raise source.error(("profile",), f"expected the file's own name {source.path.stem!r}, found {study.profile!r}")
    study._root = source.path.resolve().parent.parent
    return study


def from_notebook(namespace: dict[str, Any]) -> Study:
    """The study of a notebook: its parameters cell, over `params/<profile>.yaml` for what the cell leaves out.

    `papermill -f params/smoke.yaml` injects the whole file, one variable a key; `-p profile laptop` names a file; a
    reader in JupyterLab changes a variable by hand. All three end here.

    Args:
        namespace: the notebook's `globals()`, at its first call.
    """
    injected = {key: namespace[key] for key in Study.model_fields if key in namespace}
    required = {key for key, field in Study.model_fields.items() if field.is_required()}
    if required <= injected.keys():
        source: ParamsFile | Injected = Injected(injected)
    else:
        source = ParamsFile(find_root() / "params" / f"{injected.get('profile', 'smoke')}.yaml")
        if injected.keys() - {"profile"}:
            source = Injected({**source.values, **injected})
    study = _checked(source)
    study._root = find_root()
    return study


def find_root() -> Path:
    """The nearest folder at or above the current one that has `params/` and `notebooks/`."""
    for folder in (Path.cwd(), *Path.cwd().parents):
        if (folder / "params").is_dir() and (folder / "notebooks").is_dir():
            return folder
    raise BiomegError(f"{Path.cwd()}: expected to be inside the project (a folder with params/ and notebooks/)")


def _checked(source: ParamsFile | Injected) -> Study:
    study = validate(Study, source)
    for location, kind, name, known in _references(study):
        if name not in known:
            raise source.error(location, f"no {kind} is called {name!r}; {suggestion(name, known)}")
    for name in study.models:
        try:
            study.model_config_for(name, 128, 0.0)
        except BiomegError as error:
            raise source.error(("models", name), str(error)) from None
    return study


def _references(study: Study) -> Iterator[tuple[Location, str, str, Any]]:
    """Every place where one entry names another: (where, of what kind, the name, the entries it may name)."""
    for key, vocabulary in study.vocabularies.items():
        if isinstance(vocabulary, SentencePieceModel):
            yield ("vocabularies", key, "corpus"), "corpus", vocabulary.corpus, study.corpora
    for key, run in study.pretraining.items():
        yield ("pretraining", key, "model"), "model", run.model, {**PRESETS, **study.models}
        yield ("pretraining", key, "vocabulary"), "vocabulary", run.vocabulary, study.vocabularies
        yield ("pretraining", key, "corpus"), "corpus", run.corpus, study.corpora
    for key, grid in study.ner.items():
        for i, benchmark in enumerate(grid.benchmarks):
            yield ("ner", key, "benchmarks", i), "benchmark", benchmark, study.benchmarks
        for i, encoder in enumerate(grid.encoders):
            yield ("ner", key, "encoders", i), "pre-training run", encoder, study.pretraining
    for i, vocabulary_name in enumerate(study.figure1_vocabularies):
        yield ("figure1_vocabularies", i), "vocabulary", vocabulary_name, study.vocabularies
