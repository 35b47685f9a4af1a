"""Hostile and broken files: each ends in one line that names the file and, in an archive, the member."""

import gzip
import http.server
import io
import random
import tarfile
import threading
import tracemalloc

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from biomeg_lib.corpus import untrusted
from biomeg_lib.corpus.readers import read_documents
from biomeg_lib.errors import InputError

ARTICLE = "<article><front><article-meta/></front><body><p>Some text.</p></body></article>"


def header(name: str, size: int = 0, **fields) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.size = size
    for key, value in fields.items():
        setattr(member, key, value)
    return member


def tar(*members: tuple[tarfile.TarInfo, bytes]) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for member, data in members:
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return stream.getvalue()


def noise(size: int) -> str:
    """Text that gzip cannot make small, so that a cut through the file goes through the member."""
    return random.Random(0).randbytes(size // 2).hex()


def failure(path, format: str = "jats") -> str:
    with pytest.raises(InputError) as caught:
        list(read_documents(path, format))
    message = str(caught.value)
    assert message.startswith(str(path))
    assert "expected" in message
    assert "\n" not in message
    return message


@pytest.fixture
def package(tmp_path):
    """A good package of three articles, to be damaged."""
    data = ARTICLE.replace("Some text.", noise(200_000)).encode()
    path = tmp_path / "bulk.tar.gz"
    path.write_bytes(gzip.compress(tar(*((header(f"a/PMC{i}.xml"), data) for i in range(3))), mtime=0))
    assert len(list(read_documents(path, "jats"))) == 3
    return path


def test_truncated_package(package):
    whole = package.read_bytes()
    for share in (0.2, 0.5, 0.9):
        package.write_bytes(whole[: int(len(whole) * share)])
        message = failure(package)
        assert "truncated" in message
        assert f"{package}:a/PMC" in message
    for size in (0, 1, 5, 12, len(whole) - 8, len(whole) - 1):
        package.write_bytes(whole[:size])
        failure(package)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_package_damaged_anywhere_is_an_error(package, data):
    """A cut or a changed byte in the compressed data never passes for a shorter package (its time stamp aside)."""
    whole = package.read_bytes()
    place = data.draw(st.integers(10, len(whole) - 1))
    if data.draw(st.booleans()):
        damaged = whole[:place]
    else:
        damaged = whole[:place] + bytes([whole[place] ^ data.draw(st.integers(1, 255))]) + whole[place + 1 :]
    other = package.with_name("damaged.tar.gz")
    other.write_bytes(damaged)
    failure(other)


def test_tar_cut_or_damaged_within_intact_gzip(tmp_path):
    whole = tar(*((header(f"{i}.xml"), ARTICLE.encode()) for i in range(3)))
    path = tmp_path / "bulk.tar.gz"
    for size in (0, 100, 512, 600, 1024, 1500, 2048):  # header, data and header boundaries
        path.write_bytes(gzip.compress(whole[:size]))
        failure(path)
    damaged = bytearray(whole)
    damaged[1024 + 3] ^= 1  # the name in the second header, whose checksum then fails
    path.write_bytes(gzip.compress(bytes(damaged)))
    assert "damaged" in failure(path)
    path.write_bytes(gzip.compress(whole + whole))
    assert "more data after its end" in failure(path)
    path.write_bytes(gzip.compress(whole) + gzip.compress(bytes(10240)))
    assert len(list(read_documents(path, "jats"))) == 3


def test_tar_header_bombs(tmp_path):
    path = tmp_path / "bulk.tar.gz"
    long_name = header("x", type=tarfile.GNUTYPE_LONGNAME)
    path.write_bytes(gzip.compress(tar((long_name, b"a" * (2 << 20)), (header("a.xml"), ARTICLE.encode()))))
    assert "a header of" in failure(path)
    digits = (header("x", type=tarfile.XHDTYPE), b"1" * 5000)
    path.write_bytes(gzip.compress(tar(digits, (header("a.xml"), ARTICLE.encode()))))
    assert "a header of 5000 bytes" in failure(path)
    digits = (header("x", type=tarfile.XHDTYPE), b"6 a=b\n" + b"1" * 4000)
    path.write_bytes(gzip.compress(tar(digits, (header("a.xml"), ARTICLE.encode()))))
    assert "a number of more than 64 digits" in failure(path)
    common = (header("x", type=tarfile.XGLTYPE), "".join(f"8 {key:03}=b\n" for key in range(100)).encode())
    path.write_bytes(gzip.compress(tar(common, (header("a.xml"), ARTICLE.encode()))))
    assert "too many extended headers" in failure(path)


def test_names_of_extended_headers_are_read(tmp_path):
    """In both forms; the longest ones span several blocks."""
    path = tmp_path / "bulk.tgz"
    names = [f"{'é' * length}/{'b' * length}{i}.xml" for i, length in enumerate((1, 90, 120, 200))]
    for form in (tarfile.PAX_FORMAT, tarfile.GNU_FORMAT):
        with tarfile.open(path, "w:gz", format=form, pax_headers={"comment": "x"}) as archive:
            for name in names:
                archive.addfile(header(name, len(ARTICLE)), io.BytesIO(ARTICLE.encode()))
        assert [document.id for document in read_documents(path, "jats")] == [name[:-4] for name in names]


def test_extended_headers_in_a_row(tmp_path):
    path = tmp_path / "bulk.tar.gz"
    extension, article = (header("x", type=tarfile.XHDTYPE), b"9 a=bcd\n\n"), (header("a.xml"), ARTICLE.encode())
    path.write_bytes(gzip.compress(tar(extension, extension, article, extension, extension, article)))
    assert len(list(read_documents(path, "jats"))) == 2
    for number in (3, 3000):
        path.write_bytes(gzip.compress(tar(*[extension] * number, article)))
        assert "too many extended headers" in failure(path)


def test_what_cannot_be_printed_in_a_member_name_is_escaped(tmp_path):
    path = tmp_path / "bulk.tar.gz"
    path.write_bytes(gzip.compress(tar((header("a\n\x1b[31m.xml"), ARTICLE.encode()), (header("é'.xml"), b"<html/>"))))
    documents = read_documents(path, "jats")
    assert next(documents).id == r"a\n\x1b[31m"
    with pytest.raises(InputError, match=r":é'\.xml: expected XML with the root"):
        next(documents)
    path.write_bytes(gzip.compress(tar((header("../\n\x1b\udcff.xml"), ARTICLE.encode()))))
    assert rf"{path}:../\n\x1b\udcff.xml: expected a relative" in failure(path)


@pytest.mark.parametrize(
    "name", ["../PMC1.xml", "a/../../PMC1.xml", "/etc/PMC1.xml", "a\\..\\PMC1.xml", "../notes.txt"]
)
def test_member_that_leads_elsewhere(tmp_path, name):
    path = tmp_path / "bulk.tar.gz"
    path.write_bytes(gzip.compress(tar((header("PMC0.xml"), ARTICLE.encode()), (header(name), ARTICLE.encode()))))
    assert f"{path}:{name}: expected a relative member path" in failure(path)


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE])
def test_link_or_device_member(tmp_path, kind):
    path = tmp_path / "bulk.tgz"
    path.write_bytes(gzip.compress(tar((header("PMC1.xml", type=kind, linkname="/etc/passwd"), b""))))
    assert f"{path}:PMC1.xml: expected files and folders only" in failure(path)


