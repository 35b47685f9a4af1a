"""Documents with their entities, written as JSON lines, brat standoff, PubTator or a table.

What is notable: offsets are characters of the input in every format; what a format cannot hold is replaced one for one,
or marked, and never moves an offset. "Line end" below means everything that some reader takes for one, as
`str.splitlines` does: from LF and CR to U+2028.

- `jsonl`: an object a line, `{"id", "text", "entities": [{"start", "end", "text", "type"}]}`. It is accepted as input
  again.
- `brat`: a folder with a pair of files for each document: `id.txt`, the text byte for byte, and `id.ann`, a line
  `T1 TAB Chemical 0 7 TAB Aspirin` an entity. Where an entity holds a line end or a tab, it is written as brat writes
  discontinuous ones, the parts without their outer blanks: `0 7;8 12 TAB Aspirin acid`. Characters that a file's name
  cannot have are percent-encoded. A path `*.ann`, or stdout, takes one document; beside the former its `.txt` is
  written, unless it is there.
- `pubtator`: `id|t|title`, `id|a|abstract`, then `id TAB start TAB end TAB mention TAB type`, then a blank line. The
  title is the first line of the document and the abstract all the rest; readers put one character between them, which
  is the newline. So a document of one line has an empty abstract, a document that begins with a newline an empty title.
  The other line ends, and tabs, become a space each. Readers that strip the title's leading blanks, or normalise
  blanks, move the offsets themselves. In ids, `|`, `%`, tabs and line ends are percent-encoded.
- `tsv`: the columns id, start, end, type, text with a header; nothing is quoted. In id and text, backslashes,
  control characters and line ends are written as in JSON: `\\\\`, `\\t`, `\\n`, `\\u2028`.

Files are complete or absent, and documents are streamed: one at a time is in memory.
"""

import contextlib
import json
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Literal, get_args

from biomeg_lib.errors import BiomegError
from biomeg_lib.files import atomic_directory, atomic_open
from biomeg_lib.predict.entities import Entity
from biomeg_lib.predict.texts import Document

Format = Literal["jsonl", "brat", "pubtator", "tsv"]
FORMATS: tuple[str, ...] = get_args(Format)
STDOUT = "-"

Annotated = Iterable[tuple[Document, Sequence[Entity]]]

_LINE_ENDS = "\n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029"
_LONGEST_NAME = 200  # bytes; file systems allow 255, and a temporary name is longer


def write(annotated: Annotated, output: str | Path, format: Format) -> None:
    """Write documents with their entities; see the module for the formats.

    Args:
        annotated: (document, its entities) pairs, read once and as they are written.
        output: a file, or for `brat` a folder; `-` is stdout, UTF-8 whatever the terminal is set to.

    Raises:
        BiomegError: an unknown format; for `brat`, a folder that has files in it already, another `.txt` beside the
            `.ann`, ids that do not fit into names of files, or several documents where one is taken.
    """
    if format not in FORMATS:
        raise BiomegError(f"expected the format {', '.join(FORMATS)}, found {format!r}")
    if format == "brat":
        _write_brat(annotated, output)
        return
    record, head = _RECORDS[format]
    with opened(output) as put:
        put(head)
        for document, entities in annotated:
            put(record(document, entities))


@contextlib.contextmanager
def opened(output: str | Path) -> Iterator[Callable[[str], object]]:
    """What writes a string to the file, or to stdout."""
    if str(output) == STDOUT:
        sys.stdout.flush()
        yield lambda text: sys.stdout.buffer.write(text.encode())
    else:
        with atomic_open(output) as stream:
            yield stream.write


# --- JSON lines, table ----------------------------------------------------------------------------------------------

_IN_JSON = {ord(character): f"\\u{ord(character):04x}" for character in "\x85\u2028\u2029"}  # JSON itself allows them
_IN_TABLE = str.maketrans({c: json.dumps(c)[1:-1] for c in {"\\", *map(chr, range(32)), *_LINE_ENDS}})


def _jsonl(document: Document, entities: Sequence[Entity]) -> str:
    record = {
        "id": document.id,
        "text": document.text,
        "entities": [
            {"start": entity.start, "end": entity.end, "text": entity.text, "type": entity.kind} for entity in entities
        ],
    }
    return json.dumps(record, ensure_ascii=False).translate(_IN_JSON) + "\n"


