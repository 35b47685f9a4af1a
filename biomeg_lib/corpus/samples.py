"""BERT pre-training samples from an indexed dataset: masked pieces and the order of two segments.

Notable:
- A document is a run of tokens cut into consecutive windows of `length - 3` tokens; its last window may be shorter, and
  is dropped below 8 tokens. So the samples are full, and their number follows from the documents' lengths alone.
- A window becomes `[CLS] A [SEP] B [SEP]`: it is split at a random sentence boundary inside it (if there is none, at a
  random word, and else at a random piece), and with probability 1/2 the halves are swapped. The order is to be
  recognised, as in ALBERT (Lan et al. 2020) and Megatron-LM.
- Every sample is a function of (seed, its place in an endless stream) alone, whatever the batch size, the process or
  what was drawn before: its random numbers are a fixed stretch of a counter-based generator (Philox), and the order of
  an epoch is a permutation computed place by place, so no table of windows is kept and a run resumes anywhere at once.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from biomeg_lib.corpus.joined import open_dataset
from biomeg_lib.errors import BiomegError, InputError
from biomeg_lib.vocab import Vocabulary

SPECIALS = 3  # [CLS], [SEP], [SEP]
SHORTEST = 8  # tokens a window needs: fewer say nothing about order, and at 15 % hide a single piece
HEAD = 4  # random numbers a sample besides those of its positions
ROUNDS = 8  # of the Feistel network
ALL_BITS, LOW_BITS = np.uint64(2**64 - 1), np.uint64(2**16 - 1)

# Keys of random numbers: (seed, ORDER, epoch), (seed, CONTENT), and for evaluation (0, either, 0, EVALUATION).
ORDER, CONTENT, EVALUATION = 1, 2, 3


@dataclass
class PretrainingBatch:
    """B samples of T positions, with M masked positions among them.

    Attributes:
        tokens: int64 [B, T], what the model sees.
        types: int64 [B, T], 0 for `[CLS] A [SEP]` and padding, 1 for `B [SEP]`.
        mask: bool [B, T], True where there is a token, False where there is padding.
        positions: int64 [M], places that are to be predicted, b * T + t, ascending.
        labels: int64 [M], the pieces that stood there.
        order: int64 [B], 1 where the segments are swapped.
    """

    tokens: torch.Tensor
    types: torch.Tensor
    mask: torch.Tensor
    positions: torch.Tensor
    labels: torch.Tensor
    order: torch.Tensor


class PretrainingSamples:
    """An endless stream of samples over one split, shuffled anew each epoch.

    15 % of a window's pieces (at least one) are to be predicted; of these 80 % become `[MASK]`, 10 % a random ordinary
    piece, and 10 % stay (Devlin et al. 2019). With `whole_word` words are chosen in random order and all of their
    pieces go together; the last word is taken if that brings the number of pieces nearer to 15 %.

    Args:
        prefix: of an indexed dataset, or a list of them, whose sequences are sentences, see `shards.open_split`.
        vocabulary: the one that made the tokens.
        length: T, positions a sample, 11 to 65,535.
        seed: 0 or more.
        mask_probability: fraction of the pieces to be predicted.
        whole_word: choose words instead of pieces.

    Memory: 8 bytes a document. Raises `InputError` for files that are no such dataset, that hold no window, or whose
    tokens are not of the vocabulary (seen when a batch meets one).
    """

    def __init__(
        self,
        prefix: Path,
        vocabulary: Vocabulary,
        length: int,
        seed: int,
        mask_probability: float = 0.15,
        whole_word: bool = False,
    ):
        if not SHORTEST + SPECIALS <= length <= LOW_BITS:
            raise BiomegError(f"samples of {length} positions: expected {SHORTEST + SPECIALS} to {LOW_BITS}")
        if not 0 < mask_probability < 1:
            raise BiomegError(f"mask_probability is {mask_probability}: expected a fraction above 0 and below 1")
        self.reader = open_dataset(prefix)
        self.vocabulary, self.length, self.seed = vocabulary, length, seed
        self.mask_probability, self.whole_word = mask_probability, whole_word
        self._room = length - SPECIALS
        sizes = self.reader.document_sizes()
        windows = sizes // self._room + (sizes % self._room >= SHORTEST)
        self._windows_before = np.concatenate(([0], np.cumsum(windows)))
        if not len(self):
            raise InputError(prefix, f"expected a document of at least {SHORTEST} tokens, found none")
        self._continues = np.asarray(vocabulary.continues, dtype=bool)
        specials = [vocabulary.pad_id, vocabulary.unk_id, vocabulary.cls_id, vocabulary.sep_id, vocabulary.mask_id]
        self._ordinary = np.setdiff1d(np.arange(vocabulary.size), specials)
        # Philox gives four numbers a count, so a sample takes a whole number of fours.
        self._numbers = 4 * math.ceil((HEAD + 2 * length) / 4)

    def __len__(self) -> int:
        """Windows, which is samples an epoch."""
        return int(self._windows_before[-1])

    def batch(self, step: int, batch_size: int) -> PretrainingBatch:
        """Samples `step * batch_size` to `(step + 1) * batch_size - 1` of the stream; an epoch has len(self)."""
        first, count = step * batch_size, len(self)
        windows = np.empty(batch_size, dtype=np.int64)
        places = first + np.arange(batch_size)
        epochs = places // count
        for epoch in range(int(epochs[0]), int(epochs[-1]) + 1):
            inside = epochs == epoch
            windows[inside] = permuted(places[inside] - epoch * count, count, (self.seed, ORDER, epoch))
        return self._assemble(windows, self._random((self.seed, CONTENT), first, batch_size))

    def evaluation(self, batch_size: int, limit: int | None = None) -> Iterator[PretrainingBatch]:
        """Batches over a fixed choice of at most `limit` windows (None: all), the last batch smaller if need be.

        The choice is spread over the corpus; windows, splits and masks are the same on every call and for every seed,
        so that losses of different runs can be compared.
        """
        limit = len(self) if limit is None else min(limit, len(self))
        for first in range(0, limit, batch_size):
            places = np.arange(first, min(first + batch_size, limit))
            windows = permuted(places, len(self), (0, ORDER, 0, EVALUATION))
            yield self._assemble(windows, self._random((0, CONTENT, 0, EVALUATION), first, len(places)))

    def _random(self, key: tuple[int, ...], first: int, count: int) -> np.ndarray:
        """Random bits of consecutive samples, uint64 [count, numbers]; each sample's are where its place alone says."""
        words = np.random.SeedSequence(key).generate_state(2, np.uint64)
        generator = np.random.Philox(key=words, counter=first * self._numbers // 4)
        return generator.random_raw(count * self._numbers).reshape(count, self._numbers)

    def _assemble(self, windows: np.ndarray, bits: np.ndarray) -> PretrainingBatch:
        vocabulary, length = self.vocabulary, self.length
        pieces, size, split = self._cut(windows, bits[:, 0], bits[:, 1])
        swapped = (bits[:, 2] >> np.uint64(63)).astype(np.int64)

        # Column by column: which piece of the window goes there. All below is [B, T], or [B, 1] to spread over columns.
        column = np.arange(length)[None]
        size, split, swap = size[:, None], split[:, None], swapped[:, None].astype(bool)
        end_a = np.where(swap, size - split, split) + 1  # column of the first [SEP]
        end_b = size + 2  # column of the last [SEP]
        in_a, in_b = (column >= 1) & (column < end_a), (column > end_a) & (column < end_b)
        source = np.where(in_b, column - end_a - 1 + np.where(swap, 0, split), column - 1 + np.where(swap, split, 0))
        text = in_a | in_b
        tokens = np.take_along_axis(pieces, np.where(text, source, 0), axis=1)
        tokens = np.where(text, tokens, vocabulary.pad_id)
        tokens[:, 0] = vocabulary.cls_id
        np.put_along_axis(tokens, end_a, vocabulary.sep_id, axis=1)
        np.put_along_axis(tokens, end_b, vocabulary.sep_id, axis=1)
        types = (column > end_a) & (column <= end_b)

        begins = text
        if self.whole_word:  # a word that the window or the split cuts counts as two
            begins = text & (~self._continues[tokens] | (column == 1) | (column == end_a + 1))
        chosen = self._choose(text, begins, size, bits[:, HEAD : HEAD + length])
        positions = np.flatnonzero(chosen)
        labels = tokens.reshape(-1)[positions]
        tokens.reshape(-1)[positions] = self._hide(labels, bits[:, HEAD + length : HEAD + 2 * length][chosen])
        return PretrainingBatch(
            tokens=torch.from_numpy(tokens),
            types=torch.from_numpy(types.astype(np.int64)),
            mask=torch.from_numpy(column <= end_b),
            positions=torch.from_numpy(positions),
            labels=torch.from_numpy(labels),
            order=torch.from_numpy(swapped),
        )

    def _cut(
        self, windows: np.ndarray, boundary_bits: np.ndarray, word_bits: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Read windows: their pieces int64 [B, length - 3], numbers of pieces [B], and pieces before the split [B]."""
        reader, room = self.reader, self._room
        document = np.searchsorted(self._windows_before, windows, side="right") - 1
        low, high = reader.document_starts(document), reader.document_starts(document + 1)
        start = reader.starts(low) + (windows - self._windows_before[document]) * room
        end = np.minimum(start + room, reader.starts(high))
        size = end - start
        places = np.minimum(start[:, None] + np.arange(room), end[:, None] - 1)
        pieces = reader.take(places)
        if pieces.min() < 0 or pieces.max() >= self.vocabulary.size:
            wrong = int(pieces.min() if pieces.min() < 0 else pieces.max())
            raise InputError(
                f"{reader.prefix}.bin",
                f"expected token ids below {self.vocabulary.size}, the size of the vocabulary, found {wrong}",
            )
        # Sentences that start inside the window, not at its first piece: from `first` up to `last`.
        first, last = self._sentences_from(np.stack((start + 1, end)), np.stack((low, low)), np.stack((high, high)))
        split = reader.starts(first + _below(boundary_bits, last - first)) - start
        lone = np.flatnonzero(first == last)
        if lone.size:
            split[lone] = self._split_words(pieces[lone], size[lone], word_bits[lone])
        return pieces, size, split

    def _sentences_from(self, token: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
        """The first sentence in [low, high] that starts at `token` or later; a binary search, all of one shape."""
        while (searching := low < high).any():
            middle = (low + high) // 2
            earlier = self.reader.starts(middle) < token
            low = np.where(searching & earlier, middle + 1, low)
            high = np.where(searching & ~earlier, middle, high)
        return low

    def _split_words(self, pieces: np.ndarray, size: np.ndarray, bits: np.ndarray) -> np.ndarray:
        """A random place inside each window where a word starts, or any if none does: int64 [B], 1 to size - 1."""
        column = np.arange(pieces.shape[1])[None]
        inside = (column >= 1) & (column < size[:, None])
        words = inside & ~self._continues[pieces]
        allowed = np.where(words.any(axis=1, keepdims=True), words, inside)
        number = np.cumsum(allowed, axis=1)
        return np.argmax(number == 1 + _below(bits, number[:, -1])[:, None], axis=1)

    def _choose(self, text: np.ndarray, begins: np.ndarray, size: np.ndarray, bits: np.ndarray) -> np.ndarray:
        """Choose units (words, or single pieces) in random order up to the wanted number of pieces; bool [B, T].

        Args:
            text: bool [B, T], True where there is a piece of the window.
            begins: bool [B, T], True at the first piece of each unit.
            size: [B, 1], pieces of each window.
            bits: uint64 [B, T], what orders the units.
        """
        rows, length = text.shape
        wanted = np.maximum(1, np.rint(size * self.mask_probability).astype(np.int64))
        column = np.arange(length)[None]
        unit = np.maximum.accumulate(np.where(begins, column, 0), axis=1)
        # 48 random bits order the units, the low 16 keep a unit's pieces together; a sort of values is fast.
        keys = np.where(text, np.take_along_axis(bits, unit, axis=1), ALL_BITS) & ~LOW_BITS | column.astype(np.uint64)
        ranking = (np.sort(keys, axis=1) & LOW_BITS).astype(np.int64)
        unit = np.take_along_axis(unit, ranking, axis=1)
        text = np.take_along_axis(text, ranking, axis=1)
        flat = np.arange(rows)[:, None] * length + unit
        pieces = np.bincount(flat[text], minlength=rows * length)[flat]
        leads = np.concatenate((np.ones((rows, 1), bool), unit[:, 1:] != unit[:, :-1]), axis=1)
        before = np.maximum.accumulate(np.where(leads, column, 0), axis=1)
        # Taken if the unit's middle lies within the wanted number, which holds the mean there; the first one always.
        taken = text & ((2 * before + pieces <= 2 * wanted) | (before == 0))
        chosen = np.zeros_like(taken)
        np.put_along_axis(chosen, ranking, taken, axis=1)
        return chosen

    def _hide(self, labels: np.ndarray, bits: np.ndarray) -> np.ndarray:
        """What stands in the place of chosen pieces: int64 [M], from `bits` uint64 [M]."""
        die = (bits >> np.uint64(32)).astype(np.int64)
        other = ((bits & np.uint64(0xFFFFFFFF)).astype(np.int64) * len(self._ordinary)) >> 32
        shown = np.where(die < 0.9 * 2**32, self._ordinary[other], labels)
        return np.where(die < 0.8 * 2**32, self.vocabulary.mask_id, shown)


def _below(bits: np.ndarray, limit: np.ndarray) -> np.ndarray:
    """A random number from 0 up to limit - 1 (0 for a limit of 0), from 64 random bits each."""
    return ((bits >> np.uint64(33)).astype(np.int64) * limit) >> 31


def permuted(places: np.ndarray, count: int, key: tuple[int, ...]) -> np.ndarray:
    """Elements of a pseudo-random permutation of range(count), without making the whole of it.

    A Feistel network over pairs (left, right), of which there are little more than `count`; a value that falls outside
    goes through again until it is inside (cycle walking: Black and Rogaway 2002, Ciphers with Arbitrary Domains).

    Args:
        places: int64 [k], from 0 to count - 1.
        count: size of the permutation, below 2**31.
        key: what chooses the permutation.

    Returns:
        int64 [k].
    """
    lefts = math.isqrt(count - 1) + 1
    rights = -(-count // lefts)
    constants = np.random.SeedSequence(key).generate_state(ROUNDS, np.uint64)

    def once(values: np.ndarray) -> np.ndarray:
        halves, sides = list(np.divmod(values.astype(np.uint64), np.uint64(rights))), (lefts, rights)
        for number, constant in enumerate(constants):
            side = number % 2
            halves[side] = (halves[side] + _mix(halves[1 - side] + constant)) % np.uint64(sides[side])
        return (halves[0] * np.uint64(rights) + halves[1]).astype(np.int64)

    values = once(places)
    while (outside := values >= count).any():
        values[outside] = once(values[outside])
    return values


def _mix(values: np.ndarray) -> np.ndarray:
    """The finaliser of SplitMix64 (Steele et al. 2014), halved so that sums do not wrap: uint64 in, below 2**62 out."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return (values ^ (values >> np.uint64(31))) >> np.uint64(2)
