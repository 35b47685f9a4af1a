"""Pages: nothing but our script runs, nothing is loaded, whatever a notebook's outputs hold; what is meant shows."""

import base64
import hashlib
import os
import re

import nbformat
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nbformat import v4
from rendered_pages import NAVIGATION, PROVENANCE, SCRIPT, SVG, Page, check_harmless, code, shown

from biomeg_lib.errors import BiomegError, InputError
from biomeg_lib.report import html as pages

PNG = base64.b64encode(b"\x89PNG\r\n\x1a\n").decode()

ATTACKS = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    '<img src="https://example.org/x.png">',
    '<img src="data:text/html;base64,PHNjcmlwdD4=">',
    '<a href="javascript:alert(1)">go</a>',
    '<a href=" java\tscript:alert(1)">go</a>',
    '<a href="data:text/html,<script>alert(1)</script>">go</a>',
    '<div style="background:url(https://example.org/x)" onclick="alert(1)">a</div>',
    '<link rel="stylesheet" href="https://example.org/x.css">',
    "<style>@import 'https://example.org/x.css'; p { background: url(//example.org/y) }</style>",
    '<iframe src="https://example.org"></iframe><object data="//example.org"></object><embed src="//example.org">',
    '<meta http-equiv="refresh" content="0;url=https://example.org"><base href="https://example.org/">',
    '<form action="https://example.org"><input autofocus onfocus=alert(1)><button>b</button></form>',
    '<svg onload="alert(1)"><a xlink:href="javascript:alert(1)"><text>x</text></a></svg>',
    '<math><mi xlink:href="javascript:alert(1)">x</mi></math>',
    '<noscript><p title="</noscript><img src=x onerror=alert(1)>"></noscript>',
    "<table><td><script>alert(1)</script>",
    "<!--><img src=x onerror=alert(1)>-->",
    '<a href="dat&#97;:text/html;base64,PHNjcmlwdD4=">go</a> <a href="&#106;avascript&colon;alert(1)">go</a>',
    '<a href="vbscript:x">go</a> <a href="file:///etc/passwd">go</a>',
    '<video src="https://example.org/v" poster="//example.org/p"></video><p srcset="https://example.org 2x">',
]


def test_page_has_title_navigation_provenance_and_the_notebook(render):
    page = check_harmless(text := render(v4.new_markdown_cell("intro\n\n# Pieces: `F1` & more\n\nText")))
    assert re.search(r"<title>Pieces: F1 &amp; more · ", text)
    links = page.of("a")
    assert links.count({"href": "vocab.html", "aria-current": "page"}) == 2, "beside the text and in the menu"
    assert links.count({"href": "index.html"}) == 2
    assert {"rel": "prev", "href": "index.html"} in links
    assert not any(link.get("rel") == "next" for link in links)
    assert {"href": "../notebooks/vocab.ipynb"} in links
    for wanted in ("Vocabularies & more", "generated <text>", "torch 2.13", "commit abc"):
        assert wanted in page.text
    assert page.of("html") == [{"lang": "en"}]
    assert any("width=device-width" in meta.get("content", "") for meta in page.of("meta"))
    assert "color-scheme: light dark" in text
    assert "@media print" in text


def test_without_a_heading_the_file_gives_the_title(render):
    assert "<title>plain · " in render(v4.new_markdown_cell("no heading"), name="plain")


def test_the_styles_load_nothing(render):
    text = render(v4.new_markdown_cell("# T"))
    style = text[text.index("<style>") : text.index("</style>")]
    assert "url(" not in style
    assert "@import" not in style
    assert "@font-face" not in style
    policy = next(meta for meta in Page(text).of("meta") if "http-equiv" in meta)["content"]
    assert "default-src 'none'" in policy
    (script,) = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    assert script == SCRIPT
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert policy.split("script-src ")[1].split(";")[0] == f"'sha256-{digest}'"
    assert text.index("Content-Security-Policy") < text.index("<script>")


def test_the_script_asks_for_nothing_and_makes_no_html_of_text():
    for word in (
        "innerHTML",
        "outerHTML",
        "insertAdjacent",
        "document.write",
        "eval",
        "fetch",
        "XMLHttp",
        "import",
        "<",
    ):
        assert word not in SCRIPT.replace(" < ", ""), word


@pytest.mark.parametrize("attack", ATTACKS)
def test_attacks_in_outputs_and_prose(render, attack):
    page = check_harmless(
        render(
            v4.new_markdown_cell(f"# {attack}\n\n{attack}\n\n`{attack}`"),
            v4.new_raw_cell(attack, metadata={"raw_mimetype": "text/html"}),
            code(
                attack,
                shown(attack),
                shown(attack, "text/markdown"),
                shown(attack, "text/latex"),
                shown(attack, "text/plain"),
                v4.new_output("stream", name="stdout", text=attack),
                v4.new_output("stream", name="stderr", text=attack),
                v4.new_output("error", ename=attack, evalue=attack, traceback=[attack]),
            ),
        )
    )
    assert page.text.count(" ".join(attack.split())) >= 5, "source, plain text, streams and errors show it as text"


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.sampled_from(ATTACKS)
        | st.sampled_from(
            ["<", ">", "<!--", "-->", "</", "/>", '"', "'", "=", "&", "&#106;", "<table>", "</p>", "<a href="]
        )
        | st.text(max_size=8),
        max_size=6,
    ).map("".join)
)
def test_sanitised_html_is_harmless(text):
    check_harmless(pages.sanitise(text))


