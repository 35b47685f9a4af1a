"""The vocabulary that lies beside a file of weights, and whether it lowers the case; and that of a run of a study."""

import re
from pathlib import Path
from typing import Any

from biomeg_lib.checkpoints.pickles import brief, shown
from biomeg_lib.checkpoints.side_files import read_side_file
from biomeg_lib.errors import InputError
from biomeg_lib.vocab import Vocabulary
from biomeg_lib.vocab.models import MODELS, Problem

_LONGEST_TOKENIZER = 32 << 20  # bytes of tokenizer.json; that of the largest vocabularies has 17 million
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")  # as `schema.Name`
_FILES = ("vocab.txt", "spm.model", "tokenizer.model", "spiece.model")


def vocabulary_beside(weights: Path) -> Vocabulary | None:
    """What `vocab.txt`, a SentencePiece model or `tokenizer.json` in the same folder holds; None if none is there.

    The case is told by tokenizer_config.json or tokenizer.json, else by whether any piece has a capital.

    Raises:
        InputError: the file is damaged.
    """
    folder = weights.parent
    described = _mapping(folder / "tokenizer_config.json")
    tokenizer = _mapping(folder / "tokenizer.json", longest=_LONGEST_TOKENIZER)
    lowercase = described.get("do_lower_case", _lowers(tokenizer))
    lowercase = lowercase if isinstance(lowercase, bool) else None
    for name in _FILES:
        if (folder / name).is_file():
            return Vocabulary.load(folder / name, lowercase)
    model = tokenizer.get("model")
    if not isinstance(model, dict) or model.get("type") != "WordPiece" or not isinstance(model.get("vocab"), dict):
        return None
    table = model["vocab"]
    try:
        pieces = sorted(table, key=table.get)
        if [table[piece] for piece in pieces] != list(range(len(pieces))) or any("\n" in p for p in pieces):
            raise ValueError
        made = MODELS["wordpiece"]("".join(f"{piece}\n" for piece in pieces).encode("utf-8"))
    except (TypeError, ValueError):  # ids of several types, pieces that are no text
        raise InputError(folder / "tokenizer.json", "expected pieces with ids from 0 on, each once") from None
    except Problem as problem:
        raise InputError(folder / "tokenizer.json", str(problem)) from None
    return Vocabulary(made, not any(p != p.lower() for p in pieces if p[0] != "[") if lowercase is None else lowercase)


def vocabulary_of_run(folder: Path, name: Any, within: Path | None = None) -> Vocabulary:
    """The vocabulary of a run, from where its study has it: beside `runs`.

    Args:
        folder: outputs/<profile>/runs/<stage>/<run>.
        name: what its params call the vocabulary.
        within: where it has to be, too: the folder that an archive was unpacked to.

    Raises:
        InputError: no name, none of that name, or none where it may be looked for.
    """
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise InputError(folder / "params.json", f"expected the name of a vocabulary, found {shown(name)}")
    above = folder.resolve().parents
    if len(above) < 3 or (within is not None and not above[2].is_relative_to(within.resolve())):
        raise InputError(folder, "expected a run in the folders of its study, where its vocabulary is, found it alone")
    return Vocabulary.load(above[2] / "vocabularies" / name)


def _mapping(path: Path, **limit: int) -> dict[str, Any]:
    """A JSON file's values; nothing for an absent one."""
    values = read_side_file(path, **limit) if path.is_file() else {}
    if not isinstance(values, dict):
        raise InputError(path, f"expected a mapping of names to values, found {brief(values)}")
    return values


def _lowers(tokenizer: dict[str, Any]) -> bool | None:
    normalizer = tokenizer.get("normalizer")
    return normalizer.get("lowercase") if isinstance(normalizer, dict) else None
