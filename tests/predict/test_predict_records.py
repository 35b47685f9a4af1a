"""JSON lines of one's own: what is read, what is refused and how it is said."""

import gzip
import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from biomeg_lib.benchmarks.pairs import SentencePair
from biomeg_lib.benchmarks.questions import Question
from biomeg_lib.benchmarks.relations import Relation, marked_text, read_chemprot_jsonl
from biomeg_lib.errors import InputError
from biomeg_lib.predict.records import asked, json_line, pair, read_lines, relation_maker

TEXT = "Aspirin inhibits COX-1."


def lines(path, *records):
    path.write_bytes("".join(json.dumps(record) + "\r\n\r\n" for record in records).encode("utf-8-sig"))
    return path


def test_relations_in_three_forms(tmp_path):
    path = lines(
        tmp_path / "own.jsonl",
        {"id": "a", "text": "<< Aspirin >> inhibits [[ COX-1 ]]."},
        {"id": 1, "text": TEXT, "first": [0, 7], "second": [17, 22], "label": "ignored"},
        {"text": TEXT, "first": [17, 22], "second": [0, 7]},
        {"id": "c", "text": TEXT, "chemical": [0, 7], "gene": [17, 22]},
        {"id": "d", "text": TEXT, "gene": [0, 7], "chemical": [17, 22]},
    )
    found = list(read_lines(path, relation_maker(kinds=False)))
    assert [one.id for one in found] == ["a", "1", "own.jsonl:5", "c", "d"]
    assert {(one.text, one.first, one.second) for one in found} == {(TEXT, (0, 7), (17, 22))}
    assert [one.chemical_first for one in found] == [None, None, None, True, False]
    assert {marked_text(one, "markers") for one in found} == {"<< Aspirin >> inhibits [[ COX-1 ]]."}


def test_mentions_within_one_another(tmp_path):
    text, outer, inner = "COX-1 inh.", [0, 9], [0, 5]
    path = lines(
        tmp_path / "own.jsonl",
        {"text": text, "first": inner, "second": outer},
        {"text": text, "first": outer, "second": inner},
        {"text": text, "gene": outer, "chemical": inner},
        {"text": text, "gene": inner, "chemical": inner},
    )
    *found, same = read_lines(path, relation_maker(kinds=False))
    assert [(one.first, one.second, one.chemical_first) for one in found] == [
        ((0, 9), (0, 5), None),
        ((0, 9), (0, 5), None),
        ((0, 9), (0, 5), False),
    ]
    assert same == Relation("own.jsonl:7", text, (0, 5), (0, 5), "", True)


def test_chemprots_own_json_lines_keep_their_ids(tmp_path):
    path = tmp_path / "test.jsonl"
    path.write_text(
        '{"text": "<< A >> stops [[ B ]]", "label": "INHIBITOR"}\n\n{"text": "<< A >> [[ B ]]", "label": "AGONIST"}\n'
    )
    found = list(read_lines(path, relation_maker(kinds=False)))
    gold = read_chemprot_jsonl(path)
    assert [(one.id, one.text, one.first, one.second) for one in found] == [
        (one.id, one.text, one.first, one.second) for one in gold
    ]


def test_pairs_and_questions(tmp_path):
    path = lines(tmp_path / "pairs.jsonl", {"id": "a", "first": "One .", "second": "Two ."})
    assert list(read_lines(path, pair)) == [SentencePair("a", "One .", "Two .", "")]
    path = lines(
        tmp_path / "own.jsonl",
        {"id": "a", "question": "Who?", "context": "He\tdid."},
        {"id": 5, "question": "Who?", "snippets": ["He did.", "She did."]},
    )
    one, two = read_lines(path, asked)
    assert (one.questions, one.snippets) == ((Question("a", "Who?", "He\tdid.", ()),), False)
    assert [(q.id, q.context) for q in two.questions] == [("5_001", "He did."), ("5_002", "She did.")]
    assert two.snippets