def test_scripts_and_widgets_are_left_out(render):
    text = render(
        code("x", shown("alert(4)", "application/javascript")),
        code("y", v4.new_output("display_data", {"application/javascript": "alert(5)"})),
        code("z", shown({"model_id": "1"}, "application/vnd.jupyter.widget-view+json")),
    )
    page = check_harmless(text)
    assert "alert" not in page.text
    assert "<plain>" in page.text


def test_pandas_tables_survive_in_a_box_that_scrolls(render):
    frame = pd.DataFrame({"text": ["<script>alert(1)</script>", "b"], "n": [1, 2]})
    text = render(code("frame", shown(frame._repr_html_())))
    page = check_harmless(text)
    assert '<div class="scroll" tabindex="0"><table' in text
    assert "<script>alert(1)</script>" in page.text
    assert len(page.of("td")) == 4
    assert "vertical-align: middle" not in page.text, "the style element that pandas writes shows as text"


def test_markdown_tables_and_details_survive(render):
    text = render(
        v4.new_markdown_cell("| a | b |\n|---|---|\n| 1 | 2 |"),
        code("x", shown("<details open><summary>more</summary><b>bold</b></details>")),
    )
    assert text.count('<div class="scroll" tabindex="0"><table>') == 1
    assert re.search(r"<details open[^>]*><summary>more</summary><b>bold</b></details>", text)


def test_images_are_embedded(render):
    page = check_harmless(render(code("x", shown(SVG, "image/svg+xml"), shown(PNG, "image/png"))))
    svg, png = (image["src"] for image in page.of("img"))
    prefix = "data:image/svg+xml;base64,"
    assert svg.startswith(prefix)
    assert base64.b64decode(svg.removeprefix(prefix)).decode().strip() == SVG
    assert png == f"data:image/png;base64,{PNG}"


def test_remote_images_are_named_and_not_loaded(render):
    page = check_harmless(render(v4.new_markdown_cell("see ![a plot](https://example.org/x.png) there")))
    assert "see [image not embedded: a plot] there" in page.text
    assert not page.of("img")


def test_local_images_of_prose_are_embedded(render, tmp_path):
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "notebooks" / "dot.png").write_bytes(base64.b64decode(PNG))
    page = check_harmless(render(v4.new_markdown_cell("![dot](dot.png)")))
    assert page.of("img")[0]["src"] == f"data:image/png;base64,{PNG}"


@pytest.mark.parametrize("source", ["../private.png", "{}/private.png"])
def test_files_from_elsewhere_are_not(render, tmp_path, source):
    (tmp_path / "private.png").write_bytes(base64.b64decode(PNG))
    (tmp_path / "notebooks").mkdir()
    name = source.format(tmp_path)
    page = check_harmless(render(v4.new_markdown_cell(f'![a]({name}) <img src="{name}" alt="b">')))
    assert not page.of("img")


def test_code_is_folded_and_injected_parameters_are_open(render):
    text = render(
        code("defaults = 1", tags=["parameters"]),
        code("injected = 2", tags=["injected-parameters"]),
        code("work()", v4.new_output("stream", name="stderr", text="\r 10%\r100%\n")),
        code(""),
    )
    menu, *details = Page(text).of("details")
    assert menu == {"class": "menu"}
    assert [("open" in one, one["class"]) for one in details] == [
        (False, "code"),
        (True, "code"),
        (False, "code"),
        (False, "messages"),
    ]
    assert "<pre>100%\n</pre>" in text, "of a progress bar only the last state is kept"
    assert re.findall("<summary>(.*?)</summary>", text)[2] == "parameters of this run"


def test_characters_that_html_cannot_hold_are_replaced(render):
    page = check_harmless(
        render(code("x", v4.new_output("stream", name="stdout", text="one\x00two\x0bthree\x1b four")))
    )
    assert "one\ufffdtwo\ufffdthree\ufffd four" in page.text


def test_equations_stay_text(render):
    page = check_harmless(
        render(v4.new_markdown_cell("rate $r = \\frac{a}{b} < 1$"), code("x", shown("$$x^2$$", "text/latex")))
    )
    assert "$r = \\frac{a}{b} < 1$" in page.text


def test_contents_of_long_pages(render):
    text = render(v4.new_markdown_cell("# T\n\n## One & two\n\n## Three\n\n## Four"))
    assert text.count('<li><a href="#One-&amp;-two">One &amp; two</a></li>') == 2
    assert text.count('aria-label="On this page"') == 2
    assert 'aria-label="On this page"' not in render(v4.new_markdown_cell("# T\n\n## One"))