def test_headers_of_a_package_are_not_kept(tmp_path):
    def peak(number: int) -> int:
        path = tmp_path / f"{number}.tgz"
        path.write_bytes(gzip.compress(tar(*((header(f"{i}.txt"), b"") for i in range(number)))))
        tracemalloc.start()
        assert not list(read_documents(path, "jats"))
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    assert peak(4_000) - peak(1_000) < 300_000


def test_folders_are_skipped(tmp_path):
    path = tmp_path / "bulk.tgz"
    path.write_bytes(
        gzip.compress(tar((header("a", type=tarfile.DIRTYPE), b""), (header("a/b.xml"), ARTICLE.encode())))
    )
    assert [document.id for document in read_documents(path, "jats")] == ["a/b"]


@pytest.mark.parametrize(("name", "format"), [("a.jsonl.gz", "jsonl"), ("a.txt.gz", "text"), ("a.xml.gz", "pubmed")])
def test_gz_that_is_not_gz_or_cut(tmp_path, name, format):
    path = tmp_path / name
    whole = {
        "jsonl": '{"text": "Some text."}\n' * 10,
        "text": "Some text.\n\n" * 10,
        "pubmed": "<PubmedArticleSet>" + " " * 99 + "</PubmedArticleSet>",
    }[format].encode()
    path.write_bytes(whole)
    assert "gzip" in failure(path, format)
    zipped = gzip.compress(whole)
    for size in (0, 5, 15, len(zipped) - 4):
        path.write_bytes(zipped[:size])
        assert "truncated" in failure(path, format)
    path.write_bytes(zipped + b"rubbish")
    failure(path, format)


