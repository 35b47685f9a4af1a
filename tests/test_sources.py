"""`sources.py` and the catalogue, against a loopback server that can misbehave in every way that a real one does."""

import gzip
import hashlib
import json
import subprocess
import sys
import threading
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from biomeg_lib import catalogue, sources
from biomeg_lib.errors import BiomegError, InputError
from biomeg_lib.sources import SOURCES, describe, fetch, find, list_sources, locate, locate_all

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


# The catalogue


def test_table_is_complete_and_pinned():
    assert len({source.path for source in SOURCES.values()}) == len(SOURCES)
    for source in SOURCES.values():
        assert source.licence
        assert source.what
        assert not Path(source.path).is_absolute()
        assert ".." not in Path(source.path).parts
        if source.name == "evidence-inference":  # a generated archive: no checksum can be pinned
            assert not source.pinned
        elif source.name == "wikitext-2":
            assert len(source.git_blob) == 40
        else:
            assert len(source.sha256) == 64
            assert source.bytes
        public = not source.name.startswith("pmc-sample") and source.name != "general"
        assert source.url.startswith("https://") == public
    for name, stand_in in sources.STAND_INS.items():
        assert find(name)
        assert SOURCES[stand_in].url


def test_table_agrees_with_the_real_data(shared_data):
    for line in (shared_data / "SOURCES.tsv").read_text().splitlines()[1:]:
        path, size, digest, url, _ = line.split("\t")
        (source,) = [source for source in SOURCES.values() if source.path == path]
        assert (str(source.bytes), source.sha256, source.url) == (size, digest, url)


def test_real_data_is_found_and_verified(shared_data, monkeypatch):
    monkeypatch.setenv("BIOMEG_DATA", str(shared_data))
    monkeypatch.setenv("BIOMEG_OFFLINE", "1")
    assert locate("bert-base-cased-vocab") == shared_data / "vocab/bert-base-cased-vocab.txt"
    assert len(locate_all("pmc-sample")) == 6
    assert [file["from"] for file in describe("ncbi-disease")["files"]] == ["local"] * 3


def test_families_follow_their_owners_layout():
    (baseline,) = find("pubmed-baseline/2031/7")
    assert baseline.url == "https://ftp.ncbi.nlm.nih.gov/pubmed/baseline/pubmed31n0007.xml.gz"
    assert baseline.md5_url == f"{baseline.url}.md5"
    (package,) = find("pmc-oa-comm/2026-06-18/003")
    assert package.url.endswith("/oa_comm/xml/oa_comm_xml.PMC003xxxxxx.baseline.2026-06-18.tar.gz")
    (article,) = find("pmc-article/PMC10358571.1")
    assert article.url.endswith(".amazonaws.com/PMC10358571.1/PMC10358571.1.xml")
    assert article.md5_url.endswith(".amazonaws.com/metadata/PMC10358571.1.json")
    names = [source.name for source in find("pubmed-baseline/2026/9-11")]
    assert names == ["pubmed-baseline/2026/0009", "pubmed-baseline/2026/0010", "pubmed-baseline/2026/0011"]


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("bc5cdr-chen/train", "did you mean bc5cdr-chem/train"),
        ("pubmed-baseline/26", "pubmed-baseline/YEAR/NUMBER"),
        ("", "`biomeg fetch --list`"),
        ("@@@", "`biomeg fetch --list`"),
        ("pubmed-baseline/2026/0002-0001", "lower number first"),
        ("https:///nothing", "expected an address like"),
        ("bc5cdr-chem", "found a set of 3, as bc5cdr-chem/devel"),
    ],
)
def test_names_that_cannot_be_located(cache, name, says):
    assert says in refused(name)


@given(st.text(max_size=40))
def test_any_name_is_found_or_refused_in_one_line(name):
    for locator in (name, f"https://{name}", f"http://host/{name}"):
        try:
            found = find(locator)
        except BiomegError:
            continue
        for source in found:
            assert ".." not in Path(source.path).parts
            assert "\x00" not in source.path
            assert len(Path(source.path).name) <= 100


# Places


def test_downloads_once_then_from_the_cache(cache, server, pinned):
    path = locate(NAME)
    assert path == cache / PATH
    assert path.read_bytes() == DATA
    assert locate(NAME) == path
    assert server.asked == [PATH]
    assert files_in(cache) == [PATH]


