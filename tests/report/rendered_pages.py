"""What tests of pages share: cells, a page read by another parser than made it, and that nothing in it can run."""

import re
from html.parser import HTMLParser
from pathlib import Path

from nbformat import v4

from biomeg_lib.report import html as pages

PROVENANCE = {"profile": "smoke", "data": "generated <text>", "versions": {"torch": "2.13"}, "commit": "abc"}
NAVIGATION = [("Study", [("Start", "index.html")]), ("Factors", [("Vocabularies & more", "vocab.html")])]
SCRIPT = Path(pages.__file__).with_name("page.js").read_text(encoding="utf-8")
SVG = '<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"><script>alert(6)</script></svg>'


class Page(HTMLParser):
    """Elements and texts of a page; independent of the parsers that made it."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.texts = [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))

    def handle_data(self, data):
        self.texts.append(data)

    def of(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]

    @property
    def text(self):
        return " ".join("".join(self.texts).split())


def check_harmless(text):
    page = Page(text.replace(f"<script>{SCRIPT}</script>", "", 1))
    forbidden = {
        "script",
        "iframe",
        "object",
        "embed",
        "link",
        "base",
        "form",
        "input",
        "svg",
        "math",
        "video",
        "button",
    }
    assert not forbidden & {tag for tag, _ in page.elements}
    for tag, attributes in page.elements:
        for name, value in attributes.items():
            assert not name.startswith("on"), (tag, name)
            assert name not in {"srcset", "poster", "action", "background", "xlink:href"}
            if name == "src":
                assert tag == "img"
                assert value.startswith("data:image/")
            if name == "href":
                assert tag == "a"
                scheme = re.match(r"([a-z][a-z0-9+.-]*):", re.sub(r"[\x00-\x20]", "", value), re.IGNORECASE)
                assert scheme is None or scheme[1].lower() in {"http", "https", "mailto"}, value
            if name == "style":
                assert "url" not in value
                assert "expression" not in value
            if name == "http-equiv":
                assert value == "Content-Security-Policy"
    return page


def shown(value, kind="text/html", **more):
    return v4.new_output("display_data", {kind: value, "text/plain": "<plain>"} | more)


def code(source, *outputs, tags=()):
    return v4.new_code_cell(source, outputs=list(outputs), metadata={"tags": list(tags)}, execution_count=1)
