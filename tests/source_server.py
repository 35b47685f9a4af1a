"""Fixtures `server`, `cache` and `pinned`: a loopback server that can misbehave in every way that a real one does."""

import hashlib
import threading
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from biomeg_lib import sources
from biomeg_lib.errors import BiomegError
from biomeg_lib.sources import SOURCES, locate

DATA = b"aspirin\tB\n" * 3000
NAME, PATH = "bc5cdr-chem/devel", "benchmarks/ner/bc5cdr-chem/devel.tsv"
BASELINE, BASELINE_PATH = "pubmed-baseline/2026/0001", "corpora/pubmed-baseline/pubmed26n0001.xml.gz"


class Server(ThreadingHTTPServer):
    """Serves `files`; `cut` are paths whose connection breaks off half-way; `asked` are the requests."""

    daemon_threads = True

    def __init__(self):
        self.files: dict[str, bytes] = {}
        self.cut: set[str] = set()
        self.status = 404
        self.asked: list[str] = []
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self):
        path = self.path.split("?")[0].lstrip("/")
        self.server.asked.append(path)
        body = self.server.files.get(path)
        if body is None:
            self.send_error(self.server.status)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: len(body) // 2] if path in self.server.cut else body)

    def log_message(self, *arguments):
        pass


@pytest.fixture
def server():
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


@pytest.fixture
def cache(tmp_path, monkeypatch, server):
    """An empty cache, no local folder, and every download from the loopback server."""
    for variable in ("BIOMEG_DATA", "BIOMEG_OFFLINE"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("BIOMEG_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("BIOMEG_MIRROR", f"{server.url}/")
    monkeypatch.setattr(sources, "CHECKOUT", tmp_path / "installed" / "elsewhere")
    monkeypatch.setattr(sources, "_said", set())
    monkeypatch.setattr(sources, "_downloaded", set())
    return tmp_path / "cache"


@pytest.fixture
def pinned(monkeypatch, server):
    """The source NAME, pinned to DATA, which the server has."""
    source = replace(SOURCES[NAME], bytes=len(DATA), sha256=hashlib.sha256(DATA).hexdigest())
    monkeypatch.setitem(SOURCES, NAME, source)
    server.files[PATH] = DATA
    return source


def md5_line(body: bytes, file: str = "pubmed26n0001.xml.gz") -> bytes:
    return f"MD5({file})= {hashlib.md5(body).hexdigest()}\n".encode()


def files_in(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def refused(name: str) -> str:
    with pytest.raises(BiomegError) as caught:
        locate(name)
    assert "secret" not in str(caught.value)
    assert "\n" not in str(caught.value)
    return str(caught.value)
