"""The four formats: what is written with the standard library is read back, and what cannot be read says so."""

import gzip
import io
import json
import re
import subprocess
import sys
import tarfile
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from biomeg_lib.corpus import jats
from biomeg_lib.corpus.readers import Document, read_documents
from biomeg_lib.errors import BiomegError, InputError

modest = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])

# What XML 1.0 can hold, with its own signs and every kind of space made frequent.
xml_text = st.text(
    st.one_of(
        st.characters(exclude_categories=("Cs", "Cc"), exclude_characters="\ufffe\uffff"),
        st.sampled_from("<>&\"' \t\n\u00a0\u2003\u0085\u2028é中\U0001d6fd"),
    ),
    max_size=40,
)
any_text = st.text(st.characters(exclude_categories=("Cs",)), max_size=40)


def squeeze(text: str) -> str:
    return re.sub(r"\s+", " ", text).strip()


def kept(texts: list[str]) -> tuple[str, ...]:
    return tuple(squeeze(text) for text in texts if squeeze(text))


def mixed(parent: ET.Element, tag: str, parts: list[tuple[str | None, str]]) -> ET.Element:
    """An element of `parts`, each plain text or wrapped into an inline element."""
    element = ET.SubElement(parent, tag)
    last = None
    for inline, text in parts:
        if inline is not None:
            last = ET.SubElement(element, inline)
            last.text = text
        elif last is not None:
            last.tail = (last.tail or "") + text
        else:
            element.text = (element.text or "") + text
    return element


def joined(parts: list[tuple[str | None, str]]) -> str:
    return "".join(text for _, text in parts)


