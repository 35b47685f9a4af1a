"""PubMed's baseline and update files: whatever comes in whatever order, the last version of each citation stays."""

import gzip
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from biomeg_lib.corpus import versions
from biomeg_lib.corpus.documents import build_corpus, stream
from biomeg_lib.corpus.readers import read_documents
from biomeg_lib.errors import InputError

HEAD = """<?xml version="1.0" encoding="utf-8"?>
<!DOCTYPE PubmedArticleSet PUBLIC "-//NLM//DTD PubMedArticle, 1st January 2025//EN"
 "https://dtd.nlm.nih.gov/ncbi/pubmed/out/pubmed_250101.dtd">
"""


def citation(pmid, version, text):
    abstract = f"<Abstract><AbstractText>{text}</AbstractText></Abstract>" if text else ""
    return (
        f'<PubmedArticle><MedlineCitation Status="MEDLINE" Owner="NLM"><PMID Version="{version}">{pmid}</PMID>'
        f'<Article PubModel="Print"><ArticleTitle>Title {pmid}.</ArticleTitle>{abstract}</Article>'
        '<CommentsCorrectionsList><CommentsCorrections RefType="Cites"><PMID Version="1">1</PMID></CommentsCorrections>'
        f'</CommentsCorrectionsList></MedlineCitation><PubmedData><ArticleIdList><ArticleId IdType="pubmed">{pmid}'
        "</ArticleId></ArticleIdList></PubmedData></PubmedArticle>\n"
    )


def write_file(path, citations, deleted=()):
    """One file in the real format: citations as (PMID, version, abstract or ""), then PMIDs that are no more."""
    body = "".join(citation(*one) for one in citations)
    if deleted:
        pmids = "".join(f'<PMID Version="1">{pmid}</PMID>\n' for pmid in deleted)
        body += f"<DeleteCitation>\n{pmids}</DeleteCitation>\n"
    path.write_bytes(gzip.compress(f"{HEAD}<PubmedArticleSet>\n{body}</PubmedArticleSet>\n".encode(), mtime=0))
    return path


def write_all(folder, files):
    return [
        write_file(folder / f"pubmed26n{number:04}.xml.gz", *content) for number, content in enumerate(files, start=1)
    ]


def right_set(files):
    """What has to stay, by a plain dict, in order; and the counts of what is dropped."""
    now, alive, deleted = {}, {}, 0
    for citations, gone in files:
        for pmid, version, text in citations:
            alive[pmid] = alive.get(pmid, 0) + 1
            if pmid not in now or version >= now[pmid][0]:
                now.pop(pmid, None)
                now[pmid] = (version, text)
        for pmid in gone:
            now.pop(pmid, None)
            deleted += alive.pop(pmid, 0)
    empty = sum(not text for _, text in now.values())
    dropped = {"empty": empty, "duplicate": 0, "revised": sum(alive.values()) - len(now), "deleted": deleted}
    return [(str(pmid), text) for pmid, (_, text) in now.items() if text], dropped


def check(folder, files, processes=None):
    expected, dropped = right_set(files)
    counts = build_corpus(write_all(folder, files), "pubmed", folder / "corpus", processes)
    assert [(document.id, *document.paragraphs) for document in stream(folder / "corpus")] == expected
    assert counts["dropped"] == dropped
    assert counts["documents"] == len(expected)
    assert counts["words"] == sum(len(document.text.split()) for document in stream(folder / "corpus"))
    assert counts["documents"] + sum(dropped.values()) == sum(len(citations) for citations, _ in files)


