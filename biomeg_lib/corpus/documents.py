"""One corpus as one file: whatever was read becomes documents.jsonl.gz, with counts.json beside it.

Three steps: each source file becomes a part (`parts`), the ids of all parts decide which documents stay (`versions`),
and what stays is put behind each other without being compressed again, but for blocks that lose a document. The file is
the same byte for byte whenever the same files are read in the same order, by however many processes, in one go or after
any number of interruptions, and it is itself in the `jsonl` format that `readers` reads.
"""

import contextlib
import itertools
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from biomeg_lib import files as atomic
from biomeg_lib.corpus import blocks, parallel, versions
from biomeg_lib.corpus.parts import DOCUMENTS, IDS, TABLE, batches, folder_of, read_parts, read_table
from biomeg_lib.corpus.readers import Document, Format, check_format, read_documents
from biomeg_lib.errors import BiomegError

__all__ = [
    "COUNTS",
    "DOCUMENTS",
    "TABLE",
    "batches",
    "block_table",
    "build_corpus",
    "parts_folder",
    "read_part",
    "stream",
]

COUNTS = "counts.json"


def parts_folder(directory: str | Path) -> Path:
    """Where the parts of a corpus are while it is made: beside its folder."""
    directory = Path(directory)
    return directory.with_name(f"{directory.name}.parts")


def build_corpus(
    files: Sequence[str | Path],
    format: Format,
    directory: str | Path,
    processes: int | None = None,
    keep_parts: bool = False,
) -> dict[str, Any]:
    """Read `files` and write them as one corpus; `directory` appears whole or not at all, and replaces an older one.

    Dropped are documents without a paragraph (a title alone has no text to learn from) and documents whose id has been
    seen before, in any of the files: the first one stays. In PubMed's files ids come back because a citation was
    revised, so the last version stays, and none of what was deleted later; see `versions`. Ids are told apart by 8-byte
    hashes; among 40 million ids the chance that any two share one is 1 in 23,000.

    Files that have been read are not read again after an interruption or an error: their parts stay in `parts_folder`
    until the corpus is there.

    Args:
        files, format: as for `read_documents`; PubMed's in the order of their numbers, baseline before updates.
        directory: gets documents.jsonl.gz, counts.json and blocks.npy, the places of the blocks in the former.
        processes: how many parse and compress; by default all CPUs, or only this process for a small corpus.
        keep_parts: leave the parts where they are, so that a later build reads new and changed files alone; they take
            as much room as the corpus.
    Returns:
        The content of counts.json: `documents`, `words` and `characters` (of `Document.text`), `dropped` with
        `empty`, `duplicate` and, of PubMed, `revised` and `deleted`, and `files`, the names of the files. What is kept
        and what is dropped add up to what the files hold.
    Raises:
        InputError: a file that cannot be read as `format`, or a part that was damaged after it had been made.
        BiomegError: no files, no document in any of them, an unknown format; or a process died.
    """
    check_format(format)
    paths = {number: Path(file) for number, file in enumerate(files, 1)}
    if processes is None:
        processes = parallel.process_count(sum(path.stat().st_size for path in paths.values() if path.is_file()))
    parts = parts_folder(directory)
    folders = [folder_of(parts, number) for number in paths]
    try:
        read_parts(paths, format, parts, processes)
        with atomic.atomic_directory(directory, scratch=parts) as folder:
            verdicts = versions.decide([part / IDS for part in folders], format == "pubmed", folder)
            documents, words, characters, dropped = _merge(folders, verdicts, folder)
            if not documents:
                names = ", ".join(str(path) for path in paths.values()) or "an empty list of files"
                raise BiomegError(
                    f"expected at least one document with text for the corpus {directory}, found none in {names}"
                )
            kinds = {"empty": versions.NO_TEXT, "duplicate": versions.DUPLICATE}
            if format == "pubmed":
                kinds |= {"revised": versions.REVISED, "deleted": versions.DELETED}
            counts = {
                "documents": documents,
                "words": words,
                "characters": characters,
                "dropped": {kind: dropped[verdict] for kind, verdict in kinds.items()},
                "files": [path.name for path in paths.values()],
            }
            atomic.write_json(folder / COUNTS, counts)
        for left in parts.iterdir():
            if not (keep_parts and left in folders):
                shutil.rmtree(left, ignore_errors=True)
    finally:
        with contextlib.suppress(OSError):  # it is not empty
            parts.rmdir()
    return counts


def read_part(file: Path, number: int, format: Format, directory: str | Path) -> None:
    """Make the part of one file, unless it is there: a share of `build_corpus`, for another machine to do.

    Args:
        number: the file's place in the list that `build_corpus` will get, from 1.
        directory: of the corpus.
    Raises:
        InputError: a file that cannot be read as `format`.
        BiomegError: an unknown format.
    """
    check_format(format)
    read_parts({number: file}, format, parts_folder(directory), 1)


def stream(directory: str | Path) -> Iterator[Document]:
    """The documents of a corpus that `build_corpus` wrote, in order, one in memory at a time.

    Raises:
        InputError: there is no such corpus, or its file is damaged.
    """
    return read_documents(Path(directory) / DOCUMENTS, "jsonl")


def block_table(directory: str | Path) -> np.ndarray | None:
    """Where the blocks of a corpus lie, see `blocks`; None of one that was made without the table.

    Raises:
        InputError: the table is damaged.
    """
    path = Path(directory) / TABLE
    try:
        return read_table(path)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, EOFError) as error:
        raise blocks.damaged(path, f"({error})") from None


def _merge(parts: Iterable[Path], verdicts: np.ndarray, folder: Path) -> tuple[int, int, int, Counter[int]]:
    """Write what stays; returns its documents, words and characters, and how many others have which verdict."""
    documents = words = characters = place = 0
    dropped: Counter[int] = Counter()
    with open(folder / DOCUMENTS, "wb") as stream:
        writer = blocks.BlockWriter(stream)
        for part in parts:
            index, start = versions.open_index(part / IDS), 0
            for found in blocks.read_blocks(part / DOCUMENTS, read_table(part / TABLE)):
                entries = index[start : start + found.entries]
                verdict = verdicts[place : place + found.entries]
                start += found.entries
                place += found.entries
                dropped.update(verdict[(entries["kind"] != versions.DELETION) & (verdict != versions.KEPT)].tolist())
                stays = verdict[entries["kind"] == versions.TEXT] == versions.KEPT
                kept = entries[(entries["kind"] == versions.TEXT) & (verdict == versions.KEPT)]
                documents += len(kept)
                words += int(kept["words"].sum(dtype=np.int64))
                characters += int(kept["characters"].sum(dtype=np.int64))
                if len(kept) == found.lines:
                    lines = found
                else:
                    text = blocks.text_of(part / DOCUMENTS, found).splitlines(keepends=True)
                    lines = blocks.block(b"".join(itertools.compress(text, stays)), len(kept), 0)
                if len(kept):
                    writer.add(lines._replace(entries=len(kept)))
        writer.finish()
    np.save(folder / TABLE, writer.table)
    return documents, words, characters, dropped
