"""The miniature's files, read by nothing but the standard library: formats, offsets, determinism, reuse."""

import csv
import gzip
import json
import os
import re
import subprocess
import sys
import tarfile
import threading
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from random import Random

import pytest

from biomeg_lib.corpus import miniature
from biomeg_lib.corpus.miniature.benchmarks import GROUPS
from biomeg_lib.corpus.miniature.templates import render
from biomeg_lib.corpus.miniature.world import CLASSES, World
from biomeg_lib.errors import BiomegError
from biomeg_lib.files import sha256

SPLITS = ("train", "devel", "test")


def build_in_subprocess(directory: Path, hash_seed: str) -> subprocess.Popen[bytes]:
    code = "import sys; from pathlib import Path; from biomeg_lib.corpus import miniature; "
    code += "miniature.build(Path(sys.argv[1]))"
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
    return subprocess.Popen([sys.executable, "-c", code, str(directory)], env=environment, stderr=subprocess.PIPE)


@pytest.fixture(scope="module")
def mini(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return miniature.build(tmp_path_factory.mktemp("miniature") / "made")


@pytest.fixture(scope="module")
def abstracts(mini: Path) -> dict[str, dict[str, str]]:
    """PMID to its title and abstract, in which BioASQ's offsets count."""
    found = {}
    for path in sorted((mini / "pubmed").iterdir()):
        with gzip.open(path) as stream:
            root = ElementTree.parse(stream).getroot()
        assert root.tag == "PubmedArticleSet"
        for article in root.iter("PubmedArticle"):
            sections = []
            for element in article.iter("AbstractText"):
                label = element.get("Label")
                sections.append((f"{label}: " if label else "") + "".join(element.itertext()))
            title = "".join(article.find(".//ArticleTitle").itertext())
            found[article.find("MedlineCitation/PMID").text] = {"title": title, "abstract": " ".join(sections)}
    return found


def columns(path: Path, separator: str = "\t") -> list[list[list[str]]]:
    """Sentences of rows of columns."""
    text = path.read_bytes().decode("utf-8")
    assert text.endswith("\n\n")
    assert "\r" not in text
    return [[row.split(separator) for row in block.split("\n")] for block in text.strip("\n").split("\n\n")]


def entities(sentences: list[list[list[str]]]) -> list[str]:
    """The entities of B- I- tags, in lower case."""
    found: list[list[str]] = []
    for sentence in sentences:
        for token, tag in sentence:
            if tag.startswith("B-"):
                found.append([token])
            elif tag.startswith("I-"):
                found[-1].append(token)
    return [" ".join(tokens).lower() for tokens in found]


def test_builds_are_identical_whatever_the_hash_seed_and_who_is_first(mini: Path, tmp_path: Path) -> None:
    places = {"1": tmp_path / "own", "2": tmp_path / "same", "77": tmp_path / "same"}
    processes = [build_in_subprocess(directory, seed) for seed, directory in places.items()]
    for process in processes:
        _, complaint = process.communicate()
        assert process.returncode == 0, complaint
    assert sorted(path.name for path in tmp_path.iterdir()) == ["own", "same"], "temporary folders are gone"
    for directory in (tmp_path / "own", tmp_path / "same"):
        for name in (*miniature.FILES, "manifest.json"):
            assert (directory / name).read_bytes() == (mini / name).read_bytes(), name


def test_manifest_tells_the_files(mini: Path) -> None:
    manifest = json.loads((mini / "manifest.json").read_text())
    assert manifest["version"] == miniature.version()
    assert list(manifest["files"]) == list(miniature.FILES)
    present = {str(path.relative_to(mini)) for path in mini.rglob("*") if path.is_file()}
    assert present == {*miniature.FILES, "manifest.json"}
    for name, entry in manifest["files"].items():
        assert entry == {"sha256": sha256(mini / name), "bytes": (mini / name).stat().st_size}


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """`build` with tiny files instead of the real ones; the list tells where they were made."""
    made: list[Path] = []

    def write(root: Path) -> None:
        made.append(root)
        for name in miniature.FILES:
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text("x")

    monkeypatch.setattr(miniature, "_write", write)
    return made


def test_a_finished_build_is_reused_and_an_unfit_one_made_again(tmp_path: Path, quick: list[Path]) -> None:
    target = tmp_path / "deep" / "mini"
    assert miniature.build(target) == target == miniature.build(target)
    assert len(quick) == 1
    (target / miniature.FILES[0]).write_text("y")  # of the same size
    miniature.build(target)
    assert len(quick) == 2
    (target / "manifest.json").write_text('{"version": "older", "files": {}}')
    miniature.build(target)
    assert len(quick) == 3
    assert (target / miniature.FILES[0]).read_text() == "x"
    assert [path.name for path in target.parent.iterdir()] == ["mini"]


def test_an_empty_folder_is_filled_and_a_foreign_one_left_alone(tmp_path: Path, quick: list[Path]) -> None:
    (tmp_path / "empty").mkdir()
    assert (miniature.build(tmp_path / "empty") / "manifest.json").is_file()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/notes.txt").write_text("keep")
    with pytest.raises(BiomegError, match="mine: expected a new or empty folder"):
        miniature.build(tmp_path / "mine")
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["notes.txt"]


def test_who_comes_second_takes_what_is_there(
    tmp_path: Path, quick: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    write, target, first = miniature._write, tmp_path / "mini", threading.Event()

    def slow(root: Path) -> None:
        write(root)
        if not first.is_set():
            first.set()
            miniature.build(target)  # another process finishes in between
            (target / "seen").write_text("the first one's")

    monkeypatch.setattr(miniature, "_write", slow)
    miniature.build(target)
    assert (target / "seen").is_file()
    assert [path.name for path in tmp_path.iterdir()] == ["mini"]


def test_a_failed_build_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(root: Path) -> None:
        (root / "half").write_text("half")
        raise OSError("disk full")

    monkeypatch.setattr(miniature, "_write", fail)
    with pytest.raises(OSError, match="disk full"):
        miniature.build(tmp_path / "mini")
    assert list(tmp_path.iterdir()) == []


def test_pubmed(abstracts: dict[str, dict[str, str]], mini: Path) -> None:
    texts = [record["abstract"] for record in abstracts.values() if record["abstract"]]
    assert len(abstracts) == 1200
    assert len(texts) < 1200, "some records have a title alone"
    assert 120 < sum(len(text.split()) for text in texts) / len(texts) < 170
    assert len(set(texts)) == len(texts)
    assert all(record["title"].endswith(".") for record in abstracts.values())
    with gzip.open(mini / "pubmed/mini26n0001.xml.gz") as stream:
        assert b"<!DOCTYPE PubmedArticleSet PUBLIC" in stream.read(200)


def test_pmc(mini: Path) -> None:
    with tarfile.open(mini / "pmc/oa_comm_xml.PMC000xxxxxx.mini.tar.gz") as archive:
        members = archive.getmembers()
        texts = [archive.extractfile(member).read() for member in members]
    assert len(members) == 60
    assert all(re.fullmatch(r"PMC000xxxxxx/PMC\d+\.xml", member.name) for member in members)
    assert {(member.uid, member.gid, member.mtime) for member in members} == {(0, 0, 946684800)}
    for text in texts:
        assert text.startswith(b"<!DOCTYPE article PUBLIC")
        article = ElementTree.fromstring(text)
        body = article.find("body")
        assert [section.find("title").text for section in body] == ["Introduction", "Methods", "Results", "Discussion"]
        for tag in ("table-wrap", "fig", "xref"):
            assert body.find(f".//{tag}") is not None
        cited = {xref.get("rid") for xref in body.iter("xref")}
        assert cited <= {reference.get("id") for reference in article.iter("ref")}
        assert 500 < len(" ".join("".join(p.itertext()) for p in body.iter("p")).split()) < 1500


def test_the_general_corpus_is_as_large_as_the_biomedical(mini: Path, abstracts: dict[str, dict[str, str]]) -> None:
    with gzip.open(mini / "general/general.jsonl.gz", "rt", encoding="utf-8") as stream:
        documents = [json.loads(line) for line in stream]
    assert all(list(document) == ["id", "source", "text"] for document in documents)
    assert len({document["id"] for document in documents}) == len(documents)
    assert len({document["text"] for document in documents}) == len(documents)
    words = sum(len(document["text"].split()) for document in documents)
    assert 0.8 < words / sum(len(record["abstract"].split()) for record in abstracts.values()) < 1.5


@pytest.mark.parametrize("split", SPLITS)
def test_chemical_and_disease_tags(mini: Path, split: str) -> None:
    chemical, disease = (columns(mini / f"ner/{kind}/{split}.tsv") for kind in ("chem", "disease"))
    assert len(chemical) == {"train": 300, "devel": 100, "test": 150}[split]
    assert [[row[0] for row in s] for s in chemical] == [[row[0] for row in s] for s in disease]
    for sentence, other in zip(chemical, disease, strict=True):
        for (token, tag), (_, other_tag) in zip(sentence, other, strict=True):
            assert re.fullmatch(r"\w+|[^\w\s]", token), "punctuation stands alone"
            assert tag in ("O", "B-Chemical", "I-Chemical")
            assert other_tag in ("O", "B-Disease", "I-Disease")
            assert "O" in (tag, other_tag), "a token is of one kind"
        for tags in ([row[1] for row in sentence], [row[1] for row in other]):
            for before, tag in zip(["O", *tags], tags, strict=False):
                assert not (tag.startswith("I-") and before == "O")


@pytest.mark.parametrize("kind", ["chem", "disease"])
def test_a_word_list_of_the_training_set_is_not_enough(mini: Path, kind: str) -> None:
    known = set(entities(columns(mini / f"ner/{kind}/train.tsv")))
    for split in ("devel", "test"):
        found = entities(columns(mini / f"ner/{kind}/{split}.tsv"))
        unseen = sum(entity not in known for entity in found) / len(found)
        assert 0.1 < unseen < 0.6
    both: dict[str, set[bool]] = {}
    for sentence in columns(mini / f"ner/{kind}/train.tsv"):
        for token, tag in sentence:
            both.setdefault(token.lower(), set()).add(tag == "O")
    plain = {"chem": {"lead", "gold"}, "disease": {"cold", "shock", "insult", "depression"}}[kind]
    assert any(both.get(word) == {True, False} for word in plain), "words that are an entity by context alone"


def test_novel_entities_are_in_no_corpus_and_endings_are_shared(abstracts: dict[str, dict[str, str]]) -> None:
    world = World()
    text = " ".join(f"{record['title']} {record['abstract']}" for record in abstracts.values()).lower()
    novel = [entity.name for entity in world.chemicals if entity.split == "novel"]
    assert novel
    assert not [name for name in novel if re.search(rf"\b{re.escape(name.lower())}\b", text)]
    held_out = [entity for entity in world.chemicals if entity.split == "test"]
    assert sum(entity.name.lower() in text for entity in held_out) > len(held_out) / 2
    seen = {entity.group for entity in world.chemicals if entity.split == ""}
    assert {entity.group for entity in world.chemicals} == seen == set(CLASSES)


def test_names_are_unique() -> None:
    world = World()
    everything = [*world.chemicals, *world.diseases, *world.genes]
    names = [entity.name.lower() for entity in everything]
    assert len(set(names)) == len(names)
    for kind in (world.chemicals, world.diseases, world.genes):
        short = [entity.abbreviation for entity in kind if entity.abbreviation]
        assert len(set(short)) == len(short)


@pytest.mark.parametrize("split", SPLITS)
def test_general_entities(mini: Path, split: str) -> None:
    blocks = columns(mini / f"ner/general/{split}.txt", " ")
    assert all(len(row) == 4 for block in blocks for row in block)
    assert blocks[0] == [["-DOCSTART-", "-X-", "O", "O"]]
    tags = {row[3] for block in blocks for row in block}
    assert {"I-PER", "I-LOC", "I-ORG", "I-MISC", "O"} <= tags
    assert len(blocks) >= {"train": 300, "devel": 100, "test": 150}[split]


@pytest.mark.parametrize("split", SPLITS)
def test_chemprot(mini: Path, split: str) -> None:
    def rows(name: str) -> list[list[str]]:
        with open(mini / f"chemprot/{split}_{name}.tsv", encoding="utf-8", newline="") as stream:
            return list(csv.reader(stream, delimiter="\t", quoting=csv.QUOTE_NONE))

    texts = {pmid: f"{title} {abstract}" for pmid, title, abstract in rows("abstracts")}
    marks = {}
    for pmid, mark, kind, start, end, name in rows("entities"):
        assert kind in ("CHEMICAL", "GENE-Y", "GENE-N")
        assert texts[pmid][int(start) : int(end)] == name
        assert (pmid, mark) not in marks
        marks[pmid, mark] = kind
    found = set()
    for pmid, group, counted, label, first, second in rows("relations"):
        assert group == GROUPS[label]
        assert counted == ("Y " if group in ("CPR:3", "CPR:4", "CPR:5", "CPR:6", "CPR:9") else "N ")
        assert marks[pmid, first.removeprefix("Arg1:")] == "CHEMICAL"
        assert marks[pmid, second.removeprefix("Arg2:")].startswith("GENE")
        assert (pmid, first, second) not in found, "a pair has one relation"
        found.add((pmid, first, second))
    assert {row[1] for row in rows("relations")} == set(GROUPS.values())


def test_relations_agree_with_the_world(mini: Path) -> None:
    world = World()
    forms = {form.lower(): entity for entity in (*world.chemicals, *world.genes) for form in entity.forms}
    entries = (mini / "chemprot/test_entities.tsv").read_text(encoding="utf-8").splitlines()
    who = {tuple(line.split("\t")[:2]): forms[line.split("\t")[5].lower()] for line in entries}
    for line in (mini / "chemprot/test_relations.tsv").read_text(encoding="utf-8").splitlines():
        pmid, _, _, label, first, second = line.split("\t")
        chemical, gene = who[pmid, first[5:]], who[pmid, second[5:]]
        targets = {target.name: known for target, known in world.targets[chemical.name]}
        assert targets.get(gene.name, "NOT") == label


@pytest.mark.parametrize("name", ["squad", "squad2"])
def test_squad(mini: Path, name: str) -> None:
    titles, identifiers = {}, []
    for split in ("train", "dev"):
        data = json.loads((mini / name / f"{split}.json").read_text())
        assert data["version"] == {"squad": "1.1", "squad2": "v2.0"}[name]
        titles[split] = {article["title"] for article in data["data"]}
        impossible = 0
        for article in data["data"]:
            for paragraph in article["paragraphs"]:
                for question in paragraph["qas"]:
                    identifiers.append(question["id"])
                    answers = question["answers"] or question["plausible_answers"]
                    assert bool(question["answers"]) != question.get("is_impossible", False)
                    impossible += question.get("is_impossible", False)
                    assert answers
                    assert len(question["answers"]) in (0, 1 if split == "train" else 3)
                    for answer in answers:
                        place = answer["answer_start"]
                        assert paragraph["context"][place : place + len(answer["text"])] == answer["text"]
                        assert place >= 0
        assert (impossible > 0) == (name == "squad2")
    assert not titles["train"] & titles["dev"]
    assert len(set(identifiers)) == len(identifiers)


def test_bioasq(mini: Path, abstracts: dict[str, dict[str, str]]) -> None:
    identifiers, repeated = [], 0
    for split in ("train", "test"):
        questions = json.loads((mini / f"bioasq/{split}.json").read_text())["questions"]
        assert {question["type"] for question in questions} == {"factoid", "list", "yesno"}
        for question in questions:
            identifiers.append(question["id"])
            repeated += len(question["snippets"]) > 3
            for snippet in question["snippets"]:
                record = abstracts[snippet["document"].rsplit("/", 1)[1]]
                start, end = snippet["offsetInBeginSection"], snippet["offsetInEndSection"]
                assert record[snippet["beginSection"]][start:end] == snippet["text"]
                assert snippet["beginSection"] == snippet["endSection"]
                assert snippet["document"] in question["documents"]
            answer = question["exact_answer"]
            if question["type"] == "yesno":
                assert answer in ("yes", "no")
                continue
            groups = answer if isinstance(answer[0], list) else [answer]
            assert (question["type"] == "list") <= (len(groups) > 1)
            said = " ".join(snippet["text"] for snippet in question["snippets"]).lower()
            assert all(any(form.lower() in said for form in forms) for forms in groups), question["body"]
    assert len(set(identifiers)) == len(identifiers)
    assert repeated > len(identifiers) / 4


def test_mrpc(mini: Path) -> None:
    for split in ("train", "test"):
        data = (mini / f"mrpc/{split}.txt").read_bytes()
        assert data.startswith(b"\xef\xbb\xbfQuality\t#1 ID\t#2 ID\t#1 String\t#2 String\n")
        rows = [line.split("\t") for line in data.decode("utf-8-sig").splitlines()[1:]]
        assert all(len(row) == 5 and row[3] != row[4] for row in rows)
        assert 0.5 < sum(row[0] == "1" for row in rows) / len(rows) < 0.75


def test_vocabulary(mini: Path) -> None:
    pieces = (mini / "vocab/general-cased-vocab.txt").read_text(encoding="utf-8").splitlines()
    assert pieces[:5] == ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    assert len(pieces) == len(set(pieces)) == 1000

    def count(word: str) -> int:
        """Greedy longest match."""
        total, start = 0, 0
        while start < len(word):
            mark = "##" if start else ""
            start = next(end for end in range(len(word), start, -1) if mark + word[start:end] in pieces)
            total += 1
        return total

    chemicals = [row[0] for s in columns(mini / "ner/chem/train.tsv") for row in s if row[1] != "O"]
    with gzip.open(mini / "general/general.jsonl.gz", "rt", encoding="utf-8") as stream:
        general = [word for line in stream for word in re.findall(r"\w+", json.loads(line)["text"])][:5000]
    assert sum(map(count, chemicals)) / len(chemicals) > 2.5 * sum(map(count, general)) / len(general)


def test_template_marks_what_it_fills_in() -> None:
    fills = {"c": [("ivory", "tusk"), (" (", None), ("IV", "tusk"), (")", None)], "n": [("3", None)]}
    sentence = render("a {c} and <|> {n} {c:short} were a <man>.", Random(1), lambda slot: fills[slot[0]])
    assert sentence.text == "An ivory (IV) and 3 ivory (IV) were a man."
    assert [sentence.text[m.start : m.end] for m in sentence.mentions] == ["ivory", "IV", "ivory", "IV"]
    assert {m.role for m in sentence.mentions} == {"c"}
