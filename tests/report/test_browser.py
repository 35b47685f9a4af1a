"""The report in a real Chromium: it reads in every width and theme, tables sort, and nothing but our script runs."""

import contextlib
import json
import shutil
from pathlib import Path

import nbformat
import pandas as pd
import pytest
from matplotlib.figure import Figure
from nbformat import v4
from selenium import webdriver
from selenium.common.exceptions import TimeoutException
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.wait import WebDriverWait
from site_checks import browser, check_site, dead_links, is_sorted, look, low_contrast, requests

from biomeg_lib.report import figures, runs_page
from biomeg_lib.report.html import render_site
from biomeg_lib.report.linked import Link, linked_figure, linked_table

pytestmark = pytest.mark.skipif(
    not (shutil.which("chromium") and shutil.which("chromedriver")),
    reason="needs chromium and chromedriver on the PATH (Debian: apt-get install chromium chromium-driver)",
)

PROVENANCE = {"profile": "smoke", "data": "embedded miniature: generated text, not real", "versions": {"torch": "2.13"}}
HOSTILE = (
    "<script>window.hacked = 1</script><img src=x onerror='window.hacked = 2'> **bold** [go](javascript:hacked=3) "
    '"><svg onload=alert(1)> </style></script><!-- `code` ${window.hacked=4} '
)
CHAPTERS = {
    "data": "Data: what is read",
    "vocab": "Vocabulary: pieces",
    "labeling": "Labelling: words or pieces",
    "size": "Size: larger models",
    "relation": "Relations: what does what",
    "questions": "Questions: SQuAD and BioASQ",
    "domain_transfer": "Domain transfer: from a checkpoint",
    "imbalance": "Imbalance: few against many",
    "scaling": "Scaling: many cards",
    "benchmark": "Benchmark: speed and memory",
    "pretrain.tiny-bio8k": "Pre-training: tiny-bio8k",
    "finetune.full.bc5cdr-chem.tiny-bio8k": "Fine-tuning: full.bc5cdr-chem.tiny-bio8k",
}
RUNS = [
    f"full.bc5cdr-chem.tiny-bio8k.{start}.piece.seed{seed}" for start in ("pretrained", "random") for seed in (1, 2, 3)
]
SCORES = [
    "84.6 (84.0 to 85.2)",
    "\N{EN DASH}",
    "9.5 (9.0 to 10.0)",
    "1,024.5 (1,000 to 1,049)",
    "-3.5 (-4 to -3)",
    "101",
]


def shown(html: str) -> nbformat.NotebookNode:
    output = v4.new_output("display_data", {"text/html": html, "text/plain": "shown"})
    return v4.new_code_cell("show.table(tables.made(study))  # a comment", outputs=[output], execution_count=1)


def write_notebook(folder: Path, name: str, *cells: nbformat.NotebookNode) -> Path:
    path = folder / "notebooks" / f"{name}.ipynb"
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(v4.new_notebook(cells=list(cells), metadata={"language_info": {"name": "python"}}), path)
    return path


def write_run(folder: Path, kind: str, name: str, seconds: float, result: dict) -> None:
    environment = {"packages": {"torch": "2.13.0"}, "commit": "88c5b003aab5+", "hardware": "2 x Some CPU", "threads": 1}
    files = {
        "params.json": {"seed": 1, "note": HOSTILE, "encoder": {"vocabulary": "bio-8k", "corpus": ["pmc-sample"] * 20}},
        "environment.json": {**environment, "date": "2026-11-26T11:29:31+00:00"},
        "metrics.json": {"seconds": seconds, "tokens": 1_000_000, **result},
    }
    path = folder / "runs" / kind / name
    path.mkdir(parents=True)
    (path / "state").write_text("complete\n")
    for file, content in files.items():
        (path / file).write_text(json.dumps(content))


