"""Files that are complete or absent: whatever the library writes has a temporary name first and is then renamed."""

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from biomeg_lib.errors import InputError


@contextlib.contextmanager
def atomic_open(path: str | Path, mode: str = "w") -> Iterator[IO[Any]]:
    """Open `path` for writing so that it appears whole, when the block ends without an error, or not at all.

    Args:
        path: the file to write; its folder is made if it is not there.
        mode: "w" (UTF-8, line ends untouched) or "wb".
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
    try:
        text = {} if "b" in mode else {"encoding": "utf-8", "newline": ""}
        with os.fdopen(handle, mode, **text) as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        os.chmod(temporary, 0o644)  # mkstemp makes files that only their owner can read
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise


@contextlib.contextmanager
def atomic_directory(path: str | Path, scratch: Path | None = None) -> Iterator[Path]:
    """Fill a temporary folder that becomes `path` when the block ends without an error; an older `path` is replaced.

    Args:
        path: the folder to make.
        scratch: where the temporary one is, on the same file system; beside `path` by default.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".part", dir=scratch or path.parent))
    try:
        yield temporary
        os.chmod(temporary, 0o755)
        if path.exists():
            shutil.rmtree(path)
        os.replace(temporary, path)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def write_if_changed(path: str | Path, text: str) -> bool:
    """Write `text` unless the file holds it already, so that an unchanged product keeps its time stamp.

    Returns:
        Whether the file was written.
    """
    path = Path(path)
    if path.is_file() and path.read_bytes() == text.encode("utf-8"):
        return False
    with atomic_open(path) as stream:
        stream.write(text)
    return True


def write_json(path: str | Path, value: Any) -> None:
    """Write `value` as indented JSON, atomically. Not-a-number is refused: it is not JSON."""
    with atomic_open(path) as stream:
        json.dump(value, stream, indent=2, ensure_ascii=False, allow_nan=False)
        stream.write("\n")


def read_json(path: str | Path) -> Any:
    """A JSON file that an earlier stage wrote.

    Raises:
        InputError: absent or damaged.
    """
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(path, "expected this file, found none; run what makes it first") from None
    except ValueError as error:
        raise InputError(path, f"expected JSON, found {error}; delete its folder to make it anew") from None


def crc32(path: str | Path) -> int:
    """CRC-32 of a file's bytes, against damage by chance."""
    checksum = 0
    with open(path, "rb") as stream:
        while data := stream.read(1 << 20):
            checksum = zlib.crc32(data, checksum)
    return checksum


def sha256(path: str | Path) -> str:
    """Hexadecimal SHA-256 of a file's bytes."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
