"""The text of a JATS article: identifier, title, abstract and body paragraphs; `readers` says what counts as one.

Made for speed: libxml2 walks each part of an article once, hands over only the elements that matter, and flattens and
folds the paragraphs itself.
"""

import re
from collections.abc import Iterator

from lxml import etree

from biomeg_lib.corpus.text import fold
from biomeg_lib.corpus.untrusted import local_name

_DROPPED = frozenset(
    (
        *("table-wrap", "table-wrap-group", "table", "fig", "fig-group", "caption", "graphic", "inline-graphic"),
        *("disp-formula", "disp-formula-group", "inline-formula", "tex-math", "math", "chem-struct"),
        *("chem-struct-wrap", "fn", "fn-group", "ref-list", "supplementary-material", "inline-supplementary-material"),
        *("media", "alt-text", "long-desc"),
        "DispFormula",  # PubMed's
    )
)
# Blocks: their text must not run into their neighbours' when a paragraph that holds them is flattened.
_SEPARATE = frozenset(
    ("p", "list", "list-item", "label", "title", "def-item", "term", "def", "disp-quote", "attrib", "break")
)
_CITATION = "citation-mark"  # no JATS element has this name
_CLOSED = {"p", _CITATION} | _DROPPED  # a <p> in one of these is none of its own
_STRIPPED = (*(f"{{*}}{tag}" for tag in sorted(_DROPPED)), _CITATION)
_WATCHED = tuple(f"{{*}}{tag}" for tag in sorted({"xref"} | _DROPPED | _SEPARATE))
# A citation's numbers; what stands between two citations of one row; what a superscript citation can stand behind.
_NUMBERS, _JOINT = re.compile(r"[\d\s,;\u2013-]+"), re.compile(r"[\s,;\u2013-]*")
_BEFORE_MARK = re.compile(r"[\w.,;:)%\"'\u201d\u2019]")
_LETTER = re.compile(r"\w")
_FREQUENT_SPACES = "\u00a0\u2009"  # it is faster to replace them than to cut the text at them
_text = etree.XPath("string()", smart_strings=False)
_spaced_text = etree.XPath("normalize-space()", smart_strings=False)


def read_article(article: etree._Element) -> tuple[str | None, str, tuple[str, ...]]:
    """Id (None if it has none), title and paragraphs of an <article>, all folded; the element is changed."""
    meta, body = article.find("{*}front/{*}article-meta"), article.find("{*}body")
    title, parts = "", []
    if meta is not None:
        heading = meta.find("{*}title-group/{*}article-title")
        if heading is not None:
            for block in _clean(heading):
                _separate(block)
            title = _folded(heading)
        parts = meta.findall("{*}abstract")
    if body is not None:
        parts.append(body)
    paragraphs = (text for part in parts for text in _paragraphs(part))
    return _id(meta), title, tuple(filter(None, paragraphs))


def running_text(element: etree._Element) -> str:
    """The folded text of an element without what is not running text; the element is changed."""
    _clean(element)
    return _folded(element)


def _folded(element: etree._Element) -> str:
    text = _spaced_text(element)  # folded but for the whitespace that XML does not know
    if text.isascii() or text.isprintable():
        return text
    for space in _FREQUENT_SPACES:
        text = text.replace(space, " ")
    return fold(text)


def _id(meta: etree._Element | None) -> str | None:
    found: dict[str | None, str] = {}
    for element in meta.iterchildren("{*}article-id") if meta is not None else ():
        found.setdefault(element.get("pub-id-type"), fold(_text(element) if len(element) else element.text or ""))
    pmc = found.get("pmc") or found.get("pmcid")
    if pmc:
        return "PMC" + pmc.upper().removeprefix("PMC")
    return f"PMID{found['pmid']}" if found.get("pmid") else None


def _paragraphs(part: etree._Element) -> Iterator[str]:
    """The folded texts of the <p> elements that have no <p> above them."""
    inside: dict[etree._Element, str | None] = {part: None}  # element -> the nearest of it and those above in `_CLOSED`
    outermost = []
    for block in _clean(part):
        parent = block.getparent()
        if parent not in inside:
            above, chain = parent, []
            while above not in inside:
                chain.append(above)
                if (name := local_name(above)) in _CLOSED:
                    break
                above = above.getparent()
            else:
                name = inside[above]
            inside.update(dict.fromkeys(chain, name))
        if inside[parent] == "p":
            _separate(block)
        elif inside[parent] is None and local_name(block) == "p":
            outermost.append(block)
    return map(_folded, outermost)


def _clean(part: etree._Element) -> list[etree._Element]:
    """Take out of `part` what is not running text; returns the blocks that were in it, in order."""
    xrefs, dropped, blocks = [], [], []
    if not len(part):
        return blocks
    for element in part.iter(*_WATCHED):
        name = local_name(element)
        (blocks if name in _SEPARATE else xrefs if name == "xref" else dropped).append(element)
    plain: set[etree._Element] = set()
    marked = sum(_mark_citation(xref, plain) for xref in xrefs)
    for element in dropped:
        element.tail = f" {element.tail or ''}"
    if marked or dropped:
        etree.strip_elements(part, *_STRIPPED, with_tail=False)
    return blocks


def _separate(block: etree._Element) -> None:
    """Put space around a block."""
    block.text = f" {block.text or ''}"
    block.tail = f" {block.tail or ''}"


def _mark_citation(xref: etree._Element, plain: set[etree._Element]) -> bool:
    """Rename a citation that print sets as a superscript; flattened, it would join the word before it ("risk12").

    It is one if it stands in a superscript with nothing but others, or is a superscript alone, or is a number right
    behind a word or stop (many journals leave the superscript to the style sheet), or goes on a row of such numbers.
    `plain` collects the superscripts that hold something else: to look at one for each of its xrefs would be quadratic.
    """
    parent = xref.getparent()
    if parent.tag[-3:] == "sup" and local_name(parent) == "sup":
        if parent in plain or not _mark_superscript(parent):
            plain.add(parent)
            return False
        return True
    if len(xref) == 1 and local_name(xref[0]) == "sup" and not (xref.text or xref[0].tail):
        numbered = False
    elif xref.get("ref-type") == "bibr" and _NUMBERS.fullmatch(_text(xref) if len(xref) else xref.text or ""):
        numbered = True
    else:
        return False
    previous = xref.getprevious()
    before = (parent.text if previous is None else previous.tail) or ""
    in_row = previous is not None and previous.get("ref-type") == "bibr" and _JOINT.fullmatch(before) is not None
    goes_on = in_row and previous.tag == _CITATION
    if numbered and not goes_on:
        behind_inline = previous is not None and not before
        if in_row or not (behind_inline or _BEFORE_MARK.match(before[-1:])):
            return False
    xref.tag = _CITATION
    if goes_on:
        previous.tail = None
    return True


def _mark_superscript(parent: etree._Element) -> bool:
    between = (parent.text or "") + "".join(child.tail or "" for child in parent)
    if _LETTER.search(between) or not all(local_name(child) == "xref" for child in parent):
        return False
    parent.tag = _CITATION
    return True