def package(path: Path, members: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w:gz", compresslevel=1) as archive:
        for name, data in members.items():
            header = tarfile.TarInfo(name)
            header.size = len(data)
            archive.addfile(header, io.BytesIO(data))
    return path


def article(body: str, front: str = "", abstract: str = "") -> bytes:
    meta = f"<front><article-meta>{front}<abstract>{abstract}</abstract></article-meta></front>"
    return f"<article>{meta}<body>{body}</body></article>".encode()


def read_one(path: Path, data: bytes, format: str = "jats") -> Document:
    path.write_bytes(data)
    (document,) = read_documents(path, format)
    return document


inline_parts = st.lists(st.tuples(st.sampled_from([None, "italic", "sub", "bold"]), xml_text), max_size=4)


@modest
@given(
    articles=st.lists(
        st.tuples(inline_parts, st.lists(inline_parts, max_size=3), st.lists(inline_parts, max_size=3)), max_size=3
    ),
    encoding=st.sampled_from(["utf-8", "us-ascii", "utf-16"]),
)
def test_jats_package_reads_back(tmp_path, articles, encoding):
    members, expected = {"README.txt": b"skipped", "folder/notes.json": b"skipped"}, []
    for number, (title, abstract, body) in enumerate(articles, 1):
        root = ET.Element("article")
        meta = ET.SubElement(ET.SubElement(root, "front"), "article-meta")
        ET.SubElement(meta, "article-id", {"pub-id-type": "pmid"}).text = f"9{number}"
        ET.SubElement(meta, "article-id", {"pub-id-type": "pmc"}).text = f"{number}"
        mixed(ET.SubElement(meta, "title-group"), "article-title", title)
        summary = ET.SubElement(meta, "abstract")
        section = ET.SubElement(ET.SubElement(root, "body"), "sec")
        ET.SubElement(summary, "title").text = ET.SubElement(section, "title").text = "Not a paragraph"
        for parent, paragraphs in ((summary, abstract), (section, body)):
            for parts in paragraphs:
                mixed(parent, "p", parts)
        ending = ".xml" if number % 2 else ".nxml"
        members[f"PMC000xxxxxx/PMC{number}{ending}"] = ET.tostring(root, encoding=encoding)
        expected.append(Document(f"PMC{number}", squeeze(joined(title)), kept([joined(p) for p in abstract + body])))
    assert list(read_documents(package(tmp_path / "bulk.tar.gz", members), "jats")) == expected


@modest
@given(records=st.lists(st.tuples(inline_parts, st.lists(inline_parts, max_size=3)), max_size=4), zipped=st.booleans())
def test_pubmed_reads_back(tmp_path, records, zipped):
    root, expected = ET.Element("PubmedArticleSet"), []
    for number, (title, parts) in enumerate(records, 1):
        citation = ET.SubElement(ET.SubElement(root, "PubmedArticle"), "MedlineCitation")
        ET.SubElement(citation, "PMID", Version="1").text = f"{number}"
        content = ET.SubElement(citation, "Article")
        mixed(content, "ArticleTitle", title)
        if parts:
            abstract = ET.SubElement(content, "Abstract")
            for part in parts:
                mixed(abstract, "AbstractText", part).set("Label", "METHODS")
            ET.SubElement(abstract, "CopyrightInformation").text = "Copyright"
        expected.append(Document(f"{number}", squeeze(joined(title)), kept([joined(part) for part in parts])))
    ET.SubElement(ET.SubElement(root, "DeleteCitation"), "PMID").text = "1"
    path = tmp_path / ("pubmed.xml.gz" if zipped else "pubmed.xml")
    data = ET.tostring(root, encoding="utf-8", xml_declaration=True)
    path.write_bytes(gzip.compress(data) if zipped else data)
    assert list(read_documents(path, "pubmed")) == expected


@modest
@given(
    documents=st.lists(st.tuples(any_text.filter(bool), any_text, st.lists(any_text, max_size=3)), max_size=4),
    ascii_only=st.booleans(),
    zipped=st.booleans(),
)
def test_jsonl_paragraphs_read_back(tmp_path, documents, ascii_only, zipped):
    lines = [
        json.dumps({"id": name, "title": title, "paragraphs": texts, "source": 1}, ensure_ascii=ascii_only) + "\n"
        for name, title, texts in documents
    ]
    data = "".join(lines).encode()
    path = tmp_path / ("own.jsonl.gz" if zipped else "own.jsonl")
    path.write_bytes(gzip.compress(data) if zipped else data)
    expected = [Document(name, squeeze(title), kept(texts)) for name, title, texts in documents]
    assert list(read_documents(path, "jsonl")) == expected


@modest
@given(documents=st.lists(st.lists(any_text.map(squeeze).filter(bool), min_size=1, max_size=3), max_size=4))
def test_text_reads_back(tmp_path, documents):
    path = tmp_path / "own.txt"
    path.write_text("\n\n \t\n".join("\n".join(lines) for lines in documents), encoding="utf-8", newline="\r\n")
    found = list(read_documents(path, "text"))
    assert [document.paragraphs for document in found] == [tuple(lines) for lines in documents]
    assert all(document.id and not document.title for document in found)


def test_jsonl_text_is_cut_at_blank_lines_and_ids_come_from_the_text(tmp_path):
    path = tmp_path / "own.jsonl"
    lines = ['{"text": "One\\nline.\\n \\nTwo.\\r\\n\\r\\nThree."}', "", '{"id": 7, "title": null, "text": "Four."}']
    path.write_text("\ufeff" + "\n".join(lines), encoding="utf-8")
    first, second = read_documents(path, "jsonl")
    assert first.paragraphs == ("One line.", "Two.", "Three.")
    assert second == Document("7", "", ("Four.",))
    other = tmp_path / "elsewhere.jsonl"
    other.write_text('{"title": "", "paragraphs": ["One line.", "Two. ", "", "Three."]}\n')
    assert next(read_documents(other, "jsonl")).id == first.id != second.id


def test_jats_nested_paragraphs_are_counted_once(tmp_path):
    body = (
        "<sec><title>T</title><p>Outcomes were:<list><list-item><label>1.</label><p>death</p></list-item>"
        "<list-item><p>stroke</p></list-item></list>as before.</p>"
        "<list><list-item><p>alone</p></list-item></list></sec>"
    )
    document = read_one(tmp_path / "a.xml", article(body))
    assert document.paragraphs == ("Outcomes were: 1. death stroke as before.", "alone")
    assert document.words == 8
    assert document.text == "Outcomes were: 1. death stroke as before.\nalone"


def test_jats_leaves_out_what_is_not_running_text(tmp_path):
    body = (
        "<p>See<table-wrap><caption><p>Caption</p></caption><table><tr><td>cell</td></tr></table></table-wrap>below "
        "<fig><caption><p>Caption</p></caption></fig>and<disp-formula><mml:math xmlns:mml='http://www.w3.org/1998/Math/"
        "MathML'><mml:mi>x</mml:mi></mml:math></disp-formula>on.<fn><p>Footnote</p></fn></p>"
        "<table-wrap><table-wrap-foot><fn><p>Foot</p></fn></table-wrap-foot></table-wrap>"
        "<p>10<sup>-3</sup> H<sub>2</sub>O<!-- comment --><?pi?>, <xref ref-type='fig'>Fig. 1</xref></p>"
    )
    document = read_one(tmp_path / "a.nxml", article(body))
    assert document.paragraphs == ("See below and on.", "10-3 H2O, Fig. 1")


@pytest.mark.parametrize(
    ("markup", "text"),
    [
        ("[C1], [C2,C3]", "[1], [2,3]"),
        ("(C1; C2)", "(1; 2)"),
        ("risk<sup>C1</sup>.", "risk."),
        ("risk<sup>C1, C2-C3</sup> rose", "risk rose"),
        ("risk.C1,C2 The", "risk. The"),
        ("risk,C1 and", "risk, and"),
        ("<italic>risk</italic>C1 and", "risk and"),
        ("riskS1,S2 and", "risk and"),
        ("cm<sup>2</sup>", "cm2"),
        ("in ref. C1 and", "in ref. 1 and"),
        ("risk<xref ref-type='fig' rid='f'>1</xref>", "risk1"),
        ("by<xref ref-type='bibr' rid='r'>Smith 2004</xref>", "bySmith 2004"),
    ],
)
def test_jats_citations(tmp_path, markup, text):
    markup = re.sub(r"C(\d)", r"<xref ref-type='bibr' rid='r'>\1</xref>", markup)
    markup = re.sub(r"S(\d)", r"<xref ref-type='bibr' rid='r'><sup>\1</sup></xref>", markup)
    assert read_one(tmp_path / "a.xml", article(f"<p>{markup}</p>")).paragraphs == (text,)


def test_jats_superscript_is_looked_at_once(tmp_path, monkeypatch):
    """Not once for each of its citations, which would be quadratic."""
    looked, look = [], jats._mark_superscript
    monkeypatch.setattr(jats, "_mark_superscript", lambda parent: looked.append(parent) or look(parent))
    cited = "<xref ref-type='bibr' rid='r'>1</xref>" * 1000
    body = f"<p>a<sup>b{cited}</sup> c<sup>{cited}</sup> d<sup>e{cited}</sup></p>"
    assert read_one(tmp_path / "a.xml", article(body)).paragraphs == (f"ab{'1' * 1000} c de{'1' * 1000}",)
    assert len(looked) == 3


@pytest.mark.parametrize(
    ("ids", "expected"),
    [
        ("<article-id pub-id-type='pmc'>12</article-id><article-id pub-id-type='pmid'>3</article-id>", "PMC12"),
        ("<article-id pub-id-type='doi'>x</article-id><article-id pub-id-type='pmcid'> PMC12 </article-id>", "PMC12"),
        ("<article-id pub-id-type='pmid'>3</article-id>", "PMID3"),
        ("", "own.article"),
    ],
)
def test_jats_ids(tmp_path, ids, expected):
    path = tmp_path / "own.article.xml.gz"
    assert read_one(path, gzip.compress(article("<p>x</p>", ids))).id == expected


def test_jats_article_set_and_namespace_and_sub_articles(tmp_path):
    own = article("<p>x</p>", abstract="<p>y</p>").decode()
    own = own.replace("</article>", "<sub-article><body><p>Review</p></body></sub-article></article>")
    data = f"<pmc-articleset xmlns='https://jats.example/'>{own}{own}</pmc-articleset>"
    path = tmp_path / "set.xml"
    path.write_text(data)
    for file in (path, package(tmp_path / "bulk.tgz", {"set.xml": data.encode()})):
        found = [(document.id, document.paragraphs) for document in read_documents(file, "jats")]
        assert found == [("set", ("y", "x")), ("set-2", ("y", "x"))]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (b"{", "JSON object"),
        (b"[1]", "JSON object on the line, found list"),
        (b"[" * 100_000, "JSON object"),
        (b"{}", "`text`"),
        (b'{"text": 1}', "`text`"),
        (b'{"paragraphs": ["a", 1]}', "`paragraphs`"),
        (b'{"paragraphs": "a"}', "`paragraphs`"),
        (b'{"text": "a", "title": 1}', "`title`"),
        (b'{"text": "a", "id": 1.5}', "`id`"),
        (b'{"text": "a", "id": true}', "`id`"),
        (b'{"text": "\\ud800"}', "surrogate"),
        (b'{"text": "a", "id": "\\udfff"}', "surrogate"),
        (b'{"text": "\xff"}', "UTF-8"),
    ],
)
def test_bad_json_line_is_named(tmp_path, line, expected):
    path = tmp_path / "own.jsonl"
    path.write_bytes(b'{"text": "fine"}\n\n' + line + b'\n{"text": "fine"}\n')
    with pytest.raises(InputError, match=re.escape(expected)) as caught:
        list(read_documents(path, "jsonl"))
    assert str(caught.value).startswith(f"{path}:3: expected")
    assert "\n" not in str(caught.value)


