"""Tables and figures of a report: numbers as printed, text escaped, links that lead nowhere else, badges."""

import base64
import html
import re

import numpy as np
import pandas as pd
import pytest
from rendered_pages import SVG, check_harmless, code, shown

from biomeg_lib.errors import BiomegError, InputError
from biomeg_lib.report.linked import Link, linked_figure, linked_table

SOURCE = [("vocab.ipynb", "../notebooks/vocab.ipynb"), ("smoke.yaml", "../params.yaml")]


def test_linked_table(render):
    frame = pd.DataFrame(
        {
            "name <b>": ["a & b", "<i>", None],
            "rate": [3.01, np.nan, 1.5],
            "tokens": [1234567, 8, -9],
            "done": [True, False, True],
            "tiny": [0.12345, 1e-9, 2.0],
        }
    )
    made = linked_table(frame, 'rates of "x" <y>', SOURCE)
    rows = re.findall(r"<tr>(.*?)</tr>", made)
    cells = [re.findall(r"<t[dh][^>]*>(.*?)</t[dh]>", row) for row in rows]
    assert cells == [
        ["name &lt;b&gt;", "rate", "tokens", "done", "tiny"],
        ["a &amp; b", "3.01", "1,234,567", "yes", "0.123"],
        ["&lt;i&gt;", "\N{EN DASH}", "8", "no", "0.000"],
        ["\N{EN DASH}", "1.50", "-9", "yes", "2.000"],
    ]
    assert re.findall(r"text-align: (\w+)", rows[1]) == ["left", "right", "right", "left", "right"]
    text = render(code("x", shown(made)))
    page = check_harmless(text)
    assert 'rates of "x" <y> Made by vocab.ipynb, smoke.yaml.' in page.text
    assert {"href": "../params.yaml"} in page.of("a")
    assert text.count('class="scroll"') == 1
    assert "text-align: right" in text


def test_a_table_has_the_name_of_its_file(render):
    frame = pd.DataFrame({"a": [1]})
    page = check_harmless(render(code("x", shown(linked_table(frame, "c", [], "table 3")))))
    assert page.of("figure") == [{"id": "table-3"}]
    assert "<figure>" in linked_table(frame, "c", [])
    assert "Made by" not in linked_table(frame, "c", [])


def test_links_in_cells(render):
    targets = ["vocab.html#table3", "#run-a%20b", "../tables/x.csv", "a.html?x=1:2"]
    frame = pd.DataFrame({"where": [*(Link(f"<{i}>", href) for i, href in enumerate(targets)), None]})
    made = linked_table(frame, "links", [])
    page = check_harmless(render(code("x", shown(made))))
    cells = [link for link in page.of("a") if link["href"] in targets]
    assert [link["href"] for link in cells] == targets
    assert "<0> <1> <2> <3> \N{EN DASH}" in page.text
    assert frame.to_csv(index=False).splitlines() == ["where", "<0>", "<1>", "<2>", "<3>", '""'], "text in files"


@pytest.mark.parametrize(
    "href",
    [
        "",
        "javascript:alert(1)",
        " java\tscript:alert(1)",
        "https://example.org",
        "//example.org",
        "/etc/passwd",
        "\\\\example.org",
        "\t//example.org",
        "file:x",
        "data:text/html,x",
    ],
)
def test_links_that_are_not_relative_are_refused(href):
    with pytest.raises(BiomegError, match="expected a relative link"):
        Link("go", href)


def test_verdicts_are_badges_with_their_text(render):
    values = ["supported", "contradicted", "inconclusive", "not measured", "<b>", None]
    made = linked_table(pd.DataFrame({"Verdict": values, "other": values}), "c", [])
    page = check_harmless(render(code("x", shown(made))))
    badges = [one["class"] for one in page.of("span") if "verdict" in one.get("class", "")]
    assert badges == ["verdict supported", "verdict contradicted", "verdict inconclusive"]
    for value in values[:5]:
        assert page.texts.count(value) == 2


def test_linked_table_without_rows():
    made = linked_table(pd.DataFrame({"a": [], "b": []}), "nothing yet", SOURCE)
    assert "<tbody>" in made
    assert "<td" not in made


def test_linked_figure(render, tmp_path):
    path = tmp_path / "figure1.svg"
    path.write_text(SVG, encoding="utf-8")
    text = render(code("x", shown(linked_figure(path, "Pieces <1>", SOURCE))))
    page = check_harmless(text)
    (image,) = page.of("img")
    assert image["alt"] == "Pieces <1>"
    assert base64.b64decode(image["src"].split(",")[1]).decode() == SVG
    assert text.count('class="scroll"') == 1
    assert html.escape("Pieces <1>") in text
    assert page.of("figure") == [{"id": "figure1"}]
    with pytest.raises(InputError, match="no such file"):
        linked_figure(tmp_path / "none.svg", "", SOURCE)
