"""ChemProt: tables and JSON lines in, relations out, and the marks that a model sees."""

import csv
import json
from collections import Counter

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from biomeg_lib.benchmarks.relations import (
    CATEGORIES,
    FINE,
    MARKINGS,
    NEGATIVE,
    Relation,
    marked,
    marked_text,
    read_chemprot,
    read_chemprot_jsonl,
)
from biomeg_lib.errors import BiomegError, InputError

TITLE = "Aspirin blocks COX2."
ABSTRACT = "Kinase A.  Then aspirin and ATP synthase met COX1. Nothing else."
WHOLE = f"{TITLE} {ABSTRACT}"


def entity(name, kind, text, occurrence=0, pmid="1"):
    start = -1
    for _ in range(occurrence + 1):
        start = WHOLE.index(text, start + 1)
    return f"{pmid}\t{name}\t{kind}\t{start}\t{start + len(text)}\t{text}"


ROWS = {
    "abstracts": [f"1\t{TITLE}\t{ABSTRACT}"],
    "entities": [
        entity("T1", "CHEMICAL", "Aspirin"),
        entity("T2", "GENE-Y", "COX2"),
        entity("T3", "GENE-N", "Kinase A"),
        entity("T4", "CHEMICAL", "aspirin"),
        entity("T5", "GENE", "ATP synthase"),
        entity("T6", "CHEMICAL", "ATP"),
        entity("T7", "GENE-Y", "COX1"),
    ],
    "relations": [
        "1\tCPR:4\tY \tINHIBITOR\tArg1:T1\tArg2:T2",
        "1\tCPR:2\tN \tREGULATOR\tArg1:T4\tArg2:T7",
        "1\tCPR:2\tN \tREGULATOR\tArg1:T4\tArg2:T5",
        "1\tCPR:9\tY \tSUBSTRATE\tArg1:T4\tArg2:T5",
        "1\tCPR:3\tY \tACTIVATOR\tArg1:T4\tArg2:T5",
        "1\tCPR:6\tY \tANTAGONIST\tArg1:T6\tArg2:T2",
        "1\tCPR:10\tN \tNOT\tArg1:T1\tArg2:T7",
    ],
}


@pytest.fixture
def tables(tmp_path):
    """Writes the three tables, with other rows where given, and names them."""

    def write(**changed):
        paths = []
        for part, rows in {**ROWS, **changed}.items():
            paths.append(tmp_path / f"chemprot_x_{part}_gs.tsv")
            paths[-1].write_text("".join(f"{row}\n" for row in rows), encoding="utf-8", newline="")
        return paths

    return write


def mentions(relation):
    """The texts of chemical and gene."""
    texts = [relation.text[slice(*span)] for span in (relation.first, relation.second)]
    return tuple(texts if relation.chemical_first else reversed(texts))


def test_every_pair_of_a_sentence_is_a_relation(tables):
    crossing = []
    relations = read_chemprot(reversed(tables()), crossing=crossing)
    assert [(relation.id, *mentions(relation), relation.label) for relation in relations] == [
        ("1.T1.T2", "Aspirin", "COX2", "CPR:4"),
        ("1.T4.T5", "aspirin", "ATP synthase", "CPR:9"),  # the first evaluated one of three
        ("1.T4.T7", "aspirin", "COX1", NEGATIVE),  # in a group that is not evaluated
        ("1.T6.T5", "ATP", "ATP synthase", NEGATIVE),
        ("1.T6.T7", "ATP", "COX1", NEGATIVE),
    ]
    assert [relation.text for relation in relations] == [TITLE] + ["Then aspirin and ATP synthase met COX1."] * 4
    assert crossing == ["1.T6.T2"]


def test_sentences_that_an_entity_crosses_are_joined(tables):
    crosses = entity("T8", "CHEMICAL", "A.  Then")
    (*_, relation) = (r for r in read_chemprot(tables(entities=[*ROWS["entities"], crosses])) if ".T8.T3" in r.id)
    assert relation.text == "Kinase A.  Then aspirin and ATP synthase met COX1."
    assert mentions(relation) == ("A.  Then", "Kinase A")
    assert marked_text(relation, "markers").startswith("<< Kinase [[ A >>.  Then ]] aspirin")
    assert marked_text(relation, "anonymised").startswith("@CHEM-GENE$ aspirin")


def test_offsets_count_characters_and_not_bytes(tables):
    abstracts = ["7\tß-Ω blocks µ\U0001d538.\tNone."]
    entities = ["7\tT1\tCHEMICAL\t0\t3\tß-Ω", "7\tT2\tGENE\t11\t13\tµ\U0001d538"]
    (relation,) = read_chemprot(tables(abstracts=abstracts, entities=entities, relations=[]))
    assert marked_text(relation, "markers") == "<< ß-Ω >> blocks [[ µ\U0001d538 ]]."