def test_bad_utf8_in_text_is_named(tmp_path):
    path = tmp_path / "own.txt.gz"
    path.write_bytes(gzip.compress("ä\n\n".encode() + "é\n".encode("latin-1")))
    with pytest.raises(InputError, match=r"own\.txt\.gz:3: expected UTF-8"):
        list(read_documents(path, "text"))


def test_pubmed_record_without_pmid_is_an_error(tmp_path):
    path = tmp_path / "p.xml"
    path.write_text("<PubmedArticleSet>\n<PubmedArticle><MedlineCitation/></PubmedArticle></PubmedArticleSet>")
    with pytest.raises(InputError, match=r"p\.xml:2: expected a <PMID>"):
        list(read_documents(path, "pubmed"))


def test_pubmed_formulae_are_left_out(tmp_path):
    text = "at<DispFormula>x</DispFormula>rest <mml:math xmlns:mml='http://www.w3.org/1998/Math/MathML'>y</mml:math>."
    record = (
        f"<Article><ArticleTitle>T</ArticleTitle><Abstract><AbstractText>{text}</AbstractText></Abstract></Article>"
    )
    data = f"<PubmedArticleSet><PubmedArticle><MedlineCitation><PMID>1</PMID>{record}</MedlineCitation></PubmedArticle>"
    document = read_one(tmp_path / "P.XML.GZ", gzip.compress(f"{data}</PubmedArticleSet>".encode()), "pubmed")
    assert document == Document("1", "T", ("at rest .",))


