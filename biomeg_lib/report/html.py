"""Executed notebooks as HTML pages that open offline: nbconvert makes the cells, the page around them is ours.

A page holds all it shows: styles inline, images as data, no font, one script of ours (`page.js`), and a content
security policy that lets nothing be loaded and nothing run but that script, which it names by its SHA-256. Outputs may
hold text of any data set, so the whole body goes through one allow-list of elements and attributes (bleach) as the very
last step; what is not on it shows as text or is dropped. Equations stay as the text they were written in.
"""

import base64
import functools
import hashlib
import html
import importlib.resources
import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from urllib.parse import quote

import bleach
import jinja2
import lxml.html
import markupsafe
import nbformat
from bleach.css_sanitizer import CSSSanitizer
from nbconvert.exporters import HTMLExporter
from nbconvert.preprocessors import CoalesceStreamsPreprocessor

from biomeg_lib import files
from biomeg_lib.errors import BiomegError, InputError
from biomeg_lib.report.navigation import Navigation, grouped, neighbours

Provenance = Mapping[str, str | Mapping[str, str]]

# What an output may be shown as; scripts and widgets are not among them.
_SHOWN = ("text/html", "text/markdown", "image/svg+xml", "image/png", "image/jpeg", "text/latex", "text/plain")

_TAGS = frozenset(
    re.findall(
        r"\w+",
        """
        a abbr b blockquote br caption code col colgroup dd del details div dl dt em figcaption figure h1 h2 h3 h4 h5 h6
        hr i img ins kbd li mark ol p pre q s samp small span strong sub summary sup table tbody td tfoot th thead tr u
        ul var
        """,
    )
)
_ATTRIBUTES = {
    "*": frozenset({"class", "id", "style", "title", "lang", "dir"}),
    "a": frozenset({"href", "rel"}),
    "img": frozenset({"src", "alt", "width", "height"}),
    "details": frozenset({"open"}),
    "td": frozenset({"colspan", "rowspan"}),
    "th": frozenset({"colspan", "rowspan", "scope"}),
    "ol": frozenset({"start"}),
    "div": frozenset({"tabindex", "role", "aria-label"}),
}
_STYLES = frozenset({"color", "background-color", "font-weight", "font-style", "text-align", "white-space"})
_IMAGE = re.compile(r"data:image/(png|jpeg|gif|webp|svg\+xml);base64,[A-Za-z0-9+/=\s]*\Z")

_NOT_HTML = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff\ufffe\uffff]")  # a parser may stop at them
_LINK = re.compile(r"(https?://|mailto:|[^:/?#]*([/?#]|\Z))", re.IGNORECASE)
_OF_PAGE = ("content",)  # ids that a page has beside those of its cells


def _allowed(tag: str, name: str, value: str) -> bool:
    """Whether bleach keeps an attribute: images only as data, links only relative or to the web or mail."""
    if tag == "img" and name == "src":
        return _IMAGE.match(value) is not None
    if tag == "a" and name == "href":
        return _LINK.match(re.sub(r"[\s\x00-\x1f]", "", html.unescape(value))) is not None
    return name in _ATTRIBUTES["*"] or name in _ATTRIBUTES.get(tag, ())


def sanitise(body: str) -> str:
    """HTML in which nothing can run or be loaded from elsewhere: elements that are not allowed show as text."""
    return bleach.clean(
        body,
        tags=_TAGS,
        attributes=_allowed,
        protocols={"http", "https", "mailto", "data"},  # "data" is for images, see _allowed
        css_sanitizer=CSSSanitizer(allowed_css_properties=_STYLES),
    )


def _read_notebook(path: Path) -> nbformat.NotebookNode:
    if not path.is_file():
        raise InputError(path, "expected an executed notebook, found no such file: run the notebook first")
    try:
        notebook = nbformat.read(path, as_version=4)
        nbformat.validate(notebook)
    except Exception as error:  # nbformat raises many types, for what is no notebook and for odd versions
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise InputError(path, f"expected a Jupyter notebook (.ipynb), found something else: {reason}") from error
    return notebook


