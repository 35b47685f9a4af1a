"""Blocks of one gzip member: checksums as zlib computes them, and any block by itself out of the middle of a file."""

import gzip
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from biomeg_lib.corpus import blocks
from biomeg_lib.errors import InputError


@settings(deadline=None)
@given(st.binary(max_size=300), st.binary(max_size=300))
def test_combined_checksums(first, second):
    combined = blocks.combined_crc(zlib.crc32(first), zlib.crc32(second), len(second))
    assert combined == zlib.crc32(first + second)


def test_combined_checksums_of_long_texts():
    zeros = bytes(5_000_000)
    assert blocks.combined_crc(zlib.crc32(b"start"), zlib.crc32(zeros), len(zeros)) == zlib.crc32(b"start" + zeros)
    # 2^33 bytes, by halves: longer than 32 bits can count
    crc, length = zlib.crc32(bytes(1 << 20)), 1 << 20
    steps = []
    while length < 1 << 33:
        crc, length = blocks.combined_crc(crc, crc, length), length * 2
        steps.append(crc)
    assert steps[1] == zlib.crc32(bytes(1 << 22))
    assert blocks.combined_crc(0, crc, length) == crc


@settings(deadline=None, max_examples=50)
@given(st.lists(st.lists(st.binary(max_size=40).map(lambda line: line.replace(b"\n", b"") + b"\n")), max_size=5))
def test_round_trip(tmp_path_factory, texts):
    path = tmp_path_factory.mktemp("blocks") / "file.gz"
    with open(path, "wb") as stream:
        writer = blocks.BlockWriter(stream)
        for lines in texts:
            writer.add(blocks.block(b"".join(lines), len(lines), 0))
        writer.finish()
    table = writer.table
    assert gzip.decompress(path.read_bytes()) == b"".join(map(b"".join, texts))
    assert path.stat().st_size == blocks.FRAME + table["size"].sum()
    for first in range(len(texts) + 1):
        found = [blocks.text_of(path, block) for block in blocks.read_blocks(path, table, first, first + 2)]
        assert found == [b"".join(lines) for lines in texts[first : first + 2]]


def test_damage_is_one_line(tmp_path):
    path = tmp_path / "file.gz"
    with open(path, "wb") as stream:
        writer = blocks.BlockWriter(stream)
        writer.add(blocks.block(b"some words\n" * 50, 50, 0))
        writer.finish()
    (good,) = blocks.read_blocks(path, writer.table)
    for wrong in (good._replace(crc=good.crc ^ 1), good._replace(text=7), good._replace(compressed=b"\xff\xff\xff")):
        with pytest.raises(InputError, match=r"file\.gz: expected what was written there, found damage"):
            blocks.text_of(path, wrong)
    table = np.array(writer.table)
    path.write_bytes(path.read_bytes()[:20])
    with pytest.raises(InputError, match=r"found damage at byte 10; delete the folder"):
        list(blocks.read_blocks(path, table))
