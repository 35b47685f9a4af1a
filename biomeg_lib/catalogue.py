"""The catalogue of data sources: names, pinned addresses, checksums, licences; no file or network is touched here.

`sources.tsv` beside this module is the table of the pinned files. Files that change every year are named by a pattern
(`FAMILIES`) with the year or date in it, so that nothing here goes stale. `sources.py` finds and fetches the files.
"""

import csv
import difflib
import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from urllib.parse import unquote, urlsplit

from biomeg_lib.errors import BiomegError


@dataclass(frozen=True, slots=True)
class Source:
    """One file.

    Attributes:
        name: what params files and the command line call it.
        path: where it stands inside the data folder, the cache and a mirror.
        bytes: its size, None where it is not pinned.
        sha256: hexadecimal, empty where it is not pinned.
        url: the public address, empty where there is none.
        licence: in short; names the owner to ask where it is not plain.
        what: one line for people.
        format: of a corpus, as `read_documents` takes it: "jats", "pubmed", "jsonl", "text"; empty for other files.
        git_blob: git's object id of the content, a pin where the file itself could not be hashed with SHA-256.
        md5_url: where the owner publishes the file's MD5, empty where nowhere.
        hint: what to do when the address does not have it.
    """

    name: str
    path: str
    bytes: int | None
    sha256: str
    url: str
    licence: str
    what: str
    format: str = ""
    git_blob: str = ""
    md5_url: str = ""
    hint: str = ""

    @property
    def pinned(self) -> bool:
        return bool(self.sha256 or self.git_blob)


def _read_table() -> dict[str, Source]:
    text = resources.files("biomeg_lib").joinpath("sources.tsv").read_text(encoding="utf-8")
    rows = csv.DictReader(text.splitlines(), delimiter="\t", quoting=csv.QUOTE_NONE)
    return {row["name"]: Source(**{**row, "bytes": int(row["bytes"]) if row["bytes"] else None}) for row in rows}


SOURCES = _read_table()


def _of_bioasq(name: str, file: str, what: str, hint: str) -> Source:
    place, licence = "participants-area.bioasq.org, datasets of task 7b", "BioASQ's terms, after registration"
    return Source(name, f"benchmarks/qa/bioasq-7b/{file}", None, "", "", licence, what, hint=f"{hint}: {place}")


# What owners give to those alone who register: users put it where `path` says, in the data folder or the cache.
REGISTERED = {
    source.name: source
    for source in (
        _of_bioasq("bioasq-7b-train", "training7b.json", "BioASQ 7b training questions", "its training set"),
        _of_bioasq("bioasq-7b-gold", "golden7b.json", "BioASQ 7b test answers", "its five golden files, joined"),
    )
}

# Used when the file or set on the left is in none of the local places.
STAND_INS = {"general": "wikitext-2", "pmc-sample": "evidence-inference"}


@dataclass(frozen=True, slots=True)
class Family:
    """Files whose names have a variable part.

    Attributes:
        pattern: of the name, with a group for each variable part.
        file: the groups -> the file's name.
        folder: of the public address.
        licence, what, format, hint: as of `Source`.
        md5_url: template over `folder`, `file` and `groups`.
    """

    pattern: str
    file: Callable[..., str]
    folder: str
    licence: str
    what: str
    format: str
    hint: str
    md5_url: str = ""

    def source(self, name: str, groups: tuple[str, ...]) -> Source:
        file = self.file(*groups)
        return Source(
            name=name,
            path=f"corpora/{name.split('/')[0]}/{Path(file).name}",
            bytes=None,
            sha256="",
            url=f"{self.folder}/{file}",
            licence=self.licence,
            what=self.what,
            format=self.format,
            md5_url=self.md5_url.format(folder=self.folder, file=file, groups=groups),
            hint=self.hint,
        )


