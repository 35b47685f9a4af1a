"""Token shards: one corpus under one vocabulary, as two indexed datasets, `train` and `heldout`.

Notable: one sequence is one sentence. Whether a document is held out depends on its id alone, so models with different
vocabularies are measured on the same text.
"""

import contextlib
import functools
import hashlib
import json
from pathlib import Path
from typing import NamedTuple

import numpy as np

from biomeg_lib import files
from biomeg_lib.corpus import documents, parallel
from biomeg_lib.corpus.indexed import IndexedWriter, token_dtype
from biomeg_lib.corpus.readers import Raw, parse, raw_records
from biomeg_lib.corpus.sentences import split_sentences
from biomeg_lib.errors import BiomegError, InputError
from biomeg_lib.vocab import Vocabulary

SPLITS = ("train", "heldout")


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


def build_shards(
    corpus: Path, vocabulary: Vocabulary, directory: Path, held_out: float, processes: int | None = None
) -> dict:
    """Tokenise a corpus into `directory`, which appears whole or not at all.

    Titles are paragraphs like any other; sentences without a piece and documents without a sentence are dropped.

    Args:
        corpus: a folder made by `documents.build_corpus`.
        vocabulary: what encodes the sentences; the ids are stored as they are, without special tokens.
        directory: gets `train.bin`, `train.idx`, `heldout.bin`, `heldout.idx` and `shards.json`.
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
    path = Path(corpus) / documents.DOCUMENTS
    if processes is None:
        processes = parallel.process_count(path.stat().st_size if path.is_file() else 0)
    with files.atomic_directory(directory) as folder:
        words = dict.fromkeys(SPLITS, 0)
        encode = functools.partial(_encode, vocabulary, held_out)
        batches = parallel.flat_map(encode, documents.batches(raw_records(path, "jsonl")), processes, folder)
        with contextlib.ExitStack() as stack:
            dtype = token_dtype(vocabulary.size)
            writers = {split: stack.enter_context(IndexedWriter(folder / split, dtype)) for split in SPLITS}
            stack.enter_context(contextlib.closing(batches))
            for split, *batch, count in batches:
                writers[split].add_documents(*batch)
                words[split] += count
            for split, writer in writers.items():
                if not writer.documents:
                    change = "raise" if split == "heldout" else "lower"
                    raise BiomegError(
                        f"{corpus}: no document falls into the split {split} with held_out {held_out}; "
                        f"{change} held_out or give the corpus more documents"
                    )
        counts = {"vocabulary": vocabulary.fingerprint, "held_out": held_out}
        for split, writer in writers.items():
            counts[split] = {
                "documents": writer.documents,
                "sentences": writer.sentences,
                "tokens": writer.tokens,
                "words": words[split],
            }
        files.write_json(folder / "shards.json", counts)
    return counts


def _encode(vocabulary: Vocabulary, held_out: float, lines: list[Raw]) -> list[_Batch]:
    """The documents on some lines of a corpus, at most one batch for each split."""
    encoded: dict[str, list[tuple[list[np.ndarray], int]]] = {split: [] for split in SPLITS}
    for document in (document for line in lines for document in parse(line, "jsonl")):
        texts = [
            text[start:end] for text in (document.title, *document.paragraphs) for start, end in split_sentences(text)
        ]
        if sentences := [ids for ids in vocabulary.encode_ids(texts) if len(ids)]:
            split = "heldout" if is_held_out(document.id, held_out) else "train"
            encoded[split].append((sentences, document.words))
    batches = []
    for split, found in encoded.items():
        if found:
            sentences = [ids for one, _ in found for ids in one]
            tokens = np.concatenate(sentences).astype(token_dtype(vocabulary.size))
            sizes, counts = np.array([len(ids) for ids in sentences]), np.array([len(one) for one, _ in found])
            batches.append(_Batch(split, tokens, sizes, counts, sum(words for _, words in found)))
    return batches


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
