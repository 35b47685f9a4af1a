"""`Vocabulary`: text to pieces and back, with word and character alignment.

Both kinds cut a text into words alike, as BERT does, and a piece never crosses a word. So the pieces of a word are
found once and then looked up: that makes encoding fast, and all ways to encode give the same ids for every input.
"""

import hashlib
import json
import re
from array import array
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from biomeg_lib import sums
from biomeg_lib.errors import InputError
from biomeg_lib.files import atomic_directory, write_json
from biomeg_lib.vocab.characters import CHARACTERS
from biomeg_lib.vocab.learning import learn
from biomeg_lib.vocab.models import MODELS, SPECIALS, Model, Problem, SentencePieceModel

_CACHED = 1 << 18  # entries of a cache; when full it is emptied, so memory does not grow with the corpus
_CACHED_LENGTH = 100  # characters
_LARGEST_FILE = 16 << 20  # bytes; the largest published ones have about five million


@dataclass(slots=True)
class Encoding:
    """Pieces of a text, or of a list of words, without special tokens.

    Attributes:
        ids: piece ids.
        words: for each piece, the index of its word: from 0, non-decreasing, no word left out.
        offsets: for each piece, the (start, end) characters it stands for, of the original text or of the given word.
            Starts and ends within a text never decrease. Empty for SentencePiece's space mark alone before a word, and
            for a given word of no characters. Pieces made of one and the same character (an uncased Hangul syllable)
            all get that character. Where a third party's SentencePiece model rewrites a word, its pieces all get the
            whole word.
    """

    ids: list[int] = field(default_factory=list)
    words: list[int] = field(default_factory=list)
    offsets: list[tuple[int, int]] = field(default_factory=list)


