"""Checks of a whole report as a real browser shows it, over any folder of pages.

    python tests/report/site_checks.py outputs/smoke/report

Every page, at two widths and in both colour schemes: links and anchors lead somewhere, nothing but the pages
themselves is loaded, the console is silent, text has contrast, the page does not overflow, tables sort. `dead_links`
reads the pages by itself; all else is what Chromium says.
"""

import contextlib
import json
import re
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import lxml.html
from selenium import webdriver

WIDTHS = (1280, 400)
SCHEMES = ("light", "dark")
CONTRAST = 4.5  # of text that is not large, WCAG 2.2, 1.4.3
_ARGUMENTS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)

# Every element with text of its own that can be seen, as [contrast, what it is]; backgrounds are blended.
_LOW_CONTRAST = """
const rgba = (colour) => {
  const parts = /^rgba?\\(([^)]*)\\)$/.exec(colour)?.[1].split(/[\\s,/]+/).map(Number);
  return parts ? [...parts.slice(0, 3), parts[3] ?? 1] : [NaN, NaN, NaN, 1];
};
const over = (top, below) => [0, 1, 2].map((i) => top[3] * top[i] + (1 - top[3]) * below[i]).concat(1);
const ground = (element) => {
  if (!element) return [255, 255, 255, 1];
  const own = rgba(getComputedStyle(element).backgroundColor);
  return own[3] === 1 ? own : over(own, ground(element.parentElement));
};
const luminance = (colour) => {
  const [r, g, b] = colour.slice(0, 3).map((v) => (v <= 10.31475 ? v / 3294.6 : ((v / 255 + 0.055) / 1.055) ** 2.4));
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const found = {};
for (const element of document.body.querySelectorAll("*")) {
  if (![...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim())) continue;
  if (!element.checkVisibility({ visibilityProperty: true, opacityProperty: true })) continue;
  const below = ground(element);
  const both = [luminance(over(rgba(getComputedStyle(element).color), below)), luminance(below)];
  const contrast = (Math.max(...both) + 0.05) / (Math.min(...both) + 0.05);
  const what = `${element.tagName.toLowerCase()}.${element.className} "${element.textContent.trim().slice(0, 30)}"`;
  if (!(contrast >= arguments[0])) found[what] = contrast;
}
return Object.entries(found);
"""
_OVERFLOWING = """
const root = document.documentElement;
if (root.scrollWidth <= root.clientWidth) return null;
const wide = [...document.body.querySelectorAll("*")].filter((element) =>
  element.getBoundingClientRect().right > root.clientWidth + 1 && !element.parentElement.closest(".scroll, pre"));
return wide.slice(0, 3).map((element) => `${element.tagName.toLowerCase()}.${element.className}`);
"""
# [before, [[heading, aria-sort, texts of the column, texts of the rows], ...]] of each table, two clicks a heading.
_SORTED = """
const rows = (table) => [...table.tBodies[0].rows];
return [...document.querySelectorAll("main table")].filter((table) => table.querySelector("th button")).map((table) => {
  const before = rows(table).map((row) => row.textContent);
  const clicks = [];
  for (const button of table.querySelectorAll("th button")) {
    const heading = button.closest("th");
    for (let click = 0; click < 2; click++) {
      button.click();
      const column = rows(table).map((row) => row.cells[heading.cellIndex].textContent.trim());
      const marked = [...table.querySelectorAll("[aria-sort]")].map((other) => other.cellIndex);
      clicks.push([heading.textContent.trim(), heading.getAttribute("aria-sort"), column,
        rows(table).map((row) => row.textContent), marked.length === 1 && marked[0] === heading.cellIndex]);
    }
  }
  return [before, clicks];
});
"""


@contextlib.contextmanager
def browser(profile: Path) -> Iterator[webdriver.Chrome]:
    """Headless Chromium of the system with logs of console and network.

    Args:
        profile: an empty folder for its profile.

    Raises:
        RuntimeError: there is no Chromium or no chromedriver.
    """
    chromium, driver_path = shutil.which("chromium"), shutil.which("chromedriver")
    if not chromium or not driver_path:
        raise RuntimeError("chromium and chromedriver are needed on the PATH")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for argument in (*_ARGUMENTS, f"--user-data-dir={profile}"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver_path))
    try:
        driver.get("about:blank")
        yield driver
    finally:
        driver.quit()


def look(driver: webdriver.Chrome, width: int, scheme: str = "light", height: int = 900, media: str = "") -> None:
    """Have the page shown at this width (CSS pixels), for a system of this colour scheme."""
    metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    feature = {"name": "prefers-color-scheme", "value": scheme}
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": media, "features": [feature]})


def check_site(folder: Path, driver: webdriver.Chrome | None = None) -> list[str]:
    """What is wrong with the pages in a folder, one line each; none if all is well."""
    if driver is None:
        with tempfile.TemporaryDirectory() as profile, browser(Path(profile)) as own:
            return check_site(folder, own)
    problems = dead_links(folder)
    for page in sorted(folder.resolve().glob("*.html")):
        problems += [f"{page.name}: {problem}" for problem in check_page(page, driver)]
    return problems


