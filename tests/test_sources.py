"""`sources.py` and the catalogue, against a loopback server: names, places, failures, sets and stand-ins."""

import base64
import gzip
import hashlib
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from source_server import BASELINE, DATA, NAME, PATH, Handler, files_in, md5_line, refused

from biomeg_lib import catalogue, sources
from biomeg_lib.errors import BiomegError
from biomeg_lib.sources import SOURCES, describe, fetch, find, list_sources, locate, locate_all

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
    updates = find("pubmed-updates/2026/1275-1276")
    assert [source.path for source in updates] == [
        f"corpora/pubmed-updates/pubmed26n{number}.xml.gz" for number in (1275, 1276)
    ]
    assert updates[0].url == "https://ftp.ncbi.nlm.nih.gov/pubmed/updatefiles/pubmed26n1275.xml.gz"


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


def test_no_more_is_taken_than_is_pinned(cache, server, pinned):
    server.files[PATH] = DATA + b"x"
    message = refused(NAME)
    assert f"is not the file wanted: expected {len(DATA):,} bytes as pinned, found more; " in message
    assert not files_in(cache)


def test_credentials_come_from_netrc(cache, server, tmp_path, monkeypatch):
    """As the message about credentials in params says."""
    sent, do_get = [], Handler.do_GET
    monkeypatch.setattr(Handler, "do_GET", lambda self: (sent.append(self.headers["Authorization"]), do_get(self)))
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login me password hunter2\n")
    monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))
    server.files["a.txt"] = b"text"
    assert locate(f"{server.url}/a.txt", quiet=True).read_bytes() == b"text"
    assert sent == [f"Basic {base64.b64encode(b'me:hunter2').decode()}"]


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


def test_what_is_given_after_registration_has_a_place_and_a_way(cache, server, tmp_path, monkeypatch):
    monkeypatch.delenv("BIOMEG_MIRROR")
    said = refused("bioasq-7b-gold")
    assert said.startswith(
        "bioasq-7b-gold: has no public address: put the file at BIOMEG_DATA/benchmarks/qa/bioasq-7b/"
    )
    assert said.endswith("(its five golden files, joined: participants-area.bioasq.org, datasets of task 7b)")
    path = tmp_path / "given" / "benchmarks" / "qa" / "bioasq-7b" / "golden7b.json"
    path.parent.mkdir(parents=True)
    path.write_text("{}")
    monkeypatch.setenv("BIOMEG_DATA", str(tmp_path / "given"))
    assert locate("bioasq-7b-gold") == path
    assert {row.name: row for row in list_sources()}["bioasq-7b-gold"].where == "local"
    assert {source.path for source in catalogue.REGISTERED.values()}.isdisjoint(s.path for s in SOURCES.values())


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
