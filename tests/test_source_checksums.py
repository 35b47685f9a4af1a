"""Checksums of what has no pin: MD5 beside the file, and the first download, which later ones are held to."""

import gzip
import hashlib
import json

import pytest
from source_server import BASELINE, BASELINE_PATH, DATA, files_in, md5_line, refused

from biomeg_lib import checksums
from biomeg_lib.errors import InputError
from biomeg_lib.sources import describe, locate

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
        (md5_line(b"") * 100_000, "expected at most 1,048,576 bytes, found more"),
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
    assert checksums.parse_md5(text.format(digest.upper()), "f.xml", "where") == digest
    with pytest.raises(InputError):
        checksums.parse_md5(text.format(digest), "fxxml", "where")


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
