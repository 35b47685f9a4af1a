"""BioASQ's JSON: all forms of exact answers, answers found in snippets, conversions and submissions."""

import copy
import json
import re
from itertools import pairwise

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from biomeg_lib.benchmarks.bioasq import (
    BioasqQuestion,
    Snippet,
    from_squad_shape,
    of_question,
    read_bioasq,
    read_submission,
    to_questions,
    write_submission,
)
from biomeg_lib.benchmarks.questions import Answer, Question, read_squad, repeats
from biomeg_lib.errors import BiomegError, InputError

TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8).filter(str.strip)
ROW = {
    "id": "5c91",
    "type": "factoid",
    "body": "Which gene?",
    "documents": ["http://www.ncbi.nlm.nih.gov/pubmed/1"],
    "concepts": None,
    "snippets": [{"text": "BRCA1 it is.", "document": "http://www.ncbi.nlm.nih.gov/pubmed/1", "beginSection": "title"}],
    "exact_answer": [["BRCA1"]],
    "ideal_answer": ["It is BRCA1."],
}
ABSENT = object()


def write(tmp_path, content):
    path = tmp_path / "bioasq.json"
    path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    return path


def row(**changes):
    """ROW with other fields, or without those that are ABSENT."""
    return {field: value for field, value in {**copy.deepcopy(ROW), **changes}.items() if value is not ABSENT}


def read_row(tmp_path, **changes):
    [question] = read_bioasq(write(tmp_path, {"questions": [row(**changes)]}))
    return question


def asked(exact, *snippets, kind="factoid", name="5c91"):
    return BioasqQuestion(name, "Which?", kind, tuple(Snippet(text, "d") for text in snippets), exact, None)


def test_a_question(tmp_path):
    assert read_row(tmp_path) == BioasqQuestion(
        id="5c91",
        body="Which gene?",
        kind="factoid",
        snippets=(Snippet("BRCA1 it is.", "http://www.ncbi.nlm.nih.gov/pubmed/1"),),
        exact=(("BRCA1",),),
        yes=None,
    )


@pytest.mark.parametrize(
    ("kind", "given", "exact"),
    [
        ("factoid", "x", (("x",),)),
        ("factoid", ["x"], (("x",),)),
        ("factoid", ["x", "y"], (("x", "y"),)),
        ("factoid", [["x", "y"]], (("x", "y"),)),
        ("factoid", [["x"], ["y"]], (("x", "y"),)),
        ("list", "x", (("x",),)),
        ("list", ["x", "y"], (("x",), ("y",))),
        ("list", [["x", "y"], ["z"]], (("x", "y"), ("z",))),
        ("list", [["x", "y"], "z"], (("x", "y"), ("z",))),
        ("factoid", ABSENT, None),
        ("list", ABSENT, None),
        ("summary", ABSENT, None),
        ("summary", "n/a", None),
    ],
)
def test_exact_answers(tmp_path, kind, given, exact):
    question = read_row(tmp_path, type=kind, exact_answer=given)
    assert (question.exact, question.yes) == (exact, None)