def _tsv(document: Document, entities: Sequence[Entity]) -> str:
    name = document.id.translate(_IN_TABLE)
    return "".join(
        f"{name}\t{entity.start}\t{entity.end}\t{entity.kind}\t{entity.text.translate(_IN_TABLE)}\n"
        for entity in entities
    )


# --- PubTator -------------------------------------------------------------------------------------------------------

_ONE_LINE = str.maketrans(dict.fromkeys("\t" + _LINE_ENDS, " "))
_NOT_IN_PUBTATOR_ID = re.compile(f"[|%\t{_LINE_ENDS}]")


def _pubtator(document: Document, entities: Sequence[Entity]) -> str:
    name = _percent_encoded(_NOT_IN_PUBTATOR_ID, document.id)
    title, _, abstract = document.text.partition("\n")
    lines = [f"{name}|t|{title.translate(_ONE_LINE)}", f"{name}|a|{abstract.translate(_ONE_LINE)}"]
    for entity in entities:
        lines.append(f"{name}\t{entity.start}\t{entity.end}\t{entity.text.translate(_ONE_LINE)}\t{entity.kind}")
    return "\n".join(lines) + "\n\n"


_RECORDS: dict[str, tuple[Callable[[Document, Sequence[Entity]], str], str]] = {
    "jsonl": (_jsonl, ""),
    "pubtator": (_pubtator, ""),
    "tsv": (_tsv, "id\tstart\tend\ttype\ttext\n"),
}


# --- brat -----------------------------------------------------------------------------------------------------------

_PART = re.compile(f"[^\t{_LINE_ENDS}]+")
_NOT_IN_NAME = re.compile(r'[\x00-\x1f\x7f/\\:*?"<>|%]|^\.')


def _write_brat(annotated: Annotated, output: str | Path) -> None:
    path = Path(output)
    if str(output) == STDOUT or path.suffix == ".ann":
        document, entities = _only(annotated, output)
        if str(output) != STDOUT:
            _write_beside(path.with_suffix(".txt"), document.text.encode())
        with opened(output) as put:
            put(_standoff(entities))
        return
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        found = "files in it" if path.is_dir() else "a file"
        raise BiomegError(f"{path}: expected a new or empty folder for brat, found {found}")
    with atomic_directory(path) as folder:
        for document, entities in annotated:
            name = _percent_encoded(_NOT_IN_NAME, document.id)
            if len(name.encode()) > _LONGEST_NAME or (folder / f"{name}.txt").exists():
                wanted = f"expected ids that make different file names of at most {_LONGEST_NAME} bytes"
                raise BiomegError(f"{path}: {wanted}, found {document.id[:60]!r}")
            (folder / f"{name}.txt").write_bytes(document.text.encode())
            (folder / f"{name}.ann").write_bytes(_standoff(entities).encode())


def _only(annotated: Annotated, output: str | Path) -> tuple[Document, Sequence[Entity]]:
    found = list(islice(annotated, 2))
    if len(found) != 1:
        count = "several" if found else "none"
        raise BiomegError(f"expected one document for brat's {output}, found {count}; several go into a folder")
    return found[0]


def _write_beside(path: Path, text: bytes) -> None:
    """The text of an `.ann` file. It was not asked for by name, so another file is not overwritten."""
    if not path.exists():
        with atomic_open(path, "wb") as stream:
            stream.write(text)
    elif path.read_bytes() != text:
        raise BiomegError(f"{path}: expected the text that is annotated or no file, found another text")


def _standoff(entities: Sequence[Entity]) -> str:
    lines = []
    for number, entity in enumerate(entities, start=1):
        parts = list(_parts(entity.text))
        spans = ";".join(f"{entity.start + start} {entity.start + start + len(part)}" for start, part in parts)
        lines.append(f"T{number}\t{entity.kind} {spans}\t{' '.join(part for _, part in parts)}\n")
    return "".join(lines)


def _parts(text: str) -> Iterator[tuple[int, str]]:
    """What stands between line ends and tabs without its outer blanks, and where; nothing for blanks alone."""
    for match in _PART.finditer(text):
        part = match.group().lstrip()
        if part:
            yield match.end() - len(part), part.rstrip()


def _percent_encoded(pattern: re.Pattern[str], name: str) -> str:
    """`name` with what the pattern finds as `%` and two digits a byte; different names stay different."""
    return pattern.sub(lambda match: "".join(f"%{byte:02X}" for byte in match.group().encode()), name)
