"""What claims are judged by: a study's finished runs, read once, and its vocabularies."""

from functools import cached_property

import numpy as np
import pandas as pd

from biomeg_lib.benchmarks.iob import Sentence, read_iob
from biomeg_lib.inputs import benchmark_files
from biomeg_lib.report.findings import pairs
from biomeg_lib.study import Study
from biomeg_lib.vocab import Vocabulary

RESAMPLES = 2000
BIOMEDICAL = ("BC5CDR-chem", "BC5CDR-disease", "NCBI-disease")


class Evidence:
    """Runs and rates of a study, each made when it is first asked for.

    Attributes:
        study: whose they are; all its runs must be complete.
    """

    def __init__(self, study: Study):
        self.study = study

    @cached_property
    def ner(self) -> pd.DataFrame:
        """Runs on named entities, see `pairs.all_runs`."""
        return pairs.all_runs(self.study, "ner")

    @cached_property
    def relations(self) -> pd.DataFrame:
        """Runs on the relations of ChemProt or what stands for it."""
        runs = pairs.all_runs(self.study, "classification")
        return runs if runs.empty else runs[runs["benchmark"].isin(pairs.benchmarks_for(self.study, "ChemProt"))]

    @cached_property
    def squad(self) -> pd.DataFrame:
        """Runs on SQuAD 1.1 or 2.0 or what stands for them."""
        return self._asked("SQuAD-v1.1", "SQuAD-v2.0")

    @cached_property
    def factoids(self) -> pd.DataFrame:
        """Runs on BioASQ's factoids or what stands for them; a route through another grid is called `squad`."""
        runs = self._asked("BioASQ-7b")
        return runs if runs.empty else runs.assign(route=runs["route"].where(runs["route"] == "direct", "squad"))

    def _asked(self, *names: str) -> pd.DataFrame:
        runs = pairs.all_runs(self.study, "qa")
        return runs if runs.empty else runs[runs["benchmark"].isin(pairs.benchmarks_for(self.study, *names))]

    @cached_property
    def entities(self) -> dict[str, list[Sentence]]:
        """Training sentences of the benchmarks that stand for the paper's biomedical ones."""
        return {
            name: read_iob(*benchmark_files(self.study, spec)["train"], spec.format)
            for name in pairs.benchmarks_for(self.study, *BIOMEDICAL)
            if (spec := self.study.benchmarks[name]).task == "ner"
        }

    def rate_difference(self, first: str, second: str) -> tuple[float, np.ndarray, int]:
        """Pieces a word inside entities under vocabulary `first` minus under `second`, averaged over benchmarks; the
        same of resampled sentences (float64[RESAMPLES]); and how many sentences there are."""
        estimates, draws, sentences = [], [], 0
        for number, (_, training) in enumerate(self.entities.items()):
            words = [[w for w, tag in zip(s.words, s.tags, strict=True) if tag != "O"] for s in training]
            words = [inside for inside in words if inside]
            counts = np.array([len(inside) for inside in words], dtype=np.float64)
            pieces = [self._pieces(name, words) for name in (first, second)]
            excess = pieces[0] - pieces[1]
            estimates.append(excess.sum() / counts.sum())
            generator = np.random.default_rng(number)
            drawn = generator.integers(0, len(words), size=(RESAMPLES, len(words)))
            draws.append(excess[drawn].sum(axis=1) / counts[drawn].sum(axis=1))
            sentences += len(words)
        return float(np.mean(estimates)), np.mean(draws, axis=0), sentences

    def _pieces(self, name: str, words: list[list[str]]) -> np.ndarray:
        vocabulary = Vocabulary.load(self.study.vocabulary_directory(name))
        return np.array([len(vocabulary.encode_words(inside).ids) for inside in words], dtype=np.float64)
