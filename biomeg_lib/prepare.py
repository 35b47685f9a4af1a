"""The stages before training, each from files to a folder of the study's outputs: corpus, vocabulary, shards."""

from collections.abc import Iterator
from typing import Any

from biomeg_lib.corpus import documents
from biomeg_lib.corpus.shards import build_shards
from biomeg_lib.errors import BiomegError
from biomeg_lib.files import write_json
from biomeg_lib.inputs import corpus_files, file_of
from biomeg_lib.params import suggestion
from biomeg_lib.schema import SentencePieceModel, WordPieceFile
from biomeg_lib.study import Study
from biomeg_lib.vocab import Vocabulary


def prepare_corpus(study: Study, name: str) -> dict[str, Any]:
    """Read a corpus into `outputs/<profile>/corpora/<name>`; returns its counts."""
    _known(study, name, "corpus", study.corpora)
    files, kind, notes = corpus_files(study, name)
    counts = documents.build_corpus(files, kind, study.corpus_directory(name))
    if notes:
        write_json(study.corpus_directory(name) / "counts.json", counts := {**counts, "notes": notes})
    return counts


def prepare_vocabulary(study: Study, name: str) -> Vocabulary:
    """Take a published vocabulary, or learn one on a corpus, into `outputs/<profile>/vocabularies/<name>`."""
    _known(study, name, "vocabulary", study.vocabularies)
    spec = study.vocabularies[name]
    if isinstance(spec, WordPieceFile):
        vocabulary = Vocabulary.load(file_of(study, spec.file), lowercase=spec.lowercase)
    else:
        vocabulary = Vocabulary.train(
            _paragraphs(study, spec.corpus), spec.size, algorithm=spec.algorithm, lowercase=spec.lowercase
        )
    vocabulary.save(study.vocabulary_directory(name))
    return vocabulary


def prepare_shards(study: Study, corpus: str, vocabulary: str) -> dict[str, Any]:
    """Tokenise a corpus into `outputs/<profile>/shards/<corpus>.<vocabulary>`; returns the counts of its splits."""
    _known(study, corpus, "corpus", study.corpora)
    _known(study, vocabulary, "vocabulary", study.vocabularies)
    return build_shards(
        study.corpus_directory(corpus),
        Vocabulary.load(study.vocabulary_directory(vocabulary)),
        study.shards_directory(corpus, vocabulary),
        study.corpora[corpus].held_out,
    )


def ensure_corpora(study: Study) -> None:
    """Make the corpora that are not there yet."""
    for name in study.corpora:
        if not (study.corpus_directory(name) / documents.COUNTS).is_file():
            prepare_corpus(study, name)


def ensure_vocabulary(study: Study, name: str) -> Vocabulary:
    """A vocabulary, made first if it is not there yet, and before it the corpus it is learned on."""
    _known(study, name, "vocabulary", study.vocabularies)
    if (study.vocabulary_directory(name) / "vocab.json").is_file():
        return Vocabulary.load(study.vocabulary_directory(name))
    spec = study.vocabularies[name]
    if isinstance(spec, SentencePieceModel) and not (study.corpus_directory(spec.corpus) / documents.COUNTS).is_file():
        prepare_corpus(study, spec.corpus)
    return prepare_vocabulary(study, name)


def ensure_shards(study: Study, corpus: str, vocabulary: str) -> None:
    """Make the token shards of a corpus, and before them corpus and vocabulary, unless they are there."""
    ensure_vocabulary(study, vocabulary)
    if not (study.corpus_directory(corpus) / documents.COUNTS).is_file():
        prepare_corpus(study, corpus)
    if not (study.shards_directory(corpus, vocabulary) / "shards.json").is_file():
        prepare_shards(study, corpus, vocabulary)


def _paragraphs(study: Study, corpus: str) -> Iterator[str]:
    for document in documents.stream(study.corpus_directory(corpus)):
        yield from document.paragraphs


def _known(study: Study, name: str, kind: str, entries: dict[str, Any]) -> None:
    if name not in entries:
        raise BiomegError(f"{study.params_file}: no {kind} is called {name!r}; {suggestion(name, entries)}")
