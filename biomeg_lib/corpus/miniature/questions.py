"""The miniature's questions: SQuAD 1.1 and 2.0 about the general world, BioASQ about the biomedical one; MRPC pairs."""

import hashlib
import json
from pathlib import Path
from random import Random
from typing import Any

from biomeg_lib.corpus.miniature.corpora import Record
from biomeg_lib.corpus.miniature.general import Fact, GeneralWorld, Thing
from biomeg_lib.corpus.miniature.general_templates import ATTRIBUTES
from biomeg_lib.corpus.miniature.templates import Sentence
from biomeg_lib.corpus.miniature.world import SEED, World

SQUAD_ARTICLES = {"train": 90, "dev": 30}
BIOASQ_QUESTIONS = {
    "train": {"factoid": 80, "list": 40, "yesno": 40},
    "test": {"factoid": 40, "list": 20, "yesno": 20},
}
MRPC_PAIRS = {"train": 400, "test": 160}
PAPER_ADDRESS = "http://www.ncbi.nlm.nih.gov/pubmed/"

VERBS = {
    "INHIBITOR": "inhibit",
    "ANTAGONIST": "block",
    "AGONIST": "stimulate",
    "ACTIVATOR": "activate",
    "INDIRECT-UPREGULATOR": "induce",
    "INDIRECT-DOWNREGULATOR": "suppress",
    "SUBSTRATE": "interact with",
    "PRODUCT-OF": "interact with",
    "REGULATOR": "regulate",
}


def identifier(text: str) -> str:
    """24 hexadecimal digits, as SQuAD and BioASQ have them."""
    return hashlib.sha256(text.encode("utf-8")).hexdigest()[:24]


def write_json(path: Path, value: Any) -> None:
    """Compact JSON, as the official files are written."""
    path.write_text(json.dumps(value, ensure_ascii=True), encoding="utf-8", newline="")


def write_squad(folder: Path, world: GeneralWorld, unanswerable: bool) -> None:
    """train.json and dev.json: each an article a subject, dev subjects not among the training subjects.

    Args:
        unanswerable: write version 2.0, where a third of the questions asks for what the paragraph does not say.
    """
    random = Random(f"{SEED} squad")
    subjects = [thing for kind in ATTRIBUTES for thing in world.kinds[kind] if len(world.facts(thing)) > 2]
    random.shuffle(subjects)
    start = 0
    for split, count in SQUAD_ARTICLES.items():
        articles = [_squad_article(world, random, s, split, unanswerable) for s in subjects[start : start + count]]
        start += count
        write_json(folder / f"{split}.json", {"data": articles, "version": "v2.0" if unanswerable else "1.1"})


def _squad_article(
    world: GeneralWorld, random: Random, subject: Thing, split: str, unanswerable: bool
) -> dict[str, Any]:
    paragraphs = []
    for sentences in world.document(random, subject, paragraphs=2)[1:]:
        context = " ".join(sentence.text for sentence in sentences)
        answered, questions, start = [], [], 0
        for sentence in sentences:
            for who, attribute, value in sentence.facts():
                mention = next(m for m in sentence.mentions if m.role == "v")
                text = sentence.text[mention.start : mention.end]
                answer = {"text": text, "answer_start": start + mention.start}
                answered.append((Fact(who, attribute, value), answer))
            start += len(sentence.text) + 1
        for fact, answer in answered:
            question = {"question": world.ask(random, fact), "answers": [answer]}
            if split == "dev":  # three annotators, one of whom may take the article in front
                place = answer["answer_start"]
                longer = {"text": f"the {answer['text']}", "answer_start": place - 4}
                other = longer if context[max(place - 4, 0) : place] == "the " else answer
                question["answers"] = [answer, other, answer]
            if unanswerable:
                question["is_impossible"] = False
            questions.append(question)
        if unanswerable:
            questions += _impossible(world, random, [subject, *(fact.subject for fact, _ in answered)], answered)
        for question in questions:
            question["id"] = identifier(f"{unanswerable} {split} {context} {question['question']}")
        if questions:
            paragraphs.append({"context": context, "qas": list({q["id"]: q for q in questions}.values())})
    return {"title": subject.name.replace(" ", "_"), "paragraphs": paragraphs}


