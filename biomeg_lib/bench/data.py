"""The inputs of the cases: real data where it is on this machine, else the embedded miniature; never a download.

`settings` are a worker's: `folder`, scratch that all workers of a run share, and `miniature`, True to use nothing else.
"""

import itertools
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from biomeg_lib import sources
from biomeg_lib.benchmarks.iob import Sentence, read_iob
from biomeg_lib.corpus import miniature
from biomeg_lib.corpus.readers import read_documents
from biomeg_lib.corpus.untrusted import archive_members
from biomeg_lib.files import atomic_directory

NER, VOCABULARY = "bc5cdr-chem/train", "bert-base-cased-vocab"
_DATED = re.compile(rb'<pub-date[^>]* pub-type="(ppub|collection)"')
PACKAGES = tuple(f"pmc-sample-{number:03}" for number in range(6))


def is_generated(settings: Mapping[str, Any]) -> bool:
    """Whether the cases of this run read the miniature: all real sources are here, or none is used."""
    if settings["miniature"]:
        return True
    places = {row.name: row.where for row in sources.list_sources()}
    return any(places[name] == "not here" for name in (NER, VOCABULARY, *PACKAGES))


def vocabulary_file(settings: Mapping[str, Any]) -> Path:
    """A cased WordPiece vocabulary."""
    if is_generated(settings):
        return _miniature(settings) / miniature.VOCABULARY_FILE
    return sources.locate(VOCABULARY, quiet=True)


def sentences(settings: Mapping[str, Any]) -> list[Sentence]:
    """The training sentences of a named-entity benchmark."""
    if is_generated(settings):
        return read_iob(_miniature(settings) / "ner/chem/train.tsv", "iob")
    return read_iob(sources.locate(NER, quiet=True), "iob")


def packages(settings: Mapping[str, Any]) -> list[Path]:
    """PMC packages, JATS XML in .tar.gz."""
    if is_generated(settings):
        return [_miniature(settings) / miniature.PMC_FILE]
    return [sources.locate(name, quiet=True) for name in PACKAGES]


def articles(settings: Mapping[str, Any], each: int) -> list[Path]:
    """The first `each` articles of every package, as files under the names that they have there.

    Left out are articles without a date of print or of a collection, which make `pubmed_parser` fail; those of the
    miniature get theirs here.
    """
    folder = Path(settings["folder"]) / f"articles-{each}"
    if not folder.is_dir():
        generated = is_generated(settings)
        with atomic_directory(folder) as temporary:
            for package in packages(settings):
                for name, stream in itertools.islice(archive_members(package), each):
                    text = stream.read()
                    if generated:
                        text = text.replace(b'<pub-date pub-type="epub">', b'<pub-date pub-type="collection">')
                    if _DATED.search(text):
                        (temporary / Path(name).name).write_bytes(text)
    return sorted(folder.iterdir())


def paragraphs(settings: Mapping[str, Any]) -> Iterator[str]:
    """Paragraphs of the packages' articles, in order."""
    for package in packages(settings):
        for document in read_documents(package, "jats"):
            yield from document.paragraphs


def _miniature(settings: Mapping[str, Any]) -> Path:
    return miniature.build(Path(settings["folder"]) / "miniature")
