"""`biomeg predict`: a file in, a run's predictions for it out.

What comes in and goes out, by what the run was trained for and by format:

- entities: a text or JSON lines (see `texts`); out, one of `formats.FORMATS`;
- labels: `jsonl`, see `records`; out, `{"id", "label", "probability"}` lines;
- answers:
  - `jsonl`, see `records`; out, for a question about a context `{"id", "answer", "start", "end", "score"}`, with
    characters of the context, the sum of start and end logit as score, and an empty answer with nulls where the run
    finds none; for one about snippets `{"id", "answers": [[text, probability], ...]}`, at most five, best first;
  - `squad`, the official JSON with or without answers; out, the official `{id: answer}`;
  - `bioasq`, the official JSON; out, a submission for phase B.

What is notable: memory does not grow with the number of documents or lines; official JSON is read whole. Of BioASQ's
questions, factoid ones get five ranked answers, and so do list questions, though nothing taught the run how many items
there are. Yes/no and summary questions have no answer that could be cut from a snippet, and are left out.
"""

import contextlib
import gc
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from tqdm import tqdm

from biomeg_lib.benchmarks.bioasq import read_bioasq, to_questions, write_submission
from biomeg_lib.benchmarks.questions import read_squad
from biomeg_lib.errors import BiomegError, InputError
from biomeg_lib.predict import formats
from biomeg_lib.predict.formats import opened
from biomeg_lib.predict.records import Asked, asked, json_line, left_out, pair, read_lines, relation_maker
from biomeg_lib.predict.runs import CHARACTERS, Answerer, Recogniser, TextLabeller, load_run
from biomeg_lib.predict.texts import read_texts
from biomeg_lib.tasks.spans import Prediction, best_answer, merge
from biomeg_lib.training.environment import flushed_denormals

RECORDS = 2000  # predicted together

Item = TypeVar("Item")
Notes = list[str]


class Progress:
    """How many are done, on stderr: a bar in a terminal, elsewhere a line after 10 seconds, then at growing distances.

    Args:
        unit: what is counted, in the plural.
    """

    def __init__(self, unit: str):
        self.unit, self.done, self.total = unit, 0, None
        self.started, self.pause = time.monotonic(), 10.0
        self.due = self.started + self.pause
        self.bar = tqdm(desc="predict", unit=f" {unit}", file=sys.stderr) if sys.stderr.isatty() else None

    def __enter__(self) -> "Progress":
        return self

    def update(self, number: int) -> None:
        """So many more are done."""
        self.done += number
        now = time.monotonic()
        if self.bar is not None:
            self.bar.total = self.total
            self.bar.update(number)
        elif now >= self.due:
            of = f" of {self.total:,}" if self.total is not None else ""
            speed = 60 * self.done / (now - self.started)
            print(f"predict: {self.done:,}{of} {self.unit}, {speed:,.0f} a minute", file=sys.stderr, flush=True)
            self.pause = min(2 * self.pause, 120.0)
            self.due = now + self.pause

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.bar is not None:
            self.bar.close()


def predict(
    run: str | Path, input: str | Path, output: str | Path = "-", format: str = "jsonl", skip_bad: bool = False
) -> Notes:
    """Write a run's predictions for a file; see the module for what goes in and out.

    Args:
        run: the folder of a fine-tuning run.
        output: a file (for `brat` a folder), which is complete or absent; `-` is stdout.
        skip_bad: leave out records that are not right.

    Returns:
        What was left out and why, a line for each reason.

    Raises:
        BiomegError: there is no such run, its task does not have the format, or a record is bad and `skip_bad` is
            False.
    """
    loaded = load_run(run)
    unit, possible, function = _KINDS[type(loaded)]
    if format not in possible:
        wanted = " or ".join(possible)
        raise BiomegError(f"{run}: expected the format {wanted}, since this run predicts {unit}, found {format}")
    skipped: list[str] | None = [] if skip_bad else None
    with Progress(_COUNTED[type(loaded)]) as progress, young_objects_alone(), flushed_denormals():
        notes = function(loaded, Path(input), str(output), format, skipped, progress)
    return [*notes, *left_out(skipped)]


@contextlib.contextmanager
def young_objects_alone() -> Iterator[None]:
    """Python's collector leaves alone what there is already; to look through PyTorch took a third of our own time."""
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def _entities(
    run: Recogniser, path: Path, output: str, format: Any, skipped: list[str] | None, progress: Progress
) -> Notes:
    formats.write(run.annotate(read_texts(path, skipped), progress.update), output, format)
    return []


