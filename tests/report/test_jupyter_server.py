"""A reader in JupyterLab: the server that `make lab` starts, a notebook opened and run over its own interfaces."""

import json
import shutil
from collections.abc import Iterator
from typing import Any

import lxml.html
import pytest
from jupyter_lab import ROOT, Kernel, Server, serve
from nano import make_study

WIDGET = "application/vnd.jupyter.widget-view+json"
TYPED = "Aspirin lowers fever"
START = "\N{LOWER ONE EIGHTH BLOCK}"  # of a word, in SentencePiece's pieces


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    project = make_study(tmp_path_factory.mktemp("lab")).root
    shutil.copytree(ROOT / "notebooks", project / "notebooks", dirs_exist_ok=True, ignore=shutil.ignore_patterns(".*"))
    with serve(project) as started:
        yield started


@pytest.fixture(scope="module")
def read(server: Server) -> tuple[list[list[dict[str, Any]]], Kernel]:
    """The vocabulary chapter, run from top to bottom: the outputs of every cell, and the kernel it leaves."""
    cells, kernel = server.open("vocab.ipynb", "nano")
    return [kernel.run(cell) for cell in cells], kernel


def test_every_cell_of_a_chapter_runs(server, read):
    outputs, _ = read
    assert [output["ename"] + ": " + output["evalue"] for cell in outputs for output in cell if "ename" in output] == []
    shown = [output["data"] for cell in outputs for output in cell]
    assert sum("table3.csv" in data.get("text/html", "") for data in shown) == 1
    assert (server.project / "outputs" / "nano" / "tables" / "table3.csv").is_file()


def test_pieces_follow_what_is_typed(read):
    outputs, kernel = read
    (shown,) = [output["data"] for cell in outputs for output in cell if WIDGET in output.get("data", {})]
    # the front end's knowledge: every widget's state, by its comm
    states = {
        m["content"]["comm_id"]: m["content"]["data"]["state"] for m in kernel.messages if m["msg_type"] == "comm_open"
    }
    text, result = (
        next(key for key, state in states.items() if state.get("_model_name") == name)
        for name in ("TextModel", "HTMLModel")
    )
    assert states[result]["value"] == shown["text/html"]
    typed = {"method": "update", "state": {"value": TYPED}, "buffer_paths": []}
    answers = kernel.ask("comm_msg", {"comm_id": text, "data": typed})
    (table,) = [
        m["content"]["data"]["state"]["value"]
        for m in answers
        if m["msg_type"] == "comm_msg" and m["content"]["comm_id"] == result
    ]
    rows = [[cell.text for cell in row.iter("td")] for row in lxml.html.fromstring(table).iter("tr")]
    ((name, count, pieces),) = rows[1:]
    assert name == "bio"
    assert len(pieces.split(" ")) == int(count)
    assert pieces.replace(" ", "").split(START) == ["", *TYPED.split(" ")]


def test_the_front_end_has_what_shows_widgets(server):
    page = lxml.html.fromstring(server.request("GET", "lab").text)
    config = json.loads(page.get_element_by_id("jupyter-config-data").text)
    assert "@jupyter-widgets/jupyterlab-manager" in [extension["name"] for extension in config["federated_extensions"]]
