"""The miniature's labelled sets: named entities as BC5CDR and CoNLL-2003 files, relations as ChemProt files."""

import re
from collections.abc import Iterator
from pathlib import Path
from random import Random

from biomeg_lib.corpus.miniature.biomedical import Paper, paper
from biomeg_lib.corpus.miniature.general import GeneralWorld, things
from biomeg_lib.corpus.miniature.templates import Mention, Sentence
from biomeg_lib.corpus.miniature.world import SEED, World

SPLITS = ("train", "devel", "test")
NER_SENTENCES = {"train": 300, "devel": 100, "test": 150}
NER_SENTENCES_OF_ONE = 5  # a few of each abstract, so that a small set names many entities
CHEMPROT_ABSTRACTS = {"train": 120, "devel": 40, "test": 60}
CHEMPROT_PMIDS = {"train": 20000001, "devel": 20100001, "test": 20200001}

# ChemProt's groups of relations, and the five that its evaluation counts.
GROUPS = {
    "REGULATOR": "CPR:2",
    "ACTIVATOR": "CPR:3",
    "INDIRECT-UPREGULATOR": "CPR:3",
    "INHIBITOR": "CPR:4",
    "INDIRECT-DOWNREGULATOR": "CPR:4",
    "AGONIST": "CPR:5",
    "ANTAGONIST": "CPR:6",
    "SUBSTRATE": "CPR:9",
    "PRODUCT-OF": "CPR:9",
    "NOT": "CPR:10",
}
EVALUATED = ("CPR:3", "CPR:4", "CPR:5", "CPR:6", "CPR:9")

BC5CDR_TOKEN = re.compile(r"\w+|[^\w\s]")
CONLL_TOKEN = re.compile(r"'s\b|\w+(?:[-.,]\w+)*|[^\w\s]")

WORD_CLASSES = {
    "DT": "the a an this each some half most",
    "IN": "of in on at by from for with to near after before between over up as although since into until about",
    "CC": "and or but",
    "PRP": "it we she he i nobody there",
    "MD": "will can may",
    "RB": "not now once twice early",
    "VBZ": "is has lies runs makes sells employs sends rises flows works lives comes wears fills drew",
    "VBD": "was were had did said met fell rose won lost beat sang wrote read",
}
TAG_OF_WORD = {word: tag for tag, words in WORD_CLASSES.items() for word in words.split()}
ENDINGS = {"ed": "VBD", "ing": "VBG", "ly": "RB", "s": "NNS"}


def write_biomedical_ner(chemicals: Path, diseases: Path, world: World) -> None:
    """The same sentences twice, with the chemicals and with the diseases marked."""
    for split in SPLITS:
        random = Random(f"{SEED} ner {split}")
        sentences: list[Sentence] = []
        while len(sentences) < NER_SENTENCES[split]:
            article = paper(world, random, split).sentences
            chosen = sorted(random.sample(range(len(article)), NER_SENTENCES_OF_ONE))
            sentences += [article[place] for place in chosen]
        for folder, kind, label in ((chemicals, "chemical", "Chemical"), (diseases, "disease", "Disease")):
            text = ""
            for sentence in sentences[: NER_SENTENCES[split]]:
                marked = [mention for mention in sentence.mentions if mention.entity.kind == kind]
                for token, mention, first in _tokens(BC5CDR_TOKEN, sentence.text, marked):
                    text += f"{token}\tO\n" if mention is None else f"{token}\t{'B' if first else 'I'}-{label}\n"
                text += "\n"
            (folder / f"{split}.tsv").write_text(text, encoding="utf-8", newline="")


def _tokens(pattern: re.Pattern[str], text: str, mentions: list[Mention]) -> Iterator[tuple[str, Mention | None, bool]]:
    """(token, the mention it belongs to, whether it is the first token of it)."""
    for match in pattern.finditer(text):
        inside = next((m for m in mentions if m.start <= match.start() and match.end() <= m.end), None)
        yield match.group(), inside, inside is not None and match.start() == inside.start


