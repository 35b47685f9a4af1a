"""Megatron-LM's memory-mapped indexed dataset: token sequences in `PREFIX.bin`, where they lie in `PREFIX.idx`.

Notable: the layout is Megatron's byte for byte (megatron/core/datasets/indexed_dataset.py), so its tools read what is
written here and the reverse. `.bin` holds the tokens of all sequences, one after the other. `.idx` is little-endian:

| bytes | content |
| --- | --- |
| 9 | `MMIDIDX`, two zero bytes |
| 8 | version, uint64, 1 |
| 1 | data type of the tokens: 1 uint8, 2 int8, 3 int16, 4 int32, 5 int64, 8 uint16 |
| 8, 8 | n, the number of sequences, and e, the number of entries of the document index; both uint64 |
| 4 n | tokens of each sequence, int32 |
| 8 n | place of each sequence in `.bin`, in bytes, int64 |
| 8 e | document index, int64: the sequence at which each document starts; the last entry is n |

Codes 6 and 7 are floating point (Megatron's versions disagree about which is which); tokens never are, so they are
refused. An index is wholly checked when it is opened, in pieces of bounded size, since all later reading trusts it.
"""

import contextlib
import shutil
import struct
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from biomeg_lib.errors import BiomegError, InputError
from biomeg_lib.files import atomic_open

MAGIC = b"MMIDIDX\x00\x00"
HEADER = struct.Struct("<9sQBQQ")
CODES = {"uint8": 1, "int8": 2, "int16": 3, "int32": 4, "int64": 5, "uint16": 8}
DTYPES = {code: np.dtype(name).newbyteorder("<") for name, code in CODES.items()}
CHUNK = 1 << 20  # sequences checked or written at a time


def token_dtype(vocabulary_size: int) -> np.dtype:
    """The data type Megatron chooses for a vocabulary: uint16 below 65,500 pieces, else int32."""
    return np.dtype(np.uint16 if vocabulary_size < 65500 else np.int32)


def bin_path(prefix: str | Path) -> Path:
    """The file with the tokens; `prefix` may itself contain dots."""
    return Path(f"{prefix}.bin")


def idx_path(prefix: str | Path) -> Path:
    """The file with the index."""
    return Path(f"{prefix}.idx")


