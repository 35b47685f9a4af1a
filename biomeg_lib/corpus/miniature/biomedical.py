"""Biomedical texts: casts from the world, wording from the templates, documents of titled sections of sentences."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from biomeg_lib.corpus.miniature.biomedical_templates import (
    BACKGROUND,
    CONCLUSIONS,
    METHODS,
    NEGATIVE,
    RELATIONS,
    RESULTS,
    TITLES,
)
from biomeg_lib.corpus.miniature.general import surname, town
from biomeg_lib.corpus.miniature.templates import Piece, Sentence, render, roles
from biomeg_lib.corpus.miniature.world import BRANDS, ROOTS, Cast, World

# What a sentence of each group states.
FACTS = {"treats": (("c", "treats", "d"),), "causes": (("c", "causes", "s"),), "involves": (("d", "involves", "h"),)}

ABSTRACT_HEADS = ("BACKGROUND", "METHODS", "RESULTS", "CONCLUSIONS")
ARTICLE_HEADS = ("Introduction", "Methods", "Results", "Discussion")


@dataclass(frozen=True, slots=True)
class Paper:
    """A title, and sections of (heading, sentences)."""

    title: Sentence
    sections: tuple[tuple[str, tuple[Sentence, ...]], ...]
    cast: Cast

    @property
    def sentences(self) -> list[Sentence]:
        """Title and text in order."""
        return [self.title, *(sentence for _, sentences in self.sections for sentence in sentences)]


def _number(random: Random) -> str:
    return str(random.choice((8, 12, 16, 20, 24, 30, 36, 42, 48, 60, 72, 84, 96, 120, 150, 240)))


PERIODS = ("two", "three", "four", "six", "8", "12", "24")

# Fillers that name nothing. The words in b are brands as well, the towns and surnames stand in names of diseases.
FILLERS = {
    "dose": lambda random: random.choice(("5", "10", "20", "25", "40", "50", "100", "0.5", "2.5", "7.5")),
    "n": _number,
    "pct": lambda random: str(random.randint(4, 95)),
    "p": lambda random: random.choice(("p < 0.05", "p < 0.01", "p = 0.03", "p = 0.02", "P < 0.001")),
    "time": lambda random: f"{random.choice(PERIODS)} {random.choice(('days', 'weeks', 'hours', 'months'))}",
    "species": lambda random: random.choice(
        ("rats", "mice", "rabbits", "dogs", "elderly patients", "healthy volunteers", "children", "adults")
    ),
    "cell": lambda random: random.choice(("epithelial", "endothelial", "HT-12", "KL5", "cortical", "smooth muscle")),
    "b": lambda random: random.choice(BRANDS),
    "person": surname,
    "place": town,
    "firm": lambda random: (
        f"{random.choice(ROOTS).capitalize()}{random.choice(('omed', 'atek', 'o Chemicals', 'in Laboratories'))}"
    ),
}


class Writer:
    """Writes the sentences of a document: introduces a long name with its abbreviation, and shortens it afterwards."""

    def __init__(self, random: Random, cast: Cast):
        self.random, self.cast = random, cast
        self.introduced: set[str] = set()  # asked for membership only
        self.used: list[str] = []

    def fill(self, slot: str) -> Sequence[Piece]:
        """The pieces of a role or a filler."""
        role, _, form = slot.partition(":")
        if role in FILLERS:
            return [(FILLERS[role](self.random), None)]
        entity = self.cast.roles[role]
        if form == "name" or (form == "brand" and not entity.brand):
            return [(entity.name, entity)]
        if form == "brand":
            return [(entity.brand, entity)]
        if entity.name not in self.introduced:
            self.introduced.add(entity.name)
            if entity.kind == "gene":
                return [(entity.abbreviation if self.random.random() < 0.6 else entity.name, entity)]
            short = entity.abbreviation or (entity.brand if self.random.random() < 0.5 else "")
            return [(entity.name, entity)] + ([(" (", None), (short, entity), (")", None)] if short else [])
        chance = self.random.random()
        if entity.abbreviation and chance < 0.55:
            return [(entity.abbreviation, entity)]
        if entity.brand and chance > 0.75:
            return [(entity.brand, entity)]
        return [(entity.name, entity)]

    def write(self, group: Sequence[str], relations: tuple[tuple[str, str, str], ...] = ()) -> Sentence:
        """A sentence from one of the templates of `group` that this cast can play, if possible not a used one."""
        playable = [t for t in group if "k" not in roles(t) or "k" in self.cast.roles]
        template = self.random.choice([t for t in playable if t not in self.used] or playable)
        self.used.append(template)
        return render(template, self.random, self.fill, tuple(r for r in relations if {r[0], r[2]} <= roles(template)))

    def pick(self, templates: Sequence[tuple[str, str]], group: str | None = None) -> Sentence:
        """A sentence of a list with facts; of one kind of fact, or of any."""
        group = group or self.random.choice(["none", "none", *dict.fromkeys(g for g, _ in templates)])
        return self.write(_of_group(tuple(templates), group), FACTS.get(group, ()))

    def relation(self) -> Sentence:
        """A sentence that states what c does to g."""
        label = self.cast.label
        return self.write(RELATIONS[label], (("c", label, "g"), ("k", label, "g"), ("c", "NOT", "x")))

    def negative(self) -> Sentence:
        """A sentence that states that c leaves x alone."""
        return self.write(NEGATIVE, (("c", "NOT", "x"), ("o", "NOT", "x")))


@functools.cache
def _of_group(templates: tuple[tuple[str, str], ...], group: str) -> tuple[str, ...]:
    return tuple(template for name, template in templates if name == group)


def paper(world: World, random: Random, split: str, related: int = 1, turns: int = 0, long: bool = False) -> Paper:
    """One document.

    Args:
        split: which entities may occur, see `world.SPLITS`.
        related: how many sentences state the relation between c and g.
        turns: how often each section turns to another cast, or back to the first, as a long discussion does.
        long: headings of a full-text article instead of an abstract's.
    """
    cast = world.cast(random, split)
    writer = Writer(random, cast)
    title = writer.pick(TITLES)
    sections = _sections(writer, related)
    for turn in range(1, turns + 1):
        other = Writer(random, world.cast(random, split) if turn % 2 else cast)
        sections = [text + more for text, more in zip(sections, _sections(other, related), strict=True)]
    heads = ARTICLE_HEADS if long else ABSTRACT_HEADS
    return Paper(title, tuple((head, tuple(text)) for head, text in zip(heads, sections, strict=True)), cast)


def _sections(writer: Writer, related: int) -> list[list[Sentence]]:
    """Background, methods, results and conclusions of one cast, nine sentences and more."""
    random = writer.random
    background = [writer.pick(BACKGROUND, random.choice(("none", "treats", "involves")))]
    background += [writer.pick(BACKGROUND) for _ in range(random.randint(1, 3))]
    methods = [writer.pick(METHODS) for _ in range(random.randint(2, 4))]
    results = [writer.relation() for _ in range(related)] + [writer.pick(RESULTS, "treats")]
    results += [writer.pick(RESULTS) for _ in range(random.randint(1, 3))]
    if random.random() < 0.5:
        results.append(writer.negative())
    if random.random() < 0.6:
        results.append(writer.pick(RESULTS, random.choice(("causes", "involves"))))
    random.shuffle(results)
    conclusions = [writer.pick(CONCLUSIONS) for _ in range(random.randint(1, 2))]
    return [background, methods, results, conclusions]
