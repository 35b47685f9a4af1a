"""Megatron's indexed dataset, checked against the layout itself: `struct` on one side, our code on the other."""

import struct
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from biomeg_lib.corpus.indexed import IndexedReader, IndexedWriter, token_dtype
from biomeg_lib.errors import BiomegError, InputError

DOCUMENTS = [[[5, 6, 7], [8]], [[9, 10]], [[11], [12, 13, 14, 15], [16]]]


def write(prefix, documents=DOCUMENTS, dtype=np.uint16):
    with IndexedWriter(prefix, dtype) as writer:
        for document in documents:
            writer.add_document([np.array(sentence, dtype=np.int32) for sentence in document])
    return writer


def handmade(
    prefix,
    sequences=((5, 6, 7), (8,), (9, 10)),
    documents=(0, 2, 3),
    magic=b"MMIDIDX\x00\x00",
    version=1,
    code=8,
    kind="H",
    **change,
):
    """A pair of files packed by hand; `change` replaces single parts of a sound index."""
    sizes = change.get("sizes", [len(sequence) for sequence in sequences])
    width = struct.calcsize(kind)
    ends = np.cumsum([0, *map(len, sequences)]) * width
    pointers = change.get("pointers", [int(end) for end in ends[:-1]])
    index = magic + struct.pack("<Q", version) + struct.pack("<B", code)
    index += struct.pack("<Q", change.get("count", len(sequences))) + struct.pack(
        "<Q", change.get("entries", len(documents))
    )
    index += struct.pack(f"<{len(sizes)}i", *sizes) + struct.pack(f"<{len(pointers)}q", *pointers)
    index += struct.pack(f"<{len(documents)}q", *documents) + change.get("more", b"")
    flat = [token for sequence in sequences for token in sequence]
    prefix.with_name(prefix.name + ".idx").write_bytes(index)
    prefix.with_name(prefix.name + ".bin").write_bytes(struct.pack(f"<{len(flat)}{kind}", *flat))
    return prefix


def test_index_is_read_with_nothing_but_struct(tmp_path):
    writer = write(tmp_path / "some.corpus")
    assert (writer.documents, writer.sentences, writer.tokens) == (3, 6, 12)
    index = (tmp_path / "some.corpus.idx").read_bytes()
    data = (tmp_path / "some.corpus.bin").read_bytes()

    assert index[:9] == b"MMIDIDX\x00\x00"
    assert struct.unpack_from("<Q", index, 9) == (1,)
    assert struct.unpack_from("<B", index, 17) == (8,)  # uint16
    assert struct.unpack_from("<QQ", index, 18) == (6, 4)
    sizes = struct.unpack_from("<6i", index, 34)
    pointers = struct.unpack_from("<6q", index, 34 + 24)
    documents = struct.unpack_from("<4q", index, 34 + 24 + 48)
    assert len(index) == 34 + 24 + 48 + 32

    assert documents == (0, 2, 3, 6)
    sequences = [
        list(struct.unpack_from(f"<{size}H", data, place)) for size, place in zip(sizes, pointers, strict=True)
    ]
    assert [sequences[a:b] for a, b in pairwise(documents)] == DOCUMENTS
    assert len(data) == 24


@pytest.mark.parametrize(("code", "kind"), [(1, "B"), (2, "b"), (3, "h"), (4, "i"), (5, "q"), (8, "H")])
def test_handmade_pair_is_read(tmp_path, code, kind):
    reader = IndexedReader(handmade(tmp_path / "pair", code=code, kind=kind))
    assert len(reader) == 3
    assert [reader[i].tolist() for i in range(3)] == [[5, 6, 7], [8], [9, 10]]
    assert reader[-1].tolist() == [9, 10]
    assert reader.tokens.tolist() == [5, 6, 7, 8, 9, 10]
    assert reader.tokens.dtype == np.dtype(kind)
    assert reader.sizes.tolist() == [3, 1, 2]
    assert reader.sizes.dtype == np.int32
    assert reader.documents.tolist() == [0, 2, 3]
    assert reader.documents.dtype == np.int64
    assert reader.starts(np.array([3, 0, 2])).tolist() == [6, 0, 4]
    assert not reader[0].flags.writeable
    with pytest.raises(IndexError):
        reader[3]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    documents=st.lists(st.lists(st.lists(st.integers(0, 65535), max_size=6), max_size=5), max_size=8),
    dtype=st.sampled_from([np.uint16, np.int32, np.int64]),
)
def test_what_is_written_is_read(tmp_path, documents, dtype):
    write(tmp_path / "pair", documents, dtype)
    reader = IndexedReader(tmp_path / "pair")
    assert [[reader[i].tolist() for i in range(start, end)] for start, end in pairwise(reader.documents)] == documents
    assert reader.starts(np.array([0, len(reader)])).tolist() == [0, len(reader.tokens)]