@pytest.mark.parametrize(
    ("given", "yes"), [("yes", True), ("Yes", True), ("NO ", False), ("no", False), (ABSENT, None)]
)
def test_yes_and_no(tmp_path, given, yes):
    question = read_row(tmp_path, type="yesno", exact_answer=given)
    assert (question.exact, question.yes) == (None, yes)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"id": ABSENT}, "questions[1]: expected text in the field id, found no such field"),
        ({"id": 5}, "questions[1]: expected text in the field id, found 5"),
        ({"id": "good"}, "questions[1] (id 'good'): expected an id once, found it again"),
        ({"body": ABSENT}, "questions[1] (id '5c91'): expected text in the field body, found no such field"),
        ({"body": " "}, "expected text in the field body, found ' '"),
        ({"body": "x\udfff"}, "expected Unicode text in the field body, found half a surrogate pair at character 1"),
        ({"type": ABSENT}, "expected text in the field type, found no such field"),
        ({"type": "open"}, "(id '5c91'): expected the type factoid, list, yesno or summary, found 'open'"),
        ({"snippets": ABSENT}, "(id '5c91'): expected a list in the field snippets, found no such field"),
        ({"snippets": []}, "(id '5c91'): expected at least one snippet, found none"),
        ({"snippets": ["x"]}, "questions[1].snippets[0]: expected an object, found 'x'"),
        ({"snippets": [{"document": "d"}]}, "questions[1].snippets[0]: expected text in the field text, found no such"),
        ({"snippets": [{"text": "t", "document": 1}]}, "snippets[0]: expected text in the field document, found 1"),
        ({"exact_answer": None}, "as exact_answer, found null"),
        ({"exact_answer": 46}, "as exact_answer, found 46"),
        ({"exact_answer": []}, "as exact_answer, found an empty list"),
        ({"exact_answer": [[]]}, "as exact_answer, found an empty list in it"),
        ({"exact_answer": {"a": 1}}, "as exact_answer, found an object"),
        ({"exact_answer": ""}, "expected text in exact_answer, found ''"),
        ({"exact_answer": ["x", ""]}, "expected text in exact_answer, found ''"),
        ({"exact_answer": ["x", 3]}, "expected text in exact_answer, found 3"),
        ({"exact_answer": [[["x"]]]}, "expected text in exact_answer, found a list"),
        ({"type": "yesno", "exact_answer": "maybe"}, "(id '5c91'): expected yes or no as exact_answer, found 'maybe'"),
        ({"type": "yesno", "exact_answer": True}, "expected yes or no as exact_answer, found true"),
        ({"type": "yesno"}, "expected yes or no as exact_answer, found a list"),
    ],
)
def test_bad_questions(tmp_path, changes, text):
    path = write(tmp_path, {"questions": [row(id="good"), row(**changes), row(id="also good")]})
    with pytest.raises(InputError, match=re.escape(text)) as caught:
        read_bioasq(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: questions[1]")
    assert "expected " in message
    assert message.isprintable()
    assert len(message) < len(str(path)) + 200
    skipped = []
    assert [question.id for question in read_bioasq(path, skipped)] == ["good", "also good"]
    assert skipped == [message]


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"{", "expected JSON"),
        (b'{"questions": "m\xe9"}', "byte 0xe9 at byte 17"),
        (b'{"questions": [NaN]}', "the number NaN"),
        (b'{"questions": ' + b"[" * 100_000, "nest too deeply"),
        (b"{}", "expected a list in the field questions, found no such field"),
        (b'{"data": []}', "expected a list in the field questions"),
        (b'{"questions": []}', "expected at least one BioASQ question"),
        (b'{"questions": [7]}', "expected"),
    ],
)
@pytest.mark.parametrize("skip", [False, True])
def test_files_of_another_kind(tmp_path, content, text, skip):
    path = write(tmp_path, content)
    with pytest.raises(InputError, match=re.escape(text)) as caught:
        read_bioasq(path, [] if skip else None)
    assert str(caught.value).startswith(f"{path}:")
    assert str(caught.value).isprintable()


@st.composite
def bioasq_questions(draw):
    kind = draw(st.sampled_from(["factoid", "list", "yesno", "summary"]))
    with_gold = draw(st.booleans())
    synonyms = st.lists(TEXT, min_size=1, max_size=3).map(tuple)
    items = {"factoid": st.tuples(synonyms), "list": st.lists(synonyms, min_size=1, max_size=3).map(tuple)}
    return BioasqQuestion(
        id=draw(TEXT),
        body=draw(TEXT),
        kind=kind,
        snippets=tuple(draw(st.lists(st.builds(Snippet, TEXT, TEXT), min_size=1, max_size=3))),
        exact=draw(items[kind]) if with_gold and kind in items else None,
        yes=draw(st.booleans()) if with_gold and kind == "yesno" else None,
    )


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(bioasq_questions(), min_size=1, max_size=4, unique_by=lambda question: question.id), st.booleans())
def test_what_is_written_is_read(tmp_path, questions, flat):
    rows = []
    for question in questions:
        snippets = [{"text": snippet.text, "document": snippet.document} for snippet in question.snippets]
        rows.append({"id": question.id, "body": question.body, "type": question.kind, "snippets": snippets})
        if question.exact is not None:
            flatten = flat and question.kind == "factoid"
            rows[-1]["exact_answer"] = question.exact[0] if flatten else question.exact
        if question.yes is not None:
            rows[-1]["exact_answer"] = "Yes" if question.yes else "No"
    assert read_bioasq(write(tmp_path, {"questions": rows})) == questions


@pytest.mark.parametrize(
    ("synonyms", "text", "found"),
    [
        (["BRCA1"], "brca1 and Brca1, not BRCA12 or xBRCA1.", ["brca1", "Brca1"]),
        (["tumour", "tumour necrosis factor"], "Tumour necrosis factor; tumour.", ["Tumour necrosis factor", "tumour"]),
        (["type 2", "2 diabetes mellitus"], "type 2 diabetes mellitus", ["2 diabetes mellitus"]),
        (["heart failure"], "Heart\n  failure", ["Heart\n  failure"]),
        (["TNF-β"], "anti-TNF-β therapy, TNF-βx", ["TNF-β"]),
        (["(R)-baclofen"], "x(R)-baclofen", ["(R)-baclofen"]),
        (["p53 (TP53)"], "the p53 (TP53)-gene", ["p53 (TP53)"]),
        (["C++", ".*"], "Cxx .* c++", [".*", "c++"]),
        (["a_b"], "a_bc a_b", ["a_b"]),
        (["insulin"], "no answer here", []),
        ([" IL-2 "], "IL-2", ["IL-2"]),
    ],
)
def test_answers_in_a_snippet(synonyms, text, found):
    [question] = to_questions(asked((tuple(synonyms),), text))
    assert [answer.text for answer in question.answers] == found
    assert all(text[answer.start :].startswith(answer.text) for answer in question.answers)
    assert not question.impossible