def test_files_that_cannot_be_read(tmp_path):
    assert "No such file" in failure(tmp_path / "absent.jsonl", "jsonl")
    (tmp_path / "folder.xml").mkdir()
    assert "directory" in failure(tmp_path / "folder.xml")


def test_xml_cut_anywhere_is_an_error(tmp_path):
    """Also between records, where everything read so far is well-formed."""
    record = "<PubmedArticle><MedlineCitation><PMID>1</PMID></MedlineCitation></PubmedArticle>"
    whole = f"<PubmedArticleSet>{record}{record}</PubmedArticleSet>".encode()
    path = tmp_path / "a.xml"
    for size in range(len(whole)):
        path.write_bytes(whole[:size])
        failure(path, "pubmed")
    path.write_bytes(whole)
    assert len(list(read_documents(path, "pubmed"))) == 2


LEVELS = "".join(f'<!ENTITY a{i} "{f"&a{i - 1};" * 10}">' for i in range(1, 12))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
@pytest.mark.parametrize(
    ("subset", "text"),
    [
        (f'<!ENTITY a0 "ha">{LEVELS}', "&a11;"),  # a billion laughs
        (f'<!ENTITY a0 "ha">{LEVELS}', "unused"),
        (f'<!ENTITY a "{"x" * 100_000}">', "&a;" * 1000),  # quadratic
        ('<!ENTITY a "harmless">', "&a;"),
        ('<!ENTITY a SYSTEM "file:///etc/passwd">', "&a;"),
        ('<!ENTITY a SYSTEM "file:///etc/passwd">', "unused"),
        ('<!ENTITY a SYSTEM "http://127.0.0.1:9/">', "&a;"),
        ('<!ENTITY % a SYSTEM "file:///etc/passwd"> %a;', "text"),
        ("<!ENTITY % a \"<!ENTITY b 'c'>\"> %a;", "&b;"),
        ('<!NOTATION n SYSTEM "n"><!ENTITY a SYSTEM "file:///etc/passwd" NDATA n>', "text"),
    ],
)
def test_entity_declarations_are_refused(tmp_path, subset, text, encoding):
    xml = f'<?xml version="1.0" encoding="{encoding}"?>\n<!DOCTYPE article [{subset}]>\n'
    data = (xml + ARTICLE.replace("Some text.", text)).encode(encoding)
    path = tmp_path / "bulk.tar.gz"
    path.write_bytes(gzip.compress(tar((header("a/PMC1.xml"), data))))
    message = failure(path)
    assert message.startswith(f"{path}:a/PMC1.xml:")
    assert "root:" not in message
    path = tmp_path / "a.xml"
    path.write_bytes(data)
    assert "root:" not in failure(path)


def test_entity_bomb_in_an_attribute(tmp_path):
    path = tmp_path / "a.xml"
    path.write_text(f'<!DOCTYPE article [<!ENTITY a0 "ha">{LEVELS}]><article id="&a11;"/>')
    failure(path)


def test_named_entities_of_a_dtd_are_refused_and_those_of_xml_are_not(tmp_path):
    path = tmp_path / "a.xml"
    doctype = '<!DOCTYPE article PUBLIC "-//NLM//DTD JATS//EN" "archivearticle.dtd">\n\n'
    path.write_text(doctype + ARTICLE.replace("Some text.", "&lt;&#945;&#x3b2;&amp;&gt;&quot;&apos;"))
    assert next(read_documents(path, "jats")).paragraphs == ("<αβ&>\"'",)
    path.write_text(doctype + ARTICLE.replace("text", "&alpha;"))
    assert "&alpha;" in failure(path)
    path.write_text(ARTICLE.replace("text", "&alpha;"))
    assert "alpha" in failure(path)


