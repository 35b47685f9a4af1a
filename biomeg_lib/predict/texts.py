"""Text to annotate: documents exactly as they are in their file, and the words and sentences to tag.

What is notable: not one character is changed, dropped or joined, so that offsets hold for the user's own file. Carriage
returns, tabs, a byte-order mark at the start of a plain text and characters that cannot be seen are all part of the
text. The words leave them out, as they leave out blanks.

Words are those of BC5CDR and NCBI-disease: a run of letters and digits is one, and every other visible character is one
by itself (so `IL-2` is three words, and `0.5` too). Beyond ASCII, of which these files consist:

- A combining mark belongs to the character before it; after a blank it is a word of its own.
- Characters that cannot be seen (the categories Cc, Cf and Cs: zero-width space and joiners, soft hyphen, byte-order
  mark, marks of direction) neither begin nor end a word. Between letters they are inside it, so that a soft hyphen does
  not cut it; vocabularies drop them.
- An emoji sequence is a word for each of its signs; a sign keeps the variation selector that follows it.
"""

import json
import os
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from biomeg_lib.corpus import untrusted
from biomeg_lib.corpus.sentences import split_sentences
from biomeg_lib.errors import InputError

Span = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Document:
    """A document: its id, unique in its file and not empty, and its text as it was read."""

    id: str
    text: str


def read_texts(path: str | Path, skipped: list[str] | None = None) -> Iterator[Document]:
    """Stream the documents of one file.

    Args:
        path: `*.jsonl`, an object with `id` (a string or whole number) and `text` (a string) on each line that is not
            blank, other keys ignored; any other name is a plain text, one document named after the file without its
            last suffix. Both UTF-8, and unzipped where the name ends in `.gz`.
        skipped: if given, bad lines of a `*.jsonl` are left out, and the error of each is appended.

    Raises:
        InputError: at any point of the iteration: the file cannot be read, a plain text is not UTF-8, a line is bad and
            `skipped` is None, or no line is a document.
    """
    path = Path(path)
    name = Path(path.stem if path.suffix.lower() == ".gz" else path.name)
    with untrusted.open_bytes(path) as stream:
        if name.suffix.lower() == ".jsonl":
            yield from _json_documents(path, stream, skipped)
        else:
            yield Document(os.fsencode(name.stem).decode("utf-8", "replace"), _plain_text(path, stream))


def words(text: str) -> list[Span]:
    """Spans (start, end) of the words of `text`, in order and without overlap; see the module for what a word is.

    Together they cover every visible character. Time is linear in the length of the text.
    """
    return _words(text.translate(_CLASSES), 0, len(text))


def sentences(text: str) -> list[list[Span]]:
    """The words of each sentence, as spans of `text`; a sentence without words is left out.

    Sentences are those of `corpus.sentences`: a line end always separates, so text with hard-wrapped lines should be
    unwrapped first. Taken together, the words are `words(text)`.
    """
    classes = text.translate(_CLASSES)
    return [found for start, end in split_sentences(text) if (found := _words(classes, start, end))]


class _Classes(dict):
    """Code point -> `a` letter or digit, `m` combining mark, `z` invisible, a space for blanks, `s` for the rest."""

    def __missing__(self, code: int) -> str:
        character, category = chr(code), unicodedata.category(chr(code))
        if character.isspace():
            kind = " "
        elif character.isalnum():
            kind = "a"
        elif category.startswith("M"):
            kind = "m"
        else:
            kind = "z" if category in ("Cc", "Cf", "Cs") else "s"
        self[code] = kind
        return kind


_CLASSES = _Classes()
# Every part is possessive: what follows a word is scanned once, however many invisible characters there are.
_WORD = re.compile(r"a[am]*+(?:z++[am]++)*+|[sm]m*+")


def _words(classes: str, start: int, end: int) -> list[Span]:
    return [match.span() for match in _WORD.finditer(classes, start, end)]


def _plain_text(path: Path, stream: IO[bytes]) -> str:
    data = stream.read(untrusted.RECORD_LIMIT + 1)
    if len(data) > untrusted.RECORD_LIMIT:
        raise InputError(path, f"expected a text of at most {untrusted.RECORD_LIMIT >> 20} MiB, found a longer one")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        column = error.start - data.rfind(b"\n", 0, error.start)
        raise InputError(path, f"expected UTF-8, found {error.reason} at byte {column}", line) from None


def _json_documents(path: Path, stream: IO[bytes], skipped: list[str] | None) -> Iterator[Document]:
    seen: set[str] = set()
    first_error = ""
    for number, line in untrusted.bounded_lines(path, stream):
        if line.isspace():
            continue
        try:
            document = _json_document(path, number, line)
            if document.id in seen:
                raise InputError(path, f"expected an id that no earlier line has, found {document.id[:60]!r}", number)
        except InputError as error:
            if skipped is None:
                raise
            skipped.append(str(error))
            first_error = first_error or str(error)
        else:
            seen.add(document.id)
            yield document
    if not seen:
        found = f"only bad lines: {first_error}" if first_error else "none"
        raise InputError(path, f"expected at least one document, found {found}")


def _json_document(path: Path, number: int, line: bytes) -> Document:
    try:
        value = json.loads(line.decode("utf-8-sig" if number == 1 else "utf-8"))
    except UnicodeDecodeError as error:
        raise InputError(path, f"expected UTF-8, found {error.reason} at byte {error.start + 1}", number) from None
    except (ValueError, RecursionError) as error:
        raise InputError(path, f"expected a JSON object on the line, found an error: {error}", number) from None
    if not isinstance(value, dict):
        raise InputError(path, f"expected a JSON object on the line, found {type(value).__name__}", number)
    name, text = value.get("id"), value.get("text")
    if isinstance(name, bool) or not isinstance(name, str | int) or name == "":
        found = "an empty one" if name == "" else type(name).__name__
        raise InputError(path, f"expected a string or whole number as `id`, found {found}", number)
    if not isinstance(text, str):
        raise InputError(path, f"expected a string as `text`, found {type(text).__name__}", number)
    try:
        f"{name}{text}".encode()
    except UnicodeEncodeError:
        found = "half of a surrogate pair (\\ud800-\\udfff)"
        raise InputError(path, f"expected Unicode text, found {found}", number) from None
    return Document(str(name), text)