def test_token_type_is_megatrons():
    assert token_dtype(65499) == np.uint16
    assert token_dtype(65500) == np.int32


def test_ids_that_do_not_fit_are_refused_and_nothing_is_left(tmp_path):
    with pytest.raises(BiomegError, match="do not fit uint16"):
        write(tmp_path / "pair", [[[65536]]])
    with pytest.raises(BiomegError, match="do not fit uint16"):
        write(tmp_path / "pair", [[[-1]]])
    with pytest.raises(BiomegError, match="float64"):
        IndexedWriter(tmp_path / "pair", np.float64)
    assert not list(tmp_path.iterdir())


def test_failure_leaves_the_older_pair(tmp_path):
    write(tmp_path / "pair")
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(BiomegError):
        write(tmp_path / "pair", [[[1, 2]], [[70000]]])
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize(
    ("change", "file", "message"),
    [
        ({"magic": b"TNTIDX\x00\x00\x01"}, ".idx", "start of a memory-mapped Megatron index"),
        ({"version": 2}, ".idx", "expected version 1 of the index layout, found 2"),
        ({"code": 7}, ".idx", "token type"),
        ({"code": 255}, ".idx", "token type"),
        ({"count": 2**64 - 1}, ".idx", "found 94"),
        ({"entries": 2**60}, ".idx", "found 94"),
        (
            {"count": 2, "documents": (0, 2)},
            ".idx",
            "expected 74 bytes for 2 sequences and 2 document entries, found 86",
        ),
        ({"more": b"\x00\x00\x00"}, ".idx", "found 97"),
        ({"sizes": [3, -1, 2]}, ".idx", "found -1 at sequence 1"),
        ({"pointers": [0, 7, 8]}, ".idx", "found sequence 1 at byte 7"),
        ({"pointers": [-2, 6, 8]}, ".idx", "found sequence 0 at byte -2"),
        ({"sizes": [3, 1, 5]}, ".bin", "expected at least 18 bytes, as pair.idx says, found 12"),
        ({"sizes": [3, 1, 1]}, ".bin", "expected 10 bytes, as pair.idx says, found 12"),
        ({"sizes": [3, 1, 2**31 - 1]}, ".bin", "found 12"),
        ({"documents": ()}, ".idx", "document index from 0 to 3"),
        ({"documents": (1, 2, 3)}, ".idx", "document index from 0 to 3"),
        ({"documents": (0, 2, 4)}, ".idx", "document index from 0 to 3"),
        ({"documents": (0, 2, 1, 3)}, ".idx", "found a fall at document 2"),
    ],
)
def test_unsound_pairs_are_one_line_errors(tmp_path, change, file, message):
    handmade(tmp_path / "pair", **change)
    with pytest.raises(InputError, match=message) as caught:
        IndexedReader(tmp_path / "pair")
    assert str(caught.value).startswith(f"{tmp_path / 'pair'}{file}: expected")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("suffix", [".idx", ".bin"])
def test_every_truncation_is_an_error(tmp_path, suffix):
    path = handmade(tmp_path / "pair").with_suffix(suffix)
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(InputError):
            IndexedReader(tmp_path / "pair")
    path.unlink()
    with pytest.raises(InputError, match="found none here"):
        IndexedReader(tmp_path / "pair")


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_changed_bytes_are_refused_or_harmless(tmp_path, data):
    """Whatever stands in the index, the reader refuses it in one line, or gives sequences that make up the tokens."""
    path = handmade(tmp_path / "pair").with_suffix(".idx")
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    try:
        reader = IndexedReader(tmp_path / "pair")
    except InputError:
        return
    assert sum(len(reader[i]) for i in range(len(reader))) == len(reader.tokens)
    assert (np.diff(reader.documents) >= 0).all()
