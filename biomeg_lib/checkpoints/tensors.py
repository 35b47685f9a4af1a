"""Tensors out of files that nobody vouches for: safetensors, and both formats of `torch.save`.

What a file claims is held against how large it is before memory is taken, and every way in which it can be broken or
hostile ends in a one-line `InputError`. Files are told apart by what is in them, not by their names.

Notable: what `torch.save` wrote is mapped, not loaded, so tensors that nobody uses (an optimizer's) take no memory; the
mapping is private, so writing to a tensor leaves the file as it is. Deleting or replacing the file is harmless, writing
to it in place is not while its tensors are used. Its zip format has check sums, which are looked at;
safetensors and the format before PyTorch 1.6 have none, and damage to the numbers in them cannot be seen.
"""

import contextlib
import io
import json
import math
import mmap
import os
import struct
import sys
import zipfile
import zlib
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from biomeg_lib.checkpoints import pickles
from biomeg_lib.checkpoints.pickles import Problem
from biomeg_lib.errors import InputError

_ZIP_START = b"PK\x03\x04"
_PICKLE_START = b"\x80"
_MAGIC, _PROTOCOL = 0x1950A86A20F9469CFC6C, 1001  # what the format before PyTorch 1.6 starts with
_LONGEST_HEADER = 8 << 20  # bytes; a tensor takes a hundred of them
_ALIGNMENT = 16  # bytes; of the widest number
_LOCAL_HEADER = struct.Struct("<4s22xHH")  # of a zip record: signature, lengths of name and extra field
_HEAD = 512  # bytes that are looked at to tell what a file is
_TABLE_END = bytes.fromhex("57fb808b247547db")  # of TensorFlow's index, a LevelDB table


# What zipfile, struct and torch raise about a damaged file.
_DAMAGE = (zipfile.BadZipFile, struct.error, EOFError, LookupError, OverflowError, RuntimeError, TypeError, ValueError)


def read_state(path: str | Path) -> Any:
    """Whatever tensors a file holds, by its content: safetensors, or what `torch.save` wrote.

    Returns:
        As `read_safetensors` or `read_torch`.
    Raises:
        InputError: as they do; or a file of neither kind, for which the line says what it is if that can be told.
    """
    head = _head(path)
    return read_safetensors(path) if head[8:9] == b"{" and _is_binary(head[:8]) else read_torch(path)


def read_safetensors(path: str | Path) -> dict[str, Tensor]:
    """Name -> tensor, of any type that safetensors knows.

    Raises:
        InputError: absent, cut short or damaged, or a header that claims more than the file has.
    """
    _head(path)
    size = os.path.getsize(path)
    try:
        with open(path, "rb") as stream:
            start = stream.read(8)
            length = int.from_bytes(start, "little")
            if len(start) < 8 or length > size - 8:
                found = f"{size:,}" if len(start) < 8 else f"a header that claims {length:,} of {size:,}"
                raise InputError(path, f"expected safetensors, found {found} bytes: no safetensors, or cut short")
            if length > _LONGEST_HEADER:
                raise InputError(path, f"expected a safetensors header, found one of {length:,} bytes")
            header = stream.read(length)
        _check_header(path, header, size - 8 - length)
        return load_file(path)
    except (OSError, SafetensorError, KeyError, RuntimeError, TypeError, ValueError) as error:
        raise InputError(path, f"expected safetensors, found damage ({pickles.brief(error)})") from None


def _check_header(path: str | Path, header: bytes, size: int) -> None:
    """Raise unless each tensor's shape has room in its bytes, and these in the file. The library checks the rest."""
    try:
        entries = json.loads(header)
    except (ValueError, RecursionError) as error:
        raise InputError(path, f"expected a safetensors header, found no JSON ({pickles.brief(error)})") from None
    try:
        entries.pop("__metadata__", None)
        for name, entry in entries.items():
            (start, end), shape = entry["data_offsets"], entry["shape"]
            if not 0 <= start <= end <= size:
                claim = f"bytes {start:,} to {end:,} of {size:,}"
            elif len(shape) > pickles.MOST_DIMENSIONS:
                claim = f"{len(shape):,} dimensions"
            elif (count := math.prod(shape)) > 2 * (end - start):  # the smallest numbers take four bits
                claim = f"{count:,} numbers in {end - start:,} bytes"
            else:
                continue
            found = f"a tensor '{pickles.brief(name)}' that claims {pickles.brief(claim)}"
            raise InputError(path, f"expected safetensors, found {found}")
    except (AttributeError, KeyError, TypeError, ValueError):
        raise InputError(path, "expected a safetensors header, found JSON that describes no tensors") from None