def _impossible(
    world: GeneralWorld, random: Random, subjects: list[Thing], answered: list[tuple[Fact, dict[str, Any]]]
) -> list[dict[str, Any]]:
    """Questions about the paragraph's subjects which it leaves open, with an answer that looks right."""
    said = {(fact.subject.name, fact.attribute) for fact, _ in answered}
    open_facts = [
        fact
        for subject in {thing.name: thing for thing in subjects if thing.kind in ATTRIBUTES}.values()
        for fact in world.facts(subject)
        if (subject.name, fact.attribute) not in said
    ]
    questions = []
    for fact in random.sample(open_facts, min(len(open_facts), -(-len(answered) // 2))):
        alike = [answer for other, answer in answered if type(other.value) is type(fact.value)]
        plausible = [random.choice(alike or [answer for _, answer in answered])]
        question = world.ask(random, fact)
        questions.append({"question": question, "answers": [], "plausible_answers": plausible, "is_impossible": True})
    return questions


def write_mrpc(folder: Path, world: GeneralWorld) -> None:
    """Pairs of sentences: one fact in two wordings, or two facts that share most of their words."""
    number = 1000001
    for split, count in MRPC_PAIRS.items():
        random = Random(f"{SEED} mrpc {split}")
        text = "\ufeffQuality\t#1 ID\t#2 ID\t#1 String\t#2 String\n"
        for _ in range(count):
            subject = world.subject(random)
            fact = random.choice(world.facts(subject))
            wording = random.randrange(6)
            first = world.state(random, fact, wording)
            same = random.random() < 0.65
            if not same:
                kind = [thing for thing in world.kinds[subject.kind] if thing is not subject]
                fact = Fact(subject, fact.attribute, random.choice(kind).facts[fact.attribute])
                same = fact.value == subject.facts[fact.attribute]
            second = world.state(random, fact, wording + random.randint(0 if not same else 1, 1))
            if first.text == second.text:
                second = world.event(random, subject)
                same = False
            text += f"{int(same)}\t{number}\t{number + 1}\t{first.text}\t{second.text}\n"
            number += 2
        (folder / f"{split}.txt").write_text(text, encoding="utf-8", newline="")


class BioasqWriter:
    """Questions about facts of the biomedical world; sentences of PubMed records that state them are the snippets."""

    def __init__(self, world: World, records: list[Record]):
        self.world = world
        self.entities = {e.name: e for kind in (world.chemicals, world.diseases, world.genes) for e in kind}
        self.snippets: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
        self.by_subject: dict[tuple[str, str], dict[str, None]] = {}
        self.by_object: dict[tuple[str, str], dict[str, None]] = {}
        for record in records:
            for section, place, sentence in record.placed():
                for a, label, b in sentence.facts():
                    snippet = _snippet(record, section, place, sentence)
                    self.snippets.setdefault((a.name, label, b.name), []).append(snippet)
                    self.by_subject.setdefault((a.name, label), {})[b.name] = None
                    self.by_object.setdefault((label, b.name), {})[a.name] = None

    def write(self, folder: Path) -> None:
        """train.json and test.json; the entities asked about in one are not asked about in the other."""
        for split, counts in BIOASQ_QUESTIONS.items():
            random = Random(f"{SEED} bioasq {split}")
            questions: list[dict[str, Any]] = []
            for kind, count in counts.items():
                candidates = {"factoid": self._factoids, "list": self._lists, "yesno": self._yesnos}[kind](random)
                mine = [c for c in candidates if (c["subject"].split != "") == (split == "test")]
                random.shuffle(mine)
                if kind == "yesno":  # as many of one as of the other
                    answers = [[c for c in mine if c["answer"] == answer] for answer in ("yes", "no")]
                    mine = [c for pair in zip(*answers, strict=False) for c in pair]
                questions += [self._question(random, kind, c, nested=split == "test") for c in mine[:count]]
            write_json(folder / f"{split}.json", {"questions": questions})

    def _question(self, random: Random, kind: str, candidate: dict[str, Any], nested: bool) -> dict[str, Any]:
        """A factoid's synonyms are a plain list in training files of BioASQ, a list in a list in its gold files."""
        found = [snippet for fact in candidate["facts"] for snippet in self.snippets[fact]]
        first = [self.snippets[fact][0] for fact in candidate["facts"]]
        snippets = first + random.sample(found, min(len(found), random.randint(2, 9)))
        snippets = list({json.dumps(snippet): snippet for snippet in snippets}.values())
        answer = candidate["answer"]
        return {
            "id": identifier(f"bioasq {candidate['body']}"),
            "type": kind,
            "body": candidate["body"],
            "documents": list(dict.fromkeys(snippet["document"] for snippet in snippets)),
            "snippets": snippets,
            "exact_answer": [answer] if kind == "factoid" and nested else answer,
            "ideal_answer": [snippets[0]["text"]],
        }

    def _factoids(self, random: Random) -> list[dict[str, Any]]:
        """Questions with one answer: what the records name most often."""
        made = []
        for (name, label), objects in self.by_subject.items():
            best = max(objects, key=lambda other: (len(self.snippets[name, label, other]), other))
            wordings = {
                "treats": ("Which disease is {} mainly used for?", "What is {} indicated for?"),
                "causes": ("Which disorder is most often caused by {}?", "What is the main adverse effect of {}?"),
                "involves": ("Which gene is most often implicated in {}?", "What gene is mainly involved in {}?"),
            }.get(label, ("What is the main molecular target of {}?", "Which protein does {} mainly act on?"))
            if label != "NOT":
                answer = self.entities[best].forms
                made.append(self._candidate(random.choice(wordings), name, [(name, label, best)], answer))
        return made

    def _lists(self, random: Random) -> list[dict[str, Any]]:
        """Questions with two answers and more."""
        made = []
        for (label, name), subjects in self.by_object.items():
            if label == "NOT" or label == "involves" or not 2 <= len(subjects) <= 8:
                continue
            wordings = {
                "treats": ("Which drugs are used for the treatment of {}?", "List drugs against {}."),
                "causes": ("Which drugs can cause {}?", "List drugs with {} as an adverse effect."),
            }.get(label, ("Which chemicals act on {} as its " + label.lower() + "?",))
            facts = [(subject, label, name) for subject in subjects]
            answers = [self.entities[subject].forms for subject in subjects]
            made.append(self._candidate(random.choice(wordings), name, facts, answers))
        return made

    def _yesnos(self, random: Random) -> list[dict[str, Any]]:
        """Questions whose answer is yes for a stated fact, and no for a denied one."""
        made = []
        for name, label, other in self.snippets:
            if label in VERBS:
                made.append(self._candidate(f"Does {{}} {VERBS[label]} {other}?", name, [(name, label, other)], "yes"))
            elif label == "NOT":
                _, first = self.world.targets[name][0]
                made.append(self._candidate(f"Does {{}} {VERBS[first]} {other}?", name, [(name, label, other)], "no"))
            elif label == "treats" and random.random() < 0.3:
                made.append(self._candidate(f"Is {{}} effective in {other}?", name, [(name, label, other)], "yes"))
        return made

    def _candidate(self, wording: str, name: str, facts: list[tuple[str, str, str]], answer: Any) -> dict[str, Any]:
        return {"body": wording.format(name), "subject": self.entities[name], "facts": facts, "answer": answer}


def _snippet(record: Record, section: str, place: int, sentence: Sentence) -> dict[str, Any]:
    return {
        "text": sentence.text,
        "document": f"{PAPER_ADDRESS}{record.pmid}",
        "beginSection": section,
        "endSection": section,
        "offsetInBeginSection": place,
        "offsetInEndSection": place + len(sentence.text),
    }
