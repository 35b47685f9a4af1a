"""SQuAD's JSON: what is read, what is refused with one line that names the record, and counts of repeated pairs."""

import copy
import json
import math
import re

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from biomeg_lib.benchmarks.questions import Answer, Question, read_squad, repeats
from biomeg_lib.corpus import untrusted
from biomeg_lib.errors import InputError

TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12).filter(str.strip)
CONTEXT = "Aspirin inhibits COX-1."
GOOD = {
    "version": "v2.0",
    "data": [
        {
            "title": "Aspirin",
            "paragraphs": [
                {
                    "context": CONTEXT,
                    "qas": [
                        {
                            "id": "q1",
                            "question": "What does aspirin inhibit?",
                            "is_impossible": False,
                            "answers": [{"text": "COX-1", "answer_start": 17}, {"text": "COX", "answer_start": 17}],
                        },
                        {
                            "id": "q2",
                            "question": "What does aspirin induce?",
                            "is_impossible": True,
                            "answers": [],
                            "plausible_answers": [{"text": "COX-1", "answer_start": 3}],
                        },
                    ],
                }
            ],
        }
    ],
}
FIRST = Question("q1", "What does aspirin inhibit?", CONTEXT, (Answer("COX-1", 17), Answer("COX", 17)))
SECOND = Question("q2", "What does aspirin induce?", CONTEXT, (), impossible=True)
QUESTION = ["data", 0, "paragraphs", 0, "qas", 0]
ANSWER = [*QUESTION, "answers", 0]
ABSENT = object()


def write(tmp_path, content):
    path = tmp_path / "squad.json"
    path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    return path


def changed(keys, value):
    """GOOD with another value, or none, at one place."""
    result = copy.deepcopy(GOOD)
    place = result
    for key in keys[:-1]:
        place = place[key]
    if value is ABSENT:
        del place[keys[-1]]
    else:
        place[keys[-1]] = value
    return result


def assert_one_line(message, path):
    assert message.startswith(f"{path}: ")
    assert "expected " in message
    assert "found" in message
    assert message.isprintable()
    assert len(message) < len(str(path)) + 300


def test_both_versions(tmp_path):
    assert read_squad(write(tmp_path, GOOD)) == [FIRST, SECOND]
    first = copy.deepcopy(GOOD["data"][0]["paragraphs"][0])
    del first["qas"][0]["is_impossible"], first["qas"][1]
    assert read_squad(write(tmp_path, {"data": [{"paragraphs": [first]}]})) == [FIRST]


def test_accepted_variants(tmp_path):
    [question, _] = read_squad(write(tmp_path, changed([*QUESTION, "id"], 262)))
    assert question.id == "262"
    assert read_squad(write(tmp_path, b"\xef\xbb\xbf" + json.dumps(GOOD).encode())) == [FIRST, SECOND]
    assert read_squad(write(tmp_path, changed(["data", 0, "paragraphs", 0, "qas", 1, "answers"], ABSENT)))[1] == SECOND
    empty = changed(["data", 0, "paragraphs"], [*GOOD["data"][0]["paragraphs"], {"context": "Nothing.", "qas": []}])
    assert read_squad(write(tmp_path, empty)) == [FIRST, SECOND]


@pytest.mark.parametrize("answers", [ABSENT, []])
def test_questions_to_be_answered(tmp_path, answers):
    path = write(tmp_path, changed([*QUESTION, "answers"], answers))
    assert read_squad(path, gold=False) == [Question("q1", FIRST.question, CONTEXT, ()), SECOND]
    with pytest.raises(InputError, match=r"qas\[0\] \(id 'q1'\): expected"):
        read_squad(path)


def test_answers_are_checked_without_gold(tmp_path):
    with pytest.raises(InputError, match="at character 16"):
        read_squad(write(tmp_path, changed([*ANSWER, "answer_start"], 16)), gold=False)


