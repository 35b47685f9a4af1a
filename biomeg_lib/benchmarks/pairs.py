"""Sentence pairs: the Microsoft Research Paraphrase Corpus (MRPC).

What is notable: quotation marks are text. A reader that takes them for CSV quoting joins lines and loses pairs.
"""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from biomeg_lib.benchmarks.lines import numbered_lines, refuse, shown
from biomeg_lib.errors import InputError

LABELS = ("0", "1")  # no paraphrase, paraphrase
_COLUMNS = ("Quality", "#1 ID", "#2 ID", "#1 String", "#2 String")


@dataclass(frozen=True, slots=True)
class SentencePair:
    """Two sentences.

    Attributes:
        id: the ids of both, joined by a full stop.
        label: "1" where they mean the same, otherwise "0".
    """

    id: str
    first: str
    second: str
    label: str


def read_mrpc(path: str | Path, skipped: list[str] | None = None) -> list[SentencePair]:
    """Read five columns parted by tabs under a header: quality, two ids, two sentences.

    Args:
        skipped: where given, bad lines are left out and the error of each is appended.

    Raises:
        InputError: the file cannot be read, is not UTF-8 or lacks the header; a line has another number of columns, an
            empty id or sentence, a quality other than 0 and 1, or the ids of an earlier line; or there is no pair.
    """
    pairs: dict[tuple[str, str], SentencePair] = {}
    lines = numbered_lines(path)
    _, header = next(lines, (1, ""))
    if tuple(header.split("\t")) != _COLUMNS:
        raise InputError(path, f"expected the columns {', '.join(_COLUMNS)}, found {shown(header)}", 1)
    for number, line in lines:
        columns = line.split("\t")
        problem = _problem(columns, pairs)
        if problem:
            refuse(InputError(path, problem, number), skipped)
            continue
        quality, first_id, second_id, first, second = columns
        pairs[first_id, second_id] = SentencePair(f"{first_id}.{second_id}", first, second, quality)
    if not pairs:
        raise InputError(path, "expected at least one pair of sentences, found none")
    return list(pairs.values())


def _problem(columns: list[str], known: Collection[tuple[str, str]]) -> str | None:
    if len(columns) != len(_COLUMNS):
        return f"expected {len(_COLUMNS)} columns parted by tabs, found {len(columns)}"
    if columns[0] not in LABELS:
        return f"expected a quality of {' or '.join(LABELS)}, found {shown(columns[0])}"
    for name, value in zip(_COLUMNS[1:], columns[1:], strict=True):
        if not value.strip():
            return f"expected text in the column {name}, found none"
    if (columns[1], columns[2]) in known:
        return f"expected a pair of ids once, found {shown(columns[1])} and {shown(columns[2])} again"
    return None
