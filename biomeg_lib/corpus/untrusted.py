"""Bytes, archive members and XML records out of files that nobody vouches for.

Everything streams, and every way in which such a file can be broken or hostile ends in a one-line `InputError` that
names the file and, in an archive, the member. Nothing is ever extracted to the disk. XML is parsed without network,
without loading a DTD and without libxml2's "huge" mode; a document type that declares entities is refused, since
neither PMC nor PubMed has any use for one and every known expansion attack starts there.
"""

import contextlib
import gzip
import io
import re
import tarfile
import threading
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from itertools import chain
from pathlib import Path, PurePosixPath
from typing import IO

from lxml import etree

from biomeg_lib.errors import InputError

CHUNK = 1 << 20
_BUFFER = 1 << 17  # bytes; most articles are smaller
_PARSED_WHOLE = 4 << 20  # bytes, which take some ten times as many as a tree
# Bytes of a tar header that extends another, how many of those a member may have, and how many values may hold for all.
_LONGEST_EXTENSION, _MOST_EXTENSIONS, _MOST_COMMON = 1 << 12, 2, 64
_LONG_NUMBER = re.compile(rb"\d{65}")
_TAR_BUFFER = 1 << 16  # how far tarfile reads ahead, and so how closely damage can be located
# The most bytes that one record (an article, a line) may take: real ones stay far below, and memory is bounded by it.
# The worst, `<a/><a/>...` or `{},{},...`, takes some 30 times as much when parsed: 1 GiB.
RECORD_LIMIT = 32 << 20
# The same of a JSON file that is parsed whole: the training set of SQuAD 2 has 40 MiB, and BioASQ's grows each year.
FILE_LIMIT = 128 << 20

# `collect_ids` must keep its default: lxml's way of switching it off makes libxml2 load external DTDs and entities.
_HARDENED = {
    "resolve_entities": False,
    "no_network": True,
    "load_dtd": False,
    "dtd_validation": False,
    "attribute_defaults": False,
    "huge_tree": False,
    "recover": False,
    "remove_comments": True,
    "remove_pis": True,
}


class _Parsers(threading.local):
    """A parser for each thread: made anew for each document, it would cost a tenth of the time of an article."""

    def __init__(self):
        self.whole = etree.XMLParser(**_HARDENED)


_PARSERS = _Parsers()


@contextlib.contextmanager
def _one_line_errors(name: str | Path) -> Iterator[None]:
    """Turn what reading, unzipping and un-tarring raise into an `InputError` about `name`."""
    try:
        yield
    except EOFError as error:
        raise InputError(name, "expected more data, found the end: the file is truncated, fetch it again") from error
    except (gzip.BadGzipFile, zlib.error) as error:
        raise InputError(name, f"expected intact gzip data, found an error: {error}") from error
    except (tarfile.TarError, ValueError, RecursionError) as error:  # tarfile lets the latter two out, too
        raise InputError(name, f"expected an intact tar archive, found an error: {error}") from error
    except OSError as error:
        raise InputError(name, f"expected a readable file, found: {error.strerror or error}") from error


class _CheckedStream(io.RawIOBase):
    """A binary stream whose reading errors are `InputError`s about one named file or member."""

    def __init__(self, stream: IO[bytes], name: str | Path):
        self._stream, self._name = stream, name

    def readable(self) -> bool:
        return True

    def readinto(self, buffer) -> int:
        with _one_line_errors(self._name):
            return self._stream.readinto(buffer)


@contextlib.contextmanager
def _open_unzipped(path: Path) -> Iterator[IO[bytes]]:
    zipped = path.suffix.lower() in (".gz", ".tgz")
    with contextlib.ExitStack() as stack:
        with _one_line_errors(path):
            stream = stack.enter_context(open(path, "rb", -1 if zipped else 0))
            if zipped:
                if not stream.peek(1):
                    raise EOFError  # the gzip module takes an empty file for empty data
                stream = stack.enter_context(gzip.GzipFile(fileobj=stream))
        yield stream


@contextlib.contextmanager
def open_bytes(path: Path) -> Iterator[io.BufferedReader]:
    """Open a file for streaming, unzipped where its name ends in .gz or .tgz.

    Raises:
        InputError: it cannot be read, or (then or while reading) is not intact gzip data.
    """
    with _open_unzipped(path) as stream:
        yield io.BufferedReader(_CheckedStream(stream, path), _BUFFER)


def read_whole(stream: IO[bytes], limit: int) -> bytes:
    """What is left of a stream, at most `limit` bytes; no room is made for more than there is."""
    parts, size = [], 0
    while size < limit and (part := stream.read(min(_BUFFER, limit - size))):
        parts.append(part)
        size += len(part)
    return b"".join(parts)


