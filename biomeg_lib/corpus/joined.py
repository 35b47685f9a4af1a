"""Several indexed datasets as one, behind each other, without a copy.

Notable: `PREFIX.json` in the place of `PREFIX.bin` and `PREFIX.idx` names the datasets. What is asked for by number is
looked up in the dataset it falls into, so everything that is read, and every sample, is as from one large dataset.
"""

from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath

import numpy as np

from biomeg_lib.corpus.indexed import IndexedReader, idx_path
from biomeg_lib.errors import InputError
from biomeg_lib.files import read_json, write_json


def list_path(prefix: str | Path) -> Path:
    """The file that names the datasets."""
    return Path(f"{prefix}.json")


def write_list(prefix: str | Path, names: Sequence[str]) -> None:
    """Make one dataset of several.

    Args:
        names: their prefixes in order, relative to the folder of `prefix`, with `/` on every system.
    """
    write_json(list_path(prefix), {"datasets": list(names)})


def open_dataset(prefix: str | Path) -> "IndexedReader | JoinedReader":
    """Open a dataset, whether it is one or a list of them.

    Raises:
        InputError: a file is missing or not what it should be.
    """
    if idx_path(prefix).is_file() or not list_path(prefix).is_file():
        return IndexedReader(prefix)
    return JoinedReader(prefix)


class JoinedReader:
    """Read a list of datasets as one; the methods are those of `IndexedReader`, the numbers go through all of them.

    Raises:
        InputError: the list or a dataset is not what it should be, or they store tokens differently.
    """

    def __init__(self, prefix: str | Path):
        self.prefix = Path(prefix)
        path = list_path(prefix)
        value = read_json(path)
        names = value.get("datasets") if isinstance(value, dict) else None
        if not isinstance(names, list) or not names or not all(map(_is_inside, names)):
            raise InputError(path, "expected `datasets`, a list of prefixes in the same folder; build the shards again")
        self._readers = [IndexedReader(path.parent / name) for name in names]
        kinds = {reader.dtype.name for reader in self._readers}
        if len(kinds) > 1:
            raise InputError(path, f"expected datasets with tokens of one type, found {', '.join(sorted(kinds))}")
        # Of each dataset the first document, sequence and token; last the end of all.
        self._documents = _ends([len(reader.documents) - 1 for reader in self._readers])
        self._sequences = _ends([len(reader) for reader in self._readers])
        self._tokens = _ends([len(reader.tokens) for reader in self._readers])

    def __len__(self) -> int:
        return int(self._sequences[-1])

    def document_sizes(self) -> np.ndarray:
        return np.concatenate([reader.document_sizes() for reader in self._readers])

    def document_starts(self, documents: np.ndarray) -> np.ndarray:
        return self._look_up(documents, self._documents, IndexedReader.document_starts, self._sequences)

    def starts(self, sequences: np.ndarray) -> np.ndarray:
        return self._look_up(sequences, self._sequences, IndexedReader.starts, self._tokens)

    def take(self, places: np.ndarray) -> np.ndarray:
        return self._look_up(places, self._tokens, IndexedReader.take, np.zeros_like(self._tokens))

    def _look_up(
        self, numbers: np.ndarray, bounds: np.ndarray, function: Callable[..., np.ndarray], offsets: np.ndarray
    ) -> np.ndarray:
        """`function` of each dataset for the numbers that fall between its bounds, plus its offset."""
        which = np.minimum(np.searchsorted(bounds, numbers, side="right") - 1, len(self._readers) - 1)
        found = np.empty(np.shape(numbers), np.int64)
        for number in np.unique(which):
            inside = which == number
            found[inside] = function(self._readers[number], numbers[inside] - bounds[number]) + offsets[number]
        return found


def _is_inside(name: object) -> bool:
    return isinstance(name, str) and name != "" and not {"..", "/"} & set(PurePosixPath(name).parts)


def _ends(counts: list[int]) -> np.ndarray:
    return np.concatenate(([0], np.cumsum(counts, dtype=np.int64)))