@pytest.mark.parametrize(
    ("keys", "value", "text"),
    [
        (["data", 0], "x", "data[0]: expected an object, found 'x'"),
        (["data", 0, "paragraphs"], ABSENT, "data[0]: expected a list in the field paragraphs, found no such field"),
        (["data", 0, "paragraphs", 0], [], "data[0].paragraphs[0]: expected an object, found an empty list"),
        (
            ["data", 0, "paragraphs", 0, "context"],
            ABSENT,
            "paragraphs[0]: expected text in the field context, found no",
        ),
        (["data", 0, "paragraphs", 0, "context"], 7, "expected text in the field context, found 7"),
        (["data", 0, "paragraphs", 0, "context"], "\n ", "found '\\n '"),
        (["data", 0, "paragraphs", 0, "qas"], {}, "paragraphs[0]: expected a list in the field qas, found an object"),
        (QUESTION, None, "paragraphs[0].qas[0]: expected an object, found null"),
        ([*QUESTION, "id"], ABSENT, "qas[0]: expected text in the field id, found no such field"),
        ([*QUESTION, "id"], True, "expected text in the field id, found true"),
        ([*QUESTION, "id"], 1.5, "expected text in the field id, found 1.5"),
        ([*QUESTION, "id"], "", "expected text in the field id, found ''"),
        ([*QUESTION, "question"], ABSENT, "qas[0] (id 'q1'): expected text in the field question, found no such field"),
        ([*QUESTION, "question"], ["x"], "expected text in the field question, found a list"),
        ([*QUESTION, "question"], "a\ud800b", "found half a surrogate pair at character 1"),
        (
            [*QUESTION, "is_impossible"],
            "no",
            "(id 'q1'): expected true or false in the field is_impossible, found 'no'",
        ),
        ([*QUESTION, "is_impossible"], True, "(id 'q1'): expected no answers to an impossible question, found 'COX-1'"),
        ([*QUESTION, "answers"], ABSENT, "(id 'q1'): expected a list in the field answers, found no such field"),
        ([*QUESTION, "answers"], [], "(id 'q1'): expected an answer, since the question is not impossible, found none"),
        ([*QUESTION, "answers"], {"text": "x"}, "expected a list in the field answers, found an object"),
        (ANSWER, "COX-1", "qas[0].answers[0]: expected an object, found 'COX-1'"),
        ([*ANSWER, "text"], ABSENT, "answers[0]: expected text in the field text, found no such field"),
        ([*ANSWER, "text"], "", "answers[0]: expected text in the field text, found ''"),
        (
            [*ANSWER, "answer_start"],
            ABSENT,
            "expected a whole number of at least 0 in the field answer_start, found no",
        ),
        ([*ANSWER, "answer_start"], "17", "in the field answer_start, found '17'"),
        ([*ANSWER, "answer_start"], 17.0, "in the field answer_start, found 17.0"),
        ([*ANSWER, "answer_start"], False, "in the field answer_start, found false"),
        ([*ANSWER, "answer_start"], -6, "in the field answer_start, found -6"),
        (
            [*ANSWER, "answer_start"],
            16,
            "(id 'q1'): expected the answer 'COX-1' at character 16 of the context, found ' COX-'",
        ),
        ([*ANSWER, "answer_start"], 21, "expected the answer 'COX-1' at character 21 of the context, found '1.'"),
        ([*ANSWER, "answer_start"], 99, "at character 99 of the context, found a context of 23 characters"),
        ([*ANSWER, "text"], "cox-1", "expected the answer 'cox-1' at character 17 of the context, found 'COX-1'"),
    ],
)
def test_bad_records(tmp_path, keys, value, text):
    path = write(tmp_path, changed(keys, value))
    with pytest.raises(InputError, match=re.escape(text)) as caught:
        read_squad(path)
    assert_one_line(str(caught.value), path)
    other = {"context": "Other.", "qas": [{"id": "q3", "question": "?", "answers": [{"text": "O", "answer_start": 0}]}]}
    bad = changed(keys, value)
    bad["data"].append({"paragraphs": [other]})
    skipped = []
    read = read_squad(write(tmp_path, bad), skipped)
    assert skipped == [str(caught.value)]
    assert FIRST not in read
    assert read[-1].id == "q3"
    assert (SECOND in read) == (len(keys) > 5)


