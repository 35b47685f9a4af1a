"""Fixtures `nano` and `fresh`: a study small enough to train in seconds, prepared once for all tests of a session."""

from pathlib import Path

import pytest
import yaml

from biomeg_lib import prepare
from biomeg_lib.study import Study, load

PARAMS = {
    "profile": "nano",
    "title": "Nano",
    "description": "For tests.",
    "seeds": [1, 2],
    "corpora": {"pubmed": {"format": "pubmed", "files": ["miniature:pubmed/*01.xml.gz"], "held_out": 0.1}},
    "vocabularies": {"bio": {"kind": "sentencepiece", "corpus": "pubmed", "size": 400}},
    "benchmarks": {
        "chem": {split: f"miniature:ner/chem/{split}.tsv" for split in ("train", "devel", "test")},
    },
    "models": {"nano": {"layers": 1, "hidden": 32, "heads": 2}},
    "pretraining": {
        "nano-bio": {
            "model": "nano",
            "vocabulary": "bio",
            "corpus": "pubmed",
            "tokens": 60 * 8 * 32,
            "batch": 8,
            "length": 32,
            "learning_rate": 0.003,
            "evaluations": 4,
            "held_out_windows": 16,
        }
    },
    "ner": {
        "small": {
            "benchmarks": ["chem"],
            "encoders": ["nano-bio"],
            "starts": ["pretrained", "random"],
            "labellings": ["piece"],
            "fraction": 0.2,
            "epochs": 3,
            "search": {"num_fc_layers": [1, 2], "fc_hidden": [16], "learning_rate": [0.003], "epochs": 1},
        }
    },
}


def make_study(root: Path) -> Study:
    """The nano study in an empty project, with corpus, vocabulary and shards made."""
    for folder in ("params", "notebooks"):
        (root / folder).mkdir(parents=True)
    (root / "params" / "nano.yaml").write_text(yaml.safe_dump(PARAMS, sort_keys=False))
    study = load(root / "params" / "nano.yaml")
    prepare.prepare_corpus(study, "pubmed")
    prepare.prepare_vocabulary(study, "bio")
    prepare.prepare_shards(study, "pubmed", "bio")
    return study


@pytest.fixture(scope="session")
def nano(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """A prepared study; its runs are shared by the tests of a session, so no test may damage them."""
    return make_study(tmp_path_factory.mktemp("nano"))


@pytest.fixture
def fresh(nano: Study, tmp_path: Path) -> Study:
    """The same study with no runs, in a folder of its own."""
    for name in ("params", "notebooks"):
        (tmp_path / name).mkdir()
    (tmp_path / "params" / "nano.yaml").write_text((nano.root / nano.params_file).read_text())
    (tmp_path / "outputs" / "nano").mkdir(parents=True)
    (tmp_path / "outputs" / "miniature").symlink_to(nano.miniature)
    for name in ("corpora", "vocabularies", "shards"):
        (tmp_path / "outputs" / "nano" / name).symlink_to(nano.outputs / name)
    return load(tmp_path / "params" / "nano.yaml")
