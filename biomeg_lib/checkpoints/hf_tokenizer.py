"""A vocabulary as Hugging Face's tokenizer files: `AutoTokenizer` then cuts a text as `Vocabulary.encode` does.

WordPiece is BERT's own tokenizer. For SentencePiece, tokenizer.json says what `Vocabulary` does: BERT's cleaning and
its words, then the mark before each word, then the pieces. What is notable:

- SentencePiece's BPE joins the two neighbours whose union has the best score; `tokenizers` wants pairs in an order. So
  each piece gives all pairs of pieces that make it, pieces by falling score. In which order those of one piece stand
  made no difference in 240,000 words of few letters under 60 vocabularies.
- A model that does more than cut (normalises, knows bytes or symbols of a user) is refused: its ids would differ.

What stays different, `differences` says for the reader of a model card.
"""

import shutil
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import AddedToken, decoders, models, normalizers, pre_tokenizers, processors

from biomeg_lib.errors import InputError
from biomeg_lib.files import atomic_open, write_json
from biomeg_lib.vocab import Vocabulary
from biomeg_lib.vocab.models import SPACE_MARK, SPECIALS, SentencePieceModel, WordPieceModel

_NORMAL, _UNKNOWN, _CONTROL = 1, 2, 3  # types of pieces in sentencepiece_model.proto
_UNIGRAM, _BPE = 1, 2  # its model types


def write_tokenizer(folder: Path, vocabulary: Vocabulary, max_length: int) -> None:
    """Write tokenizer.json, tokenizer_config.json, and the vocabulary's own file: vocab.txt or spm.model.

    Args:
        folder: is there.
        max_length: tokens of the longest text, [CLS] and [SEP] included; longer ones are truncated on demand.

    Raises:
        InputError: a SentencePiece model that does more than cut words into pieces.
    """
    saved = folder / "vocabulary"
    vocabulary.save(saved)
    wordpiece = (saved / WordPieceModel.file_name).is_file()
    own = folder / (WordPieceModel if wordpiece else SentencePieceModel).file_name
    if wordpiece:  # anew, since readers differ in what they take for a line's end and for a mark of the encoding
        with atomic_open(own) as stream:
            stream.writelines(f"{piece}\n" for piece in vocabulary.pieces)
    else:
        (saved / own.name).rename(own)
    shutil.rmtree(saved)
    tokenizer = _wordpiece(vocabulary) if wordpiece else _sentencepiece(vocabulary, own)
    special = {name: vocabulary.pieces[number] for name, number in _special_ids(vocabulary).items()}
    tokenizer.add_special_tokens([AddedToken(piece, normalized=False, special=True) for piece in special.values()])
    cls, sep = vocabulary.pieces[vocabulary.cls_id], vocabulary.pieces[vocabulary.sep_id]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=[f"{cls}:0", "$A:0", f"{sep}:0"],
        pair=[f"{cls}:0", "$A:0", f"{sep}:0", "$B:1", f"{sep}:1"],
        special_tokens=[(cls, vocabulary.cls_id), (sep, vocabulary.sep_id)],
    )
    with atomic_open(folder / "tokenizer.json") as stream:
        stream.write(tokenizer.to_str(pretty=True))
    config: dict[str, Any] = {
        "tokenizer_class": "BertTokenizer" if wordpiece else "PreTrainedTokenizerFast",
        "model_max_length": max_length,
        "model_input_names": ["input_ids", "token_type_ids", "attention_mask"],
        "clean_up_tokenization_spaces": False,
        "do_lower_case": vocabulary.lowercase,
        **{f"{name.strip('[]').lower()}_token": piece for name, piece in special.items()},
    }
    if wordpiece:
        config |= {"strip_accents": vocabulary.lowercase, "tokenize_chinese_chars": True}
    write_json(folder / "tokenizer_config.json", config)


def differences(vocabulary: Vocabulary) -> list[str]:
    """Where these files and `Vocabulary.encode` part, a sentence each."""
    shown = ", ".join(f"`{vocabulary.pieces[number]}`" for number in _special_ids(vocabulary).values())
    found = [
        f"The names {shown} in a text become special tokens; `biomeg` takes them for text.",
        "Text with half of a surrogate pair is refused; `biomeg` leaves such characters out.",
    ]
    if vocabulary.lowercase:
        found.append(
            "Combining marks that are no accents (of music, of Hangul tones), two or more in a row, are put into "
            "Unicode's order; `biomeg` leaves them in the order of the text."
        )
    if SPACE_MARK in vocabulary.pieces:
        found.append(
            f"Where the mark `{SPACE_MARK}` is a piece by itself, its offsets are those of the word's first character; "
            "in `biomeg` it has no characters."
        )
    return found


def _special_ids(vocabulary: Vocabulary) -> dict[str, int]:
    ids = (vocabulary.pad_id, vocabulary.unk_id, vocabulary.cls_id, vocabulary.sep_id, vocabulary.mask_id)
    return dict(zip(SPECIALS, ids, strict=True))


