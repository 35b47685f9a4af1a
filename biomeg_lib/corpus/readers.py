"""Raw files in, documents out, in constant memory: PMC JATS, PubMed, JSON lines, plain text.

One file at a time, one document in memory at a time. Reading has two steps, so that other processes can take over the
second, which is most of the work: `raw_records` cuts a file, `parse` makes documents of what it cut.

Text is whitespace-folded (every run of Unicode whitespace becomes one space) and otherwise untouched: no lowering, no
normal form, no "cleaning" that a vocabulary could not see. What counts as a paragraph:

- `jats`: bulk packages (.tar.gz or .tgz, members *.xml and *.nxml, others skipped) or one .xml/.nxml(.gz) with an
  <article> or a <pmc-articleset>. Every outermost <p> of the article's abstracts, then of its body: a <p> inside a list
  inside a <p> is part of the outer paragraph. Section titles are not paragraphs; tables, figures, captions, formulae,
  footnotes, reference lists, supplementary material and superscript citation marks are left out. Inline markup is
  flattened. Sub-articles (reviews, translations) are not read. Id: the PMC id as `PMC123`, else `PMID123`, else
  the member's or file's name.
- `pubmed`: baseline and update files, .xml(.gz). Title, and one paragraph per <AbstractText>; the labels of structured
  abstracts (`METHODS`) are left out, as section titles are. Id: the PMID. Books and abstracts in other languages are
  ignored. A file may revise a citation of an earlier file or have several versions of one, and <DeleteCitation> names
  those that are no more: `changes` tells, `read_documents` gives all citations of its file.
- `jsonl`: JSON lines(.gz), one object a line with `text` (a string, cut into paragraphs at blank lines) or `paragraphs`
  (a list of strings), optionally `id` (a string or whole number) and `title`; other keys are ignored.
- `text`: plain UTF-8 text(.gz) in the layout that BERT's own tools read: a blank line ends a document, a line is a
  paragraph. So a file without blank lines is one document, and text with hard-wrapped lines belongs into `jsonl`.

Documents without an id of their own (`jsonl`, `text`) are named after a hash of their text: the name does not depend on
where a file lies, and equal texts get equal names.
"""

import json
import re
from collections.abc import Callable, Iterable, Iterator
from hashlib import blake2b
from pathlib import Path, PurePosixPath
from typing import Any, Literal, NamedTuple

from lxml import etree

from biomeg_lib.corpus import jats, untrusted
from biomeg_lib.corpus.text import Document, fold
from biomeg_lib.errors import BiomegError, InputError

Format = Literal["jats", "pubmed", "jsonl", "text"]


class Change(NamedTuple):
    """What a file says of an id: a document, in one of its versions, or (None) that there is none any more."""

    id: str
    version: int  # below 10^6; 1 where versions are not numbered
    document: Document | None


class Raw(NamedTuple):
    """A part of a file that has not been parsed yet, or (`content` None) the whole file, which has not been read."""

    path: Path
    size: int  # bytes, as they lie on the disk where the file has not been read
    content: Any  # picklable


def read_documents(path: str | Path, format: Format) -> Iterator[Document]:
    """Stream the documents of one file, in its order; see the module's docstring for the formats.

    Documents may be empty (no paragraphs) and ids may repeat; `documents.build_corpus` drops those.

    Raises:
        BiomegError: an unknown format.
        InputError: a file that cannot be read or is not what `format` says, at any point of the iteration.
    """
    check_format(format)
    return (document for raw in raw_records(path, format) for document in parse(raw, format))


def check_format(format: str) -> None:
    """Raise a `BiomegError` unless `format` is one of `Format`."""
    if format not in _READERS:
        raise BiomegError(f"expected a corpus format out of {', '.join(_READERS)}, found {format!r}")


def raw_records(path: str | Path, format: Format) -> Iterator[Raw]:
    """Cut a file into what `parse` takes: the first, cheap step of `read_documents`; errors as there."""
    return _READERS[format][0](Path(path))


