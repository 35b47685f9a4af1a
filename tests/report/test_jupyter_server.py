"""A reader in JupyterLab: the server that `make lab` starts, a notebook opened and run over its own interfaces."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lxml.html
import pytest
import requests
import websocket
from nano import make_study

ROOT = Path(__file__).resolve().parent.parent.parent
TOKEN = uuid.uuid4().hex
WIDGET = "application/vnd.jupyter.widget-view+json"
TYPED = "Aspirin lowers fever"
START = "\N{LOWER ONE EIGHTH BLOCK}"  # of a word, in SentencePiece's pieces


class Kernel:
    """The kernel of an open notebook, over its websocket."""

    def __init__(self, port: int, identity: str):
        self._session = uuid.uuid4().hex
        self.messages: list[dict[str, Any]] = []  # all that came on iopub
        self.socket = websocket.create_connection(
            f"ws://127.0.0.1:{port}/api/kernels/{identity}/channels?session_id={self._session}",
            header=[f"Authorization: token {TOKEN}"],
            http_no_proxy=["127.0.0.1"],
            timeout=120,
        )

    def ask(self, kind: str, content: dict[str, Any]) -> list[dict[str, Any]]:
        """Send a message on the shell channel; what came on iopub for it until the kernel is idle again."""
        identity = uuid.uuid4().hex
        header = {"msg_id": identity, "msg_type": kind, "username": "", "session": self._session, "version": "5.3"}
        message = {"header": header, "parent_header": {}, "metadata": {}, "content": content}
        self.socket.send(json.dumps({**message, "channel": "shell", "buffers": []}))
        answers = []
        while True:
            answer = json.loads(self.socket.recv())
            if answer["channel"] != "iopub" or answer["parent_header"].get("msg_id") != identity:
                continue
            answers.append(answer)
            self.messages.append(answer)
            if answer["msg_type"] == "status" and answer["content"]["execution_state"] == "idle":
                return answers

    def run(self, code: str) -> list[dict[str, Any]]:
        """Run a cell; the contents of its outputs and errors."""
        request = {"code": code, "silent": False, "store_history": True, "allow_stdin": False, "stop_on_error": True}
        shown = ("execute_result", "display_data", "error")
        return [m["content"] for m in self.ask("execute_request", request) if m["msg_type"] in shown]


class Server:
    """JupyterLab over a project's notebooks."""

    def __init__(self, project: Path, port: int):
        self.project, self.port = project, port
        self._http = requests.Session()
        self._http.trust_env = False  # no proxy to one's own machine
        self._http.headers["Authorization"] = f"token {TOKEN}"

    def request(self, method: str, path: str, **arguments: Any) -> requests.Response:
        answer = self._http.request(method, f"http://127.0.0.1:{self.port}/{path}", timeout=60, **arguments)
        answer.raise_for_status()
        return answer

    def open(self, name: str) -> tuple[list[str], Kernel]:
        """Open a notebook, set its profile, save it, start its kernel; the code cells, and the kernel."""
        notebook = self.request("GET", f"api/contents/{name}").json()["content"]
        (parameters,) = [c for c in notebook["cells"] if "parameters" in c["metadata"].get("tags", [])]
        parameters["source"] = parameters["source"].replace('profile = "smoke"', 'profile = "nano"')
        self.request("PUT", f"api/contents/{name}", json={"type": "notebook", "format": "json", "content": notebook})
        wanted = {"path": name, "name": name, "type": "notebook", "kernel": {"name": "python3"}}
        session = self.request("POST", "api/sessions", json=wanted).json()
        cells = [cell["source"] for cell in notebook["cells"] if cell["cell_type"] == "code"]
        return cells, Kernel(self.port, session["kernel"]["id"])


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    project = make_study(tmp_path_factory.mktemp("lab")).root
    shutil.copytree(ROOT / "notebooks", project / "notebooks", dirs_exist_ok=True, ignore=shutil.ignore_patterns(".*"))
    own = tmp_path_factory.mktemp("jupyter")  # the settings and kernels of whoever runs the tests are left alone
    folders = ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR")
    folders += ("JUPYTERLAB_SETTINGS_DIR", "JUPYTERLAB_WORKSPACES_DIR")
    environment = {**os.environ, **{name: str(own / name) for name in folders}}
    environment |= {"JUPYTER_TOKEN": TOKEN, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "BIOMEG_OFFLINE": "1"}
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--notebook-dir=notebooks"]
    command += ["--ServerApp.ip=127.0.0.1", f"--ServerApp.port={port}", "--ServerApp.port_retries=0"]
    log = own / "log.txt"
    with open(log, "w") as stream:
        process = subprocess.Popen(command, cwd=project, env=environment, stdout=stream, stderr=subprocess.STDOUT)
    started = Server(project, port)
    try:
        give_up = time.monotonic() + 120
        while True:
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < give_up, log.read_text()
            try:
                started.request("GET", "api/status")
                break
            except requests.RequestException:
                time.sleep(0.2)
        yield started
    finally:
        process.terminate()  # it ends its kernels first
        try:
            process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@pytest.fixture(scope="module")
def read(server: Server) -> tuple[list[list[dict[str, Any]]], Kernel]:
    """The vocabulary chapter, run from top to bottom: the outputs of every cell, and the kernel it leaves."""
    cells, kernel = server.open("vocab.ipynb")
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
