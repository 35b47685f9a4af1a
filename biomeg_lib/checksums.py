"""Whether a file is the one that a source of the catalogue pins, by its size and its owner's or our checksum."""

import hashlib
import re
from pathlib import Path

from biomeg_lib.catalogue import Source
from biomeg_lib.errors import InputError
from biomeg_lib.files import sha256

_hashes: dict[tuple[Path, int, int], str] = {}


def mismatch(source: Source, path: Path) -> str:
    """What is wrong with a file, against what is pinned; empty if nothing is."""
    size = path.stat().st_size
    if source.bytes is not None and size != source.bytes:
        return f"expected {source.bytes:,} bytes, found {size:,}"
    if source.sha256:
        return difference("SHA-256", source.sha256, sha256_of(path))
    return difference("git blob", source.git_blob, git_blob(path)) if source.git_blob else ""


def difference(kind: str, expected: str, found: str) -> str:
    """What to say of two checksums; empty if they are one."""
    return "" if expected == found else f"expected {kind} {expected}, found {found}"


def parse_md5(text: str, file: str, where: str) -> str:
    """The MD5 of `file` in its owner's text: `MD5(file)= hex`, `hex  file`, or a link `.../file?md5=hex` in JSON.

    Raises:
        InputError: there is none; `where` is what it is about.
    """
    name, digest = re.escape(file), r"([0-9a-fA-F]{32})\b"
    for pattern in (rf"MD5 ?\({name}\) ?= ?{digest}", rf"(?m)^{digest} [ *]{name}\s*$", rf"/{name}\?md5={digest}"):
        if match := re.search(pattern, text):
            return match[1].lower()
    raise InputError(where, f"expected a line MD5({file})= with 32 hexadecimal digits, found {text[:60].strip()!r}")


def sha256_of(path: Path) -> str:
    """SHA-256, computed once a process for a file that does not change."""
    status = path.stat()
    key = (path, status.st_size, status.st_mtime_ns)
    if key not in _hashes:
        _hashes[key] = sha256(path)
    return _hashes[key]


def git_blob(path: Path) -> str:
    """The id that git gives the content: SHA-1 of a header with the length, then the bytes."""
    digest = hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)
    with open(path, "rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
