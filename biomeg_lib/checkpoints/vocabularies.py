"""The vocabulary that lies beside a file of weights, and whether it lowers the case."""

import json
from pathlib import Path
from typing import Any

from biomeg_lib.errors import InputError
from biomeg_lib.files import read_json
from biomeg_lib.vocab import Vocabulary
from biomeg_lib.vocab.models import MODELS

_FILES = ("vocab.txt", "spm.model", "tokenizer.model", "spiece.model")


def vocabulary_beside(weights: Path) -> Vocabulary | None:
    """What `vocab.txt`, a SentencePiece model or `tokenizer.json` in the same folder holds; None if none is there.

    The case is told by tokenizer_config.json or tokenizer.json, else by whether any piece has a capital.

    Raises:
        InputError: the file is damaged.
    """
    folder = weights.parent
    described = _mapping(folder / "tokenizer_config.json")
    tokenizer = _mapping(folder / "tokenizer.json")
    lowercase = described.get("do_lower_case", _lowers(tokenizer))
    lowercase = lowercase if isinstance(lowercase, bool) else None
    for name in _FILES:
        if (folder / name).is_file():
            return Vocabulary.load(folder / name, lowercase)
    model = tokenizer.get("model")
    if not isinstance(model, dict) or model.get("type") != "WordPiece" or not isinstance(model.get("vocab"), dict):
        return None
    pieces = sorted(model["vocab"], key=model["vocab"].get)
    if [model["vocab"][piece] for piece in pieces] != list(range(len(pieces))) or any("\n" in p for p in pieces):
        raise InputError(folder / "tokenizer.json", "expected pieces with ids from 0 on, each once")
    made = MODELS["wordpiece"]("".join(f"{piece}\n" for piece in pieces).encode("utf-8"))
    return Vocabulary(made, not any(p != p.lower() for p in pieces if p[0] != "[") if lowercase is None else lowercase)


def _mapping(path: Path) -> dict[str, Any]:
    """A JSON file's values; nothing for an absent one."""
    values = read_json(path) if path.is_file() else {}
    if not isinstance(values, dict):
        raise InputError(path, f"expected a mapping of names to values, found {json.dumps(values)[:20]}")
    return values


def _lowers(tokenizer: dict[str, Any]) -> bool | None:
    normalizer = tokenizer.get("normalizer")
    return normalizer.get("lowercase") if isinstance(normalizer, dict) else None
