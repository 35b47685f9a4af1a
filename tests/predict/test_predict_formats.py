"""Each format read back by a small reader of its own: offsets hold, and so does as much of the text as it promises."""

import csv
import itertools
import json
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from biomeg_lib.errors import BiomegError
from biomeg_lib.predict.entities import Entity, entities_of
from biomeg_lib.predict.formats import FORMATS, write
from biomeg_lib.predict.texts import Document, read_texts, sentences, words

# --- readers --------------------------------------------------------------------------------------------------------
# Each gives {id: (text or None, [(start, end, type, mention)])}, and splits lines as carelessly as readers do.


def read_jsonl(content):
    records = [json.loads(line) for line in content.splitlines()]
    return {
        r["id"]: (r["text"], [(e["start"], e["end"], e["type"], e["text"]) for e in r["entities"]]) for r in records
    }


def read_pubtator(content):
    found = {}
    for block in filter(None, content.split("\n\n")):
        title, abstract, *rows = block.splitlines()
        (name, mark_t, title), (same, mark_a, abstract) = title.split("|", 2), abstract.split("|", 2)
        assert (name, mark_t, mark_a) == (same, "t", "a")
        rows = [row.split("\t") for row in rows]
        assert all(row[0] == name and len(row) == 5 for row in rows)
        found[name] = (f"{title} {abstract}", [(int(row[1]), int(row[2]), row[4], row[3]) for row in rows])
    return found


def read_tsv(content):
    rows = csv.DictReader(content.splitlines(), delimiter="\t", quoting=csv.QUOTE_NONE)
    found = {}
    for row in rows:
        name, text = (json.loads('"' + row[key].replace('"', '\\"') + '"') for key in ("id", "text"))
        found.setdefault(name, (None, []))[1].append((int(row["start"]), int(row["end"]), row["type"], text))
    return found


def read_ann(text, content):
    """Checks what brat does: the mention is the marked parts, joined by spaces."""
    entities = []
    for number, line in enumerate(content.splitlines(), start=1):
        name, (kind, spans), mention = (
            part if i != 1 else part.split(" ", 1) for i, part in enumerate(line.split("\t"))
        )
        parts = [tuple(map(int, span.split(" "))) for span in spans.split(";")]
        assert name == f"T{number}"
        assert mention == " ".join(text[start:end] for start, end in parts)
        assert all(text[start:end].strip() == text[start:end] != "" for start, end in parts)
        assert all(not text[end:start].strip() for (_, end), (start, _) in itertools.pairwise(parts))
        entities.append((parts[0][0], parts[-1][1], kind, mention))
    return entities


def read_brat(folder):
    found = {}
    for path in folder.glob("*.txt"):
        text = path.read_bytes().decode()
        name = re.sub("(?:%[0-9A-F]{2})+", lambda m: bytes.fromhex(m[0].replace("%", "")).decode(), path.stem)
        found[name] = (text, read_ann(text, path.with_suffix(".ann").read_bytes().decode()))
    assert len(list(folder.iterdir())) == 2 * len(found)
    return found


def content_of(path):
    return path.read_bytes().decode()


# --- documents ------------------------------------------------------------------------------------------------------


def one_entity_everywhere(document):
    """Entities of up to three words that cover all the words, across sentences, so with line ends inside."""
    spans = words(document.text)
    tags = [("B-Chemical", "I-Chemical", "I-Chemical", "B-Disease")[number % 4] for number in range(len(spans))]
    return entities_of(document.text, [spans], [tags])


DOCUMENTS = [
    Document(
        "notes",
        "\ufeffAspirin\r\nacid \t helps\u00a0\u2028 nai\u0308ve\n\n👩\u200d⚕️ patients.\x85Aspi\u00adrin \\t | end",
    ),
    Document("../..|\t%/.x\n", "\nno title\r\n\r\n\x0b x\x1cy"),
    Document(".hidden", "one line without an end of it"),
    Document("empty", ""),
    Document("Zürich 1:2", "quoted \"text'\tmore\r"),
]
PAIRS = [(document, one_entity_everywhere(document)) for document in DOCUMENTS]


