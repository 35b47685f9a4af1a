"""The stages before training, on a corpus of one's own: files in, documents, vocabulary and shards out."""

import itertools
import json

import numpy as np
import pytest
import yaml

from biomeg_lib import catalogue, sources
from biomeg_lib.corpus import documents
from biomeg_lib.corpus.indexed import IndexedReader
from biomeg_lib.corpus.sentences import split_sentences
from biomeg_lib.errors import BiomegError, InputError
from biomeg_lib.prepare import (
    check_made,
    ensure_shards,
    ensure_vocabulary,
    prepare_corpus,
    prepare_corpus_part,
    prepare_shards,
    prepare_vocabulary,
)
from biomeg_lib.study import load
from biomeg_lib.vocab import SPECIALS, Vocabulary

WORDS = [
    "".join(parts) for parts in itertools.product(["bra", "ke", "mol", "pir"], ["dine", "tax", "ol"], ["ase", "um"])
]
WORDS += ["of", "with", "the", "fever", "lowers", "aspirin", "hydroxychloroquine", "jugular"]
PARAMS = {
    "profile": "own",
    "title": "Own",
    "description": "For tests.",
    "seeds": [1],
    "corpora": {
        "lines": {"format": "jsonl", "files": ["data/*.jsonl"], "held_out": 0.2},
        "plain": {"format": "text", "files": ["data/plain.txt"], "held_out": 0.2},
        "absent": {"format": "text", "files": ["data/absent.txt"]},
        "twice": {"format": "jsonl", "files": ["data/*.jsonl", "data/0.jsonl"]},
    },
    "vocabularies": {
        "learned": {"kind": "sentencepiece", "corpus": "lines", "size": 80},
        "uncased": {"kind": "sentencepiece", "corpus": "plain", "size": 64, "algorithm": "unigram", "lowercase": True},
        "large": {"kind": "sentencepiece", "corpus": "plain", "size": 30000},
        "published": {"kind": "wordpiece", "file": "data/vocab.txt", "lowercase": True},
        "damaged": {"kind": "wordpiece", "file": "data/plain.txt", "lowercase": True},
    },
}


@pytest.fixture
def study(tmp_path):
    for folder in ("params", "notebooks", "data"):
        (tmp_path / folder).mkdir()
    rng = np.random.default_rng(0)
    texts = [[" ".join(rng.choice(WORDS, 8)).capitalize() + "." for _ in range(rng.integers(1, 4))] for _ in range(60)]
    for part in range(2):
        lines = [
            json.dumps({"id": f"d{number}", "title": "Zest Quiz", "paragraphs": texts[number]})
            for number in range(part, 60, 2)
        ]
        (tmp_path / "data" / f"{part}.jsonl").write_text("\n".join(lines) + "\n")
    (tmp_path / "data" / "plain.txt").write_text("\n\n".join("\n".join(text) for text in texts))
    letters = "abcdefghijklmnopqrstuvwxyz"
    (tmp_path / "data" / "vocab.txt").write_text("\n".join([*SPECIALS, ".", *letters, *(f"##{c}" for c in letters)]))
    (tmp_path / "params" / "own.yaml").write_text(yaml.safe_dump(PARAMS, sort_keys=False))
    return load(tmp_path / "params" / "own.yaml")


@pytest.mark.parametrize(("corpus", "vocabulary"), [("lines", "learned"), ("plain", "uncased"), ("lines", "published")])
def test_from_files_to_shards(study, corpus, vocabulary):
    counts = prepare_corpus(study, corpus)
    there = list(documents.stream(study.corpus_directory(corpus)))
    assert counts == json.loads((study.corpus_directory(corpus) / "counts.json").read_text())
    assert counts["documents"] == len(there) == 60
    assert counts["words"] == sum(len(document.text.split()) for document in there)

    made = prepare_vocabulary(study, vocabulary)
    spec = study.vocabularies[vocabulary]
    assert made.size == (58 if vocabulary == "published" else spec.size)
    assert made.lowercase == spec.lowercase
    assert Vocabulary.load(study.vocabulary_directory(vocabulary)).fingerprint == made.fingerprint

    shards = prepare_shards(study, corpus, vocabulary)
    folder = study.shards_directory(corpus, vocabulary)
    assert shards == json.loads((folder / "shards.json").read_text())
    assert shards["vocabulary"] == made.fingerprint
    expected = sorted(
        made.encode(text[start:end]).ids
        for document in there
        for text in filter(None, (document.title, *document.paragraphs))
        for start, end in split_sentences(text)
    )
    readers = [IndexedReader(folder / split) for split in ("train", "heldout")]
    assert sorted(reader[i].tolist() for reader in readers for i in range(len(reader))) == expected
    assert all(len(reader) for reader in readers)


def test_a_corpus_of_parts_that_were_made_one_by_one(study):
    expected = prepare_corpus(study, "lines")
    folder = study.corpus_directory("lines")
    content = (folder / "documents.jsonl.gz").read_bytes()
    assert prepare_corpus_part(study, "lines", "1.jsonl") == "1.jsonl"
    assert prepare_corpus_part(study, "lines", "1") == "0.jsonl"
    times = {path: path.stat().st_mtime_ns for path in documents.parts_folder(folder).rglob("*") if path.is_file()}
    assert {path.parent.name for path in times} == {"00001", "00002"}
    assert prepare_corpus(study, "lines", keep_parts=True) == expected
    assert (folder / "documents.jsonl.gz").read_bytes() == content
    assert {path: path.stat().st_mtime_ns for path in times} == times


