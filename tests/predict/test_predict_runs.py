"""A run in a notebook, and documents that are tagged together or in parts."""

import json
import shutil
from pathlib import Path

import pytest

from biomeg_lib.benchmarks.iob import read_iob
from biomeg_lib.errors import BiomegError, InputError
from biomeg_lib.predict import load_run, runs
from biomeg_lib.predict.texts import Document, sentences


@pytest.fixture(scope="module")
def texts(study):
    """Documents of 0 to 4 sentences."""
    rows = [" ".join(sentence.words) for sentence in read_iob(study.miniature / "ner" / "chem" / "test.tsv")]
    return ["\n".join(rows[start : start + start % 5]) for start in range(len(rows))]


def test_three_lines_in_a_notebook(run_of):
    recogniser = load_run(run_of("entities"))
    text = "Kestixamycin\u200b and Kestixamycin ."
    assert all(text[entity.start : entity.end] == entity.text for entity in recogniser.entities(text))


def test_documents_in_parts_are_documents_whole(run_of, texts, monkeypatch):
    recogniser = load_run(run_of("entities"))
    whole = [recogniser.entities(text) for text in texts]
    assert sum(map(len, whole)) > 50
    documents = [Document(str(number), text) for number, text in enumerate(texts)]
    for limits in ({}, {"SENTENCES": 1}, {"SENTENCES": 3}, {"SENTENCES": 7, "CHARACTERS": 300}, {"CHARACTERS": 1}):
        with monkeypatch.context() as patch:
            for name, value in limits.items():
                patch.setattr(runs, name, value)
            told = []
            assert list(recogniser.annotate(iter(documents), told.append)) == list(zip(documents, whole, strict=True))
            assert sum(told) == sum(len(sentences(text)) for text in texts)
            assert max(told) <= limits.get("SENTENCES", runs.SENTENCES)


def test_documents_are_not_hoarded(run_of, monkeypatch):
    monkeypatch.setattr(runs, "SENTENCES", 10)
    monkeypatch.setattr(runs, "CHARACTERS", 100)
    read = []

    def documents(text):
        for number in range(200):
            read.append(number)
            yield Document(str(number), text)

    recogniser = load_run(run_of("entities"))
    for text in ("Aspirin helps .", "  \n" * 5):
        read.clear()
        for number, (document, _) in enumerate(recogniser.annotate(documents(text))):
            assert document.id == str(number)
            assert len(read) - number <= 10
        assert len(read) == 200


def test_what_is_no_run(study, tmp_path):
    with pytest.raises(BiomegError, match="expected the folder of a fine-tuning run"):
        load_run(tmp_path)
    (tmp_path / "params.json").write_text("{}")
    with pytest.raises(BiomegError, match="found a pre-training run"):
        load_run(tmp_path)
    (tmp_path / "params.json").write_text('{"cell": {}}')
    with pytest.raises(BiomegError, match="expected a complete run with its weights"):
        load_run(tmp_path)
    for name in ("metrics.json", "model.safetensors"):
        (tmp_path / name).write_text("{}")
    for params in ("5", "[]", '"cell"', '{"cell": {}}', '{"cell": {}, "benchmark": {}}', '{"cell": 1, "benchmark": 1}'):
        (tmp_path / "params.json").write_text(params)
        with pytest.raises(InputError, match=r"expected (the params|params.json and metrics.json) of a run of a study"):
            load_run(tmp_path)


def copied(run: Path, to: Path) -> Path:
    """The run as somebody might hand it on, without checksums."""
    folder = to / "runs" / "finetune" / "copied"
    shutil.copytree(run, folder, ignore=shutil.ignore_patterns("sums.txt"))
    (to / "vocabularies").symlink_to(run.parents[2] / "vocabularies")
    return folder


@pytest.mark.parametrize(
    ("file", "changes", "expected"),
    [
        (
            "metrics.json",
            {"point": {"num_fc_layers": 10**9, "fc_hidden": 8}},
            "a head of as many layers as metrics.json",
        ),
        ("metrics.json", {"point": {"num_fc_layers": [], "fc_hidden": 8}}, "a head of as many layers as metrics.json"),
        ("metrics.json", {"point": 5}, "params.json and metrics.json of a run of a study, found others"),
        ("metrics.json", {"labels": ["O"] * 100_000}, "the weights that model.json and metrics.json describe"),
        ("metrics.json", {"labels": 5}, "params.json and metrics.json of a run of a study, found others"),
        ("model.json", {"layers": 10**9}, "at most 1000 layers"),
        ("model.json", {"max_length": 10**12}, "of shape"),
        ("params.json", {"encoder": {"pretraining": {"vocabulary": "/dev/zero"}}}, "the name of a vocabulary"),
        ("params.json", {"encoder": {"pretraining": {"vocabulary": 5}}}, "the name of a vocabulary"),
    ],
)
def test_what_files_only_claim_is_not_built(run_of, tmp_path, file, changes, expected):
    folder = copied(run_of("entities"), tmp_path)
    load_run(folder)
    (folder / file).write_text(json.dumps(json.loads((folder / file).read_text()) | changes))
    with pytest.raises(InputError, match=expected) as caught:
        load_run(folder)
    assert "\n" not in str(caught.value)
