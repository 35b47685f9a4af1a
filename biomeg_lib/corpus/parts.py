"""The parts of a corpus: what each source file says, parsed once, before it is known which of its documents stay.

A part is a folder named by the file's place in the list, from 00001: `documents.jsonl.gz` (all documents with text),
`blocks.npy` (where its blocks lie, see `blocks`), `index` (an entry for each document and deletion, see `versions`) and
`part.json`, which says what it was made of. It appears whole or not at all, so a build that was ended by whatever goes
on with the next file, and any number of machines can read files of one corpus. Parts do not depend on each other, nor
on the number of processes.

Notable: a part is taken for what it is only if its source file has the name, size and time of change that it was read
with, the modules that read it are the same, and its own files are as `part.json` says; else it is made again.
"""

import functools
import json
import zlib
from collections.abc import Iterable, Iterator
from contextlib import closing
from functools import partial
from hashlib import blake2b
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from biomeg_lib import files as atomic
from biomeg_lib import sums
from biomeg_lib.corpus import blocks, jats, parallel, readers, text, untrusted
from biomeg_lib.corpus.readers import Document, Format, Raw, changes, raw_records
from biomeg_lib.corpus.versions import DELETION, EMPTY, INDEX, TEXT
from biomeg_lib.errors import BiomegError

DOCUMENTS, TABLE, IDS, PART = "documents.jsonl.gz", "blocks.npy", "index", "part.json"
BATCH = 1 << 20  # bytes of raw input that are parsed, or of documents that are compressed, at a time
_SHARES = 4  # files are shared out whole if the largest is at most a quarter of what a process has to read


class _Piece(NamedTuple):
    """Some of what a file says, as a process hands it over."""

    block: blocks.Block
    index: bytes


def folder_of(parts: Path, number: int) -> Path:
    """The folder of the part for the file with this number, from 1."""
    return parts / f"{number:05}"


def read_parts(paths: dict[int, Path], format: Format, parts: Path, processes: int) -> None:
    """Make the parts that are not there yet.

    Many files are shared out whole, the largest first; of few the batches are, in the order of the files.

    Args:
        paths: the files by their numbers.
        parts: the folder of the parts; made if it is not there.
        processes: how many parse and compress.

    Raises:
        InputError: a file that cannot be read as `format`; the parts of others may have been made.
        BiomegError: a process died.
    """
    missing = {
        number: path for number, path in paths.items() if not is_complete(folder_of(parts, number), path, format)
    }
    parts.mkdir(parents=True, exist_ok=True)
    sizes = {number: path.stat().st_size if path.is_file() else 0 for number, path in missing.items()}
    if processes > 1 and sizes and _SHARES * processes * max(sizes.values()) <= sum(sizes.values()):
        items = sorted(missing.items(), key=lambda item: -sizes[item[0]])
        with closing(parallel.flat_map(partial(_read_alone, format, parts), items, processes, parts)) as work:
            for _ in work:
                pass
    else:
        _read_in_batches(missing, format, parts, processes)


def _read_alone(format: Format, parts: Path, item: tuple[int, Path]) -> tuple[()]:
    _read_in_batches(dict([item]), format, parts, 1)
    return ()


def _read_in_batches(paths: dict[int, Path], format: Format, parts: Path, processes: int) -> None:
    sources = {number: _source(path, format) for number, path in paths.items()}
    work = parallel.flat_map(partial(_parse, format), _items(paths.values(), format), processes, parts)
    with closing(work):
        for number, source in sources.items():
            with atomic.atomic_directory(folder_of(parts, number)) as folder:
                _write(folder, source, iter(partial(next, work), None))


def _items(paths: Iterable[Path], format: Format) -> Iterator[list[Raw]]:
    for path in paths:
        yield from batches(raw_records(path, format))
        yield []  # the file ends here


def batches(raws: Iterable[Raw]) -> Iterator[list[Raw]]:
    """Group consecutive parts of files to about `BATCH` bytes; an error of `raws` comes after what was read before."""
    batch: list[Raw] = []
    size = 0
    try:
        for raw in raws:
            batch.append(raw)
            size += raw.size
            if size >= BATCH:
                yield batch
                batch, size = [], 0
    except BiomegError:
        if batch:
            yield batch
        raise
    if batch:
        yield batch


