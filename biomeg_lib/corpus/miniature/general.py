"""The general half of the generated world: people, places, clubs, companies, and the facts about them.

A fact is a subject, an attribute and a value; templates state it and ask for it, so that the same facts serve as
running text, as questions with an answer, as paraphrases and as named entities.
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random

from biomeg_lib.corpus.miniature.general_templates import ATTRIBUTES, COLOURS, EVENTS, GOODS, HEADLINES, MONTHS, TRADES
from biomeg_lib.corpus.miniature.templates import Mention, Piece, Sentence, render, words, zipf
from biomeg_lib.corpus.miniature.world import EPONYMS

SEED = "biomeg-miniature general"

STEMS = words(
    "Ash Bren Cal Dun Els Fenn Gar Hol Inver Jor Kel Lang Mar Nor Oster Pell Quen Rav Sel Thorn Ulf Varn Wex Yar Zell "
    "Amber Black Crow Dray Ember Frost"
)
TOWN_ENDINGS = words("vale more wick ford holm stead bury mouth ham dale")
SURNAME_ENDINGS = words("holm rev qar aly vard drik vik owen sk zar mund")
FIRST_NAMES = words(
    "Anna Ben Clara David Edith Felix Grace Henry Irene James Karin Leo Maria Nils Olga Peter Rosa Simon Tessa Victor"
)
COUNTRIES = {
    "Velmaria": "Velmarian",
    "Ostland": "Ostlandish",
    "Kardova": "Kardovan",
    "Suthria": "Suthrian",
    "Merrow": "Merrish",
}
SHIPS = words("Falcon Lantern Pilgrim Compass Marlin Beacon")


@dataclass(slots=True)
class Thing:
    """A person, a place, an organisation; `facts` maps an attribute to its value, a thing or plain text."""

    kind: str
    name: str
    facts: dict[str, "Thing | str"] = field(default_factory=dict)

    @property
    def type(self) -> str:
        """The CoNLL-2003 type."""
        return {
            "person": "PER",
            "club": "ORG",
            "company": "ORG",
            "paper": "ORG",
            "festival": "MISC",
            "people": "MISC",
        }.get(self.kind, "LOC")


@dataclass(frozen=True, slots=True)
class Fact:
    """One thing known about a subject."""

    subject: Thing
    attribute: str
    value: "Thing | str"


def surname(random: Random) -> str:
    """A surname, common ones more often."""
    return zipf(random, surnames())


def town(random: Random) -> str:
    """The name of a town."""
    return zipf(random, town_names())


@functools.cache
def surnames() -> list[str]:
    """All surnames; some are the names that diseases carry."""
    random = Random(f"{SEED} surnames")
    made = [stem + ending for stem in STEMS for ending in random.sample(SURNAME_ENDINGS, 3)]
    return _shuffled(random, list(dict.fromkeys([*EPONYMS, *made])))


@functools.cache
def town_names() -> list[str]:
    """All names of towns."""
    random = Random(f"{SEED} towns")
    return _shuffled(random, [stem + ending for stem in STEMS for ending in random.sample(TOWN_ENDINGS, 3)])


def _shuffled(random: Random, items: list[str]) -> list[str]:
    random.shuffle(items)
    return items


class GeneralWorld:
    """All things, by kind, most frequent first."""

    def __init__(self) -> None:
        random = Random(f"{SEED} world")
        names = town_names()
        self.kinds: dict[str, list[Thing]] = {
            "town": [Thing("town", name) for name in names[:70]],
            "river": [Thing("river", f"River {stem}") for stem in random.sample(STEMS, 16)],
            "province": [
                Thing("province", f"{a} {b}")
                for a in ("North", "South", "Upper", "Lower")
                for b in ("Jorland", "Wexmark", "Selmark")
            ],
            "country": [Thing("country", name) for name in COUNTRIES],
            "people": [Thing("people", name) for name in COUNTRIES.values()],
            "person": [],
            "hills": [Thing("hills", f"{stem} Hills") for stem in random.sample(STEMS, 8)],
            "sea": [Thing("sea", f"{word} Sea") for word in ("Grey", "Amber", "Northern", "Inner")],
            "paper": [
                Thing("paper", f"{name} {kind}")
                for name in names[:10]
                for kind in random.sample(["Courier", "Mail", "Lantern", "Beacon"], 1)
            ],
            "club": [],
            "company": [],
            "festival": [],
            "ground": [],
        }
        people = list(dict.fromkeys(f"{random.choice(FIRST_NAMES)} {surname(random)}" for _ in range(200)))
        self.kinds["person"] = [Thing("person", name) for name in people]
        for home in self.kinds["town"]:
            if random.random() < 0.6:
                # Half of the clubs go by the name of their town alone: only the context tells which is meant.
                second = random.choice(["Rovers", "Athletic", "United", "Wanderers", "", "", "", ""])
                self._add(random, "club", f"{home.name} {second}".strip(), town=home)
                self._add(random, "ground", f"{random.choice(STEMS)} Park")
                self.kinds["club"][-1].facts["ground"] = self.kinds["ground"][-1]
            if random.random() < 0.5:
                self._add(
                    random, "festival", f"{home.name} {random.choice(['Fair', 'Festival', 'Regatta'])}", town=home
                )
            maker = random.choice([surname(random), random.choice(SHIPS), random.choice(STEMS) + "co"])
            if random.random() < 0.6:
                self._add(
                    random,
                    "company",
                    f"{maker} {random.choice(['Mills', 'Motors', 'Foods', 'Glass', 'Group'])}",
                    town=home,
                )
        for kind in ("company", "festival", "ground"):
            self.kinds[kind] = list({thing.name: thing for thing in self.kinds[kind]}.values())
        for kind, attributes in ATTRIBUTES.items():
            for thing in self.kinds[kind]:
                for attribute, (value, _, _) in attributes.items():
                    if attribute not in thing.facts:
                        thing.facts[attribute] = self._value(random, value, thing)

    def _add(self, random: Random, kind: str, name: str, **facts: Thing) -> None:
        self.kinds[kind].append(Thing(kind, name, dict(facts)))

    def _value(self, random: Random, value: str, subject: Thing) -> "Thing | str":
        """A value of a kind: a thing of the world, or a number or word."""
        plain = {
            "year": lambda: str(random.randint(1802, 1998)),
            "population": lambda: f"{random.randint(3, 420)},{random.randint(1, 9)}00",
            "length": lambda: f"{random.randint(30, 640)} kilometres",
            "staff": lambda: f"{random.randint(2, 90)}00",
            "good": lambda: zipf(random, GOODS),
            "trade": lambda: zipf(random, TRADES),
            "colours": lambda: " and ".join(random.sample(COLOURS, 2)),
            "month": lambda: random.choice(MONTHS),
            "age": lambda: str(random.randint(23, 79)),
        }
        if value in plain:
            return plain[value]()
        others = [thing for thing in self.kinds[value] if thing is not subject]
        return zipf(random, others, 0.4)

    def facts(self, subject: Thing) -> list[Fact]:
        """All facts about a subject."""
        return [
            Fact(subject, attribute, value)
            for attribute, value in subject.facts.items()
            if attribute in ATTRIBUTES[subject.kind]
        ]

    def state(self, random: Random, fact: Fact, wording: int | None = None) -> Sentence:
        """A sentence that states a fact; `wording` chooses the template."""
        statements = ATTRIBUTES[fact.subject.kind][fact.attribute][1]
        template = statements[random.randrange(len(statements)) if wording is None else wording % len(statements)]
        who = {"s": fact.subject, "v": fact.value}
        return render(template, random, lambda slot: [_piece(who[slot])], (("s", fact.attribute, "v"),))

    def ask(self, random: Random, fact: Fact) -> str:
        """A question that the fact answers."""
        question = random.choice(ATTRIBUTES[fact.subject.kind][fact.attribute][2])
        return render(question, random, lambda slot: [(fact.subject.name, None)]).text

    def event(self, random: Random, subject: Thing) -> Sentence:
        """Something that happened, about the subject or about anything."""
        templates = [t for kind, t in EVENTS if kind in ("any", subject.kind)]

        used = [subject.name]

        def fill(slot: str) -> Sequence[Piece]:
            if slot == "s":
                return [_piece(subject)]
            if slot == "ship":
                return [_piece(Thing("ship", random.choice(SHIPS)))]
            while True:  # {town} and {town2} are two towns
                piece = _piece(self._value(random, slot.rstrip("2"), subject))
                if piece[0] not in used:
                    used.append(piece[0])
                    return [piece]

        return render(random.choice(templates), random, fill)

    def subject(self, random: Random) -> Thing:
        """What a document is about."""
        return zipf(
            random,
            self.kinds[random.choice(["town", "town", "person", "person", "club", "company", "river", "festival"])],
        )

    def document(self, random: Random, subject: Thing, paragraphs: int = 3) -> list[list[Sentence]]:
        """Paragraphs, the first one a headline; they state all facts of the subject and some of its neighbours."""
        known = self.facts(subject)
        random.shuffle(known)
        for neighbour in [
            value for value in subject.facts.values() if isinstance(value, Thing) and value.kind in ATTRIBUTES
        ]:
            more = self.facts(neighbour)
            known += random.sample(more, min(2, len(more)))
        text: list[list[Sentence]] = [[render(random.choice(HEADLINES), random, lambda _: [_piece(subject)])]]
        size = max(1, -(-len(known) // paragraphs))
        for start in range(0, len(known), size):
            part = [self.state(random, fact) for fact in known[start : start + size]]
            for _ in range(random.randint(1, 3)):
                part.insert(random.randint(0, len(part)), self.event(random, subject))
            text.append(part)
        return text


def _piece(value: "Thing | str") -> Piece:
    """Things are marked, plain values as well (as text), so that an answer's place is known."""
    return (value.name, value) if isinstance(value, Thing) else (value, value)


def things(sentence: Sentence) -> list[Mention]:
    """The mentions that name something, without the plain values."""
    return [mention for mention in sentence.mentions if isinstance(mention.entity, Thing)]
