"""A corpus file holds what was read, is the same byte for byte each time, and appears whole or not at all."""

import gzip
import io
import json
import subprocess
import tarfile
import zlib

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from biomeg_lib.corpus.documents import build_corpus, stream
from biomeg_lib.corpus.readers import Document, read_documents
from biomeg_lib.errors import BiomegError, InputError

any_text = st.text(st.characters(exclude_categories=("Cs",)), max_size=30)


def write_lines(path, values):
    path.write_text("".join(json.dumps(value) + "\n" for value in values), encoding="utf-8")
    return path


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(values=st.lists(st.tuples(any_text.filter(bool), any_text, st.lists(any_text, max_size=3)), max_size=6))
def test_round_trip_and_counts(tmp_path, values):
    values = [*values, ("last", "", ["some words"])]
    path = write_lines(tmp_path / "own.jsonl", [{"id": i, "title": t, "paragraphs": p} for i, t, p in values])
    expected, empty, duplicate = {}, 0, 0
    for document in read_documents(path, "jsonl"):
        if not document.paragraphs:
            empty += 1
        elif document.id in expected:
            duplicate += 1
        else:
            expected[document.id] = document
    counts = build_corpus([path], "jsonl", tmp_path / "corpus")
    assert list(stream(tmp_path / "corpus")) == list(expected.values())
    texts = ["\n".join(filter(None, [d.title, *d.paragraphs])) for d in expected.values()]
    assert (
        counts
        == json.loads((tmp_path / "corpus" / "counts.json").read_text())
        == {
            "documents": len(expected),
            "words": sum(len(text.split()) for text in texts),
            "characters": sum(map(len, texts)),
            "dropped": {"empty": empty, "duplicate": duplicate},
            "files": ["own.jsonl"],
        }
    )


def test_several_files_repeated_ids_and_empty_documents(tmp_path):
    first = write_lines(tmp_path / "a.jsonl", [{"id": "1", "text": "one"}, {"id": "2", "title": "T", "text": " \n"}])
    second = write_lines(tmp_path / "b.jsonl", [{"id": "1", "text": "again"}, {"id": "2", "text": "two words"}])
    counts = build_corpus([first, str(second)], "jsonl", tmp_path / "corpus")
    assert counts == {
        "documents": 2,
        "words": 3,
        "characters": 12,
        "dropped": {"empty": 1, "duplicate": 1},
        "files": ["a.jsonl", "b.jsonl"],
    }
    assert list(stream(tmp_path / "corpus")) == [Document("1", "", ("one",)), Document("2", "", ("two words",))]


def test_equal_texts_without_ids_are_kept_once_wherever_they_lie(tmp_path):
    files = []
    for folder in "ab":
        (tmp_path / folder).mkdir()
        files.append(tmp_path / folder / "note.txt")
        files[-1].write_text(f"The same.\n\nOnly in {folder}.\n")
    counts = build_corpus(files, "text", tmp_path / "corpus")
    assert (counts["documents"], counts["dropped"]["duplicate"]) == (3, 1)


