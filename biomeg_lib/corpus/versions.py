"""Which documents of a corpus stay: one pass over the ids of all its parts, in memory that does not grow with it.

Two rules. `FIRST`: the first document with an id stays, later ones are duplicates; documents without text do not count.
`LAST`, for PubMed's baseline and update files in their order: of an id the highest version stays, and among equal ones
the last; a deletion takes away all versions before it, whichever it names, and what comes after it counts anew. If what
stays has no text, nothing does.

Notable: entries of fixed size are spread over files by the first bits of the id's hash, then each file is sorted by
itself. So memory is that of one file, about `BUCKET` entries, 110 MB while they are sorted, as long as ids differ; and
the verdicts are one byte an entry in an unnamed file that is mapped, which the system may write out.
"""

import contextlib
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

# An entry of a part's index, in the order of its file: of a document, or of a deletion. `key` is a hash of the id.
INDEX = np.dtype([("key", "<u8"), ("version", "<u4"), ("words", "<u4"), ("characters", "<u4"), ("kind", "<u4")])
TEXT, EMPTY, DELETION = 0, 1, 2  # kinds: a document, one without a paragraph, a deletion
KEPT, NO_TEXT, DUPLICATE, REVISED, DELETED = range(5)  # verdicts; that on a deletion says nothing

BUCKET = 1 << 20  # entries sorted, or read, at a time
_MOST_BUCKETS = 256  # files open at a time
_ENTRY = np.dtype([("key", "<u8"), ("place", "<u8"), ("version", "<u4"), ("kind", "<u4")])


def decide(indexes: Sequence[Path], last: bool, scratch: Path) -> np.ndarray:
    """The verdict on each entry of some index files, one file behind the other.

    Args:
        indexes: files of `INDEX` entries, in the order of the parts.
        last: the rule `LAST`, else `FIRST`.
        scratch: an existing folder for temporary files, about 25 bytes an entry.

    Returns:
        uint8 [entries], a memory map.
    """
    total = sum(path.stat().st_size for path in indexes) // INDEX.itemsize
    bits = min(_MOST_BUCKETS - 1, max(0, total - 1) // BUCKET).bit_length()
    with contextlib.ExitStack() as stack:
        verdicts = np.memmap(
            stack.enter_context(tempfile.TemporaryFile(dir=scratch)), np.uint8, "r+", shape=(max(total, 1),)
        )
        buckets = [stack.enter_context(tempfile.TemporaryFile(dir=scratch)) for _ in range(1 << bits)]
        place = 0
        for path in indexes:
            place = _spread(path, place, bits, buckets)
        rule: Callable[[np.ndarray], np.ndarray] = _last if last else _first
        for bucket in buckets:
            bucket.seek(0)
            entries = np.fromfile(bucket, _ENTRY)
            verdicts[entries["place"]] = rule(entries)
            bucket.close()
    return verdicts[:total]


def open_index(path: Path) -> np.ndarray:
    """An index file as an array that is mapped, read-only."""
    return np.memmap(path, INDEX, "r") if path.stat().st_size else np.empty(0, INDEX)


def _spread(path: Path, place: int, bits: int, buckets: list) -> int:
    """Add the entries of an index to the files they belong to; returns the place behind the last."""
    index = open_index(path)
    for start in range(0, len(index), BUCKET):
        piece = np.array(index[start : start + BUCKET])
        entries = np.empty(len(piece), _ENTRY)
        for name in ("key", "version", "kind"):
            entries[name] = piece[name]
        entries["place"] = np.arange(place, place + len(piece))
        place += len(piece)
        number = (piece["key"] >> np.uint64(64 - bits) if bits else np.zeros(len(piece))).astype(np.uint16)
        order = np.argsort(number, kind="stable")
        bounds = np.searchsorted(number[order], np.arange(len(buckets) + 1))
        entries = entries[order]
        for bucket, low, high in zip(buckets, bounds, bounds[1:], strict=False):
            bucket.write(entries[low:high].tobytes())
    return place


def _first(entries: np.ndarray) -> np.ndarray:
    verdicts = np.where(entries["kind"] == EMPTY, NO_TEXT, DUPLICATE).astype(np.uint8)
    texts = np.flatnonzero(entries["kind"] == TEXT)
    _, firsts = np.unique(entries["key"][texts], return_index=True)
    verdicts[texts[firsts]] = KEPT
    return verdicts


def _last(entries: np.ndarray) -> np.ndarray:
    count = len(entries)
    verdicts = np.empty(count, np.uint8)
    if not count:
        return verdicts
    order = np.argsort(entries["key"], kind="stable")  # by id, and those of an id as they came
    key, kind = entries["key"][order], entries["kind"][order]
    starts = np.flatnonzero(np.concatenate(([True], key[1:] != key[:-1])))
    sizes = np.diff(np.append(starts, count))
    at = np.arange(count)
    deletion = np.repeat(np.maximum.reduceat(np.where(kind == DELETION, at, -1), starts), sizes)
    # Version first, then order. Both are below 2^31: versions by what is read, the order by what memory holds.
    rank = np.where(at > deletion, (entries["version"][order].astype(np.int64) << 31) + at, -1)
    best = np.repeat(np.maximum.reduceat(rank, starts), sizes)
    stays = np.where(kind == EMPTY, NO_TEXT, KEPT)
    verdicts[order] = np.where(at <= deletion, DELETED, np.where(rank == best, stays, REVISED))
    return verdicts