def test_repeated_id(tmp_path):
    path = write(tmp_path, changed(["data", 0, "paragraphs", 0, "qas", 1, "id"], "q1"))
    with pytest.raises(InputError, match=r"qas\[1\] \(id 'q1'\): expected an id once, found it again"):
        read_squad(path)
    skipped = []
    assert read_squad(path, skipped) == [FIRST]
    assert len(skipped) == 1


def test_long_answers_are_shown_where_they_part(tmp_path):
    context = "a" * 500 + "bc"
    content = {"data": [{"paragraphs": [{"context": context, "qas": [{"id": 1, "question": "?", "answers": []}]}]}]}
    content["data"][0]["paragraphs"][0]["qas"][0]["answers"] = [{"text": "a" * 500 + "cb", "answer_start": 0}]
    path = write(tmp_path, content)
    with pytest.raises(
        InputError, match=r"answer '\.\.\.a+cb' at character 0 of the context, found '\.\.\.a+bc'$"
    ) as e:
        read_squad(path)
    assert_one_line(str(e.value), path)


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"", "expected JSON"),
        (b"{", "expected JSON"),
        (b'{"data": [\n  {"paragraphs": ]}', "2: expected JSON, found at column 18"),
        (b'{"data": [{"paragraphs": [', "expected JSON"),
        (b'{"data": "m\xe9decin"}', "expected UTF-8 text, found byte 0xe9 at byte 12"),
        (json.dumps(GOOD).encode("utf-16"), "expected UTF-8 text, found byte 0xff at byte 1"),
        (b"\x1f\x8b\x08\x00", "expected UTF-8 text"),
        (b"[" * 100_000, "nest too deeply"),
        (b'{"data": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "nest too deeply"),
        (b'{"data": ' + b'{"a":' * 100_000 + b"0" + b"}" * 100_001, "nest too deeply"),
        (json.dumps(changed([*ANSWER, "answer_start"], math.nan)).encode(), "the number NaN"),
        (json.dumps(changed([*ANSWER, "answer_start"], -math.inf)).encode(), "the number -Infinity"),
        (json.dumps(GOOD).replace("17", "9" * 5000, 1).encode(), "an integer of 5000 characters"),
        (b"[]", "expected an object, found an empty list"),
        (b"null", "expected an object, found null"),
        (b"{}", "expected a list in the field data, found no such field"),
        (b'{"data": {}}', "expected a list in the field data, found an object"),
        (b'{"data": []}', "expected at least one question"),
        (b'{"data": [{"paragraphs": []}]}', "expected at least one question"),
    ],
)
@pytest.mark.parametrize("skipped", [None, []])
def test_files_of_another_kind_are_refused_even_when_skipping(tmp_path, content, text, skipped):
    path = write(tmp_path, content)
    with pytest.raises(InputError, match=re.escape(text)) as caught:
        read_squad(path, skipped)
    message = str(caught.value)
    assert message.startswith(f"{path}:")
    assert message.isprintable()
    assert len(message) < len(str(path)) + 150
    assert not skipped


def test_files_have_an_end(tmp_path, monkeypatch):
    monkeypatch.setattr(untrusted, "FILE_LIMIT", 1 << 20)
    good = json.dumps(GOOD).encode()
    assert len(read_squad(write(tmp_path, good + b" " * ((1 << 20) - len(good))))) == 2
    with pytest.raises(InputError, match=r"squad\.json: expected at most 1 MiB of JSON, found more"):
        read_squad(write(tmp_path, good + b" " * (1 << 20)))


def test_unreadable(tmp_path):
    with pytest.raises(InputError, match="No such file"):
        read_squad(tmp_path / "absent.json")
    with pytest.raises(InputError, match="directory"):
        read_squad(tmp_path)