def expected(pairs, with_text=True):
    return {
        document.id: (document.text if with_text else None, [(e.start, e.end, e.kind, e.text) for e in entities])
        for document, entities in pairs
        if with_text or entities
    }


def one_line(text):
    """Readers of PubTator see a space for each line end and tab."""
    return "".join(" " if character == "\t" or character.splitlines() == [""] else character for character in text)


def percent_decoded(name):
    return re.sub("(?:%[0-9A-F]{2})+", lambda m: bytes.fromhex(m[0].replace("%", "")).decode(), name)


def check_all_formats(pairs, folder):
    for format in FORMATS:
        write(iter(pairs), folder / format, format)
    assert read_jsonl(content_of(folder / "jsonl")) == expected(pairs)
    assert read_tsv(content_of(folder / "tsv")) == expected(pairs, with_text=False)
    pubtator = {percent_decoded(k): v for k, v in read_pubtator(content_of(folder / "pubtator")).items()}
    assert pubtator.keys() == {document.id for document, _ in pairs}
    for document, entities in pairs:
        text, rows = pubtator[document.id]
        extra = "" if "\n" in document.text else " "  # the joint before an abstract that is empty
        assert text == one_line(document.text) + extra
        assert rows == [(e.start, e.end, e.kind, one_line(e.text)) for e in entities]
        assert all(text[start:end] == mention for start, end, _, mention in rows)
    brat = read_brat(folder / "brat")
    assert brat.keys() == {document.id for document, _ in pairs}
    for document, entities in pairs:
        assert brat[document.id][0] == document.text
        assert [row[:3] for row in brat[document.id][1]] == [(e.start, e.end, e.kind) for e in entities]


# --- tests ----------------------------------------------------------------------------------------------------------


def test_every_format_reads_back(tmp_path):
    assert any("\r\n" in e.text for _, entities in PAIRS for e in entities)
    check_all_formats(PAIRS, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(FORMATS)


# No lone surrogates: no input has any. Ids that brat's folder tells apart whatever the case.
ID = st.text(st.one_of(st.sampled_from('./\\|%\t\n:"\u2028é 7'), st.characters(codec="utf-8")), min_size=1, max_size=8)
TEXT = st.text(
    st.one_of(
        st.sampled_from('abcA01. -,|\t\n\r\\"'),
        st.sampled_from("\u0301\u200b\u200d\ufeff\u00ad\ufe0f\U0001f469\x0b\x0c\x1c\x85\u2028\u2029\u00a0"),
        st.characters(codec="utf-8"),
    ),
    max_size=60,
)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(ID, TEXT), max_size=3, unique_by=lambda pair: pair[0].casefold()))
def test_every_format_reads_back_any_text(tmp_path_factory, documents):
    pairs = [(document, one_entity_everywhere(document)) for document in (Document(*pair) for pair in documents)]
    check_all_formats(pairs, tmp_path_factory.mktemp("formats"))


def test_golden_files(tmp_path):
    document = Document("12", "Aspirin\nacid helps\tpain.")
    pairs = [(document, [Entity("Chemical", 0, 12, "Aspirin\nacid"), Entity("Disease", 19, 23, "pain")])]
    for format in FORMATS:
        write(pairs, tmp_path / format, format)
    assert content_of(tmp_path / "brat" / "12.txt") == "Aspirin\nacid helps\tpain."
    assert content_of(tmp_path / "brat" / "12.ann") == "T1\tChemical 0 7;8 12\tAspirin acid\nT2\tDisease 19 23\tpain\n"
    assert content_of(tmp_path / "pubtator") == (
        "12|t|Aspirin\n12|a|acid helps pain.\n12\t0\t12\tAspirin acid\tChemical\n12\t19\t23\tpain\tDisease\n\n"
    )
    assert content_of(tmp_path / "tsv") == (
        "id\tstart\tend\ttype\ttext\n12\t0\t12\tChemical\tAspirin\\nacid\n12\t19\t23\tDisease\tpain\n"
    )
    assert content_of(tmp_path / "jsonl") == (
        '{"id": "12", "text": "Aspirin\\nacid helps\\tpain.", "entities": ['
        '{"start": 0, "end": 12, "text": "Aspirin\\nacid", "type": "Chemical"}, '
        '{"start": 19, "end": 23, "text": "pain", "type": "Disease"}]}\n'
    )