@pytest.mark.parametrize(
    ("part", "row", "message"),
    [
        ("abstracts", "2\tTitle", r"expected 3 columns \(PMID, title, abstract\), found 2"),
        ("abstracts", "1\tTitle\tText", "expected a PMID once, found '1' again"),
        ("abstracts", "\tTitle\tText", "expected a PMID in the first column"),
        ("entities", entity("T1", "GENE", "COX2"), "expected an entity's id once in '1', found 'T1' again"),
        ("entities", entity("T9", "DRUG", "COX2"), "expected the type CHEMICAL or GENE-Y .* found 'DRUG'"),
        ("entities", entity("T9", "GENE", "COX2", pmid="2"), "expected the PMID of an abstract, found '2'"),
        ("entities", "1\tT9\tGENE\t15\t18\tCOX2", "expected 'COX2' at characters 15 to 18 of '1', found 'COX'"),
        ("entities", "1\tT9\tGENE\t-4\t-1\tels", "expected offsets as whole numbers, found '-4' and '-1'"),
        ("entities", "1\tT9\tGENE\t19\t15\t", "expected '' at characters 19 to 15 of '1', found ''"),
        ("entities", "1\tT9\tGENE\t15\t19", "expected 6 columns"),
        ("relations", "1\tCPR:4\tY \tINHIBITOR\tArg1:T1\tArg2:T99", "expected Arg2: and a GENE.* found 'Arg2:T99'"),
        ("relations", "1\tCPR:4\tY \tINHIBITOR\tArg1:T2\tArg2:T1", "expected Arg1: and a CHEMICAL of '1'"),
        ("relations", "1\tCPR:4\tY \tINHIBITOR\tT1\tT2", "expected Arg1: and a CHEMICAL of '1', found 'T1'"),
        ("relations", "1\tCPR:4\tY \tBLOCKER\tArg1:T1\tArg2:T2", "expected a relation of .* found 'BLOCKER'"),
        ("relations", "1\tCPR:3\tY \tINHIBITOR\tArg1:T1\tArg2:T2", "expected the group CPR:4 for INHIBITOR"),
        ("relations", "1\tCPR:2\tY \tREGULATOR\tArg1:T1\tArg2:T2", "expected N for CPR:2, found 'Y '"),
        ("relations", "2\tCPR:4\tY \tINHIBITOR\tArg1:T1\tArg2:T2", "expected the PMID of an abstract, found '2'"),
        ("relations", "1\tCPR:4\tY \tArg1:T1\tArg2:T2", "expected 6 columns"),
    ],
)
def test_bad_rows_are_refused_or_skipped(tables, part, row, message):
    good = read_chemprot(tables())
    paths = tables(**{part: [*ROWS[part], row]})
    with pytest.raises(InputError, match=message) as caught:
        read_chemprot(paths)
    assert f"_{part}_gs.tsv:{len(ROWS[part]) + 1}: " in str(caught.value)
    skipped = []
    assert read_chemprot(paths, skipped) == good
    assert skipped == [str(caught.value)]


def test_rows_about_a_skipped_record_are_skipped(tables):
    skipped = []
    entities = [row.replace("GENE-Y", "PROTEIN") for row in ROWS["entities"]]
    relations = read_chemprot(tables(entities=entities), skipped)
    assert [relation.id for relation in relations] == ["1.T4.T5", "1.T6.T5"]
    assert [line.split(":")[1] for line in skipped] == ["2", "7", "1", "2", "6", "7"]


def test_wrong_files_are_refused(tables, tmp_path):
    paths = tables()
    with pytest.raises(BiomegError, match="expected three ChemProt files, abstracts, entities, relations in their"):
        read_chemprot(paths[:2])
    with pytest.raises(
        BiomegError, match=r"found chemprot_x_abstracts_gs\.tsv, chemprot_x_entities_gs\.tsv, gold\.tsv"
    ):
        read_chemprot([*paths[:2], tmp_path / "gold.tsv"])
    paths[2].write_bytes(b"\xff")
    with pytest.raises(InputError, match=r"relations.*expected UTF-8 text, found byte 0xff"):
        read_chemprot(paths, skipped=[])
    with pytest.raises(InputError, match="expected at least one abstract, found none"):
        read_chemprot(tables(abstracts=[]), skipped=[])