def check_page(page: Path, driver: webdriver.Chrome) -> Iterator[str]:
    """What is wrong with one page as the browser shows it."""
    for log in ("browser", "performance"):
        driver.get_log(log)  # what was before is forgotten
    driver.get(page.as_uri())
    for requested in requests(driver):
        if requested != page.as_uri() and not requested.startswith("data:image/"):
            yield f"loads {requested}"
    yield from table_problems(driver)
    driver.execute_script("for (const one of document.querySelectorAll('details')) one.open = true")
    for width in WIDTHS:
        for scheme in SCHEMES:
            look(driver, width, scheme)
            at = f"at {width} px, {scheme}"
            if overflowing := driver.execute_script(_OVERFLOWING):
                yield f"{at}: wider than the window: {', '.join(overflowing)}"
            for what, contrast in low_contrast(driver):
                yield f"{at}: contrast {contrast or 0:.2f} of {what}"
    for entry in driver.get_log("browser"):
        yield f"console: {entry['message']}"


def low_contrast(driver: webdriver.Chrome) -> list[tuple[str, float]]:
    """Elements with too little contrast to be read: what they are, and the contrast."""
    return driver.execute_script(_LOW_CONTRAST, CONTRAST)


def requests(driver: webdriver.Chrome) -> list[str]:
    """Addresses that pages requested since the log was last read; those of Chromium's own first tab are left out."""
    messages = (json.loads(entry["message"])["message"] for entry in driver.get_log("performance"))
    sent = [m["params"] for m in messages if m["method"] == "Network.requestWillBeSent"]
    return [one["request"]["url"] for one in sent if not one["documentURL"].startswith("chrome://")]


def dead_links(folder: Path) -> list[str]:
    """Links and anchors of all pages that lead nowhere or out of the study, and ids that a page has twice."""
    roots = {page.resolve(): lxml.html.parse(str(page)).getroot() for page in sorted(folder.glob("*.html"))}
    ids = {page: Counter(root.xpath("//@id")) for page, root in roots.items()}
    problems = [f"{page.name}: twice the id {name}" for page in ids for name, count in ids[page].items() if count > 1]
    for page, root in roots.items():
        for href in dict.fromkeys(root.xpath("//a/@href")):
            parts = urlsplit(href)
            if parts.scheme in ("http", "https", "mailto"):
                continue
            target = (page.parent / unquote(parts.path)).resolve() if parts.path else page
            if parts.scheme or parts.netloc or parts.path.startswith("/") or not target.is_file():
                problems.append(f"{page.name}: dead link {href}")
            elif parts.fragment and target in ids and unquote(parts.fragment) not in ids[target]:
                problems.append(f"{page.name}: dead anchor {href}")
    return problems


def table_problems(driver: webdriver.Chrome) -> Iterator[str]:
    """What is wrong with the tables after each of two clicks on every heading; they stay as the last one left them."""
    for before, clicks in driver.execute_script(_SORTED):
        for number, (heading, direction, column, rows, alone) in enumerate(clicks):
            expected = "descending" if number % 2 else "ascending"
            if direction != expected or not alone:
                yield f"table, {heading}: aria-sort {direction}, expected {expected} on this heading alone"
            if Counter(rows) != Counter(before):
                yield f"table, {heading}: rows are not what they were"
            if not is_sorted(column, descending=expected == "descending"):
                yield f"table, {heading}: not {expected}: {column[:8]}"


def is_sorted(column: list[str], *, descending: bool) -> bool:
    """Whether cells are in order: dashes last, numbers by size, texts by their first letters."""
    present = [text for text in column if text not in ("", "-", "\N{EN DASH}", "\N{EM DASH}")]
    if column[: len(present)] != present:
        return False
    numbers = [leading_number(text) for text in present]
    if None not in numbers:
        return numbers == sorted(numbers, reverse=descending)
    # Where digits and punctuation come in, orders differ between libraries; the first letters do not.
    letters = [text[0].lower() for text in present]
    return not all("a" <= letter <= "z" for letter in letters) or letters == sorted(letters, reverse=descending)


def leading_number(text: str) -> float | None:
    """84.6 of "84.6 (84.0 to 85.2)"; None of a word, a date or a version."""
    token = re.split(r"[\s(%\N{EN DASH}]", text.replace("\N{MINUS SIGN}", "-"), maxsplit=1)[0]
    if "," in token and not re.fullmatch(r"[-+]?\d{1,3}(,\d{3})+(\.\d+)?", token):
        return None
    try:
        return float(token.replace(",", ""))
    except ValueError:
        return None


def main(arguments: list[str]) -> Any:
    """Check the folders that are named; the exit code says whether all is well."""
    problems = [problem for folder in arguments for problem in check_site(Path(folder))]
    for problem in problems:
        print(problem)
    print(f"{len(problems)} problems")
    return bool(problems)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
