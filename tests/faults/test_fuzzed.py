"""Readers over damaged files: a short, seeded share of what `fuzz.py` does for long, and what once broke one of them.

Nothing but a result or an error of one line may come out.
"""

import random
from pathlib import Path

import pytest
from readers import Reader, all_readers

NAMES = (
    *("jats", "jats-package", "pubmed", "json-lines", "text", "texts-to-predict", "iob", "chemprot", "chemprot-lines"),
    *("mrpc", "squad", "bioasq", "bioasq-answers", "params", "vocab.txt", "spm.model", "vocab.json", "idx"),
    *("safetensors", "pickle", "config.json", "nemo"),
)
ROUNDS = 150


@pytest.fixture(scope="module")
def readers(tmp_path_factory) -> dict[str, Reader]:
    found = all_readers(tmp_path_factory.mktemp("sound"))
    assert tuple(found) == NAMES
    return found


def place(reader: Reader, folder: Path) -> Path:
    reader.prepare(folder)
    (folder / reader.file).parent.mkdir(parents=True, exist_ok=True)
    return folder


def changed(data: bytes, words: tuple[bytes, ...], chance: random.Random) -> bytes:
    """One to four changes: a bit, a byte, a word put in, a piece cut out or doubled, the end cut off."""
    changed = bytearray(data)
    for _ in range(chance.randint(1, 4)):
        at, size = chance.randrange(len(changed) + 1), chance.choice((1, 2, 4, 16, 100))
        match chance.randrange(6):
            case 0 if at < len(changed):
                changed[at] ^= 1 << chance.randrange(8)
            case 1:
                changed[at : at + 1] = chance.randbytes(1)
            case 2:
                changed[at:at] = chance.choice(words) if words else chance.randbytes(size)
            case 3:
                del changed[at : at + size]
            case 4:
                changed[at:at] = changed[at : at + size]
            case 5 if chance.random() < 0.2:
                del changed[at:]
    return bytes(changed)


@pytest.mark.parametrize("name", NAMES)
def test_a_result_or_one_line(readers, tmp_path, name):
    reader, chance = readers[name], random.Random(name)
    folder = place(reader, tmp_path)
    assert any(reader(folder, seed) for seed in reader.seeds) or name in (
        "safetensors",
        "pickle",
        "config.json",
        "nemo",
    )
    reader(folder, b"")
    for _ in range(ROUNDS):
        reader(folder, changed(chance.choice(reader.seeds), reader.words, chance))


def test_pieces_of_a_model_that_are_not_text(readers, tmp_path):
    reader = readers["spm.model"]
    data = reader.seeds[0].replace("\u2581the".encode(), b"\xe2\x0e\x81the")
    assert data != reader.seeds[0]
    assert not reader(place(reader, tmp_path), data)


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
