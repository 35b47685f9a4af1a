"""One corpus as one file: whatever was read becomes documents.jsonl.gz, with counts.json beside it.

The file is the same byte for byte whenever the same files are read in the same order (gzip with no time stamp and no
name), and it is itself in the `jsonl` format that `readers` reads.
"""

import gzip
import json
from collections.abc import Iterator, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any

from biomeg_lib import files as atomic
from biomeg_lib.corpus.readers import Document, Format, read_documents
from biomeg_lib.errors import BiomegError

DOCUMENTS, COUNTS = "documents.jsonl.gz", "counts.json"


def build_corpus(files: Sequence[str | Path], format: Format, directory: str | Path) -> dict[str, Any]:
    """Read `files` and write them as one corpus; `directory` appears whole or not at all, and replaces an older one.

    Dropped are documents without a paragraph (a title alone has no text to learn from) and documents whose id has been
    seen before, in any of the files: the first one stays. Ids are remembered as 8-byte hashes, about 80 bytes each in a
    Python set, which is the one thing in memory that grows with the corpus; among 30 million ids the chance that any
    two share a hash is 1 in 40,000.

    Returns:
        The content of counts.json: `documents`, `words` and `characters` (of `Document.text`), `dropped` with
        `empty` and `duplicate`, and `files`, the names of the files.
    Raises:
        InputError: a file that cannot be read as `format`.
        BiomegError: no files, or no document in any of them.
    """
    paths = [Path(file) for file in files]
    documents = words = characters = empty = duplicate = 0
    seen: set[int] = set()
    with atomic.atomic_directory(directory) as folder:
        with (
            open(folder / DOCUMENTS, "wb") as raw,
            gzip.GzipFile(filename="", mode="wb", compresslevel=3, fileobj=raw, mtime=0) as stream,
        ):
            for path in paths:
                for document in read_documents(path, format):
                    key = int.from_bytes(blake2b(document.id.encode(), digest_size=8).digest())
                    if not document.paragraphs:
                        empty += 1
                    elif key in seen:
                        duplicate += 1
                    else:
                        seen.add(key)
                        documents += 1
                        words += document.words
                        characters += len(document.text)
                        stream.write(_line(document))
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


def _line(document: Document) -> bytes:
    value = {"id": document.id, "title": document.title, "paragraphs": document.paragraphs}
    return json.dumps(value, ensure_ascii=False).encode() + b"\n"