class _Again:
    """A stream whose last block is read once more."""

    def __init__(self, block: bytes, stream: IO[bytes]):
        self._block, self._stream, self.tell = block, stream, stream.tell

    def read(self, size: int) -> bytes:
        part, self._block = self._block[:size], self._block[size:]
        return part or self._stream.read(size)


class StrictHeader(tarfile.TarInfo):
    """A tar header that says so when it is damaged or absurd: tarfile takes a later one for the archive's end."""

    @classmethod
    def frombuf(cls, buf: bytes, encoding: str, errors: str) -> "StrictHeader":
        header = super().frombuf(buf, encoding, errors)
        extends = header.type not in (*tarfile.REGULAR_TYPES, tarfile.DIRTYPE)
        if header.size < 0 or (extends and header.size > _LONGEST_EXTENSION):
            raise tarfile.ReadError(f"a header of {header.size} bytes")  # long names, which tarfile reads whole
        return header

    @classmethod
    def fromtarfile(cls, tarfile_: tarfile.TarFile) -> "StrictHeader":
        extensions = getattr(tarfile_, "extensions", 0)  # this is called within itself for what a header extends
        if extensions > _MOST_EXTENSIONS or len(tarfile_.pax_headers) > _MOST_COMMON:
            raise tarfile.ReadError("too many extended headers")
        tarfile_.extensions = extensions + 1
        try:
            return super().fromtarfile(tarfile_)
        except tarfile.EOFHeaderError:  # a block of zeros, the proper end
            raise
        except tarfile.HeaderError as error:
            raise tarfile.ReadError(f"{error} at byte {tarfile_.offset}, it is truncated or damaged") from error
        finally:
            tarfile_.extensions = extensions

    def _proc_pax(self, tarfile_: tarfile.TarFile) -> tarfile.TarInfo:
        """Refuse long numbers, over which Python before 3.11.10 broods in quadratic time (CVE-2024-6232)."""
        stream = tarfile_.fileobj
        block = stream.read(self._block(self.size))
        if _LONG_NUMBER.search(block):
            raise tarfile.ReadError("a number of more than 64 digits in a header")
        tarfile_.fileobj = _Again(block, stream)
        try:
            return super()._proc_pax(tarfile_)
        finally:
            tarfile_.fileobj = stream


def archive_members(path: Path) -> Iterator[tuple[str, IO[bytes]]]:
    """The regular files of a .tar.gz or .tgz, in order, as (name, stream).

    A stream is valid until the next pair is asked for. What cannot be printed in a name is escaped.

    Raises:
        InputError: a truncated or damaged archive, or data after its end; a member with an absolute path or `..` in its
            path, or one that is a link or a device: no honest package has these. Damage is reported at the last member
            that was found before it.
    """
    where = f"{path}"
    with _open_unzipped(path) as stream, contextlib.ExitStack() as stack:
        with _one_line_errors(where):
            archive = stack.enter_context(
                tarfile.open(fileobj=stream, mode="r|", bufsize=_TAR_BUFFER, tarinfo=StrictHeader)
            )
        while True:
            with _one_line_errors(where):
                member = archive.next()
            if member is None:
                break
            archive.members.clear()  # tarfile keeps every header it has seen
            name = member.name if member.name.isprintable() else repr(member.name)[1:-1]
            where = f"{path}:{name}"
            parts = PurePosixPath(member.name.replace("\\", "/"))
            if parts.is_absolute() or ".." in parts.parts:
                raise InputError(where, "expected a relative member path without `..`, found one that leads elsewhere")
            if member.isdir():
                continue
            if not member.isreg():
                raise InputError(where, "expected files and folders only, found a link or a device in the archive")
            yield name, io.BufferedReader(_CheckedStream(archive.extractfile(member), where), _BUFFER)
        # To the very end, where gzip has its checksum. A second archive behind the first would go unread: refuse it.
        with _one_line_errors(where):
            while block := archive.fileobj.read(CHUNK):
                if block.strip(b"\0"):
                    raise InputError(path, "expected one tar archive, found more data after its end")


@contextlib.contextmanager
def _xml_errors(name: str, log: Callable[[], etree._ListErrorLog]) -> Iterator[None]:
    try:
        yield
    except etree.XMLSyntaxError as error:
        last = log().last_error
        message, line = (last.message, last.line) if last is not None else (error.msg, error.lineno)
        raise InputError(name, f"expected well-formed XML, found: {' '.join(message.split())}", line or None) from error


def local_name(element: etree._Element) -> str:
    """The name of an element without its namespace."""
    return element.tag.rpartition("}")[2]


