"""Raw files in, documents out, in constant memory: PMC JATS, PubMed, JSON lines, plain text.

One file at a time, one document in memory at a time. Text is whitespace-folded (every run of Unicode whitespace becomes
one space) and otherwise untouched: no lowering, no normal form, no "cleaning" that a vocabulary could not see. What
counts as a paragraph:

- `jats`: bulk packages (.tar.gz or .tgz, members *.xml and *.nxml, others skipped) or one .xml/.nxml(.gz) with an
  <article> or a <pmc-articleset>. Every outermost <p> of the article's abstracts, then of its body: a <p> inside a list
  inside a <p> is part of the outer paragraph. Section titles are not paragraphs; tables, figures, captions, formulae,
  footnotes, reference lists, supplementary material and superscript citation marks are left out. Inline markup is
  flattened. Sub-articles (reviews, translations) are not read. Id: the PMC id as `PMC123`, else `PMID123`, else
  the member's or file's name.
- `pubmed`: baseline and update files, .xml(.gz). Title, and one paragraph per <AbstractText>; the labels of structured
  abstracts (`METHODS`) are left out, as section titles are. Id: the PMID. <DeleteCitation>, books and abstracts in
  other languages are ignored.
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
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path, PurePosixPath
from typing import Literal

from lxml import etree

from biomeg_lib.corpus import untrusted
from biomeg_lib.errors import BiomegError, InputError

Format = Literal["jats", "pubmed", "jsonl", "text"]


@dataclass(frozen=True, slots=True)
class Document:
    """A document: paragraphs are abstract paragraphs, then body paragraphs; whitespace folded, none empty."""

    id: str
    title: str
    paragraphs: tuple[str, ...]

    @property
    def text(self) -> str:
        """Title, if any, and paragraphs, one a line."""
        return "\n".join((self.title, *self.paragraphs) if self.title else self.paragraphs)

    @property
    def words(self) -> int:
        """Number of whitespace-separated words of `text`."""
        return len(self.text.split())


def read_documents(path: str | Path, format: Format) -> Iterator[Document]:
    """Stream the documents of one file, in its order; see the module's docstring for the formats.

    Documents may be empty (no paragraphs) and ids may repeat; `documents.build_corpus` drops those.

    Raises:
        BiomegError: an unknown format.
        InputError: a file that cannot be read or is not what `format` says, at any point of the iteration.
    """
    if format not in _READERS:
        raise BiomegError(f"expected a corpus format out of {', '.join(_READERS)}, found {format!r}")
    return _READERS[format](Path(path))


def fold(text: str) -> str:
    """`text` with every run of Unicode whitespace made one space, and none at its ends."""
    return " ".join(text.split())


def _paragraphs(texts: Iterable[str]) -> tuple[str, ...]:
    return tuple(filter(None, map(fold, texts)))


def _content_id(title: str, paragraphs: tuple[str, ...]) -> str:
    return blake2b("\n".join((title, *paragraphs)).encode(), digest_size=8).hexdigest()


# --- PMC JATS -------------------------------------------------------------------------------------------------------


def _names(*tags: str) -> tuple[str, ...]:
    return tuple(f"{{*}}{tag}" for tag in tags)


_DROPPED = _names(
    *("table-wrap", "table-wrap-group", "table", "fig", "fig-group", "caption", "graphic", "inline-graphic", "media"),
    *("disp-formula", "disp-formula-group", "inline-formula", "tex-math", "math", "chem-struct", "chem-struct-wrap"),
    "DispFormula",  # PubMed's
    *("fn", "fn-group", "ref-list", "supplementary-material", "inline-supplementary-material", "alt-text", "long-desc"),
)
# Blocks: their text must not run into their neighbours' when a paragraph that holds them is flattened.
_SEPARATE = _names(
    "p", "list", "list-item", "label", "title", "def-item", "term", "def", "disp-quote", "attrib", "break"
)
_CITATION = "citation-mark"  # no JATS element has this name
_P, _XREF = "{*}p", "{*}xref"
# A citation's numbers; what stands between two citations of one row; what a superscript citation can stand behind.
_NUMBERS, _JOINT = re.compile(r"[\d\s,;\u2013-]+"), re.compile(r"[\s,;\u2013-]*")
_BEFORE_MARK = re.compile(r"[\w.,;:)%\"'\u201d\u2019]")
_text = etree.XPath("string()", smart_strings=False)


_ROOTS = ("article", "pmc-articleset")


def _jats(path: Path) -> Iterator[Document]:
    name = path.name.lower()
    if name.endswith((".tar.gz", ".tgz")):
        for member, stream in untrusted.archive_members(path):
            if member.lower().endswith((".xml", ".nxml")):
                root = untrusted.xml_document(stream, f"{path}:{member}", _ROOTS)
                is_set = etree.QName(root).localname == "pmc-articleset"
                yield from _articles(root.iterchildren("{*}article") if is_set else [root], member)
    elif name.endswith((".xml", ".nxml", ".xml.gz", ".nxml.gz")):
        with untrusted.open_bytes(path) as stream:
            articles = untrusted.xml_records(stream, str(path), "article", _ROOTS)
            yield from _articles(articles, path.name.removesuffix(".gz"))
    else:
        raise InputError(path, "expected a JATS file called *.tar.gz, *.tgz, *.xml, *.nxml, *.xml.gz or *.nxml.gz")


def _articles(articles: Iterable[etree._Element], name: str) -> Iterator[Document]:
    fallback = str(PurePosixPath(name).with_suffix(""))
    for number, article in enumerate(articles):
        meta = article.find("{*}front/{*}article-meta")
        own = article.find("{*}body")
        title, abstracts = None, []
        if meta is not None:
            title = meta.find("{*}title-group/{*}article-title")
            abstracts = meta.findall("{*}abstract")
        parts = [*abstracts, *([own] if own is not None else [])]
        for part in parts if title is None else [title, *parts]:
            _drop(part)
        yield Document(
            _article_id(meta) or (fallback if number == 0 else f"{fallback}-{number + 1}"),
            fold(_flat(title)) if title is not None else "",
            _paragraphs(text for part in parts for text in _outermost(part)),
        )


def _article_id(meta: etree._Element | None) -> str | None:
    found = {}
    for element in meta.iterfind("{*}article-id") if meta is not None else ():
        found.setdefault(element.get("pub-id-type"), fold(_text(element)))
    pmc = found.get("pmc") or found.get("pmcid")
    if pmc:
        return "PMC" + pmc.upper().removeprefix("PMC")
    return f"PMID{found['pmid']}" if found.get("pmid") else None


def _drop(part: etree._Element) -> None:
    """Take out of `part` what is not running text."""
    for mark in part.iter(_XREF):
        _mark_citation(mark)
    for element in part.iter(*_DROPPED):
        element.tail = f" {element.tail or ''}"
    etree.strip_elements(part, *_DROPPED, _CITATION, with_tail=False)


def _flat(element: etree._Element) -> str:
    """The text of an element, with space around the blocks inside it."""
    for block in element.iterdescendants(*_SEPARATE):
        block.text = f" {block.text or ''}"
        block.tail = f" {block.tail or ''}"
    return _text(element)


def _mark_citation(xref: etree._Element) -> None:
    """Rename a citation that print sets as a superscript; flattened, it would join the word before it ("risk12").

    It is one if it stands in a superscript with nothing but others, or is a superscript alone, or is a number right
    behind a word or stop (many journals leave the superscript to the style sheet), or goes on a row of such numbers.
    """
    parent, previous = xref.getparent(), xref.getprevious()
    if etree.QName(parent).localname == "sup":
        between = (parent.text or "") + "".join(child.tail or "" for child in parent)
        if all(etree.QName(child).localname == "xref" for child in parent) and not re.search(r"\w", between):
            parent.tag = _CITATION
        return
    before = (parent.text if previous is None else previous.tail) or ""
    in_row = previous is not None and previous.get("ref-type") == "bibr" and _JOINT.fullmatch(before)
    marked = in_row and previous.tag == _CITATION
    if len(xref) == 1 and etree.QName(xref[0]).localname == "sup" and not (xref.text or xref[0].tail):
        xref.tag = _CITATION
    elif xref.get("ref-type") == "bibr" and _NUMBERS.fullmatch(_text(xref)):
        behind_inline = previous is not None and not before
        if marked or (not in_row and (behind_inline or _BEFORE_MARK.match(before[-1:]))):
            xref.tag = _CITATION
    if marked and xref.tag == _CITATION:
        previous.tail = None


def _outermost(part: etree._Element) -> Iterator[str]:
    """The texts of the <p> elements that have no <p> above them."""
    for paragraph in part.iter(_P):
        if next(paragraph.iterancestors(_P), None) is None:
            yield _flat(paragraph)


# --- PubMed ---------------------------------------------------------------------------------------------------------


def _pubmed(path: Path) -> Iterator[Document]:
    with untrusted.open_bytes(path) as stream:
        for record in untrusted.xml_records(stream, str(path), "PubmedArticle", ("PubmedArticleSet",)):
            pmid = fold(record.findtext("MedlineCitation/PMID") or "")
            if not pmid:
                raise InputError(path, "expected a <PMID> in every <PubmedArticle>, found none", record.sourceline)
            title = record.find("MedlineCitation/Article/ArticleTitle")
            parts = record.findall("MedlineCitation/Article/Abstract/AbstractText")
            for part in parts if title is None else [title, *parts]:
                _drop(part)
            yield Document(pmid, fold(_text(title)) if title is not None else "", _paragraphs(map(_text, parts)))


# --- JSON lines and plain text --------------------------------------------------------------------------------------

_BLANK_LINES = re.compile(r"\n\s*\n")


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """The numbered lines of a UTF-8 file, a byte-order mark removed; line ends are \\n or \\r\\n."""
    with untrusted.open_bytes(path) as stream:
        for number, line in untrusted.bounded_lines(path, stream):
            try:
                yield number, line.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                raise InputError(
                    path, f"expected UTF-8, found {error.reason} at byte {error.start + 1}", number
                ) from error


def _jsonl(path: Path) -> Iterator[Document]:
    for number, line in _lines(path):
        if not line.isspace():
            yield _json_document(path, number, line)


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


def _plain(path: Path) -> Iterator[Document]:
    def document() -> Document:
        paragraphs = tuple(lines)
        return Document(_content_id("", paragraphs), "", paragraphs)

    lines: list[str] = []
    size = 0
    for number, line in _lines(path):
        folded = fold(line)
        size += len(line)
        if size > untrusted.RECORD_LIMIT:
            raise InputError(path, "expected a blank line between documents, found none for too long", number)
        if folded:
            lines.append(folded)
        else:
            size = 0
            if lines:
                yield document()
                lines = []
    if lines:
        yield document()


_READERS: dict[str, Callable[[Path], Iterator[Document]]] = {
    "jats": _jats,
    "pubmed": _pubmed,
    "jsonl": _jsonl,
    "text": _plain,
}
