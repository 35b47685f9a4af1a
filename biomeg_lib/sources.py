"""Where data comes from: a source's name in, a verified local file out.

A name of the catalogue is looked for in four places, in this order: the folder in `BIOMEG_DATA`, `../shared/data`
beside a checkout, the cache (`BIOMEG_CACHE`), the network (or the mirror in `BIOMEG_MIRROR`; never with
`BIOMEG_OFFLINE=1`). What is returned is verified, whichever place it came from, and a failed download leaves nothing
behind. Notable:

- Where the owner publishes a checksum beside the file (MD5, by PubMed), it is fetched and held to. Where none can be
  known, the SHA-256 of the first download goes into `checksums.json` in the cache and binds every later one.
- What has no public address as packed (`general`, `pmc-sample`) has a public stand-in, used and said when it is absent.
"""

import json
import logging
import os
import re
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO
from urllib.parse import quote

import requests
import urllib3

from biomeg_lib.catalogue import FAMILIES, REGISTERED, SOURCES, STAND_INS, Source, find, public_address
from biomeg_lib.checksums import difference, git_blob, mismatch, parse_md5, sha256_of
from biomeg_lib.errors import BiomegError, InputError
from biomeg_lib.files import write_json

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # in a notebook tqdm advises ipywidgets, and reports would have it, too
    import pooch

__all__ = [
    "SOURCES",
    "NotThere",
    "Row",
    "Source",
    "cache_folder",
    "describe",
    "fetch",
    "find",
    "list_sources",
    "locate",
    "locate_all",
    "locate_source",
]

TIMEOUT = 30  # seconds without an answer
CHECKSUM_TEXT_LIMIT = 1 << 20  # bytes; a checksum file has about 60, an article's metadata some thousand
_IDENTITY = {"Accept-Encoding": "identity"}  # the file itself, not a server's compressed form of it
CHECKOUT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True, slots=True)
class Row:
    """One line of `biomeg fetch --list`; `where` is "local", "cache", "not here" or, for a pattern, "by name"."""

    name: str
    bytes: int | None
    licence: str
    where: str
    url: str


@dataclass(frozen=True, slots=True)
class _Found:
    source: Source
    path: Path
    place: str


class NotThere(BiomegError):
    """The server does not have the file."""


def locate(name: str, quiet: bool = False) -> Path:
    """A source as a verified local file, downloaded if need be.

    Args:
        name: as `find` takes it, of one file. `general` may turn out to be its stand-in: see `describe`.
        quiet: no progress bar and no lines on stderr.

    Raises:
        BiomegError: unknown name, a set of files, wrong checksum, or not to be had; one line that says what to do.
    """
    sources = find(name)
    if len(sources) > 1:
        raise BiomegError(f"{name}: expected the name of one file, found a set of {len(sources)}, as {sources[0].name}")
    return _resolve(name, quiet)[0][0].path


def locate_source(source: Source, quiet: bool = False) -> Path:
    """A file that is in no table of data, one of a published checkpoint for instance, as `locate` gives one."""
    return (_present(source, quiet) or _download(source, quiet)).path


def cache_folder() -> Path:
    """Where downloads are kept; nobody has made it yet, perhaps."""
    return _cache()


def locate_all(name: str, quiet: bool = False) -> list[Path]:
    """All files that a name stands for, in the order of their names, as `locate` gives one."""
    return [found.path for found in _resolve(name, quiet)[0]]


def fetch(name: str) -> list[Path]:
    """What `biomeg fetch NAME` does: make sure that all files of a name are here and verified."""
    return locate_all(name)


def describe(name: str) -> dict:
    """Where the files of a name come from, for a run's provenance; fetches them if they are not here.

    Returns:
        {name, format, files: [{name, path, sha256, from, url}], note}: `format` is what `read_documents` takes ("" for
        files that are not a corpus); `path` is relative to the data folder or cache, so that it is the same on every
        machine; `from` is "local", "cache" or "download"; `note` says what a reader should know, such as a stand-in.
    """
    found, notes = _resolve(name, quiet=False)
    files = [
        {
            "name": item.source.name,
            "path": item.source.path,
            "sha256": sha256_of(item.path),
            "from": item.place,
            "url": public_address(item.source.url) if item.source.url else "",
        }
        for item in found
    ]
    if any(not (s := item.source).pinned and not s.md5_url and item.place != "local" for item in found):
        notes = [*notes, "no checksum is published: held to the SHA-256 of the first download"]
    shown = public_address(name) if "://" in name else name
    return {"name": shown, "format": found[0].source.format, "files": files, "note": "; ".join(notes)}


def list_sources() -> list[Row]:
    """What `biomeg fetch --list` shows: every name and where it is now (by presence, nothing is read), families last.

    What is packed only here is shown with the address of its stand-in.
    """
    rows = [Row(s.name, s.bytes, s.licence, _where(s), s.url) for s in (*SOURCES.values(), *REGISTERED.values())]
    for name, stand_in in STAND_INS.items():
        members = find(name)
        places = {_where(source) for source in members}
        place = places.pop() if len(places) == 1 else "not here"
        size = sum(source.bytes or 0 for source in members)
        rows = [row for row in rows if row.name != name]
        rows.append(Row(name, size, members[0].licence, place, SOURCES[stand_in].url))
    rows.sort(key=lambda row: row.name)
    families = [Row(name, None, family.licence, "by name", f"{family.folder}/") for name, family in FAMILIES.items()]
    return rows + families


