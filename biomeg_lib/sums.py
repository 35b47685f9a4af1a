"""Sizes and checksums of what a study has made, so that a damaged file is named and never used.

Beside the files, in their folder, lies `sums.txt`: one line a version of a file, `CRC-32 bytes name`, the name relative
to the folder. CRC-32 is against damage by chance; nothing here is against a person.

What is notable: a line is written before its file appears, and a file is sound if any line fits it. So a kill between
the two never makes a sound file look damaged, and several processes can add to one list at once. A file without a line
is nobody's business.
"""

import contextlib
import os
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path

from biomeg_lib.errors import InputError

LEDGER = "sums.txt"
BLOCK = 1 << 20  # bytes
LONGEST = 16 << 20  # bytes of a list; thousands of files have some 100,000


class Summed:
    """A stream that counts and sums what is written through it.

    Args:
        stream: a binary stream.
    """

    def __init__(self, stream):
        self._stream, self.bytes, self.crc32 = stream, 0, 0

    def write(self, data) -> int:
        """Write bytes, as the stream does."""
        self.crc32 = zlib.crc32(data, self.crc32)
        self.bytes += memoryview(data).nbytes
        return self._stream.write(data)

    def flush(self) -> None:
        """As the stream does."""
        self._stream.flush()


def crc32(path: str | Path) -> int:
    """CRC-32 of a file's bytes."""
    checksum = 0
    with open(path, "rb") as stream:
        while data := stream.read(BLOCK):
            checksum = zlib.crc32(data, checksum)
    return checksum


def announce(path: Path, content: bytes | Path | Summed) -> None:
    """Add a line for the file that is about to appear at `path`.

    Args:
        content: its bytes, a file that has them, or the stream that they have gone through.
    """
    if isinstance(content, Path):
        size, checksum = content.stat().st_size, crc32(content)
    elif isinstance(content, Summed):
        size, checksum = content.bytes, content.crc32
    else:
        size, checksum = len(content), zlib.crc32(content)
    path.parent.mkdir(parents=True, exist_ok=True)
    ledger = path.parent / LEDGER
    if (size, checksum) not in _read(ledger).get(path.name, ()):
        handle = os.open(ledger, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
        try:
            # behind a line that a kill cut short
            os.write(handle, (_gap(ledger) + _line(checksum, size, path.name)).encode())
        finally:
            os.close(handle)


def seal(folder: Path, leave_out: Iterable[str] = ()) -> None:
    """Make the list of a folder anew, from all files that are in it now, those of folders within it too.

    Args:
        leave_out: names of files and folders that may change later.
    """
    names = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file() and path.name != LEDGER)
    kept = sorted(name.as_posix() for name in names if name.parts[0] not in {*leave_out})
    lines = [_line(crc32(folder / name), (folder / name).stat().st_size, name) for name in kept]
    temporary = folder / f".{LEDGER}.part"
    try:
        with open(temporary, "w", encoding="utf-8") as stream:
            stream.writelines(lines)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, folder / LEDGER)
    finally:
        with contextlib.suppress(FileNotFoundError):
            temporary.unlink()


def problem_of(path: Path) -> str | None:
    """What is wrong with a file, by the list in its folder: "expected 12 bytes, found 9"; None if nothing is known."""
    return _problem(path, _read(path.parent / LEDGER).get(path.name, ()))


def is_listed(path: Path) -> bool:
    """Whether a file has a line."""
    return path.name in _read(path.parent / LEDGER)


def problems_of(folder: Path, names: Iterable[str] | None = None) -> Iterator[tuple[Path, str]]:
    """The files of a folder that are damaged or gone, by its list, each with what is wrong.

    Args:
        names: only these, unless they have no line; all by default.
    """
    entries = _read(folder / LEDGER)
    for name in entries if names is None else names:
        if (problem := _problem(folder / name, entries.get(name, ()))) is not None:
            yield folder / name, problem


def check(path: Path) -> None:
    """Nothing, if a file is what was written.

    Raises:
        InputError: it is not; the line says what to do.
    """
    if (problem := problem_of(path)) is not None:
        raise InputError(path, f"{problem}: it is damaged; delete it, or its run's or stage's folder, to make it anew")


def check_folder(folder: Path, names: Iterable[str] | None = None) -> None:
    """Nothing, if the files of a folder are what was written; `names` as for `problems_of`.

    Raises:
        InputError: the first that is not.
    """
    for path, problem in problems_of(folder, names):
        raise InputError(path, f"{problem}: it is damaged; delete {folder} to make it anew")


def _line(checksum: int, size: int, name: str) -> str:
    return f"{checksum:08x} {size} {name}\n"


def _gap(ledger: Path) -> str:
    data = ledger.read_bytes()
    return "\n" if data and not data.endswith(b"\n") else ""


def _read(ledger: Path) -> dict[str, list[tuple[int, int]]]:
    """Name -> (bytes, CRC-32) of each of its versions. Lines that are none, or lead elsewhere, are left out."""
    entries: dict[str, list[tuple[int, int]]] = {}
    if not ledger.is_file() or ledger.stat().st_size > LONGEST:
        return entries
    text = ledger.read_text(encoding="utf-8", errors="replace")
    for line in text.splitlines():
        parts = line.split(" ", 2)
        if len(parts) == 3:
            with contextlib.suppress(ValueError):
                if _is_name(parts[2]):  # a list may come from elsewhere
                    entries.setdefault(parts[2], []).append((int(parts[1]), int(parts[0], 16)))
    return entries


def _is_name(text: str) -> bool:
    """Whether it is one of a file in this folder or within."""
    path = Path(text)
    long = len(os.fsencode(text)) > 1000 or any(len(os.fsencode(part)) > 255 for part in path.parts)
    return not (long or path.is_absolute() or ".." in path.parts or "\0" in text)


def _problem(path: Path, versions: Iterable[tuple[int, int]]) -> str | None:
    versions = list(versions)
    if not versions:
        return None
    size, checksum = versions[-1]
    if not path.is_file():
        return f"expected a file of {size:,} bytes, found none"
    found = path.stat().st_size
    if all(found != size for size, _ in versions):
        return f"expected {size:,} bytes, found {found:,}"
    found = crc32(path)
    if all(found != checksum for _, checksum in versions):
        return f"expected CRC-32 {checksum:08x}, found {found:08x}"
    return None