# By how the name is written. PMC puts no checksum beside its packages, but one into each article's metadata.
FAMILIES = {
    "pubmed-baseline/YEAR/NUMBER": Family(
        pattern=r"pubmed-baseline/(20\d\d)/(\d{1,4})",
        file=lambda year, number: f"pubmed{year[2:]}n{int(number):04}.xml.gz",
        folder="https://ftp.ncbi.nlm.nih.gov/pubmed/baseline",
        licence="NLM terms; some abstracts under copyright, see owner: NLM",
        what="PubMed citations and abstracts, one file of the yearly baseline",
        format="pubmed",
        hint="the owner keeps only the present year's baseline",
        md5_url="{folder}/{file}.md5",
    ),
    "pubmed-updates/YEAR/NUMBER": Family(
        pattern=r"pubmed-updates/(20\d\d)/(\d{1,4})",
        file=lambda year, number: f"pubmed{year[2:]}n{int(number):04}.xml.gz",
        folder="https://ftp.ncbi.nlm.nih.gov/pubmed/updatefiles",
        licence="NLM terms; some abstracts under copyright, see owner: NLM",
        what="PubMed citations that are new, revised or deleted since the baseline, a file of some hours",
        format="pubmed",
        hint="they are numbered on from the present year's baseline, and gone when the next one appears",
        md5_url="{folder}/{file}.md5",
    ),
    "pmc-oa-comm/DATE/PART": Family(
        pattern=r"pmc-oa-comm/(20\d\d-\d\d-\d\d)/(\d{3})",
        file=lambda date, part: f"oa_comm_xml.PMC{part}xxxxxx.baseline.{date}.tar.gz",
        folder="https://ftp.ncbi.nlm.nih.gov/pub/pmc/deprecated/oa_bulk/oa_comm/xml",
        licence="each article's own, commercial use allowed, see owner: PMC",
        what="PMC open-access bulk package, commercial-use collection, JATS XML",
        format="jats",
        hint="the owner announced to remove its packages in August 2026, single articles are pmc-article/PMCID.VERSION",
    ),
    "pmc-article/PMCID.VERSION": Family(
        pattern=r"pmc-article/(PMC\d+\.\d+)",
        file=lambda version: f"{version}/{version}.xml",
        folder="https://pmc-oa-opendata.s3.amazonaws.com",
        licence="the article's own, see owner: PMC",
        what="one version of one PMC open-access article, JATS XML",
        format="jats",
        hint="the version follows the dot, as in PMC10358571.1",
        md5_url="{folder}/metadata/{groups[0]}.json",
    ),
}


def _own_address(url: str) -> Source:
    try:
        parts = urlsplit(url)
        host = parts.hostname
    except ValueError:
        host = None
    if not host:
        raise BiomegError(f"{url}: expected an address like https://host/folder/file.xml.gz")
    # The file's name is kept, since readers go by its ending; the rest of the address is in the folder's name.
    file = re.sub(r"[^\w.+-]", "_", unquote(parts.path.rsplit("/", 1)[-1])).lstrip(".")[-100:] or "file"
    folder = hashlib.sha256(url.encode()).hexdigest()[:16]
    path, what = f"urls/{folder}/{file}", "a file at an address of your own"
    return Source(public_address(url), path, None, "", url, "see owner", what)


def public_address(url: str) -> str:
    """An address for messages and reports: without what may be secret in it: user, password, query."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return f"{parts.scheme}://{host}{parts.path}"


def find(name: str) -> list[Source]:
    """The files that a name stands for: one, or several for a set ("pmc-sample", "bc5cdr-chem").

    Args:
        name: a name of `SOURCES` or `REGISTERED`, of a set, of a family ("pubmed-baseline/2026/0001", and for many
            files "pubmed-baseline/2026/0001-0040"), or an http(s) address of the user's own.

    Raises:
        BiomegError: nothing has that name; the message suggests close ones.
    """
    if source := SOURCES.get(name) or REGISTERED.get(name):
        return [source]
    if re.match(r"https?://", name):
        return [_own_address(name)]
    for family in FAMILIES.values():
        if match := re.fullmatch(family.pattern, name):
            return [family.source(name, match.groups())]
    if match := re.fullmatch(r"(pubmed-(?:baseline|updates)/20\d\d)/(\d{1,4})-(\d{1,4})", name):
        first, last = int(match[2]), int(match[3])
        if first <= last:
            return [source for number in range(first, last + 1) for source in find(f"{match[1]}/{number:04}")]
        raise BiomegError(f"{name}: expected the lower number first")
    member = re.compile(rf"{re.escape(name)}(/.+|-\d\d\d)")
    if members := [source for known, source in SOURCES.items() if member.fullmatch(known)]:
        return members
    known = [*SOURCES, *REGISTERED, *{re.split(r"/|-\d\d\d$", known)[0] for known in SOURCES}, *FAMILIES]
    close = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    advice = f"did you mean {', '.join(close)}?" if close else "`biomeg fetch --list` shows all names"
    raise BiomegError(f"unknown data source {name!r}: {advice}")
