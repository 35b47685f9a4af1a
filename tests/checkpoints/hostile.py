"""Builders of checkpoint files that no honest program writes, and what their tests share."""

import collections
import io
import json
import os
import pickle
import struct
import tarfile
import time
import tracemalloc
import warnings
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

from biomeg_lib.errors import InputError

FORMATS = pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])


class Runs:
    """Makes a file when it is unpickled by a reader that runs code."""

    def __init__(self, made: Path, call: Any = os.system):
        self.made, self.call = made, call

    def __reduce__(self):
        command = f"touch {self.made}" if self.call is os.system else f"open({str(self.made)!r}, 'w')"
        return self.call, (command,)


class Call:
    """Any call at all: pickled as `maker(*arguments)`."""

    def __init__(self, maker: Any, *arguments: Any):
        self.maker, self.arguments = maker, arguments

    def __reduce__(self):
        return self.maker, self.arguments


class Storage:
    """A storage that claims `count` numbers."""

    def __init__(self, key: str, count: int, kind: type = torch.FloatStorage, *view: Any):
        self.identity = ("storage", kind, key, "cpu", count, *view)


def claimed(storage: Storage, size: tuple, stride: tuple, offset: int = 0, *flags: Any) -> Call:
    """A tensor that claims that shape."""
    arguments = (storage, offset, size, stride, False, collections.OrderedDict(), *flags)
    return Call(torch._utils._rebuild_tensor_v2, *arguments)


class _Pickler(pickle.Pickler):
    def persistent_id(self, value):
        return value.identity if isinstance(value, Storage) else None


def pickled(value: Any, protocol: int = 2) -> bytes:
    stream = io.BytesIO()
    _Pickler(stream, protocol).dump(value)
    return stream.getvalue()


def torch_zip(path: Path, data: bytes, storages: dict[str, bytes] | None = None, **fields: Any) -> Path:
    """torch.save's zip format around that pickle; `fields` are set in every record."""
    records = {"data.pkl": data, "byteorder": b"little", "version": b"3\n"}
    records |= {f"data/{key}": value for key, value in (storages or {}).items()}
    return zipped(path, *((member(f"made/{name}", **fields), value) for name, value in records.items()))


def torch_legacy(path: Path, data: bytes, storages: dict[str, tuple[int, bytes]] | None = None) -> Path:
    """torch.save's older format around that pickle; a storage is the number of numbers it claims, and its bytes."""
    storages = storages or {}
    machine = {"protocol_version": 1001, "little_endian": True, "type_sizes": {"short": 2, "int": 4, "long": 4}}
    parts = [pickled(0x1950A86A20F9469CFC6C), pickled(1001), pickled(machine), data, pickled(list(storages))]
    parts += [struct.pack("<q", count) + value for count, value in storages.values()]
    path.write_bytes(b"".join(parts))
    return path


def safetensors(path: Path, header: Any, data: bytes = b"", length: int | None = None) -> Path:
    """A safetensors file with that header, JSON unless it is bytes, which claims that `length`."""
    header = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(header) if length is None else length) + header + data)
    return path


def entry(shape: list[int], start: int, end: int, dtype: str = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}


def member(name: str, **fields: Any) -> zipfile.ZipInfo:
    made = zipfile.ZipInfo(name)
    for key, value in fields.items():
        setattr(made, key, value)
    return made


def zipped(path: Path, *members: tuple[zipfile.ZipInfo | str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about names that stand twice
        for made, data in members:
            archive.writestr(made, data)
    return path


def tarred(path: Path, *members: tuple[str, bytes | None], mode: str = "w", **fields: Any) -> Path:
    """A tar archive; a member without data is what `fields` make of it."""
    with tarfile.open(path, mode) as archive:
        for name, data in members:
            header = tarfile.TarInfo(name)
            if data is None:
                for key, value in fields.items():
                    setattr(header, key, value)
                archive.addfile(header)
            else:
                header.size = len(data)
                archive.addfile(header, io.BytesIO(data))
    return path


def save(value, path, zipped=True, **options):
    torch.save(value, path, _use_new_zipfile_serialization=zipped, **options)
    return path


def failure(read, path) -> str:
    """The one line about a file; it must come fast and take no memory."""
    tracemalloc.start()
    began = time.monotonic()
    with pytest.raises(InputError) as caught:
        read(path)
    assert tracemalloc.get_traced_memory()[1] < 64 << 20
    tracemalloc.stop()
    assert time.monotonic() - began < 30
    message = str(caught.value)
    assert message.startswith(f"{path}: expected ")
    assert message.isprintable()
    assert len(message) < len(str(path)) + 300
    return message.removeprefix(f"{path}: ")


def same(one, other) -> bool:
    if isinstance(one, torch.Tensor):
        same_kind = one.dtype == other.dtype and one.shape == other.shape and one.stride() == other.stride()
        return same_kind and bytes(one.contiguous().view(-1).view(torch.uint8).numpy()) == bytes(
            other.contiguous().view(-1).view(torch.uint8).numpy()
        )
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return type(one) is type(other) and one == other
