"""What building a corpus and its shards costs, as it grows: the same articles again and again, under other ids.

`settings`: `articles` of the base set, `copies` of it.
"""

import io
import re
import tarfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from biomeg_lib.bench import data
from biomeg_lib.bench.memory import FamilyPeak
from biomeg_lib.bench.side import Side
from biomeg_lib.corpus.documents import build_corpus
from biomeg_lib.corpus.shards import build_shards
from biomeg_lib.vocab import Vocabulary

_ID = re.compile(rb'(<article-id pub-id-type="(?:pmc|pmcid|pmid)">)(PMC)?(\d+)')


def make(which: str, settings: Mapping[str, Any]) -> Side:
    """Ours alone."""
    return Building(settings)


def write_copy(package: Path, articles: list[Path], number: int) -> None:
    """A package of articles whose ids have `number` before them."""
    with tarfile.open(package, "w:gz", compresslevel=1) as archive:
        for path in articles:
            text = _ID.sub(rb"\g<1>\g<2>%d\g<3>" % (number + 1), path.read_bytes())
            member = tarfile.TarInfo(f"copy{number}/{path.name}")
            member.size = len(text)
            archive.addfile(member, io.BytesIO(text))


class Building(Side):
    """`check` builds once, and its figures are what it took."""

    def __init__(self, settings: Mapping[str, Any]):
        self.generated = data.is_generated(settings)
        self.processes = settings["cores"]  # at every size, though a small corpus would get one
        self.folder = Path(settings["folder"]) / "building"
        self.folder.mkdir(exist_ok=True)
        articles = [path for path in data.articles(settings, settings["articles"]) if _ID.search(path.read_bytes())]
        self.packages = [self.folder / f"copy-{number:02}.tar.gz" for number in range(settings["copies"])]
        for number, package in enumerate(self.packages):
            if not package.is_file():
                write_copy(package, articles, number)
        self.vocabulary = Vocabulary.load(data.vocabulary_file(settings), lowercase=False)

    def check(self) -> dict[str, float]:
        """Seconds; words; MB that the memory of this process and of those it starts grew by at most."""
        begun = time.perf_counter()
        with FamilyPeak() as peak:
            counts = build_corpus(self.packages, "jats", self.folder / "corpus", self.processes)
            build_shards(self.folder / "corpus", self.vocabulary, self.folder / "shards", 0.1, self.processes)
        return {"seconds": time.perf_counter() - begun, "MB": peak.grown, "words": counts["words"]}

    def work(self, number: int) -> float:
        """Words; a curve is of `check`'s figures, see `curves`."""
        return self.check()["words"]
