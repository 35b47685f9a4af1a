"""JupyterLab's own server on a project's notebooks.

`python tests/report/jupyter_lab.py PROFILE` opens every notebook of a finished profile and runs it from top to bottom
over the server's interfaces, as a reader would.
"""

import contextlib
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import requests
import websocket

ROOT = Path(__file__).resolve().parent.parent.parent
TOKEN = uuid.uuid4().hex


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

    def open(self, name: str, profile: str) -> tuple[list[str], Kernel]:
        """Open a notebook, set its profile, start its kernel; the code cells, and the kernel. Nothing is saved."""
        notebook = self.request("GET", f"api/contents/{name}").json()["content"]
        (parameters,) = [c for c in notebook["cells"] if "parameters" in c["metadata"].get("tags", [])]
        parameters["source"] = parameters["source"].replace('profile = "smoke"', f'profile = "{profile}"')
        wanted = {"path": name, "name": name, "type": "notebook", "kernel": {"name": "python3"}}
        session = self.request("POST", "api/sessions", json=wanted).json()
        cells = [cell["source"] for cell in notebook["cells"] if cell["cell_type"] == "code"]
        return cells, Kernel(self.port, session["kernel"]["id"])


@contextlib.contextmanager
def serve(project: Path) -> Iterator[Server]:
    """The server that `make lab` starts, on a free port, with settings of its own."""
    with tempfile.TemporaryDirectory(prefix="biomeg-jupyter-") as folder:
        own = Path(folder)  # the settings and kernels of whoever runs this are left alone
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


def main(profile: str) -> int:
    """Run all notebooks; what fails is said, and counted."""
    failed = 0
    with serve(ROOT) as server:
        for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
            begun = time.monotonic()
            cells, kernel = server.open(path.name, profile)
            errors = [
                f"{out['ename']}: {out['evalue']}" for cell in cells for out in kernel.run(cell) if "ename" in out
            ]
            kernel.socket.close()
            failed += bool(errors)
            said = "; ".join(errors) or "no error"
            print(f"{path.name}: {len(cells)} cells, {time.monotonic() - begun:.1f} s, {said}", flush=True)
    return failed


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
