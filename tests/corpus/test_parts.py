"""Parts of a corpus: an interrupted build goes on where it was, and what was damaged meanwhile is never taken."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from killing import killed_at

from biomeg_lib.corpus import parts
from biomeg_lib.corpus.documents import build_corpus, parts_folder, read_part, stream
from biomeg_lib.errors import BiomegError, InputError


def write_sources(folder, count=5, lines=60):
    """JSON lines, a fifth of which come back in the next file."""
    folder.mkdir(exist_ok=True)
    rng = np.random.default_rng(0)
    paths = []
    for number in range(count):
        values = [
            {"id": f"{number * lines * 4 // 5 + i}", "text": " ".join(map(str, rng.integers(0, 999, 200))) + f" é{i}"}
            for i in range(lines)
        ]
        paths.append(folder / f"{number:02}.jsonl")
        paths[-1].write_text("".join(json.dumps(value) + "\n" for value in values))
    return paths


def content(directory):
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def made(directory):
    """The complete parts and when they were made."""
    return {path.parent.name: path.stat().st_mtime_ns for path in parts_folder(directory).glob("0*/part.json")}


@pytest.fixture
def small_blocks(monkeypatch):
    monkeypatch.setattr(parts, "BATCH", 10_000)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_killed_at_any_step_and_gone_on_with(tmp_path, small_blocks):
    sources = write_sources(tmp_path / "raw", 3, 30)
    build_corpus(sources, "jsonl", tmp_path / "undisturbed")
    expected = content(tmp_path / "undisturbed")
    point, corpus = 1, tmp_path / "corpus"
    while killed_at(point, lambda: build_corpus(sources, "jsonl", corpus, 1)):
        assert not corpus.exists()
        before = made(corpus)
        # The next one is killed, too, a little later; what was complete is not made again.
        killed_at(point + 2, lambda: build_corpus(sources, "jsonl", corpus, 1))
        after = made(corpus)
        assert corpus.exists() or before.items() <= after.items()
        build_corpus(sources, "jsonl", corpus, 1)
        assert content(corpus) == expected
        assert not parts_folder(corpus).exists()
        for path in corpus.iterdir():
            path.unlink()
        corpus.rmdir()
        point += 1
    assert point > 4 * len(sources)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["corpus", "raw", "undisturbed"]


SCRIPT = """
import sys
from pathlib import Path
from biomeg_lib.corpus.documents import build_corpus
build_corpus(sorted(Path(sys.argv[1]).iterdir()), "jsonl", sys.argv[2], int(sys.argv[3]), keep_parts=True)
"""


def test_killed_at_random_moments_with_two_processes(tmp_path):
    sources = write_sources(tmp_path / "raw", 12, 400)
    environment = {**os.environ, "PYTHONPATH": str(Path(parts.__file__).parents[2])}

    def start(processes):
        command = [sys.executable, "-c", SCRIPT, tmp_path / "raw", tmp_path / "corpus", str(processes)]
        return subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)

    rng = np.random.default_rng()
    known = {}
    for _ in range(3):
        process = start(2)
        deadline = time.monotonic() + 60
        wanted = len(known) + int(rng.integers(1, 4))
        while process.poll() is None and len(made(tmp_path / "corpus")) < wanted and time.monotonic() < deadline:
            time.sleep(0.002)
        time.sleep(float(rng.uniform(0, 0.02)))
        process.send_signal(signal.SIGKILL)
        process.wait()
        found = made(tmp_path / "corpus")
        assert known.items() <= found.items()
        known = found
    assert start(2).wait(120) == 0
    assert known.items() <= made(tmp_path / "corpus").items()
    assert len(made(tmp_path / "corpus")) == len(sources)
    build_corpus(sources, "jsonl", tmp_path / "alone", 1)
    assert content(tmp_path / "corpus") == content(tmp_path / "alone")


def test_files_shared_out_whole_or_in_batches_make_the_same_corpus(tmp_path, monkeypatch):
    sources = write_sources(tmp_path / "raw", 9, 30)
    whole = []
    flat_map = parts.parallel.flat_map
    monkeypatch.setattr(
        parts.parallel, "flat_map", lambda f, *rest: (whole.append(f.func.__name__), flat_map(f, *rest))[1]
    )
    found = []
    for processes in (1, 2, 3):
        counts = build_corpus(sources, "jsonl", tmp_path / "corpus", processes)
        found.append((counts, content(tmp_path / "corpus")))
    assert found[0] == found[1] == found[2]
    assert whole == ["_parse", "_read_alone", "_parse"]


def test_a_bad_file_among_many_leaves_the_others_read(tmp_path):
    sources = write_sources(tmp_path / "raw", 9, 30)
    good = sources[4].read_text()
    sources[4].write_text(good.replace("{", "[", 1))
    with pytest.raises(InputError, match=r"04\.jsonl:1: expected a JSON object"):
        build_corpus(sources, "jsonl", tmp_path / "corpus", 2)
    before = made(tmp_path / "corpus")
    assert len(before) >= 4
    assert "00005" not in before
    sources[4].write_text(good)
    build_corpus(sources, "jsonl", tmp_path / "corpus", 2, keep_parts=True)
    assert before.items() <= made(tmp_path / "corpus").items()
    build_corpus(sources, "jsonl", tmp_path / "alone")
    assert content(tmp_path / "corpus") == content(tmp_path / "alone")


def test_parts_made_one_by_one_are_used(tmp_path, monkeypatch):
    sources = write_sources(tmp_path / "raw")
    build_corpus(sources, "jsonl", tmp_path / "alone")
    for number in (3, 1, 4, 5, 2):
        read_part(sources[number - 1], number, "jsonl", tmp_path / "corpus")
        times = made(tmp_path / "corpus")
        read_part(sources[number - 1], number, "jsonl", tmp_path / "corpus")
        assert made(tmp_path / "corpus") == times
    with monkeypatch.context() as patch:
        patch.setattr(parts, "raw_records", None)  # nothing is read again
        build_corpus(sources, "jsonl", tmp_path / "corpus")
    assert content(tmp_path / "corpus") == content(tmp_path / "alone")
    with pytest.raises(BiomegError, match="jats, pubmed, jsonl, text"):
        read_part(sources[0], 1, "csv", tmp_path / "corpus")
    with pytest.raises(InputError, match=r"absent\.jsonl"):
        read_part(tmp_path / "absent.jsonl", 1, "jsonl", tmp_path / "corpus")


def test_kept_parts_leave_only_new_and_changed_files_to_read(tmp_path):
    sources = write_sources(tmp_path / "raw")
    build_corpus(sources[:3], "jsonl", tmp_path / "corpus", keep_parts=True)
    before = made(tmp_path / "corpus")
    assert sorted(before) == ["00001", "00002", "00003"]
    with open(sources[1], "a") as lines:
        lines.write('{"id": "new", "text": "one more"}\n')
    build_corpus(sources, "jsonl", tmp_path / "corpus", keep_parts=True)
    after = made(tmp_path / "corpus")
    assert [number for number in after if before.get(number) == after[number]] == ["00001", "00003"]
    assert "new" in {document.id for document in stream(tmp_path / "corpus")}
    build_corpus(sources[:1], "jsonl", tmp_path / "corpus", keep_parts=True)
    assert list(made(tmp_path / "corpus")) == ["00001"]
    build_corpus(sources, "jsonl", tmp_path / "corpus")
    assert not parts_folder(tmp_path / "corpus").exists()


def shorten(path):
    path.write_bytes(path.read_bytes()[:-1])


def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("harm", [shorten, flip, Path.unlink])
@pytest.mark.parametrize("name", ["documents.jsonl.gz", "blocks.npy", "index", "part.json"])
def test_a_part_that_is_damaged_is_made_again_or_refused(tmp_path, name, harm):
    sources = write_sources(tmp_path / "raw")
    build_corpus(sources, "jsonl", tmp_path / "corpus", keep_parts=True)
    expected = content(tmp_path / "corpus")
    damaged = parts_folder(tmp_path / "corpus") / "00002" / name
    harm(damaged)
    if harm is flip and name == "documents.jsonl.gz":  # same size: seen when it is read
        with pytest.raises(InputError) as caught:
            build_corpus(sources, "jsonl", tmp_path / "corpus")
        assert str(caught.value).startswith(f"{damaged}: expected what was written there, found damage at byte ")
        assert f"delete the folder {damaged.parent}" in str(caught.value)
        assert "\n" not in str(caught.value)
        assert content(tmp_path / "corpus") == expected  # the older one
        for path in damaged.parent.iterdir():
            path.unlink()
        damaged.parent.rmdir()
    build_corpus(sources, "jsonl", tmp_path / "corpus")
    assert content(tmp_path / "corpus") == expected


def test_a_part_read_by_other_code_is_made_again(tmp_path, monkeypatch):
    sources = write_sources(tmp_path / "raw")
    build_corpus(sources, "jsonl", tmp_path / "corpus", keep_parts=True)
    before = made(tmp_path / "corpus")
    monkeypatch.setattr(parts, "code_of", lambda *files: "another")
    build_corpus(sources, "jsonl", tmp_path / "corpus", keep_parts=True)
    assert not before.items() & made(tmp_path / "corpus").items()
