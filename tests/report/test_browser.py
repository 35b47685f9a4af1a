"""The report in a real Chromium: it reads in every width and theme, tables sort, and nothing but our script runs."""

import contextlib
import shutil
from pathlib import Path

import pytest
from hostile_site import CHAPTERS, RUNS, SCORES, make_site
from selenium import webdriver
from selenium.common.exceptions import TimeoutException
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.wait import WebDriverWait
from site_checks import browser, check_site, dead_links, is_sorted, look, low_contrast, requests

pytestmark = pytest.mark.skipif(
    not (shutil.which("chromium") and shutil.which("chromedriver")),
    reason="needs chromium and chromedriver on the PATH (Debian: apt-get install chromium chromium-driver)",
)


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
