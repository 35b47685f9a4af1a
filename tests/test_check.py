"""`biomeg check` beyond the params file itself: what it names is there, and own benchmarks can be read."""

import pytest
import yaml

from biomeg_lib import cli, sources
from biomeg_lib.check import check
from biomeg_lib.errors import InputError
from biomeg_lib.study import load

HEAD = """profile: own
title: Own
description: For tests.
seeds: [1]
"""
GOOD = "Heron\tB-SHIP\nsails\tO\n\n" * 30


@pytest.fixture
def checked(tmp_path, monkeypatch):
    """What `check` says about a params file with these sections: None, or its one line."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sources, "locate_all", lambda *_: pytest.fail("nothing is to be fetched"))
    for folder in ("params", "notebooks", "data"):
        (tmp_path / folder).mkdir()
    for name in ("a.txt", "b.txt"):
        (tmp_path / "data" / name).write_text("Some text.\n")
    (tmp_path / "data" / "train.tsv").write_text(GOOD)

    def say(sections):
        path = tmp_path / "params" / "own.yaml"
        path.write_text(HEAD + yaml.safe_dump(sections, sort_keys=False))
        try:
            return check(load("params/own.yaml"), "params/own.yaml")
        except InputError as error:
            return str(error)

    return say


def test_own_files_sources_addresses_and_the_miniature_are_fine_and_nothing_is_fetched(checked, tmp_path):
    corpora = {
        "a": {"format": "text", "files": ["data/*.txt", str(tmp_path / "data" / "b.txt")]},
        "b": {"format": "jats", "files": ["pmc-sample", "pmc-article/PMC10358571.1", "https://example.org/a.xml"]},
        "c": {"format": "pubmed", "files": ["miniature:pubmed/*.xml.gz"]},
    }
    vocabularies = {"v": {"kind": "wordpiece", "file": "bert-base-cased-vocab", "lowercase": False}}
    benchmarks = {"own": {"train": "data/train.tsv"}, "mixed": {"train": "data/train.tsv", "test": "bc5cdr-chem/test"}}
    assert checked({"corpora": corpora, "vocabularies": vocabularies, "benchmarks": benchmarks}) is None
    assert not (tmp_path / "outputs").exists()


@pytest.mark.parametrize(
    ("sections", "says"),
    [
        (
            {"corpora": {"a": {"format": "text", "files": ["data/a.txt", "data/c*.txt"]}}},
            "params/own.yaml:10: corpora.a.files[1]: expected a file or a source, found no file 'data/c*.txt' in ",
        ),
        (
            {"corpora": {"a": {"format": "jats", "files": ["pmc-sampel"]}}},
            "no file 'pmc-sampel' in {root}; unknown data source 'pmc-sampel': did you mean pmc-sample",
        ),
        (
            {"vocabularies": {"v": {"kind": "wordpiece", "file": "vocab.txt", "lowercase": False}}},
            "params/own.yaml:8: vocabularies.v.file: expected a file or a source",
        ),
        (
            {"benchmarks": {"b": {"train": "data/train.tsv", "test": "data"}}},
            "params/own.yaml:8: benchmarks.b.test: expected a file or a source",
        ),
    ],
)
def test_what_leads_nowhere_is_named_with_its_line(checked, tmp_path, sections, says):
    assert says.format(root=tmp_path) in checked(sections)


def test_own_benchmarks_are_read_to_the_last_line(checked, tmp_path):
    (tmp_path / "data" / "test.tsv").write_text(GOOD + "Heron\tSHIP\n")
    said = checked({"benchmarks": {"b": {"train": "data/train.tsv", "test": "data/test.tsv"}}})
    assert said.startswith(f"{tmp_path}/data/test.tsv:91: expected a tag O, B-TYPE or I-TYPE")


def test_the_command_says_it_in_one_line(checked, tmp_path, capsys):
    assert checked({"benchmarks": {"b": {"train": "none.tsv"}}})
    assert cli.main(["check", "params/own.yaml"]) == 1
    out, err = capsys.readouterr()
    assert (out, len(err.splitlines())) == ("", 1)
    assert err.startswith("biomeg: params/own.yaml:7: benchmarks.b.train: ")
