"""The embedded miniature: a small generated world, written as files in the formats of the real corpora and benchmarks.

The ordinary readers read these files, so a study without any data or network takes the same path as one on PubMed.
What is in them is invented (`world.py`, `general.py`): chemicals, diseases and genes with facts that hold in all texts,
and a general domain beside them. The files depend on nothing but this package's own sources, byte for byte.

`pubmed` and `pmc` name all entities but a few. In `ner` and `chemprot`, development and test sets name entities that
the training set does not; the "novel" ones are in test sets alone. An abstract's text, in which BioASQ's offsets
count, is `LABEL: text` of its sections with a blank between; a title ends in a full stop, as PubMed has it. `squad`,
`squad2`, `mrpc` and `ner/general` are about the general world.
"""

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
from pathlib import Path

from biomeg_lib.corpus.miniature import benchmarks, corpora, questions
from biomeg_lib.corpus.miniature.general import GeneralWorld
from biomeg_lib.corpus.miniature.world import World
from biomeg_lib.errors import BiomegError
from biomeg_lib.files import as_usual, sha256, write_json

PUBMED_FILES = ("pubmed/mini26n0001.xml.gz", "pubmed/mini26n0002.xml.gz")
PMC_FILE = "pmc/oa_comm_xml.PMC000xxxxxx.mini.tar.gz"
GENERAL_FILE = "general/general.jsonl.gz"
VOCABULARY_FILE = "vocab/general-cased-vocab.txt"
SPLITS = benchmarks.SPLITS

FILES: tuple[str, ...] = (
    *PUBMED_FILES,
    PMC_FILE,
    GENERAL_FILE,
    *(f"ner/{kind}/{split}.tsv" for kind in ("chem", "disease") for split in SPLITS),
    *(f"ner/general/{split}.txt" for split in SPLITS),
    *(f"chemprot/{split}_{part}.tsv" for split in SPLITS for part in ("abstracts", "entities", "relations")),
    *(f"{name}/{split}.json" for name in ("squad", "squad2") for split in ("train", "dev")),
    *(f"bioasq/{split}.json" for split in ("train", "test")),
    *(f"mrpc/{split}.txt" for split in ("train", "test")),
    VOCABULARY_FILE,
)


def version() -> str:
    """What the files depend on: a digest of this package's sources."""
    digest = hashlib.sha256()
    for source in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(source.name.encode() + b"\0" + source.read_bytes())
    return digest.hexdigest()[:16]


def build(directory: Path) -> Path:
    """Write the miniature into `directory`, unless it is there already.

    The files are made in a temporary folder beside `directory`, which is then renamed; when another process was first,
    its result is used. `manifest.json` holds the version, and SHA-256 and size of each file.

    Returns:
        `directory`.

    Raises:
        BiomegError: `directory` holds something that is not a miniature.
    """
    directory = Path(directory)
    wanted = version()
    if _complete(directory, wanted):
        return directory
    if directory.exists() and not _replaceable(directory):
        raise BiomegError(f"{directory}: expected a new or empty folder for the miniature, found other files in it")
    directory.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{directory.name}.", suffix=".part", dir=directory.parent))
    try:
        _write(temporary)
        made = {name: temporary / name for name in FILES}
        files = {name: {"sha256": sha256(path), "bytes": path.stat().st_size} for name, path in made.items()}
        write_json(temporary / "manifest.json", {"version": wanted, "files": files})
        as_usual(temporary)
        _put(temporary, directory, wanted)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return directory


def _put(temporary: Path, directory: Path, wanted: str) -> None:
    """Rename; a complete miniature that is there by now stays, an outdated one goes."""
    while not _complete(directory, wanted):
        try:
            os.rename(temporary, directory)  # replaces an empty folder, and fails for any other
            return
        except OSError:
            if not directory.exists():
                raise
        aside = Path(tempfile.mkdtemp(prefix=f".{directory.name}.", suffix=".old", dir=directory.parent))
        with contextlib.suppress(FileNotFoundError):  # another process was as quick
            os.rename(directory, aside)
        shutil.rmtree(aside, ignore_errors=True)


def _complete(directory: Path, wanted: str) -> bool:
    try:
        manifest = json.loads((directory / "manifest.json").read_text(encoding="utf-8"))
        return manifest["version"] == wanted and all(
            sha256(directory / name) == manifest["files"][name]["sha256"] for name in FILES
        )
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _replaceable(directory: Path) -> bool:
    """Whether a folder is empty or an older miniature, so that nobody's own files are lost."""
    return directory.is_dir() and ((directory / "manifest.json").is_file() or not any(directory.iterdir()))


def _write(root: Path) -> None:
    for name in FILES:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
    world, general = World(), GeneralWorld()
    records = corpora.pubmed_records(world)
    half = len(records) // 2
    for name, part in zip(PUBMED_FILES, (records[:half], records[half:]), strict=True):
        corpora.write_pubmed(root / name, part)
    corpora.write_pmc(root / PMC_FILE, world)
    documents = corpora.general_documents(general)
    corpora.write_general(root / GENERAL_FILE, documents)
    pieces = corpora.wordpiece_vocabulary([document["text"] for document in documents])
    (root / VOCABULARY_FILE).write_text("".join(f"{piece}\n" for piece in pieces), encoding="utf-8", newline="")
    benchmarks.write_biomedical_ner(root / "ner/chem", root / "ner/disease", world)
    benchmarks.write_general_ner(root / "ner/general", general)
    benchmarks.write_chemprot(root / "chemprot", world)
    questions.write_squad(root / "squad", general, unanswerable=False)
    questions.write_squad(root / "squad2", general, unanswerable=True)
    questions.BioasqWriter(world, records).write(root / "bioasq")
    questions.write_mrpc(root / "mrpc", general)
