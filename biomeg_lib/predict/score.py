"""`biomeg score`: predictions in a file against a benchmark's, as the official tools count.

GOLD and predictions, by task:

- `ner`: two files of IOB columns with the same words;
- `relation`: ChemProt's JSON lines or any one of its three tables (the others lie beside it); `{"id", "label"}` lines;
- `pairs`: MRPC; `{"id", "label"}` lines;
- `squad`: SQuAD's JSON, of version 2.0 where its `version` says so or a question is impossible; `{id: answer}` as JSON;
- `bioasq`: gold JSON; a submission for phase B.

What is notable: a question without a prediction stops the scoring, since a mean over the others would look like a
score. With `skip_bad` it is counted and scored as the official tool does: 0 for SQuAD 1.1, left out of the means for
2.0, wrong for BioASQ (see `metrics.bioasq`), no relation for ChemProt, no paraphrase for MRPC. Predictions with ids
that GOLD lacks are ignored, as official tools do.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from biomeg_lib.benchmarks.bioasq import BioasqQuestion, read_bioasq, read_submission
from biomeg_lib.benchmarks.iob import Sentence, read_iob
from biomeg_lib.benchmarks.lines import numbered_lines, refuse, shown
from biomeg_lib.benchmarks.pairs import LABELS, read_mrpc
from biomeg_lib.benchmarks.questions import read_squad
from biomeg_lib.benchmarks.records import Record, described, load_record
from biomeg_lib.benchmarks.relations import CATEGORIES, NEGATIVE, read_chemprot, read_chemprot_jsonl
from biomeg_lib.errors import BiomegError, InputError
from biomeg_lib.metrics.bioasq import factoid_scores, list_scores, yes_no_scores
from biomeg_lib.metrics.classes import class_scores
from biomeg_lib.metrics.entities import entity_scores
from biomeg_lib.metrics.scores import Scores
from biomeg_lib.metrics.squad import Agreement, squad_scores
from biomeg_lib.predict.records import left_out, read_lines


@dataclass(slots=True)
class Report:
    """Scores in per cent.

    Attributes:
        scores: of each part (a type of entity, a kind of question; "all" of everything), its figures by name.
        notes: what was left out or is missing, a line each.
    """

    scores: dict[str, dict[str, float]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def lines(self) -> list[str]:
        """The scores for people, a part a line."""
        return [
            f"{part}: " + ", ".join(f"{name} {_figure(value)}" for name, value in figures.items())
            for part, figures in self.scores.items()
        ]


def score(gold: str | Path, predictions: str | Path, task: str | None = None, skip_bad: bool = False) -> Report:
    """Score predictions.

    Args:
        gold, predictions: the files, see the module.
        task: `ner`, `relation`, `pairs`, `squad` or `bioasq`; None: what the gold file looks like.
        skip_bad: leave out bad records and score missing predictions, both counted in the notes.

    Raises:
        BiomegError: a file cannot be read or is another task's, a record is bad, or a prediction is missing.
    """
    gold, predictions = Path(gold), Path(predictions)
    task = task or told_by(gold)
    if task not in _TASKS:
        raise BiomegError(f"expected the task {', '.join(_TASKS)}, found {shown(task)}")
    report = Report()
    skipped: list[str] | None = [] if skip_bad else None
    _TASKS[task](gold, predictions, skipped, report)
    report.notes += left_out(skipped)
    return report


def told_by(gold: Path) -> str:
    """The task of a benchmark's file, by its name's end and what is in it.

    Raises:
        InputError: it cannot be read, or could be of several tasks or of none.
    """
    if gold.suffix.lower() == ".json":
        root = load_record(gold)
        known = [task for field, task in (("data", "squad"), ("questions", "bioasq")) if field in root]
        if len(known) != 1:
            raise InputError(gold, "expected JSON of SQuAD (with data) or BioASQ (with questions), found neither")
        return known[0]
    first = _first_line(gold)
    if first.lstrip().startswith("{"):
        return "relation"
    if first.startswith("Quality\t"):
        return "pairs"
    if _format_of(first) == "iob" or first.startswith("-DOCSTART-"):
        return "ner"
    if any(part in gold.name for part in _PARTS):
        return "relation"
    raise InputError(gold, f"expected a file that tells its task, found {shown(first)}; give --task")


def _entities(gold: Path, predictions: Path, skipped: list[str] | None, report: Report) -> None:
    if skipped is not None:
        raise BiomegError("score: expected no --skip-bad for entities, since all words of both files have to agree")
    right, guessed = _columns(gold), _columns(predictions)
    for number, (one, other) in enumerate(zip(right, guessed, strict=False), start=1):
        if one.words != other.words:
            at = next((i for i, (a, b) in enumerate(zip(one.words, other.words, strict=False)) if a != b), None)
            if at is None:
                wanted, found = f"{len(one.words)} words", str(len(other.words))
            else:
                wanted, found = f"the word {shown(one.words[at])}", shown(other.words[at])
            raise InputError(predictions, f"sentence {number}: expected {wanted} as in {gold}, found {found}")
    if len(right) != len(guessed):
        raise InputError(predictions, f"expected {len(right)} sentences as in {gold}, found {len(guessed)}")
    _put_scores(report, entity_scores([one.tags for one in right], [one.tags for one in guessed]))


def _columns(path: Path) -> list[Sentence]:
    return read_iob(path, _format_of(_first_line(path)))


def _first_line(path: Path) -> str:
    return next((line for _, line in numbered_lines(path) if line.strip()), "")


def _format_of(line: str) -> Any:
    """`iob` for a word, a tab and a tag, else `conll`."""
    columns = line.split("\t")
    return "iob" if len(columns) == 2 and (columns[1] == "O" or columns[1][:2] in ("B-", "I-")) else "conll"


def _relations(gold: Path, predictions: Path, skipped: list[str] | None, report: Report) -> None:
    if _first_line(gold).lstrip().startswith("{"):
        relations = read_chemprot_jsonl(gold, skipped)
    else:
        part = next((part for part in _PARTS if part in gold.name), "")  # without it, the reader says what it expects
        relations = read_chemprot([gold.with_name(gold.name.replace(part, one)) for one in _PARTS if part], skipped)
    right = {relation.id: relation.label for relation in relations}
    _put_scores(report, class_scores(*_labels(right, gold, predictions, (NEGATIVE, *CATEGORIES), skipped, report)))


def _pairs(gold: Path, predictions: Path, skipped: list[str] | None, report: Report) -> None:
    right = {pair.id: pair.label for pair in read_mrpc(gold, skipped)}
    labels, guessed, excluded = _labels(right, gold, predictions, LABELS, skipped, report)
    _put_scores(report, class_scores(labels, guessed, excluded))
    report.scores["all"]["accuracy"] = 100 * class_scores(labels, guessed).f1


def _labels(
    right: dict[str, str],
    gold: Path,
    predictions: Path,
    labels: Sequence[str],
    skipped: list[str] | None,
    report: Report,
) -> tuple[list[str], list[str], Sequence[str]]:
    """Gold labels, predicted ones, and those that F1 leaves out: the first of `labels`, which missing ones get."""

    def prediction(name: str, record: Record) -> tuple[str, str]:
        label = record.text("label")
        if label not in labels:
            raise record.error(f"expected a label of {', '.join(labels)}, found {shown(label)}")
        return name, label

    guessed = dict(read_lines(predictions, prediction, skipped))
    _no_missing([name for name in right if name not in guessed], gold, predictions, skipped, report)
    return list(right.values()), [guessed.get(name, labels[0]) for name in right], labels[:1]


def _squad(gold: Path, predictions: Path, skipped: list[str] | None, report: Report) -> None:
    questions = read_squad(gold, skipped)
    told = str(load_record(gold).get("version"))
    version = "2.0" if "2.0" in told or any(question.impossible for question in questions) else "1.1"
    root = load_record(predictions)
    answers: dict[str, str] = {}
    for question in questions:
        answer = root.get(question.id)
        if isinstance(answer, str):
            answers[question.id] = answer
        elif question.id in root:
            error = f"expected text as the answer to {shown(question.id)}, found {described(answer)}"
            refuse(InputError(predictions, error), skipped)
    _no_missing([q.id for q in questions if q.id not in answers], gold, predictions, skipped, report)
    scores = squad_scores({q.id: [answer.text for answer in q.answers] for q in questions}, answers, version)
    parts = {"all": scores, "answerable": scores.answerable, "unanswerable": scores.unanswerable}
    report.scores = {name: _agreement(part) for name, part in parts.items() if part is not None}
    report.notes.append(f"scored as SQuAD {version}")


def _bioasq(gold: Path, predictions: Path, skipped: list[str] | None, report: Report) -> None:
    questions = [question for question in read_bioasq(gold, skipped) if question.exact or question.yes is not None]
    if not questions:
        raise InputError(gold, "expected a question with an exact answer, found none: a test set without gold?")
    answers = read_submission(predictions)
    for question in questions:
        answer = answers.get(question.id)
        if answer is not None and isinstance(answer, str) != (question.kind == "yesno"):
            wanted = "yes or no" if question.kind == "yesno" else "a list of answers"
            error = f"expected {wanted} for the {question.kind} question {question.id}, found {described(answer)}"
            refuse(InputError(predictions, error), skipped)
            del answers[question.id]
    _no_missing([q.id for q in questions if q.id not in answers], gold, predictions, skipped, report)
    for kind, figures in _KINDS.items():
        asked = [question for question in questions if question.kind == kind]
        if asked:
            given = {question.id: answers[question.id] for question in asked if question.id in answers}
            report.scores[kind] = {**figures(asked, given), "questions": len(asked)}


def _factoid(questions: list[BioasqQuestion], answers: dict[str, Any]) -> dict[str, float]:
    scores = factoid_scores({question.id: question.exact[0] for question in questions}, answers)
    return {
        "strict accuracy": 100 * scores.strict_accuracy,
        "lenient accuracy": 100 * scores.lenient_accuracy,
        "mean reciprocal rank": 100 * scores.mean_reciprocal_rank,
    }


def _list(questions: list[BioasqQuestion], answers: dict[str, Any]) -> dict[str, float]:
    scores = list_scores({question.id: question.exact for question in questions}, answers)
    return {"precision": 100 * scores.precision, "recall": 100 * scores.recall, "F1": 100 * scores.f1}


def _yes_no(questions: list[BioasqQuestion], answers: dict[str, str]) -> dict[str, float]:
    given = {name: answer == "yes" for name, answer in answers.items()}
    scores = yes_no_scores({question.id: question.yes for question in questions}, given)
    figures = {"accuracy": scores.accuracy, "macro F1": scores.macro_f1, "F1 yes": scores.f1_yes, "F1 no": scores.f1_no}
    return {name: 100 * value for name, value in figures.items()}


_PARTS = ("abstracts", "entities", "relations")
_KINDS: dict[str, Callable[[list[BioasqQuestion], dict[str, Any]], dict[str, float]]] = {
    "factoid": _factoid,
    "list": _list,
    "yesno": _yes_no,
}
_TASKS: dict[str, Callable[[Path, Path, list[str] | None, Report], None]] = {
    "ner": _entities,
    "relation": _relations,
    "pairs": _pairs,
    "squad": _squad,
    "bioasq": _bioasq,
}


def _no_missing(
    missing: Sequence[str], gold: Path, predictions: Path, skipped: list[str] | None, report: Report
) -> None:
    """Raise an error about the first id without a prediction, or note how many there are."""
    if missing and skipped is None:
        raise InputError(predictions, f"expected a prediction for {shown(missing[0])} of {gold}, found none")
    if missing:
        what = f"without a prediction: {len(missing):,}, the first: {shown(missing[0])}"
        report.notes.append(f"{what}; scored as the official tool does")


def _put_scores(report: Report, scores: Scores) -> None:
    for part, one in {"all": scores, **scores.by_type}.items():
        report.scores[part] = {
            "precision": 100 * one.precision,
            "recall": 100 * one.recall,
            "F1": 100 * one.f1,
            "right": one.true_positive,
            "predicted": one.predicted,
            "gold": one.gold,
        }


def _agreement(part: Agreement) -> dict[str, float]:
    return {"exact match": 100 * part.exact, "F1": 100 * part.f1, "questions": part.total}


def _figure(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:.2f}"