def make_site(folder: Path) -> Path:
    """A report of all chapters in `folder`/report, as a study leaves it: hostile text, wide tables, figures, runs."""
    source = [
        ("vocab.ipynb", "../notebooks/vocab.ipynb"),
        ("a-long-file-name-of-a-table.csv", "../notebooks/vocab.ipynb"),
    ]
    findings = pd.DataFrame(
        {
            "claim": [
                "The sub-word vocabulary is the most critical factor for named entities",
                "Larger models trade recall for precision on named entities and relations",
                "Oversampling and class weights help little",
            ],
            "evidence": [
                "one vocabulary against the other, all else equal, is ahead in 16 of 16 settings",
                "4 x 256 against 2 x 128: precision falls in 3 of 4 comparisons",
                "no gain above a point is seen, but in 3 of 6 comparisons the interval does not exclude one",
            ],
            "effect": ["+1.0 to +16.1", "-2.0 to +0.5", "-2.8 to +0.6"],
            "where": [
                Link("Table 3", "vocab.html#table3"),
                Link("a run", runs_page.run_href(RUNS[0])),
                Link("Figure 1", "vocab.html#figure1"),
            ],
            "verdict": ["supported", "contradicted", "inconclusive"],
        }
    )
    drawing = Figure(figsize=(9, 3))
    axes = drawing.subplots()
    axes.bar(["bio-8k", "general-8k", "bio-50k"], [2.76, 3.5, 1.49])
    axes.set_ylabel("Pieces a word")
    figures.save(drawing, folder / "figures" / "figure1.svg")
    scores = pd.DataFrame(
        {
            "vocabulary": ["bio-50k", "bio-8k", HOSTILE[:30], "bert", "Bert-uncased", "general"],
            "F1": SCORES,
            "tokens": [1024, 9, None, 300_000, 17, 5],
            "date": ["2026-11-26", "2026-02-03", "2025-12-31", "2026-11-25", "2026-01-01", "2024-02-29"],
        }
    )
    wide = pd.DataFrame({f"a heading of column {i}": [i * 1.5, -i] for i in range(14)})
    spanning = "<table><thead><tr><th colspan=2>both</th></tr></thead><tbody><tr><td>2<td>1<tr><td>1<td>2</table>"
    long_word = "Supercalifragilistic" * 12
    texts = v4.new_code_cell(
        HOSTILE,
        outputs=[
            v4.new_output("display_data", {"text/html": HOSTILE}),
            v4.new_output("display_data", {"text/markdown": f"{HOSTILE}\n\n`{long_word}`"}),
            v4.new_output("stream", name="stdout", text=f"{HOSTILE}\n{long_word}\n"),
            v4.new_output("stream", name="stderr", text=HOSTILE),
            v4.new_output("error", ename="E", evalue=HOSTILE, traceback=["\x1b[31mE\x1b[0m: " + HOSTILE]),
        ],
        execution_count=2,
    )
    prose = "A chapter measures [one thing](vocab.html#table3), `draws it`, and holds it against the rest. " * 4
    notebooks = [
        write_notebook(
            folder,
            "report",
            v4.new_markdown_cell(f"# Overview: what makes a model good\n\n{prose}"),
            shown(linked_table(findings, "What the study found of the paper's claims.", source, "findings")),
            v4.new_markdown_cell(
                "## Runs\n\n[one](pretrain.tiny-bio8k.html), [the other](finetune.full.bc5cdr-chem.tiny-bio8k.html)"
            ),
        )
    ]
    for name, title in CHAPTERS.items():
        cells = [v4.new_markdown_cell(f"# {title}\n\n{prose}\n\n> A quotation, {long_word}.")]
        if name == "vocab":
            cells += [
                v4.new_markdown_cell("## Table 3: the rate\n\n| left | right |\n|---|---|\n| b | 1 |\n| a | 2 |"),
                shown(linked_table(scores, f"Pieces a word: {HOSTILE}", source, "table3")),
                v4.new_markdown_cell("## Figure 1\n\n### Details"),
                shown(linked_figure(folder / "figures" / "figure1.svg", "Pieces a word.", source)),
                v4.new_markdown_cell("## Wide tables"),
                shown(linked_table(wide, "All columns.", source, "figure1")),
                shown(wide.to_html()),
                shown(spanning),
                v4.new_markdown_cell("## Texts"),
                texts,
            ]
        notebooks.append(write_notebook(folder, name, *cells))
    write_run(folder, "pretrain", "tiny-bio8k", 3600.0, {"heldout_mlm": 4.9})
    for number, run in enumerate(RUNS):
        write_run(folder, "finetune", run, 60.0 + number, {"test": {"f1": 0.5 + number / 100}})
    runs = runs_page.runs_page(folder / "runs", {path.stem for path in notebooks})
    render_site(notebooks, folder / "report", provenance=PROVENANCE, pages={runs_page.PAGE: runs})
    return folder / "report"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_site(tmp_path_factory.mktemp("study"))


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory):
    with browser(tmp_path_factory.mktemp("profile")) as driver:
        yield driver