def test_the_miniature(mini):
    """Relations and mentions as the standard library reads them from the tables."""
    for split, least in (("train", 200), ("devel", 50), ("test", 100)):
        paths = {part: mini / "chemprot" / f"{split}_{part}.tsv" for part in ("abstracts", "entities", "relations")}
        rows = {part: list(csv.reader(path.open(encoding="utf-8"), "excel-tab")) for part, path in paths.items()}
        texts = {(pmid, name): text for pmid, name, _, _, _, text in rows["entities"]}
        gold = {}
        for pmid, group, flag, _, first, second in rows["relations"]:
            if flag == "Y ":
                gold.setdefault(f"{pmid}.{first[5:]}.{second[5:]}", group)
        crossing = []
        relations = read_chemprot(paths.values(), crossing=crossing)
        assert not crossing
        assert {relation.id: relation.label for relation in relations if relation.label != NEGATIVE} == gold
        assert sum(relation.label == NEGATIVE for relation in relations) > least
        for relation in relations:
            pmid, chemical, gene = relation.id.split(".")
            assert mentions(relation) == (texts[pmid, chemical], texts[pmid, gene])


COUNTS = {  # of CATEGORIES
    "train": (777, 2260, 170, 235, 727),
    "dev": (552, 1103, 116, 199, 457),
    "test": (667, 1667, 198, 293, 644),
}


@pytest.mark.parametrize("split", COUNTS)
def test_real_json_lines(shared_data, split):
    path = shared_data / "benchmarks" / "re" / "chemprot" / f"{split}.jsonl"
    relations = read_chemprot_jsonl(path)
    counts = Counter(relation.label for relation in relations)
    assert tuple(counts[category] for category in CATEGORIES) == COUNTS[split]
    assert len(relations) == sum(COUNTS[split])
    for relation, line in zip(relations, path.read_text(encoding="utf-8").split("\n"), strict=False):
        assert marked_text(relation, "markers") == json.loads(line)["text"]
        assert relation.first[1] <= relation.second[0]


def test_fine_labels():
    assert set(FINE.values()) == set(CATEGORIES)
    assert [FINE[name] for name in ("DOWNREGULATOR", "AGONIST-INHIBITOR", "SUBSTRATE_PRODUCT-OF")] == [
        "CPR:4",
        "CPR:5",
        "CPR:9",
    ]
    assert not {"REGULATOR", "NOT", "MODULATOR", "COFACTOR", "PART-OF"} & set(FINE)


def json_lines(path, *records):
    path.write_text("".join(record if isinstance(record, str) else f"{json.dumps(record)}\n" for record in records))
    return path


@pytest.mark.parametrize(
    ("text", "first", "second"),
    [
        ("<< A >>>>B < [[ C ]][[", "A", "C"),
        ("x[[y << A[[1] >> z [[ [3H]C[[2]] ]].", "A[[1]", "[3H]C[[2]]"),
        ("[[ q << A >> >> B >> [[ C ]] >> D", "A", "C"),
        ("<< A [[ B ]] C >>", "A B C", "B"),
        ("<< A [[ B >> C ]]", "A B", "B C"),
        ("<< [[ A ]] >>", "A", "A"),
        ("<< A[[ >> [[ B ]]", "A[[", "B"),
    ],
)
def test_marks_among_other_brackets(tmp_path, text, first, second):
    (relation,) = read_chemprot_jsonl(json_lines(tmp_path / "x.jsonl", {"text": text, "label": "AGONIST"}))
    assert (relation.id, relation.label, relation.chemical_first) == ("x.jsonl:1", "CPR:5", None)
    assert [relation.text[slice(*span)] for span in (relation.first, relation.second)] == [first, second]
    assert marked_text(relation, "markers") == text


GOOD = {"text": "<< A >> and [[ B ]]", "label": "INHIBITOR", "metadata": []}


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ("{\n", "expected a JSON object with the strings"),
        ("[1]\n", "expected a JSON object"),
        ("[" * 100000 + "\n", "expected a JSON object"),
        ({"text": "<< A >> [[ B ]]"}, "expected a JSON object"),
        ({"text": 3, "label": "INHIBITOR"}, "expected a JSON object"),
        ({"text": "<< \ud800 >> [[ B ]]", "label": "INHIBITOR"}, "expected a JSON object"),
        ({**GOOD, "label": "NOT"}, "expected a label of UPREGULATOR, .* found 'NOT'"),
        ({**GOOD, "text": "<<A>> and [[ B ]]"}, "expected one mention in << >> and after it one in"),
        ({**GOOD, "text": "<< A >> and [[ B"}, "expected one mention"),
        ({**GOOD, "text": "[[ A ]] and << B >>"}, "expected one mention"),
        ({**GOOD, "text": "<<  >> and [[ B ]]"}, "expected one mention"),
        ({**GOOD, "text": "<< A [[ >> B ]]"}, "expected one mention"),
        ({**GOOD, "text": "<< [[  >>A ]]"}, "expected one mention"),
    ],
)
def test_bad_json_lines_are_refused_or_skipped(tmp_path, record, message):
    path = json_lines(tmp_path / "x.jsonl", GOOD, "\n", record, GOOD)
    with pytest.raises(InputError, match=rf"x\.jsonl:3: {message}"):
        read_chemprot_jsonl(path)
    skipped = []
    assert [relation.id for relation in read_chemprot_jsonl(path, skipped)] == ["x.jsonl:1", "x.jsonl:4"]
    assert len(skipped) == 1
    assert len(skipped[0]) < 500
    with pytest.raises(InputError, match="expected at least one relation"):
        read_chemprot_jsonl(json_lines(path, record), skipped)


