"""Relation extraction: ChemProt, as its official tables or as JSON lines with marked mentions.

What is notable: a relation is one chemical and one gene in one sentence, and its two mentions are kept in the order in
which they open, not by kind. The JSON lines that the field shares mark the earlier mention `<< >>` and the later one
`[[ ]]`, whichever is the chemical, and do not tell. So `markers` marks by order for both sources, and a model sees the
same text whichever file it was trained on; `anonymised` needs the kinds and is possible for the tables alone.

The tables yield negatives: every chemical with every gene of a sentence is a relation, and those without an evaluated
category are `NEGATIVE`. That includes pairs whose only relation is in a group that is not evaluated (CPR:1, 2, 7, 8,
10), as is usual since BLUE and BioBERT. The JSON lines have positive pairs alone.
"""

import itertools
import json
import re
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

from biomeg_lib.benchmarks.lines import numbered_lines, refuse, shown
from biomeg_lib.corpus.sentences import split_sentences
from biomeg_lib.errors import BiomegError, InputError

Span = tuple[int, int]
Marking = Literal["markers", "anonymised"]
MARKINGS: tuple[str, ...] = get_args(Marking)

NEGATIVE = "false"
CATEGORIES = ("CPR:3", "CPR:4", "CPR:5", "CPR:6", "CPR:9")  # evaluated; micro F1 is over these
_GROUPS = {
    "CPR:0": "UNDEFINED",
    "CPR:1": "PART-OF",
    "CPR:2": "REGULATOR DIRECT-REGULATOR INDIRECT-REGULATOR",
    "CPR:3": "UPREGULATOR ACTIVATOR INDIRECT-UPREGULATOR",
    "CPR:4": "DOWNREGULATOR INHIBITOR INDIRECT-DOWNREGULATOR",
    "CPR:5": "AGONIST AGONIST-ACTIVATOR AGONIST-INHIBITOR",
    "CPR:6": "ANTAGONIST",
    "CPR:7": "MODULATOR MODULATOR-ACTIVATOR MODULATOR-INHIBITOR",
    "CPR:8": "COFACTOR",
    "CPR:9": "SUBSTRATE PRODUCT-OF SUBSTRATE_PRODUCT-OF",
    "CPR:10": "NOT",
}
_GROUP_OF = {fine: group for group, members in _GROUPS.items() for fine in members.split()}
FINE = {fine: group for fine, group in _GROUP_OF.items() if group in CATEGORIES}  # fine label -> category

_PARTS = {
    "abstracts": ("PMID", "title", "abstract"),
    "entities": ("PMID", "id", "type", "start", "end", "text"),
    "relations": ("PMID", "group", "evaluated", "relation", "Arg1", "Arg2"),
}
_OFFSET = re.compile(r"[0-9]{1,9}")
_CHEMICAL, _GENES = "CHEMICAL", ("GENE-Y", "GENE-N", "GENE")
_MARKS = (("<< ", " >>"), ("[[ ", " ]]"))
_MARK_LENGTH = 3


@dataclass(frozen=True, slots=True)
class Relation:
    """A chemical and a gene in one sentence.

    Attributes:
        id: "PMID.T1.T2" (chemical, gene) from the tables, "train.jsonl:17" from JSON lines.
        text: the sentence, without marks.
        first: the characters of `text` that are the mention which opens first. Of two that open together, that is the
            longer one; of two with the same characters, the chemical.
        second: those of the other mention.
        label: one of `CATEGORIES`, or `NEGATIVE`.
        chemical_first: whether `first` is the chemical and `second` the gene; None where the file does not tell.
    """

    id: str
    text: str
    first: Span
    second: Span
    label: str
    chemical_first: bool | None = None


@dataclass(slots=True)
class _Abstract:
    """An abstract as it is read: its text, in which offsets count, and what the other tables say about it."""

    text: str
    sentences: list[Span]
    entities: dict[str, tuple[str, Span]] = field(default_factory=dict)  # id -> type, characters of `text`
    groups: dict[tuple[str, str], list[str]] = field(default_factory=dict)  # (chemical, gene) -> groups in file order