def _cleaning(vocabulary: Vocabulary) -> normalizers.BertNormalizer:
    return normalizers.BertNormalizer(
        clean_text=True,
        handle_chinese_chars=True,
        strip_accents=vocabulary.lowercase,
        lowercase=vocabulary.lowercase,
    )


def _wordpiece(vocabulary: Vocabulary) -> tokenizers.Tokenizer:
    table = {piece: number for number, piece in enumerate(vocabulary.pieces)}
    tokenizer = tokenizers.Tokenizer(models.WordPiece(table, unk_token="[UNK]", max_input_chars_per_word=100))
    tokenizer.normalizer = _cleaning(vocabulary)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    return tokenizer


def _sentencepiece(vocabulary: Vocabulary, path: Path) -> tokenizers.Tokenizer:
    pieces, trainer, normalizer = _parts(path)
    kinds = {kind for _, _, kind in pieces}
    model_type = trainer.get(3, _UNIGRAM)
    if model_type not in (_UNIGRAM, _BPE):
        raise InputError(path.name, "expected a SentencePiece model of the type unigram or bpe, found another")
    if not kinds <= {_NORMAL, _UNKNOWN, _CONTROL}:
        raise InputError(path.name, "expected normal pieces alone, found bytes, unused ones or symbols of a user")
    if normalizer.get(2) or trainer.get(24):
        found = "one that normalises text" if normalizer.get(2) else "one that marks the ends of words"
        raise InputError(path.name, f"expected a SentencePiece model that cuts words into pieces alone, found {found}")
    scores = {piece: score for piece, score, kind in pieces if kind == _NORMAL}
    if model_type == _UNIGRAM:
        model: Any = models.Unigram([(piece, score) for piece, score, _ in pieces], vocabulary.unk_id, False)
    else:
        lacking = sorted({character for piece in scores for character in piece} - scores.keys())
        if lacking:
            raise InputError(path.name, f"expected each character of a piece among the pieces, found no {lacking[0]!r}")
        model = models.BPE(
            {piece: number for number, (piece, _, _) in enumerate(pieces)},
            list(_merges(scores)),
            unk_token=vocabulary.pieces[vocabulary.unk_id],
            fuse_unk=True,
        )
    tokenizer = tokenizers.Tokenizer(model)
    unknown = normalizers.Replace(SPACE_MARK, "\ufffd")  # as `Vocabulary` does: the mark in a text is no mark
    tokenizer.normalizer = normalizers.Sequence([_cleaning(vocabulary), unknown])
    mark = pre_tokenizers.Metaspace(replacement=SPACE_MARK, prepend_scheme="always", split=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.BertPreTokenizer(), mark])
    tokenizer.decoder = decoders.Metaspace(replacement=SPACE_MARK, prepend_scheme="always", split=False)
    return tokenizer


def _merges(scores: dict[str, float]) -> Iterator[tuple[str, str]]:
    """Pairs to join, the first ones first."""
    for piece in sorted(scores, key=lambda piece: -scores[piece]):
        for cut in range(1, len(piece)):
            if piece[:cut] in scores and piece[cut:] in scores:
                yield piece[:cut], piece[cut:]


def _parts(path: Path) -> tuple[list[tuple[str, float, int]], dict[int, Any], dict[int, Any]]:
    """Of a SentencePiece model: (piece, score, type) by id, and the fields of its trainer and normaliser by number."""
    pieces: list[tuple[str, float, int]] = []
    parts: dict[int, dict[int, Any]] = {2: {}, 3: {}}
    try:
        for number, value in _fields(path.read_bytes()):
            if number == 1:
                piece = dict(_fields(value))
                (score,) = struct.unpack("<f", piece.get(2, b"\0\0\0\0"))
                pieces.append((piece[1].decode("utf-8"), score, piece.get(3, _NORMAL)))
            elif number in parts:
                parts[number] = dict(_fields(value))
    except (IndexError, KeyError, TypeError, AttributeError, ValueError, struct.error):
        raise InputError(path.name, "expected a SentencePiece model, found something else") from None
    return pieces, parts[2], parts[3]


def _fields(data: bytes) -> Iterator[tuple[int, Any]]:
    """Number and value of each field of a protocol-buffers message: a whole number, or bytes."""
    place = 0

    def whole() -> int:
        nonlocal place
        value = shift = 0
        while True:
            byte = data[place]
            place += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    sizes = {1: 8, 5: 4}  # bytes of the types of fixed size
    while place < len(data):
        key = whole()
        if key & 7 == 0:
            yield key >> 3, whole()
            continue
        size = whole() if key & 7 == 2 else sizes[key & 7]
        if place + size > len(data):
            raise ValueError("the message ends within a field")
        yield key >> 3, data[place : place + size]
        place += size