def test_same_bytes_each_time_and_an_older_corpus_is_replaced(tmp_path, monkeypatch):
    path = write_lines(tmp_path / "own.jsonl", [{"id": str(i), "text": f"text é {i}"} for i in range(100)])
    build_corpus([path], "jsonl", tmp_path / "one")
    monkeypatch.setattr("time.time", lambda: 2_000_000_000.0)
    build_corpus([path], "jsonl", tmp_path / "two")
    build_corpus([path], "jsonl", tmp_path / "one")
    for name in ("documents.jsonl.gz", "counts.json"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    lines = gzip.decompress((tmp_path / "one" / "documents.jsonl.gz").read_bytes()).decode().splitlines()
    assert json.loads(lines[7]) == {"id": "7", "title": "", "paragraphs": ["text é 7"]}
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["one", "own.jsonl", "two"]


def test_after_a_failure_there_is_no_corpus_but_parts_that_are_complete(tmp_path):
    good = write_lines(tmp_path / "good.jsonl", [{"id": "1", "text": "one"}])
    bad = tmp_path / "bad.jsonl"
    bad.write_text('{"text": "fine"}\n{"text": \n')
    with pytest.raises(InputError, match=r"bad\.jsonl:2"):
        build_corpus([good, bad], "jsonl", tmp_path / "corpus")
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["bad.jsonl", "corpus.parts", "good.jsonl"]
    assert [entry.name for entry in (tmp_path / "corpus.parts").iterdir()] == ["00001"]
    with pytest.raises(InputError, match=r"bad\.jsonl:2"):
        build_corpus([bad], "jsonl", tmp_path / "other")
    assert not (tmp_path / "other.parts").exists()


def test_no_documents_is_an_error(tmp_path):
    empty = tmp_path / "empty.txt"
    empty.write_text("\n\n")
    with pytest.raises(BiomegError, match=r"found none in .*empty\.txt"):
        build_corpus([empty], "text", tmp_path / "corpus")
    with pytest.raises(BiomegError, match="an empty list of files"):
        build_corpus([], "text", tmp_path / "corpus")
    assert not (tmp_path / "corpus").exists()


def test_a_missing_or_damaged_corpus_is_named(tmp_path):
    with pytest.raises(InputError, match=r"documents\.jsonl\.gz"):
        list(stream(tmp_path / "absent"))
    path = write_lines(tmp_path / "own.jsonl", [{"id": "1", "text": "one"}])
    build_corpus([path], "jsonl", tmp_path / "corpus")
    file = tmp_path / "corpus" / "documents.jsonl.gz"
    file.write_bytes(file.read_bytes()[:-3])
    with pytest.raises(InputError, match=r"documents\.jsonl\.gz: .*truncated"):
        list(stream(tmp_path / "corpus"))


def test_the_same_bytes_from_any_number_of_processes(tmp_path):
    """Some batches, one with repeated ids, of lines and of the members of a package."""
    words = " ".join(f"word{i * 7919 % 1000}" for i in range(1000))
    lines = [{"id": f"{i % 350}", "title": f"T{i}", "text": f"{i} {words}\n\nmore é {i}"} for i in range(400)]
    path = write_lines(tmp_path / "own.jsonl", lines)
    package = tmp_path / "bulk.tgz"
    with tarfile.open(package, "w:gz") as archive:
        for i in range(300):
            data = f"<article><body><p>{i} {words}</p></body></article>".encode()
            header = tarfile.TarInfo(f"a/{i % 280}.xml")
            header.size = len(data)
            archive.addfile(header, io.BytesIO(data))
    for file, format in ((path, "jsonl"), (package, "jats")):
        made = {}
        for processes in (1, 2, 3):
            counts = build_corpus([file, file], format, tmp_path / "corpus", processes)
            made[processes] = (counts, (tmp_path / "corpus" / "documents.jsonl.gz").read_bytes())
        assert made[1] == made[2] == made[3]
        expected = {}
        for document in read_documents(file, format):
            expected.setdefault(document.id, document)
        assert list(stream(tmp_path / "corpus")) == list(expected.values())
        zipped = made[1][1]
        assert subprocess.run(["gzip", "-t"], input=zipped).returncode == 0
        first = zlib.decompressobj(wbits=31)  # of the first gzip member
        first.decompress(zipped)
        assert first.eof
        assert not first.unused_data


def test_a_bad_file_is_the_same_error_from_any_number_of_processes(tmp_path):
    files = [write_lines(tmp_path / "good.jsonl", [{"id": "1", "text": "one"}]), tmp_path / "bad.jsonl"]
    files[1].write_text('{"text": "fine"}\n{"text": \n{"text": ')
    messages = []
    for processes in (1, 2):
        with pytest.raises(InputError) as caught:
            build_corpus(files, "jsonl", tmp_path / "corpus", processes)
        messages.append(str(caught.value))
    assert messages[0] == messages[1]
    assert messages[0].startswith(f"{files[1]}:2: expected")
    assert not (tmp_path / "corpus").exists()