@st.composite
def squad_files(draw):
    """The JSON of a file and the questions it means."""
    questions, articles = [], []
    for _ in range(draw(st.integers(1, 2))):
        paragraphs = []
        for _ in range(draw(st.integers(1, 2))):
            context = draw(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40).filter(str.strip))
            qas = []
            for _ in range(draw(st.integers(1, 4))):
                impossible = draw(st.booleans())
                inside = st.sampled_from([i for i, character in enumerate(context) if character.strip()])
                after = len(context)
                pieces = inside.flatmap(lambda i, n=after: st.tuples(st.integers(0, i), st.integers(i + 1, n)))
                spans = [] if impossible else draw(st.lists(pieces, min_size=1, max_size=3))
                answers = [{"answer_start": start, "text": context[start:end]} for start, end in spans]
                name = len(questions) if draw(st.booleans()) else f"{draw(TEXT)}_{len(questions)}"
                row = {"id": name, "question": draw(TEXT), "answers": answers}
                if impossible or draw(st.booleans()):
                    row["is_impossible"] = impossible
                qas.append(row)
                meant = tuple(Answer(context[start:end], start) for start, end in spans)
                questions.append(Question(str(row["id"]), row["question"], context, meant, impossible))
            paragraphs.append({"context": context, "qas": qas})
        articles.append({"title": draw(TEXT), "paragraphs": paragraphs})
    return {"data": articles}, questions


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(squad_files(), st.booleans())
def test_what_is_written_is_read(tmp_path, squad, ascii_only):
    content, questions = squad
    path = tmp_path / "squad.json"
    path.write_text(json.dumps(content, ensure_ascii=ascii_only), encoding="utf-8", newline="")
    skipped = []
    assert read_squad(path, skipped) == questions
    assert skipped == []


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)
PLACES = [
    ["data"],
    ["data", 0],
    ["data", 0, "paragraphs"],
    ["data", 0, "paragraphs", 0],
    ["data", 0, "paragraphs", 0, "context"],
    QUESTION,
    *([*QUESTION, field] for field in ("id", "question", "answers", "is_impossible")),
    ANSWER,
    *([*ANSWER, field] for field in ("text", "answer_start")),
]


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(PLACES), JSON)
def test_any_value_anywhere_ends_in_questions_or_in_one_line(tmp_path, keys, value):
    path = write(tmp_path, changed(keys, value))
    try:
        questions = read_squad(path)
    except InputError as error:
        assert_one_line(str(error), path)
    else:
        for question in questions:
            for answer in question.answers:
                assert question.context[answer.start :].startswith(answer.text)


def test_repeats_by_hand():
    def asked(number, context, *starts):
        return Question(f"q_{number}", "What is it?", context, tuple(Answer(context[s : s + 2], s) for s in starts))

    questions = [
        asked(1, "ab ab AB", 0, 3, 6),  # three times in one snippet: one pair
        asked(2, "Ab cd", 0, 3),
        asked(3, "cd", 0),
        asked(4, "nothing"),
        Question("r", "WHAT is\nit?", "cd", (Answer("cd", 0),)),
    ]
    counts = repeats(questions)
    assert counts == {("what is it?", "ab"): 2, ("what is it?", "cd"): 3}
    assert min(counts.values()) / max(counts.values()) == 2 / 3
    assert repeats([]) == {}


@pytest.mark.parametrize("name", ["squad/train.json", "squad/dev.json", "squad2/train.json", "squad2/dev.json"])
def test_the_miniature(mini, name):
    path = mini / name
    rows = [q for a in json.loads(path.read_text())["data"] for p in a["paragraphs"] for q in p["qas"]]
    questions = read_squad(path)
    assert [question.id for question in questions] == [row["id"] for row in rows]
    assert [len(question.answers) for question in questions] == [len(row["answers"]) for row in rows]
    assert any(question.impossible for question in questions) == name.startswith("squad2")


def test_xquad(shared_data):
    skipped = []
    questions = read_squad(shared_data / "benchmarks/qa/xquad/xquad.en.json", skipped)
    assert (len(questions), skipped) == (1190, [])
    assert max(repeats(questions).values()) == 2  # as the paper counts in SQuAD


def test_covid_qa(shared_data):
    path = shared_data / "benchmarks/qa/covid-qa/200423_covidQA.json"
    skipped = []
    questions = read_squad(path, skipped)
    assert (len(questions), len(skipped)) == (1146, 234)  # of 1380
    assert all("at character" in line for line in skipped)
    assert len([line for line in skipped if "expected the answer ' " in line]) == 206  # a blank in front of the answer
    with pytest.raises(InputError) as caught:
        read_squad(path)
    assert str(caught.value) == skipped[0]
