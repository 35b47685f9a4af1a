"""Archives of checkpoints, unpacked where they can do no harm: zip (Megatron's as NVIDIA ships them, wheels), tar and
tar.gz (NeMo's `.nemo`).

The members go into a temporary folder and nowhere else: files and folders with plain relative names, each once. What an
archive claims is believed nowhere: bytes are counted as they come out, and an archive that grows beyond reason, or
beyond the free disk, is refused. Every way in which one can be broken or hostile ends in a one-line `InputError` that
names the member.
"""

import contextlib
import gzip
import re
import shutil
import stat
import struct
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO

from biomeg_lib.corpus.untrusted import StrictHeader
from biomeg_lib.errors import InputError

_ZIP_START, _GZIP_START = b"PK\x03\x04", b"\x1f\x8b"
_BLOCK = tarfile.BLOCKSIZE
_CHUNK = 1 << 20
_MOST_MEMBERS = 10_000
_MOST_PARTS = 16  # of a name: the folders that it is in, and its own
_MOST_GROWTH = 100  # times the archive's size: weights shrink by a tenth, text to a third
_ALLOWANCE = 64 << 20  # bytes that any archive may grow to: a small one of zeros shrinks to a thousandth
_SPARE = 256 << 20  # bytes of the disk that stay free
_REGULAR = (0, stat.S_IFREG, stat.S_IFDIR)  # types of zip members; 0 where they were made without Unix
_PLAIN = re.compile(r"[^\x00-\x1f\x7f\\:]+")  # no control characters, backslashes, drive letters or streams

_DIRECTORY_END = struct.Struct("<10xH10x")  # of a zip: the number of members, or
_MANY = 0xFFFF  # where that stands elsewhere
_LOCAL_HEADER = struct.Struct("<26xH2x")  # of a zip member: the length of its name


def is_archive(path: str | Path) -> bool:
    """Whether a file is an archive of files, by its content. The zip format of `torch.save` is none."""
    path = Path(path)
    if not path.is_file():
        return False
    try:
        with open(path, "rb") as stream:
            head = stream.read(_BLOCK)
        if head.startswith(_ZIP_START):
            return not _is_torch(path, head)
        if head.startswith(_GZIP_START):
            with gzip.open(path) as stream:
                head = stream.read(_BLOCK)
        tarfile.TarInfo.frombuf(head, "utf-8", "surrogateescape")
    except (tarfile.HeaderError, zlib.error, EOFError, OSError, ValueError):
        return False
    return True


def _is_torch(path: Path, head: bytes) -> bool:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except DAMAGE:  # it has been cut short: torch.save writes this record first
        if len(head) < _LOCAL_HEADER.size:
            return False
        names = [head[30 : 30 + _LOCAL_HEADER.unpack_from(head)[0]].decode("latin-1")]
    return any(name.endswith("/data.pkl") and name.count("/") == 1 for name in names)


