"""Figure 1 of the paper: real entities under several vocabularies, with word-level and sub-token labels.

Which entities to show is decided by a rule, not by hand: those that the first vocabulary breaks into the most pieces
while the last one keeps them nearly whole, one of each length, so that the figure shows the effect and fits a page.
"""

from collections.abc import Sequence
from typing import Any

from matplotlib.figure import Figure

from biomeg_lib.benchmarks.iob import Sentence, entity_spans, read_iob
from biomeg_lib.errors import BiomegError
from biomeg_lib.inputs import benchmark_files
from biomeg_lib.report.tokenisation import tokenisation_figure
from biomeg_lib.study import Study
from biomeg_lib.tasks.ner import NO_LABEL, build, labels_of
from biomeg_lib.vocab import Vocabulary

LONGEST = 40  # characters of an example, so that it fits a line under every vocabulary


def draw(study: Study, count: int = 3) -> Figure:
    """The figure for the vocabularies under `figure1_vocabularies` in the params file, or for all of them.

    Raises:
        InputError: a vocabulary is not there yet.
        BiomegError: no training set has an entity.
    """
    names = study.figure1_vocabularies or list(study.vocabularies)
    vocabularies = {name: Vocabulary.load(study.vocabulary_directory(name)) for name in names}
    sentences = [
        sentence
        for benchmark in study.benchmarks_of("ner").values()
        for sentence in read_iob(*benchmark_files(study, benchmark)["train"], benchmark.format)
    ]
    loaded = list(vocabularies.values())
    examples = choose(sentences, loaded, count) or choose(sentences, loaded, count, plain=False)
    if not examples:
        raise BiomegError(f"{study.params_file}: expected an entity in a training set for Figure 1, found none")
    rows = [[row(name, vocabulary, example) for name, vocabulary in vocabularies.items()] for example in examples]
    return tokenisation_figure([{"words": list(e.words), "tags": list(e.tags)} for e in examples], rows)


def choose(
    sentences: Sequence[Sentence], vocabularies: Sequence[Vocabulary], count: int, plain: bool = True
) -> list[Sentence]:
    """Entities of one, two, ... words, each with the word before it, that the vocabularies treat most differently.

    Args:
        plain: only entities of up to `count` words, all letters, that fit a line. A domain may have none (`Pier 7`).
    """
    best: dict[int, tuple[tuple[int, str], Sentence]] = {}
    seen: set[tuple[str, ...]] = set()
    for sentence in sentences:
        for _, start, stop in entity_spans(sentence.tags):
            first = max(0, start - 1)
            words = sentence.words[first:stop]
            if words in seen:
                continue
            seen.add(words)
            entity = sentence.words[start:stop]
            fits = stop - start <= count and len(" ".join(words)) <= LONGEST
            if plain and not (fits and all(word.isalpha() for word in words)):
                continue
            pieces = [len(vocabulary.encode_words(entity).ids) for vocabulary in vocabularies]
            key = (pieces[0] - pieces[-1], " ".join(words))
            if stop - start not in best or key > best[stop - start][0]:
                best[stop - start] = (key, Sentence(words, sentence.tags[first:stop]))
    return [best[length][1] for length in sorted(best)[:count]]


def row(name: str, vocabulary: Vocabulary, example: Sentence) -> dict[str, Any]:
    """An example under one vocabulary: its pieces and the labels of both schemes, as training sees them."""
    labels = labels_of([example])
    by_scheme = {}
    for scheme in ("word", "piece"):
        feature = build([example], vocabulary, scheme, 512, labels)[0]
        by_scheme[scheme] = [None if label == NO_LABEL else labels[label] for label in feature.labels[1:-1]]
    marker = "\N{LOWER ONE EIGHTH BLOCK}"  # SentencePiece's start of a word; shown where it is a piece by itself
    pieces = [vocabulary.pieces[piece].removeprefix(marker) or marker for piece in feature.tokens[1:-1]]
    return {"vocabulary": name, "pieces": pieces, "word_labels": by_scheme["word"], "piece_labels": by_scheme["piece"]}