class Vocabulary:
    """Sub-word pieces and how to cut text into them. Made by `load` or `train`.

    Attributes:
        kind: "wordpiece" or "sentencepiece".
        pieces: the pieces by id, as the file spells them.
        size: how many there are.
        lowercase: whether text is lowered and loses its accents.
        pad_id, unk_id, cls_id, sep_id, mask_id: ids of the special tokens; of these, only [UNK] ever comes out of text.
        continues: bool[size], True where the piece continues a word; False for special tokens.
        fingerprint: hexadecimal SHA-256 over kind, lowercase, pieces (and their scores, where they have any).
    """

    def __init__(self, model: Model, lowercase: bool):
        self._model = model
        self.kind = model.kind
        self.lowercase = lowercase
        self.pieces, self.size = model.pieces, len(model.pieces)
        self.pad_id, self.unk_id, self.cls_id, self.sep_id, self.mask_id = (
            model.special_ids[name] for name in SPECIALS
        )
        self.continues = np.array(model.continues, dtype=bool)
        self.continues[list(model.special_ids.values())] = False
        identity = json.dumps([model.kind, lowercase, model.identity])
        self.fingerprint = hashlib.sha256(identity.encode("ascii")).hexdigest()
        self._words = _Cache(model.split)  # a normalised word -> its ids and the characters of each
        self._aligned = _Cache(self._align)  # original text without blanks -> its Encoding
        self._word_ids = _Cache(lambda word: array("i", model.ids(word)).tobytes())  # a normalised word -> its ids
        self._ids = _Cache(self._find_ids)  # original text without spaces -> its ids, int32

    def __reduce__(self):
        return _restore, (self._model.kind, self._model.source, self.lowercase)

    def padded_size(self, multiple: int = 128) -> int:
        """Rows of an embedding for this vocabulary: `size` rounded up to a multiple (of 128 x tensor-parallel size)."""
        return -(-self.size // multiple) * multiple

    @classmethod
    def load(cls, path: str | Path, lowercase: bool | None = None) -> "Vocabulary":
        """Read a directory written by `save`, a SentencePiece model (*.model) or a BERT vocab.txt (any other name).

        Args:
            path: the directory or file.
            lowercase: for a file, whether to lower the text; if not given, so if no piece has an upper-case letter.

        Raises:
            InputError: if there is no such file, it is not what its name says, a piece comes twice, a line is empty, a
                special token is missing, or `lowercase` contradicts what the directory says.
        """
        path = Path(path)
        if path.is_dir():
            kind, stored = _read_description(path / "vocab.json")
            if lowercase not in (None, stored):
                raise InputError(
                    path / "vocab.json", f'expected "lowercase": {json.dumps(lowercase)}, found the opposite'
                )
            sums.check_folder(path)
            path, lowercase = path / MODELS[kind].file_name, stored
        else:
            kind = "sentencepiece" if path.suffix == ".model" else "wordpiece"
        try:
            model = MODELS[kind](_read(path))
        except Problem as problem:
            raise InputError(path, str(problem), problem.line) from None
        return cls(model, not any(map(_has_capital, model.pieces)) if lowercase is None else lowercase)

    @classmethod
    def train(
        cls, texts: Iterable[str], size: int, algorithm: str = "bpe", lowercase: bool = False, threads: int = 1
    ) -> "Vocabulary":
        """Learn a SentencePiece vocabulary. The same words, in whatever order and texts, give the same vocabulary.

        Memory grows with the number of distinct words, up to ten million; beyond, the rarest are forgotten. Words of
        over 1,000 characters are not learned from.

        Args:
            texts: the corpus, read once.
            size: how many pieces, special tokens included; kept exactly.
            algorithm: "bpe" or "unigram".
            lowercase: whether to lower the case and strip accents.
            threads: used by "unigram", whose sums are rounded differently with another number of threads, so that the
                vocabulary may come out slightly different.

        Raises:
            BiomegError: if the texts are too few for the size, or the size too small for their letters; it says which
                size is possible.
        """
        return cls(SentencePieceModel(learn(texts, size, algorithm, lowercase, threads)), lowercase)

    def save(self, directory: str | Path) -> None:
        """Write vocab.json (kind, lowercase) and vocab.txt or spm.model as `directory`, replacing an older one."""
        with atomic_directory(directory) as folder:
            (folder / self._model.file_name).write_bytes(self._model.source)
            write_json(folder / "vocab.json", {"kind": self._model.kind, "lowercase": self.lowercase})

    def encode(self, text: str) -> Encoding:
        """Pieces of any text; its words are those of BERT's pre-tokenisation."""
        result, word = Encoding(), 0
        for match in re.finditer(r"[^ \t\r\n]+", text):
            start, chunk = match.start(), self._aligned[match.group()]
            result.ids += chunk.ids
            result.words += [word + index for index in chunk.words]
            result.offsets += [(start + first, start + last) for first, last in chunk.offsets]
            word += chunk.words[-1] + 1 if chunk.words else 0
        return result

    def encode_batch(self, texts: Iterable[str]) -> list[Encoding]:
        """`encode` of each text."""
        return [self.encode(text) for text in texts]

    def encode_words(self, words: Sequence[str]) -> Encoding:
        """Pieces of words that somebody else cut, a benchmark for one; offsets count within each given word.

        Every given word gets at least one piece: [UNK] for the whole of it if nothing else is left.
        """
        result = Encoding()
        for index, word in enumerate(words):
            chunk = self._aligned[word]
            ids, offsets = (chunk.ids, chunk.offsets) if chunk.ids else ([self.unk_id], [(0, len(word))])
            result.ids += ids
            result.words += [index] * len(ids)
            result.offsets += offsets
        return result

    def encode_ids(self, texts: Iterable[str]) -> list[np.ndarray]:
        """The ids of `encode` for each text, int32[pieces], several times faster: for the shards of a corpus."""
        # To join bytes that lie ready is several times faster than to collect numbers; a bytearray makes them writable.
        found = self._ids.__getitem__
        return [np.frombuffer(bytearray().join(map(found, text.split(" "))), dtype=np.int32) for text in texts]

    def piece_text(self, piece: int) -> str:
        """The characters that a piece stands for, without the sign of where in a word it may be."""
        return self._model.readable(piece).removeprefix(" ")

    def decode(self, ids: Iterable[int]) -> str:
        """Readable text: words joined, punctuation close to its word; of the special tokens, [MASK] and [UNK] show."""
        shown = {self.mask_id: " [MASK]", self.unk_id: " [UNK]", self.pad_id: "", self.cls_id: "", self.sep_id: " "}
        text = "".join(shown[i] if i in shown else self._model.readable(i) for i in map(int, ids))
        text = re.sub(r" ([.,;:!?%)\]}])", r"\1", " ".join(text.split()))
        return re.sub(r"([(\[{]) ", r"\1", text)

    def _find_ids(self, text: str) -> bytes:
        # Most words come in many chunks, with other punctuation around them.
        return b"".join(map(self._word_ids.__getitem__, text.translate(CHARACTERS[self.lowercase]).split()))

    def _align(self, text: str) -> Encoding:
        characters = CHARACTERS[self.lowercase]
        normal: list[str] = []
        origins: list[int] = []  # for each normalised character, the index of the original one it stems from
        for origin, character in enumerate(text):
            made = characters[ord(character)]
            normal += made
            origins += [origin] * len(made)
        result = Encoding()
        for index, match in enumerate(re.finditer("[^ ]+", "".join(normal))):
            ids, spans = self._words[match.group()]
            own = origins[match.start() : match.end()]
            result.ids += ids
            result.words += [index] * len(ids)
            result.offsets += [(own[first], own[last - 1] + 1 if first < last else own[first]) for first, last in spans]
        return result


class _Cache(dict):
    """A dictionary that makes what it lacks."""

    def __init__(self, make: Callable[[str], Any]):
        super().__init__()
        self._make = make

    def __missing__(self, key: str) -> Any:
        value = self._make(key)
        if len(key) <= _CACHED_LENGTH:
            if len(self) >= _CACHED:
                self.clear()
            self[key] = value
        return value


def _restore(kind: str, source: bytes, lowercase: bool) -> Vocabulary:
    return Vocabulary(MODELS[kind](source), lowercase)


def _has_capital(piece: str) -> bool:
    marked = piece[0] in "[<" and piece[-1] in "]>"  # [CLS], [unused1], <s>
    return not marked and piece != piece.lower()


def _read(path: Path) -> bytes:
    try:
        if path.exists() and not path.is_file():  # a device might never end
            raise InputError(path, "expected a vocabulary, found no regular file")
        if (size := path.stat().st_size) > _LARGEST_FILE:
            raise InputError(path, f"expected a vocabulary of at most {_LARGEST_FILE:,} bytes, found {size:,}")
        return path.read_bytes()
    except OSError as error:
        raise InputError(path, f"expected a vocabulary, found no file to read ({error.strerror})") from None


def _read_description(path: Path) -> tuple[str, bool]:
    try:
        stored = json.loads(_read(path))
        kind, lowercase = stored["kind"], stored["lowercase"]
    except (ValueError, TypeError, KeyError, RecursionError):
        kind = lowercase = None
    if not isinstance(kind, str) or kind not in MODELS or not isinstance(lowercase, bool):
        raise InputError(
            path, f'expected "kind" ({" or ".join(MODELS)}) and "lowercase" (true or false), found otherwise'
        )
    return kind, lowercase