def read_chemprot(
    files: Iterable[str | Path], skipped: list[str] | None = None, crossing: list[str] | None = None
) -> list[Relation]:
    """Read the abstracts, entities and relations of one split; every chemical-gene pair of a sentence is a relation.

    Sentences are found in the title and in the abstract by themselves; those that an entity crosses are joined. A pair
    with several evaluated categories has the first in the file. A pair whose arguments are in different sentences is
    left out, as the field does; the official corpus has none that is evaluated.

    Args:
        files: the three tables, told apart by "abstracts", "entities" or "relations" in their names.
        skipped: where given, bad rows are left out and the error of each is appended. Rows about an abstract or an
            entity that was left out are bad, too.
        crossing: where given, the ids of the evaluated pairs left out because they cross sentences are appended.

    Returns:
        Relations by abstract and sentence, and in a sentence by chemical and gene, all in the order of their files.

    Raises:
        InputError: a file cannot be read or is not UTF-8; a row has another number of columns, an unknown type, group
            or relation, a PMID or entity that the file before lacks or this one has already, offsets at which there is
            another text, or arguments that are not a chemical and a gene; or there is no abstract at all.
        BiomegError: the files are not these three.
    """
    paths = _told_apart(files)
    abstracts: dict[str, _Abstract] = {}
    for part, add in (("abstracts", _add_abstract), ("entities", _add_entity), ("relations", _add_relation)):
        for number, line in numbered_lines(paths[part]):
            if not line.strip():
                continue
            columns = line.split("\t")
            if len(columns) == len(_PARTS[part]):
                problem = add(abstracts, *columns)
            else:
                problem = f"expected {len(_PARTS[part])} columns ({', '.join(_PARTS[part])}), found {len(columns)}"
            if problem:
                refuse(InputError(paths[part], problem, number), skipped)
    if not abstracts:
        raise InputError(paths["abstracts"], "expected at least one abstract, found none")
    relations: list[Relation] = []
    for pmid, abstract in abstracts.items():
        relations += _pairs(pmid, abstract, [] if crossing is None else crossing)
    return relations


def _told_apart(files: Iterable[str | Path]) -> dict[str, Path]:
    paths = [Path(file) for file in files]
    parts = {part: path for part in _PARTS for path in paths if part in path.name}
    if len(paths) != len(_PARTS) or len(set(parts.values())) != len(_PARTS):
        names = ", ".join(path.name for path in paths) or "none"
        raise BiomegError(f"expected three ChemProt files, {', '.join(_PARTS)} in their names, found {names}")
    return parts


def _add_abstract(abstracts: dict[str, _Abstract], pmid: str, title: str, text: str) -> str | None:
    if pmid in abstracts:
        return f"expected a PMID once, found {shown(pmid)} again"
    if not pmid.strip():
        return "expected a PMID in the first column, found none"
    behind = len(title) + 1
    sentences = split_sentences(title) + [(start + behind, end + behind) for start, end in split_sentences(text)]
    abstracts[pmid] = _Abstract(f"{title} {text}", sentences)
    return None


def _add_entity(
    abstracts: dict[str, _Abstract], pmid: str, name: str, kind: str, start: str, end: str, text: str
) -> str | None:
    abstract = abstracts.get(pmid)
    if abstract is None:
        return f"expected the PMID of an abstract, found {shown(pmid)}"
    if name in abstract.entities:
        return f"expected an entity's id once in {shown(pmid)}, found {shown(name)} again"
    if kind != _CHEMICAL and kind not in _GENES:
        return f"expected the type {_CHEMICAL} or {' or '.join(_GENES)}, found {shown(kind)}"
    if not (_OFFSET.fullmatch(start) and _OFFSET.fullmatch(end)):
        return f"expected offsets as whole numbers, found {shown(start)} and {shown(end)}"
    span = int(start), int(end)
    there = abstract.text[slice(*span)]
    if not there.strip() or there != text:
        return f"expected {shown(text)} at characters {start} to {end} of {shown(pmid)}, found {shown(there)}"
    abstract.entities[name] = kind, span
    return None


