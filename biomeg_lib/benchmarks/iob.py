"""IOB columns in, sentences out: the format of BC5CDR, NCBI-disease and CoNLL-2003.

What is notable: every file becomes IOB2, in which each entity opens with `B-`. Tags are read as conlleval reads them,
so an `I-X` after `O`, at the start of a sentence or after another type opens an entity. That is how IOB1 files
(CoNLL-2003, where `B-` only parts touching entities of one type) mean it, and how the field scores a stray `I-`; no
file is refused for it.

Accepted: Windows line ends, a byte-order mark, any number of blank lines between sentences, no newline at the end.
Everything else that does not fit is an `InputError` with its line.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from biomeg_lib.benchmarks.lines import numbered_lines, shown
from biomeg_lib.errors import BiomegError, InputError
from biomeg_lib.files import atomic_open

Format = Literal["iob", "conll"]

_TAG = re.compile(r"O|[BI]-\S+")
_COLUMN_SEPARATOR = {"iob": re.compile(r"\t"), "conll": re.compile(r"[ \t]")}


@dataclass(frozen=True, slots=True)
class Sentence:
    """A sentence of `words` and one tag (`O`, `B-TYPE` or `I-TYPE`) for each.

    Raises:
        BiomegError: there are more words than tags, or fewer.
    """

    words: tuple[str, ...]
    tags: tuple[str, ...]

    def __post_init__(self):
        if len(self.words) != len(self.tags):
            raise BiomegError(
                f"expected one tag for each word, found {len(self.words)} words and {len(self.tags)} tags"
            )


def entity_spans(tags: Sequence[str]) -> list[tuple[str, int, int]]:
    """The entities of one sentence by the conlleval convention, in order.

    An entity opens at `B-X`, and at an `I-X` that follows `O`, another type or nothing; it ends before the next tag
    that is not `I-X` of the same type.

    Returns:
        (type, first word, one past the last word) of each entity.
    """
    spans: list[tuple[str, int, int]] = []
    kind, start = None, 0
    for position, tag in enumerate((*tags, "O")):
        continues = tag.startswith("I-") and tag[2:] == kind
        if continues:
            continue
        if kind is not None:
            spans.append((kind, start, position))
        kind, start = (None if tag == "O" else tag[2:]), position
    return spans


def to_iob2(tags: Sequence[str]) -> tuple[str, ...]:
    """The same entities, each opened by `B-`; IOB2 tags come back unchanged."""
    result = ["O"] * len(tags)
    for kind, start, end in entity_spans(tags):
        result[start:end] = [f"B-{kind}"] + [f"I-{kind}"] * (end - start - 1)
    return tuple(result)


def read_iob(path: str | Path, format: Format = "iob") -> list[Sentence]:
    """Read a benchmark file as IOB2 sentences.

    Args:
        path: a UTF-8 file of one word a line, with blank lines between sentences.
        format: "iob": `word TAB tag`. "conll": at least two columns parted by single spaces or tabs, their number the
            same on every line, the word first and the tag last; lines whose word is `-DOCSTART-` part documents and are
            left out.

    Raises:
        InputError: the file cannot be read, is not UTF-8, has another number of columns, an empty word, a tag that is
            not O, B-TYPE or I-TYPE, or no sentence at all.
    """
    if format not in get_args(Format):
        raise BiomegError(f"expected the format {' or '.join(get_args(Format))}, found {format!r}")
    sentences: list[Sentence] = []
    words: list[str] = []
    tags: list[str] = []

    def close() -> None:
        if words:
            sentences.append(Sentence(tuple(words), to_iob2(tags)))
            words.clear()
            tags.clear()

    for row in _rows(Path(path), format):
        if row is None:
            close()
        else:
            words.append(row[0])
            tags.append(row[1])
    close()
    if not sentences:
        raise InputError(path, "expected at least one sentence of IOB columns, found none")
    return sentences


def write_iob(path: str | Path, sentences: Iterable[Sentence]) -> None:
    """Write `word TAB tag` lines with a blank line after each sentence, atomically. Tags are written as they are.

    Raises:
        BiomegError: a word is empty, or holds a tab or a line end, which the format cannot hold.
    """
    with atomic_open(path) as stream:
        for sentence in sentences:
            for word, tag in zip(sentence.words, sentence.tags, strict=True):
                if not word.strip(" ") or any(character in word for character in "\t\r\n"):
                    raise BiomegError(f"expected words without tabs and line ends for {path}, found {word!r}")
                stream.write(f"{word}\t{tag}\n")
            stream.write("\n")


def _rows(path: Path, format: Format) -> Iterator[tuple[str, str] | None]:
    """(word, tag) of each line; None where a sentence ends."""
    columns_expected = 2 if format == "iob" else None
    layout = (
        "word TAB tag" if format == "iob" else "columns parted by single spaces or tabs, the word first, the tag last"
    )
    for number, line in numbered_lines(path):
        if not line.strip():
            yield None
            continue
        columns = _COLUMN_SEPARATOR[format].split(line)
        if format == "conll" and columns[0] == "-DOCSTART-":
            yield None
            continue
        if columns_expected is None and len(columns) >= 2:
            columns_expected = len(columns)
        if len(columns) != columns_expected:
            wanted = f"{columns_expected or 'at least 2'} columns ({layout})"
            raise InputError(path, f"expected {wanted}, found {len(columns)} in {shown(line)}", number)
        word, tag = columns[0], columns[-1]
        if not word.strip(" "):
            raise InputError(path, f"expected a word in the first column, found none in {shown(line)}", number)
        if not _TAG.fullmatch(tag):
            raise InputError(path, f"expected a tag O, B-TYPE or I-TYPE in the last column, found {shown(tag)}", number)
        yield word, tag