class IndexedWriter:
    """Write a pair of files; a context manager.

    Everything goes to disk at once, so memory does not grow. The pair appears when the block ends without an error,
    `.bin` first and `.idx` last, so that an index without its tokens is never seen.

    Args:
        prefix: path without `.bin` or `.idx`.
        dtype: data type of the tokens, see `token_dtype`.
    """

    def __init__(self, prefix: str | Path, dtype: np.typing.DTypeLike):
        self.prefix, self.dtype = Path(prefix), np.dtype(dtype).newbyteorder("<")
        if self.dtype.name not in CODES:
            raise BiomegError(f"{prefix}: tokens are stored as one of {', '.join(CODES)}, not as {self.dtype.name}")
        self.tokens = self.sentences = self.documents = 0  # added so far

    def __enter__(self) -> "IndexedWriter":
        self._open = contextlib.ExitStack()
        self._stream = self._open.enter_context(atomic_open(bin_path(self.prefix), "wb"))
        # Until the index is written: int32 lengths of the sequences, int64 ends of the documents, both without names.
        self._spools = contextlib.ExitStack()
        self._sizes = self._spools.enter_context(tempfile.TemporaryFile(dir=self.prefix.parent))
        self._ends = self._spools.enter_context(tempfile.TemporaryFile(dir=self.prefix.parent))
        return self

    def __exit__(self, kind, error, trace) -> None:
        with self._spools:
            if kind is None:
                # An index left from before must not be seen beside the new tokens.
                idx_path(self.prefix).unlink(missing_ok=True)
            self._open.__exit__(kind, error, trace)
            if kind is None:
                self._write_index()

    def add_document(self, sentences: Sequence[np.ndarray]) -> None:
        """Append one document.

        Args:
            sentences: token ids of each sequence, integers [tokens]; a sequence, or the whole list, may be empty.

        Raises:
            BiomegError: an id does not fit the data type.
        """
        tokens = np.concatenate(sentences) if sentences else np.empty(0, self.dtype)
        self.add_documents(tokens, np.array([len(sentence) for sentence in sentences]), np.array([len(sentences)]))

    def add_documents(self, tokens: np.ndarray, sizes: np.ndarray, counts: np.ndarray) -> None:
        """Append many documents at once.

        Args:
            tokens: integers [tokens], of all sequences, one after the other.
            sizes: integers [sequences], tokens of each sequence.
            counts: integers [documents], sequences of each document.

        Raises:
            BiomegError: an id does not fit the data type.
        """
        limits = np.iinfo(self.dtype)
        if tokens.size and not (limits.min <= tokens.min() and tokens.max() <= limits.max):
            found = f"{tokens.min()} to {tokens.max()}"
            raise BiomegError(f"{self.prefix}: token ids {found} do not fit {self.dtype.name}; choose a wider type")
        self._stream.write(tokens.astype(self.dtype).tobytes())
        self._sizes.write(sizes.astype("<i4").tobytes())
        self._ends.write((self.sentences + np.cumsum(counts)).astype("<i8").tobytes())
        self.tokens += tokens.size
        self.sentences += sizes.size
        self.documents += counts.size

    def _write_index(self) -> None:
        with atomic_open(idx_path(self.prefix), "wb") as stream:
            stream.write(HEADER.pack(MAGIC, 1, CODES[self.dtype.name], self.sentences, self.documents + 1))
            self._sizes.seek(0)
            shutil.copyfileobj(self._sizes, stream)
            self._sizes.seek(0)
            place = 0
            while part := self._sizes.read(4 * CHUNK):
                ends = place + np.cumsum(np.frombuffer(part, "<i4"), dtype=np.int64) * self.dtype.itemsize
                stream.write(np.concatenate(([place], ends[:-1])).astype("<i8").tobytes())
                place = int(ends[-1])
            stream.write(bytes(8))
            self._ends.seek(0)
            shutil.copyfileobj(self._ends, stream)