def test_a_vocabulary_is_learned_on_paragraphs_alone(study):
    prepare_corpus(study, "lines")
    pieces = "".join(prepare_vocabulary(study, "learned").pieces)
    assert "Z" not in pieces  # it is in the titles alone


def test_notes_on_a_stand_in_stay_with_the_counts(study, monkeypatch):
    files = [study.root / "data" / "plain.txt"]
    monkeypatch.setattr(catalogue, "find", lambda name: name)
    monkeypatch.setattr(sources, "locate_all", lambda name, quiet=False: files)
    monkeypatch.setattr(sources, "describe", lambda name: {"format": "text", "note": "another corpus"})
    counts = prepare_corpus(study, "absent")
    assert counts["notes"] == ["another corpus"]
    assert json.loads((study.corpus_directory("absent") / "counts.json").read_text()) == counts


def products(study):
    """Time stamps of the files of all stages, without those of locks."""
    files = (path for path in study.outputs.rglob("*") if path.is_file() and path.suffix != ".lock")
    return {path: path.stat().st_mtime_ns for path in files}


@pytest.mark.parametrize(
    ("call", "names", "says"),
    [
        (prepare_corpus, ["line"], "params/own.yaml: no corpus is called 'line'; did you mean 'lines'?"),
        (prepare_corpus, ["absent"], "unknown data source 'data/absent.txt'"),
        (prepare_corpus_part, ["line", "1"], "params/own.yaml: no corpus is called 'line'; did you mean 'lines'?"),
        (
            prepare_corpus_part,
            ["lines", "0"],
            "corpora.lines: expected a part from 1 to 2, or the name of a file, found",
        ),
        (
            prepare_corpus_part,
            ["lines", "3.jsonl"],
            "corpora.lines: expected a part from 1 to 2, or the name of a file",
        ),
        (
            prepare_corpus_part,
            ["twice", "0.jsonl"],
            "corpora.twice: expected a part from 1 to 3, or the name of a file, ",
        ),
        (prepare_vocabulary, ["learnt"], "no vocabulary is called 'learnt'; did you mean 'learned'?"),
        (prepare_vocabulary, ["large"], "the texts are too few for it, the largest size possible is "),
        (prepare_vocabulary, ["learned"], "corpora/lines/documents.jsonl.gz"),
        (prepare_vocabulary, ["damaged"], "plain.txt"),
        (prepare_shards, ["plan", "learned"], "no corpus is called 'plan'; did you mean 'plain'?"),
        (prepare_shards, ["plain", "zzz"], "no vocabulary is called 'zzz'; there are damaged, large, "),
        (prepare_shards, ["plain", "learned"], "vocabularies/learned: expected a vocabulary"),
    ],
)
def test_what_is_not_there_is_one_line(study, call, names, says):
    prepare_corpus(study, "plain")
    before = products(study).keys()
    with pytest.raises(BiomegError) as caught:
        call(study, *names)
    assert says in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
    assert products(study).keys() == before


def test_what_a_stage_needs_is_made_once(study):
    ensure_shards(study, "lines", "learned")
    made = products(study)
    assert {path.parent.name for path in made} == {"lines", "learned", "lines.learned"}
    ensure_shards(study, "lines", "learned")
    assert products(study) == made
    assert ensure_vocabulary(study, "published").size == 58
    with pytest.raises(BiomegError, match="no vocabulary is called 'learnt'"):
        ensure_vocabulary(study, "learnt")


def test_a_damaged_file_leaves_the_older_corpus(study):
    counts = prepare_corpus(study, "lines")
    with open(study.root / "data" / "1.jsonl", "a") as stream:
        stream.write('{"id": "x", \n')
    with pytest.raises(InputError, match=r"1\.jsonl:31: "):
        prepare_corpus(study, "lines")
    assert json.loads((study.corpus_directory("lines") / "counts.json").read_text()) == counts


def changed(study, **sections):
    """The same project with some entries of its params file replaced."""
    values = yaml.safe_load((study.root / study.params_file).read_text())
    for section, entries in sections.items():
        for name, entry in entries.items():
            values[section][name] |= entry
    (study.root / study.params_file).write_text(yaml.safe_dump(values, sort_keys=False))
    return load(study.root / study.params_file)


def test_a_stage_made_with_other_params_is_refused_with_the_difference(study):
    ensure_shards(study, "lines", "learned")
    check_made(study)
    other = changed(study, corpora={"lines": {"held_out": 0.3}})
    for use in (
        lambda: check_made(other),
        lambda: ensure_shards(other, "lines", "learned"),
        lambda: ensure_vocabulary(other, "learned"),  # it was learned on that corpus
    ):
        with pytest.raises(BiomegError, match=r"corpus\.held_out: 0\.2 there, 0\.3 here.*delete the folder") as error:
            use()
        assert "\n" not in str(error.value)


def test_a_stage_that_is_there_is_not_made_again(study):
    ensure_shards(study, "lines", "learned")
    made = products(study)
    ensure_shards(study, "lines", "learned")
    assert products(study) == made


def test_a_folder_that_was_not_finished_is_made_anew(study):
    ensure_vocabulary(study, "learned")
    folder = study.vocabulary_directory("learned")
    (folder / "params.json").unlink()
    (folder / "spm.model").write_bytes(b"damaged")
    assert ensure_vocabulary(study, "learned").size == 80
