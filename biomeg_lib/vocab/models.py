"""The two kinds of sub-word model, each cutting one normalised word into pieces: BERT's WordPiece and SentencePiece.

Both are made from the bytes of a file, keep them (`source`), and say what is wrong with them by raising `Problem`.
"""

from collections.abc import Iterable

import sentencepiece
from tokenizers.models import WordPiece

SPECIALS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
OTHER_NAMES = {"[PAD]": "<pad>", "[UNK]": "<unk>", "[CLS]": "<s>", "[SEP]": "</s>", "[MASK]": "<mask>"}
SPACE_MARK = "\u2581"  # SentencePiece's sign for a space; at the start of each word

_LONGEST = 100  # characters of a word that WordPiece cuts

Pieces = tuple[list[int], list[tuple[int, int]]]  # ids, and for each the (start, end) characters of the word


class Problem(Exception):
    """What is wrong with the content of a vocabulary file, and on which line; who read the file adds its path."""

    def __init__(self, expected: str, line: int | None = None):
        super().__init__(expected)
        self.line = line


class WordPieceModel:
    """A BERT vocab.txt. Greedy longest match; a word not built so, or of over 100 characters, is one [UNK]."""

    kind, file_name = "wordpiece", "vocab.txt"

    def __init__(self, source: bytes):
        """Read UTF-8 text, one piece a line; a byte-order mark and Windows line ends are accepted."""
        try:
            text = source.decode("utf-8").removeprefix("\ufeff")
        except UnicodeDecodeError as error:
            line = source[: error.start].count(b"\n") + 1
            raise Problem(f"expected UTF-8 text, found the byte 0x{source[error.start]:02x}", line) from None
        # Not splitlines(): BERT's files hold pieces that Python takes for line ends.
        self.pieces = [line.removesuffix("\r") for line in text.removesuffix("\n").split("\n")]
        table: dict[str, int] = {}
        for number, piece in enumerate(self.pieces):
            if not piece:
                raise Problem("expected one piece a line, found an empty line", number + 1)
            if piece in table:
                raise Problem(f"expected each piece once, found {piece!r} also on line {table[piece] + 1}", number + 1)
            table[piece] = number
        self.source = source
        self.special_ids = _special_ids({name: table.get(name) for name in SPECIALS})
        self.continues = [piece.startswith("##") for piece in self.pieces]
        self.identity = self.pieces
        self._table = table
        self._model = WordPiece(table, unk_token="[UNK]", max_input_chars_per_word=_LONGEST)

    def ids(self, word: str) -> list[int]:
        """The ids of `split`, faster."""
        whole = self._table.get(word) if len(word) <= _LONGEST else None
        return [token.id for token in self._model.tokenize(word)] if whole is None else [whole]

    def split(self, word: str) -> Pieces:
        """Cut a normalised word."""
        tokens = self._model.tokenize(word)
        if len(tokens) == 1:
            return [tokens[0].id], [(0, len(word))]
        # The offsets of the tokens are not used: they count bytes.
        lengths = (len(token.value) - 2 * (number > 0) for number, token in enumerate(tokens))
        return [token.id for token in tokens], _spans(lengths)

    def readable(self, piece: int) -> str:
        """The text of a piece, with a space in front unless it continues a word."""
        return self.pieces[piece][2:] if self.continues[piece] else f" {self.pieces[piece]}"


class SentencePieceModel:
    """A SentencePiece model, ours or a third party's. Characters it does not know are [UNK], one for a run of them."""

    kind, file_name = "sentencepiece", "spm.model"

    def __init__(self, source: bytes):
        """Read the bytes of a .model file."""
        try:
            self._model = sentencepiece.SentencePieceProcessor()
            self._model.LoadFromSerializedProto(source)
            first = self._model.encode("a", out_type=str)[:1]
        except (RuntimeError, UnicodeDecodeError):  # the latter from a message that quotes a piece
            raise Problem("expected a SentencePiece model, found something else or a part of one") from None
        if not (first and first[0].startswith(SPACE_MARK)):
            raise Problem("expected a model that marks the start of words, found one without (add_dummy_prefix=false)")
        ids = range(self._model.get_piece_size())
        self.source = source
        try:
            self.pieces = [self._model.id_to_piece(i) for i in ids]
        except UnicodeDecodeError as error:
            raise Problem(f"expected pieces in UTF-8, found one that is not ({error.reason})") from None
        table = {piece: i for i, piece in enumerate(self.pieces)}
        special_ids = {name: table.get(name, table.get(OTHER_NAMES[name])) for name in SPECIALS}
        self.special_ids = _special_ids(special_ids | {"[UNK]": self._model.unk_id()})
        control = [self._model.is_control(i) or self._model.is_unused(i) for i in ids]
        self.continues = [
            not (piece.startswith(SPACE_MARK) or other) for piece, other in zip(self.pieces, control, strict=True)
        ]
        self.identity = [[piece, self._model.get_score(i)] for i, piece in enumerate(self.pieces)]

    def ids(self, word: str) -> list[int]:
        """The ids of `split`, faster."""
        return self._model.encode(_without_mark(word), out_type=int) or [self.special_ids["[UNK]"]]

    def split(self, word: str) -> Pieces:
        """Cut a normalised word. The space mark alone before a word covers none of its characters.

        Where the model rewrites its input (a third party's, with a normalisation of its own, or bytes for unknown
        characters), all pieces get the whole word.
        """
        word = _without_mark(word)
        ids, surfaces = self._model.encode(word, out_type=int), self._model.encode(word, out_type=str)
        if "".join(surfaces) == SPACE_MARK + word:
            return ids, _spans(len(surface) - (number == 0) for number, surface in enumerate(surfaces))
        ids = ids or [self.special_ids["[UNK]"]]
        return ids, [(0, len(word))] * len(ids)

    def readable(self, piece: int) -> str:
        """The text of a piece, with a space in front where it starts a word."""
        return self.pieces[piece].replace(SPACE_MARK, " ")


Model = WordPieceModel | SentencePieceModel
MODELS: dict[str, type[Model]] = {model.kind: model for model in (WordPieceModel, SentencePieceModel)}


def _special_ids(found: dict[str, int | None]) -> dict[str, int]:
    for name, number in found.items():
        if number is None:
            raise Problem(f"expected the special token {name} among the pieces, found none of that name")
    return found


def _without_mark(word: str) -> str:
    # A space mark in the text is an unknown character like others: U+FFFD is in no text that a model learns from.
    return word.replace(SPACE_MARK, "\ufffd")


def _spans(lengths: Iterable[int]) -> list[tuple[int, int]]:
    spans, end = [], 0
    for length in lengths:
        spans.append((end, end + length))
        end += length
    return spans
