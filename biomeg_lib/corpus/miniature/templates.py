"""Sentence templates with marked mentions: the small machine that all texts of the miniature come out of.

A template is plain text with two kinds of marks: `<one|another>` chooses a wording, `{role}` is filled in by the
caller. A filling is a list of pieces, each with the entity it names or None, so a mention's characters are known from
the moment it is written and no annotation is ever searched for afterwards.
"""

import functools
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

MARK = re.compile(r"<([^<>{}]*)>|\{([^{}]*)\}")
Piece = tuple[str, Any]


@dataclass(frozen=True, slots=True)
class Mention:
    """Characters `start:end` of a sentence that name `entity` (an `Entity` or a `Thing`), standing in `role`."""

    start: int
    end: int
    entity: Any
    role: str


@dataclass(frozen=True, slots=True)
class Sentence:
    """One sentence; `relations` are (role, label, role) triples that its wording states."""

    text: str
    mentions: tuple[Mention, ...]
    relations: tuple[tuple[str, str, str], ...] = ()

    def facts(self) -> list[tuple[Any, str, Any]]:
        """The stated relations between entities instead of roles."""
        who = {mention.role: mention.entity for mention in self.mentions}
        return [(who[a], label, who[b]) for a, label, b in self.relations if a in who and b in who]


@functools.cache
def parse(template: str) -> tuple[tuple[str, Any], ...]:
    """`template` as ("text", str), ("choice", tuple of str) and ("role", str) parts."""
    parts: list[tuple[str, Any]] = []
    end = 0
    for mark in MARK.finditer(template):
        if mark.start() > end:
            parts.append(("text", template[end : mark.start()]))
        choice, role = mark.groups()
        parts.append(("choice", tuple(choice.split("|"))) if role is None else ("role", role))
        end = mark.end()
    if end < len(template):
        parts.append(("text", template[end:]))
    return tuple(parts)


@functools.cache
def roles(template: str) -> frozenset[str]:
    """The roles a template needs (`{c:short}` needs c); ask only for membership, a set has no stable order."""
    return frozenset(value.split(":")[0] for kind, value in parse(template) if kind == "role")


def render(
    template: str,
    random: Random,
    fill: Callable[[str], Sequence[Piece]],
    relations: tuple[tuple[str, str, str], ...] = (),
) -> Sentence:
    """Fill in a template; the sentence starts with a capital, and "a" becomes "an" before a vowel.

    Args:
        fill: from what stands between the braces to pieces of text with the entity each one names.
    """
    text = ""
    mentions: list[Mention] = []
    for kind, value in parse(template):
        pieces = fill(value) if kind == "role" else [(value if kind == "text" else random.choice(value), None)]
        for piece, entity in pieces:
            if text.endswith(" "):
                piece = piece.removeprefix(" ")  # an empty choice between two spaces leaves one
            if piece[:1].lower() in ("a", "e", "i", "o") and (text == "a " or text.endswith((" a ", "A "))):
                text = text[:-1] + "n "
            if entity is not None:
                mentions.append(Mention(len(text), len(text) + len(piece), entity, value.split(":")[0]))
            text += piece
    return Sentence(text[:1].upper() + text[1:], tuple(mentions), relations)


def words(text: str) -> list[str]:
    """A list of words, for the readers of the tables."""
    return text.split()


def zipf(random: Random, items: Sequence[Any], exponent: float = 0.8) -> Any:
    """One of `items`, the n-th of them with a probability in proportion to 1 / n ** exponent."""
    return items[_draw(random, len(items), exponent)]


def _draw(random: Random, count: int, exponent: float) -> int:
    return random.choices(range(count), cum_weights=_weights(count, exponent))[0]


@functools.cache
def _weights(count: int, exponent: float) -> list[float]:
    total, weights = 0.0, []
    for rank in range(1, count + 1):
        total += rank**-exponent
        weights.append(total)
    return weights