def test_unknown_format_and_unknown_name(tmp_path):
    with pytest.raises(BiomegError, match="jats, pubmed, jsonl, text"):
        read_documents(tmp_path / "x", "csv")
    with pytest.raises(InputError, match="nxml"):
        list(read_documents(tmp_path / "x.zip", "jats"))


MEMORY = """
import re, sys
from pathlib import Path
from biomeg_lib.corpus.readers import read_documents
number = sum(1 for _ in read_documents(Path(sys.argv[1]), sys.argv[2]))
print(number, re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1])
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc")
@pytest.mark.parametrize("format", ["jats", "pubmed", "jsonl", "text"])
def test_memory_does_not_grow_with_the_file(tmp_path, format):
    """Peak memory of a process of its own, since libxml2's is not Python's: 1,000 against 4,000 documents."""

    def write(number: int) -> Path:
        text = "Some words about a gene. " * 240
        if format == "jats":
            members = {f"a/{i}.xml": article(f"<p>{i} {text}</p>") for i in range(number)}
            return package(tmp_path / f"{number}.tar.gz", members)
        if format == "pubmed":
            record = (
                "<PubmedArticle><MedlineCitation><PMID>{}</PMID><Article><Abstract><AbstractText>{}</AbstractText>"
                "</Abstract></Article></MedlineCitation></PubmedArticle>\n"
            )
            data = f"<PubmedArticleSet>{''.join(record.format(i, text) for i in range(number))}</PubmedArticleSet>"
        elif format == "jsonl":
            data = "".join(json.dumps({"id": i, "text": text}) + "\n" for i in range(number))
        else:
            data = "".join(f"{i} {text}\n\n" for i in range(number))
        path = tmp_path / f"{number}.{'xml' if format == 'pubmed' else format}"
        path.write_text(data)
        return path

    def peak(number: int) -> int:
        command = [sys.executable, "-c", MEMORY, write(number), format]
        found, kilobytes = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
        assert int(found) == number
        return int(kilobytes)

    assert peak(4_000) - peak(1_000) < 4_000  # the three quarters more are 18 MB of text


def test_real_package_agrees_with_a_plain_reading(shared_data):
    """Ids, paragraph counts and letters of one package against a recursive reading with ElementTree."""
    path = shared_data / "corpora" / "pmc" / "oa_comm_xml.PMC000xxxxxx.sample.tar.gz"
    if not path.is_file():
        pytest.skip(f"no {path}")
    dropped = {
        "table-wrap",
        "fig",
        "disp-formula",
        "inline-formula",
        "fn",
        "graphic",
        "media",
        "supplementary-material",
    }
    dropped |= {"caption", "inline-graphic", "{http://www.w3.org/1998/Math/MathML}math"}

    def text(element: ET.Element) -> str:
        inner = "" if element.tag in dropped else (element.text or "") + "".join(map(text, element))
        return inner + (element.tail or "")

    def paragraphs(element: ET.Element) -> list[str]:
        if element.tag in dropped:
            return []
        if element.tag == "p":
            return [text(element).removesuffix(element.tail or "") if element.tail else text(element)]
        return [found for child in element for found in paragraphs(child)]

    def letters(texts) -> str:
        return re.sub(r"[^A-Za-z]", "", "".join(texts))

    found = {document.id: document for document in read_documents(path, "jats")}
    words = plain_words = 0
    with tarfile.open(path) as archive:
        members = [member for member in archive if member.name.endswith(".xml")]
        assert len(found) == len(members) == 68
        for member in members:
            root = ET.parse(archive.extractfile(member)).getroot()
            number = root.find(".//article-id[@pub-id-type='pmc']").text
            document = found[f"PMC{number.removeprefix('PMC')}"]
            meta, body = root.find("front/article-meta"), root.find("body")
            expected = [p for part in (*meta.findall("abstract"), body) for p in paragraphs(part) if p.strip()]
            assert len(document.paragraphs) == len(expected)
            assert letters(document.paragraphs) == letters(expected)
            words += document.words
            plain_words += sum(len(p.split()) for p in expected)
    assert words == pytest.approx(plain_words, rel=0.01)