def parse(raw: Raw, format: Format) -> Iterator[Document]:
    """The documents in a part of a file: the second step of `read_documents`; errors as there."""
    return (change.document for change in changes(raw, format) if change.document is not None)


def changes(raw: Raw, format: Format) -> Iterator[Change]:
    """What `parse` gives of a part of a file, with versions and, of PubMed, deletions; errors as there."""
    for found in _READERS[format][1](raw):
        yield found if isinstance(found, Change) else Change(found.id, 1, found)


def _paragraphs(texts: Iterable[str]) -> tuple[str, ...]:
    return tuple(filter(None, map(fold, texts)))


def _content_id(title: str, paragraphs: tuple[str, ...]) -> str:
    return blake2b("\n".join((title, *paragraphs)).encode(), digest_size=8).hexdigest()


def _whole(path: Path) -> Iterator[Raw]:
    try:
        size = path.stat().st_size
    except OSError:
        size = 0  # opening the file will say what is wrong with it
    yield Raw(path, size, None)


# --- XML ------------------------------------------------------------------------------------------------------------

_PACKAGES, _FILES = (".tar.gz", ".tgz"), (".xml", ".nxml", ".xml.gz", ".nxml.gz")
_ROOTS = ("article", "pmc-articleset")


def _raw_jats(path: Path) -> Iterator[Raw]:
    if path.name.lower().endswith(_PACKAGES):
        for member, stream in untrusted.archive_members(path):
            if member.lower().endswith((".xml", ".nxml")):
                data = untrusted.read_whole(stream, untrusted.RECORD_LIMIT + 1)
                yield Raw(path, len(data), (member, data))
    elif path.name.lower().endswith(_FILES):
        yield from _whole(path)
    else:
        raise InputError(path, "expected a JATS file called *.tar.gz, *.tgz, *.xml, *.nxml, *.xml.gz or *.nxml.gz")


def _jats(raw: Raw) -> Iterator[Document]:
    if raw.content is None:
        with untrusted.open_bytes(raw.path) as stream:
            articles = untrusted.xml_records(stream, str(raw.path), ("article",), _ROOTS)
            yield from _articles(articles, raw.path.name.removesuffix(".gz"))
    else:
        member, data = raw.content
        root = untrusted.xml_document(data, f"{raw.path}:{member}", _ROOTS)
        is_set = untrusted.local_name(root) == "pmc-articleset"
        yield from _articles(root.iterchildren("{*}article") if is_set else [root], member)


def _articles(articles: Iterable[etree._Element], name: str) -> Iterator[Document]:
    for number, article in enumerate(articles):
        id, title, paragraphs = jats.read_article(article)
        if id is None:
            fallback = str(PurePosixPath(name).with_suffix(""))
            id = fallback if number == 0 else f"{fallback}-{number + 1}"
        yield Document(id, title, paragraphs)


def _pubmed(raw: Raw) -> Iterator[Change]:
    tags = ("PubmedArticle", "DeleteCitation")
    with untrusted.open_bytes(raw.path) as stream:
        for record in untrusted.xml_records(stream, str(raw.path), tags, ("PubmedArticleSet",)):
            if untrusted.local_name(record) == "DeleteCitation":
                for element in record.iterchildren("{*}PMID"):
                    yield Change(*_pmid(raw.path, element, record), None)
                continue
            pmid, version = _pmid(raw.path, record.find("MedlineCitation/PMID"), record)
            title = record.find("MedlineCitation/Article/ArticleTitle")
            parts = record.iterfind("MedlineCitation/Article/Abstract/AbstractText")
            texts = filter(None, map(jats.running_text, parts))
            document = Document(pmid, jats.running_text(title) if title is not None else "", tuple(texts))
            yield Change(pmid, version, document)