def _where(source: Source) -> str:
    if any((folder / source.path).is_file() for folder in _local_folders()):
        return "local"
    return "cache" if (_cache() / source.path).is_file() else "not here"


def _resolve(name: str, quiet: bool) -> tuple[list[_Found], list[str]]:
    sources = find(name)
    present = [_present(source, quiet) for source in sources]
    stand_in = STAND_INS.get(name)
    if stand_in and None in present:
        if _mirror():  # a mirror may hold the packed form, which has no public address
            try:
                return [item or _download(s, quiet) for item, s in zip(present, sources, strict=True)], []
            except NotThere:
                pass
        source = SOURCES[stand_in]
        note = f"{stand_in} is used for {name}, whose packed form is not here ({source.what})"
        _say(note, quiet)
        try:
            return [_present(source, quiet) or _download(source, quiet)], [note]
        except BiomegError as error:
            raise BiomegError(f"{name}: {error}") from None
    return [item or _download(s, quiet) for item, s in zip(present, sources, strict=True)], []


def _present(source: Source, quiet: bool) -> _Found | None:
    """The source in a local folder or the cache; one that is wrong is an error there and absent here."""
    for folder in _local_folders():
        path = folder / source.path
        if path.is_file():
            beside = path.with_name(path.name + ".md5")
            problem = mismatch(source, path)
            if source.md5_url and beside.is_file():
                expected = parse_md5(beside.read_text(encoding="utf-8", errors="replace"), path.name, str(beside))
                problem = difference("MD5", expected, pooch.file_hash(str(path), alg="md5"))
            if problem:
                raise InputError(path, f"{problem} (source {source.name}); replace the file or take it away")
            return _Found(source, path, "local")
    path = _cache() / source.path
    if not path.is_file():
        return None
    problem = mismatch(source, path)
    if not source.pinned:
        if entry := _records().get(source.path):
            problem = difference("SHA-256", entry["sha256"], sha256_of(path))
        else:
            _record(source, path, quiet)
    if problem:
        _say(f"{source.name}: the copy in the cache is damaged: {problem}", quiet)
        return None
    return _Found(source, path, "download" if path in _downloaded else "cache")


def _download(source: Source, quiet: bool) -> _Found:
    url, md5_url = source.url, source.md5_url
    if _mirror() and not source.path.startswith("urls/"):
        url = f"{_mirror()}/{quote(source.path)}"
        md5_url = f"{url}.md5" if md5_url else ""
    place = f"{os.environ.get('BIOMEG_DATA') or 'BIOMEG_DATA'}/{source.path}"
    if not url:
        sets = [name for name in STAND_INS if source.name.startswith(f"{name}-")]
        other = f"; the set {sets[0]} has a public form" if sets else f" ({source.hint})" if source.hint else ""
        raise BiomegError(f"{source.name}: has no public address: put the file at {place}{other}")
    if os.environ.get("BIOMEG_OFFLINE", "0") not in ("", "0"):
        raise BiomegError(f"{source.name}: not here, and BIOMEG_OFFLINE is set: unset it, or put the file at {place}")
    shown, advice = public_address(url), "; ".join(filter(None, [source.hint, f"a copy of your own goes to {place}"]))

    recorded = _records().get(source.path, {}).get("sha256", "")
    known = f"sha256:{source.sha256}" if source.sha256 else None
    authority = " as pinned" if source.pinned else ""
    if md5_url:
        known, authority = f"md5:{_owners_md5(source, md5_url, advice)}", f" by {public_address(md5_url)}"
    elif recorded and not source.pinned:
        known = f"sha256:{recorded}"
        authority = f" at the first download ({_cache() / 'checksums.json'}: take its entry away to accept a new file)"

    show_bar = not quiet and sys.stderr.isatty()
    http = pooch.HTTPDownloader(progressbar=show_bar, timeout=TIMEOUT, headers=_IDENTITY)

    def download(url: str, output: str, registry: pooch.Pooch) -> None:
        with open(output, "wb") as file:
            http(url, file if source.bytes is None else _Bounded(file, source.bytes), registry)
        if source.git_blob and (found := git_blob(Path(output))) != source.git_blob:
            raise ValueError(f"expected git blob {source.git_blob} but got {found}.")
        # A log-in page sent in place of a file must not become the checksum that later downloads are held to.
        if known is None:
            with open(output, "rb") as stream:
                start = stream.read(100)
            if source.path.endswith("gz") and start[:2] != b"\x1f\x8b":
                raise ValueError("expected gzip data but got something else.")
            if source.path.startswith("checkpoints/") and re.match(rb"\s*<(!doctype|html)", start, re.IGNORECASE):
                raise ValueError("expected a part of a checkpoint but got a web page.")

    _say(f"{source.name}: downloading {shown}", quiet)
    path = _cache() / source.path
    pooch.get_logger().setLevel(logging.WARNING)
    try:
        path.unlink(missing_ok=True)
        pooch.create(path=_cache(), base_url="", registry={source.path: known}, urls={source.path: url}).fetch(
            source.path, downloader=download
        )
    except requests.RequestException as error:
        raise _request_error(source, shown, error, advice) from None
    except ValueError as error:
        match = re.search(r"expected (.*) but got (.+?)\.( |$)", str(error))
        expected, got = match.groups()[:2] if match else (known, "another")
        raise BiomegError(
            f"{source.name}: {shown} is not the file wanted: expected {expected}{authority}, found {got}; {advice}"
        ) from None
    except OSError as error:
        raise BiomegError(
            f"{_cache()}: cannot write {source.path} ({error.strerror or error}): set BIOMEG_CACHE"
        ) from None
    _downloaded.add(path)
    if not source.pinned:
        if md5_url and recorded and recorded != sha256_of(path):
            _say(f"{source.name}: its owner has changed it since the last download; MD5 verified", quiet)
        _record(source, path, quiet or bool(md5_url))
    return _Found(source, path, "download")