def test_unchanged_page_is_kept(render, tmp_path):
    cells = [v4.new_markdown_cell("# T"), code("x", shown(SVG, "image/svg+xml"))]
    first = render(*cells)
    os.utime(tmp_path / "report" / "vocab.html", (1, 1))
    assert render(*cells) == first
    assert (tmp_path / "report" / "vocab.html").stat().st_mtime == 1


def test_every_id_is_there_once(render):
    cells = [v4.new_markdown_cell("# T\n\n## Scores\n\n## Scores\n\n## Other"), code("x", shown("<p id=content></p>"))]
    cells += [
        code("x", shown(f"<figure id={name}></figure>")) for name in ("Scores", "start", "start", "start-2", "start")
    ]
    page = check_harmless(text := render(*cells))
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    wanted = ["Scores", "Scores-2", "Other", "content-2", "Scores-3", "start", "start-2", "start-2-2", "start-3"]
    assert [name for name in ids if not name.startswith("cell-id=")] == ["content", "T", *wanted]
    links = [link["href"] for link in page.of("a") if link.get("class") == "anchor-link"]
    assert links == ["#T", "#Scores", "#Scores-2", "#Other"]
    assert '<li><a href="#Scores-2">Scores</a></li>' in text


def write_notebooks(folder, **titles):
    paths = []
    for name, title in titles.items():
        paths.append(folder / "notebooks" / f"{name}.ipynb")
        paths[-1].parent.mkdir(exist_ok=True)
        nbformat.write(v4.new_notebook(cells=[v4.new_markdown_cell(f"# {title}")]), paths[-1])
    return paths


def test_site(tmp_path):
    titles = {
        "b a": "Spaces",
        "data": "Data: the start",
        "pretrain.x": "Run x",
        "vocab": "Words",
        "report": "The study",
    }
    paths = write_notebooks(tmp_path, **titles)
    runs = '<h1>Runs: all</h1><h2 id="a">A</h2><script>alert(1)</script>'
    written = pages.render_site(paths, tmp_path / "report", provenance=PROVENANCE, pages={"runs": runs})
    names = ["index.html", "b a.html", "data.html", "pretrain.x.html", "vocab.html", "runs.html"]
    assert [path.name for path in written] == names
    chapters = ["index.html", "data.html", "vocab.html", "runs.html", "b%20a.html"]
    for path in written:
        page = check_harmless(path.read_text(encoding="utf-8"))
        links = [link for link in page.of("a") if link["href"].endswith(".html")]
        plain = [link["href"] for link in links if "rel" not in link and "class" not in link]
        assert plain == chapters * 2
        own = path.name.replace(" ", "%20")
        assert [link["href"] for link in links if "aria-current" in link] == ([own] * 2 if own in chapters else [])
        turns = {link["rel"]: link["href"] for link in links if "rel" in link}
        if own in chapters:
            place = chapters.index(own)
            around = {"prev": chapters[place - 1] if place else None, "next": [*chapters, None][place + 1]}
            assert turns == {rel: href for rel, href in around.items() if href}
        else:
            assert turns == {"up": "index.html"}
        assert "Study The study Data Factors Words Computing Runs More Spaces" in page.text
    assert '"../notebooks/b%20a.ipynb"' in written[1].read_text(encoding="utf-8")
    assert "as it was executed" not in written[-1].read_text(encoding="utf-8")


def test_sites_that_cannot_be(tmp_path):
    paths = write_notebooks(tmp_path, report="The study", data="Data")
    with pytest.raises(BiomegError, match=r"report\.ipynb"):
        pages.render_site(paths[1:], tmp_path / "report", provenance=PROVENANCE)
    with pytest.raises(BiomegError, match="same name"):
        pages.render_site([*paths, paths[1]], tmp_path / "report", provenance=PROVENANCE)
    with pytest.raises(BiomegError, match="same name"):
        pages.render_site(paths, tmp_path / "report", provenance=PROVENANCE, pages={"data": "<h1>Data</h1>"})
    assert not (tmp_path / "report").exists()


@pytest.mark.parametrize(
    "content",
    [
        None,
        b"",
        b"not json",
        b"[]",
        b"{}",
        b'{"nbformat": 4}',
        b'{"cells": 1, "nbformat": 4}',
        b'{"cells": [{"cell_type": "markdown"}], "obformat": 4}',
        b'{"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": null}',
        b"\xff\xfe\x00",
    ],
)
def test_what_is_no_notebook(tmp_path, content):
    executed, target = tmp_path / "x.ipynb", tmp_path / "out" / "x.html"
    if content is not None:
        executed.write_bytes(content)
    with pytest.raises(InputError, match=r"x\.ipynb: expected .* notebook") as caught:
        pages.render_notebook(executed, target, navigation=NAVIGATION, provenance=PROVENANCE)
    assert "\n" not in str(caught.value)
    assert not target.parent.exists()