def test_one_question_a_snippet():
    question = asked((("a", "b"), ("c",)), "a c", "none", "B", kind="list", name="7_x")
    assert to_questions(question) == [
        Question("7_x_001", "Which?", "a c", (Answer("a", 0), Answer("c", 2))),
        Question("7_x_002", "Which?", "none", ()),
        Question("7_x_003", "Which?", "B", (Answer("B", 0),)),
    ]
    many = to_questions(asked(None, *["t"] * 1001))
    assert (many[0].id, many[-1].id, many[-1].answers) == ("5c91_001", "5c91_1001", ())
    assert {of_question(one.id) for one in many} == {"5c91"}


WORDS = st.lists(st.sampled_from(["a", "B", "ab", "A", "b"]), min_size=1, max_size=4)


@settings(max_examples=300, deadline=None)
@example([["a", "a"], ["B", "a"]], ["B", "a", "a", "a"])
@given(st.lists(WORDS, min_size=1, max_size=4), st.lists(st.sampled_from(["a", "B", "ab", "A", "b"]), max_size=12))
def test_every_occurrence_is_found(synonyms, words):
    """Compared with a search over words: what is not an answer overlaps one that is as long or longer."""
    text = " ".join(words)
    [question] = to_questions(asked((tuple(" ".join(synonym) for synonym in synonyms),), text))
    got = [(answer.start, answer.start + len(answer.text)) for answer in question.answers]
    assert all(first[1] <= second[0] for first, second in pairwise(got))
    folded = [[word.lower() for word in synonym] for synonym in synonyms]
    possible = set()
    for i in range(len(words)):
        for j in range(i + 1, len(words) + 1):
            if [word.lower() for word in words[i:j]] in folded:
                start = len(" ".join([*words[:i], ""]))
                possible.add((start, start + len(" ".join(words[i:j]))))
    assert set(got) <= possible
    for start, end in possible:
        assert any(first < end and start < last and last - first >= end - start for first, last in got)


def test_a_snippet_full_of_answers():
    [question] = to_questions(asked((("a", "a a"),), "a " * 50_000))
    assert len(question.answers) == 25_000


@pytest.mark.parametrize(
    ("name", "group"),
    [
        ("55031181e9bde69634000014_001", "55031181e9bde69634000014"),
        ("5503_1234", "5503"),
        ("5503", "5503"),
        ("a_b", "a_b"),
        ("a_1_2", "a_1"),
        ("a_", "a_"),
        ("a_1\n", "a_1\n"),
        ("a_²", "a_²"),
    ],
)
def test_ids(name, group):
    assert of_question(name) == group


def test_conversions_are_grouped(tmp_path):
    ids = ["q2_001", "q1_001", "q2_002", "alone", "q1_002"]
    rows = [{"id": name, "question": "?", "answers": [{"text": "c", "answer_start": 0}]} for name in ids]
    path = write(tmp_path, {"version": "BioASQ6b", "data": [{"paragraphs": [{"context": "c", "qas": rows}]}]})
    groups = from_squad_shape(read_squad(path))
    assert list(groups) == ["q2", "q1", "alone"]
    assert [one.id for group in groups.values() for one in group] == [ids[0], ids[2], ids[1], ids[4], ids[3]]


QUESTIONS = [asked(None, "t", kind=kind, name=kind) for kind in ("factoid", "list", "yesno", "summary")]