def test_external_dtd_is_neither_fetched_nor_read(tmp_path):
    requests = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            requests.append(self.path)
            self.send_error(404)

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    dtd = tmp_path / "own.dtd"
    dtd.write_text('<!ENTITY secret "leaked">')
    path = tmp_path / "a.xml"
    try:
        path.write_text(f'<!DOCTYPE article SYSTEM "http://127.0.0.1:{server.server_port}/a.dtd">{ARTICLE}')
        assert next(read_documents(path, "jats")).paragraphs == ("Some text.",)
        path.write_text(f'<!DOCTYPE article SYSTEM "{dtd.as_uri()}">{ARTICLE.replace("text", "&secret;")}')
        assert "leaked" not in failure(path)
    finally:
        server.shutdown()
        server.server_close()
    assert not requests


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", "well-formed XML"),
        (b"not XML", "well-formed XML"),
        (ARTICLE.encode() + b"<article/>", "well-formed XML"),
        (ARTICLE.replace("text", "\xff").encode("latin-1"), "well-formed XML"),
        (b"<article>" + b"<p>" * 5000, "well-formed XML"),
        (b"<PubmedArticleSet/>", "root <article> or <pmc-articleset>, found <PubmedArticleSet>"),
        (b"<html><article/></html>", "root <article> or <pmc-articleset>, found <html>"),
    ],
)
def test_other_xml(tmp_path, data, expected):
    path = tmp_path / "a.xml"
    path.write_bytes(data)
    assert expected in failure(path)
    path = tmp_path / "bulk.tar.gz"
    path.write_bytes(gzip.compress(tar((header("a.xml"), data))))
    assert f"{path}:a.xml:" in failure(path)
    assert expected in failure(path)


def test_records_have_a_largest_size(tmp_path, monkeypatch):
    monkeypatch.setattr(untrusted, "RECORD_LIMIT", 1 << 20)
    path = tmp_path / "a.xml"
    path.write_text(ARTICLE.replace("Some text.", "<b/>" * (1 << 20)))
    assert "at most 1 MiB" in failure(path)
    package = tmp_path / "bulk.tar.gz"
    package.write_bytes(gzip.compress(tar((header("a.xml"), path.read_bytes()))))
    assert "at most 1 MiB" in failure(package)
    path.write_text("a" * (2 << 20))
    assert "at most 1 MiB" in failure(path, "jsonl")
    path.write_text(("a" * 1000 + "\n") * 2000)
    assert "blank line" in failure(path, "text")


RECORD = "<PubmedArticle><MedlineCitation><PMID>1</PMID></MedlineCitation></PubmedArticle>"


@pytest.mark.parametrize("padding", [0, 5 << 20])  # parsed whole, and as it arrives
@pytest.mark.parametrize(
    ("xml", "format", "parent"),
    [
        (f"<PubmedArticleSet>%s<x>{RECORD}<j/></x></PubmedArticleSet>", "pubmed", "x"),
        (f"<PubmedArticleSet>%s<PubmedArticle>{RECORD}</PubmedArticle></PubmedArticleSet>", "pubmed", "PubmedArticle"),
        (f"<pmc-articleset>%s<x>{ARTICLE}</x></pmc-articleset>", "jats", "x"),
        (f"<article>%s{ARTICLE}</article>", "jats", "article"),
    ],
)
def test_records_stand_right_below_the_root(tmp_path, xml, format, parent, padding):
    path = tmp_path / "a.xml"
    path.write_text(xml % (" " * padding))
    assert f"right below the root only, found one in <{parent}>" in failure(path, format)


def test_what_stands_between_records_is_not_kept():
    between = "<j/>" * (1 << 16) + "text" * (1 << 16)
    data = f"<PubmedArticleSet>{f'{RECORD}{between}' * 40}</PubmedArticleSet>".encode()
    kept = [
        len(record.getparent()) + sum(len(child.tail or "") for child in record.getparent())
        for record in untrusted.xml_records(io.BytesIO(data), "a.xml", ("PubmedArticle",), ("PubmedArticleSet",))
    ]
    assert len(kept) == 40
    assert max(kept[-20:]) < 2 * untrusted.CHUNK
