"""From the names in a params file to files: sources, the embedded miniature, or the user's own paths."""

import glob
import os
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

from biomeg_lib import catalogue, sources
from biomeg_lib.corpus import miniature
from biomeg_lib.errors import BiomegError
from biomeg_lib.schema import Benchmark
from biomeg_lib.study import Study

MINIATURE = "miniature:"


class CorpusFile(NamedTuple):
    """A file of a corpus, which may have to be fetched yet."""

    name: str
    format: str
    locate: Callable[[], Path]


def files_of(study: Study, locator: str) -> list[Path]:
    """The files that a params file means by `locator`, in order of name.

    Args:
        locator: `miniature:path`, the name of a source, an http(s) address, or a path of one's own (relative to the
            project). In the first and the last, `*` and `?` stand for anything.

    Raises:
        BiomegError: nothing is there, or a source cannot be had.
    """
    if locator.startswith(MINIATURE):
        folder, pattern = miniature.build(study.miniature), locator.removeprefix(MINIATURE)
        found = _matches(folder, pattern)
        if not found:
            raise BiomegError(f"{study.params_file}: the miniature has no file {pattern!r}")
        return found
    if own := own_files(study, locator):
        return own
    _sources(study, locator)
    return sources.locate_all(locator)


def _sources(study: Study, locator: str) -> list[catalogue.Source]:
    try:
        return catalogue.find(locator)
    except BiomegError as error:
        raise BiomegError(f"{study.params_file}: no file {locator!r} in {study.root}; {error}") from None


def file_of(study: Study, locator: str) -> Path:
    """The one file that `locator` means.

    Raises:
        BiomegError: none, or several.
    """
    found = files_of(study, locator)
    if len(found) > 1:
        raise BiomegError(f"{study.params_file}: expected one file for {locator!r}, found {len(found)}")
    return found[0]


def corpus_files(study: Study, name: str) -> tuple[list[Path], str, list[str]]:
    """The files of a corpus, their format, and what a reader should know about where they come from.

    The format is that of the params file, unless a source's stand-in has another one.

    Raises:
        BiomegError: the files are not all of one format.
    """
    corpus = study.corpora[name]
    files: list[Path] = []
    formats: set[str] = set()
    notes: list[str] = []
    for locator in corpus.files:
        files += files_of(study, locator)
        own = locator.startswith(MINIATURE) or own_files(study, locator)
        described = {} if own else sources.describe(locator)
        formats.add(described.get("format") or corpus.format)
        notes += [described["note"]] if described.get("note") else []
    if len(formats) > 1:
        raise BiomegError(
            f"{study.params_file}: corpora.{name}: expected one format, found {', '.join(sorted(formats))}"
        )
    return files, formats.pop(), notes


def list_corpus(study: Study, name: str) -> list[CorpusFile]:
    """The files of `corpus_files` in the same order, but none is fetched or verified before it is located.

    Raises:
        BiomegError: there is no such file or source.
    """
    corpus = study.corpora[name]
    listed: list[CorpusFile] = []
    for locator in corpus.files:
        own = locator.startswith(MINIATURE) or own_files(study, locator)
        if own or locator in catalogue.STAND_INS:  # which of the two forms is here decides how many files there are
            format = corpus.format if own else sources.describe(locator)["format"] or corpus.format
            listed += [CorpusFile(path.name, format, partial(Path, path)) for path in files_of(study, locator)]
        else:
            members = _sources(study, locator)
            for source in members:
                member = source.name if len(members) > 1 else locator
                file, format = Path(source.path).name, source.format or corpus.format
                listed.append(CorpusFile(file, format, partial(sources.locate, member)))
    return listed


def count_files(study: Study, name: str) -> int:
    """How many files a corpus has, as far as can be told at once; 1 for what has to be fetched or made first."""
    count = 0
    for locator in study.corpora[name].files:
        try:
            unknown = locator.startswith(MINIATURE) or locator in catalogue.STAND_INS
            count += 1 if unknown else len(own_files(study, locator) or catalogue.find(locator))
        except BiomegError:
            count += 1
    return count


def benchmark_files(study: Study, benchmark: Benchmark) -> dict[str, list[Path]]:
    """The files of each split of a benchmark: one, but three for ChemProt's tables.

    Raises:
        BiomegError: another number of files.
    """
    count = 3 if benchmark.format == "chemprot" else 1
    found = {split: files_of(study, locator) for split, locator in benchmark.splits.items()}
    for split, files in found.items():
        if len(files) != count:
            wanted = f"{count} file{'s' if count > 1 else ''} for {benchmark.splits[split]!r}"
            raise BiomegError(f"{study.params_file}: expected {wanted}, found {len(files)}")
    return found


def own_files(study: Study, locator: str) -> list[Path]:
    """The user's files that a path or a pattern means; none for the name of a source."""
    return [] if re.match(r"https?://", locator) else _matches(study.root, os.path.expanduser(locator))


def _matches(folder: Path, pattern: str) -> list[Path]:
    """Files in order of name; folders, and hidden files that the pattern does not spell out, are left out."""
    found = (folder / name for name in glob.glob(pattern.replace("[", "[[]"), root_dir=folder))
    return sorted(path for path in found if path.is_file())