def test_a_submission(tmp_path):
    path = tmp_path / "folder" / "submission.json"
    ranked = {"factoid": list("abcdefg"), "list": [f"é{i}" for i in range(120)], "yesno": "Yes", "other": ["x"]}
    write_submission(path, QUESTIONS, ranked)
    assert json.loads(path.read_bytes()) == {
        "questions": [
            {"id": "factoid", "type": "factoid", "body": "Which?", "exact_answer": [[one] for one in "abcde"]},
            {"id": "list", "type": "list", "body": "Which?", "exact_answer": [[f"é{i}"] for i in range(100)]},
            {"id": "yesno", "type": "yesno", "body": "Which?", "exact_answer": "yes"},
        ]
    }
    assert [file.name for file in path.parent.iterdir()] == ["submission.json"]
    submitted = {"factoid": list("abcde"), "list": [f"é{i}" for i in range(100)], "yesno": "yes"}
    assert read_submission(path) == submitted
    write_submission(path, QUESTIONS, {**ranked, "yesno": ["no", "yes"]})
    assert read_submission(path)["yesno"] == "no"


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"factoid": ABSENT}, "expected an answer to the question factoid, found none"),
        ({"factoid": []}, "expected an answer to the question factoid, found none"),
        ({"list": ["x", " "]}, "expected answers with text to the question list, found an empty one"),
        ({"list": "abc"}, "expected a list of answers to the question list, found 'abc'"),
        ({"yesno": ABSENT}, "expected an answer to the question yesno, found none"),
        ({"yesno": ["perhaps"]}, "expected yes or no for the question yesno, found 'perhaps'"),
    ],
)
def test_an_incomplete_submission_is_not_written(tmp_path, change, text):
    answers = {"factoid": ["a"], "list": ["b"], "yesno": "yes", **change}
    ranked = {name: answer for name, answer in answers.items() if answer is not ABSENT}
    with pytest.raises(BiomegError, match=re.escape(text)):
        write_submission(tmp_path / "submission.json", QUESTIONS, ranked)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("change", "answer"),
    [
        ({"exact_answer": [["a"], ["b"]]}, ["a", "b"]),
        ({"exact_answer": [["a", "synonym"], ["b"]]}, ["a", "b"]),
        ({"exact_answer": ["a", "b"]}, ["a", "b"]),
        ({"exact_answer": "a"}, ["a"]),
        ({"exact_answer": []}, []),
        ({"exact_answer": "No"}, "no"),
        ({"exact_answer": "No", "type": "factoid"}, ["No"]),
        ({"exact_answer": "YES", "type": "yesno"}, "yes"),
    ],
)
def test_submissions_of_others(tmp_path, change, answer):
    path = write(tmp_path, {"questions": [{"id": "q", **change}, {"id": "s", "ideal_answer": "A summary."}]})
    assert read_submission(path) == {"q": answer}


@pytest.mark.parametrize(
    ("rows", "text"),
    [
        ([{"exact_answer": "a"}], "questions[0]: expected text in the field id"),
        ([{"id": "q"}, {"id": "q"}], "questions[1] (id 'q'): expected an id once"),
        ([{"id": "q", "exact_answer": {}}], "(id 'q'): expected text, or a list"),
        ([{"id": "q", "exact_answer": [[]]}], "found an empty list in it"),
        ([{"id": "q", "exact_answer": [[1]]}], "(id 'q'): expected text in exact_answer, found 1"),
        ([{"id": "q", "type": "yesno", "exact_answer": "?"}], "(id 'q'): expected yes or no"),
        ({}, "expected a list in the field questions, found an object"),
    ],
)
def test_bad_submissions(tmp_path, rows, text):
    path = write(tmp_path, {"questions": rows})
    with pytest.raises(InputError, match=re.escape(text)) as caught:
        read_submission(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(("name", "count"), [("train", 160), ("test", 80)])
def test_the_miniature(mini, name, count):
    questions = read_bioasq(mini / "bioasq" / f"{name}.json")
    assert len(questions) == count
    factoids = [question for question in questions if question.kind == "factoid"]
    assert all(len(question.exact) == 1 for question in factoids)
    assert any(len(question.exact[0]) > 1 for question in factoids)
    assert all(len(question.exact) > 1 for question in questions if question.kind == "list")
    assert {question.yes for question in questions if question.kind == "yesno"} == {True, False}
    asked_of = [one for question in factoids for one in to_questions(question)]
    assert len([one for one in asked_of if one.answers]) / len(asked_of) > 0.99
    assert max(repeats(asked_of).values()) > 5


def test_real_test_sets(shared_data, tmp_path):
    files = sorted((shared_data / "benchmarks/qa/bioasq-7b").iterdir())
    skipped = []
    sets = [read_bioasq(path, skipped) for path in files]
    assert [len(questions) for questions in sets] == [100, 100, 100, 99, 100]
    [line] = skipped  # the one published question without snippets
    assert "testset4: questions[92] (id '5c915a8becadf2e73f000009'): expected at least one snippet" in line
    everything = [question for questions in sets for question in questions]
    assert all(question.exact is None and question.yes is None for question in everything)
    pieces = [one for question in everything for one in to_questions(question)]
    assert len(pieces) == 393 + 322 + 405 + 371 + 262
    assert list(from_squad_shape(pieces)) == [question.id for question in everything]
    answers = {question.id: ["yes"] for question in everything}
    write_submission(tmp_path / "submission.json", everything, answers)
    assert len(read_submission(tmp_path / "submission.json")) == sum(q.kind != "summary" for q in everything)