def spans_of(text):
    return st.tuples(st.integers(0, len(text)), st.integers(0, len(text))).map(sorted).map(tuple)


@st.composite
def sentences(draw, alphabet):
    """A relation over any text, its two mentions anywhere."""
    text = draw(st.text(alphabet, min_size=1, max_size=20))
    spans = [draw(spans_of(text).filter(lambda span: text[slice(*span)].strip())) for _ in range(2)]
    first, second = sorted(spans, key=lambda span: (span[0], -span[1]))
    return Relation("x.jsonl:1", text, first, second, "CPR:4")


def there_and_back(folder, relation):
    record = {"text": marked_text(relation, "markers"), "label": "INHIBITOR"}
    return read_chemprot_jsonl(json_lines(folder / "x.jsonl", record))


@settings(max_examples=150, deadline=None)
@given(sentences("ab \té\U0001d538"))
def test_marks_of_any_two_mentions_read_back(tmp_path_factory, relation):
    assert there_and_back(tmp_path_factory.mktemp("marks"), relation) == [relation]


BRACKETS = st.text("a <>[]", max_size=6)
MENTIONS = BRACKETS.filter(lambda text: text.strip())


@settings(max_examples=200, deadline=None)
@given(BRACKETS, MENTIONS, BRACKETS, MENTIONS, BRACKETS)
def test_brackets_in_the_text_survive(tmp_path_factory, before, first, between, second, after):
    text = before + first + between + second + after
    assume(not any(mark in text for mark in ("<< ", " >>", "[[ ", " ]]")))
    start = len(before)
    start2 = start + len(first) + len(between)
    spans = (start, start + len(first)), (start2, start2 + len(second))
    relation = Relation("x.jsonl:1", text, *spans, "CPR:4")
    assert there_and_back(tmp_path_factory.mktemp("marks"), relation) == [relation]


@settings(max_examples=200, deadline=None)
@given(sentences("abc "), st.booleans(), st.sampled_from(MARKINGS))
def test_marked_spans_are_the_marked_mentions(relation, chemical_first, marking):
    relation = Relation("1.T1.T2", relation.text, relation.first, relation.second, NEGATIVE, chemical_first)
    text, spans = marked(relation, marking)
    assert marked_text(relation, marking) == text
    shown = [text[slice(*span)] for span in spans]
    if marking == "markers":
        unmarked = [part.replace("<< ", "").replace(" >>", "").replace("[[ ", "").replace(" ]]", "") for part in shown]
        assert unmarked == [relation.text[slice(*span)] for span in (relation.first, relation.second)]
        assert (shown[0][:3], shown[0][-3:], shown[1][:3], shown[1][-3:]) == ("<< ", " >>", "[[ ", " ]]")
        return
    end = max(relation.first[1], relation.second[1])
    if relation.first[1] <= relation.second[0]:
        assert shown == (["@CHEMICAL$", "@GENE$"] if chemical_first else ["@GENE$", "@CHEMICAL$"])
        between = relation.text[relation.first[1] : relation.second[0]]
        hidden = shown[0] + between + shown[1]
    else:
        assert shown == ["@CHEM-GENE$"]
        hidden = shown[0]
    assert text == relation.text[: relation.first[0]] + hidden + relation.text[end:]


def test_what_cannot_be_marked(tmp_path):
    (relation,) = read_chemprot_jsonl(json_lines(tmp_path / "x.jsonl", GOOD))
    with pytest.raises(BiomegError, match=r"x\.jsonl:1: expected to know which mention is the chemical"):
        marked_text(relation, "anonymised")
    with pytest.raises(BiomegError, match="expected the marking markers or anonymised, found 'bold'"):
        marked_text(relation, "bold")


@settings(max_examples=200, deadline=None)
@given(st.lists(st.binary(max_size=60) | st.text('ab{}[]<>":,1\t\r\n \u2028', max_size=60).map(str.encode), min_size=3))
def test_any_bytes_are_read_or_refused(tmp_path_factory, contents):
    folder = tmp_path_factory.mktemp("any")
    paths = [folder / f"{part}.tsv" for part in ROWS]
    for path, content in zip(paths, contents, strict=False):
        path.write_bytes(content)
    for read in (lambda: read_chemprot(paths), lambda: read_chemprot_jsonl(paths[0])):
        message = ""
        try:
            relations = read()
        except InputError as error:
            message = str(error)
        assert len(message.splitlines()) == 1 if message else isinstance(relations, list)