class _Bounded:
    """A file to be written that takes no more bytes than there should be: a server may send without end."""

    def __init__(self, file: BinaryIO, size: int):
        self._file, self._size, self._left = file, size, size

    def write(self, data: bytes) -> None:
        self._left -= len(data)
        if self._left < 0:
            raise ValueError(f"expected {self._size:,} bytes but got more.")
        self._file.write(data)

    def flush(self) -> None:
        self._file.flush()


def _request_error(source: Source, shown: str, error: Exception, advice: str) -> BiomegError:
    if isinstance(error, requests.HTTPError) and error.response is not None:
        status = f"{error.response.status_code} {error.response.reason}"
        kind = NotThere if error.response.status_code in (404, 410) else BiomegError
        return kind(f"{source.name}: {shown} answered {status}, expected the file; {advice}")
    return BiomegError(
        f"{source.name}: the connection to {shown} failed or broke off ({type(error).__name__}), "
        f"expected the whole file; try again; {advice}"
    )


def _owners_md5(source: Source, url: str, advice: str) -> str:
    try:
        with requests.get(url, timeout=TIMEOUT, stream=True, headers=_IDENTITY) as response:
            response.raise_for_status()
            text = b""
            # Never unzipped, which could make a thousand times as much of it.
            for part in response.raw.stream(1 << 16, decode_content=False):
                text += part
                if len(text) > CHECKSUM_TEXT_LIMIT:
                    raise InputError(public_address(url), f"expected at most {CHECKSUM_TEXT_LIMIT:,} bytes, found more")
    except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
        raise _request_error(source, public_address(url), error, advice) from None
    return parse_md5(text.decode("utf-8", errors="replace"), Path(source.path).name, public_address(url))


_downloaded: set[Path] = set()
_said: set[str] = set()


def _records() -> dict[str, dict]:
    """The checksums of first downloads, by the source's path."""
    path = _cache() / "checksums.json"
    if not path.is_file():
        return {}
    try:
        records = json.loads(path.read_text(encoding="utf-8"))
        if all(re.fullmatch("[0-9a-f]{64}", entry["sha256"]) for entry in records.values()):
            return records
    except (ValueError, AttributeError, TypeError, KeyError):
        pass
    raise InputError(path, 'expected {"path": {"sha256": 64 hexadecimal digits}}; mend it or take it away')


def _record(source: Source, path: Path, quiet: bool) -> None:
    # Two processes may write at once: an entry that is lost is made again, from the same file, at its next use.
    entry = {"sha256": sha256_of(path), "bytes": path.stat().st_size, "url": public_address(source.url)}
    write_json(_cache() / "checksums.json", {**_records(), source.path: entry})
    _say(f"{source.name}: no checksum is published; its SHA-256 {entry['sha256']} is held to from now on", quiet)


def _say(line: str, quiet: bool) -> None:
    if not quiet and line not in _said:
        _said.add(line)
        print(f"biomeg: {line}", file=sys.stderr)


def _local_folders() -> list[Path]:
    folders = []
    if given := os.environ.get("BIOMEG_DATA"):
        if not Path(given).is_dir():
            raise BiomegError(f"BIOMEG_DATA={given}: expected a folder; create it, or unset the variable")
        folders.append(Path(given))
    beside = CHECKOUT.parent / "shared" / "data"
    if (CHECKOUT / "pyproject.toml").is_file() and beside.is_dir():
        folders.append(beside)
    return folders


def _cache() -> Path:
    return Path(os.environ.get("BIOMEG_CACHE") or pooch.os_cache("biomeg"))


def _mirror() -> str:
    mirror = os.environ.get("BIOMEG_MIRROR", "").rstrip("/")
    if mirror and not re.match(r"https?://[^/]", mirror):
        raise BiomegError(f"BIOMEG_MIRROR={mirror}: expected an address like https://host/folder")
    return mirror
