"""BioASQ task b, phase B: questions with snippets in, questions about each snippet and submissions out.

What is notable:

* `exact_answer` has had several forms. Training files give a factoid's synonyms as a flat list, gold files as a list
  in a list; both, and plain text, mean one answer with synonyms. In a list question, however, the elements of a flat
  list are items.
* A snippet does not say where in it the answer stands, so answers are looked for: by words, without regard to case.
  What is found is distant supervision; a snippet without the answer is no proof that there is none.
* A submission has for a factoid up to five lists of one answer each, best first; for a list question such lists in any
  order; for a yes/no question "yes" or "no". Inner lists have had a single answer since BioASQ 5
  (participants-area.bioasq.org/general_information/Task13b), and the shape is what the challenge's tool
  (github.com/BioASQ/Evaluation-Measures) and BioBERT's converter (github.com/dmis-lab/bioasq-biobert) read and write.
  Summaries have no exact answer.
"""

import re
from bisect import bisect
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from biomeg_lib.benchmarks.lines import refuse, shown
from biomeg_lib.benchmarks.questions import Answer, Question
from biomeg_lib.benchmarks.records import Record, described, load_record
from biomeg_lib.errors import BiomegError, InputError
from biomeg_lib.files import write_json
from biomeg_lib.metrics.bioasq import FACTOID_ANSWERS

KINDS = ("factoid", "list", "yesno", "summary")
LIST_ANSWERS = 100  # what the guidelines allow; that each has at most 100 characters is not seen to here

_YES_NO = {"yes": True, "no": False}
_NUMBER = re.compile(r"_[0-9]+\Z")


@dataclass(frozen=True, slots=True)
class Snippet:
    """A passage that experts found to bear on a question; `document` is the address of its article."""

    text: str
    document: str


@dataclass(frozen=True, slots=True)
class BioasqQuestion:
    """A question, its snippets and, where known, its exact answer.

    Attributes:
        kind: one of `KINDS`.
        exact: factoid: one tuple, of the answer's synonyms; list: one such tuple for each item; otherwise, and where
            there is no gold, None.
        yes: the answer to a yes/no question, None where there is no gold.
    """

    id: str
    body: str
    kind: str
    snippets: tuple[Snippet, ...]
    exact: tuple[tuple[str, ...], ...] | None
    yes: bool | None


def read_bioasq(path: str | Path, skipped: list[str] | None = None) -> list[BioasqQuestion]:
    """Read official JSON: training, gold and test files, the last without exact answers.

    Args:
        skipped: where given, bad questions are left out and the error of each is appended.

    Raises:
        InputError: the file cannot be read, is not UTF-8 or not JSON, or has no question; a field is missing or of
            another type; a text or an answer is empty; a question is of an unknown type or has no snippets; an id
            occurs twice.
    """
    questions: dict[str, BioasqQuestion] = {}
    root = load_record(path)
    root.elements("questions")  # without it the file is of another kind, which no skipping mends
    for record in root.each("questions", skipped):
        try:
            question = _question(record, questions)
        except InputError as error:
            refuse(error, skipped)
            continue
        questions[question.id] = question
    if not questions:
        raise InputError(path, "expected at least one BioASQ question, found none")
    return list(questions.values())


def to_questions(question: BioasqQuestion) -> list[Question]:
    """The question once for each snippet, with ids numbered from `<id>_001` as BioBERT's conversions have them.

    Answers are all places of the snippet where a synonym stands as whole words, in any case and with any blanks between
    its words; where places overlap, that of the longest synonym counts. A snippet without any gives no answers and is
    not called impossible: whoever trains on it decides what it is.
    """
    synonyms = {synonym for item in question.exact or () for synonym in item}
    patterns = [_pattern(synonym) for synonym in sorted(synonyms, key=lambda synonym: (-len(synonym), synonym))]
    return [
        Question(f"{question.id}_{number:03}", question.body, snippet.text, _places(patterns, snippet.text))
        for number, snippet in enumerate(question.snippets, start=1)
    ]


def of_question(question_id: str) -> str:
    """The BioASQ id in the id of a question about one snippet; an id without a number is its own."""
    return _NUMBER.sub("", question_id)


def from_squad_shape(questions: Sequence[Question]) -> dict[str, list[Question]]:
    """Group a conversion to SQuAD's form, such as BioBERT's, by BioASQ id; groups and members keep their order."""
    groups: dict[str, list[Question]] = {}
    for question in questions:
        groups.setdefault(of_question(question.id), []).append(question)
    return groups


def write_submission(
    path: str | Path, questions: Sequence[BioasqQuestion], ranked: Mapping[str, Sequence[str]]
) -> None:
    """Write exact answers for phase B, atomically. Summaries are left out.

    Args:
        ranked: for each question id its answers, best first, of which a factoid keeps 5 and a list 100; for a yes/no
            question "yes" or "no". Answers to other questions are not written.

    Raises:
        BiomegError: a question has no answers, an empty one, or none of its kind.
    """
    rows = [
        {"id": question.id, "type": question.kind, "body": question.body, "exact_answer": _submitted(question, ranked)}
        for question in questions
        if question.kind != "summary"
    ]
    write_json(path, {"questions": rows})