def _prepare(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """The notebook with displayable outputs only, and without widget state."""
    notebook.metadata.pop("widgets", None)
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            if "data" in output:
                output.data = {kind: value for kind, value in output.data.items() if kind in _SHOWN}
        if "outputs" in cell:
            cell.outputs = [output for output in cell.outputs if output.get("data", True)]
    return notebook


def _number_ids(root: lxml.html.HtmlElement) -> None:
    """Have every id once: `start`, `start-2`, `start-3`; a heading's link to itself goes with it."""
    taken, again = set(_OF_PAGE), Counter[str]()
    for element in root.iterfind(".//*[@id]"):
        own = name = element.get("id")
        while name in taken:
            again[own] += 1
            name = f"{own}-{again[own] + 1}"
        taken.add(name)
        element.set("id", name)
        for link in element.iterfind("./a[@class='anchor-link']"):
            link.set("href", f"#{name}")


def _arrange(body: str) -> tuple[str, str, list[tuple[str, str]]]:
    """Put tables and images into boxes that scroll, drop style elements (pandas writes one with each table), and say
    where an image would have to be loaded from elsewhere.

    Returns:
        The body, the text of its first heading ("" if it has none), and (text, anchor) of its second-level headings.
    """
    body = _NOT_HTML.sub("\N{REPLACEMENT CHARACTER}", body)
    root = lxml.html.fragment_fromstring(body, create_parent="div", parser=lxml.html.HTMLParser(huge_tree=True))
    for element in list(root.iter("style")):
        element.drop_tree()
    for element in list(root.iter("table", "img")):
        parent = element.getparent()
        if element.tag == "img" and _IMAGE.match(element.get("src") or "") is None:
            note = lxml.html.Element("em")
            note.text = f"[image not embedded: {element.get('alt')}]"
            note.tail = element.tail
            parent.replace(element, note)
            continue
        if any("scroll" in (above.get("class") or "").split() for above in element.iterancestors()):
            continue
        box = lxml.html.Element("div", {"class": "scroll"})
        if element.tag == "table":
            box.set("tabindex", "0")  # so that the keyboard can scroll it
        parent.replace(element, box)
        box.tail, element.tail = element.tail, None
        box.append(element)
    _number_ids(root)

    def text(heading: lxml.html.HtmlElement) -> str:
        parts = heading.xpath(".//text()[not(ancestor::a[contains(@class, 'anchor-link')])]")
        return " ".join("".join(parts).split())

    headings = root.xpath(".//*[self::h1 or self::h2 or self::h3 or self::h4 or self::h5 or self::h6]")
    contents = [(text(heading), heading.get("id")) for heading in headings if heading.tag == "h2" and heading.get("id")]
    inside = html.escape(root.text or "") + "".join(lxml.html.tostring(child, encoding="unicode") for child in root)
    return inside, text(headings[0]) if headings else "", contents


@dataclass(frozen=True, slots=True)
class _Rendered:
    """A page's body as sanitised HTML, its title, and (text, anchor) of its sections."""

    body: str
    title: str
    contents: list[tuple[str, str]]


def _render_body(body: str, stem: str) -> _Rendered:
    arranged, title, contents = _arrange(body)
    return _Rendered(sanitise(arranged), title or stem, contents)


@functools.cache  # it compiles templates, which takes longer than to render most notebooks
def _exporter() -> HTMLExporter:
    return HTMLExporter(
        template_name="basic",
        template_file="cells.html.j2",
        extra_loaders=[jinja2.PackageLoader("biomeg_lib.report", ".")],
        embed_images=True,
        preprocessors=[CoalesceStreamsPreprocessor(enabled=True)],  # of a progress bar, its last state
    )


def _render_cells(executed: Path) -> _Rendered:
    notebook = _prepare(_read_notebook(executed))
    body, _ = _exporter().from_notebook_node(notebook, resources={"metadata": {"path": str(executed.parent)}})
    return _render_body(body, executed.stem)


@functools.cache
def template(name: str) -> jinja2.Template:
    """A template of this package, in which all text is escaped."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("biomeg_lib.report", "."), autoescape=True, undefined=jinja2.StrictUndefined
    )
    return environment.get_template(name)


@functools.cache
def _part(name: str) -> markupsafe.Markup:
    """A file of ours that pages hold as it is, with line ends as a parser of HTML would make them."""
    return markupsafe.Markup(importlib.resources.files("biomeg_lib.report").joinpath(name).read_text(encoding="utf-8"))


def _write_page(
    page: _Rendered, executed: Path | None, target: Path, navigation: Navigation, provenance: Provenance
) -> None:
    script, here = _part("page.js"), quote(target.name)
    before, after = neighbours(navigation, here)
    text = template("page.html.j2").render(
        title=page.title,
        css=_part("style.css"),
        script=script,
        script_hash=base64.b64encode(hashlib.sha256(script.encode("utf-8")).digest()).decode("ascii"),
        navigation=navigation,
        here=here,
        listed=any(here == href for _, links in navigation for _, href in links),
        before=before,
        after=after,
        strip=[(name, provenance[name]) for name in ("profile", "data") if name in provenance],
        contents=page.contents,
        body=markupsafe.Markup(page.body),
        notebook=executed and quote(PurePath(os.path.relpath(executed, target.parent)).as_posix()),
        provenance=provenance,
    )
    files.write_if_changed(target, text + "\n")


def render_notebook(executed: Path, target: Path, *, navigation: Navigation, provenance: Provenance) -> None:
    """Write one executed notebook as a self-contained page, titled by its first heading; an unchanged page is kept.

    Args:
        executed: the .ipynb; the page links to it by a relative path, so the two must be moved together.
        target: the .html to write.
        navigation: (group, [(title, href), ...]) of all chapters; the one whose href is the name of `target`
            (URL-quoted) is marked as the current one.
        provenance: what the footer lists, name to text, or to a mapping of texts ("versions"). "profile" and "data",
            if given, also stand on the first screen.

    Raises:
        InputError: `executed` is missing or no notebook.
    """
    _write_page(_render_cells(executed), executed, target, navigation, provenance)


def render_site(
    notebooks: Sequence[Path], directory: Path, *, provenance: Provenance, pages: Mapping[str, str] | None = None
) -> list[Path]:
    """Write executed notebooks as pages that link to each other.

    `report.ipynb` becomes index.html and comes first; `vocab.ipynb` becomes vocab.html. In the navigation, in the order
    of `navigation.GROUPS`, a page goes by its title up to the first colon. Pages of single runs
    (`pretrain.<run>.ipynb`) are not in it, as they would fill it; the index links to them.

    Args:
        pages: stem -> body as HTML, of pages that are no notebooks.

    Returns:
        The pages: the index first, the other notebooks as given, then `pages`.

    Raises:
        BiomegError: no report.ipynb, or two pages of one name.
        InputError: a notebook is missing or cannot be read.
    """
    ordered = sorted(notebooks, key=lambda path: path.stem != "report")
    if not ordered or ordered[0].stem != "report":
        raise BiomegError(f"{directory}: expected report.ipynb among the notebooks, it becomes the site's first page")
    others = pages or {}
    stems = [*(path.stem for path in ordered), *others]
    targets = [directory / ("index.html" if stem == "report" else f"{stem}.html") for stem in stems]
    if len(set(targets)) != len(targets):
        raise BiomegError(f"{directory}: two notebooks make a page of the same name, rename one of them")
    rendered = [_render_cells(path) for path in ordered] + [_render_body(body, stem) for stem, body in others.items()]
    navigation = grouped(
        [
            (stem, page.title.split(":")[0], quote(target.name))
            for stem, page, target in zip(stems, rendered, targets, strict=True)
            if "." not in stem
        ]
    )
    for page, executed, target in zip(rendered, [*ordered, *(None for _ in others)], targets, strict=True):
        _write_page(page, executed, target, navigation, provenance)
    return targets