MARKED = "<< A >> stops [[ B ]]"
RELATION, KNOWN = relation_maker(kinds=False), relation_maker(kinds=True)
BAD = [
    (RELATION, b"nonsense", "expected a JSON object, found an error"),
    (RELATION, b"[" * 100_000, "expected a JSON object, found an error"),
    (RELATION, b"[1]", "expected an object, found a list"),
    (RELATION, b'{"text": "\xff"}', "expected UTF-8 text, found byte 0xff at byte 11 of the line"),
    (RELATION, b'{"id": "good", "text": "<< A >> [[ B ]]"}', "expected an id that no earlier line has, found 'good'"),
    (RELATION, b'{"id": 1.5, "text": "a"}', "expected text in the field id, found 1.5"),
    (RELATION, b'{"id": " ", "text": "a"}', "expected text in the field id, found ' '"),
    (RELATION, b'{"id": 1}', "expected text in the field text, found no such field"),
    (RELATION, b'{"text": "a \\ud83d"}', "half a surrogate pair"),
    (RELATION, b'{"text": "A stops B"}', "expected one mention in << >> and after it one in [[ ]], blanks inside"),
    (RELATION, b'{"text": "[[ A ]] stops << B >>"}', "expected one mention in << >>"),
    (RELATION, b'{"text": "A B", "first": [0, 1]}', "in the field second, found null"),
    (RELATION, b'{"text": "A B", "first": [0, 1], "second": [2, 4]}', "which has 3, in the field second, found [2, 4]"),
    (RELATION, b'{"text": "A B", "first": [0, 0], "second": [2, 3]}', "in the field first, found [0, 0]"),
    (RELATION, b'{"text": "A B", "first": [-3, 1], "second": [2, 3]}', "in the field first, found [-3, 1]"),
    (RELATION, b'{"text": "A B", "first": [1, 2], "second": [2, 3]}', "in the field first, found [1, 2]"),
    (RELATION, b'{"text": "A B", "first": [0, true], "second": [2, 3]}', "in the field first, found [0, true]"),
    (RELATION, b'{"text": "A B", "chemical": [0, 1]}', "in the field gene, found null"),
    (RELATION, b'{"text": "A B", "chemical": "A", "gene": "B"}', "in the field chemical, found 'A'"),
    (KNOWN, b'{"text": "<< A >> [[ B ]]"}', "the fields chemical and gene, since this run was trained with anonymised"),
    (pair, b'{"first": "a", "second": ""}', "expected text in the field second, found ''"),
    (asked, b'{"question": "Who?"}', "expected text in the field context, found no such field"),
    (asked, b'{"question": "Who?", "snippets": []}', "expected at least one snippet, found none"),
    (asked, b'{"question": "Who?", "snippets": "a"}', "expected a list in the field snippets, found 'a'"),
    (asked, b'{"question": "Who?", "snippets": ["a", 1]}', "expected text in the field snippets, found 1"),
]
GOOD = {
    "relation": {"text": MARKED, "chemical": [3, 4], "gene": [17, 18]},
    "pair": {"first": "a", "second": "b"},
    "asked": {"question": "Who?", "context": "He."},
}


@pytest.mark.parametrize(("make", "line", "message"), BAD)
def test_bad_lines_stop_or_are_skipped(tmp_path, make, line, message):
    path = tmp_path / "own.jsonl"
    good, last = (json.dumps({"id": name, **GOOD[make.__name__]}).encode() for name in ("good", "last"))
    path.write_bytes(b"\n".join([good, line, last]))
    with pytest.raises(InputError, match=f"own.jsonl:2: .*{re.escape(message)}") as raised:
        list(read_lines(path, make))
    assert "\n" not in str(raised.value)
    assert len(str(raised.value)) < 400
    skipped = []
    items = list(read_lines(path, make, skipped))
    assert [one.id for one in items] == ["good", "last"]
    assert skipped == [str(raised.value)]
    path.write_bytes(line)
    if "earlier line" not in message:
        with pytest.raises(InputError, match="expected at least one record, found only bad lines: "):
            list(read_lines(path, make, []))


def test_files_that_are_none(tmp_path):
    with pytest.raises(InputError, match=r"none\.jsonl: expected a readable file"):
        list(read_lines(tmp_path / "none.jsonl", pair))
    (tmp_path / "empty.jsonl").write_text("\n \n")
    with pytest.raises(InputError, match="expected at least one record, found none"):
        list(read_lines(tmp_path / "empty.jsonl", pair))
    data = gzip.compress(b'{"first": "a", "second": "b"}\n')
    (tmp_path / "own.jsonl.gz").write_bytes(data)
    assert len(list(read_lines(tmp_path / "own.jsonl.gz", pair))) == 1
    (tmp_path / "own.jsonl.gz").write_bytes(data[:-9])
    with pytest.raises(InputError, match="truncated"):
        list(read_lines(tmp_path / "own.jsonl.gz", pair, []))


@given(st.text())
def test_a_record_is_one_line_for_every_reader(text):
    written = json_line({"id": text})
    assert json.loads(written) == {"id": text}
    assert written.splitlines() == [written[:-1]]


@given(st.binary(max_size=60) | st.text(alphabet='{}[]":,<> tex0\\u', max_size=60).map(str.encode))
def test_any_bytes_are_read_or_refused_in_one_line(tmp_path_factory, data):
    path = tmp_path_factory.getbasetemp() / "any.jsonl"
    path.write_bytes(data)
    message = ""
    try:
        list(read_lines(path, RELATION))
    except InputError as error:
        message = str(error)
    assert len(message.splitlines()) <= 1
