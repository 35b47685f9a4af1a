"""gzip and tar files whose bytes depend on their content alone: no time stamps, no owners, no file names."""

import contextlib
import gzip
import io
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

TIME = 946684800  # the first second of the year 2000, for formats that must have a time


@contextlib.contextmanager
def gzip_open(path: Path) -> Iterator[IO[bytes]]:
    """Write bytes to a .gz file."""
    with open(path, "wb") as raw, gzip.GzipFile("", "wb", compresslevel=6, fileobj=raw, mtime=0) as stream:
        yield stream


def write_tar_gz(path: Path, members: Iterator[tuple[str, str]]) -> None:
    """Write (name, text) members to a .tar.gz file."""
    with gzip_open(path) as stream, tarfile.open(fileobj=stream, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, text in members:
            data = text.encode("utf-8")
            info = tarfile.TarInfo(name)
            info.size, info.mtime, info.mode = len(data), TIME, 0o644
            archive.addfile(info, io.BytesIO(data))