pmids = st.integers(1, 6)
contents = st.tuples(
    st.lists(
        st.tuples(pmids, st.integers(1, 3), st.sampled_from(["", "a", "some words", "é ü", "x" * 50])), max_size=8
    ),
    st.lists(st.one_of(pmids, st.just(99)), max_size=3),
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(files=st.lists(contents, max_size=5), bucket=st.sampled_from([2, 1 << 20]))
def test_any_sequence_of_updates_leaves_the_right_set(tmp_path, monkeypatch, files, bucket):
    monkeypatch.setattr(versions, "BUCKET", bucket)
    check(tmp_path, [*files, ([(1000, 1, "The last.")], [])])


def test_revisions_and_deletions_by_hand(tmp_path):
    baseline = [
        ([(1, 1, "one"), (2, 1, "two"), (2, 3, "two, third"), (2, 2, "two, second"), (3, 1, "three")], []),
        ([(4, 1, "four"), (5, 1, "five"), (6, 2, "six, second")], []),
    ]
    updates = [
        ([(1, 1, "one, revised"), (6, 1, "six, first"), (2, 2, "two, second again")], [5, 12345]),
        ([(5, 1, "five is back"), (3, 1, "")], [4]),
    ]
    check(tmp_path, baseline + updates)
    texts = {document.id: document.paragraphs[0] for document in stream(tmp_path / "corpus")}
    assert texts == {"1": "one, revised", "2": "two, third", "5": "five is back", "6": "six, second"}


def test_a_file_alone_still_gives_all_its_citations(tmp_path):
    path = write_file(tmp_path / "p.xml.gz", [(1, 1, "one"), (1, 2, "two")], [1])
    assert [document.paragraphs for document in read_documents(path, "pubmed")] == [("one",), ("two",)]


def test_a_large_file_is_streamed_with_its_deletions(tmp_path):
    """Past the size up to which XML is parsed whole."""
    text = "Some words about a gene. " * 200
    files = [([(number, 1, text.strip()) for number in range(1, 1201)], [7, 8]), ([(9, 1, "new")], [])]
    check(tmp_path, files)
    check(tmp_path, files, processes=2)


@pytest.mark.parametrize(
    ("record", "says"),
    [
        ('<PMID Version="two">1</PMID>', "expected a whole number as Version of a PMID, found 'two'"),
        ('<PMID Version="12345678">1</PMID>', "expected a whole number as Version"),
        ("<PMID> </PMID>", "expected a <PMID> in every <DeleteCitation>, found none"),
    ],
)
def test_a_bad_pmid_is_one_line(tmp_path, record, says):
    path = tmp_path / "p.xml"
    path.write_text(f"<PubmedArticleSet>\n<DeleteCitation>{record}</DeleteCitation></PubmedArticleSet>")
    with pytest.raises(InputError) as caught:
        build_corpus([path], "pubmed", tmp_path / "corpus")
    assert str(caught.value).startswith(f"{path}:2: ")
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def index_of(path, keys, kinds, numbers):
    entries = np.zeros(len(keys), versions.INDEX)
    entries["key"], entries["kind"], entries["version"] = keys, kinds, numbers
    entries.tofile(path)
    return path


def test_verdicts_by_hand(tmp_path):
    keys, high = [5, 5, 6, 5, 7, 7], 1 << 63
    first = index_of(tmp_path / "a", [high + key for key in keys], [0, 0, 1, 2, 0, 0], [1, 1, 1, 1, 2, 1])
    second = index_of(tmp_path / "b", [high + 5, 6], [1, 0], [1, 1])
    empty = index_of(tmp_path / "c", [], [], [])
    kept, no_text, duplicate, revised, deleted = range(5)
    found = versions.decide([empty, first, second], True, tmp_path).tolist()
    assert found[:3] + found[4:] == [deleted, deleted, no_text, kept, revised, no_text, kept]
    first = index_of(tmp_path / "a", keys, [0, 0, 1, 0, 0, 0], [1] * 6)
    found = versions.decide([first, second, empty], False, tmp_path).tolist()
    assert found == [kept, duplicate, no_text, duplicate, kept, duplicate, no_text, kept]
    assert versions.decide([empty], True, tmp_path).tolist() == []


MEMORY = """
import re, sys
from pathlib import Path
from biomeg_lib.corpus import versions
def peak():
    return int(re.search(r"RssAnon:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1])
import threading, time
highest, over = [peak()], threading.Event()
def watch():
    while not over.wait(0.005):
        highest.append(peak())
threading.Thread(target=watch, daemon=True).start()
before = highest[0]
folder = Path(sys.argv[1])
verdicts = versions.decide(sorted(folder.glob("index*")), True, folder)
over.set()
print(len(verdicts), int((verdicts == versions.KEPT).sum()), (max(highest) - before) // 1024)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc")
def test_memory_of_the_decision_is_bounded(tmp_path):
    """Four million entries of a million and a half citations take 96 MB on the disk, and as much sorted."""
    rng = np.random.default_rng(0)
    names = rng.integers(0, 2**64, 1_500_000, dtype=np.uint64)
    kept = np.zeros(len(names), bool)
    for number in range(4):
        which = rng.integers(0, len(names), 1_000_000)
        gone = rng.random(len(which)) < 0.02
        index_of(tmp_path / f"index{number}", names[which], np.where(gone, versions.DELETION, versions.TEXT), 1)
        last = np.zeros(len(names), np.int64)
        np.maximum.at(last, which, np.arange(1, len(which) + 1))
        seen = last > 0
        kept[seen] = ~gone[last[seen] - 1]
    environment = {**os.environ, "PYTHONPATH": str(Path(versions.__file__).parents[2])}
    command = [sys.executable, "-c", MEMORY, tmp_path]
    output = subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout
    total, stay, megabytes = map(int, output.split())
    assert (total, stay) == (4_000_000, int(kept.sum()))
    assert megabytes < 160
