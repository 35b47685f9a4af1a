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
from biomeg_lib.grids import DIRECT, Cell, ClassificationGrid, Grid, Job, NerGrid, QuestionGrid
from biomeg_lib.kernels import Choice
from biomeg_lib.model.config import PRESETS, ModelConfig, config_for
from biomeg_lib.params import TAG, Injected, Location, ParamsFile, suggestion, validate
from biomeg_lib.schema import (
    Benchmark,
    Corpus,
    Count,
    Distinct,
    Name,
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
    kernels: Choice = "auto"  # how, not what is computed, as is `compile`: neither decides a result but by rounding
    compile: bool = False  # torch.compile for encoders, with the plain kernels
    seeds: Annotated[list[Seed], Distinct] = Field(min_length=1)
    corpora: dict[Name, Corpus] = {}
    vocabularies: dict[Name, Annotated[WordPieceFile | SentencePieceModel, Field(discriminator=TAG)]] = {}
    benchmarks: dict[Name, Benchmark] = {}
    models: dict[Name, Shape] = {}
    pretraining: dict[Name, Pretraining] = {}
    ner: dict[Name, NerGrid] = {}
    classification: dict[Name, ClassificationGrid] = {}
    qa: dict[Name, QuestionGrid] = {}
    figure1_vocabularies: list[str] = []
    not_run: dict[str, str] = {}  # a model or benchmark of the paper -> why no run of this profile represents it

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
        files += [f for benchmark in self.benchmarks.values() for f in benchmark.splits.values()]
        return any(f.startswith("miniature:") for f in files)

    # -- what is to be run ---------------------------------------------------------------------------------------

    def model_config_for(self, model: str, vocabulary_size: int, dropout: float) -> ModelConfig:
        """The shape called `model` with a (padded) vocabulary."""
        if model in self.models:
            config = ModelConfig(**self.models[model].model_dump(), vocab_size=vocabulary_size)
        else:
            config = config_for(model, vocabulary_size)
        return with_dropout(config, dropout)

    @property
    def grids(self) -> dict[str, Grid]:
        """The grids of all tasks; no two have the same name."""
        return {**self.ner, **self.classification, **self.qa}

    def benchmarks_of(self, task: str) -> dict[str, Benchmark]:
        """The benchmarks that grids of a task may name."""
        return {name: benchmark for name, benchmark in self.benchmarks.items() if benchmark.task == task}

    def jobs(self, task: str | None = None) -> list[Job]:
        """The fine-tuning notebooks to execute, of one task or of all, in the order of the params file."""
        return [
            Job(grid=name, benchmark=benchmark, encoder=encoder)
            for name, grid in self.grids.items()
            if task in (None, grid.task)
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
        grid = self.grids[job.grid]
        factors = grid.factors()
        if self.benchmarks[job.benchmark].format == "mrpc":
            factors["marking"] = [None]
        return [
            Cell(**job.model_dump(), **dict(zip(factors, values, strict=True)), fraction=grid.fraction)
            for values in itertools.product(*factors.values())
        ]

    def earlier(self, cell: Cell) -> Cell | None:
        """The arm whose run with the same seed a question-answering arm goes on from, None for a direct one."""
        if cell.route in (None, DIRECT):
            return None
        grid = self.qa[cell.route]
        return Cell(
            grid=cell.route,
            benchmark=grid.benchmarks[0],
            encoder=cell.encoder,
            start=cell.start,
            route=DIRECT,
            fraction=grid.fraction,
        )

    def earlier_jobs(self, job: Job) -> list[Job]:
        """The jobs that have to be done before this one."""
        before = (self.earlier(cell) for cell in self.cells(job))
        jobs = [Job(grid=c.grid, benchmark=c.benchmark, encoder=c.encoder) for c in before if c is not None]
        return list(dict.fromkeys(jobs))

    def keeps_weights(self, cell: Cell, seed: int) -> bool:
        """Whether a run's weights stay: those of the first seed, and of all seeds that another grid goes on from."""
        return seed == self.seeds_of(cell.grid)[0] or any(cell.grid in grid.routes for grid in self.qa.values())

    def runs(self, job: Job) -> list[str]:
        """The names of a job's runs, one for each cell and seed."""
        return [cell.run(seed) for cell in self.cells(job) for seed in self.seeds_of(job.grid)]

    def seeds_of(self, grid: str) -> list[int]:
        """The seeds of a grid's runs."""
        return self.grids[grid].seeds or self.seeds

    def encoders_that_differ_in_vocabulary(self) -> list[str]:
        """The first fine-tuned encoder, and those that were pre-trained like it but for the vocabulary."""
        encoders = list(dict.fromkeys(encoder for grid in self.grids.values() for encoder in grid.encoders))
        recipes = {
            name: self.pretraining[name].model_dump(exclude={"vocabulary", "stands_for", "parallel"})
            for name in encoders
        }
        return [name for name in encoders if recipes[name] == recipes[encoders[0]]]

    def encoders_that_differ_in_model(self) -> list[list[str]]:
        """Groups of fine-tuned encoders that were pre-trained from random weights alike but for their shape and their
        learning rate; groups of one shape are left out. In the order of the params file."""
        fine_tuned = {encoder for grid in self.grids.values() for encoder in grid.encoders}
        groups: dict[str, list[str]] = {}
        for name, spec in self.pretraining.items():
            if name in fine_tuned and spec.model is not None:
                same = spec.model_dump_json(exclude={"model", "learning_rate", "stands_for", "parallel"})
                groups.setdefault(same, []).append(name)
        return [names for names in groups.values() if len({self.pretraining[name].model for name in names}) > 1]

    def encoders_of_series(self) -> list[str]:
        """The pre-training runs that start from a checkpoint or a run, or are such a run, in order."""
        origins = {spec.init_from for spec in self.pretraining.values()}
        return [name for name, spec in self.pretraining.items() if spec.init_from is not None or name in origins]

    def resolved_pretraining(self, name: str) -> dict[str, Any]:
        """All that decides the result of a pre-training run, for its `params.json`."""
        if name not in self.pretraining:
            known = suggestion(name, self.pretraining)
            raise BiomegError(f"{self.params_file}: no pre-training run is called {name!r}; {known}")
        spec = self.pretraining[name]
        own = {spec.model: self.models[spec.model].identity()} if spec.model in self.models else {}
        before = {"init_from": self.resolved_pretraining(spec.init_from)} if spec.init_from in self.pretraining else {}
        return {
            "pretraining": spec.recipe(),
            "models": own,
            "vocabulary": self.vocabularies[spec.vocabulary].model_dump(exclude={"stands_for"}),
            "corpus": self.corpora[spec.corpus].model_dump(),
            "threads": self.threads,
            **before,
        }

    def resolved_finetuning(self, cell: Cell, point: dict[str, Any], seed: int, epochs: int) -> dict[str, Any]:
        """All that decides the result of a fine-tuning run, for its `params.json`."""
        resolved = {
            "cell": cell.record(),
            "point": point,
            "seed": seed,
            "epochs": epochs,
            "recipe": self.grids[cell.grid].recipe(),
            "benchmark": self.benchmarks[cell.benchmark].identity(),
            "encoder": self.resolved_pretraining(cell.encoder),
        }
        if (earlier := self.earlier(cell)) is not None:
            grid = self.grids[earlier.grid]
            resolved["earlier"] = {
                "cell": earlier.record(),
                "grid": grid.model_dump(exclude={"benchmarks", "encoders", "starts", "seeds", "routes"}),
                "benchmark": self.benchmarks[earlier.benchmark].identity(),
            }
        return resolved


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
    for location, expected in _mistakes(study):
        raise source.error(location, expected)
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
        if run.model is not None:
            yield ("pretraining", key, "model"), "model", run.model, {**PRESETS, **study.models}
        yield ("pretraining", key, "vocabulary"), "vocabulary", run.vocabulary, study.vocabularies
        yield ("pretraining", key, "corpus"), "corpus", run.corpus, study.corpora
    for section in ("ner", "classification", "qa"):
        for key, grid in getattr(study, section).items():
            for i, benchmark in enumerate(grid.benchmarks):
                known = study.benchmarks_of(grid.task)
                yield (section, key, "benchmarks", i), f"{section} benchmark", benchmark, known
            for i, encoder in enumerate(grid.encoders):
                yield (section, key, "encoders", i), "pre-training run", encoder, study.pretraining
    for key, questions in study.qa.items():
        for i, route in enumerate(questions.routes):
            yield ("qa", key, "routes", i), "qa grid", route, {DIRECT, *(study.qa.keys() - {key})}
    for i, vocabulary_name in enumerate(study.figure1_vocabularies):
        yield ("figure1_vocabularies", i), "vocabulary", vocabulary_name, study.vocabularies


def _mistakes(study: Study) -> Iterator[tuple[Location, str]]:
    """Runs and grids that cannot be run side by side, or one after the other: (where, what was expected)."""
    for key in study.pretraining:
        chain = [key]
        while (before := study.pretraining[chain[-1]].init_from) in study.pretraining:
            if before in chain:
                yield ("pretraining", key, "init_from"), f"expected a run that does not start from {key} itself"
                break
            chain.append(before)
    seen: dict[str, str] = {}
    for section in ("ner", "classification", "qa"):
        for key in getattr(study, section):
            if key in seen:
                yield (
                    (section, key),
                    f"expected a name that no other grid has; {seen[key]} has it too",
                )
            seen[key] = section
    for key, relations in study.classification.items():
        for i, benchmark in enumerate(relations.benchmarks):
            if "anonymised" in relations.markings and study.benchmarks[benchmark].format == "chemprot-jsonl":
                found = f"{benchmark} does not say which name is the chemical"
                yield ("classification", key, "benchmarks", i), f"expected chemprot for anonymised names: {found}"
    for key, grid in study.qa.items():
        if key == DIRECT:
            yield ("qa", key), f"expected another name: {DIRECT} is the route without a grid before it"
        for i, route in enumerate(grid.routes):
            if route == DIRECT:
                continue
            first = study.qa[route]
            lacking = (set(grid.encoders) - set(first.encoders)) | (set(grid.starts) - set(first.starts))
            if len(first.benchmarks) > 1 or DIRECT not in first.routes:
                yield ("qa", key, "routes", i), f"expected {route} to have one benchmark and the route {DIRECT}"
            elif lacking:
                yield ("qa", key, "routes", i), f"expected {route} to have {', '.join(sorted(lacking))} too"