@pytest.fixture
def driver(chromium: webdriver.Chrome, site: Path) -> webdriver.Chrome:
    """The browser at the vocabulary chapter, 1280 px, a light system, no theme chosen, logs empty."""
    look(chromium, 1280)
    chromium.get((site / "vocab.html").as_uri())
    chromium.execute_script("localStorage.clear()")
    chromium.refresh()
    for log in ("browser", "performance"):
        chromium.get_log(log)
    return chromium


def headings(driver: webdriver.Chrome, table: str) -> dict[str, WebElement]:
    return {cell.text: cell for cell in driver.find_elements(By.CSS_SELECTOR, f"{table} thead th")}


def column(driver: webdriver.Chrome, table: str, number: int) -> list[str]:
    cells = driver.find_elements(By.CSS_SELECTOR, f"{table} tbody td:nth-child({number})")
    return [cell.get_attribute("textContent") for cell in cells]


def paper(driver: webdriver.Chrome) -> str:
    return driver.execute_script("return getComputedStyle(document.body).backgroundColor")


def wait_for_theme(driver: webdriver.Chrome, colour: str, label: str) -> None:
    """Until the page has it: what one process of the browser stores another one knows after a moment."""

    def state() -> tuple[str, str]:
        return paper(driver), theme_button(driver).text

    wanted = (colour, f"Theme: {label}")
    with contextlib.suppress(TimeoutException):
        WebDriverWait(driver, 20).until(lambda _: state() == wanted)
    assert state() == wanted, driver.execute_script("return [location.href, localStorage.getItem('biomeg-theme')]")


def theme_button(driver: webdriver.Chrome) -> WebElement:
    return driver.find_element(By.CSS_SELECTOR, "button.theme")


LIGHT, DARK = "rgb(253, 253, 252)", "rgb(22, 25, 29)"


def test_the_whole_site(site, chromium):
    assert check_site(site, chromium) == []
    assert len(list(site.glob("*.html"))) == 2 + len(CHAPTERS)


def test_the_checks_find_what_is_wrong(site, chromium, tmp_path):
    (tmp_path / "a.html").write_text(
        "<style>p { color: #999; background: #fff } i { color: #767676 }</style><p>pale</p><i>enough</i>"
        "<div id=x style='width: 2000px'>wide</div><div id=x><a href='b.html'>b</a><a href='#y'>y</a></div>"
        "<img src='missing.png'><script>console.error('loud')</script>"
    )
    found = "\n".join(check_site(tmp_path, chromium))
    for wanted in (
        "twice the id x",
        "dead link b.html",
        "dead anchor #y",
        "loads file:",
        "loud",
        "at 400 px, dark: wider",
        '2.85 of p. "pale"',
    ):
        assert wanted in found
    assert "enough" not in found
    assert not is_sorted(["2", "10", "9"], descending=False)
    assert not is_sorted(["\N{EN DASH}", "1"], descending=False)


def test_tables_sort_by_number_and_by_text_with_dashes_last(driver):
    heading = headings(driver, "#table3")["F1"]
    assert heading.get_attribute("aria-sort") is None
    button = heading.find_element(By.TAG_NAME, "button")
    assert button.get_attribute("type") == "button"
    button.click()
    ascending = [SCORES[i] for i in (4, 2, 0, 5, 3)]
    assert column(driver, "#table3", 2) == [*ascending, "\N{EN DASH}"]
    assert heading.get_attribute("aria-sort") == "ascending"
    button.click()
    assert column(driver, "#table3", 2) == [*reversed(ascending), "\N{EN DASH}"]
    assert heading.get_attribute("aria-sort") == "descending"
    headings(driver, "#table3")["tokens"].find_element(By.TAG_NAME, "button").click()
    assert column(driver, "#table3", 3) == ["5", "9", "17", "1,024", "300,000", "\N{EN DASH}"]
    assert column(driver, "#table3", 2)[:2] == ["101", "\N{EN DASH}"], "rows move as a whole"
    assert heading.get_attribute("aria-sort") is None
    headings(driver, "#table3")["date"].find_element(By.TAG_NAME, "button").click()
    assert column(driver, "#table3", 4) == sorted(column(driver, "#table3", 4))
    headings(driver, "#table3")["vocabulary"].find_element(By.TAG_NAME, "button").click()
    names = [name for name in column(driver, "#table3", 1) if not name.startswith("<")]
    assert names == ["bert", "Bert-uncased", "bio-8k", "bio-50k", "general"], "8 before 50, letters of either case"