def test_json_lines_are_input_again(tmp_path):
    write(PAIRS, tmp_path / "out.jsonl", "jsonl")
    assert list(read_texts(tmp_path / "out.jsonl")) == DOCUMENTS


@pytest.mark.parametrize("format", FORMATS)
def test_stdout_has_what_the_file_has(tmp_path, capsysbinary, format):
    pairs = PAIRS[:1]
    write(iter(pairs), "-", format)
    path = tmp_path / ("notes.ann" if format == "brat" else format)
    write(iter(pairs), path, format)
    assert capsysbinary.readouterr().out == path.read_bytes()


def test_documents_are_written_as_they_come(capsysbinary):
    def pairs():
        for number, pair in enumerate(PAIRS):
            assert capsysbinary.readouterr().out.count(b"\n") == min(number, 1)
            yield pair

    write(pairs(), "-", "jsonl")


@pytest.mark.parametrize("format", FORMATS)
def test_what_breaks_off_leaves_nothing(tmp_path, format):
    def pairs():
        yield PAIRS[0]
        raise BiomegError("broken")

    with pytest.raises(BiomegError, match="broken"):
        write(pairs(), tmp_path / "out", format)
    assert list(tmp_path.iterdir()) == []


def test_brat_pair_of_one_document(tmp_path):
    document, entities = PAIRS[0]
    path = tmp_path / "notes.ann"
    for _ in range(2):  # again beside its own text
        write(PAIRS[:1], path, "brat")
        assert content_of(tmp_path / "notes.txt") == document.text
        assert [row[:2] for row in read_ann(document.text, content_of(path))] == [(e.start, e.end) for e in entities]
    (tmp_path / "notes.txt").write_text("gold")
    with pytest.raises(BiomegError, match=r"notes.txt: expected the text that is annotated or no file"):
        write(PAIRS[:1], path, "brat")
    assert content_of(tmp_path / "notes.txt") == "gold"


def test_brat_takes_one_document_for_stdout_and_a_pair(tmp_path, capsysbinary):
    for output in ("-", tmp_path / "x.ann"):
        with pytest.raises(BiomegError, match=f"one document for brat's {output}, found several"):
            write(PAIRS, output, "brat")
        with pytest.raises(BiomegError, match="found none"):
            write([], output, "brat")
    assert capsysbinary.readouterr().out == b""
    assert list(tmp_path.iterdir()) == []


def test_brat_overwrites_no_folder(tmp_path):
    for name in ("gold.ann", "notes"):
        (tmp_path / name).write_text("")
    with pytest.raises(BiomegError, match="expected a new or empty folder for brat, found files in it"):
        write(PAIRS, tmp_path, "brat")
    with pytest.raises(BiomegError, match="expected a new or empty folder for brat, found a file"):
        write(PAIRS, tmp_path / "notes", "brat")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["gold.ann", "notes"]
    (tmp_path / "empty").mkdir()
    write(PAIRS, tmp_path / "empty", "brat")
    assert read_brat(tmp_path / "empty").keys() == {document.id for document in DOCUMENTS}


@pytest.mark.parametrize("names", [("a", "a"), ("x" * 201,), ("/" * 67,)])
def test_brat_needs_ids_that_are_names(tmp_path, names):
    with pytest.raises(BiomegError, match="different file names of at most 200 bytes, found"):
        write([(Document(name, ""), []) for name in names], tmp_path / "out", "brat")
    assert list(tmp_path.iterdir()) == []


def test_unknown_format(tmp_path):
    with pytest.raises(BiomegError, match="jsonl, brat, pubtator, tsv, found 'xml'"):
        write(PAIRS, tmp_path / "out", "xml")


def test_entities_of_real_sentences_end_where_words_do():
    """The road of `predict`: sentences, tags, entities."""
    document = Document("n", "Aspirin helps.\r\nIL-2 does not.")
    spans = sentences(document.text)
    entities = entities_of(document.text, spans, [["B-Chemical", "O", "O"], ["B-Gene", "I-Gene", "I-Gene", *"OOO"]])
    assert [(e.start, e.end, e.text) for e in entities] == [(0, 7, "Aspirin"), (16, 20, "IL-2")]