@contextlib.contextmanager
def unpacked(path: str | Path) -> Iterator[Path]:
    """The members of a zip, tar or tar.gz in a temporary folder, which is removed when the block ends.

    Files get the default permissions, whatever the archive says.

    Raises:
        InputError: absent, cut short or damaged, or of another kind; a member whose name leads elsewhere or stands
            twice; a link, a device, a sparse file; more members, folders in each other or bytes than is reasonable or
            than the disk has room for. Nothing is left behind then.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(path, f"expected an archive, found {'something else' if path.exists() else 'none'}")
    with tempfile.TemporaryDirectory(prefix="biomeg-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        _unpack(path, folder)
        yield folder


def _unpack(path: Path, folder: Path) -> None:
    target = _Target(path, folder)
    try:
        with open(path, "rb") as stream:
            head = stream.read(len(_ZIP_START))
            stream.seek(0)
            if head.startswith(_ZIP_START):
                _unpack_zip(stream, target)
            elif head.startswith(_GZIP_START):
                with gzip.GzipFile(fileobj=stream) as unzipped:
                    _unpack_tar(unzipped, target)
            else:
                _unpack_tar(stream, target)
        if not target.files:
            raise InputError(path, "expected an archive with files in it, found none")
    except DAMAGE as error:
        raise InputError(
            target.where, f"expected an intact zip or tar archive, found damage: {_brief(error)}"
        ) from error
    except OSError as error:
        raise InputError(target.where, f"expected an archive to unpack, found: {_brief(error)}") from error


# What zipfile, tarfile, gzip and zlib raise about a damaged file; gzip's own is an OSError.
DAMAGE = (
    zipfile.BadZipFile,
    tarfile.TarError,
    gzip.BadGzipFile,
    zlib.error,
    struct.error,
    EOFError,
    LookupError,
    NotImplementedError,
    OverflowError,
    RecursionError,
    RuntimeError,
    ValueError,
)


def _brief(error: Exception) -> str:
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return ascii(" ".join(text.split())[:120] or type(error).__name__)[1:-1]


class _Target:
    """The folder that members go to, and what has gone there."""

    def __init__(self, path: Path, folder: Path):
        self.folder, self._path = folder, path
        self.files: set[PurePosixPath] = set()
        self._folders = {PurePosixPath()}
        self._members = self._bytes = 0
        self._most = _ALLOWANCE + _MOST_GROWTH * path.stat().st_size
        self._room = shutil.disk_usage(folder).free - _SPARE
        self.where = str(path)  # what errors are about

    def enter(self, name: str) -> Path:
        """Where a member of that name may go. Errors from here on are about it."""
        self.where = f"{self._path}:{ascii(name)[1:-1]}"
        self._count(1)
        if not _PLAIN.fullmatch(name) or not name.isprintable():
            raise InputError(self.where, "expected a plain name, found one with backslashes, colons or worse")
        inner = PurePosixPath(name)
        if inner.is_absolute() or ".." in inner.parts:
            raise InputError(self.where, "expected a relative name without `..`, found one that leads elsewhere")
        if len(inner.parts) > _MOST_PARTS:
            raise InputError(self._path, f"expected at most {_MOST_PARTS} folders in each other, found more")
        return self.folder / inner

    def _count(self, members: int) -> None:
        self._members += members
        if self._members > _MOST_MEMBERS:
            raise InputError(self._path, f"expected at most {_MOST_MEMBERS:,} members, found more")

    def make_folder(self, place: Path) -> None:
        """Make a folder and those above it; each new one counts as a member, since a short name may need many."""
        inner = PurePosixPath(place.relative_to(self.folder))
        new = {inner, *inner.parents} - self._folders
        self._count(len(new))
        self._folders |= new
        place.mkdir(parents=True, exist_ok=True)

    def expect(self, size: int) -> None:
        """Count that many bytes more, and refuse them if they are too many."""
        self._bytes += size
        if self._bytes > self._most:
            found = f"expected an archive of at most {self._most:,} bytes inside, found more: a compression bomb"
            raise InputError(self.where, found)
        if self._bytes > self._room:
            raise InputError(self.where, f"expected to need at most the free {self._room:,} bytes of disk, found more")

    def write(self, place: Path, stream: IO[bytes], size: int) -> None:
        """Make a file of exactly `size` bytes."""
        inner = PurePosixPath(place.relative_to(self.folder))
        if inner in self.files:
            raise InputError(self.where, "expected each name once, found a second member of this one")
        self.files.add(inner)
        self.expect(size)
        self.make_folder(place.parent)
        written = 0
        with open(place, "xb") as file:
            while chunk := stream.read(min(_CHUNK, size + 1 - written)):  # one more than claimed, if there is one
                written += len(chunk)
                if written > size:
                    break
                file.write(chunk)
        if written != size:
            raise InputError(self.where, f"expected {size:,} bytes, found {'more' if written > size else written}")


def _unpack_zip(stream: IO[bytes], target: _Target) -> None:
    with zipfile.ZipFile(stream) as archive:
        members = archive.infolist()
        there = stream.seek(0, 2)
        if sum(member.compress_size for member in members) > there:  # also where members share their bytes
            raise InputError(target.where, f"expected members within the archive's {there:,} bytes, found larger ones")
        # A damaged length in the directory can hide the members behind it; only its end says how many there are.
        stream.seek(there - _DIRECTORY_END.size - len(archive.comment))
        (count,) = _DIRECTORY_END.unpack(stream.read(_DIRECTORY_END.size))
        if count not in (len(members), _MANY):
            raise InputError(target.where, f"expected {count:,} members, as its end says, found {len(members):,}")
        for member in members:
            place = target.enter(member.orig_filename)  # not `filename`, which ends before a NUL
            if stat.S_IFMT(member.external_attr >> 16) not in _REGULAR:
                raise InputError(target.where, "expected files and folders only, found a link or a device")
            if member.flag_bits & 1:
                raise InputError(target.where, "expected a member without a password, found an encrypted one")
            if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise InputError(target.where, f"expected no compression or deflate, found type {member.compress_type}")
            if member.is_dir():
                target.make_folder(place)
                continue
            with archive.open(member) as file:
                target.write(place, file, member.file_size)


def _unpack_tar(stream: IO[bytes], target: _Target) -> None:
    with tarfile.open(fileobj=stream, mode="r|", bufsize=_CHUNK, tarinfo=StrictHeader) as archive:
        while (member := archive.next()) is not None:
            archive.members.clear()  # tarfile keeps every header it has seen
            place = target.enter(member.name)
            if not (member.isreg() or member.isdir()) or member.issparse():
                raise InputError(
                    target.where, "expected files and folders only, found a link, a device or a sparse file"
                )
            tarfile.data_filter(member, str(target.folder))
            if member.isdir():
                target.make_folder(place)
            else:
                target.write(place, archive.extractfile(member), member.size)
        # To the very end, where gzip has its check sum. A second archive behind the first would go unread.
        while block := archive.fileobj.read(_CHUNK):
            target.expect(len(block))
            if block.strip(b"\0"):
                raise tarfile.ReadError("more data behind the archive's end")