def _pmid(path: Path, element: etree._Element | None, record: etree._Element) -> tuple[str, int]:
    """A PMID and its version."""
    pmid = fold(element.text or "") if element is not None else ""
    if not pmid:
        expected = f"expected a <PMID> in every <{untrusted.local_name(record)}>, found none"
        raise InputError(path, expected, record.sourceline)
    version = element.get("Version", "1")
    if not re.fullmatch("[0-9]{1,6}", version):
        raise InputError(
            path, f"expected a whole number as Version of a PMID, found {version!r:.40}", element.sourceline
        )
    return pmid, int(version)


# --- JSON lines and plain text --------------------------------------------------------------------------------------

_BLANK_LINES = re.compile(r"\n\s*\n")


def _decoded(path: Path, number: int, line: bytes) -> str:
    """A line of a UTF-8 file; a byte-order mark is removed from the first."""
    try:
        return line.decode("utf-8-sig" if number == 1 else "utf-8")
    except UnicodeDecodeError as error:
        raise InputError(path, f"expected UTF-8, found {error.reason} at byte {error.start + 1}", number) from error


def _raw_lines(path: Path) -> Iterator[Raw]:
    with untrusted.open_bytes(path) as stream:
        for number, line in untrusted.bounded_lines(path, stream):
            yield Raw(path, len(line), (number, line))


def _jsonl(raw: Raw) -> Iterator[Document]:
    number, line = raw.content
    text = _decoded(raw.path, number, line)
    if not text.isspace():
        yield _json_document(raw.path, number, text)


def _json_document(path: Path, number: int, line: str) -> Document:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise InputError(path, f"expected a JSON object on the line, found an error: {error}", number) from error
    if not isinstance(value, dict):
        raise InputError(path, f"expected a JSON object on the line, found {type(value).__name__}", number)
    texts, title = value.get("paragraphs"), value.get("title")
    if texts is None:
        texts = value.get("text")
        texts = _BLANK_LINES.split(texts) if isinstance(texts, str) else None
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise InputError(path, "expected `text` (a string) or `paragraphs` (a list of strings), found neither", number)
    if not isinstance(title, str | None):
        raise InputError(path, f"expected a string as `title`, found {type(title).__name__}", number)
    name = value.get("id")
    if not isinstance(name, str | int | None) or isinstance(name, bool):
        raise InputError(path, f"expected a string or whole number as `id`, found {type(name).__name__}", number)
    title, paragraphs = fold(title or ""), _paragraphs(texts)
    try:
        name = _content_id(title, paragraphs) if name is None or name == "" else str(name)
        "".join((name, title, *paragraphs)).encode()
    except UnicodeEncodeError as error:
        raise InputError(
            path, "expected Unicode text, found half of a surrogate pair (\\ud800-\\udfff)", number
        ) from error
    return Document(name, title, paragraphs)


def _raw_text(path: Path) -> Iterator[Raw]:
    lines: list[str] = []
    size = 0
    with untrusted.open_bytes(path) as stream:
        for number, data in untrusted.bounded_lines(path, stream):
            line = _decoded(path, number, data)
            size += len(line)
            if size > untrusted.RECORD_LIMIT:
                raise InputError(path, "expected a blank line between documents, found none for too long", number)
            if line.strip():
                lines.append(line)
            elif lines:
                yield Raw(path, size, lines)
                lines, size = [], 0
            else:
                size = 0
    if lines:
        yield Raw(path, size, lines)


def _text(raw: Raw) -> Iterator[Document]:
    paragraphs = _paragraphs(raw.content)
    yield Document(_content_id("", paragraphs), "", paragraphs)


_READERS: dict[str, tuple[Callable[[Path], Iterator[Raw]], Callable[[Raw], Iterator[Document | Change]]]] = {
    "jats": (_raw_jats, _jats),
    "pubmed": (_whole, _pubmed),
    "jsonl": (_raw_lines, _jsonl),
    "text": (_raw_text, _text),
}
