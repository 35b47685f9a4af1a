"""Questions about a passage whose answers are pieces of it: SQuAD 1.1 and 2.0, and what shares their JSON.

What is notable: an offset is believed only if the answer's text stands there, since a reader that trusts it trains on
other words than the answer. Published files have wrong ones: 234 of COVID-QA's 1380 questions, 196 of them because the
answer's text has a blank in front that its offset leaves out, and none of XQuAD's. `skipped` counts and lists them.
"""

from collections import Counter
from collections.abc import Container, Sequence
from dataclasses import dataclass
from pathlib import Path

from biomeg_lib.benchmarks.lines import refuse, shown
from biomeg_lib.benchmarks.records import Record, load_record
from biomeg_lib.errors import InputError


@dataclass(frozen=True, slots=True)
class Answer:
    """A piece of the context: context[start : start + len(text)] == text, `start` in characters."""

    text: str
    start: int


@dataclass(frozen=True, slots=True)
class Question:
    """A question about `context`.

    Attributes:
        answers: one for each annotator or occurrence; none where the question is impossible or its answer not known.
        impossible: the context is known to leave the question open (SQuAD 2.0).
    """

    id: str
    question: str
    context: str
    answers: tuple[Answer, ...]
    impossible: bool = False


def read_squad(path: str | Path, skipped: list[str] | None = None, gold: bool = True) -> list[Question]:
    """Read questions in the JSON of SQuAD 1.1 or 2.0, in the order of the file.

    Accepted: no `version`, no `title`, ids that are integers (COVID-QA), further fields. `plausible_answers`, which
    2.0 gives impossible questions, are not gold and are not read.

    Args:
        skipped: where given, bad records are left out and the error of each is appended. A question is a record; so is
            a paragraph or an article that cannot be read at all, with all its questions.
        gold: every question has an answer or is impossible; False: questions to be answered, whose answers may be
            absent. Answers that are there are checked all the same.

    Raises:
        InputError: the file cannot be read, is not UTF-8 or not JSON, or has no question; a field is missing or of
            another type; a text or an answer is empty; an answer's text does not stand at its offset; an answerable
            question has no answer, or an impossible one has; an id occurs twice.
    """
    questions: dict[str, Question] = {}
    root = load_record(path)
    root.elements("data")  # without it the file is of another kind, which no skipping mends
    for article in root.each("data", skipped):
        for paragraph in article.each("paragraphs", skipped):
            try:
                context = paragraph.text("context")
            except InputError as error:
                refuse(error, skipped)
                continue
            for record in paragraph.each("qas", skipped):
                try:
                    question = _question(record, context, gold, questions)
                except InputError as error:
                    refuse(error, skipped)
                    continue
                questions[question.id] = question
    if not questions:
        raise InputError(path, "expected at least one question in the form of SQuAD, found none")
    return list(questions.values())


def repeats(questions: Sequence[Question]) -> Counter[tuple[str, str]]:
    """How often each pair of a question's and an answer's text occurs (paper, section 5.5 and Table 8).

    An answer counts once for a question and a context, however many annotators gave it or however often it stands
    there; in BioASQ the same pair comes back with each snippet. Case is ignored, since BioASQ's answers are looked for
    without it, and so is the kind of blanks.

    Returns:
        Counts by (question, answer), both folded. Table 8's imbalance is the least count over the largest.
    """
    return Counter(
        pair
        for question in questions
        for pair in {(_folded(question.question), _folded(answer.text)) for answer in question.answers}
    )


def _folded(text: str) -> str:
    return " ".join(text.casefold().split())


def _question(record: Record, context: str, gold: bool, known: Container[str]) -> Question:
    name = record.identify(numbers=True)
    if name in known:
        raise record.error("expected an id once, found it again")
    question = record.text("question")
    impossible = record.flag("is_impossible")
    answers: tuple[Answer, ...] = ()
    if "answers" in record or (gold and not impossible):
        record.elements("answers")
        answers = tuple(_answer(record, answer, context) for answer in record.each("answers"))
    if impossible and answers:
        raise record.error(f"expected no answers to an impossible question, found {shown(answers[0].text)}")
    if gold and not impossible and not answers:
        raise record.error("expected an answer, since the question is not impossible, found none")
    return Question(name, question, context, answers, impossible)


def _answer(record: Record, answer: Record, context: str) -> Answer:
    text, start = answer.text("text"), answer.number("answer_start")
    there = context[start : start + len(text)]
    if there != text:
        same = next((i for i, (a, b) in enumerate(zip(text, there, strict=False)) if a != b), len(there))
        cut = max(0, same - 20)  # so that the message shows where they part
        dots = "..." if cut else ""
        wanted, found = shown(dots + text[cut:]), shown(dots + there[cut:])
        if not there:
            found = f"a context of {len(context)} characters"
        raise record.error(f"expected the answer {wanted} at character {start} of the context, found {found}")
    return Answer(text, start)