def _add_relation(
    abstracts: dict[str, _Abstract], pmid: str, group: str, evaluated: str, fine: str, first: str, second: str
) -> str | None:
    abstract = abstracts.get(pmid)
    if abstract is None:
        return f"expected the PMID of an abstract, found {shown(pmid)}"
    if fine not in _GROUP_OF:
        return f"expected a relation of {', '.join(_GROUP_OF)}, found {shown(fine)}"
    if group != _GROUP_OF[fine]:
        return f"expected the group {_GROUP_OF[fine]} for {fine}, found {shown(group)}"
    flag = "Y" if group in CATEGORIES else "N"
    if evaluated.strip() != flag:
        return f"expected {flag} for {group}, found {shown(evaluated)}"
    arguments = []
    for argument, prefix, wanted in ((first, "Arg1:", (_CHEMICAL,)), (second, "Arg2:", _GENES)):
        name = argument.removeprefix(prefix)
        kind, _ = abstract.entities.get(name, ("", None))
        if name == argument or kind not in wanted:
            return f"expected {prefix} and a {' or '.join(wanted)} of {shown(pmid)}, found {shown(argument)}"
        arguments.append(name)
    abstract.groups.setdefault((arguments[0], arguments[1]), []).append(group)
    return None


def _pairs(pmid: str, abstract: _Abstract, crossing: list[str]) -> list[Relation]:
    sentences = _joined([*abstract.sentences, *(span for _, span in abstract.entities.values())])
    starts = [start for start, _ in sentences]
    members: list[tuple[list[str], list[str]]] = [([], []) for _ in sentences]  # chemicals and genes of each sentence
    for name, (kind, (start, _)) in abstract.entities.items():
        members[bisect_right(starts, start) - 1][kind != _CHEMICAL].append(name)
    labels = {pair: next((group for group in groups if group in CATEGORIES), NEGATIVE)
              for pair, groups in abstract.groups.items()}  # fmt: skip
    relations: list[Relation] = []
    for (start, end), (chemicals, genes) in zip(sentences, members, strict=True):
        for pair in itertools.product(chemicals, genes):
            spans = [(first - start, last - start) for first, last in (abstract.entities[name][1] for name in pair)]
            chemical_first = (spans[0][0], -spans[0][1]) <= (spans[1][0], -spans[1][1])
            first, second = spans if chemical_first else reversed(spans)
            label = labels.pop(pair, NEGATIVE)
            text = abstract.text[start:end]
            relations.append(Relation(f"{pmid}.{pair[0]}.{pair[1]}", text, first, second, label, chemical_first))
    crossing += [f"{pmid}.{chemical}.{gene}" for (chemical, gene), label in labels.items() if label != NEGATIVE]
    return relations


def _joined(spans: Iterable[Span]) -> list[Span]:
    """Spans in order, those that overlap made one."""
    joined: list[Span] = []
    for start, end in sorted(spans):
        if joined and start < joined[-1][1]:
            joined[-1] = joined[-1][0], max(joined[-1][1], end)
        else:
            joined.append((start, end))
    return joined


def read_chemprot_jsonl(path: str | Path, skipped: list[str] | None = None) -> list[Relation]:
    """Read `{"text", "label"}` lines, in which `<< ` and ` >>` surround one mention, `[[ ` and ` ]]` the other.

    Other `<<`, `>>`, `[[` and `]]`, as chemical names and comparisons have them, stay text: `<< ` is the first in the
    line that has a blank behind it, ` >>` the first after it with a blank before, `[[ ` and ` ]]` likewise from there.
    Blank lines are passed over.

    Args:
        skipped: where given, bad lines are left out and the error of each is appended.

    Raises:
        InputError: the file cannot be read or is not UTF-8; a line is not such an object, lacks a mark or has a label
            that is not in `FINE`; or there is no relation at all.
    """
    path = Path(path)
    relations: list[Relation] = []
    for number, line in numbered_lines(path):
        if line.strip():
            try:
                relations.append(_of_line(path, number, line))
            except InputError as error:
                refuse(error, skipped)
    if not relations:
        raise InputError(path, "expected at least one relation as a JSON line, found none")
    return relations


