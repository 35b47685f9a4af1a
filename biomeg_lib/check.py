"""`biomeg check`: what can be known to be wrong with a study before anything is downloaded, read at length or trained.

The params file itself is checked when it is loaded. Here: that every file and source it names is there or known, that
the user's own benchmarks can be read to their last line, and that what was made before was made with the same params.
"""

from collections.abc import Iterator
from pathlib import Path

from biomeg_lib import catalogue
from biomeg_lib.errors import BiomegError
from biomeg_lib.inputs import MINIATURE, own_files
from biomeg_lib.params import Location, ParamsFile
from biomeg_lib.prepare import check_made
from biomeg_lib.report.model_tables import unknown_names
from biomeg_lib.schema import WordPieceFile
from biomeg_lib.study import Study


def check(study: Study, params: str | Path) -> None:
    """Raise for the first thing that is wrong.

    Args:
        params: the file that the study was loaded from, as the user knows it.

    Raises:
        BiomegError: a name or path leads nowhere, `stands_for` or `not_run` names nothing of the paper, a folder of
            outputs was made with other params.
        InputError: a benchmark of the user's own cannot be read.
    """
    for location, mistake in unknown_names(study):
        raise ParamsFile(params).error(location, mistake)
    own = set()
    for location, locator in _locators(study):
        if own_files(study, locator):
            own.add(location[:2])
        elif not locator.startswith(MINIATURE):
            try:
                catalogue.find(locator)
            except BiomegError as error:
                expected = f"expected a file or a source, found no file {locator!r} in {study.root}; {error}"
                raise ParamsFile(params).error(location, expected) from None
    check_made(study)
    for section, name in sorted(own):
        if section == "benchmarks" and _all_own(study, name):
            from biomeg_lib.tasks.jobs import load_benchmark  # here, since it takes seconds to import

            load_benchmark(study, name)


def _locators(study: Study) -> Iterator[tuple[Location, str]]:
    """Every place where the params file names files: (where, the name)."""
    for key, corpus in study.corpora.items():
        for i, locator in enumerate(corpus.files):
            yield ("corpora", key, "files", i), locator
    for key, vocabulary in study.vocabularies.items():
        if isinstance(vocabulary, WordPieceFile):
            yield ("vocabularies", key, "file"), vocabulary.file
    for key, benchmark in study.benchmarks.items():
        for split, locator in benchmark.splits.items():
            yield ("benchmarks", key, split), locator


def _all_own(study: Study, benchmark: str) -> bool:
    """Whether nothing would have to be fetched or generated to read it."""
    return all(own_files(study, locator) for locator in study.benchmarks[benchmark].splits.values())
