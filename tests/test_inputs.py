"""Locators: what a params file calls data becomes files, or one line that says what is missing."""

import pytest
import yaml

from biomeg_lib import sources
from biomeg_lib.corpus import miniature
from biomeg_lib.errors import BiomegError
from biomeg_lib.inputs import benchmark_files, corpus_files, count_files, file_of, files_of, list_corpus
from biomeg_lib.study import load

PARAMS = {
    "profile": "own",
    "title": "Own",
    "description": "For tests.",
    "seeds": [1],
    "corpora": {
        "own": {"format": "text", "files": ["data/*.txt", "data/more/z.text"]},
        "source": {"format": "jsonl", "files": ["pmc-sample"]},
        "mixed": {"format": "text", "files": ["data/a.txt", "pmc-sample"]},
        "many": {"format": "text", "files": ["data/b.txt", "pubmed-baseline/2026/0007-0030", "bc5cdr-chem/test"]},
        "none": {"format": "text", "files": ["data/none.txt", "miniature:pubmed/*.xml.gz"]},
    },
    "benchmarks": {
        "chem": {"train": "miniature:ner/chem/train.tsv", "devel": "data/a.txt", "test": "bc5cdr-chem/test"}
    },
}


@pytest.fixture
def study(tmp_path, monkeypatch):
    """A project with a few files of its own and none of the world's."""
    monkeypatch.setenv("BIOMEG_OFFLINE", "1")
    monkeypatch.setenv("BIOMEG_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(sources, "_local_folders", lambda: [])
    for folder in ("params", "notebooks", "data/more"):
        (tmp_path / folder).mkdir(parents=True)
    for name in ("b.txt", "a.txt", "[1] x.txt", ".hidden.txt", "more/z.text"):
        (tmp_path / "data" / name).write_text("Some text.\n")
    (tmp_path / "params" / "own.yaml").write_text(yaml.safe_dump(PARAMS, sort_keys=False))
    return load(tmp_path / "params" / "own.yaml")


@pytest.fixture
def located(monkeypatch, tmp_path):
    """Sources by name: `locate_all` knows pmc-sample and bc5cdr-chem/test; what it is asked for is listed."""
    asked = []

    def locate_all(name, quiet=False):
        asked.append(name)
        return [tmp_path / f"{name.replace('/', '-')}-{i}" for i in range(2 if name == "pmc-sample" else 1)]

    monkeypatch.setattr(sources, "locate_all", locate_all)
    monkeypatch.setattr(sources, "describe", lambda name: {"format": "jats", "note": f"{name} stands in"})
    return asked


def names(paths):
    return [path.name for path in paths]


def refused(call, *arguments):
    with pytest.raises(BiomegError) as caught:
        call(*arguments)
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


def test_paths_of_ones_own_are_relative_to_the_project(study, located, monkeypatch):
    monkeypatch.chdir("/")
    data = study.root / "data"
    assert files_of(study, "data/a.txt") == [data / "a.txt"]
    assert files_of(study, str(data / "a.txt")) == [data / "a.txt"]
    assert names(files_of(study, "data/*.txt")) == ["[1] x.txt", "a.txt", "b.txt"]
    assert names(files_of(study, "data/?.txt")) == ["a.txt", "b.txt"]
    assert names(files_of(study, "data/[1] x.txt")) == ["[1] x.txt"]
    assert names(files_of(study, "da*/more/*")) == ["z.text"]
    monkeypatch.setenv("HOME", str(study.root))
    assert files_of(study, "~/data/b.txt") == [data / "b.txt"]
    assert located == []


def test_a_folder_is_no_file_and_does_not_hide_a_source(study, located):
    (study.root / "pmc-sample").mkdir()
    assert names(files_of(study, "pmc-sample")) == ["pmc-sample-0", "pmc-sample-1"]
    assert located == ["pmc-sample"]


@pytest.mark.parametrize("locator", ["", "/", ".", "..", "data", "data/none*.txt", "~nobody-of-that-name/x", "a\0b"])
def test_nothing_there_is_one_line(study, locator):
    assert "unknown data source" in refused(files_of, study, locator)


def test_a_source_that_cannot_be_had_is_one_line(study):
    assert "BIOMEG_OFFLINE" in refused(files_of, study, "bc5cdr-chem/test")
    assert "did you mean bc5cdr-chem/test" in refused(files_of, study, "bc5cdr-chem/tets")
    assert "BIOMEG_OFFLINE" in refused(files_of, study, "https://example.org/file.txt")


def test_files_of_the_miniature(study, located):
    found = files_of(study, "miniature:pubmed/*.xml.gz")
    assert [f"pubmed/{path.name}" for path in found] == sorted(miniature.PUBMED_FILES)
    assert all(path.is_relative_to(study.miniature) and path.is_file() for path in found)
    assert file_of(study, "miniature:ner/chem/train.tsv") == study.miniature / "ner/chem/train.tsv"
    assert located == []
    for pattern in ("", "none.txt", "ner", "/ner/chem/train.tsv"):
        assert f"params/own.yaml: the miniature has no file {pattern!r}" in refused(
            files_of, study, f"miniature:{pattern}"
        )


def test_one_file_is_not_several(study):
    assert "expected one file for 'data/*.txt', found 3" in refused(file_of, study, "data/*.txt")


def test_files_of_a_corpus_with_format_and_notes(study, located):
    files, kind, notes = corpus_files(study, "own")
    assert (names(files), kind, notes) == (["[1] x.txt", "a.txt", "b.txt", "z.text"], "text", [])
    files, kind, notes = corpus_files(study, "source")
    assert (names(files), kind, notes) == (["pmc-sample-0", "pmc-sample-1"], "jats", ["pmc-sample stands in"])
    assert "corpora.mixed: expected one format, found jats, text" in refused(corpus_files, study, "mixed")


def test_the_files_of_a_corpus_are_listed_without_fetching_any(study, located, monkeypatch):
    listed = list_corpus(study, "own")
    assert [file.locate() for file in listed] == corpus_files(study, "own")[0]
    assert [file.name for file in listed] == names(corpus_files(study, "own")[0])
    assert located == []
    monkeypatch.setattr(sources, "locate", lambda name: name)
    listed = list_corpus(study, "many")
    assert (len(listed), count_files(study, "many"), located) == (26, 26, [])
    assert [file.name for file in listed[:3]] == ["b.txt", "pubmed26n0007.xml.gz", "pubmed26n0008.xml.gz"]
    assert [file.format for file in listed[::12]] == ["text", "pubmed", "pubmed"]
    assert [file.locate() for file in listed[1::12]] == [
        *("pubmed-baseline/2026/0007", "pubmed-baseline/2026/0019", "bc5cdr-chem/test")
    ]


def test_files_that_are_not_known_yet_count_as_one(study, located):
    assert [count_files(study, name) for name in ("own", "source", "none")] == [4, 1, 2]
    assert located == []
    assert not study.miniature.exists()
    assert [file.name for file in list_corpus(study, "source")] == names(corpus_files(study, "source")[0])
    assert {file.format for file in list_corpus(study, "source")} == {"jats"}
    assert "params/own.yaml: no file 'data/none.txt'" in refused(list_corpus, study, "none")


def test_files_of_a_benchmark(study, located):
    found = benchmark_files(study, study.benchmarks["chem"])
    assert list(found) == ["train", "devel", "test"]
    assert names([path for (path,) in found.values()]) == ["train.tsv", "a.txt", "bc5cdr-chem-test-0"]