def test_tables_sort_by_keyboard(driver):
    heading = headings(driver, "#table3")["tokens"]
    driver.execute_script("arguments[0].focus()", headings(driver, "#table3")["F1"].find_element(By.TAG_NAME, "button"))
    driver.switch_to.active_element.send_keys(Keys.TAB)
    focused = driver.switch_to.active_element
    assert focused.text == "tokens"
    assert driver.execute_script("return getComputedStyle(arguments[0]).outlineStyle", focused) == "solid"
    focused.send_keys(Keys.ENTER)
    assert column(driver, "#table3", 3)[:2] == ["5", "9"]
    focused.send_keys(Keys.SPACE)
    assert column(driver, "#table3", 3)[:2] == ["300,000", "1,024"]
    assert heading.get_attribute("aria-sort") == "descending"


def test_only_tables_without_spans_sort(driver):
    tables = driver.find_elements(By.CSS_SELECTOR, "main table")
    plain = [table for table in tables if table.find_elements(By.TAG_NAME, "button")]
    assert len(tables) == 5
    assert [table.find_elements(By.TAG_NAME, "th")[0].text for table in tables if table not in plain] == ["both"]


def test_hostile_text_does_not_run_and_shows(driver):
    assert driver.execute_script("return [window.hacked, document.querySelectorAll('script').length]") == [None, 1]
    assert "<script>window.hacked = 1</script>" in driver.find_element(By.TAG_NAME, "main").text
    for button in driver.find_elements(By.CSS_SELECTOR, "#table3 th button"):
        button.click()
    assert driver.execute_script("return window.hacked") is None


def test_the_policy_lets_no_other_script_run(driver, site):
    page = site.parent / "report" / "vocab.html"
    text = page.read_text(encoding="utf-8")
    own = text[text.index("<script>") : text.index("</script>") + len("</script>")]
    assert text.count(own) == 1
    attack = (
        "<script>window.hacked = 1</script><p onclick='window.hacked = 2' id=bait>x</p><script src='x.js'></script>"
    )
    copy = site.parent / "copy.html"
    copy.write_text(text.replace("<main", attack + "<main").replace(own, own + own.replace('"use strict";', "")))
    (site.parent / "x.js").write_text("window.hacked = 3")
    driver.get(copy.as_uri())
    driver.find_element(By.ID, "bait").click()
    assert driver.execute_script("return window.hacked") is None
    refused = [entry["message"] for entry in driver.get_log("browser") if "Content Security Policy" in entry["message"]]
    assert len(refused) == 4, "a script, one that differs from ours by a word, a handler, a file"
    assert len(driver.find_elements(By.CSS_SELECTOR, "button.theme")) == 1, "our own ran"


def test_a_theme_is_chosen_kept_and_given_back(driver, site):
    assert (paper(driver), theme_button(driver).text) == (LIGHT, "Theme: auto")
    look(driver, 1280, "dark")
    assert paper(driver) == DARK
    theme_button(driver).click()
    assert (paper(driver), theme_button(driver).text) == (LIGHT, "Theme: light")
    driver.get((site / "index.html").as_uri())
    wait_for_theme(driver, LIGHT, "light")
    look(driver, 1280, "light")
    theme_button(driver).send_keys(Keys.ENTER)
    assert (paper(driver), theme_button(driver).text) == (DARK, "Theme: dark")
    assert low_contrast(driver) == []
    driver.back()
    wait_for_theme(driver, DARK, "dark")
    theme_button(driver).click()
    assert (paper(driver), theme_button(driver).text) == (LIGHT, "Theme: auto")
    driver.refresh()
    wait_for_theme(driver, LIGHT, "auto")


def test_a_theme_where_storage_is_forbidden(driver):
    forbid = "Object.defineProperty(window, 'localStorage', {get() { throw new DOMException('no', 'SecurityError') }})"
    script = driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": forbid})
    try:
        driver.refresh()
        theme_button(driver).click()
        theme_button(driver).click()
        assert paper(driver) == DARK
        assert driver.get_log("browser") == []
    finally:
        driver.execute_cdp_cmd("Page.removeScriptToEvaluateOnNewDocument", script)


