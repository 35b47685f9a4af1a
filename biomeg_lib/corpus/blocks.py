"""One gzip member out of blocks that were compressed apart from each other, with a table of where they lie.

Notable: a block is some whole lines, about a megabyte, behind a full flush, so it needs nothing of what stands before
it. Blocks are compressed by any process, copied from file to file as they are, and read out of the middle of a file;
to every other tool the file is one ordinary gzip member. Its checksum is combined out of those of the blocks, as zlib's
`crc32_combine` does it, which Python does not have.
"""

import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np

from biomeg_lib.errors import InputError

_HEAD = b"\x1f\x8b\x08\0\0\0\0\0\0\xff"  # deflate, no flags, no time stamp, unknown system
_END = b"\x03\0"  # an empty last block of deflate
FRAME = len(_HEAD) + len(_END) + 8  # bytes of a file besides its blocks
# A row of the table: bytes compressed, and of the text; lines; entries of a part's index; CRC-32 of the text, and of
# the compressed bytes.
TABLE = np.dtype(
    [("size", "<u4"), ("text", "<u4"), ("lines", "<u4"), ("entries", "<u4"), ("crc", "<u4"), ("packed", "<u4")]
)
_POLYNOMIAL = 0xEDB88320


class Block(NamedTuple):
    """A compressed block and its row of the table."""

    compressed: bytes
    text: int
    lines: int
    entries: int
    crc: int


def block(text: bytes, lines: int, entries: int) -> Block:
    """Compress some whole lines."""
    deflate = zlib.compressobj(3, zlib.DEFLATED, -zlib.MAX_WBITS)
    compressed = deflate.compress(text) + deflate.flush(zlib.Z_FULL_FLUSH)
    return Block(compressed, len(text), lines, entries, zlib.crc32(text))


class BlockWriter:
    """Write blocks to an open file as one gzip member; `table` is of those written so far."""

    def __init__(self, stream: IO[bytes]):
        self._stream, self._checksum, self._size = stream, 0, 0
        self._rows: list[tuple[int, ...]] = []
        stream.write(_HEAD)

    def add(self, new: Block) -> None:
        self._stream.write(new.compressed)
        self._checksum = combined_crc(self._checksum, new.crc, new.text)
        self._size += new.text
        packed = zlib.crc32(new.compressed)
        self._rows.append((len(new.compressed), new.text, new.lines, new.entries, new.crc, packed))

    def finish(self) -> None:
        """Write the end: an empty last block, the checksum, the size modulo 2^32."""
        self._stream.write(_END + self._checksum.to_bytes(4, "little") + (self._size % (1 << 32)).to_bytes(4, "little"))

    @property
    def table(self) -> np.ndarray:
        return np.array(self._rows, dtype=TABLE)


def read_blocks(path: Path, table: np.ndarray, first: int = 0, last: int | None = None) -> Iterator[Block]:
    """The blocks `first` to `last` (not included; None: all) of a file as they lie in it, still compressed.

    Args:
        table: of all blocks of the file.

    Raises:
        InputError: the file is not as the table says.
    """
    place = len(_HEAD) + int(table["size"][:first].sum(dtype=np.int64))
    with open(path, "rb") as stream:
        stream.seek(place)
        for size, text, lines, entries, crc, packed in table[first:last].tolist():
            compressed = stream.read(size)
            if len(compressed) != size or zlib.crc32(compressed) != packed:
                raise damaged(path, f"at byte {place}")
            place += size
            yield Block(compressed, text, lines, entries, crc)


def text_of(path: Path, packed: Block) -> bytes:
    """What a block of the file says.

    Raises:
        InputError: it is damaged.
    """
    try:
        text = zlib.decompressobj(-zlib.MAX_WBITS).decompress(packed.compressed, packed.text + 1)
    except zlib.error:
        text = b""
    if len(text) != packed.text or zlib.crc32(text) != packed.crc:
        raise damaged(path, "in a block")
    return text


def damaged(path: Path, where: str) -> InputError:
    """The error for a file that is not as its table says."""
    return InputError(
        path,
        f"expected what was written there, found damage {where}; delete the folder {path.parent}, and make it anew",
    )


def combined_crc(first: int, second: int, length: int) -> int:
    """The CRC-32 of two texts behind each other, from those of each and the length of the second in bytes."""
    power, step = 1 << 31, 3  # x^0; a byte is x^(2^3)
    while length:
        if length & 1:
            power = _product(_POWERS[step % 32], power)
        length >>= 1
        step += 1
    return _product(power, first) ^ second


def _product(a: int, b: int) -> int:
    """Of two polynomials over GF(2), modulo that of CRC-32; the highest bit is x^0."""
    product = 0
    for bit in range(31, -1, -1):
        if a >> bit & 1:
            product ^= b
        b = b >> 1 ^ (_POLYNOMIAL if b & 1 else 0)
    return product


_POWERS = [1 << 30]  # x^(2^n), which repeats after 32
while len(_POWERS) < 32:
    _POWERS.append(_product(_POWERS[-1], _POWERS[-1]))