def write_general_ner(folder: Path, world: GeneralWorld) -> None:
    """CoNLL-2003 columns; tags as in the original files: I- everywhere, B- only between neighbours of one type."""
    for split in SPLITS:
        random = Random(f"{SEED} conll {split}")
        text, count = "", 0
        while count < NER_SENTENCES[split]:
            text += "-DOCSTART- -X- O O\n\n"
            for sentence in (s for part in world.document(random, world.subject(random)) for s in part):
                before: Mention | None = None
                for token, mention, first in _tokens(CONLL_TOKEN, sentence.text, things(sentence)):
                    speech = _part_of_speech(token, mention)
                    tag = "O"
                    if mention is not None:
                        beside = first and before is not None and before.entity.type == mention.entity.type
                        tag = f"{'B' if beside else 'I'}-{mention.entity.type}"
                    text += f"{token} {speech} {_chunk(speech)} {tag}\n"
                    before = mention
                text += "\n"
                count += 1
        (folder / f"{split}.txt").write_text(text, encoding="utf-8", newline="")


def _part_of_speech(token: str, mention: Mention | None) -> str:
    """A rough tag: the column is there to be read past, not to be learned from."""
    if mention is not None and token[0].isalpha():
        return "JJ" if mention.entity.kind == "people" else "NNP"
    if not token[0].isalnum():
        return {"'s": "POS"}.get(token, token)
    if token[0].isdigit():
        return "CD"
    known = TAG_OF_WORD.get(token.lower())
    return known or next((tag for ending, tag in ENDINGS.items() if token.endswith(ending)), "NN")


def _chunk(speech: str) -> str:
    if speech in ("DT", "NN", "NNS", "NNP", "JJ", "CD", "PRP", "POS"):
        return "I-NP"
    if speech.startswith("V") or speech == "MD":
        return "I-VP"
    return {"IN": "I-PP", "RB": "I-ADVP"}.get(speech, "O")


def write_chemprot(folder: Path, world: World) -> None:
    """Abstracts, entities and relations of the three splits, in the official columns."""
    for split in SPLITS:
        random = Random(f"{SEED} chemprot {split}")
        abstracts = entities = relations = ""
        for number in range(CHEMPROT_ABSTRACTS[split]):
            pmid = CHEMPROT_PMIDS[split] + number
            article = paper(world, random, split, related=2, turns=1)
            abstract, marks, pairs = _annotate(article)
            abstracts += f"{pmid}\t{article.title.text}\t{abstract}\n"
            entities += "".join(f"{pmid}\t{mark}\n" for mark in marks)
            relations += "".join(f"{pmid}\t{pair}\n" for pair in pairs)
        for name, text in (("abstracts", abstracts), ("entities", entities), ("relations", relations)):
            (folder / f"{split}_{name}.tsv").write_text(text, encoding="utf-8", newline="")


def _annotate(article: Paper) -> tuple[str, list[str], list[str]]:
    """The abstract, the rows of its entities and of its relations, without the PMID."""
    text = ""
    marks: list[str] = []
    pairs: list[str] = []
    for sentence in article.sentences:
        text += " " if text else ""  # after the title, this is the one character between title and abstract
        numbers: dict[str, list[int]] = {}
        for mention in sentence.mentions:
            entity = mention.entity
            if entity.kind == "disease":
                continue
            name = sentence.text[mention.start : mention.end]
            kind = "CHEMICAL" if entity.kind == "chemical" else "GENE-Y" if name == entity.abbreviation else "GENE-N"
            numbers.setdefault(mention.role, []).append(len(marks) + 1)
            marks.append(f"T{len(marks) + 1}\t{kind}\t{len(text) + mention.start}\t{len(text) + mention.end}\t{name}")
        for chemical, label, gene in sentence.relations:
            if label not in GROUPS:
                continue
            group = GROUPS[label]
            counted = "Y " if group in EVALUATED else "N "  # the blank is in the official files too
            pairs += [
                f"{group}\t{counted}\t{label}\tArg1:T{a}\tArg2:T{b}"
                for a in numbers.get(chemical, ())
                for b in numbers.get(gene, ())
            ]
        text += sentence.text
    return text[len(article.title.text) + 1 :], marks, pairs