def test_order_of_places(cache, server, pinned, tmp_path, monkeypatch):
    assert describe(NAME)["files"][0]["from"] == "download"
    monkeypatch.setattr(sources, "_downloaded", set())
    assert describe(NAME)["files"][0]["from"] == "cache"

    checkout = tmp_path / "checkout"
    checkout.mkdir()
    beside = tmp_path / "shared" / "data" / PATH
    beside.parent.mkdir(parents=True)
    beside.write_bytes(DATA)
    monkeypatch.setattr(sources, "CHECKOUT", checkout)
    assert locate(NAME) == cache / PATH  # without pyproject.toml the package is not run from a checkout
    (checkout / "pyproject.toml").touch()
    assert locate(NAME) == beside

    given_ = tmp_path / "given" / PATH
    given_.parent.mkdir(parents=True)
    given_.write_bytes(DATA)
    monkeypatch.setenv("BIOMEG_DATA", str(tmp_path / "given"))
    assert locate(NAME) == given_
    assert server.asked == [PATH]


def test_public_address_is_used_without_a_mirror(cache, server, pinned, monkeypatch):
    monkeypatch.delenv("BIOMEG_MIRROR")
    monkeypatch.setitem(SOURCES, NAME, replace(pinned, url=f"{server.url}/a/b.tsv"))
    server.files["a/b.tsv"] = DATA
    assert locate(NAME).read_bytes() == DATA
    assert server.asked == ["a/b.tsv"]


@pytest.mark.parametrize("content", [DATA[:-1], DATA[:-1] + b"x"])
def test_wrong_local_file_is_named(cache, pinned, server, tmp_path, monkeypatch, content):
    path = tmp_path / "given" / PATH
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    monkeypatch.setenv("BIOMEG_DATA", str(tmp_path / "given"))
    line = refused(NAME)
    assert line.startswith(f"{path}: expected ")
    assert "replace the file" in line
    assert not server.asked


def test_data_folder_that_is_not_there(cache, monkeypatch, tmp_path):
    monkeypatch.setenv("BIOMEG_DATA", str(tmp_path / "none"))
    assert "expected a folder" in refused(NAME)


def test_damaged_cache_is_replaced(cache, server, pinned, capsys):
    path = locate(NAME)
    path.write_bytes(b"rubbish")
    assert locate(NAME).read_bytes() == DATA
    assert "damaged" in capsys.readouterr().err
    assert server.asked == [PATH, PATH]


def test_offline_asks_nobody(cache, server, pinned, monkeypatch):
    monkeypatch.setenv("BIOMEG_OFFLINE", "1")
    assert "BIOMEG_OFFLINE is set" in refused(NAME)
    assert "BIOMEG_OFFLINE is set" in refused(BASELINE)
    assert "general" in refused("general")
    assert not server.asked
    assert not cache.exists() or not files_in(cache)


def test_import_and_list_use_no_network():
    code = (
        "import socket\n"
        "def refuse(*a, **k): raise SystemExit('network')\n"
        "socket.socket.connect = socket.getaddrinfo = refuse\n"
        "from biomeg_lib.sources import list_sources\n"
        "assert len(list_sources()) > 30"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(sources.__file__).parent.parent)


# What goes wrong on the way


def test_wrong_checksum(cache, server, pinned):
    server.files[PATH] = DATA[:-1] + b"x"
    line = refused(NAME)
    assert NAME in line
    assert pinned.sha256 in line
    assert hashlib.sha256(server.files[PATH]).hexdigest() in line
    assert not files_in(cache)


def test_not_found(cache, server, pinned):
    server.files.clear()
    line = refused(NAME)
    assert "answered 404 Not Found" in line
    assert f"BIOMEG_DATA/{PATH}" in line
    assert not files_in(cache)


def test_server_error(cache, server, pinned):
    server.files.clear()
    server.status = 503
    assert "answered 503" in refused(NAME)


@pytest.mark.parametrize("name", [NAME, BASELINE, "evidence-inference"])
def test_connection_broken_half_way(cache, server, pinned, name):
    (source,) = find(name)
    body = gzip.compress(DATA)
    server.files |= {source.path: DATA if source.pinned else body, f"{source.path}.md5": md5_line(body)}
    server.cut = {source.path}
    assert "failed or broke off" in refused(name)
    assert not files_in(cache)


