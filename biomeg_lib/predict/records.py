"""Relations, sentence pairs and questions of one's own: JSON lines in, JSON lines out.

One object a line, blank lines are passed over, other keys are ignored:

- a relation, `{"id", "text"}`, its two mentions told by
  - `<< ` and ` >>` around the one, `[[ ` and ` ]]` around the other, as `relations.read_chemprot_jsonl` reads them; or
  - `"first": [a, b], "second": [a, b]`, characters of `text`, in either order; or
  - `"chemical": [a, b], "gene": [a, b]`, which runs with anonymised mentions need;
- a sentence pair, `{"id", "first", "second"}`;
- a question, `{"id", "question"}` with `"context"`, one text, or `"snippets"`, a list of texts.

What is notable: `id` is a string or a whole number, and where there is none, the file's name and the line
(`test.jsonl:17`), as for ChemProt's own JSON lines, so that these can be predicted and scored as they are.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from biomeg_lib.benchmarks.lines import refuse, shown
from biomeg_lib.benchmarks.pairs import SentencePair
from biomeg_lib.benchmarks.questions import Question
from biomeg_lib.benchmarks.records import Record, described
from biomeg_lib.benchmarks.relations import Relation, Span, without_marks
from biomeg_lib.corpus import untrusted
from biomeg_lib.errors import InputError

Item = TypeVar("Item")

_LINE_ENDS = {ord(character): f"\\u{ord(character):04x}" for character in "\x85\u2028\u2029"}  # JSON itself allows them


@dataclass(frozen=True, slots=True)
class Asked:
    """A question about one context, or about several snippets, for each of which there is one of `questions`."""

    id: str
    questions: tuple[Question, ...]
    snippets: bool


def read_lines(
    path: str | Path, make: Callable[[str, Record], Item], skipped: list[str] | None = None
) -> Iterator[Item]:
    """Stream what `make` gives for each line's id and object.

    Args:
        path: UTF-8, unzipped where the name ends in `.gz`.
        make: `pair`, `asked`, or `relation_maker`'s result; raises `InputError` for a bad record.
        skipped: where given, bad lines are left out and the error of each is appended.

    Raises:
        InputError: at any point of the iteration: the file cannot be read, a line is bad or has an earlier one's id and
            `skipped` is None, or no line is good.
    """
    path = Path(path)
    known: set[str] = set()
    first_error = ""
    with untrusted.open_bytes(path) as stream:
        for number, line in untrusted.bounded_lines(path, stream):
            if line.isspace():
                continue
            try:
                record = _record(path, number, line)
                name = record.identify(numbers=True) if "id" in record else f"{path.name}:{number}"
                if name in known:
                    raise record.error(f"expected an id that no earlier line has, found {shown(name)}")
                item = make(name, record)
            except InputError as error:
                refuse(error, skipped)
                first_error = first_error or str(error)
                continue
            known.add(name)
            yield item
    if not known:
        found = f"only bad lines: {first_error}" if first_error else "none"
        raise InputError(path, f"expected at least one record, found {found}")


def left_out(skipped: Sequence[str] | None) -> list[str]:
    """A line about bad records that were left out."""
    return [f"bad records left out: {len(skipped):,}, the first: {skipped[0]}"] if skipped else []


def json_line(record: dict[str, Any]) -> str:
    """A record on one line, whatever a reader takes for a line's end."""
    return json.dumps(record, ensure_ascii=False, allow_nan=False).translate(_LINE_ENDS) + "\n"


def relation_maker(kinds: bool) -> Callable[[str, Record], Relation]:
    """What makes relations of records.

    Args:
        kinds: it has to be known which mention is the chemical.
    """

    def relation(name: str, record: Record) -> Relation:
        text = record.text("text")
        if "chemical" in record or "gene" in record:
            chemical, gene = _span(record, "chemical", text), _span(record, "gene", text)
            chemical_first = _opening(chemical) <= _opening(gene)
            spans = (chemical, gene) if chemical_first else (gene, chemical)
            return Relation(name, text, *spans, "", chemical_first)
        if kinds:
            wanted = "the fields chemical and gene, since this run was trained with anonymised mentions"
            raise record.error(f"expected {wanted}, found neither")
        if "first" in record or "second" in record:
            spans = sorted((_span(record, "first", text), _span(record, "second", text)), key=_opening)
            return Relation(name, text, *spans, "")
        found = without_marks(text)
        if found is None:
            wanted = "one mention in << >> and after it one in [[ ]], blanks inside the marks, or first and second"
            raise record.error(f"expected {wanted}, found {shown(text)}")
        return Relation(name, *found, "")

    return relation


def pair(name: str, record: Record) -> SentencePair:
    """The sentence pair of a record."""
    return SentencePair(name, record.text("first"), record.text("second"), "")


def asked(name: str, record: Record) -> Asked:
    """The question of a record; questions about snippets have ids as `bioasq.to_questions` gives them."""
    question = record.text("question")
    if "snippets" not in record:
        return Asked(name, (Question(name, question, record.text("context"), ()),), False)
    snippets = [record.checked_text(text, "in the field snippets") for text in record.elements("snippets")]
    if not snippets:
        raise record.error("expected at least one snippet, found none")
    questions = (Question(f"{name}_{n:03}", question, text, ()) for n, text in enumerate(snippets, start=1))
    return Asked(name, tuple(questions), True)


def _record(path: Path, number: int, line: bytes) -> Record:
    where = f"{path}:{number}"
    try:
        return Record(where, "", json.loads(line.decode("utf-8-sig" if number == 1 else "utf-8")))
    except UnicodeDecodeError as error:
        found = f"byte 0x{error.object[error.start]:02x} at byte {error.start + 1} of the line"
        raise InputError(where, f"expected UTF-8 text, found {found}") from None
    except (ValueError, RecursionError) as error:
        raise InputError(where, f"expected a JSON object, found an error: {error}") from None


def _span(record: Record, field: str, text: str) -> Span:
    value = record.get(field)
    if (
        not isinstance(value, list)
        or [type(number) for number in value] != [int, int]
        or not 0 <= value[0] < value[1] <= len(text)
        or not text[slice(*value)].strip()
    ):
        found = json.dumps(value)[:60] if isinstance(value, list) else described(value)
        wanted = f"[start, end] of characters of the text, which has {len(text)}, in the field {field}"
        raise record.error(f"expected {wanted}, found {found}")
    return value[0], value[1]


def _opening(span: Span) -> tuple[int, int]:
    """The order in which mentions open; of two that open together, the longer one does first."""
    return span[0], -span[1]