def test_figures_are_white_in_the_dark(driver):
    look(driver, 1280, "dark")
    image = driver.find_element(By.CSS_SELECTOR, "#figure1 img")
    assert image.value_of_css_property("background-color") == "rgba(255, 255, 255, 1)"
    assert driver.execute_script("return arguments[0].naturalWidth", image) > 400


def test_both_themes_print_in_black_on_white(driver):
    for clicks in range(3):
        look(driver, 700, "dark", media="print")
        assert driver.find_element(By.TAG_NAME, "main").value_of_css_property("color") == "rgba(0, 0, 0, 1)", clicks
        assert low_contrast(driver) == []
        assert not driver.find_element(By.TAG_NAME, "aside").is_displayed()
        look(driver, 1280, "dark")
        theme_button(driver).click()


def test_navigation_at_both_widths(driver, site):
    aside, menu = (driver.find_element(By.CSS_SELECTOR, name) for name in ("aside", ".menu"))
    assert (aside.is_displayed(), menu.is_displayed()) == (True, False)
    assert aside.text.split("\n")[:4] == ["Study", "Overview", "Data", "Factors"]
    assert [link.text for link in aside.find_elements(By.CSS_SELECTOR, "[aria-current]")] == ["Vocabulary"]
    assert "Figure 1" in aside.text, "sections of this page"
    look(driver, 400, height=800)
    assert (aside.is_displayed(), menu.is_displayed()) == (False, True)
    assert driver.find_element(By.TAG_NAME, "h1").location["y"] < 200, "the text begins on the first screen"
    menu.find_element(By.TAG_NAME, "summary").send_keys(Keys.ENTER)
    menu.find_element(By.LINK_TEXT, "Runs").click()
    assert driver.current_url == (site / "runs.html").as_uri()


def test_next_leads_through_all_chapters_and_previous_back(driver, site):
    driver.get((site / "index.html").as_uri())
    assert not driver.find_elements(By.CSS_SELECTOR, "[rel=prev]")
    seen = ["index.html"]
    while following := driver.find_elements(By.CSS_SELECTOR, "[rel=next]"):
        following[0].click()
        seen.append(driver.current_url.rpartition("/")[2])
    assert seen == ["index.html", *(f"{name}.html" for name in CHAPTERS if "." not in name), "runs.html"]
    driver.find_element(By.CSS_SELECTOR, "[rel=prev]").click()
    assert driver.current_url.endswith("/benchmark.html")
    driver.get((site / "pretrain.tiny-bio8k.html").as_uri())
    assert not driver.find_elements(By.CSS_SELECTOR, "[rel=next], [rel=prev], aside [aria-current]")
    driver.find_element(By.CSS_SELECTOR, "[rel=up]").click()
    assert driver.current_url.endswith("/index.html")


def test_a_link_to_a_run_opens_it(driver, site):
    driver.get((site / "index.html").as_uri())
    driver.find_element(By.LINK_TEXT, "a run").click()
    run = driver.find_element(By.ID, f"run-{RUNS[0]}")
    assert run.get_attribute("open") is not None
    assert "window.hacked = 1" in run.find_element(By.TAG_NAME, "pre").text
    run.find_element(By.LINK_TEXT, "environment 1").click()
    assert driver.find_element(By.CSS_SELECTOR, "#shared-environment-1 pre").is_displayed()
    assert all(address.startswith("file://") for address in requests(driver))


def test_without_script_all_is_there_but_the_buttons(driver):
    driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        driver.refresh()
        document = driver.execute_cdp_cmd("DOM.getDocument", {"depth": -1})["root"]["nodeId"]
        text = driver.execute_cdp_cmd("DOM.getOuterHTML", {"nodeId": document})["outerHTML"]
    finally:
        driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
    assert "<button" not in text
    assert text.count("<table") == 5


def test_anchors_of_the_index_lead_to_cells(site):
    assert dead_links(site) == []
    text = (site / "vocab.html").read_text(encoding="utf-8")
    assert text.count('<figure id="table3">') == 1
    assert text.count('<figure id="figure1">') == text.count('<figure id="figure1-2">') == 1