def test_nobody_answers(cache, server, pinned, monkeypatch):
    server.shutdown()
    server.server_close()
    assert "failed or broke off" in refused(NAME)


def test_mirror_that_is_no_address(cache, pinned, monkeypatch):
    monkeypatch.setenv("BIOMEG_MIRROR", "/srv/mirror")
    assert "BIOMEG_MIRROR=/srv/mirror: expected an address" in refused(NAME)


def test_cache_that_cannot_be_written(cache, pinned):
    cache.write_text("a file, not a folder")
    assert "set BIOMEG_CACHE" in refused(NAME)


# Checksums that stand beside the file


def test_md5_beside_the_file(cache, server, monkeypatch):
    body = gzip.compress(DATA)
    server.files = {BASELINE_PATH: body, f"{BASELINE_PATH}.md5": md5_line(body)}
    assert locate(BASELINE).read_bytes() == body
    assert server.asked == [f"{BASELINE_PATH}.md5", BASELINE_PATH]
    records = json.loads((cache / "checksums.json").read_text())
    assert records[BASELINE_PATH]["sha256"] == hashlib.sha256(body).hexdigest()
    assert describe(BASELINE)["note"] == ""
    monkeypatch.setenv("BIOMEG_OFFLINE", "1")
    assert locate(BASELINE).read_bytes() == body


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (md5_line(b"another"), "expected md5:"),
        (md5_line(b"", "pubmed26n0002.xml.gz"), "expected a line MD5(pubmed26n0001.xml.gz)="),
        (b"<html>log in</html>", "expected a line MD5(pubmed26n0001.xml.gz)="),
        (b"\xff\xfe\x00", "expected a line MD5"),
        (None, "answered 404 Not Found"),
    ],
)
def test_md5_that_does_not_fit(cache, server, text, says):
    server.files = {BASELINE_PATH: gzip.compress(DATA)}
    if text is not None:
        server.files[f"{BASELINE_PATH}.md5"] = text
    assert says in refused(BASELINE)
    assert not files_in(cache)


def test_md5_beside_a_local_file(cache, tmp_path, monkeypatch):
    path = tmp_path / "given" / BASELINE_PATH
    path.parent.mkdir(parents=True)
    path.write_bytes(gzip.compress(DATA))
    monkeypatch.setenv("BIOMEG_DATA", str(tmp_path / "given"))
    assert locate(BASELINE) == path  # the user's own copy, without a checksum
    beside = path.with_name(path.name + ".md5")
    beside.write_bytes(md5_line(path.read_bytes()))
    assert locate(BASELINE) == path
    beside.write_bytes(md5_line(b"another"))
    assert "expected MD5" in refused(BASELINE)


def test_owner_may_replace_a_file_with_its_md5(cache, server, capsys):
    for body in (gzip.compress(DATA), gzip.compress(DATA + b"more")):
        server.files = {BASELINE_PATH: body, f"{BASELINE_PATH}.md5": md5_line(body)}
        assert locate(BASELINE).read_bytes() == body
        (cache / BASELINE_PATH).unlink()
    assert "its owner has changed it" in capsys.readouterr().err


@pytest.mark.parametrize(
    "text",
    [
        "MD5(f.xml)= {}",
        "MD5 (f.xml) = {}\n",
        "{}  f.xml\n",
        "{} *f.xml",
        '{{"xml_url": "s3://bucket/PMC1.1/f.xml?md5={}", "pdf_url": "s3://bucket/PMC1.1/g.pdf?md5=0"}}',
    ],
)
def test_forms_of_md5(text):
    digest = hashlib.md5(b"x").hexdigest()
    assert sources._parse_md5(text.format(digest.upper()), "f.xml", "where") == digest
    with pytest.raises(InputError):
        sources._parse_md5(text.format(digest), "fxxml", "where")


# First downloads


