"""One corpus as one file: whatever was read becomes documents.jsonl.gz, with counts.json beside it.

The file is the same byte for byte whenever the same files are read in the same order, by however many processes (gzip
with no time stamp and no name), and it is itself in the `jsonl` format that `readers` reads.
"""

import json
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from functools import partial
from hashlib import blake2b
from pathlib import Path
from typing import Any, NamedTuple

from biomeg_lib import files as atomic
from biomeg_lib.corpus import parallel
from biomeg_lib.corpus.readers import Document, Format, Raw, check_format, parse, raw_records, read_documents
from biomeg_lib.errors import BiomegError

DOCUMENTS, COUNTS = "documents.jsonl.gz", "counts.json"
BATCH = 1 << 20  # bytes of raw input that are parsed, or of documents that are compressed, at a time


class _Entry(NamedTuple):
    key: int  # hash of the id
    words: int
    characters: int
    line: bytes


class _Batch(NamedTuple):
    entries: list[_Entry]
    empty: int  # documents without a paragraph, which are left out
    compressed: bytes  # the lines of all entries


def build_corpus(
    files: Sequence[str | Path], format: Format, directory: str | Path, processes: int | None = None
) -> dict[str, Any]:
    """Read `files` and write them as one corpus; `directory` appears whole or not at all, and replaces an older one.

    Dropped are documents without a paragraph (a title alone has no text to learn from) and documents whose id has been
    seen before, in any of the files: the first one stays. Ids are remembered as 8-byte hashes, about 80 bytes each in a
    Python set, which is the one thing in memory that grows with the corpus; among 30 million ids the chance that any
    two share a hash is 1 in 40,000.

    Args:
        files, format: as for `read_documents`.
        directory: gets documents.jsonl.gz and counts.json.
        processes: how many parse and compress; by default all CPUs, or only this process for a small corpus.
    Returns:
        The content of counts.json: `documents`, `words` and `characters` (of `Document.text`), `dropped` with
        `empty` and `duplicate`, and `files`, the names of the files.
    Raises:
        InputError: a file that cannot be read as `format`.
        BiomegError: no files, no document in any of them, an unknown format; or a process died.
    """
    check_format(format)
    paths = [Path(file) for file in files]
    documents = words = characters = empty = duplicate = 0
    seen: set[int] = set()
    if processes is None:
        processes = parallel.process_count(sum(path.stat().st_size for path in paths if path.is_file()))
    raws = (raw for path in paths for raw in raw_records(path, format))
    with atomic.atomic_directory(directory) as folder:
        work = parallel.flat_map(partial(_read, format), batches(raws), processes, folder)
        with open(folder / DOCUMENTS, "wb") as stream, closing(work):
            zipped = _GzipBlocks(stream)
            for batch in work:
                empty += batch.empty
                kept = []
                for entry in batch.entries:
                    if entry.key not in seen:
                        seen.add(entry.key)
                        kept.append(entry)
                        words += entry.words
                        characters += entry.characters
                documents += len(kept)
                duplicate += len(batch.entries) - len(kept)
                lines = b"".join(entry.line for entry in kept)
                zipped.write(lines, batch.compressed if len(kept) == len(batch.entries) else _compressed(lines))
            zipped.finish()
        if not documents:
            names = ", ".join(str(path) for path in paths) or "an empty list of files"
            raise BiomegError(
                f"expected at least one document with text for the corpus {directory}, found none in {names}"
            )
        counts = {
            "documents": documents,
            "words": words,
            "characters": characters,
            "dropped": {"empty": empty, "duplicate": duplicate},
            "files": [path.name for path in paths],
        }
        atomic.write_json(folder / COUNTS, counts)
    return counts


def stream(directory: str | Path) -> Iterator[Document]:
    """The documents of a corpus that `build_corpus` wrote, in order, one in memory at a time.

    Raises:
        InputError: there is no such corpus, or its file is damaged.
    """
    return read_documents(Path(directory) / DOCUMENTS, "jsonl")


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


def _read(format: Format, raws: list[Raw]) -> Iterator[_Batch]:
    entries: list[_Entry] = []
    empty = size = 0
    for document in (document for raw in raws for document in parse(raw, format)):
        if not document.paragraphs:
            empty += 1
            continue
        key = int.from_bytes(blake2b(document.id.encode(), digest_size=8).digest())
        entries.append(_Entry(key, document.words, len(document.text), _line(document)))
        size += len(entries[-1].line)
        if size >= BATCH:
            yield _batch(entries, empty)
            entries, empty, size = [], 0, 0
    yield _batch(entries, empty)


def _batch(entries: list[_Entry], empty: int) -> _Batch:
    return _Batch(entries, empty, _compressed(b"".join(entry.line for entry in entries)))


def _line(document: Document) -> bytes:
    value = {"id": document.id, "title": document.title, "paragraphs": document.paragraphs}
    return json.dumps(value, ensure_ascii=False).encode() + b"\n"


def _compressed(lines: bytes) -> bytes:
    deflate = zlib.compressobj(3, zlib.DEFLATED, -zlib.MAX_WBITS)
    return deflate.compress(lines) + deflate.flush(zlib.Z_FULL_FLUSH)


class _GzipBlocks:
    """One gzip member out of blocks that were compressed apart from each other."""

    def __init__(self, stream):
        self._stream, self._checksum, self._size = stream, 0, 0
        stream.write(b"\x1f\x8b\x08\0\0\0\0\0\0\xff")  # deflate, no flags, no time stamp, unknown system

    def write(self, data: bytes, compressed: bytes) -> None:
        """Add a block: what it says, and that compressed."""
        self._checksum, self._size = zlib.crc32(data, self._checksum), self._size + len(data)
        self._stream.write(compressed)

    def finish(self) -> None:
        """Write the end: an empty last block, the checksum, the size modulo 2^32."""
        self._stream.write(b"\x03\0" + self._checksum.to_bytes(4, "little"))
        self._stream.write((self._size % (1 << 32)).to_bytes(4, "little"))
