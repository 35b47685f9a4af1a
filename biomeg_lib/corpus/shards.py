"""Token shards: one corpus under one vocabulary, as two indexed datasets, `train` and `heldout`.

Notable: one sequence is one sentence. Whether a document is held out depends on its id alone, so models with different
vocabularies are measured on the same text. A large corpus is cut into shards of about a gigabyte of text, each with
both splits in a folder of its own, which `joined` reads as one dataset; those that are complete are found again after
an interruption.
"""

import contextlib
import functools
import hashlib
import itertools
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from biomeg_lib import files, sums
from biomeg_lib.corpus import blocks, documents, joined, parallel, parts, sentences
from biomeg_lib.corpus.indexed import IndexedWriter, bin_path, idx_path, token_dtype
from biomeg_lib.corpus.readers import Document, Raw, parse, raw_records
from biomeg_lib.corpus.sentences import split_sentences
from biomeg_lib.errors import BiomegError, InputError
from biomeg_lib.vocab import Vocabulary

SPLITS = ("train", "heldout")
SHARD = 1 << 30  # bytes of text, as it lies in documents.jsonl, after which the next shard begins
SHARD_FILE = "shard.json"


def is_held_out(document: str, fraction: float) -> bool:
    """Whether the document with this id is held out, for a `fraction` of all; the same whatever else the corpus has."""
    digest = hashlib.blake2b(document.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big") < fraction * 2.0**64


class _Batch(NamedTuple):
    """Documents of one split, as `IndexedWriter.add_documents` takes them."""

    split: str
    tokens: np.ndarray
    sizes: np.ndarray
    counts: np.ndarray
    words: int


class _Shard(NamedTuple):
    """A shard of several: its blocks, and what it is made of."""

    name: str
    first: int
    last: int
    source: dict[str, Any]


class _Block(NamedTuple):
    """Some documents of a corpus as they lie in its file."""

    path: Path
    first_line: int
    block: blocks.Block


def build_shards(
    corpus: Path, vocabulary: Vocabulary, directory: Path, held_out: float, processes: int | None = None
) -> dict:
    """Tokenise a corpus into `directory`, which appears whole or not at all.

    Titles are paragraphs like any other; sentences without a piece and documents without a sentence are dropped.

    Args:
        corpus: a folder made by `documents.build_corpus`.
        vocabulary: what encodes the sentences; the ids are stored as they are, without special tokens.
        directory: gets `train.bin`, `train.idx`, `heldout.bin`, `heldout.idx` and `shards.json`; of a corpus larger
            than `SHARD` folders 0001, ... with these in the place of the first four, and `train.json` and
            `heldout.json`, which name them. Until all is there, such folders are in `<directory>.parts`.
        held_out: fraction of the documents for `heldout`, between 0 and 1, both excluded.
        processes: how many find sentences and encode them; by default all CPUs, or only this process for a small
            corpus. The files do not depend on it.

    Returns:
        What `shards.json` holds: `vocabulary` (its fingerprint), `held_out`, and for each split `documents`,
        `sentences`, `tokens` and `words` (white-space separated, of its documents).

    Raises:
        BiomegError: one of the splits is empty; or a process died.
        InputError: the corpus cannot be read.
    """
    if not 0 < held_out < 1:
        raise BiomegError(f"held_out is {held_out}: expected a fraction of the documents, above 0 and below 1")
    path, directory = Path(corpus) / documents.DOCUMENTS, Path(directory)
    if processes is None:
        processes = parallel.process_count(path.stat().st_size if path.is_file() else 0)
    encode = functools.partial(_encode, vocabulary, held_out)
    dtype = token_dtype(vocabulary.size)
    made = {"vocabulary": vocabulary.fingerprint, "held_out": held_out}
    table = documents.block_table(corpus)
    bounds = _bounds(table)
    if len(bounds) < 3:
        items = documents.batches(raw_records(path, "jsonl")) if table is None else _blocks(path, table, 0, len(table))
        with files.atomic_directory(directory) as folder:
            with contextlib.closing(parallel.flat_map(encode, items, processes, folder)) as batches:
                counts = _write(folder, batches, dtype)
            _refuse_empty(corpus, held_out, counts)
            files.write_json(folder / "shards.json", counts := made | counts)
        return counts

    folder = directory.with_name(f"{directory.name}.parts")
    shards = _shards(table, bounds, made)
    _make_missing(folder, shards, path, table, encode, dtype, processes)
    each = [files.read_json(folder / shard.name / SHARD_FILE)["counts"] for shard in shards]
    counts = {split: {key: sum(one[split][key] for one in each) for key in each[0][split]} for split in SPLITS}
    _refuse_empty(corpus, held_out, counts)
    names = [shard.name for shard in shards]
    for left in folder.iterdir():  # of processes that were killed, of an older and larger corpus
        if left.name not in names:
            shutil.rmtree(left) if left.is_dir() else left.unlink()
    for split in SPLITS:
        joined.write_list(folder / split, [f"{name}/{split}" for name in names])
    files.write_json(folder / "shards.json", counts := made | counts)
    if directory.exists():
        shutil.rmtree(directory)
    os.replace(folder, directory)
    return counts


def _shards(table: np.ndarray, bounds: list[int], made: dict[str, Any]) -> list[_Shard]:
    code = parts.code_of(__file__, *(module.__file__ for module in (sentences, parts.readers)))
    shards = []
    for number, (first, last) in enumerate(itertools.pairwise(bounds), 1):
        text = hashlib.blake2b(table[first:last].tobytes(), digest_size=16).hexdigest()
        shards.append(_Shard(f"{number:04}", first, last, {**made, "text": text, "code": code}))
    return shards


def _make_missing(
    folder: Path,
    shards: list[_Shard],
    path: Path,
    table: np.ndarray,
    encode: Callable[[Any], list[_Batch | None]],
    dtype: np.dtype,
    processes: int,
) -> None:
    """Make the shards that are not there, complete and intact."""
    folder.mkdir(parents=True, exist_ok=True)
    missing = [shard for shard in shards if not _is_made(folder / shard.name, shard.source)]
    # A None behind the blocks of each shard, and behind what they come to.
    items = (
        item for shard in missing for item in itertools.chain(_blocks(path, table, shard.first, shard.last), [None])
    )
    with contextlib.closing(parallel.flat_map(encode, items, processes, folder)) as batches:
        for shard in missing:
            with files.atomic_directory(folder / shard.name) as new:
                counts = _write(new, iter(functools.partial(next, batches), None), dtype)
                files.write_json(new / SHARD_FILE, {**shard.source, "counts": counts, "files": _checksums(new)})


def _bounds(table: np.ndarray | None) -> list[int]:
    """The block at which each shard starts; last the number of all blocks."""
    if table is None:
        return [0]
    text = table["text"].astype(np.int64)
    number = (np.cumsum(text) - text) // SHARD
    return [0, *(np.flatnonzero(np.diff(number)) + 1).tolist(), len(table)]


def _blocks(path: Path, table: np.ndarray, first: int, last: int) -> Iterator[_Block]:
    line = 1 + int(table["lines"][:first].sum(dtype=np.int64))
    for block in blocks.read_blocks(path, table, first, last):
        yield _Block(path, line, block)
        line += block.lines


def _write(folder: Path, batches: Iterable[_Batch], dtype: np.dtype) -> dict[str, dict[str, int]]:
    """Write both splits; returns the counts of each."""
    words = dict.fromkeys(SPLITS, 0)
    with contextlib.ExitStack() as stack:
        writers = {split: stack.enter_context(IndexedWriter(folder / split, dtype)) for split in SPLITS}
        for split, *batch, count in batches:
            writers[split].add_documents(*batch)
            words[split] += count
    return {
        split: {
            "documents": writer.documents,
            "sentences": writer.sentences,
            "tokens": writer.tokens,
            "words": words[split],
        }
        for split, writer in writers.items()
    }


def _refuse_empty(corpus: Path, held_out: float, counts: dict[str, dict[str, int]]) -> None:
    for split, found in counts.items():
        if not found["documents"]:
            change = "raise" if split == "heldout" else "lower"
            raise BiomegError(
                f"{corpus}: no document falls into the split {split} with held_out {held_out}; "
                f"{change} held_out or give the corpus more documents"
            )


def _checksums(folder: Path) -> dict[str, int]:
    paths = [path_of(folder / split) for split in SPLITS for path_of in (bin_path, idx_path)]
    return {path.name: sums.crc32(path) for path in paths}


def _is_made(folder: Path, source: dict[str, Any]) -> bool:
    """Whether a shard is there, made of `source`, and intact."""
    try:
        made = json.loads((folder / SHARD_FILE).read_text(encoding="utf-8"))
        return made == {**source, "counts": made["counts"], "files": _checksums(folder)}
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _encode(vocabulary: Vocabulary, held_out: float, item: list[Raw] | _Block | None) -> list[_Batch | None]:
    """Some documents of a corpus, at most one batch for each split; None for None."""
    if item is None:
        return [None]
    encoded: dict[str, list[tuple[list[np.ndarray], int]]] = {split: [] for split in SPLITS}
    for document in _documents(item):
        texts = [
            text[start:end] for text in (document.title, *document.paragraphs) for start, end in split_sentences(text)
        ]
        if pieces := [ids for ids in vocabulary.encode_ids(texts) if len(ids)]:
            split = "heldout" if is_held_out(document.id, held_out) else "train"
            encoded[split].append((pieces, document.words))
    batches: list[_Batch | None] = []
    for split, found in encoded.items():
        if found:
            pieces = [ids for one, _ in found for ids in one]
            tokens = np.concatenate(pieces).astype(token_dtype(vocabulary.size))
            sizes, counts = np.array([len(ids) for ids in pieces]), np.array([len(one) for one, _ in found])
            batches.append(_Batch(split, tokens, sizes, counts, sum(words for _, words in found)))
    return batches


def _documents(item: list[Raw] | _Block) -> Iterator[Document]:
    if isinstance(item, _Block):
        lines = blocks.text_of(item.path, item.block).splitlines(keepends=True)
        item = [Raw(item.path, len(line), (number, line)) for number, line in enumerate(lines, item.first_line)]
    for raw in item:
        yield from parse(raw, "jsonl")


def open_split(directory: Path, split: str, vocabulary: Vocabulary) -> Path:
    """The prefix of one split, for `IndexedReader` and `PretrainingSamples`, once it is known to fit the vocabulary.

    Args:
        directory: a folder made by `build_shards`.
        split: `train` or `heldout`.
        vocabulary: the one that the tokens will be read with.

    Raises:
        InputError: the folder holds no shards, or shards made with another vocabulary.
    """
    path = Path(directory) / "shards.json"
    try:
        counts = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(
            path, "expected the description of token shards, found no such file; build them first"
        ) from None
    except ValueError:
        raise InputError(path, "expected JSON, found something else; build the shards again") from None
    if not isinstance(counts, dict) or not {"vocabulary", split} <= counts.keys():
        raise InputError(path, f"expected the entries vocabulary and {split}; build the shards again")
    if counts["vocabulary"] != vocabulary.fingerprint:
        raise InputError(
            path,
            f"expected shards made with the vocabulary {vocabulary.fingerprint[:12]}, "
            f"found {str(counts['vocabulary'])[:12]}; build the shards again with this vocabulary",
        )
    return Path(directory) / split