def test_first_download_is_held_to(cache, server, capsys):
    url, body = f"{server.url}/my/corpus.xml.gz?token=secret", gzip.compress(DATA)
    server.files["my/corpus.xml.gz"] = body
    path = locate(url)
    assert path.name == "corpus.xml.gz"
    said = capsys.readouterr().err
    assert hashlib.sha256(body).hexdigest() in said
    assert "no checksum is published" in said
    assert "first download" in describe(url)["note"]
    assert "secret" not in said + json.dumps(describe(url)) + (cache / "checksums.json").read_text()

    server.files["my/corpus.xml.gz"] = gzip.compress(b"changed")
    assert locate(url) == path  # the cached one still fits
    path.unlink()
    line = refused(url)
    assert hashlib.sha256(body).hexdigest() in line
    assert "checksums.json" in line
    assert files_in(cache) == ["checksums.json"]

    (cache / "checksums.json").unlink()
    assert gzip.decompress(locate(url).read_bytes()) == b"changed"


def test_a_page_instead_of_an_archive_is_not_recorded(cache, server):
    server.files["corpus.tar.gz"] = b"<html>please log in</html>"
    assert "expected gzip data" in refused(f"{server.url}/corpus.tar.gz")
    assert not files_in(cache)


@pytest.mark.parametrize("text", ["{", "[]", '{"a": 1}', '{"a": {"sha256": "short"}}', "\x00"])
def test_broken_records(cache, server, text):
    cache.mkdir()
    (cache / "checksums.json").write_text(text)
    assert "mend it or take it away" in refused(f"{server.url}/corpus.txt")


# Sets and stand-ins


def test_stand_in_is_used_and_said(cache, server, monkeypatch, capsys):
    stand_in = SOURCES["wikitext-2"]
    # The id is what `git hash-object` gives for this text.
    monkeypatch.setitem(SOURCES, "wikitext-2", replace(stand_in, git_blob="3b18e512dba79e4c8300dd08aeb37f8e728b8dad"))
    server.files[stand_in.path] = b"hello world\n"
    assert locate("general").name == "wikitext-2.train.txt"
    said = capsys.readouterr().err
    assert said.count("wikitext-2 is used for general") == 1
    told = describe("general")
    assert told["format"] == "text"
    assert told["files"][0]["name"] == "wikitext-2"
    assert "wikitext-2 is used for general" in told["note"]
    server.files[stand_in.path] = b"hello there\n"
    (cache / stand_in.path).unlink()
    assert "expected git blob 3b18e5" in refused("general")
    assert files_in(cache) == []


def test_mirror_may_hold_the_packed_form(cache, server, monkeypatch):
    for source in find("pmc-sample"):
        body = gzip.compress(source.name.encode())
        server.files[source.path] = body
        monkeypatch.setitem(
            SOURCES, source.name, replace(source, bytes=len(body), sha256=hashlib.sha256(body).hexdigest())
        )
    assert [path.name.split(".")[1][:6] for path in fetch("pmc-sample")] == [f"PMC00{i}" for i in range(6)]
    assert describe("pmc-sample")["note"] == ""


def test_public_form_of_the_articles(cache, server, monkeypatch):
    monkeypatch.delenv("BIOMEG_MIRROR")
    archive = SOURCES["evidence-inference"]
    monkeypatch.setitem(SOURCES, archive.name, replace(archive, url=f"{server.url}/tar.gz/b9831b6"))
    server.files["tar.gz/b9831b6"] = gzip.compress(b"articles")
    (path,) = locate_all("pmc-sample")
    assert path.name.endswith(".tar.gz")
    assert "the same 4,470 articles" in describe("pmc-sample")["note"]
    assert "pmc-sample has a public form" in refused("pmc-sample-003")


def test_list(cache, server, pinned):
    locate(NAME)
    asked = list(server.asked)
    rows = {row.name: row for row in list_sources()}
    assert rows[NAME].where == "cache"
    assert rows["xquad"].where == "not here"
    assert rows["pmc-sample"].url == SOURCES["evidence-inference"].url
    assert rows["pmc-sample"].bytes == sum(source.bytes for source in find("pmc-sample"))
    assert {name for name, row in rows.items() if row.where == "by name"} == set(catalogue.FAMILIES)
    assert all(row.licence for row in rows.values())
    assert server.asked == asked


def test_quiet_says_nothing(cache, server, capfd):
    server.files["corpus.txt"] = DATA
    locate(f"{server.url}/corpus.txt", quiet=True)
    assert capfd.readouterr() == ("", "")