def _parse(format: Format, raws: list[Raw]) -> Iterator[_Piece | None]:
    """What some batch says, in pieces; None at the end of a file."""
    if not raws:
        yield None
        return
    lines: list[bytes] = []
    index: list[tuple[int, int, int, int, int]] = []
    size = 0
    for change in (change for raw in raws for change in changes(raw, format)):
        key = int.from_bytes(blake2b(change.id.encode(), digest_size=8).digest())
        document = change.document
        if document is None:
            index.append((key, change.version, 0, 0, DELETION))
        elif not document.paragraphs:
            index.append((key, change.version, 0, 0, EMPTY))
        else:
            index.append((key, change.version, document.words, len(document.text), TEXT))
            lines.append(_line(document))
            size += len(lines[-1])
        if size >= BATCH:
            yield _piece(lines, index)
            lines, index, size = [], [], 0
    yield _piece(lines, index)


def _piece(lines: list[bytes], index: list[tuple[int, int, int, int, int]]) -> _Piece:
    return _Piece(blocks.block(b"".join(lines), len(lines), len(index)), np.array(index, dtype=INDEX).tobytes())


def _line(document: Document) -> bytes:
    value = {"id": document.id, "title": document.title, "paragraphs": document.paragraphs}
    return json.dumps(value, ensure_ascii=False).encode() + b"\n"


def _write(folder: Path, source: dict[str, Any], pieces: Iterable[_Piece]) -> None:
    checksum = 0
    with open(folder / DOCUMENTS, "wb") as stream, open(folder / IDS, "wb") as index:
        writer = blocks.BlockWriter(stream)
        for piece in pieces:
            if piece.block.entries:
                writer.add(piece.block)
                index.write(piece.index)
                checksum = zlib.crc32(piece.index, checksum)
        writer.finish()
    np.save(folder / TABLE, writer.table)
    atomic.write_json(folder / PART, {**source, "index": checksum, "table": zlib.crc32(writer.table.tobytes())})


# --- Parts that are there -------------------------------------------------------------------------------------------


@functools.cache
def code_of(*files: str) -> str:
    """A hash of the modules that decide what is made: with other code it is made anew."""
    digest = blake2b(digest_size=8)
    for file in files:
        digest.update(Path(file).read_bytes())
    return digest.hexdigest()


def _source(path: Path, format: Format) -> dict[str, Any]:
    """What a part is made of; an absent file is for the readers to complain about."""
    status = path.stat() if path.is_file() else None
    return {
        "file": path.name,
        "format": format,
        "bytes": status and status.st_size,
        "changed": status and status.st_mtime_ns,
        "code": code_of(__file__, *(module.__file__ for module in (readers, jats, text, untrusted, blocks))),
    }


def is_complete(folder: Path, path: Path, format: Format) -> bool:
    """Whether `folder` is the part of a file, as that now is, and none of its files is short or altered.

    The documents themselves are held to their checksums when they are read.
    """
    try:
        made = json.loads((folder / PART).read_text(encoding="utf-8"))
        table = read_table(folder / TABLE)
        length = blocks.FRAME + int(table["size"].sum(dtype=np.int64))
        return (
            made == {**_source(path, format), "index": made["index"], "table": made["table"]}
            and zlib.crc32(table.tobytes()) == made["table"]
            and (folder / DOCUMENTS).stat().st_size == length
            and (folder / IDS).stat().st_size == INDEX.itemsize * int(table["entries"].sum(dtype=np.int64))
            and sums.crc32(folder / IDS) == made["index"]
        )
    except (OSError, ValueError, KeyError, TypeError, EOFError):
        return False


def read_table(path: Path) -> np.ndarray:
    """A file with the table of blocks.

    Raises:
        OSError, ValueError, EOFError: it is absent or damaged.
    """
    table = np.load(path, allow_pickle=False)
    if table.dtype != blocks.TABLE or table.ndim != 1:
        raise ValueError(f"expected a table of blocks, found {table.dtype}")
    return table
