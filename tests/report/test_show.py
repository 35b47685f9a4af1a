"""What notebooks show: text of any data set is escaped, and what is shown is a file first, with links to its makers."""

import lxml.html
import pandas as pd
import pytest
import yaml
from matplotlib.figure import Figure

from biomeg_lib.report.show import Show, marked
from biomeg_lib.study import load


def test_entities_are_marked():
    shown = marked([["An", "acute", "renal", "failure", "."]], [["O", "B-D", "I-D", "I-D", "O"]]).data
    assert shown == '<p>An <mark title="D">acute renal failure</mark> .</p>'


def test_entities_that_touch_are_marked_apart():
    shown = marked([["a", "b", "c"], ["d"]], [["B-X", "B-X", "I-Y"], ["O"]]).data
    assert shown == '<p><mark title="X">a</mark> <mark title="X">b</mark> <mark title="Y">c</mark></p>\n<p>d</p>'


def test_all_text_is_escaped():
    bad = "<script>alert('x')</script>"
    tag = 'B-"><script>alert(1)</script>'
    shown = marked([[bad, bad, bad]], [["O", tag, "O"]]).data
    assert "<script" not in shown
    paragraph = lxml.html.fragment_fromstring(shown)
    assert [element.tag for element in paragraph.iter()] == ["p", "mark"]
    assert paragraph.text_content() == f"{bad} {bad} {bad}"
    assert paragraph.find("mark").attrib == {"title": tag[2:]}


@pytest.fixture
def study(tmp_path):
    for folder in ("params", "notebooks"):
        (tmp_path / folder).mkdir()
    params = {"profile": "own", "title": "Own", "description": "For tests.", "seeds": [1]}
    (tmp_path / "params" / "own.yaml").write_text(yaml.safe_dump(params))
    return load(tmp_path / "params" / "own.yaml")


def hrefs(shown):
    return [link.get("href") for link in lxml.html.fragment_fromstring(shown.data, create_parent=True).iter("a")]


def test_a_table_is_saved_and_links_to_what_made_it(study):
    show = Show(study, "vocab")
    shown = show.table(pd.DataFrame({"word": ["<b>", "x"], "n": [1, 2]}), "table3", "A <caption>")
    assert study.table("table3").read_text() == "word,n\n<b>,1\nx,2\n"
    assert "<b>" not in shown.data
    assert "&lt;caption&gt;" in shown.data
    assert '<figure id="table3">' in shown.data
    # relative to outputs/<profile>/report/, where the page will be
    assert hrefs(shown) == ["../notebooks/vocab.ipynb", "../../../params/own.yaml", "../tables/table3.csv"]
    assert hrefs(show.frame(pd.DataFrame({"n": [1]}), "Not a file")) == hrefs(shown)[:2]


def test_links_lead_to_files(study):
    page = study.outputs / "report"
    shown = Show(study, "vocab").table(pd.DataFrame({"n": [1]}), "table3", "A table")
    page.mkdir()
    *_, params, table = hrefs(shown)
    assert (page / params).resolve() == study.root / "params" / "own.yaml"
    assert (page / table).resolve() == study.table("table3")
    assert (page / params).is_file()
    assert (page / table).is_file()


def test_a_figure_is_saved_and_shown(study):
    figure = Figure(figsize=(2, 2))
    figure.subplots().plot([0, 1], [0, 1])
    shown = Show(study, "vocab").figure(figure, "figure1", "A figure")
    assert study.figure("figure1").read_text().startswith("<?xml")
    assert hrefs(shown)[-1] == "../figures/figure1.svg"
    assert "A figure" in shown.data
    assert '<figure id="figure1">' in shown.data
