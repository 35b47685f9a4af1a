"""Files that are complete or absent: whatever the library writes has a temporary name first and is then renamed.

Where several processes might make the same thing, one of them does, behind a lock that the system takes back when its
holder ends, however it ends.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from biomeg_lib import sums
from biomeg_lib.errors import InputError

UMASK = os.umask(0o077)
os.umask(UMASK)


def as_usual(path: str | Path) -> None:
    """The permissions that a new file or folder has here; `tempfile` makes such that only their owner can read."""
    os.chmod(path, (0o777 if os.path.isdir(path) else 0o666) & ~UMASK)


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
        as_usual(temporary)
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
        as_usual(temporary)
        if path.exists():
            shutil.rmtree(path)
        os.replace(temporary, path)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


@contextlib.contextmanager
def locked(path: str | Path, what: str, inherited: bool = False) -> Iterator[None]:
    """Hold the lock at `path`, and wait for it first if another process has it.

    Args:
        path: a file for nothing else; it stays.
        what: what it is about, for the line on stderr that says who is waited for.
        inherited: whether a program that takes this one's place holds it on.
    """
    path = Path(path)
    held = False
    while not held:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "a+", encoding="utf-8") as stream:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                stream.seek(0)
                holder = stream.read(100).strip() or "another process"
                print(f"biomeg: {what}: {holder} is at work on it; waiting", file=sys.stderr, flush=True)
                fcntl.flock(stream, fcntl.LOCK_EX)
            held = path.is_file() and os.path.samestat(os.fstat(stream.fileno()), path.stat())
            if held:  # else its folder was moved away by who had it
                _sign(stream)
                os.set_inheritable(stream.fileno(), inherited)
                yield


@contextlib.contextmanager
def locked_if_free(path: str | Path) -> Iterator[bool]:
    """Hold the lock at `path` as `locked` does, unless another process has it; gives whether it is held."""
    with open(path, "a+", encoding="utf-8") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            _sign(stream)
            yield True


def _sign(stream: IO[str]) -> None:
    stream.seek(0)
    stream.truncate()
    stream.write(f"process {os.getpid()} on {os.uname().nodename}\n")
    stream.flush()


def sweep(folder: Path, pattern: str = ".*.part") -> None:
    """Delete what processes that were killed have left half-written. Only for who holds the lock on it."""
    for left in folder.glob(pattern):
        if left.is_dir() and not left.is_symlink():
            shutil.rmtree(left, ignore_errors=True)
        else:
            left.unlink(missing_ok=True)


def write_if_changed(path: str | Path, text: str) -> bool:
    """Write a product, with its line in the list of `sums`, unless the file holds `text` already, so that an unchanged
    product keeps its time stamp.

    Returns:
        Whether the file was written.
    """
    path, data = Path(path), text.encode("utf-8")
    sums.announce(path, data)
    if path.is_file() and path.read_bytes() == data:
        return False
    with atomic_open(path) as stream:
        stream.write(text)
    return True


def write_json(path: str | Path, value: Any) -> None:
    """Write `value` as indented JSON, atomically. Not-a-number is refused: it is not JSON."""
    with atomic_open(path) as stream:
        stream.write(json_text(value))


def json_text(value: Any) -> str:
    """What `write_json` writes."""
    return json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def read_json(path: str | Path) -> Any:
    """A JSON file that an earlier stage wrote.

    Raises:
        InputError: absent or damaged.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(path, "expected this file, found none; run what makes it first")
    sums.check(path)
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise InputError(path, f"expected JSON, found {error}; delete its folder to make it anew") from None


def sha256(path: str | Path) -> str:
    """Hexadecimal SHA-256 of a file's bytes."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