def _of_line(path: Path, number: int, line: str) -> Relation:
    wanted = 'expected a JSON object with the strings "text" and "label"'
    try:
        record = json.loads(line)
        record["text"].encode(), record["label"].encode()  # refuses half of a surrogate pair
    except (ValueError, RecursionError, TypeError, KeyError, AttributeError):
        raise InputError(path, f"{wanted}, found {shown(line)}", number) from None
    text, label = record["text"], record["label"]
    if label not in FINE:
        raise InputError(path, f"expected a label of {', '.join(FINE)}, found {shown(label)}", number)
    found = without_marks(text)
    if found is None:
        wanted = "expected one mention in << >> and after it one in [[ ]], with blanks inside the marks"
        raise InputError(path, f"{wanted}, found {shown(text)}", number)
    return Relation(f"{path.name}:{number}", *found, FINE[label])


def without_marks(marked: str) -> tuple[str, Span, Span] | None:
    """The text without its marks, and the characters of it that they surround."""
    places: list[int] = []
    start = 0
    for opening, closing in _MARKS:
        opens = marked.find(opening, start)
        if places and opens == places[1] - len("[["):  # "[[ >>": its blank is that of the first mention's end
            opens = marked.find(opening, places[1])
        start = opens + _MARK_LENGTH
        closes = marked.find(closing, start)
        if min(opens, closes) < 0:
            return None
        places += [opens, closes]
    ordered = sorted(places)
    borders = [0, *(place + _MARK_LENGTH for place in ordered)]
    text = "".join(marked[start:end] for start, end in zip(borders, [*ordered, None], strict=True))
    start, end, start2, end2 = (place - _MARK_LENGTH * sum(other < place for other in places) for place in places)
    if not (text[start:end].strip() and text[start2:end2].strip()):
        return None
    return text, (start, end), (start2, end2)


def marked(relation: Relation, marking: Marking) -> tuple[str, tuple[Span, ...]]:
    """The sentence as a model reads it, and the characters of it that are the marked mentions, marks included.

    - `markers`: `<< first >>` and `[[ second ]]`. A mention inside the other has its marks inside; where two mentions
      overlap in part, so do their marks.
    - `anonymised`: `@CHEMICAL$` and `@GENE$` in place of the mentions. Where they overlap, `@CHEM-GENE$` in place of
      all that they cover, as in BLUE.

    Raises:
        BiomegError: an unknown marking, or `anonymised` for a relation that does not tell the chemical from the gene.
    """
    if marking == "markers":
        return _with_markers(relation)
    if marking != "anonymised":
        raise BiomegError(f"expected the marking {' or '.join(MARKINGS)}, found {marking!r}")
    if relation.chemical_first is None:
        raise BiomegError(
            f"{relation.id}: expected to know which mention is the chemical, as official ChemProt tables tell, "
            "to anonymise; use the marking markers for this file"
        )
    (start, end), (start2, end2) = relation.first, relation.second
    if start2 < end:
        return _replace(relation.text, [(start, max(end, end2), "@CHEM-GENE$")])
    names = ("@CHEMICAL$", "@GENE$") if relation.chemical_first else ("@GENE$", "@CHEMICAL$")
    return _replace(relation.text, [(start, end, names[0]), (start2, end2, names[1])])


def marked_text(relation: Relation, marking: Marking) -> str:
    """The sentence as a model reads it, see `marked`."""
    return marked(relation, marking)[0]


def _with_markers(relation: Relation) -> tuple[str, tuple[Span, ...]]:
    # In one place, marks close before others open; the first mention opens first, and what opened last closes first.
    marks = []
    for order, (span, texts) in enumerate(zip((relation.first, relation.second), _MARKS, strict=True)):
        marks += [(span[0], 1, order, texts[0]), (span[1], 0, -order, texts[1])]
    text, end = "", 0
    starts, ends = [0, 0], [0, 0]
    for place, opens, order, mark in sorted(marks):
        text += relation.text[end:place]
        if opens:
            starts[order] = len(text)
        text += mark
        if not opens:
            ends[-order] = len(text)
        end = place
    return text + relation.text[end:], tuple(zip(starts, ends, strict=True))


def _replace(text: str, pieces: Sequence[tuple[int, int, str]]) -> tuple[str, tuple[Span, ...]]:
    result, end = "", 0
    spans: list[Span] = []
    for start, stop, name in pieces:
        result += text[end:start]
        spans.append((len(result), len(result) + len(name)))
        result, end = result + name, stop
    return result + text[end:], tuple(spans)