def read_submission(path: str | Path) -> dict[str, list[str] | str]:
    """The exact answers of a submission by question id: "yes" or "no", or a list of answers in their order.

    Of synonyms in an inner list the first counts, as in the challenge's tool. Flat lists, which the first editions had
    for factoids, are accepted. Questions without an exact answer are left out.

    Raises:
        InputError: the file cannot be read, is not UTF-8 or not JSON; a question has no id, that of another, or an
            exact answer of another form.
    """
    answers: dict[str, list[str] | str] = {}
    known: set[str] = set()
    for record in load_record(path).each("questions"):
        name = record.identify()
        if name in known:
            raise record.error("expected an id once, found it again")
        known.add(name)
        if "exact_answer" in record:
            answers[name] = _answers(record)
    return answers


def _question(record: Record, known: Container[str]) -> BioasqQuestion:
    name = record.identify()
    if name in known:
        raise record.error("expected an id once, found it again")
    body, kind = record.text("body"), record.text("type")
    if kind not in KINDS:
        raise record.error(f"expected the type {', '.join(KINDS[:-1])} or {KINDS[-1]}, found {shown(kind)}")
    snippets = tuple(Snippet(one.text("text"), one.text("document")) for one in record.each("snippets"))
    if not snippets:
        raise record.error("expected at least one snippet, found none")
    exact, yes = None, None
    if "exact_answer" in record and kind == "yesno":
        yes = _YES_NO[_yes_or_no(record)]
    elif "exact_answer" in record and kind != "summary":
        exact = _items(record)
        if kind == "factoid":
            exact = (tuple(synonym for item in exact for synonym in item),)
    return BioasqQuestion(name, body, kind, snippets, exact, yes)


def _yes_or_no(record: Record) -> str:
    value = record.get("exact_answer")
    answer = value.strip().casefold() if isinstance(value, str) else None
    if answer not in _YES_NO:
        raise record.error(f"expected yes or no as exact_answer, found {described(value)}")
    return answer


def _items(record: Record) -> tuple[tuple[str, ...], ...]:
    """The elements of an exact answer, each with its synonyms; none of them empty."""
    value = record.get("exact_answer")
    elements: list[Any] = [value] if isinstance(value, str) else value
    if not isinstance(elements, list) or not elements or [] in elements:
        found = "an empty list in it" if isinstance(value, list) and value else described(value)
        raise record.error(f"expected text, or a list of texts or of their lists, as exact_answer, found {found}")
    return tuple(
        tuple(record.checked_text(text, "in exact_answer") for text in (one if isinstance(one, list) else [one]))
        for one in elements
    )


def _answers(record: Record) -> list[str] | str:
    value = record.get("exact_answer")
    kind = record.get("type")
    if kind == "yesno" or (kind is None and isinstance(value, str) and value.strip().casefold() in _YES_NO):
        return _yes_or_no(record)
    return [] if value == [] else [item[0] for item in _items(record)]


def _submitted(question: BioasqQuestion, ranked: Mapping[str, Sequence[str]]) -> list[list[str]] | str:
    answers = ranked.get(question.id, ())
    if not answers:
        raise BiomegError(f"expected an answer to the question {question.id}, found none")
    if question.kind == "yesno":
        answer = answers if isinstance(answers, str) else answers[0]
        if answer.casefold() not in _YES_NO:
            raise BiomegError(f"expected yes or no for the question {question.id}, found {shown(answer)}")
        return answer.casefold()
    if isinstance(answers, str):  # its characters would pass for answers
        raise BiomegError(f"expected a list of answers to the question {question.id}, found {shown(answers)}")
    if not all(answer.strip() for answer in answers):
        raise BiomegError(f"expected answers with text to the question {question.id}, found an empty one")
    return [[answer] for answer in answers[: FACTOID_ANSWERS if question.kind == "factoid" else LIST_ANSWERS]]


def _places(patterns: Sequence[re.Pattern[str]], text: str) -> tuple[Answer, ...]:
    """Where patterns match in `text`, in order and without overlaps; an earlier pattern's places come first."""
    taken: list[tuple[int, int]] = []
    for pattern in patterns:
        place = 0
        while match := pattern.search(text, place):
            start, end = match.span()
            at = bisect(taken, (start, end))
            after_last = at == 0 or taken[at - 1][1] <= start
            before_next = at == len(taken) or end <= taken[at][0]
            free = after_last and before_next
            if free:
                taken.insert(at, (start, end))
            place = end if free else start + 1  # one that overlaps a taken one may overlap a free one, too
    return tuple(Answer(text[start:end], start) for start, end in taken)


def _pattern(synonym: str) -> re.Pattern[str]:
    """Matches the synonym where no letter or digit goes on at either end. A bracket at its end needs no boundary."""
    words = synonym.split()
    before = r"(?<!\w)" if re.match(r"\w", words[0]) else ""
    after = r"(?!\w)" if re.match(r"\w", words[-1][-1]) else ""
    return re.compile(before + r"\s+".join(map(re.escape, words)) + after, re.IGNORECASE)
