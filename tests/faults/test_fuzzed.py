"""Readers over damaged files, by hypothesis and always the same ones, and what once broke a reader. `fuzz.py` goes on.

Nothing but a result or an error of one line may come out.
"""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from readers import Reader, all_readers

NAMES = (
    *("jats", "jats-package", "pubmed", "json-lines", "text", "texts-to-predict", "iob", "chemprot", "chemprot-lines"),
    *("mrpc", "squad", "bioasq", "bioasq-answers", "params", "vocab.txt", "spm.model", "vocab.json", "idx"),
    *("safetensors", "pickle", "config.json", "index.json", "tokenizer.json", "run", "nemo", "relations-to-predict"),
    *("pairs-to-predict", "questions-to-predict", "squad-answers", "sums.txt", "notebook"),
)
# What is around the file, weights and all, would be too much for a test that changes one file.
INCOMPLETE = ("safetensors", "pickle", "config.json", "index.json", "tokenizer.json", "run", "nemo")
JSON = (
    *("json-lines", "texts-to-predict", "chemprot-lines", "squad", "bioasq", "bioasq-answers", "vocab.json"),
    *("config.json", "index.json", "tokenizer.json", "run", "relations-to-predict", "pairs-to-predict"),
    *("questions-to-predict", "squad-answers", "notebook"),
)


@pytest.fixture(scope="module")
def readers(tmp_path_factory) -> dict[str, Reader]:
    found = all_readers(tmp_path_factory.mktemp("sound"))
    assert tuple(found) == NAMES
    return found


def place(reader: Reader, folder: Path) -> Path:
    reader.prepare(folder)
    (folder / reader.file).parent.mkdir(parents=True, exist_ok=True)
    return folder


@st.composite
def damaged(draw, reader: Reader) -> bytes:
    """A sound file after one to four changes: a bit, a word put in, a piece cut out or doubled, the end cut off."""
    data = bytearray(draw(st.sampled_from(reader.seeds)))
    for _ in range(draw(st.integers(1, 4))):
        at, size = draw(st.integers(0, len(data))), draw(st.sampled_from((1, 2, 4, 16, 100)))
        match draw(st.integers(0, 4)):
            case 0 if at < len(data):
                data[at] ^= 1 << draw(st.integers(0, 7))
            case 1:
                words = st.binary(max_size=size)
                data[at:at] = draw(words | st.sampled_from(reader.words) if reader.words else words)
            case 2:
                del data[at : at + size]
            case 3:
                data[at:at] = data[at : at + size]
            case 4 if draw(st.integers(0, 4)) == 0:
                del data[at:]
    return bytes(data)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9) | st.sampled_from((2**70, 1e308)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=4,
)


@st.composite
def other_values(draw, reader: Reader) -> bytes:
    """Sound JSON, a value a line or one in all, of which one to three parts are replaced, left out or doubled."""
    seed = draw(st.sampled_from(reader.seeds))
    whole = reader.file.endswith((".json", ".ipynb"))
    lines = [seed] if whole else [line for line in seed.splitlines() if line.strip()]
    changed = [json.loads(line) for line in lines]
    for _ in range(draw(st.integers(1, 3))):
        holder, key = draw(st.sampled_from([*places(changed)] or [(changed, 0)]))
        match draw(st.integers(0, 3)):
            case 0 | 1:
                holder[key] = draw(VALUES)
            case 2 if holder is not changed:
                del holder[key]
            case 3 if isinstance(holder, list):
                holder.append(holder[key])
    return b"\n".join(json.dumps(value).encode() for value in changed)


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    """(holder, key or index) of everything in a value made of dicts and lists."""
    if isinstance(value, dict | list):
        for key in [*(value if isinstance(value, dict) else range(len(value)))]:
            yield value, key
            yield from places(value[key])


def seeded(examples: int) -> Callable:
    """Hypothesis' settings: always the same examples, however long one takes."""
    return settings(
        max_examples=examples, deadline=None, derandomize=True, database=None, suppress_health_check=[*HealthCheck]
    )


@pytest.mark.parametrize("name", NAMES)
def test_a_result_or_one_line(readers, tmp_path, name):
    reader = readers[name]
    folder = place(reader, tmp_path)
    assert any(reader(folder, seed) for seed in reader.seeds) or name in INCOMPLETE
    reader(folder, b"")

    @seeded(100)
    @given(damaged(reader))
    def check(data: bytes) -> None:
        reader(folder, data)

    check()


@pytest.mark.parametrize("name", [name for name in NAMES if name in JSON])
def test_other_values(readers, tmp_path, name):
    reader = readers[name]
    folder = place(reader, tmp_path)

    @seeded(100)
    @given(other_values(reader))
    def check(data: bytes) -> None:
        reader(folder, data)

    check()


def test_pieces_of_a_model_that_are_not_text(readers, tmp_path):
    reader = readers["spm.model"]
    data = reader.seeds[0].replace("\u2581the".encode(), b"\xe2\x0e\x81the")
    assert data != reader.seeds[0]
    assert not reader(place(reader, tmp_path), data)


def test_a_model_whose_mistake_is_said_in_bytes_that_are_no_text(readers, tmp_path):
    twice = b"\n\x0a\n\x03\xe2\x96\xc1\x15\x00\x00\x80\xbf" * 2  # a piece that is there two times is quoted
    assert not readers["spm.model"](
        place(readers["spm.model"], tmp_path), b"\n\x0e\n\x05[UNK]\x15\x00\x00\x00\x00\x18\x02" + twice
    )


def test_a_list_of_checksums_with_a_name_that_no_file_can_have(readers, tmp_path):
    assert readers["sums.txt"](place(readers["sums.txt"], tmp_path), b"8 3 a" + b"\xff" * 86 + b"\n")


def test_a_kind_of_vocabulary_that_is_an_object(readers, tmp_path):
    reader = readers["vocab.json"]
    assert not reader(place(reader, tmp_path), b'{"kind": {"kind": "wordpiece"}, "lowercase": false}')


def test_a_name_in_a_zip_that_is_not_text(readers, tmp_path):
    reader = readers["pickle"]
    (data,) = (seed for seed in reader.seeds if seed.startswith(b"PK"))
    entry = data.index(b"PK\x01\x02")
    broken = bytearray(data)
    broken[entry + 9] |= 8  # its name is said to be UTF-8
    broken[entry + 46] = 0xA8
    assert not reader(place(reader, tmp_path), bytes(broken))


def test_a_zip_cut_short_within_its_first_header(readers, tmp_path):
    reader = readers["pickle"]
    assert not reader(place(reader, tmp_path), b"PK\x03\x04")
