"""The stages before training, each from files to a folder of the study's outputs: corpus, vocabulary, shards.

Each folder holds `params.json`, written last: a folder without it is not complete and is made anew, and one that was
made with other params is refused, so that nothing later mixes two of them. A folder that is damaged is named, and made
anew where it is asked for; what is read is compared with its checksums first. Of two processes one waits for the other.
"""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from biomeg_lib import sums
from biomeg_lib.corpus import documents
from biomeg_lib.corpus.shards import build_shards
from biomeg_lib.errors import BiomegError
from biomeg_lib.files import json_text, write_if_changed, write_json
from biomeg_lib.inputs import corpus_files, file_of, list_corpus
from biomeg_lib.made import PARAMS, alone, refuse_other_params
from biomeg_lib.params import suggestion
from biomeg_lib.schema import SentencePieceModel, WordPieceFile
from biomeg_lib.study import Study
from biomeg_lib.vocab import Vocabulary


def prepare_corpus(study: Study, name: str, keep_parts: bool = False) -> dict[str, Any]:
    """Read a corpus into `outputs/<profile>/corpora/<name>`; returns its counts. `keep_parts`: see `build_corpus`."""
    _known(study, name, "corpus", study.corpora)
    with alone(study.corpus_directory(name)):
        return _make_corpus(study, name, keep_parts)


def _make_corpus(study: Study, name: str, keep_parts: bool = False) -> dict[str, Any]:
    folder = study.corpus_directory(name)
    files, kind, notes = corpus_files(study, name)
    counts = documents.build_corpus(files, kind, folder, keep_parts=keep_parts)
    if notes:
        write_json(folder / documents.COUNTS, counts := {**counts, "notes": notes})
    _finish(folder, _corpus_params(study, name))
    return counts


def prepare_corpus_part(study: Study, name: str, which: str) -> str:
    """Read one file of a corpus, for `prepare_corpus` to find; no other file is fetched.

    Args:
        which: its number in the list of the corpus' files, from 1, or its name.

    Returns:
        The name of the file.

    Raises:
        BiomegError: there is no such file in the list, or several.
    """
    _known(study, name, "corpus", study.corpora)
    listed = list_corpus(study, name)
    if which.isdecimal():
        numbers = [int(which)] if 0 < int(which) <= len(listed) else []
    else:
        numbers = [number for number, file in enumerate(listed, 1) if file.name == which]
    if len(numbers) != 1:
        found = f"{len(numbers)} files called {which}" if numbers else repr(which)
        raise BiomegError(
            f"{study.params_file}: corpora.{name}: expected a part from 1 to {len(listed)}, or the name of a file, "
            f"found {found}"
        )
    file, folder = listed[numbers[0] - 1], study.corpus_directory(name)
    with alone(folder, f".{numbers[0]:05}"):
        documents.read_part(file.locate(), numbers[0], file.format, folder)
    return file.name


def prepare_vocabulary(study: Study, name: str) -> Vocabulary:
    """Take a published vocabulary, or learn one on a corpus, into `outputs/<profile>/vocabularies/<name>`."""
    _known(study, name, "vocabulary", study.vocabularies)
    with alone(study.vocabulary_directory(name)):
        return _make_vocabulary(study, name)


def _make_vocabulary(study: Study, name: str) -> Vocabulary:
    spec = study.vocabularies[name]
    if isinstance(spec, WordPieceFile):
        vocabulary = Vocabulary.load(file_of(study, spec.file), lowercase=spec.lowercase)
    else:
        sums.check_folder(study.corpus_directory(spec.corpus))
        vocabulary = Vocabulary.train(
            _paragraphs(study, spec.corpus), spec.size, algorithm=spec.algorithm, lowercase=spec.lowercase
        )
    vocabulary.save(study.vocabulary_directory(name))
    _finish(study.vocabulary_directory(name), _vocabulary_params(study, name))
    return vocabulary


def prepare_shards(study: Study, corpus: str, vocabulary: str) -> dict[str, Any]:
    """Tokenise a corpus into `outputs/<profile>/shards/<corpus>.<vocabulary>`; returns the counts of its splits."""
    _known(study, corpus, "corpus", study.corpora)
    _known(study, vocabulary, "vocabulary", study.vocabularies)
    with alone(study.shards_directory(corpus, vocabulary)):
        return _make_shards(study, corpus, vocabulary)