class IndexedReader:
    """Read a pair of files through memory maps: nothing that grows with the corpus is loaded.

    Attributes:
        tokens: all tokens, one array [tokens] of the stored data type, read-only.
        sizes: int32 [n], tokens of each sequence.
        documents: int64 [documents + 1], the sequence at which each document starts; the last entry is n.

    Raises:
        InputError: a file is missing, or is not what the layout demands (see the head of the module).
    """

    def __init__(self, prefix: str | Path):
        self.prefix = Path(prefix)
        index, data = idx_path(prefix), bin_path(prefix)
        for path in (index, data):
            if not path.is_file():
                raise InputError(path, "expected one file of an indexed dataset (.bin and .idx), found none here")
        length, data_length = index.stat().st_size, data.stat().st_size
        if length < HEADER.size:
            raise InputError(index, f"expected an index of at least {HEADER.size} bytes, found {length}")
        with open(index, "rb") as stream:
            magic, version, code, count, entries = HEADER.unpack(stream.read(HEADER.size))
        if magic != MAGIC:
            raise InputError(index, f"expected {MAGIC!r}, the start of a memory-mapped Megatron index, found {magic!r}")
        if version != 1:
            raise InputError(index, f"expected version 1 of the index layout, found {version}")
        if code not in DTYPES:
            known = ", ".join(f"{code} ({dtype.name})" for code, dtype in DTYPES.items())
            raise InputError(index, f"expected a token type out of {known}, found {code}")
        wanted = HEADER.size + 12 * count + 8 * entries
        if length != wanted:
            raise InputError(
                index,
                f"expected {wanted} bytes for {count} sequences and {entries} document entries, found {length}; "
                "build or copy it again",
            )
        self.dtype = DTYPES[code]
        # The arrays lie at odd addresses, so numpy works on them element by element or piece by piece, never whole:
        # a function such as searchsorted would first copy all of one.
        buffer = np.memmap(index, dtype=np.uint8, mode="r")
        self.sizes = np.frombuffer(buffer, "<i4", count, HEADER.size)
        self._places = np.frombuffer(buffer, "<i8", count, HEADER.size + 4 * count)
        self.documents = np.frombuffer(buffer, "<i8", entries, HEADER.size + 12 * count)
        self._check(index, data, data_length)
        # numpy cannot map an empty file
        self.tokens = np.memmap(data, dtype=self.dtype, mode="r") if data_length else np.empty(0, self.dtype)

    def _check(self, index: Path, data: Path, data_length: int) -> None:
        place = 0
        for start in range(0, len(self), CHUNK):
            sizes = self.sizes[start : start + CHUNK]
            if sizes.min() < 0:
                at = start + int(np.argmax(sizes < 0))
                raise InputError(
                    index, f"expected sequence lengths of 0 or more, found {self.sizes[at]} at sequence {at}"
                )
            ends = place + np.cumsum(sizes, dtype=np.int64) * self.dtype.itemsize
            wrong = self._places[start : start + CHUNK] != np.concatenate(([place], ends[:-1]))
            if wrong.any():
                at = start + int(np.argmax(wrong))
                raise InputError(
                    index,
                    f"expected each sequence to start where the one before it ends, "
                    f"found sequence {at} at byte {self._places[at]}",
                )
            place = int(ends[-1])
            if place > data_length:
                break
        if place != data_length:
            least = "at least " if place > data_length else ""
            raise InputError(data, f"expected {least}{place} bytes, as {index.name} says, found {data_length}")
        entries = len(self.documents)
        if not entries or self.documents[0] != 0 or self.documents[-1] != len(self):
            raise InputError(
                index, f"expected a document index from 0 to {len(self)}, found another first or last entry"
            )
        for start in range(0, entries, CHUNK):
            part = self.documents[start : start + CHUNK + 1]
            if (part[1:] < part[:-1]).any():
                at = start + 1 + int(np.argmax(part[1:] < part[:-1]))
                raise InputError(index, f"expected a document index that never falls, found a fall at document {at}")

    def __len__(self) -> int:
        """Number of sequences."""
        return len(self.sizes)

    def __getitem__(self, sequence: int) -> np.ndarray:
        """Tokens of one sequence, a read-only view [tokens]; negative numbers count from the end."""
        count = len(self)
        if not -count <= sequence < count:
            raise IndexError(f"sequence {sequence} of {count}")
        start = int(self._places[sequence]) // self.dtype.itemsize
        return self.tokens[start : start + int(self.sizes[sequence])]

    def document_sizes(self) -> np.ndarray:
        """Tokens of each document, int64 [documents]."""
        return np.diff(self.starts(np.array(self.documents)))

    def document_starts(self, documents: np.ndarray) -> np.ndarray:
        """The sequence at which documents start, int64; the number of documents stands for the end."""
        return self.documents[documents]

    def take(self, places: np.ndarray) -> np.ndarray:
        """The tokens at some places, int64 of the shape of `places`."""
        return np.asarray(self.tokens)[places].astype(np.int64)

    def starts(self, sequences: np.ndarray) -> np.ndarray:
        """Place of sequences in `tokens`.

        Args:
            sequences: int64 of any shape, each from 0 to n; n stands for the end of the tokens.

        Returns:
            int64 of the same shape, in tokens.
        """
        count = len(self)
        if not count:
            return np.zeros(np.shape(sequences), dtype=np.int64)
        places = self._places[np.minimum(sequences, count - 1)] // self.dtype.itemsize
        return np.where(sequences == count, len(self.tokens), places)
