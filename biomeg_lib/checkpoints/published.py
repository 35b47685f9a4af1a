"""The published checkpoints that the paper compares or that the study starts from, by name, and their download.

Two tables beside this module: `published.tsv`, a row a checkpoint, and `published_files.tsv`, a row a file. A file is a
`Source` with the path `checkpoints/NAME/FILE`, so it is looked for where data is, and held to its SHA-256 where one is
pinned, else to that of the first download.
"""

import contextlib
import csv
import os
import re
import shutil
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from biomeg_lib import sources
from biomeg_lib.catalogue import Source
from biomeg_lib.errors import BiomegError
from biomeg_lib.files import atomic_directory
from biomeg_lib.params import suggestion

_HUB_NAME = re.compile(r"(\w[\w.-]*)/(\w[\w.-]*?)(?:@(\w[\w.-]*))?", re.ASCII)
_HINT = "NVIDIA's may need an account there"


@dataclass(frozen=True, slots=True)
class Published:
    """One checkpoint.

    Attributes:
        name: what `biomeg import` and `init_from` take.
        title: with its authors.
        paper: the rows of the paper's tables that have it, as they are printed; empty if none has.
        format: "Hugging Face", "Megatron-LM" or "NeMo".
        size: of the download, rounded; empty where it is not known.
        licence: in short; names the owner to ask where it is not plain.
        vocabulary: how many pieces, and the case.
        notes: what a user should know; empty if nothing.
        files: all of them, each of which has its name in the folder as the last part of its path.
    """

    name: str
    title: str
    paper: str
    format: str
    size: str
    licence: str
    vocabulary: str
    notes: str
    files: tuple[Source, ...]


def rows() -> list[Published]:
    """All of them, as `biomeg import --list` shows them."""
    return list(_PUBLISHED.values())


def names() -> list[str]:
    """Of all of them."""
    return list(_PUBLISHED)


def find(name: str) -> Published:
    """The checkpoint of a name.

    Raises:
        BiomegError: nothing has that name; the message suggests the nearest one.
    """
    if name not in _PUBLISHED:
        raise BiomegError(f"unknown checkpoint {name!r}: {suggestion(name, _PUBLISHED)}")
    return _PUBLISHED[name]


def on_the_hub(name: str) -> bool:
    """Whether a name is one of Hugging Face's hub: OWNER/MODEL, or OWNER/MODEL@REVISION."""
    return _HUB_NAME.fullmatch(name) is not None


def fetch(name: str) -> Path:
    """A checkpoint's folder, with all its files under their own names, verified and downloaded if need be.

    Of a checkpoint that is a single archive, the file. Files that lie in different places are brought together in the
    cache by links.

    Args:
        name: of the table, or of Hugging Face's hub.

    Raises:
        BiomegError: unknown name, wrong checksum, or not to be had; one line that says what to do.
    """
    paths = _hub_files(name) if on_the_hub(name) else [sources.locate_source(source) for source in find(name).files]
    if len(paths) == 1:
        return paths[0]
    if len({path.parent for path in paths}) == 1:
        return paths[0].parent
    folder = sources.cache_folder() / "gathered" / name.replace("/", "--")
    with atomic_directory(folder) as new:
        for path in paths:
            _link(path.resolve(), new / path.name)
    return folder


def _hub_files(name: str) -> list[Path]:
    """What the hub has of a model: its config, weights in one of two formats, and its vocabulary, if there is one."""
    owner, model, revision = _HUB_NAME.fullmatch(name).groups()

    def source(file: str) -> Source:
        return Source(
            name=f"{name}/{file}",
            path=f"checkpoints/hub/{owner}/{model}/{revision or 'main'}/{file}",
            bytes=None,
            sha256="",
            url=f"https://huggingface.co/{owner}/{model}/resolve/{revision or 'main'}/{file}",
            licence=f"see owner: {owner}",
            what=f"{name} on Hugging Face's hub",
            hint="a path was not found of this name, either",
        )

    paths = [sources.locate_source(source("config.json"))]
    try:
        paths.append(sources.locate_source(source("model.safetensors")))
    except sources.NotThere:
        paths.append(sources.locate_source(source("pytorch_model.bin")))
    for file in ("vocab.txt", "tokenizer_config.json"):
        with contextlib.suppress(sources.NotThere):
            paths.append(sources.locate_source(source(file)))
    return paths


def _link(path: Path, link: Path) -> None:
    try:
        os.symlink(path, link)
    except OSError:  # a file system, or a user of Windows, without links
        shutil.copyfile(path, link)


def _read_tables() -> dict[str, Published]:
    files: dict[str, list[dict[str, str]]] = {}
    for row in _read_table("published_files.tsv"):
        files.setdefault(row["checkpoint"], []).append(row)
    return {
        row["name"]: Published(**row, files=tuple(_source(row, file) for file in files[row["name"]]))
        for row in _read_table("published.tsv")
    }


def _read_table(file: str) -> list[dict[str, str]]:
    text = resources.files("biomeg_lib").joinpath("checkpoints", file).read_text(encoding="utf-8")
    return list(csv.DictReader(text.splitlines(), delimiter="\t", quoting=csv.QUOTE_NONE))


def _source(checkpoint: dict[str, str], file: dict[str, str]) -> Source:
    name = f"{checkpoint['name']}/{file['file']}"
    return Source(
        name=name,
        path=f"checkpoints/{name}",
        bytes=int(file["bytes"]) if file["bytes"] else None,
        sha256=file["sha256"],
        url=file["url"],
        licence=checkpoint["licence"],
        what=checkpoint["title"],
        hint=_HINT if "nvidia.com/" in file["url"] else "",
    )


_PUBLISHED = _read_tables()