def read_torch(path: str | Path) -> Any:
    """What `torch.save` wrote, in the zip format or in that before PyTorch 1.6. No code in the file can run.

    Returns:
        Plain containers with tensors, as `pickles.read` says; tensors that shared memory share it. They are on the
        CPU, take no gradients, and are private copies of the file: writing to one does not change it.
    Raises:
        InputError: absent, cut short, damaged or of another kind; a global that could run code; numbers that claim
            more bytes than the file has; a TorchScript program.
    """
    head = _head(path)
    if head.startswith(_ZIP_START):
        read = _read_zip
    elif head.startswith(_PICKLE_START):
        read = _read_legacy
    else:
        raise InputError(path, f"expected weights (safetensors or PyTorch), found {_other_kind(path, head)}")
    with _one_line_errors(path), open(path, "rb") as stream:
        return read(stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_COPY))


@contextlib.contextmanager
def _one_line_errors(path: str | Path) -> Iterator[None]:
    try:
        yield
    except Problem as problem:
        raise InputError(path, str(problem)) from problem
    except OSError as error:
        raise InputError(path, f"expected a readable file, found: {error.strerror or error}") from error
    except _DAMAGE as error:
        message = f"expected an intact file of PyTorch, found damage ({pickles.brief(error)}): it may be cut short"
        raise InputError(path, message) from error


def _head(path: str | Path) -> bytes:
    """The first bytes of a regular file: anything else might wait for ever or never end."""
    path = Path(path)
    try:
        if not path.is_file():
            raise InputError(path, f"expected a file, found {'something else' if path.exists() else 'none'}")
        with open(path, "rb") as stream:
            return stream.read(_HEAD)
    except (OSError, ValueError) as error:
        raise InputError(path, f"expected a readable file, found: {pickles.brief(error)}") from error


def _is_binary(length: bytes) -> bool:
    """Whether eight bytes may be the length of a header, true or false, and are no text."""
    return not length.isascii() or min(length) < ord("\t")


def _other_kind(path: str | Path, head: bytes) -> str:
    text = head.lstrip(b"\xef\xbb\xbf\t\r\n ").lower()
    if not head:
        return "an empty file"
    if head.startswith(b"version https://git-lfs.github.com/spec/"):
        return "a Git LFS pointer, not the file itself; run `git lfs pull`"
    if text.startswith((b"<!doctype", b"<html")):
        return "a web page, not the file itself; download it again"
    if head.startswith(b"\x89HDF\r\n\x1a\n"):
        return "an HDF5 file of TensorFlow or Keras; only PyTorch weights are read"
    with open(path, "rb") as stream:
        stream.seek(-min(len(_TABLE_END), os.path.getsize(path)), os.SEEK_END)
        is_table = stream.read() == _TABLE_END
    # The numbers beside the index have no mark of their own.
    if is_table or ".ckpt.data-" in Path(path).name:
        return "a TensorFlow checkpoint; only PyTorch weights are read"
    return "something else"


class _Mapped:
    """The storages of a mapped file, each at its place: shared where the file shares them."""

    def __init__(self, mapped: mmap.mmap):
        self.mapped, self.size = mapped, len(mapped)
        self._made: dict[str, Tensor] = {}

    def bytes_of(self, key: str, start: int, length: int) -> Tensor:
        """The storage of that name, unsigned bytes; copied if it lies where its numbers cannot be read in place."""
        if key not in self._made:
            made = torch.empty(0, dtype=torch.uint8)
            if length:
                made = torch.frombuffer(self.mapped, dtype=torch.uint8, count=length, offset=start)
            self._made[key] = made.clone() if start % _ALIGNMENT else made
        return self._made[key]


def _check_claim(key: str, claimed: int, there: int) -> None:
    if claimed > there:
        raise Problem(f"one that claims {claimed:,} bytes and has {there:,}", f"storage '{pickles.brief(key)}' whole")