def _labels(
    run: TextLabeller, path: Path, output: str, format: str, skipped: list[str] | None, progress: Progress
) -> Notes:
    if run.marking is None:
        groups = _groups(read_lines(path, pair, skipped), lambda two: len(two.first) + len(two.second))
    else:
        make = relation_maker(run.marking == "anonymised")
        groups = _groups(read_lines(path, make, skipped), lambda relation: len(relation.text))
    with opened(output) as put:
        for records in groups:
            for record, (label, chance) in zip(records, run.likeliest(records), strict=True):
                put(json_line({"id": record.id, "label": label, "probability": round(chance, 6)}))
            progress.update(len(records))
    return []


def _answers(
    run: Answerer, path: Path, output: str, format: str, skipped: list[str] | None, progress: Progress
) -> Notes:
    answer = {"jsonl": _answer_lines, "squad": _answer_squad, "bioasq": _answer_bioasq}[format]
    return answer(run, path, output, skipped, progress)


def _answer_lines(run: Answerer, path: Path, output: str, skipped: list[str] | None, progress: Progress) -> Notes:
    with opened(output) as put:
        for group in _groups(
            read_lines(path, asked, skipped), lambda one: sum(len(question.context) for question in one.questions)
        ):
            predictions = iter(run.spans([question for one in group for question in one.questions]))
            for one in group:
                put(json_line(_answered(one, [next(predictions) for _ in one.questions], run.threshold)))
            progress.update(len(group))
    return []


def _answered(one: Asked, found: list[Prediction], threshold: float | None) -> dict[str, Any]:
    if one.snippets:
        return {"id": one.id, "answers": [[text, round(chance, 6)] for text, chance in merge(found)]}
    (prediction,) = found
    answer = best_answer(prediction, threshold)
    if not answer:
        return {"id": one.id, "answer": "", "start": None, "end": None, "score": None}
    span = prediction.spans[0]
    return {"id": one.id, "answer": answer, "start": span.start, "end": span.end, "score": round(span.score, 6)}


def _answer_squad(run: Answerer, path: Path, output: str, skipped: list[str] | None, progress: Progress) -> Notes:
    questions = read_squad(path, skipped, gold=False)
    progress.total = len(questions)
    answers: dict[str, str] = {}
    for group in _groups(questions, lambda question: len(question.context)):
        answers.update(zip((question.id for question in group), run.answers(group), strict=True))
        progress.update(len(group))
    with opened(output) as put:
        put(json.dumps(answers, ensure_ascii=False, indent=2) + "\n")
    return []


def _answer_bioasq(run: Answerer, path: Path, output: str, skipped: list[str] | None, progress: Progress) -> Notes:
    questions = read_bioasq(path, skipped)
    possible = [question for question in questions if question.kind in ("factoid", "list")]
    if not possible:
        raise InputError(path, "expected factoid or list questions, found yes/no and summary questions only")
    progress.total = len(possible)
    ranked: dict[str, list[str]] = {}
    for group in _groups(possible, lambda question: sum(len(snippet.text) for snippet in question.snippets)):
        found = run.ranked([one for question in group for one in to_questions(question)])
        ranked |= {name: [text for text, _ in answers] for name, answers in found.items() if answers}
        progress.update(len(group))
    answered = [question for question in possible if question.id in ranked]
    if output == formats.STDOUT:
        with tempfile.TemporaryDirectory() as folder, opened(output) as put:
            write_submission(Path(folder, "submission.json"), answered, ranked)
            put(Path(folder, "submission.json").read_text(encoding="utf-8"))
    else:
        write_submission(output, answered, ranked)
    notes = []
    if len(possible) < len(questions):
        notes.append(f"yes/no and summary questions left out: {len(questions) - len(possible):,}; no span answers them")
    if len(answered) < len(possible):
        notes.append(f"questions left out as their snippets have no words: {len(possible) - len(answered):,}")
    return notes


_KINDS: dict[type, tuple[str, tuple[str, ...], Callable[..., Notes]]] = {
    Recogniser: ("entities", formats.FORMATS, _entities),
    TextLabeller: ("labels", ("jsonl",), _labels),
    Answerer: ("answers", ("jsonl", "squad", "bioasq"), _answers),
}
_COUNTED = {Recogniser: "sentences", TextLabeller: "records", Answerer: "questions"}


def _groups(items: Iterable[Item], size: Callable[[Item], int]) -> Iterator[list[Item]]:
    """Items in order, as many at a time as fill batches and not the memory; `size` tells an item's characters."""
    group: list[Item] = []
    characters = 0
    for item in items:
        group.append(item)
        characters += size(item)
        if len(group) >= RECORDS or characters >= CHARACTERS:
            yield group
            group, characters = [], 0
    if group:
        yield group