def xml_document(data: bytes, name: str, roots: tuple[str, ...]) -> etree._Element:
    """Parse one XML document whole: twice as fast as `xml_records`, for what is small or holds one article.

    Args:
        data: the document.
        name: what errors call it (`archive.tar.gz:member` in an archive).
        roots: local names that its root may have.
    Returns:
        The root element.
    Raises:
        InputError: XML that is not well-formed or ends early, another root, an entity declaration, a named entity other
            than the five of XML, more than `RECORD_LIMIT` bytes.
    """
    _check_size(len(data), name)
    parser = _PARSERS.whole
    with _xml_errors(name, lambda: parser.error_log):
        root = etree.fromstring(data, parser)
    tree = root.getroottree()
    _check_root(tree, name, roots)
    if parser.error_log:  # an undeclared entity leaves a warning, so few documents need the walk
        _refuse_references(root, name)
    return root


def xml_records(
    stream: IO[bytes], name: str, tags: tuple[str, ...], roots: tuple[str, ...]
) -> Iterator[etree._Element]:
    """Parse XML, as it arrives unless it is small, and yield each element that has one of the `tags`, in any namespace.

    An element is valid until the next one is asked for.

    Args:
        stream: the bytes of one XML document.
        tags: local names of the record elements: the root, or children of the root.
        name, roots: as for `xml_document`.
    Raises:
        InputError: as `xml_document`, but the limit is for one record; a record that stands elsewhere.
    """
    wanted = [f"{{*}}{tag}" for tag in tags]
    start = read_whole(stream, _PARSED_WHOLE)
    if len(start) < _PARSED_WHOLE:
        records = list(xml_document(start, name, roots).iter(*wanted))
        for element in records:
            _check_place(element, name, tags)
        yield from records
        return
    parser = etree.XMLPullParser(("end",), tag=wanted, **_HARDENED)
    pending, checked = 0, False
    with _xml_errors(name, lambda: parser.feed_error_log):
        for chunk in chain((start,), iter(partial(stream.read, CHUNK), b"")):
            parser.feed(chunk)
            pending += len(chunk)
            for _, element in parser.read_events():
                pending = 0
                if not checked:
                    _check_root(element.getroottree(), name, roots)
                    checked = True
                _check_place(element, name, tags)
                _refuse_references(element, name)
                yield element
                _forget(element)
            _check_size(pending, name)
        root = parser.close()
    if not checked:
        _check_root(root.getroottree(), name, roots)


def _check_size(size: int, name: str) -> None:
    if size > RECORD_LIMIT:
        raise InputError(name, f"expected records of at most {RECORD_LIMIT >> 20} MiB, found a larger one")


def _check_root(tree: etree._ElementTree, name: str, roots: tuple[str, ...]) -> None:
    dtd = tree.docinfo.internalDTD
    if dtd is not None and any(True for _ in dtd.iterentities()):
        raise InputError(name, "expected XML without entity declarations, found <!ENTITY ...> in its document type")
    found = local_name(tree.getroot())
    if found not in roots:
        raise InputError(name, f"expected XML with the root <{'> or <'.join(roots)}>, found <{found}>")


def _check_place(element: etree._Element, name: str, tags: tuple[str, ...]) -> None:
    """Records deeper down could not be forgotten with what stands around them."""
    parent = element.getparent()
    if parent is not None and (parent.getparent() is not None or local_name(parent) in tags):
        message = f"expected <{local_name(element)}> right below the root only, found one in <{local_name(parent)}>"
        raise InputError(name, message, element.sourceline)


def _refuse_references(element: etree._Element, name: str) -> None:
    """Where a document names an external DTD, libxml2 lets undeclared entities pass; their text would be missing."""
    for entity in element.iter(etree.Entity):
        message = f"expected characters or references such as &#945;, found the named entity {entity.text}"
        raise InputError(name, message, entity.sourceline)


def _forget(element: etree._Element) -> None:
    """Free a record that has been used, and all that stands before it, which the root would keep."""
    element.clear()
    parent = element.getparent()
    while parent is not None and element.getprevious() is not None:
        del parent[0]


def bounded_lines(path: Path, stream: IO[bytes]) -> Iterator[tuple[int, bytes]]:
    """The lines of an open file, numbered from 1, with their ends.

    Raises:
        InputError: a line of more than `RECORD_LIMIT` bytes.
    """
    number = 0
    while line := stream.readline(RECORD_LIMIT + 1):
        number += 1
        if len(line) > RECORD_LIMIT:
            raise InputError(path, f"expected lines of at most {RECORD_LIMIT >> 20} MiB, found a longer one", number)
        yield number, line