def _make_shards(study: Study, corpus: str, vocabulary: str) -> dict[str, Any]:
    folder = study.shards_directory(corpus, vocabulary)
    sums.check_folder(study.corpus_directory(corpus))
    counts = build_shards(
        study.corpus_directory(corpus),
        Vocabulary.load(study.vocabulary_directory(vocabulary)),
        folder,
        study.corpora[corpus].held_out,
    )
    _finish(folder, _shards_params(study, corpus, vocabulary))
    return counts


def ensure_corpus(study: Study, name: str) -> None:
    """Make a corpus, unless it is there."""
    _known(study, name, "corpus", study.corpora)
    with alone(study.corpus_directory(name)):
        if not _is_made(study.corpus_directory(name), _corpus_params(study, name)):
            _make_corpus(study, name)


def ensure_vocabulary(study: Study, name: str) -> Vocabulary:
    """A vocabulary, made first if it is not there yet, and before it the corpus it is learned on."""
    _known(study, name, "vocabulary", study.vocabularies)
    with alone(study.vocabulary_directory(name)):
        if _is_made(study.vocabulary_directory(name), _vocabulary_params(study, name)):
            return Vocabulary.load(study.vocabulary_directory(name))
        spec = study.vocabularies[name]
        if isinstance(spec, SentencePieceModel):
            ensure_corpus(study, spec.corpus)
        return _make_vocabulary(study, name)


def ensure_shards(study: Study, corpus: str, vocabulary: str) -> None:
    """Make the token shards of a corpus, and before them corpus and vocabulary, unless they are there."""
    ensure_vocabulary(study, vocabulary)
    with alone(study.shards_directory(corpus, vocabulary)):
        if not _is_made(study.shards_directory(corpus, vocabulary), _shards_params(study, corpus, vocabulary)):
            ensure_corpus(study, corpus)
            _make_shards(study, corpus, vocabulary)


def check_made(study: Study) -> None:
    """Refuse folders of these stages that were made with other params than the study's.

    Raises:
        BiomegError: the first such folder, and how it differs.
    """
    for name in study.corpora:
        refuse_other_params(study.corpus_directory(name), _corpus_params(study, name))
    for name in study.vocabularies:
        refuse_other_params(study.vocabulary_directory(name), _vocabulary_params(study, name))
    for run in study.pretraining.values():
        folder = study.shards_directory(run.corpus, run.vocabulary)
        refuse_other_params(folder, _shards_params(study, run.corpus, run.vocabulary))


def _is_made(folder: Path, params: dict[str, Any]) -> bool:
    if not (folder / PARAMS).is_file():
        return False
    for path, problem in sums.problems_of(folder):
        print(f"biomeg: {path}: {problem}: it is damaged, and made anew", file=sys.stderr, flush=True)
        return False
    refuse_other_params(folder, params)
    return True


def _finish(folder: Path, params: dict[str, Any]) -> None:
    sums.seal(folder)
    write_if_changed(folder / PARAMS, json_text(params))


def _corpus_params(study: Study, name: str) -> dict[str, Any]:
    return {"corpus": study.corpora[name].model_dump()}


def _vocabulary_params(study: Study, name: str) -> dict[str, Any]:
    spec = study.vocabularies[name]
    learned = _corpus_params(study, spec.corpus) if isinstance(spec, SentencePieceModel) else {}
    return {"vocabulary": spec.model_dump(exclude={"stands_for"}), **learned}


def _shards_params(study: Study, corpus: str, vocabulary: str) -> dict[str, Any]:
    return {"shards of": study.corpora[corpus].model_dump(), **_vocabulary_params(study, vocabulary)}


def _paragraphs(study: Study, corpus: str) -> Iterator[str]:
    for document in documents.stream(study.corpus_directory(corpus)):
        yield from document.paragraphs


def _known(study: Study, name: str, kind: str, entries: dict[str, Any]) -> None:
    if name not in entries:
        raise BiomegError(f"{study.params_file}: no {kind} is called {name!r}; {suggestion(name, entries)}")