def _read_zip(stream: io.BufferedReader, mapped: mmap.mmap) -> Any:
    file = _Mapped(mapped)
    with zipfile.ZipFile(stream) as archive:
        records = {record.filename: record for record in archive.infolist()}
        if len(records) < len(archive.infolist()):
            raise Problem("two records of one name", "what torch.save writes")
    roots = [name.removesuffix("data.pkl") for name in records if name.endswith("/data.pkl") and name.count("/") == 1]
    if len(roots) != 1:
        raise Problem("a zip archive of other files", "what torch.save writes")
    root = roots[0]
    if f"{root}constants.pkl" in records:
        raise Problem("a TorchScript program", "weights")
    _check_records(records.values(), file.size)

    def content(name: str) -> bytes:
        start, length = _span(records[name], mapped)
        return mapped[start : start + length]

    order = content(f"{root}byteorder").decode("latin-1") if f"{root}byteorder" in records else "little"
    if order != sys.byteorder:
        raise Problem(pickles.brief(order), f"numbers with the {sys.byteorder} end first")
    spans: dict[str, tuple[int, int]] = {}

    def storage(key: str, dtype: torch.dtype, count: int) -> Tensor:
        record = records.get(f"{root}data/{key}")
        claimed = count * dtype.itemsize
        _check_claim(key, claimed, record.file_size if record else 0)
        if record is None:
            return torch.empty(0, dtype=dtype)
        if key not in spans:
            spans[key] = _span(record, mapped)
        return file.bytes_of(key, *spans[key])[:claimed].view(dtype)

    return pickles.read(io.BytesIO(content(f"{root}data.pkl")), storage)


def _check_records(records: Collection[zipfile.ZipInfo], size: int) -> None:
    """Raise unless each record is stored as it is, and all have room in the file beside each other."""
    for record in records:
        if record.compress_type != zipfile.ZIP_STORED or record.flag_bits & 1:
            raise Problem("compressed or encrypted ones", "records as torch.save stores them")
    claimed = sum(max(record.file_size, record.compress_size) for record in records)
    if claimed > size:
        raise Problem(f"ones that claim {claimed:,} bytes", f"records within the file's {size:,} bytes")


def _span(record: zipfile.ZipInfo, mapped: mmap.mmap) -> tuple[int, int]:
    """Where the bytes of a record start, and how many they are; they are those of its check sum."""
    signature, name, extra = _LOCAL_HEADER.unpack_from(mapped, record.header_offset)
    named = record.header_offset + _LOCAL_HEADER.size
    start = named + name + extra
    if signature != _ZIP_START or mapped[named : named + name] != record.orig_filename.encode("utf-8"):
        raise Problem("another header than its directory says", f"the record '{pickles.brief(record.filename)}'")
    _check_claim(record.filename, start + record.file_size, len(mapped))
    # torch.save can be told to leave check sums out, and then writes 0.
    if record.CRC and zlib.crc32(memoryview(mapped)[start : start + record.file_size]) != record.CRC:
        raise Problem("damage: the check sum differs", f"the record '{pickles.brief(record.filename)}' intact")
    return start, record.file_size


def _read_legacy(_: io.BufferedReader, mapped: mmap.mmap) -> Any:
    """Five pickles (a magic number, a version, the machine, the object, the keys of its storages), then the storages.

    The object is read twice, since how long each storage is can only be known from the object itself: at first its
    tensors have no memory.
    """
    file = _Mapped(mapped)
    magic = pickles.read(mapped, _no_storage)
    if magic != _MAGIC:
        raise Problem("a pickle of something else", "what torch.save writes")
    version, machine = pickles.read(mapped, _no_storage), pickles.read(mapped, _no_storage)
    if version != _PROTOCOL or not isinstance(machine, dict) or machine.get("little_endian") is not True:
        raise Problem("another version or byte order", "what torch.save writes")

    types: dict[str, torch.dtype] = {}

    def without_memory(key: str, dtype: torch.dtype, count: int) -> Tensor:
        _check_claim(key, count * dtype.itemsize, file.size)
        if types.setdefault(key, dtype) != dtype:
            raise Problem("two", f"one type of number in storage '{pickles.brief(key)}'")
        return torch.empty(count, dtype=dtype, device="meta")

    beginning = mapped.tell()
    pickles.read(mapped, without_memory)
    keys = pickles.read(mapped, _no_storage)
    if not isinstance(keys, list) or not all(isinstance(key, str) and key in types for key in keys):
        raise Problem("others", "the keys of its storages")
    spans: dict[str, tuple[int, int]] = {}
    position = mapped.tell()
    for key in keys:
        count = int.from_bytes(mapped[position : position + 8], "little")
        spans[key] = position + 8, count * types[key].itemsize
        _check_claim(key, sum(spans[key]), file.size)
        position = sum(spans[key])

    def storage(key: str, dtype: torch.dtype, count: int) -> Tensor:
        claimed = count * dtype.itemsize
        start, length = spans.get(key, (0, 0))
        _check_claim(key, claimed, length)
        return file.bytes_of(key, start, length)[:claimed].view(dtype)

    mapped.seek(beginning)
    return pickles.read(mapped, storage)


def _no_storage(key: str, dtype: torch.dtype, count: int) -> Tensor:
    raise Problem("a tensor before its time", "what torch.save writes")
